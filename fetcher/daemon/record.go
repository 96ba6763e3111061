package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// Recorder makes a line of the history of each pass. Give it every event, and use
// its Record as that of the Fetcher. It is safe for concurrent use.
type Recorder struct {
	Config  *config.Config // of passes that run with no other
	Explain func(*config.Config, fetcher.Event) Problem
	Done    func(Pass) // called with every pass that was recorded; nil for nobody

	now   func() time.Time
	mu    sync.Mutex
	under map[string]*underway // by account
}

// underway is what is known of a pass so far.
type underway struct {
	config    *config.Config
	messages  int
	octets    int64
	explained int
	problem   *Problem
	wish      time.Duration
	pass      Pass
}

// explainMost is how many messages of a pass are asked for their reason: those
// beyond have no other.
const explainMost = 100

func (r *Recorder) of(account string) *underway {
	if r.under == nil {
		r.under = map[string]*underway{}
	}
	u := r.under[account]
	if u == nil {
		u = &underway{config: r.Config, messages: -1}
		r.under[account] = u
	}
	return u
}

// begin tells which configuration the next pass over an account has.
func (r *Recorder) begin(c *config.Config, account string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.under, account)
	r.of(account).config = c
}

// end returns the pass that was recorded, and for how long the targets asked to
// be left alone.
func (r *Recorder) end(account string) (Pass, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.of(account)
	delete(r.under, account)
	return u.pass, u.wish
}

// Event notes what the line of a pass needs.
func (r *Recorder) Event(e fetcher.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case fetcher.Listed:
		u := r.of(e.Account)
		u.messages, u.octets = e.Total.Messages, e.Total.Octets
	case fetcher.Failed, fetcher.Held:
		u := r.of(e.Account)
		if e.Err == nil || u.explained == explainMost {
			return
		}
		u.explained++
		u.add(r.Explain(u.config, e))
		if te := (*targets.Error)(nil); errors.As(e.Err, &te) {
			u.wish = max(u.wish, te.After)
		}
	}
}

// add keeps the most serious problem, the first of its kind.
func (u *underway) add(p Problem) {
	if u.problem == nil || u.problem.Exit != p.Exit && Worse(u.problem.Exit, p.Exit) == p.Exit {
		u.problem = &p
	}
}

// Record returns the line of a pass that has ended.
func (r *Recorder) Record(rep fetcher.Report, err error) state.Change {
	p := r.record(rep, err)
	if r.Done != nil {
		r.Done(p)
	}
	return state.Passed{Pass: p.line()}
}

func (r *Recorder) record(rep fetcher.Report, err error) Pass {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.of(rep.Account)
	if err != nil {
		e := fetcher.Event{Kind: fetcher.PassEnd, Job: rep.Job, Account: rep.Account, Pass: rep.Pass, Report: &rep, Err: err}
		p := r.Explain(u.config, e)
		if errors.Is(err, context.Canceled) || p.Exit == exitInt || p.Exit == exitTerm {
			u.problem = &p // it explains whatever else went wrong
		} else {
			u.add(p)
		}
	}
	if u.problem == nil && rep.Failed+rep.Held > 0 {
		u.problem = incomplete(rep.Failed, rep.Held)
	}
	u.pass = Pass{
		ID: rep.Pass, Job: rep.Job, Account: rep.Account, Start: rep.Start, Took: rep.Took, Problem: u.problem,
		Messages: u.messages, Octets: u.octets,
		Counts: Counts{
			New: rep.New, Delivered: rep.Delivered, Duplicate: rep.Duplicate, Dropped: rep.Dropped, Failed: rep.Failed,
			Held: rep.Held, Deleted: rep.Deleted, Bytes: rep.Bytes,
		},
	}
	if u.problem != nil {
		u.pass.Exit = u.problem.Exit
	}
	if r.now == nil { // of a run: nobody asks for it again
		defer delete(r.under, rep.Account)
	}
	return u.pass
}

// incomplete is the problem of a pass in which nothing went wrong but with some
// messages, and those no event has told of.
func incomplete(failed, held int) *Problem {
	p := &Problem{Exit: exitSome, Code: "messages-held", Lines: []string{"Which, and why:  popferry held list"}}
	switch {
	case failed > 0:
		p.Code, p.Head = "messages-failed", fmt.Sprintf("%s not delivered; the next pass tries again", messagesWere(failed))
		p.Lines = nil
	default:
		p.Head = messagesAre(held) + " held"
	}
	return p
}

func messagesAre(n int) string {
	if n == 1 {
		return "1 message is"
	}
	return fmt.Sprintf("%d messages are", n)
}

func messagesWere(n int) string {
	if n == 1 {
		return "1 message was"
	}
	return fmt.Sprintf("%d messages were", n)
}

// line is p as the state keeps it.
func (p *Pass) line() state.Pass {
	l := state.Pass{
		Account: p.Account, Job: p.Job, ID: p.ID, Start: p.Start, Took: p.Took, Exit: p.Exit, Messages: p.Messages, Octets: p.Octets,
		New: p.New, Delivered: p.Delivered, Duplicate: p.Duplicate, Dropped: p.Dropped, Failed: p.Failed, Held: p.Held,
		Deleted: p.Deleted, Bytes: p.Bytes,
	}
	if p.Problem != nil {
		l.Code, l.Head = p.Problem.Code, endpoint.Printable(p.Problem.Head, 300)
		l.Lines = slices.Clone(p.Problem.Lines[:min(len(p.Problem.Lines), 8)])
		for i, line := range l.Lines {
			l.Lines[i] = endpoint.Printable(strings.ReplaceAll(line, "\n", " "), 300)
		}
	}
	return l
}

// passOf is a line of the history.
func passOf(l *state.Pass) Pass {
	p := Pass{
		ID: l.ID, Job: l.Job, Account: l.Account, Start: l.Start, Took: l.Took, Exit: l.Exit, Messages: l.Messages, Octets: l.Octets,
		Counts: Counts{
			New: l.New, Delivered: l.Delivered, Duplicate: l.Duplicate, Dropped: l.Dropped, Failed: l.Failed, Held: l.Held,
			Deleted: l.Deleted, Bytes: l.Bytes,
		},
	}
	if l.Code != "" {
		p.Problem = &Problem{Exit: l.Exit, Code: l.Code, Head: l.Head, Lines: l.Lines}
	}
	return p
}
