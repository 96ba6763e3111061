package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

const forgetLong = `Forgets messages, so that the next run fetches them again if they are still on the
maildrop. It compares them with what lies in the target: a copy that is still there
is recognised by its Message-ID and not stored twice. UIDLs may be their beginnings.`

// choice is which messages of an account a command is about.
type choice struct {
	all    bool
	since  string
	dryRun bool
}

// check demands that exactly one way to choose is used.
func (c *choice) check(args []string) error {
	ways := 0
	for _, used := range []bool{c.all, c.since != "", len(args) > 1} {
		if used {
			ways++
		}
	}
	if ways != 1 {
		return &usageError{text: "which messages?", hint: "Name UIDLs, or use one of the flags. See: popferry state show " + args[0]}
	}
	return nil
}

func (a *app) stateForgetCommand() *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use: "forget ACCOUNT UIDL… | --since DATE | --all", Short: "fetch messages again", Long: forgetLong,
		ValidArgsFunction: a.names(accountNames), Args: accountAnd(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(args); err != nil {
				return err
			}
			return a.decide(cmd.Context(), decision{dryRun: c.dryRun}, func(m *memory) error { return m.forget(cmd.Context(), args, c) })
		},
	}
	cmd.Flags().BoolVar(&c.all, "all", false, "all messages of the account")
	cmd.Flags().StringVar(&c.since, "since", "", "those that were first seen on `DATE` (2026-01-31) or later")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

func (m *memory) forget(ctx context.Context, args []string, c choice) error {
	account, err := m.account(args[0])
	if err != nil {
		return err
	}
	known, err := m.store.Known(ctx, account.Source)
	if err != nil {
		return err
	}
	list := known.Messages
	switch {
	case len(args) > 1:
		if list, err = pick(list, args[1:], "message", args[0]); err != nil {
			return err
		}
	case c.since != "":
		since, err := time.ParseInLocation(time.DateOnly, c.since, time.Local)
		if err != nil {
			return &usageError{text: fmt.Sprintf("--since must be a date, not %q", endpoint.Printable(c.since, 40)), hint: "For example: --since 2026-01-31"}
		}
		list = slices.DeleteFunc(slices.Clone(list), func(msg *state.Message) bool { return msg.FirstSeen.Before(since) })
	}
	if len(list) == 0 {
		m.stdout.print("nothing to forget\n")
		return nil
	}
	text, err := m.forgotten(ctx, list, c.dryRun)
	if err != nil {
		return err
	}
	if !c.dryRun {
		if err := m.store.Put(ctx, state.Forgotten{Account: known.Account.ID, Messages: idsOf(list)}); err != nil {
			return err
		}
	}
	m.stdout.print(text)
	return nil
}

// forgotten says what it means to forget messages.
func (m *memory) forgotten(ctx context.Context, list []*state.Message, dryRun bool) (string, error) {
	absent := 0
	for _, msg := range list {
		if !msg.AbsentSince.IsZero() {
			absent++
		}
	}
	ds, err := m.store.Deliveries(ctx, idsOf(list)...)
	if err != nil {
		return "", err
	}
	delivered := map[string]map[int64]bool{}
	for _, d := range ds {
		if d.Status != state.DeliveryDelivered {
			continue
		}
		if delivered[d.Target] == nil {
			delivered[d.Target] = map[int64]bool{}
		}
		delivered[d.Target][d.Message] = true
	}
	var b strings.Builder
	verb := "will"
	if dryRun {
		verb = "would"
	}
	fmt.Fprintf(&b, "%s %s be fetched again\n", count(len(list)-absent, "message"), verb)
	for _, target := range sorted(delivered) {
		why := "what still lies there is recognised and not stored twice"
		if m.config != nil && m.config.Targets[target] != nil && m.config.Targets[target].Dedupe == fetcher.Off {
			why = "with dedupe: off they are stored there once more"
		}
		fmt.Fprintf(&b, "%s delivered to %s: %s\n", wereOrWas(len(delivered[target])), target, why)
	}
	if absent > 0 {
		fmt.Fprintf(&b, "%s %s be forgotten for good: not on the maildrop any more\n", count(absent, "message"), verb)
	}
	return b.String(), nil
}

func wereOrWas(n int) string {
	if n == 1 {
		return "1 was"
	}
	return humanize.Comma(int64(n)) + " were"
}

const markLong = `Remembers messages as if they had been seen: they are never fetched, and never
deleted from the maildrop. --all logs in and marks what lies there now; it is what
first_run: new does for an account of which nothing is known. UIDLs of messages that
are known already may be their beginnings.`

func (a *app) stateMarkSeenCommand() *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use: "mark-seen ACCOUNT UIDL… | --all", Short: "never fetch messages", Long: markLong,
		ValidArgsFunction: a.names(accountNames), Args: accountAnd(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(args); err != nil {
				return err
			}
			return a.decide(cmd.Context(), decision{dryRun: c.dryRun, create: true}, func(m *memory) error {
				err := m.markSeen(cmd.Context(), args, c)
				return a.ofAccount(m, args[0], err)
			})
		},
	}
	cmd.Flags().BoolVar(&c.all, "all", false, "all messages that lie on the maildrop now")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

// ofAccount reports an error of the account's server as such.
func (a *app) ofAccount(m *memory, name string, err error) error {
	if me := (*maildrop.Error)(nil); !errors.As(err, &me) || m.config == nil {
		return err
	}
	p := explain(err, where{account: m.config.Accounts[name]})
	a.report(p)
	return exit{code: p.exit}
}

// marks are the messages that mark-seen is about.
type marks struct {
	source string
	note   string // why they are marked, for people
	known  *state.Known
	old    []*state.Message // known, to be marked
	fresh  []*state.Message // rows to make
	listed int              // messages on the maildrop; -1 if it was not asked
	before int              // remembered already
}

func (m *memory) markSeen(ctx context.Context, args []string, c choice) (err error) {
	k := marks{note: "mark-seen"}
	if k.source = m.source(args[0]); k.source == "" {
		s, err := m.account(args[0])
		if err != nil {
			_, err = m.configured(args[0])
			return err
		}
		k.source = s.Source
	}
	if k.known, err = m.known(ctx, k.source); err != nil {
		return err
	}
	if c.all {
		err = m.markAll(ctx, args[0], &k)
	} else {
		err = k.mark(args[1:])
	}
	if err != nil {
		return err
	}
	will := "will never be fetched"
	if c.dryRun {
		will = "would never be fetched"
	} else if err := m.store.Put(ctx, k.changes(args[0], time.Now())...); err != nil {
		return err
	}
	m.stdout.printf("%s of %s %s\n", count(len(k.old)+len(k.fresh), "message"), args[0], will)
	if k.before > 0 {
		m.stdout.printf("%s remembered already\n", wereOrWas(k.before))
	}
	return nil
}

// mark chooses by UIDL.
func (k *marks) mark(uidls []string) error {
	for _, u := range uidls {
		found, err := match(k.known.Messages, u)
		switch {
		case errors.Is(err, errNoMatch) && (strings.HasSuffix(u, "…") || len(u) > 512 || u == ""):
			return usagef("%q is no whole UIDL, and none that is known begins so", endpoint.Printable(u, 60))
		case errors.Is(err, errNoMatch) && slices.ContainsFunc(k.fresh, func(m *state.Message) bool { return m.UIDL == u }):
		case errors.Is(err, errNoMatch):
			k.fresh = append(k.fresh, &state.Message{UIDL: u, Size: -1, Status: state.StatusMarked, Note: k.note})
		case err != nil:
			return err
		}
		for _, msg := range found {
			k.take(msg, true)
		}
	}
	k.listed = -1
	return nil
}

// take marks a known message, if it is still to be fetched. One that is held is
// given up only if it was named.
func (k *marks) take(m *state.Message, named bool) {
	switch m.Status {
	case state.StatusNew, state.StatusRouted:
	case state.StatusHeld, state.StatusQuarantined:
		if !named {
			k.before++
			return
		}
	default:
		k.before++
		return
	}
	if !slices.Contains(k.old, m) {
		k.old = append(k.old, m)
	}
}

// markAll asks the maildrop what lies there.
func (m *memory) markAll(ctx context.Context, name string, k *marks) error {
	entries, err := m.listed(ctx, name, "use first_run: new")
	k.compare(entries)
	return err
}

// listed asks the maildrop of an account what lies there. instead is what to do
// where the server has no UIDL.
func (m *memory) listed(ctx context.Context, name, instead string) ([]maildrop.Entry, error) {
	a, err := m.configured(name)
	if err != nil {
		return nil, err
	}
	conn, err := maildrop.Dial(ctx, &a.Maildrop, m.log)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	listing, err := conn.List(ctx)
	if err != nil {
		return nil, err
	}
	if listing.NoUIDL {
		return nil, &maildrop.Error{Kind: maildrop.Refused, Op: "UIDL", Err: errors.New("the server has none, so its messages have no names to remember; " + instead)}
	}
	for _, w := range listing.Warnings {
		m.log.Warn(w, "account", name)
	}
	return listing.Entries, conn.Quit(ctx)
}

// compare finds the row of each entry: of several messages with one UIDL the
// n-th has the n-th row.
func (k *marks) compare(entries []maildrop.Entry) {
	rows := make(map[string][]*state.Message)
	gen := make(map[string]int)
	for _, msg := range k.known.Messages {
		rows[msg.UIDL] = append(rows[msg.UIDL], msg)
		gen[msg.UIDL] = msg.Gen + 1
	}
	k.listed = len(entries)
	for _, e := range entries {
		if left := rows[e.UIDL]; len(left) > 0 {
			k.take(left[0], false)
			rows[e.UIDL] = left[1:]
			continue
		}
		k.fresh = append(k.fresh, &state.Message{UIDL: e.UIDL, Gen: gen[e.UIDL], Size: e.Size, Status: state.StatusMarked, Note: k.note})
		gen[e.UIDL]++
	}
}

func (k *marks) changes(name string, now time.Time) []state.Change {
	account := k.known.Account
	account.Source, account.Name = k.source, name
	n := k.listed
	if n < 0 {
		n = account.ListCount
	}
	ch := []state.Change{state.Listed{Account: &account, New: k.fresh, Hash: account.ListHash, Count: n, At: now}}
	if len(k.old) > 0 {
		ch = append(ch, state.Marked{Messages: idsOf(k.old), Note: k.note})
	}
	return ch
}
