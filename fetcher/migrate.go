package fetcher

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// Migrate runs passes over a until everything on its maildrop is at its targets,
// held, or left alone for good. When a rate is used up it waits until that goes
// on, however long; when a server is in trouble it tries again after growing
// pauses, until nothing has moved for as long as patience. Waiting events tell of
// both. What only a person can change (a password, a full mailbox) ends it at
// once, and so does ctx: a later Migrate goes on where this one ended.
//
// The Report is that of all its passes together: what is counted there was done
// by this call, but Held, Failed, Skipped, Left and Down are as the last pass has
// them. The error is as Pass has it, or a *TargetError.
func (f *Fetcher) Migrate(ctx context.Context, j *Job, a *Account, patience time.Duration) (Report, error) {
	m := &migration{f: f, job: j, account: a, patience: patience, moved: time.Now()}
	for {
		r, err := f.Pass(ctx, j, a)
		m.add(r)
		if ctx.Err() != nil || err == nil && !m.goesOn(r) {
			return m.total, err
		}
		why := cause(r, err)
		until, ok := m.next(r, why)
		if !ok {
			return m.total, why
		}
		if err := m.wait(ctx, r, until, why); err != nil {
			return m.total, err
		}
	}
}

// migration is one run of Migrate.
type migration struct {
	f        *Fetcher
	job      *Job
	account  *Account
	patience time.Duration

	total Report
	began bool      // something has come over
	now   bool      // in the last pass
	moved time.Time // when that was last so
}

// add joins the report of a pass to the others.
func (m *migration) add(r Report) {
	if m.now = r.Delivered+r.Dropped+r.Deleted+r.Recovered > 0 || r.Held > m.total.Held; m.now {
		m.began, m.moved = true, time.Now()
	}
	t := m.total
	m.total = r
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
	patience := m.patience
	if !m.began { // who has mistyped a host is not to wait for an answer
		patience /= 20
	}
	idle := time.Since(m.moved)
	switch {
	case why != nil && hopeless(why):
		return now, false
	case why == nil && r.Failed == 0 && r.Used != nil:
		return now.Add(max(r.Used.Until.Sub(now), time.Second)), true
	case why == nil && m.now:
		return now, true
	case idle >= patience:
		return now, false
	}
	least := m.patience / 200
	if why == nil { // messages, not servers: they are held soon
		least /= 20
	}
	pause := min(max(idle/2, least), 5*time.Minute)
	return now.Add(max(pause, wish(r, why))), true
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
	if !r.LoggedIn.IsZero() {
		most = max(most, r.LoginDelay)
	}
	return min(most, longestWish)
}

// longestWish is how long a server may have itself left alone.
const longestWish = time.Hour

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
		return strings.Contains(te.Reply, "[OVERQUOTA]")
	}
	return false
}

// wait tells that nothing happens until then, and returns when that has come or
// ctx has ended.
func (m *migration) wait(ctx context.Context, r Report, until time.Time, why error) error {
	e := Event{Kind: Waiting, Job: m.job.Name, Account: m.account.Name, Pass: r.Pass, Until: until, Err: why}
	switch {
	case why != nil:
	case r.Failed > 0:
		e.Reason = "messages failed, they are tried again"
	case r.Used != nil:
		e.Err = r.Used
	}
	if pause := until.Sub(m.f.now()); pause >= time.Second || pause > 0 && e.Err != nil {
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
			return cmp.Or(context.Cause(ctx), why)
		}
	}
}
