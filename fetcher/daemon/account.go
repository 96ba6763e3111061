package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// unit is an account and when it is due. Its fields are guarded by Daemon.mu.
type unit struct {
	name string
	wake chan struct{} // something has changed

	gen     *generation
	job     *config.Job
	account *fetcher.Account

	phase    time.Duration // how late it is, always
	base     time.Time     // the time on its grid that it waits for, or that its pass stands for
	next     time.Time     // when it is due; zero for never
	floor    time.Time     // the server wants no login before
	delay    time.Duration // LOGIN-DELAY
	added    time.Time     // to the configuration of this process
	again    bool          // due once more right after this pass
	forced   bool          // due because somebody asked
	gone     bool          // not in the configuration any more
	failures int           // passes in a row that were no use

	running  bool
	since    time.Time // the pass began, or waits to begin
	messages int       // on the maildrop, by the pass under way; -1 if it was not listed yet
	octets   int64
	note     string
}

func newUnit(name string) *unit {
	return &unit{name: name, wake: make(chan struct{}, 1), messages: -1}
}

// poke makes the account look at what has changed.
func (u *unit) poke() {
	select {
	case u.wake <- struct{}{}:
	default: // it will anyway
	}
}

// tend runs the passes over one account until ctx ends or it is gone.
func (d *Daemon) tend(ctx context.Context, u *unit) {
	for d.wait(ctx, u) {
		select {
		case d.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		d.turn(ctx, u)
	}
}

// wait returns true when the account is due, false when it is no more.
//
// A timer alone would be late after the machine has slept, and one on the clock
// of the wall would wait for days after that was set back. So the account looks
// at both now and then, and what was missed runs once.
func (d *Daemon) wait(ctx context.Context, u *unit) bool {
	seen := d.now()
	for {
		now := d.now()
		d.mu.Lock()
		if now.Round(0).Before(seen.Round(0).Add(-back)) && !u.next.IsZero() {
			d.reschedule(u, now)
		}
		gone, next := u.gone, u.next
		due := !next.IsZero() && (!now.Before(next) || !now.Round(0).Before(next.Round(0)))
		if due && !gone {
			u.since = now
		}
		d.mu.Unlock()
		seen = now
		switch {
		case gone || ctx.Err() != nil:
			return false
		case due:
			return true
		}
		sleep := look
		if !next.IsZero() {
			sleep = min(sleep, next.Sub(now))
		}
		timer := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
		case <-u.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// outcome is how a pass went, as far as the schedule minds.
type outcome struct {
	report  fetcher.Report
	pass    Pass
	busy    bool          // nothing was done: another pass has the maildrop
	stopped bool          // a signal ended it
	useless bool          // it brought nothing, and the next one will hardly do better
	wish    time.Duration // how long the server wants to be left alone
	fatal   error         // the state has failed
}

// turn runs a pass over an account, and sets when it is due again. It gives the
// room back that it was given.
func (d *Daemon) turn(ctx context.Context, u *unit) {
	leave := time.AfterFunc(beginning, func() { <-d.room })
	defer func() {
		if leave.Stop() {
			<-d.room
		}
	}()
	d.mu.Lock()
	g, j, a := u.gen, u.job, u.account
	d.use(g)
	d.mu.Unlock()
	defer d.release(g)

	began := d.now()
	d.mu.Lock()
	u.running, u.since, u.messages, u.octets = true, began, -1, 0
	d.mu.Unlock()
	o := d.pass(ctx, g, j, a)
	d.mu.Lock()
	defer d.mu.Unlock()
	u.running = false
	if !o.busy && !o.stopped {
		d.settle(u, o)
	}
	d.after(u, began, d.now(), o)
	if o.fatal != nil {
		select {
		case d.fatal <- o.fatal:
		default:
		}
	}
}

// settle notes what a pass says of the passes to come. d.mu is held.
func (d *Daemon) settle(u *unit, o outcome) {
	u.failures++
	if !o.useless {
		u.failures = 0
	}
	u.note = noteOf(&o.report, interval(u.job, o.report.Start))
	d.cache.forget()
}

// pass runs one pass. A panic in it is a failure like any other.
func (d *Daemon) pass(ctx context.Context, g *generation, j *config.Job, a *fetcher.Account) (o outcome) {
	began := d.now()
	err := func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = crashed(v)
			}
		}()
		d.recorder.begin(g.config, a.Name)
		if d.run != nil {
			o.report, err = d.run(ctx, g, j, a)
			return err
		}
		o.report, err = g.fetcher.Pass(ctx, &j.Job, a)
		return err
	}()
	if errors.Is(err, fetcher.ErrBusy) {
		d.recorder.end(a.Name)
		o.busy = true
		return o
	}
	if o.report.Start.IsZero() {
		o.report.Job, o.report.Account, o.report.Start, o.report.Took = j.Name, a.Name, began, d.now().Sub(began)
	}
	if crash, ok := errors.AsType[*Crash](err); ok {
		d.log().Debug("bug", "err", string(crash.Stack))
		// The engine did not come to its end, so nobody recorded it.
		if line := d.recorder.Record(o.report, err); line != nil {
			_ = d.State.Put(context.WithoutCancel(ctx), line)
		}
	}
	var wish time.Duration
	o.pass, wish = d.recorder.end(a.Name)
	o.stopped = ctx.Err() != nil
	o.wish = max(min(wish, longestWish), delayOf(err))
	p := &o.pass
	o.useless = err != nil || p.Exit > exitSome || p.Failed > 0 && p.Delivered == 0 && p.Dropped == 0
	if errors.Is(err, state.ErrDead) {
		o.fatal = err
	}
	d.doneMu.Lock()
	defer d.doneMu.Unlock()
	for _, f := range d.PassDone {
		f(*p)
	}
	return o
}

// delayOf is the LOGIN-DELAY that a refused login tells of.
func delayOf(err error) time.Duration {
	var me *maildrop.Error
	if errors.As(err, &me) && me.Code == maildrop.LoginDelay {
		return me.After
	}
	return 0
}

// Crash is a panic in a pass, as an error.
type Crash struct {
	Value any
	Stack []byte
}

func (c *Crash) Error() string { return endpoint.Printable(fmt.Sprint(c.Value), 200) }

func crashed(v any) *Crash {
	if p, ok := v.(*fetcher.Panic); ok {
		return &Crash{p.Value, p.Stack}
	}
	return &Crash{v, debug.Stack()}
}

// listed notes what lies on a maildrop.
func (d *Daemon) listed(e fetcher.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.units[e.Account]; u != nil {
		u.messages, u.octets = e.Total.Messages, e.Total.Octets
	}
}

// noteOf says what is odd about a maildrop.
func noteOf(r *fetcher.Report, step time.Duration) string {
	switch {
	case len(r.Warnings) > 0:
		return endpoint.Printable(r.Warnings[0], 200)
	case r.Expires && r.ExpireDays == 0:
		return "the server deletes mail as soon as it was read (EXPIRE 0)"
	case r.Expires:
		text := fmt.Sprintf("the server itself deletes mail after %s (EXPIRE)", roughly(time.Duration(r.ExpireDays)*24*time.Hour))
		if step > time.Duration(r.ExpireDays)*12*time.Hour {
			text += ": the job should run more often"
		}
		return text
	case r.LoginDelay > 0:
		return fmt.Sprintf("the server wants %s between logins (LOGIN-DELAY)", r.LoginDelay)
	}
	return ""
}
