package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
)

// maxProblems is how many different problems of one run are printed. Ten
// thousand messages that fail for one reason are one problem.
const maxProblems = 5

// tally gathers what goes wrong in a run and what the run ends with. It is safe
// for concurrent use.
type tally struct {
	config *config.Config

	mu       sync.Mutex
	code     int
	failed   int
	held     int
	problems map[string]*counted
	order    []string
}

// counted is a problem and the messages that have it.
type counted struct {
	*problem
	messages int
	first    string // "isp/0001a7f2"
}

// whole is the problem with what is known of its messages.
func (c *counted) whole() *problem {
	p := *c.problem
	p.lines = slices.Clone(p.lines[:min(len(p.lines), maxLines-1)])
	switch {
	case c.messages > 1:
		p.lines = append(p.lines, fmt.Sprintf("So it is with %s, the first is %s.", count(c.messages, "message"), c.first))
	case c.messages == 1:
		p.lines = append(p.lines, "The message is "+c.first+".")
	}
	return &p
}

func newTally(c *config.Config) *tally {
	return &tally{config: c, problems: map[string]*counted{}}
}

// event counts what failed and what is held.
func (t *tally) event(e fetcher.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Kind {
	case fetcher.Failed, fetcher.Held:
		t.message(e)
	case fetcher.PassEnd:
		t.failed += e.Report.Failed
		t.held += e.Report.Held
	}
}

// message gives the reason of one failure to the problem it belongs to.
func (t *tally) message(e fetcher.Event) {
	if e.Err == nil {
		return
	}
	c := t.add(explain(e.Err, placeOf(t.config, e)))
	if c.messages++; c.messages == 1 {
		c.first = e.Account + "/" + shown(e.UIDL)
	}
}

// placeOf is what the error of an event is about.
func placeOf(c *config.Config, e fetcher.Event) where {
	at := where{account: c.Accounts[e.Account], target: e.Target}
	if e.Kind == fetcher.PassEnd {
		return at
	}
	if j := jobOf(c, e.Job); at.target == "" && j != nil && len(j.Targets) == 1 {
		at.target = j.Targets[0]
	}
	if target := c.Targets[at.target]; target != nil {
		at.server = target.Server
	}
	return at
}

// explained puts the error of an event into words for the history.
func explained(c *config.Config, e fetcher.Event) daemon.Problem {
	p := explain(e.Err, placeOf(c, e))
	return daemon.Problem{Exit: p.exit, Code: p.code, Head: cut(p.head, 300), Lines: p.lines[:min(len(p.lines), maxLines)]}
}

// add notes a problem once, and returns it.
func (t *tally) add(p *problem) *counted {
	t.code = worse(t.code, p.exit)
	key := p.code + "\x00" + p.head
	c := t.problems[key]
	if c == nil {
		c = &counted{problem: p}
		t.problems[key] = c
		t.order = append(t.order, key)
	}
	return c
}

// first is the problem that was met first, nil if there was none.
func (t *tally) first() *problem {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		return nil
	}
	return t.problems[t.order[0]].whole()
}

// pass notes how a pass ended. That it was interrupted is no problem of its own.
func (t *tally) pass(ctx context.Context, a *fetcher.Account, err error) {
	if err == nil {
		return
	}
	if _, stopped := interruption(ctx); stopped {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(explain(err, where{account: a}))
}

// end prints the problems and returns how the run ends.
func (t *tally) end(ctx context.Context, a *app) exit {
	for i, key := range t.order {
		if i == maxProblems {
			a.log.Error("more problems than these; -v shows every message", "failed", len(t.order)-maxProblems)
			break
		}
		c := t.problems[key]
		a.report(c.whole())
	}
	if e, stopped := interruption(ctx); stopped {
		return exit{code: worse(e.code, t.code), reason: ""}
	}
	if t.failed > 0 || t.held > 0 {
		t.code = worse(t.code, exitSome)
	}
	e := exit{code: t.code}
	if t.code == exitSome {
		e.reason = t.reason()
	}
	return e
}

// reason is the last line when nothing is wrong but some messages.
func (t *tally) reason() string {
	var parts []string
	if t.failed > 0 {
		parts = append(parts, count(t.failed, "message")+" failed, the next run tries again")
	}
	if t.held > 0 {
		parts = append(parts, are(t.held)+` held (see "popferry held list")`)
	}
	return strings.Join(parts, "; ")
}

func are(n int) string {
	if n == 1 {
		return "1 message is"
	}
	return count(n, "message") + " are"
}
