package fetcher

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// MigrateOptions say how a migration ends.
type MigrateOptions struct {
	// Patience is for how long nothing may move before a server in trouble ends it.
	Patience time.Duration
	// Compare compares both sides when all is copied, with Deep the contents of all.
	Compare, Deep bool
}

// Migrated is what a migration has done.
type Migrated struct {
	// Report is that of all its passes together. What is counted there was done by
	// this call, but Held, Failed, Skipped, Left and Down are as the last pass that
	// copied has them.
	Report

	// As the state had it at the beginning, of messages that the maildrop had when
	// last listed:
	Before int    // at their targets
	Passed int    // left alone for good by an earlier FirstRun
	Proof  *Proof // nil if nothing was compared
}

// Lacking are the doubts of a comparison about messages that are not held: those
// that the state believes to be there.
func (m *Migrated) Lacking() (list []Doubt) {
	if m.Proof == nil {
		return nil
	}
	for _, d := range m.Proof.Doubts {
		if !d.Held {
			list = append(list, d)
		}
	}
	return list
}

// Migrate runs passes over a until everything on its maildrop is at its targets,
// held, or left alone for good. Then, if that is wanted, it compares what the last
// of them has listed, and only then deletes what a's Keep does not want to stay,
// unless something is lacking: of what was compared, not what has come since. A
// server that shows messages only once has to be told in the pass that reads them.
//
// When a rate is used up it waits until that goes on, however long; when a server
// is in trouble it tries again after growing pauses, until nothing has moved for as
// long as the patience. Waiting events tell of both. What only a person can change
// (a password, a full mailbox) ends it at once, and so does ctx: a later Migrate
// goes on where this one ended. The error is as Pass has it, or a *TargetError.
func (f *Fetcher) Migrate(ctx context.Context, j *Job, a *Account, o MigrateOptions) (Migrated, error) {
	m := &migration{f: f, job: j, account: a, patience: o.Patience}
	copying := *a
	later := o.Compare && !a.Keep.Forever && !a.Consumes
	if later {
		copying.Keep = Keep{Forever: true, Final: true}
	}
	_, before, passed, err := m.earlier(ctx)
	if err != nil {
		return Migrated{}, err
	}
	err = m.passes(ctx, &copying)
	out := Migrated{Report: m.total, Before: before, Passed: passed}
	if err != nil || ctx.Err() != nil || !o.Compare {
		return out, err
	}
	arrived, _, _, err := m.earlier(ctx)
	if err != nil {
		return out, err
	}
	if out.Proof, err = m.compare(ctx, &copying, o.Deep); err != nil || !later || len(out.Lacking()) > 0 {
		return out, err
	}
	deleting := *a
	deleting.only = arrived // what comes or succeeds after that nobody has compared
	if err = m.rest(ctx, m.total); err == nil {
		err = m.passes(ctx, &deleting)
	}
	// It came for the deletions; what it has brought since counts, too.
	out.Report = m.total
	return out, err
}

// earlier is what the state knows of an account's messages: the rows of those that
// are where they should be, and of those listed last how many are at targets and
// how many were left alone.
func (m *migration) earlier(ctx context.Context) (arrived map[int64]bool, before, passed int, err error) {
	known, err := m.f.State.Known(ctx, m.account.Source())
	if err != nil {
		return nil, 0, 0, err
	}
	arrived = make(map[int64]bool, len(known.Messages))
	for _, msg := range known.Messages {
		if !msg.AbsentSince.IsZero() {
			continue // nobody compares what is not listed, and it may come back
		}
		listed := msg.DelSentAt.IsZero()
		switch {
		case msg.Status == state.StatusSafe:
			arrived[msg.ID] = true
			if listed {
				before++
			}
		case msg.Status == state.StatusDropped:
			arrived[msg.ID] = true
		case msg.Status == state.StatusMarked && listed:
			passed++
		}
	}
	return arrived, before, passed, nil
}

// migration is one run of Migrate.
type migration struct {
	f        *Fetcher
	job      *Job
	account  *Account
	patience time.Duration

	total  Report
	listed []maildrop.Entry // by the last session of the last pass; nil if that is not certain
	began  bool             // something has come over
	now    bool             // in the last pass
	moved  time.Time        // when that was last so, or the first pass ended
	asked  time.Duration    // of waiting since then, as servers wanted it
}

// passes runs passes over a until there is no more to do.
func (m *migration) passes(ctx context.Context, a *Account) error {
	m.moved = time.Time{}
	for {
		r, listed, err := m.f.pass(ctx, m.job, a, true) // whoever asks now may have changed what put a message off
		m.add(r)
		m.listed = listed
		if ctx.Err() != nil || err == nil && !m.goesOn(r) {
			return err
		}
		why := cause(r, err)
		until, ok := m.next(r, why)
		if !ok {
			return why
		}
		if err := m.wait(ctx, until, m.waiting(r, why)); err != nil {
			return err
		}
	}
}

// comparisons is how many run at a time: each may need 100 MB.
const comparisons = 2

// compare is Verify, as patient as the passes are.
func (m *migration) compare(ctx context.Context, a *Account, deep bool) (*Proof, error) {
	room := m.f.common().comparing
	select {
	case room <- struct{}{}:
		defer func() { <-room }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	m.began, m.moved = true, time.Now()
	for {
		if err := m.rest(ctx, m.total); err != nil {
			return nil, err
		}
		m.f.event(Event{Kind: Comparing, Job: m.job.Name, Account: a.Name, Pass: m.total.Pass})
		m.total.LoggedIn = m.f.now()
		p, err := m.f.verify(ctx, m.job, a, VerifyOptions{Deep: deep}, m.listed)
		m.f.event(Event{Kind: Compared, Job: m.job.Name, Account: a.Name, Pass: m.total.Pass, Err: err})
		if err == nil {
			return &p, nil
		}
		until, ok := m.next(Report{}, err)
		if !ok || ctx.Err() != nil {
			return nil, err
		}
		if err := m.wait(ctx, until, m.waiting(m.total, err)); err != nil {
			return nil, err
		}
	}
}

// rest waits until the server wants the next login.
func (m *migration) rest(ctx context.Context, r Report) error {
	return m.wait(ctx, loginAfter(r, m.f.now()), Event{Reason: "the server wants pauses between logins (LOGIN-DELAY)"})
}

// loginAfter is when the server wants the next login, now if it does not mind.
func loginAfter(r Report, now time.Time) time.Time {
	if r.LoginDelay > 0 && !r.LoggedIn.IsZero() {
		if at := r.LoggedIn.Add(min(r.LoginDelay, longestWish) + time.Second); at.After(now) {
			return at
		}
	}
	return now
}

// add joins the report of a pass to the others.
func (m *migration) add(r Report) {
	if m.now = r.Delivered+r.Dropped+r.Deleted+r.Recovered > 0 || r.Held > m.total.Held; m.now {
		m.began, m.moved, m.asked = true, time.Now(), 0
	}
	if m.moved.IsZero() { // a server that does not answer has its time first
		m.moved = time.Now()
	}
	t := m.total
	m.total = r
	if r.LoggedIn.IsZero() { // as before, where it was not reached
		m.total.LoggedIn, m.total.LoginDelay = t.LoggedIn, t.LoginDelay
	}
	if t.Pass == "" {
		return
	}
	s := &m.total
	s.Start = t.Start
	s.Took = m.f.now().Sub(t.Start)
	s.New += t.New
	s.Bytes += t.Bytes
	s.Delivered += t.Delivered
	s.Duplicate += t.Duplicate
	s.Dropped += t.Dropped
	s.Marked += t.Marked
	s.Recovered += t.Recovered
	s.Deleted += t.Deleted
	s.OnServer, s.OnServerBytes = max(t.OnServer, r.OnServer), max(t.OnServerBytes, r.OnServerBytes)
	s.Warnings = slices.Concat(t.Warnings, r.Warnings)
	s.Folders = map[string]map[string]int{} // the reports are others' too by now
	for _, folders := range []map[string]map[string]int{t.Folders, r.Folders} {
		for target, in := range folders {
			if s.Folders[target] == nil {
				s.Folders[target] = map[string]int{}
			}
			for folder, n := range in {
				s.Folders[target][folder] += n
			}
		}
	}
}

// goesOn reports whether another pass has something to do.
func (m *migration) goesOn(r Report) bool { return r.More || r.Failed > 0 }

// cause is why a pass has not done all there was, nil if only a limit or a rate
// kept it.
func cause(r Report, err error) error {
	if err != nil {
		return err
	}
	worst := &TargetError{}
	for name, down := range r.Down {
		if worst.Err == nil || hopeless(down) {
			worst = &TargetError{Target: name, Err: down}
		}
	}
	if worst.Err != nil {
		return worst
	}
	return nil
}

// next says when the next pass begins; ok is false if there should be none.
func (m *migration) next(r Report, why error) (until time.Time, ok bool) {
	now := m.f.now()
	first := loginAfter(r, now)
	patience := m.patience
	if !m.began { // who has mistyped a host is not to wait for an answer
		patience /= 20
	}
	idle := time.Since(m.moved) - m.asked
	switch {
	case why != nil && (hopeless(why) || !m.began && mistyped(why)):
		return now, false
	case why == nil && r.Failed == 0 && r.Used != nil:
		return now.Add(max(r.Used.Until.Sub(now), first.Sub(now), time.Second)), true
	case why == nil && m.now:
		return first, true
	case idle >= patience:
		return now, false
	}
	least := m.patience / 200
	if why == nil { // messages, not servers: they are held soon
		least /= 20
	}
	pause := min(max(idle/2, least), 5*time.Minute)
	if most := wish(r, why); most > pause {
		pause = most
		m.asked = min(m.asked+most, longestAsked)
	}
	return now.Add(max(pause, first.Sub(now))), true
}

// wish is how long the servers want to be left alone.
func wish(r Report, why error) time.Duration {
	var most time.Duration
	var me *maildrop.Error
	if errors.As(why, &me) && me.Code == maildrop.LoginDelay {
		most = me.After
	}
	for _, down := range r.Down {
		if te, ok := errors.AsType[*targets.Error](down); ok {
			most = max(most, te.After)
		}
	}
	return min(most, longestWish)
}

const (
	// longestWish is how long a server may have itself left alone, and longestAsked
	// how long all that may take before it tries the patience.
	longestWish  = time.Hour
	longestAsked = 24 * time.Hour
)

// mistyped reports whether nothing at all answers where a server should be.
func mistyped(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound || errors.Is(err, syscall.ECONNREFUSED)
}

// hopeless reports whether trying again makes no sense before a person has done
// something about err.
func hopeless(err error) bool {
	var ee *endpoint.Error
	var me *maildrop.Error
	var te *targets.Error
	switch {
	case errors.As(err, new(*state.Error)), errors.Is(err, ErrBusy):
		return true
	case errors.As(err, &me) && (me.Kind == maildrop.LoginRefused || me.Code == maildrop.SysPerm):
		return true
	case errors.As(err, &ee):
		return ee.Stage != "connect" && ee.Code != endpoint.CodeLoginUnavailable && ee.Code != endpoint.CodeSignInDown
	case errors.As(err, &me):
		return false
	case errors.As(err, &te):
		return strings.Contains(te.Reply, "[OVERQUOTA]") || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
	}
	return false
}

// waiting is the event of a pause after a pass.
func (m *migration) waiting(r Report, why error) Event {
	e := Event{Pass: r.Pass, Err: why}
	switch {
	case why != nil:
	case r.Failed > 0:
		e.Reason = "messages failed, they are tried again"
	case r.Used != nil:
		e.Err = r.Used
	}
	return e
}

// wait tells that nothing happens until then, and returns when that has come or
// ctx has ended. e says why.
func (m *migration) wait(ctx context.Context, until time.Time, e Event) error {
	if pause := until.Sub(m.f.now()); pause >= time.Second || pause > 0 && e.Err != nil {
		e.Kind, e.Job, e.Account, e.Until = Waiting, m.job.Name, m.account.Name, until
		m.f.event(e)
	}
	end := time.Now().Add(until.Sub(m.f.now()))
	for {
		// By both clocks, and in steps: a timer does not count what the machine
		// sleeps, and the clock on the wall may be set.
		left := min(until.Sub(m.f.now()), time.Until(end))
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, time.Minute))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
