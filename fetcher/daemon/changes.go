package daemon

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	mostText  = 3500 // octets; ntfy makes a file of what has more than 4,096
	mostTitle = 120
	mostNames = 10 // are listed in a message about many

	// attentionLasts is how long something is known that is not seen any more. A
	// certificate is looked at only when somebody connects.
	attentionLasts = 7 * 24 * time.Hour
)

// health is how an account is doing.
type health struct {
	Job      string    `json:"job"`
	Last     time.Time `json:"last"`               // when its last pass began
	Failures int       `json:"failures,omitempty"` // passes in a row
	Since    time.Time `json:"since,omitzero"`     // when the first of them began
	Problem  *Problem  `json:"problem,omitempty"`  // of the last of them
}

// pass notes how a pass ended, and returns how many in a row have failed.
func (h *health) pass(d Pass) int {
	h.Job, h.Last = d.Job, d.Start
	if d.Exit == 0 {
		h.Failures, h.Since, h.Problem = 0, time.Time{}, nil
		return 0
	}
	if h.Failures == 0 {
		h.Since = d.Start
	}
	h.Failures++
	h.Problem = d.Problem
	if h.Problem == nil {
		h.Problem = &Problem{Exit: d.Exit, Code: "exit", Head: fmt.Sprintf("the pass ended with %d", d.Exit)}
	}
	return h.Failures
}

// told is what one place knows.
type told struct {
	Failing   map[string]time.Time `json:"failing,omitempty"`   // accounts, and since when
	Attention map[string]time.Time `json:"attention,omitempty"` // what, and when it was last there
}

// change is what one place does not know yet, of one kind.
type change struct {
	event string
	items []item
}

// item is one account that fails or works again, or one thing that needs
// somebody.
type item struct {
	Job      string    `json:"job,omitempty"`
	Account  string    `json:"account,omitempty"`
	Failures int       `json:"failures,omitempty"` // passes in a row
	Since    time.Time `json:"since,omitzero"`
	Problem
	key string // of told.Attention
}

// changes compares how things are with what p knows. The kinds come in the
// order of their urgency.
func (t *told) changes(p *place, accounts map[string]*health, attention []Problem, now time.Time) []change {
	failure, recovery, need := change{event: "failure"}, change{event: "recovery"}, change{event: "attention"}
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		h := accounts[name]
		if !p.about(h.Job) {
			continue
		}
		since, known := t.Failing[name]
		it := item{Job: h.Job, Account: name, Failures: h.Failures, Since: h.Since}
		switch {
		case !known && h.Failures >= p.After:
			it.Problem = *h.Problem
			failure.items = append(failure.items, it)
		case known && h.Failures == 0:
			it.Since = since
			recovery.items = append(recovery.items, it)
		}
	}
	for key, last := range t.Attention {
		if now.Sub(last) > attentionLasts {
			delete(t.Attention, key)
		}
	}
	for _, a := range attention {
		it := item{Problem: a, key: attentionKey(a)}
		if _, known := t.Attention[it.key]; known {
			t.Attention[it.key] = now
			continue
		}
		need.items = append(need.items, it)
	}
	return slices.DeleteFunc([]change{failure, need, recovery}, func(c change) bool { return len(c.items) == 0 })
}

// note makes c part of what a place knows.
func (c change) note(t *told) {
	for _, it := range c.items {
		switch c.event {
		case "failure":
			t.Failing[it.Account] = it.Since
		case "recovery":
			delete(t.Failing, it.Account)
		case "attention":
			t.Attention[it.key] = time.Now()
		}
	}
}

// about reports whether p hears of the job.
func (p *place) about(job string) bool { return p.Jobs == nil || slices.Contains(p.Jobs, job) }

// wanted reports whether p wants to hear of c. What it does not want it counts
// as knowing: that it works again is news though the failure was none.
func (c change) wanted(p *place) bool { return slices.Contains(p.On, c.event) }

// amounts are numbers that change while the thing stays the same: "quota 91 %
// used", "ends in 6 days".
var amounts = regexp.MustCompile(`(^|[ (])[0-9][0-9.,]*( ?%| |\)|$)`)

func attentionKey(p Problem) string {
	return p.Code + " " + amounts.ReplaceAllString(p.Head, "$1#$2")
}

// Notice is one message to people, and what a webhook gets as JSON. Fields may be
// added, none is ever renamed.
type Notice struct {
	Event    string    `json:"event"` // "failure", "recovery", "attention" or "test"
	Time     time.Time `json:"time"`
	Title    string    `json:"title"`    // one line
	Text     string    `json:"text"`     // for people, several lines
	Problems []item    `json:"problems"` // what it is about
}

// notice puts c into words.
func (c change) notice(now time.Time, zone *time.Location) *Notice {
	n := &Notice{Event: c.event, Time: now.In(zone), Problems: c.items}
	var b strings.Builder
	first := c.items[0]
	switch one := len(c.items) == 1; {
	case c.event == "failure" && one:
		n.Title = fmt.Sprintf("popferry: %s fails: %s", first.Job, first.Head)
		fmt.Fprintf(&b, "%s, account %s: %s failed, since %s.\n\n", first.Job, first.Account, times(first.Failures), first.Since.In(zone).Format("2006-01-02 15:04 MST"))
		first.block(&b)
	case c.event == "failure":
		n.Title = fmt.Sprintf("popferry: %d accounts fail", len(c.items))
		c.groups(&b)
	case c.event == "recovery" && one:
		n.Title = fmt.Sprintf("popferry: %s works again", first.Job)
		fmt.Fprintf(&b, "%s, account %s works again. It had failed since %s.\n", first.Job, first.Account, first.Since.In(zone).Format("2006-01-02 15:04 MST"))
	case c.event == "recovery":
		n.Title = fmt.Sprintf("popferry: %d accounts work again", len(c.items))
		b.WriteString("These work again:\n" + names(c.items))
	case one:
		n.Title = "popferry: " + first.Head
		first.block(&b)
	default:
		n.Title = fmt.Sprintf("popferry: %d things need you", len(c.items))
		for i, it := range c.items {
			if i == mostNames {
				fmt.Fprintf(&b, "… and %d more\n", len(c.items)-i)
				break
			}
			it.block(&b)
		}
	}
	n.Title, n.Text = shorten(n.Title, mostTitle), shorten(b.String(), mostText)
	return n
}

// block writes a problem as the command line does.
func (p Problem) block(b *strings.Builder) {
	fmt.Fprintf(b, "%s  [%s]\n", p.Head, p.Code)
	for _, l := range p.Lines {
		b.WriteString("   " + l + "\n")
	}
}

// groups lists accounts by what they have in common, the largest group first:
// when a server is away, hundreds of them have one problem.
func (c change) groups(b *strings.Builder) {
	by := map[string][]item{}
	for _, it := range c.items {
		by[it.Code+"\x00"+it.Head] = append(by[it.Code+"\x00"+it.Head], it)
	}
	keys := slices.SortedFunc(maps.Keys(by), func(x, y string) int {
		if d := len(by[y]) - len(by[x]); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	for i, k := range keys {
		if i == mostNames {
			fmt.Fprintf(b, "… and %d other problems\n", len(keys)-i)
			break
		}
		by[k][0].block(b)
		b.WriteString(names(by[k]))
	}
}

// names lists accounts with their jobs, as many as somebody wants to read.
func names(items []item) string {
	var b strings.Builder
	for i, it := range items {
		if i == mostNames {
			fmt.Fprintf(&b, "   … and %d more\n", len(items)-i)
			break
		}
		fmt.Fprintf(&b, "   - %s, account %s\n", it.Job, it.Account)
	}
	return b.String()
}

func times(n int) string {
	if n == 1 {
		return "one pass"
	}
	return fmt.Sprintf("%d passes in a row", n)
}

// shorten cuts text to at most max octets, between characters.
func shorten(s string, max int) string {
	if len(s) <= max {
		return s
	}
	max -= len("…")
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max] + "…"
}
