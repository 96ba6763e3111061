package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

// kinds are the doubts in the order in which they are told.
var kinds = []fetcher.DoubtKind{fetcher.Missing, fetcher.Different, fetcher.Unreadable}

// verdict is how a command ends that has found p.
func verdict(p *fetcher.Proof) exit {
	if len(p.Doubts) == 0 {
		return exit{}
	}
	var parts []string
	for _, k := range kinds {
		if n := doubtful(p.Doubts, k, ""); n > 0 {
			parts = append(parts, are(n)+" "+k.String())
		}
	}
	return exit{code: exitSome, reason: strings.Join(parts, ", ")}
}

// doubtful counts the doubts of a kind, at a target if it is not "".
func doubtful(ds []fetcher.Doubt, k fetcher.DoubtKind, target string) (n int) {
	for _, d := range ds {
		if d.Kind == k && (target == "" || d.Target == target) {
			n++
		}
	}
	return n
}

// proven prints what was found out about an account.
//
//	✓ All 1,284 messages on isp are in gmail (1,282 by UID, 2 by content).
func (a *app) proven(p *fetcher.Proof, deep bool) {
	var b strings.Builder
	name := endpoint.Printable(p.Account, 60)
	for i := range p.Targets {
		b.WriteString(a.provenAt(p, &p.Targets[i], name, deep))
	}
	if len(p.Targets) == 0 {
		fmt.Fprintf(&b, "%s None of %s on %s should be in a target.\n", a.stdout.paint(green, "✓"), count(p.Messages, "message"), name)
	}
	a.stdout.print(b.String())
	a.doubts(p)
	if others := excused(p); others != "" {
		a.stdout.print("  Not looked for: " + others + ".\n")
	}
}

// provenAt is what p says of one target.
func (a *app) provenAt(p *fetcher.Proof, t *fetcher.TargetProof, name string, deep bool) string {
	bad := 0
	for _, k := range kinds {
		bad += doubtful(p.Doubts, k, t.Target)
	}
	if t.Relay {
		mark := a.stdout.paint(yellow, "–")
		if bad > 0 {
			mark = a.stdout.paint(red, "✗")
		}
		return fmt.Sprintf("%s %s cannot be looked into; as the state says, it took %s of %s on %s.\n",
			mark, t.Target, humanize.Comma(int64(t.Taken)), count(t.Wanted, "message"), name)
	}
	found := t.ByUID + t.ByMessageID + t.ByContent
	how := methods(t)
	if deep && how != "" {
		how += "; contents compared"
	}
	if how != "" {
		how = " (" + how + ")"
	}
	var text string
	switch {
	case found < t.Wanted:
		text = fmt.Sprintf("%s %s of %s on %s are in %s%s; these are not:\n",
			a.stdout.paint(red, "✗"), humanize.Comma(int64(found)), count(t.Wanted, "message"), name, t.Target, how)
	case t.Wanted == p.Messages:
		text = fmt.Sprintf("%s All %s on %s are in %s%s.\n", a.stdout.paint(green, "✓"), count(t.Wanted, "message"), name, t.Target, how)
	default:
		text = fmt.Sprintf("%s All %s on %s that should be in %s are there%s.\n", a.stdout.paint(green, "✓"), count(t.Wanted, "message"), name, t.Target, how)
	}
	if len(t.Elsewhere) > 0 {
		var folders []string
		for _, f := range slices.SortedFunc(maps.Keys(t.Elsewhere), func(x, y string) int {
			return cmp.Or(t.Elsewhere[y]-t.Elsewhere[x], strings.Compare(x, y))
		}) {
			folders = append(folders, fmt.Sprintf("%s %s", endpoint.Printable(f, 80), humanize.Comma(int64(t.Elsewhere[f]))))
		}
		text += "  In other folders than they were delivered to: " + strings.Join(folders, " · ") + "\n"
	}
	return text
}

// methods says how messages were found.
func methods(t *fetcher.TargetProof) string {
	var parts []string
	for _, by := range []struct {
		n   int
		how string
	}{{t.ByUID, "UID"}, {t.ByMessageID, "Message-ID"}, {t.ByContent, "content"}} {
		if by.n > 0 {
			parts = append(parts, humanize.Comma(int64(by.n))+" by "+by.how)
		}
	}
	return strings.Join(parts, ", ")
}

// excused says why messages need not be anywhere.
func excused(p *fetcher.Proof) string {
	var parts []string
	for _, why := range []struct {
		n    int
		text string
	}{
		{p.Waiting, "new since the last pass"},
		{p.Dropped, "dropped by a rule"},
		{p.Skipped, "left on the maildrop by a rule or max_size"},
		{p.Marked, "remembered as fetched before"},
	} {
		if why.n > 0 {
			parts = append(parts, humanize.Comma(int64(why.n))+" "+why.text)
		}
	}
	return strings.Join(parts, ", ")
}

// doubts prints the list of what is not as it should be.
func (a *app) doubts(p *fetcher.Proof) {
	if len(p.Doubts) == 0 {
		return
	}
	rows := [][]string{{" ", "UIDL", "DATE", "FROM", "SUBJECT", "→ FOLDER", "WHY"}}
	for _, d := range p.Doubts[:min(len(p.Doubts), planRows)] {
		rows = append(rows, doubtRow(&d, len(p.Targets) > 1))
	}
	table(a.stdout, rows, 32)
	if n := len(p.Doubts) - planRows; n > 0 {
		a.stdout.printf("%s not shown · --json for all\n", count(n, "more line"))
	}
	a.stdout.print("- missing   * different   ! unreadable\n")
}

func doubtRow(d *fetcher.Doubt, several bool) []string {
	row := []string{string(d.Kind), shown(d.UIDL), "–", "–", "–", "→ " + endpoint.Printable(cmp.Or(d.Folder, d.Target), 80), endpoint.Printable(d.Reason, 200)}
	if several && d.Folder != "" {
		row[5] = "→ " + d.Target + ": " + endpoint.Printable(d.Folder, 80)
	}
	if !d.Date.IsZero() {
		row[2] = d.Date.Format("Jan _2")
	}
	if d.From != "" {
		row[3] = endpoint.Printable(d.From, 80)
	}
	if d.Subject != "" {
		row[4] = endpoint.Printable(d.Subject, 120)
	}
	return row
}

// The lines of verify --json.
type (
	jsonDoubt struct {
		Type      string `json:"type"`
		Job       string `json:"job"`
		Account   string `json:"account"`
		UIDL      string `json:"uidl"`
		MessageID string `json:"message_id"`
		Bytes     int64  `json:"bytes"`
		Result    string `json:"result"`
		Target    string `json:"target"`
		Folder    string `json:"folder"`
		Date      string `json:"date,omitempty"`
		From      string `json:"from,omitempty"`
		Subject   string `json:"subject,omitempty"`
		Reason    string `json:"reason,omitempty"`
	}
	jsonProofAt struct {
		Target      string         `json:"target"`
		Wanted      int            `json:"wanted"`
		ByUID       int            `json:"by_uid"`
		ByMessageID int            `json:"by_message_id"`
		ByContent   int            `json:"by_content"`
		Elsewhere   map[string]int `json:"elsewhere,omitempty"`
		Relay       bool           `json:"relay,omitempty"`
		Taken       *int           `json:"taken,omitempty"`
		Missing     int            `json:"missing"`
		Different   int            `json:"different"`
		Unreadable  int            `json:"unreadable"`
	}
	jsonProof struct {
		Type     string        `json:"type"`
		Job      string        `json:"job"`
		Account  string        `json:"account"`
		Messages int           `json:"messages"`
		Targets  []jsonProofAt `json:"targets"`
		Dropped  int           `json:"dropped"`
		Skipped  int           `json:"skipped"`
		Marked   int           `json:"marked"`
		Waiting  int           `json:"waiting"`
		Seconds  float64       `json:"duration_s"`
	}
)

// jsonProof prints a line for each doubt and one for the account.
func (s *stream) jsonProof(p *fetcher.Proof) {
	for _, d := range p.Doubts {
		l := jsonDoubt{
			Type: "doubt", Job: p.Job, Account: p.Account, UIDL: jsonUIDL(d.UIDL), MessageID: d.MessageID, Bytes: d.Octets,
			Result: d.Kind.String(), Target: d.Target, Folder: d.Folder, From: d.From, Subject: d.Subject, Reason: d.Reason,
		}
		if !d.Date.IsZero() {
			l.Date = d.Date.Format(time.RFC3339)
		}
		s.json(l)
	}
	line := jsonProof{
		Type: "verified", Job: p.Job, Account: p.Account, Messages: p.Messages, Targets: []jsonProofAt{},
		Dropped: p.Dropped, Skipped: p.Skipped, Marked: p.Marked, Waiting: p.Waiting, Seconds: p.Took.Seconds(),
	}
	for _, t := range p.Targets {
		at := jsonProofAt{
			Target: t.Target, Wanted: t.Wanted, ByUID: t.ByUID, ByMessageID: t.ByMessageID, ByContent: t.ByContent, Elsewhere: t.Elsewhere, Relay: t.Relay,
			Missing:    doubtful(p.Doubts, fetcher.Missing, t.Target),
			Different:  doubtful(p.Doubts, fetcher.Different, t.Target),
			Unreadable: doubtful(p.Doubts, fetcher.Unreadable, t.Target),
		}
		if t.Relay {
			at.Taken = &t.Taken
		}
		line.Targets = append(line.Targets, at)
	}
	s.json(line)
}
