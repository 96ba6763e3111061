package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher/state"
)

func (a *app) stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "state", Short: "what is remembered of the mail", Args: noArgs,
		Long: "What is remembered of the mail. Reading it works at any time, also beside a run;\nchanging it does not.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.stateListCommand(), a.stateShowCommand(), a.stateCheckCommand(), a.stateExportCommand(),
		a.stateImportCommand(), a.stateForgetCommand(), a.stateMarkSeenCommand())
	return cmd
}

func (a *app) stateListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "how many messages of each account are known", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.remember(cmd.Context(), func(m *memory) error {
				if asJSON {
					m.listJSON()
				} else {
					m.list(time.Now())
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// list prints a line for each account.
func (m *memory) list(now time.Time) {
	held := slices.ContainsFunc(m.accounts, func(s state.AccountSummary) bool { return s.Held > 0 })
	rows := [][]string{{"ACCOUNT", "KNOWN", "ON SERVER", "WAITING TO BE DELETED", "FIRST SEEN", "LAST SUCCESS"}}
	if held {
		rows[0] = append(rows[0], "HELD")
	}
	for _, s := range m.accounts {
		row := []string{
			s.Name, humanize.Comma(int64(s.Known)), humanize.Comma(int64(s.OnServer)), m.waiting(s), day(s.FirstSeen), ago(s.LastSuccess, now),
		}
		if held {
			row = append(row, humanize.Comma(int64(s.Held)))
		}
		rows = append(rows, row)
	}
	table(m.stdout, rows, 40)
}

// waiting says how many messages will be deleted when their time comes. Without
// a configuration nobody knows whether it does.
func (m *memory) waiting(s state.AccountSummary) string {
	if m.config == nil {
		return "?"
	}
	a := m.config.Accounts[s.Name]
	switch {
	case a == nil || s.Waiting == 0 || a.Keep.Forever && a.Keep.UntilFull == 0:
		return "–"
	case a.Keep.Newest > 0 || a.Keep.UntilFull > 0:
		return humanize.Comma(int64(s.Waiting)) // when depends on what else comes
	}
	return fmt.Sprintf("%s (first on %s)", humanize.Comma(int64(s.Waiting)), s.OldestWaiting.Add(a.Keep.For).Local().Format("Jan 2"))
}

// jsonAccount is the line of one account.
type jsonAccount struct {
	Type        string `json:"type"`
	Account     string `json:"account"`
	Source      string `json:"source"`
	Known       int    `json:"known"`
	OnServer    int    `json:"on_server"`
	Safe        int    `json:"safe"`
	Undelivered int    `json:"undelivered"`
	Held        int    `json:"held"`
	FirstSeen   string `json:"first_seen"`
	LastPass    string `json:"last_pass"`
	LastSuccess string `json:"last_success"`
}

func (m *memory) listJSON() {
	for _, s := range m.accounts {
		m.stdout.json(jsonAccount{
			"account", s.Name, s.Source, s.Known, s.OnServer, s.Waiting, s.Undelivered, s.Held,
			stamp(s.FirstSeen), stamp(s.LastPass), stamp(s.LastSuccess),
		})
	}
}

func day(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.Local().Format(time.DateOnly)
}

// stamp is a time in JSON; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return humanize.RelTime(t, now, "ago", "from now")
}
