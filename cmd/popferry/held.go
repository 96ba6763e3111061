package main

import (
	"context"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher/daemon"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

const heldLong = `Messages that could not be delivered. They stay on the maildrop and are never
deleted. A message that was refused is tried again after pauses that grow, one
whose delivery was interrupted again and again waits for you.`

func (a *app) heldCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "held", Short: "messages that could not be delivered", Long: heldLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.heldListCommand(), a.heldShowCommand(),
		a.heldChange("retry", "let the next run try again", "As if nothing had failed yet: the next run tries these messages again.",
			"will be tried again by the next run", "would be tried again by the next run",
			func(list []int64, now time.Time) state.Change { return state.Retry{Messages: list, At: now} }),
		a.heldChange("drop", "give messages up",
			"Gives messages up: they are remembered, and never delivered. They stay on the maildrop,\nwhere popferry never deletes them.",
			"will not be delivered; popferry leaves what is on the maildrop there",
			"would be given up; popferry would leave what is on the maildrop there",
			func(list []int64, now time.Time) state.Change {
				return state.Marked{Messages: list, Note: "given up on " + now.Local().Format(time.DateOnly)}
			}))
	return cmd
}

// held returns those of messages that are held and still listed.
func held(messages []*state.Message) []*state.Message {
	var out []*state.Message
	for _, m := range messages {
		if (m.Status == state.StatusHeld || m.Status == state.StatusQuarantined) && m.AbsentSince.IsZero() {
			out = append(out, m)
		}
	}
	return out
}

// heldMessages returns the held messages of an account, or with "" of all, by
// account. names are the accounts, in order.
func (m *memory) heldMessages(ctx context.Context, account string) (names []string, byName map[string][]*state.Message, err error) {
	all := m.accounts
	if account != "" {
		one, err := m.account(account)
		if err != nil {
			return nil, nil, err
		}
		all = []state.AccountSummary{one}
	}
	byName = make(map[string][]*state.Message)
	for _, s := range all {
		known, err := m.store.Known(ctx, s.Source)
		if err != nil {
			return nil, nil, err
		}
		if h := held(known.Messages); len(h) > 0 {
			if byName[s.Name] == nil {
				names = append(names, s.Name)
			}
			byName[s.Name] = append(byName[s.Name], h...)
		}
	}
	return names, byName, nil
}

func (a *app) heldListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list [ACCOUNT]", Short: "which messages, and why", Args: maxArgs(1), ValidArgsFunction: a.names(accountNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.remember(cmd.Context(), func(m *memory) error {
				names, byName, err := m.heldMessages(cmd.Context(), first(args))
				if err != nil {
					return err
				}
				if !asJSON {
					m.heldTable(names, byName, time.Now())
					return nil
				}
				for _, n := range names {
					records, err := m.recordsOf(cmd.Context(), byName[n])
					if err != nil {
						return err
					}
					m.recordsJSON(n, records)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// heldTable prints a line for each held message.
func (m *memory) heldTable(names []string, byName map[string][]*state.Message, now time.Time) {
	if len(names) == 0 {
		m.stdout.print("no message is held\n")
		return
	}
	rows := [][]string{{"ACCOUNT", "UIDL", "STATUS", "SIZE", "FIRST SEEN", "NEXT TRY", "WHY"}}
	for _, n := range names {
		for _, msg := range byName[n] {
			rows = append(rows, []string{
				n, shown(msg.UIDL), msg.Status.String(), size(msg.Size), day(msg.FirstSeen), nextTry(msg, now), endpoint.Printable(msg.Note, 300),
			})
		}
	}
	table(m.stdout, rows, 70)
	m.stdout.print("Try again:  popferry held retry ACCOUNT UIDL…      Give up:  popferry held drop ACCOUNT UIDL…\n")
}

func nextTry(m *state.Message, now time.Time) string {
	switch {
	case m.Status == state.StatusHeld:
		return "when you say so"
	case !now.Before(m.NextTry):
		return "next run"
	}
	return humanize.RelTime(m.NextTry, now, "ago", "from now")
}

func (a *app) heldShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ACCOUNT UIDL", Short: "all that is known of one", ValidArgsFunction: a.names(accountNames),
		Long: "All that is known of a held message. UIDL may be its beginning.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return &usageError{text: "which message?", hint: "See: popferry held list"}
			}
			return accountAnd(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.remember(cmd.Context(), func(m *memory) error {
				_, byName, err := m.heldMessages(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				list, err := pick(byName[args[0]], args[1:], "held message", args[0])
				if err != nil {
					return err
				}
				records, err := m.recordsOf(cmd.Context(), list)
				if err != nil {
					return err
				}
				if asJSON {
					m.recordsJSON(args[0], records)
					return nil
				}
				for _, r := range records {
					m.one(r)
				}
				uidl := daemon.ShellWord(list[0].UIDL)
				m.stdout.printf("\nTry again:  popferry held retry %[1]s %[2]s\nGive up:    popferry held drop %[1]s %[2]s\n", args[0], uidl)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// heldChange is a command that decides about held messages.
func (a *app) heldChange(use, short, long, will, would string, change func([]int64, time.Time) state.Change) *cobra.Command {
	var all, dryRun bool
	cmd := &cobra.Command{
		Use: use + " ACCOUNT UIDL… | [ACCOUNT] --all", Short: short, Long: long + " UIDLs may be their\nbeginnings.",
		ValidArgsFunction: a.names(accountNames),
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 1:
				return usagef("name UIDLs or --all, not both")
			case !all && len(args) < 2:
				return &usageError{text: "which messages?", hint: "See: popferry held list      Or take --all."}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.decide(cmd.Context(), decision{dryRun: dryRun}, func(m *memory) error {
				names, byName, err := m.heldMessages(cmd.Context(), first(args))
				if err != nil {
					return err
				}
				var list []*state.Message
				for _, n := range names {
					list = append(list, byName[n]...)
				}
				if !all {
					if list, err = pick(list, args[1:], "held message", args[0]); err != nil {
						return err
					}
				}
				switch {
				case len(list) == 0:
					m.stdout.print("no message is held\n")
					return nil
				case dryRun:
					m.stdout.printf("%s %s\n", count(len(list), "message"), would)
					return nil
				}
				if err := m.store.Put(cmd.Context(), change(idsOf(list), time.Now())); err != nil {
					return err
				}
				m.stdout.printf("%s %s\n", count(len(list), "message"), will)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that are held, of the account or of all accounts")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change, and change nothing")
	return cmd
}
