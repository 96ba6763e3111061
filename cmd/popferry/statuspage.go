package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/fetcher/daemon"
)

// statusPage writes the status for a terminal.
type statusPage struct {
	*stream
	st    *daemon.Status
	now   time.Time
	width int
	b     strings.Builder
}

func (p *statusPage) linef(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *statusPage) whole() string {
	head := p.st.Summary
	if p.st.OK {
		head = p.paint(green, "✓ ") + p.paint(bold, head)
	} else {
		head = p.paint(red, "✗ ") + p.paint(bold, wrapped(head, p.width-2, "  "))
	}
	p.linef("%s", head)
	for i := range p.st.Jobs {
		p.job(&p.st.Jobs[i])
	}
	p.accounts()
	p.attention()
	p.held()
	p.errors()
	p.foot()
	return p.b.String()
}

// job writes a job: how it is, when it runs, what it brought, its last passes.
//
//	✓ isp-to-gmail   isp → gmail   every 5m
//	  last 2 min ago in 17 s · next in 3 min · 24 h: 57 new, 19.0 MB
//	  ····▪··········▪▪·······················✗··········
func (p *statusPage) job(j *daemon.JobStatus) {
	mark := p.paint(green, "✓")
	if !j.OK {
		mark = p.paint(red, "✗")
	}
	p.linef("\n%s %s   %s", mark, p.paint(bold, j.Name),
		cut(listed(j.Accounts)+" → "+listed(j.Targets)+"   "+j.Schedule, max(20, p.width-5-cells(j.Name))))
	var parts []string
	switch n := len(j.Passes); {
	case j.Running:
		parts = append(parts, p.paint(bold, "running"))
	case n > 0:
		last := j.Passes[n-1]
		parts = append(parts, fmt.Sprintf("last %s in %s", since(last.Start, p.now), seconds(last.Took)))
	default:
		parts = append(parts, "no pass yet")
	}
	if !j.Next.IsZero() {
		parts = append(parts, "next "+in(j.Next, p.now))
	}
	parts = append(parts, day24(j.Day))
	p.linef("  %s", strings.Join(parts, " · "))
	if bar := p.bar(j.Passes); bar != "" {
		p.linef("  %s", bar)
	}
	if j.Problem != nil {
		p.problem(j.Problem)
	}
}

// day24 is what the last day brought.
func day24(c daemon.Counts) string {
	text := "24 h: nothing new"
	if c.New > 0 {
		text = "24 h: " + humanize.Comma(int64(c.New)) + " new, " + octets(c.Bytes)
	}
	for _, n := range []struct {
		n    int
		what string
	}{{c.Failed, "failed"}, {c.Held, "held"}, {c.Deleted, "deleted"}} {
		if n.n > 0 {
			text += ", " + humanize.Comma(int64(n.n)) + " " + n.what
		}
	}
	return text
}

// bar shows passes, the newest last: · nothing new, ▪ mail, ✗ something failed.
func (p *statusPage) bar(passes []daemon.Pass) string {
	var b strings.Builder
	for _, s := range passes {
		switch {
		case s.Exit == exitInt || s.Exit == exitTerm:
			b.WriteString(p.paint(dim, "-"))
		case s.Exit != exitOK && (s.Exit != exitSome || s.Failed > 0):
			b.WriteString(p.paint(red, "✗"))
		case s.New > 0:
			b.WriteString(p.paint(green, "▪"))
		default:
			b.WriteString(p.paint(dim, "·"))
		}
	}
	return b.String()
}

func (p *statusPage) problem(q *daemon.Problem) {
	p.linef("  %s  %s", p.paint(red, wrapped(q.Head, p.width-4-len(q.Code), "  ")), p.paint(dim, "["+q.Code+"]"))
	for _, l := range q.Lines {
		p.linef("    %s", wrapped(l, p.width-4, "    "))
	}
}

func (p *statusPage) accounts() {
	rows := [][]string{{"ACCOUNT", "ON SERVER", "SIZE", "TO BE DELETED", "LAST SUCCESS", "NEXT"}}
	noted := false
	for _, a := range p.st.Accounts {
		next := "–"
		switch {
		case a.Running:
			next = "running"
		case a.Paused:
			next = "paused"
		case !a.Next.IsZero():
			next = in(a.Next, p.now)
		}
		gone := "–"
		if a.ToDelete > 0 {
			gone = humanize.Comma(int64(a.ToDelete))
			if !a.NextDelete.IsZero() {
				gone += " from " + a.NextDelete.Local().Format("Jan 2")
			}
		}
		there, size := humanize.Comma(int64(a.Messages)), octets(a.Bytes)
		if a.Messages == 0 && a.LastSuccess.IsZero() {
			there, size = "–", "–" // it was never seen
		}
		rows = append(rows, []string{a.Name, there, size, gone, since(a.LastSuccess, p.now), next})
		noted = noted || a.Note != ""
	}
	p.linef("")
	p.b.WriteString(tableText(p.stream, rows, 24))
	if !noted {
		return
	}
	for _, a := range p.st.Accounts {
		if a.Note != "" {
			p.linef("  %s", wrapped(a.Name+": "+a.Note, p.width-2, "  "))
		}
	}
}

func (p *statusPage) title(text string) { p.linef("\n%s", p.paint(bold, text)) }

func (p *statusPage) attention() {
	if len(p.st.Attention) == 0 {
		return
	}
	p.title("ATTENTION")
	for i := range p.st.Attention {
		q := &p.st.Attention[i]
		p.linef("%s %s", p.paint(yellow, "!"), wrapped(q.Head+"  ["+q.Code+"]", p.width-2, "  "))
		for _, l := range q.Lines {
			p.linef("  %s", wrapped(l, p.width-2, "  "))
		}
	}
}

func (p *statusPage) held() {
	if p.st.HeldTotal == 0 {
		return
	}
	p.title(fmt.Sprintf("HELD (%s)", humanize.Comma(int64(p.st.HeldTotal))))
	const most = 5
	for _, h := range p.st.Held[:min(len(p.st.Held), most)] {
		p.linef("%s", cut(h.Account+"/"+h.UIDL+"  "+octets(h.Size)+"  "+h.Reason, p.width))
	}
	p.linef("All of them, and what to do:  popferry held list")
}

// errors lists the last problems, those that repeat each other once.
func (p *statusPage) errors() {
	if len(p.st.Errors) == 0 {
		return
	}
	p.title("LAST PROBLEMS")
	const most = 5
	shown := 0
	for i := 0; i < len(p.st.Errors) && shown < most; shown++ {
		e := p.st.Errors[i]
		same := 1
		for i++; i < len(p.st.Errors) && p.st.Errors[i].Account == e.Account && p.st.Errors[i].Head == e.Head; i++ {
			same++
		}
		text := fmt.Sprintf("%s  %s: %s", e.Time.Local().Format("Jan 02 15:04"), e.Account, e.Head)
		if same > 1 {
			text += fmt.Sprintf(" (%d times)", same)
		}
		p.linef("%s", cut(text, p.width))
	}
}

func (p *statusPage) foot() {
	text := "popferry serve does not run"
	if p.st.Serving {
		text = "popferry serve runs since " + p.st.Started.Local().Format(time.DateTime)
	}
	p.linef("\n%s", p.paint(dim, cut(text+" · "+p.st.Config, p.width)))
}

func listed(names []string) string { return strings.Join(names, ", ") }

// wrapped breaks text into lines of width cells, all but the first indented.
func wrapped(text string, width int, indent string) string {
	var b strings.Builder
	line := 0
	for i, word := range strings.Split(text, " ") {
		n := cells(word)
		switch {
		case i == 0:
		case line+1+n > width && line > 0:
			b.WriteString("\n" + indent)
			line = 0
		default:
			b.WriteString(" ")
			line++
		}
		b.WriteString(word)
		line += n
	}
	return b.String()
}
