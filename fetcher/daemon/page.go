package daemon

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// contentPolicy lets a browser use the page's own style and icon, and nothing
// else from anywhere: no script, no form, no frame around it.
var contentPolicy = "default-src 'none'; style-src 'sha256-" + hashOf(pageCSS) + "'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

const (
	calm   = 30 // seconds until the page reloads itself
	lively = 5  // likewise, while a pass runs
)

// page is what the template shows of a status. Its methods put times, sizes and
// counts into words.
type page struct {
	Status
	Style   template.CSS
	Icon    template.URL // in the colour of Mood
	Mood    string       // "fine", "watch", "failing", "waiting": the page's colour
	Title   string
	Reload  int // seconds; 0 for never
	Still   bool
	Metrics bool
	zone    *time.Location
}

// pageHandler serves the page. Asked for with ?still it does not reload itself:
// some people need more time to read it.
func pageHandler(o HTTPOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := newPage(o.Status(), cmp.Or(o.Location, time.UTC))
		p.Metrics = o.Metrics != nil
		if p.Still = r.URL.Query().Has("still"); p.Still {
			p.Reload = 0
		}
		var b bytes.Buffer // so that an error is no half page
		if err := pageTemplate.Execute(&b, p); err != nil {
			http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = b.WriteTo(w) // whoever hangs up need not be told
	})
}

func newPage(s Status, zone *time.Location) *page {
	p := &page{Status: s, Style: template.CSS(pageCSS), Reload: calm, zone: zone}
	ran := false
	for _, j := range s.Jobs {
		ran = ran || len(j.Passes) > 0
		if j.Running {
			p.Reload = lively
		}
	}
	p.Jobs = slices.Clone(s.Jobs)
	slices.SortStableFunc(p.Jobs, func(a, b JobStatus) int { return number(a.OK) - number(b.OK) }) // who needs somebody comes first
	switch {
	case !s.OK:
		p.Mood, p.Title = "failing", "✗ "
	case len(s.Attention) > 0 || s.HeldTotal > 0:
		p.Mood, p.Title = "watch", "! "
	case !ran:
		p.Mood, p.Title = "waiting", ""
	default:
		p.Mood, p.Title = "fine", "✓ "
	}
	p.Title += cmp.Or(s.Summary, "popferry")
	p.Icon = icons[p.Mood]
	return p
}

// icons are a dot in the colour of the mood, for the tab.
var icons = func() map[string]template.URL {
	all := map[string]template.URL{}
	for mood, colour := range map[string]string{"fine": "1a7f4b", "watch": "c98a00", "failing": "c5221f", "waiting": "7a828c"} {
		all[mood] = template.URL("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23" + colour + "'/%3E%3C/svg%3E")
	}
	return all
}()

// moment is a point in time in words, and exactly.
type moment struct{ ISO, Full, Text string }

// At is the moment t; its zero is no time at all.
func (p *page) At(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	t = t.In(p.zone)
	return moment{t.Format(time.RFC3339), t.Format("Mon 2 Jan 2006, 15:04:05 MST"), relative(t, p.Time.In(p.zone))}
}

// relative says how far t is from now.
func relative(t, now time.Time) string {
	d := t.Sub(now)
	far := d.Abs()
	var text string
	switch {
	case far < 5*time.Second:
		return "now"
	case far < time.Minute:
		text = fmt.Sprintf("%d s", int(far.Seconds()))
	case far < time.Hour:
		text = fmt.Sprintf("%d min", int(far.Minutes()))
	case far < 48*time.Hour:
		text = fmt.Sprintf("%d h", int(far.Hours()))
	case far < 60*24*time.Hour:
		text = fmt.Sprintf("%d days", int(far.Hours()/24))
	default:
		return t.Format("2 Jan 2006")
	}
	if d > 0 {
		return "in " + text
	}
	return text + " ago"
}

// Day is the date of t.
func (p *page) Day(t time.Time) string { return t.In(p.zone).Format("2 Jan") }

// Clock is the time of day of t.
func (p *page) Clock(t time.Time) string { return t.In(p.zone).Format("15:04:05") }

// Zone is the name of the time zone.
func (p *page) Zone() string { return p.zone.String() }

// Count is n with commas.
func (p *page) Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Size is n octets, with a prefix of thousands.
func (p *page) Size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for ; v >= 999.5 && i < 4; i++ {
		v /= 1000
	}
	form := "%.0f %cB"
	if v < 9.95 {
		form = "%.1f %cB"
	}
	return fmt.Sprintf(form, v, "kMGTP"[i])
}

// Took is how long something took.
func (p *page) Took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return roughly(d)
}

// many is the number of accounts beyond which they are folded away, so that what
// is below them can be found.
const many = 12

// Many reports whether there are many accounts.
func (p *page) Many() bool { return len(p.Accounts) > many }

// past is an error, and how often it came in a row.
type past struct {
	PastProblem // the last time
	Times       int
	First       time.Time
}

// Past are the last errors, the same of an account in a row taken together.
func (p *page) Past() (all []past) {
	for _, e := range p.Errors {
		same := slices.IndexFunc(all, func(o past) bool { return o.Account == e.Account && o.Job == e.Job })
		if same >= 0 && all[same].Head == e.Head {
			all[same].Times++
			all[same].First = e.Time
			continue
		}
		all = append([]past{{e, 1, e.Time}}, all...) // the oldest first, so that IndexFunc finds the one before
	}
	slices.Reverse(all)
	return all
}

// figure is a count of the last pass and of a day; "" for none.
type figure struct{ Last, Day, Tone string }

// Number is a count, which last is nil for where there was no pass.
func (p *page) Number(last *Pass, what string, day int) (n figure) {
	if day > 0 {
		n.Day = p.Count(day)
	}
	if last == nil {
		return n
	}
	v, tone := last.New, ""
	switch what {
	case "held":
		v, tone = last.Held, "watch"
	case "failed":
		v, tone = last.Failed, "failing"
	}
	if n.Last, n.Tone = p.Count(v), tone; v == 0 {
		n.Tone = "zero"
	}
	return n
}

// Last is the newest pass of a job, nil if there was none.
func (p *page) Last(j JobStatus) *Pass {
	if len(j.Passes) == 0 {
		return nil
	}
	return &j.Passes[len(j.Passes)-1]
}

// Word is how a job goes, in a word.
func (p *page) Word(j JobStatus) string {
	switch {
	case !j.OK:
		return "needs you"
	case j.Running:
		return "running"
	case len(j.Passes) == 0:
		return "no pass yet"
	}
	return "fine"
}

// Tone is the colour of that word.
func (p *page) Tone(j JobStatus) string {
	switch {
	case !j.OK:
		return "failing"
	case j.Running:
		return "running"
	case len(j.Passes) == 0:
		return "waiting"
	}
	return "fine"
}

// The passes of a job are drawn from left to right in columns of barStep, of
// which barWidth are filled. A quiet pass is a low bar, one with mail the higher
// the more there was; a failed one has the shape of an exclamation mark, so that
// it does not take colours to see it.
const (
	barSlots  = 50
	barStep   = 8
	barWidth  = 6
	barHeight = 32
	barQuiet  = 3
	barDot    = 5 // of the exclamation mark, and the gap above it is as wide
)

// bar is one pass that is drawn on its own.
type bar struct {
	X, Y, Width, Height, Dot int // Dot is where the dot begins, 0 for none
	Tone, Text               string
}

// chart is the passes of a job.
type chart struct {
	Width, Height int
	Text          string // all of it, for those who cannot see it
	Empty, Quiet  string // paths: slots without a pass, and passes where nothing happened
	Bars          []bar  // the others
}

// Chart draws the passes of a job.
func (p *page) Chart(j JobStatus) chart {
	passes := j.Passes[max(0, len(j.Passes)-barSlots):]
	c := chart{Width: barSlots*barStep - (barStep - barWidth), Height: barHeight, Text: p.chartText(passes)}
	var empty, quiet strings.Builder
	for i := range barSlots {
		x, n := i*barStep, i-(barSlots-len(passes))
		switch {
		case n < 0:
			fmt.Fprintf(&empty, "M%d %dh%dv1h-%dz", x, barHeight-1, barWidth, barWidth)
		case passes[n].Exit == 0 && passes[n].New == 0:
			fmt.Fprintf(&quiet, "M%d %dh%dv%dh-%dz", x, barHeight-barQuiet, barWidth, barQuiet, barWidth)
		default:
			c.Bars = append(c.Bars, p.bar(x, &passes[n]))
		}
	}
	c.Empty, c.Quiet = empty.String(), quiet.String()
	return c
}

func (p *page) bar(x int, pass *Pass) bar {
	b := bar{X: x, Width: barWidth, Tone: toneOf(pass.Exit)}
	b.Height = min(barHeight, barQuiet+2+int(3*math.Log2(float64(1+pass.New))))
	b.Y = barHeight - b.Height
	if b.Tone == "failing" || b.Tone == "watch" {
		b.Y, b.Height, b.Dot = 0, barHeight-2*barDot, barHeight-barDot
	}
	at := pass.Start.In(p.zone).Format("2 Jan 15:04")
	b.Text = fmt.Sprintf("%s: %s new, %s", at, p.Count(pass.New), p.Took(pass.Took))
	if pass.Problem != nil {
		b.Text = at + ": " + pass.Problem.Head
	}
	return b
}

// toneOf says how a pass that ended with an exit code counts.
func toneOf(exit int) string {
	switch exit {
	case 0:
		return "fine"
	case 1:
		return "watch" // some messages
	case 75, 130, 143:
		return "waiting" // put off, or interrupted
	}
	return "failing"
}

// chartText says what a chart shows.
func (p *page) chartText(passes []Pass) string {
	if len(passes) == 0 {
		return "no pass yet"
	}
	tones := map[string]int{}
	mail := 0
	var bad time.Time
	for _, pass := range passes {
		tone := toneOf(pass.Exit)
		tones[tone]++
		mail += pass.New
		if tone == "failing" || tone == "watch" {
			bad = pass.Start
		}
	}
	text := fmt.Sprintf("last %d passes: %s new messages", len(passes), p.Count(mail))
	if len(passes) == 1 {
		text = fmt.Sprintf("one pass: %s new messages", p.Count(mail))
	}
	for _, t := range []struct{ tone, words string }{{"failing", "failed"}, {"watch", "left something over"}, {"waiting", "put off"}} {
		if n := tones[t.tone]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, t.words)
		}
	}
	if !bad.IsZero() {
		text += ", last trouble " + p.At(bad).Text
	}
	return text
}
