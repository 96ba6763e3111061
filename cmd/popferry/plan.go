package main

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

// planRows is how many messages a dry run shows; --json shows all.
const planRows = 200

// planView prints what a dry run finds out.
type planView struct {
	*app
	config *config.Config
	first  string                // --first-run
	rows   map[string][][]string // by account
	more   map[string]int
	total  map[string]fetcher.Totals
	said   bool
}

func (v *planView) event(e fetcher.Event) {
	switch e.Kind {
	case fetcher.PassStart:
		if v.rows == nil {
			v.rows, v.more, v.total = map[string][][]string{}, map[string]int{}, map[string]fetcher.Totals{}
		}
	case fetcher.Listed:
		v.total[e.Account] = e.Total
	case fetcher.Planned, fetcher.Skipped:
		if len(v.rows[e.Account]) == planRows {
			v.more[e.Account]++
			return
		}
		v.rows[e.Account] = append(v.rows[e.Account], planRow(e, len(v.config.Targets) > 1))
	case fetcher.PassEnd:
		if e.Err == nil {
			v.plan(e.Job, e.Account)
			if n := e.Report.Marked; n > 0 {
				v.stdout.print(leftAlone(n, v.first, v.config.Accounts[e.Account]) + "\n")
			}
		}
	}
}

// plan prints the table of one account.
func (v *planView) plan(job, account string) {
	var b strings.Builder
	if !v.said {
		b.WriteString("Dry run: nothing is delivered, deleted or remembered.\n")
	}
	v.said = true
	if len(v.config.Accounts) > 1 {
		b.WriteString(v.stdout.paint(bold, job+" ("+account+")") + "\n")
	}
	v.stdout.print(b.String())
	rows := v.rows[account]
	total := v.total[account]
	if len(rows) == 0 {
		v.stdout.printf("nothing to do; %s on %s\n", count(total.Messages, "message"), v.config.Accounts[account].Maildrop.Host)
		return
	}
	table(v.stdout, append([][]string{{"UIDL", "DATE", "SIZE", "FROM", "SUBJECT", "→ FOLDER", "RULE"}}, rows...), 32)
	v.stdout.printf("%s shown of %s on the maildrop · --json for all\n", humanize.Comma(int64(len(rows))), humanize.Comma(int64(total.Messages)))
	if n := v.more[account]; n > 0 {
		v.stdout.printf("%s not shown\n", count(n, "more line"))
	}
}

func (v *planView) close() {}

// planRow is one message, or one copy of it.
func planRow(e fetcher.Event, targets bool) []string {
	date, from, subject := "–", "–", "–"
	if !e.Date().IsZero() {
		date = e.Date().Format("Jan _2")
	}
	if e.From() != "" {
		from = endpoint.Printable(e.From(), 80)
	}
	if e.Subject() != "" {
		subject = endpoint.Printable(e.Subject(), 120)
	}
	folder, rule := "→ "+endpoint.Printable(e.Folder, 80), e.Rule
	if e.Folder == "" {
		folder = "→ the target's own"
	}
	if targets && e.Target != "" {
		folder = "→ " + e.Target + ": " + strings.TrimPrefix(folder, "→ ")
	}
	switch {
	case e.Err != nil:
		folder, rule = "error", plain(e.Err)
	case e.Reason != "":
		folder = endpoint.Printable(e.Reason, 80)
	case rule == "":
		rule = "(default)"
	}
	return []string{shown(e.UIDL), date, kilo(e.Octets), from, subject, folder, rule}
}

// shown is a UIDL as tables have it: enough of it to recognise.
func shown(uidl string) string { return cut(endpoint.Printable(uidl, 100), 20) }

// kilo writes a size in as few characters as a table has.
func kilo(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d", n)
	case n < 1000*1000:
		return fmt.Sprintf("%d K", (n+500)/1000)
	}
	return fmt.Sprintf("%.1f M", float64(n)/1e6)
}
