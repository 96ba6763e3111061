package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

// summary prints how a pass went: what came, where it went, what is left.
//
//	✓ isp-to-gmail   57 new (55 delivered, 2 already in gmail), 19.0 MB in 17s
//	                 INBOX 41 · Finance/Invoices 9 · Lists/golang-nuts 5
//	                 1,284 left on pop.isp.example; 31 are older than 30 days and were deleted
func (v *textView) summary(e fetcher.Event) {
	r := e.Report
	mark := v.stdout.paint(green, "✓")
	if e.Err != nil || r.Failed > 0 || r.Held > 0 {
		mark = v.stdout.paint(red, "✗")
	}
	job := jobOf(v.config, r.Job)
	name := r.Job
	if job != nil && len(job.Accounts) > 1 {
		name += " (" + r.Account + ")"
	}
	lines := []string{came(r, job)}
	switch {
	case e.Err != nil && r.New == 0:
		lines[0] = "nothing done, see below"
	case e.Err != nil:
		lines[0] += ", then it stopped"
	}
	if f := folders(r); f != "" {
		lines = append(lines, f)
	}
	if r.Marked > 0 {
		lines = append(lines, leftAlone(r.Marked, v.first, v.config.Accounts[r.Account]))
	}
	if l := left(r, v.config.Accounts[r.Account]); l != "" && (e.Err == nil || r.OnServer > 0) {
		lines = append(lines, l)
	}
	indent := strings.Repeat(" ", utf8.RuneCountInString(name)+5)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s   %s\n", mark, name, lines[0])
	for _, l := range lines[1:] {
		b.WriteString(indent + l + "\n")
	}
	v.stdout.print(b.String())
}

// leftAlone says how many messages first_run leaves alone. flag is what the
// command line says instead of the account.
func leftAlone(n int, flag string, a *fetcher.Account) string {
	first := flag
	switch {
	case first != "" || a == nil:
	case a.FirstRun.New:
		first = "new"
	case !a.FirstRun.Since.IsZero():
		first = "since:" + a.FirstRun.Since.Format(time.DateOnly)
	}
	return count(n, "old one") + " left alone (first_run: " + first + ")"
}

func jobOf(c *config.Config, name string) *config.Job {
	for _, j := range c.Jobs {
		if j.Name == name {
			return j
		}
	}
	return nil
}

// came says what was new and what became of it.
func came(r *fetcher.Report, job *config.Job) string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, humanize.Comma(int64(n))+" "+what)
		}
	}
	add(fresh(r), "delivered")
	in := "there"
	if job != nil && len(job.Targets) == 1 {
		in = "in " + job.Targets[0]
	}
	add(r.Duplicate, "already "+in)
	add(r.Dropped, "dropped by rule")
	add(r.Skipped, "left alone")
	add(r.Failed, "failed")
	add(r.Held, "held")
	add(r.Recovered, "found delivered by an interrupted pass")
	text := "nothing new"
	if r.New > 0 {
		text = humanize.Comma(int64(r.New)) + " new"
	}
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if r.New > 0 {
		text += ", " + octets(r.Bytes)
	}
	return text + " in " + seconds(r.Took)
}

// folders says where messages went, the fullest folder first.
func folders(r *fetcher.Report) string {
	type place struct {
		name string
		n    int
	}
	var all []place
	for target, in := range r.Folders {
		for folder, n := range in {
			name := endpoint.Printable(folder, 80)
			if len(r.Folders) > 1 {
				name = target + ": " + name
			}
			all = append(all, place{name, n})
		}
	}
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(b.n-a.n, strings.Compare(a.name, b.name)) })
	const most = 6
	var parts []string
	for _, p := range all[:min(len(all), most)] {
		parts = append(parts, p.name+" "+humanize.Comma(int64(p.n)))
	}
	if more := len(all) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %s more", count(more, "folder")))
	}
	return strings.Join(parts, " · ")
}

// left says what lies on the maildrop now.
func left(r *fetcher.Report, a *fetcher.Account) string {
	if a == nil {
		return ""
	}
	text := fmt.Sprintf("%s left on %s", humanize.Comma(int64(r.Left)), a.Maildrop.Host)
	switch n := humanize.Comma(int64(r.Deleted)); {
	case r.Deleted == 0:
	case a.Keep.For == 0, a.Keep.Newest > 0, a.Keep.UntilFull > 0:
		text += "; " + n + " deleted there"
	case r.Deleted == 1:
		text += "; 1 is older than " + days(a.Keep.For) + " and was deleted"
	default:
		text += "; " + n + " are older than " + days(a.Keep.For) + " and were deleted"
	}
	return text
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return count(int(d/(24*time.Hour)), "day")
	}
	return d.String()
}

// seconds is a duration as the summary has it: "0.4s", "17s", "52m10s".
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// sorted returns the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
