package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/dustin/go-humanize"
)

// bar draws progress in the last line of a terminal.
type bar struct {
	*progress
	s  *stream
	pb *pb.ProgressBar
}

const barTemplate pb.ProgressBarTemplate = `{{bar . " " "━" "╸" "─" " "}}`

// barWidest is as wide as a line is drawn: it is hard to read further ones.
const barWidest = 120

func newBar(s *stream, p *progress) *bar {
	return &bar{progress: p, s: s, pb: barTemplate.New(0).Set(pb.Static, true)}
}

// draw draws the bar as it is now, as wide as the terminal is now. The last
// column stays empty: some terminals begin a new line after it.
func (b *bar) draw(now time.Time) {
	f := b.figures(now)
	b.s.screen.draw(b.s.w, f.line(now).layout(min(b.s.width(), barWidest)-1, b.s.paint, b.rail))
}

// erase takes the bar away.
func (b *bar) erase() { b.s.screen.draw(b.s.w, "") }

// rail draws the bar itself, n cells wide.
func (b *bar) rail(part float64, n int) string {
	const whole = 10000
	text := b.pb.SetTotal(whole).SetCurrent(int64(part * whole)).SetWidth(n + 2).String()
	text = strings.TrimSpace(text)
	if part >= 1 {
		text = strings.ReplaceAll(text, "╸", "━")
	}
	done, rest := text, ""
	if i := strings.IndexRune(text, '─'); i >= 0 {
		done, rest = text[:i], text[i:]
	}
	return b.s.paint(green, done) + b.s.paint(dim, rest)
}

// line is the parts of a line of progress; those that are empty are left out.
type line struct {
	name                string
	bar                 bool
	part                float64 // of the bar, that is done
	count, octets, rate string
	left, short         string // short is left in fewer words
	there, held, failed string
}

// line puts figures into words. It is empty if there is nothing to say yet.
func (f figures) line(now time.Time) line {
	l := line{name: f.name, bar: true}
	add := func(n int, what string) string {
		if n == 0 {
			return ""
		}
		return what + " " + humanize.Comma(int64(n))
	}
	l.there, l.held, l.failed = add(f.duplicate, "already there"), add(f.held, "held"), add(f.failed, "failed")
	if !f.until.IsZero() {
		l.short = "waits until " + clock(f.until, now)
		l.left = l.short + ": " + cut(f.why, 60)
	}
	if f.compares {
		l.left, l.short = "comparing both sides …", "comparing …"
	}
	if f.of.messages == 0 {
		// Most passes find nothing new, and at once.
		if !f.listing.IsZero() && now.Sub(f.listing) >= time.Second {
			l.left, l.short = "listing …", "listing …"
		}
		l.bar = false
		if l.left == "" {
			l = line{}
		}
		return l
	}
	of := humanize.Comma(int64(f.of.messages))
	l.count = fmt.Sprintf("%*s/%s", len(of), humanize.Comma(int64(f.done.messages)), of)
	l.part = float64(f.done.messages) / float64(f.of.messages)
	if f.of.octets > 0 {
		l.octets = octetsOf(f.done.octets, f.of.octets)
	}
	// By octets, which take the time, unless LIST lied about them.
	if f.done.octets < f.of.octets && f.done.messages < f.of.messages {
		l.part = float64(f.done.octets) / float64(f.of.octets)
	}
	if l.left != "" || f.done.messages == f.of.messages {
		return l
	}
	// Padded, so that the bar does not twitch.
	l.left = "ETA …"
	if f.rate > 0 {
		l.rate = fmt.Sprintf("%9s", octets(f.rate)+"/s")
	}
	if f.known {
		l.left = "ETA " + eta(f.left)
	}
	l.left += strings.Repeat(" ", max(0, 9-cells(l.left)))
	l.short = l.left
	return l
}

// Of the parts of a line, how short they get before one goes.
const (
	lineIndent = 2 // as in a summary, where a mark is
	nameLeast  = 8
	barLeast   = 6
)

// parts are the parts in their order, with the bar left out.
func (l *line) parts() []string {
	return []string{l.count, l.octets, l.rate, l.left, l.there, l.held, l.failed}
}

// least is how many cells the line takes at least.
func (l *line) least() int {
	n := lineIndent - 2
	if l.name != "" {
		n += 2 + min(cells(l.name), nameLeast)
	}
	if l.bar {
		n += 2 + barLeast
	}
	for _, p := range l.parts() {
		if p != "" {
			n += 2 + cells(p)
		}
	}
	return n
}

// fit leaves parts out until the line fits into width cells: those that can be
// missed first. It ends with how many messages are done.
func (l *line) fit(width int) bool {
	if l.least()+max(0, cells(l.name)-nameLeast) > width {
		l.there = "" // of less interest than the whole name
	}
	for _, less := range []func(){
		func() { l.rate = "" },
		func() { l.octets = "" },
		func() { l.left = l.short },
		func() { l.bar = false },
		func() { l.count, l.left = strings.TrimSpace(l.count), strings.TrimSpace(l.left) },
		func() { l.name = "" },
		func() { l.held = "" },
		func() { l.failed = "" },
		func() { l.left = "" },
	} {
		if l.least() <= width {
			return true
		}
		less()
	}
	return l.least() <= width
}

// layout writes the line into at most width cells: no part is cut in the middle
// but the name. First the bar gets shorter, then the name, then parts go. rail
// draws a bar.
func (l line) layout(width int, paint func(sgr, text string) string, rail func(part float64, n int) string) string {
	if !l.fit(width) {
		return ""
	}
	room := width - l.least()
	var out []string
	if l.name != "" {
		name := cut(l.name, min(cells(l.name), nameLeast)+room)
		room -= cells(name) - min(cells(l.name), nameLeast)
		out = append(out, name)
	}
	if l.bar {
		out = append(out, rail(l.part, barLeast+room))
	}
	colours := []string{"", "", "", "", dim, yellow, red}
	for i, p := range l.parts() {
		if p != "" && colours[i] != "" {
			p = paint(colours[i], p)
		}
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.TrimRight(strings.Repeat(" ", lineIndent)+strings.Join(out, "  "), " ")
}

// octetsOf writes how much of all is done: "12.4 of 19.0 MB". It is in the unit of
// all, unless that would make something look like nothing.
func octetsOf(done, of int64) string {
	all := octets(of)
	number, unit, _ := strings.Cut(all, " ")
	_, decimals, _ := strings.Cut(number, ".")
	size := map[string]float64{"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
	part := fmt.Sprintf("%*.*f", len(number), len(decimals), float64(done)/size)
	if done > 0 && strings.Trim(part, " 0.") == "" {
		part = octets(done)
	}
	return part + " of " + all
}

// clock is a time of day, to the second if it is near, and with the date if it is
// not today's.
func clock(at, now time.Time) string {
	at, now = at.Local(), now.Local()
	if at.Sub(now) < 2*time.Minute {
		return at.Format(time.TimeOnly)
	}
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04")
	}
	return at.Format("Jan 2 15:04")
}
