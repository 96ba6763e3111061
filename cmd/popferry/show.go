package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// stateRows is how many messages state show prints; --json prints all.
const stateRows = 50

func (a *app) stateShowCommand() *cobra.Command {
	var asJSON, onlyHeld bool
	cmd := &cobra.Command{
		Use: "show ACCOUNT [UIDL]", Short: "what is known of an account's messages, or of one",
		Long:              "The newest messages of an account, or everything that is known of one. UIDL may be\nits beginning.",
		ValidArgsFunction: a.names(accountNames), Args: accountAnd(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.remember(cmd.Context(), func(m *memory) error {
				records, err := m.records(cmd.Context(), args, onlyHeld)
				switch {
				case err != nil:
					return err
				case asJSON:
					m.recordsJSON(args[0], records)
				case len(args) == 2:
					m.one(records[0])
				default:
					m.show(records)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	cmd.Flags().BoolVar(&onlyHeld, "held", false, "only messages that could not be delivered")
	return cmd
}

func accountNames(c *config.Config) []string { return sorted(c.Accounts) }

// accountAnd checks that there are an account and at most n more arguments; any
// number if n is negative.
func accountAnd(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{text: "which account?", hint: "See: popferry state list"}
		}
		if n < 0 {
			return nil
		}
		return maxArgs(1+n)(cmd, args)
	}
}

// record is a message and where it went.
type record struct {
	*state.Message
	deliveries []state.Delivery
}

// records returns the messages that args ask for, the newest first.
func (m *memory) records(ctx context.Context, args []string, onlyHeld bool) ([]record, error) {
	account, err := m.account(args[0])
	if err != nil {
		return nil, err
	}
	known, err := m.store.Known(ctx, account.Source)
	if err != nil {
		return nil, err
	}
	list := known.Messages
	if onlyHeld {
		list = held(list)
	}
	if len(args) == 2 {
		if list, err = pick(list, args[1:], "message", args[0]); err != nil {
			return nil, err
		}
	}
	return m.recordsOf(ctx, list)
}

// recordsOf returns all that is known of messages, the newest first.
func (m *memory) recordsOf(ctx context.Context, list []*state.Message) ([]record, error) {
	want := idsOf(list)
	messages, err := m.store.Messages(ctx, want...)
	if err != nil {
		return nil, err
	}
	deliveries, err := m.store.Deliveries(ctx, want...)
	byMessage := make(map[int64][]state.Delivery, len(messages))
	for _, d := range deliveries {
		byMessage[d.Message] = append(byMessage[d.Message], d)
	}
	var out []record
	for _, msg := range slices.Backward(messages) {
		out = append(out, record{msg, byMessage[msg.ID]})
	}
	return out, err
}

// show prints a line for each message.
func (m *memory) show(records []record) {
	rows := [][]string{{"UIDL", "STATUS", "SIZE", "FIRST SEEN", "WHERE, OR WHY NOT"}}
	for _, r := range records[:min(len(records), stateRows)] {
		rows = append(rows, []string{shown(r.UIDL), r.Status.String(), size(r.Size), day(r.FirstSeen), r.where()})
	}
	table(m.stdout, rows, 60)
	if n := len(records) - stateRows; n > 0 {
		m.stdout.printf("and %s · --json for all\n", count(n, "older message"))
	}
}

// size is what LIST said; it may never have been asked.
func size(n int64) string {
	if n < 0 {
		return "–"
	}
	return kilo(n)
}

// where says where the copies of a message are, or what is in their way.
func (r record) where() string {
	if r.Note != "" {
		return endpoint.Printable(r.Note, 300)
	}
	var parts []string
	for _, d := range r.deliveries {
		part := d.Target + ": " + endpoint.Printable(d.Box, 80)
		if d.Status != state.DeliveryDelivered {
			part = d.Target + ": " + d.Status.String() + " " + endpoint.Printable(d.Reply, 200)
		}
		parts = append(parts, strings.TrimSpace(part))
	}
	return strings.Join(parts, " · ")
}

// one prints all that is known of a message.
func (m *memory) one(r record) {
	line := func(name, value string) {
		if value != "" {
			m.stdout.printf("%-12s %s\n", name, endpoint.Printable(value, 600))
		}
	}
	line("uidl", r.UIDL)
	line("status", r.Status.String())
	line("note", r.Note)
	if r.Size >= 0 {
		line("size", humanize.Comma(r.Size)+" octets by LIST")
	}
	if r.Content != nil {
		line("received", humanize.Comma(r.Octets)+" octets")
		line("message-id", r.MessageID)
		line("hash", fmt.Sprintf("%x", r.Hash))
	}
	line("first seen", stamp(r.FirstSeen))
	line("next try", stamp(r.NextTry))
	line("absent since", stamp(r.AbsentSince))
	for _, d := range r.deliveries {
		line("delivery", fmt.Sprintf("%s %s", d.Target, d.Status))
		line("  folder", d.Box)
		line("  rule", d.Rule)
		if d.UID > 0 {
			line("  uid", fmt.Sprintf("%d of UIDVALIDITY %d", d.UID, d.UIDValidity))
		}
		line("  reply", d.Reply)
		line("  at", stamp(d.At))
	}
}

// jsonRecord is the line of one remembered message.
type jsonRecord struct {
	Type       string         `json:"type"`
	Account    string         `json:"account"`
	UIDL       string         `json:"uidl"`
	Status     string         `json:"status"`
	Note       string         `json:"note"`
	Bytes      int64          `json:"bytes"`
	MessageID  string         `json:"message_id"`
	Hash       string         `json:"hash"` // of the canonical form; "" until it was fetched
	FirstSeen  string         `json:"first_seen"`
	NextTry    string         `json:"next_try"`
	Deliveries []jsonDelivery `json:"deliveries"`
}

// jsonDelivery is one copy of a message.
type jsonDelivery struct {
	Target      string `json:"target"`
	Folder      string `json:"folder"`
	Status      string `json:"status"`
	Rule        string `json:"rule"`
	UIDValidity uint32 `json:"uidvalidity"`
	UID         uint32 `json:"uid"`
	Attempts    int    `json:"attempts"`
	Reply       string `json:"reply"`
	At          string `json:"at"`
}

func (m *memory) recordsJSON(account string, records []record) {
	for _, r := range records {
		line := jsonRecord{
			Type: "message", Account: account, UIDL: jsonUIDL(r.UIDL), Status: r.Status.String(), Note: r.Note, Bytes: r.Size,
			FirstSeen: stamp(r.FirstSeen), NextTry: stamp(r.NextTry), Deliveries: []jsonDelivery{},
		}
		if r.Content != nil {
			line.MessageID, line.Hash = r.MessageID, fmt.Sprintf("%x", r.Hash)
		}
		for _, d := range r.deliveries {
			line.Deliveries = append(line.Deliveries, jsonDelivery{
				d.Target, d.Box, d.Status.String(), d.Rule, d.UIDValidity, d.UID, d.Attempts, d.Reply, stamp(d.At),
			})
		}
		m.stdout.json(line)
	}
}
