package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

const (
	shownPasses = 50
	shownErrors = 20
	shownHeld   = 100
	maxUIDL     = 200 // of a UIDL are shown
)

// Build returns the status as far as the configuration and the history tell it:
// what is so while no daemon runs. s may be nil, if there is no state yet, and
// may be one that is only read.
func Build(ctx context.Context, c *config.Config, s *state.Store, now time.Time) (Status, error) {
	b := builder{ctx: ctx, config: c, state: s, now: now}
	if err := b.summaries(); err != nil {
		return Status{}, err
	}
	st := Status{Time: now, Config: c.File, Jobs: []JobStatus{}, Accounts: []AccountStatus{}, Held: []HeldMessage{}, Errors: []PastProblem{}}
	for _, j := range c.Jobs {
		js, accounts, err := b.job(j)
		if err != nil {
			return Status{}, err
		}
		st.Jobs = append(st.Jobs, js)
		st.Accounts = append(st.Accounts, accounts...)
	}
	if err := b.troubles(&st); err != nil {
		return Status{}, err
	}
	st.Attention = attention(c)
	st.judge()
	return st, nil
}

// builder gathers a status.
type builder struct {
	ctx      context.Context
	config   *config.Config
	state    *state.Store
	now      time.Time
	accounts map[string]state.AccountSummary // by source
}

func (b *builder) summaries() error {
	b.accounts = map[string]state.AccountSummary{}
	if b.state == nil {
		return nil
	}
	all, err := b.state.Accounts(b.ctx)
	for _, a := range all {
		b.accounts[a.Source] = a
	}
	return err
}

func (b *builder) job(j *config.Job) (JobStatus, []AccountStatus, error) {
	js := JobStatus{Name: j.Name, Targets: slices.Clone(j.Targets), Schedule: scheduleOf(j), Interval: longest(j, b.now), Passes: []Pass{}}
	for _, t := range j.Rules.Targets() {
		if !slices.Contains(js.Targets, t) {
			js.Targets = append(js.Targets, t)
		}
	}
	var accounts []AccountStatus
	for i, a := range j.Accounts {
		js.Accounts = append(js.Accounts, a.Name)
		as, h, passes, err := b.account(j, a)
		if err != nil {
			return js, nil, err
		}
		accounts = append(accounts, as)
		js.Passes = append(js.Passes, passes...)
		js.Day.add(Counts{
			New: h.Sums.New, Delivered: h.Sums.Delivered, Duplicate: h.Sums.Duplicate, Dropped: h.Sums.Dropped, Failed: h.Sums.Failed,
			Deleted: h.Sums.Deleted, Bytes: h.Sums.Bytes,
		})
		js.LastMail = later(js.LastMail, h.LastMail)
		if i == 0 || as.LastSuccess.Before(js.LastSuccess) {
			js.LastSuccess = as.LastSuccess
		}
	}
	slices.SortStableFunc(js.Passes, func(a, b Pass) int { return a.Start.Compare(b.Start) })
	js.Passes = js.Passes[max(0, len(js.Passes)-shownPasses):]
	return js, accounts, nil
}

// account returns what is known of an account, and its newest passes.
func (b *builder) account(j *config.Job, a *fetcher.Account) (as AccountStatus, h state.History, passes []Pass, err error) {
	as = AccountStatus{Name: a.Name, Server: a.Maildrop.Addr(), Job: j.Name, Keep: a.Keep.String()}
	if b.state == nil {
		return as, h, nil, nil
	}
	if h, err = b.state.History(b.ctx, a.Name, b.now.Add(-24*time.Hour)); err != nil {
		return as, h, nil, err
	}
	lines, err := b.state.Passes(b.ctx, a.Name, shownPasses)
	if err != nil {
		return as, h, nil, err
	}
	for i := range lines {
		passes = append(passes, passOf(&lines[i]))
	}
	s := b.accounts[a.Source()]
	as.Messages, as.Known, as.HeldMessages = s.OnServer, s.Known, s.Held
	if h.Messages >= 0 {
		as.Messages, as.Bytes = h.Messages, h.Octets
	}
	as.LastSuccess, as.Failures, as.FailingFrom = h.LastSuccess, h.Failures, h.FailingFrom
	if len(passes) == 0 {
		as.LastSuccess = s.LastSuccess // written before there was a history
	}
	if len(passes) > 0 && as.Failures > 0 {
		as.Problem = lastProblem(passes)
	} else if len(passes) > 0 && passes[0].Problem != nil && passes[0].Exit == exitSome {
		as.Problem = passes[0].Problem
	}
	as.Paused = as.Problem != nil && as.Problem.Code == endpoint.CodePaused
	if o := a.Maildrop.OAuth; o != nil {
		as.TokenEnds = o.Status().Ends
	}
	if k := a.Keep; s.Waiting > 0 && !(k.Forever && k.UntilFull == 0) {
		as.ToDelete = s.Waiting
		if k.Newest == 0 && k.UntilFull == 0 {
			as.NextDelete = s.OldestWaiting.Add(k.For)
		}
	}
	return as, h, passes, nil
}

// lastProblem is the newest one that is no interruption; passes begin with the
// newest.
func lastProblem(passes []Pass) *Problem {
	for _, p := range passes {
		if p.Exit != exitInt && p.Exit != exitTerm {
			return p.Problem
		}
	}
	return nil
}

func (c *Counts) add(o Counts) {
	c.New += o.New
	c.Delivered += o.Delivered
	c.Duplicate += o.Duplicate
	c.Dropped += o.Dropped
	c.Failed += o.Failed
	c.Held += o.Held
	c.Deleted += o.Deleted
	c.Bytes += o.Bytes
}

// troubles adds the last errors and what is held.
func (b *builder) troubles(st *Status) error {
	if b.state == nil {
		return nil
	}
	lines, err := b.state.Troubles(b.ctx, b.now.Add(-90*24*time.Hour), shownErrors)
	if err != nil {
		return err
	}
	for i := range lines {
		p := passOf(&lines[i])
		st.Errors = append(st.Errors, PastProblem{Time: p.Start.Add(p.Took), Job: p.Job, Account: p.Account, Problem: *p.Problem})
	}
	held, err := b.state.Held(b.ctx, shownHeld)
	if err != nil {
		return err
	}
	for _, h := range held {
		uidl := endpoint.Printable(h.UIDL, maxUIDL)
		st.Held = append(st.Held, HeldMessage{
			Account: h.Account, UIDL: uidl, Since: h.FirstSeen, Size: max(0, h.Size), Reason: endpoint.Printable(h.Note, 300),
			Command: "popferry held retry " + h.Account + " " + ShellWord(h.UIDL),
		})
	}
	for _, s := range b.accounts {
		st.HeldTotal += s.Held
	}
	for i := range st.Jobs {
		js := &st.Jobs[i]
		for _, a := range st.Accounts {
			if a.Job == js.Name {
				js.Day.Held += a.HeldMessages
			}
		}
	}
	return nil
}

// scheduleOf says when a job runs.
func scheduleOf(j *config.Job) string {
	switch {
	case j.Every > 0:
		return "every " + shortly(j.Every)
	case j.Cron != "":
		return fmt.Sprintf("cron %q %s", j.Cron, j.Location())
	}
	return "by hand"
}

// attention lists what in a configuration will go wrong if nobody looks.
func attention(c *config.Config) []Problem {
	out := []Problem{}
	for _, w := range c.Warnings {
		p := Problem{Code: w.Code, Head: w.Error()}
		if w.Hint != "" {
			p.Lines = []string{w.Hint}
		}
		out = append(out, p)
	}
	return out
}
