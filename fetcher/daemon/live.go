package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"popferry/fetcher/state"
)

// cache keeps what the history adds up to until a pass has ended: a page that
// several people watch must not read a million messages for each of them.
type cache struct {
	version atomic.Int64

	mu    sync.Mutex
	of    int64 // version
	day   time.Time
	took  time.Duration
	base  Status
	view  *state.Store
	built bool

	closed bool
}

// forget makes the next Status look anew.
func (c *cache) forget() { c.version.Add(1) }

const (
	// freshFor is how long the history is taken for the same although passes have
	// ended: as long as reading it took, ten times over, and at least this.
	freshFor = 200 * time.Millisecond
	// staleAfter is when it is read again although nothing has happened: counts
	// of the last day grow old.
	staleAfter = 5 * time.Minute
	// reading is how long that may take.
	reading = 20 * time.Second
)

// Status says how the jobs are doing. It may be a moment old.
func (d *Daemon) Status() Status {
	d.mu.Lock()
	g := d.gen
	started, refused := d.started, d.refused
	d.mu.Unlock()
	now := d.now()
	st, err := d.base(g, now)
	if err != nil {
		st = Status{Config: g.config.File, Jobs: []JobStatus{}, Accounts: []AccountStatus{}, Held: []HeldMessage{}, Errors: []PastProblem{}}
		st.Attention = []Problem{{Exit: 74, Code: "state-unreadable", Head: "the history cannot be read: " + err.Error()}}
	}
	st.Time, st.Version, st.Serving = now, d.Version, true
	st.Loaded, st.Started = g.loaded, started
	if refused != nil {
		st.Attention = append(st.Attention, *refused)
	}
	if d.Attention != nil {
		st.Attention = append(st.Attention, d.Attention(g.config)...)
	}
	d.seen.Add(&st, g.config, g.targets)
	d.overlay(&st)
	st.judge()
	return st
}

// base is a copy of what Build said last, or says now.
func (d *Daemon) base(g *generation, now time.Time) (Status, error) {
	c := &d.cache
	version := c.version.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.day)
	fresh := c.built && age >= 0 && (c.of == version && age < staleAfter || c.base.Config != "" && age < max(freshFor, 10*c.took))
	if !fresh || c.base.Config != g.config.File || c.loaded() != g.loaded {
		if err := d.rebuild(g, now, version); err != nil {
			return Status{}, err
		}
	}
	return c.base.clone(), nil
}

func (c *cache) loaded() time.Time { return c.base.Loaded }

// rebuild reads the history. c.mu is held. It has a connection of its own, so
// that no pass waits for it.
func (d *Daemon) rebuild(g *generation, now time.Time, version int64) (err error) {
	c := &d.cache
	ctx, cancel := context.WithTimeout(context.Background(), reading)
	defer cancel()
	if c.closed {
		return state.ErrClosed
	}
	if c.view == nil {
		if c.view, err = state.View(ctx, d.State.Path()); err != nil {
			c.view = nil
			return err
		}
	}
	began := time.Now()
	st, err := Build(ctx, g.config, c.view, now)
	if err != nil {
		return err
	}
	st.Loaded = g.loaded
	c.base, c.of, c.day, c.took, c.built = st, version, now, time.Since(began), true
	return nil
}

// close ends the connection. Nothing is read after that.
func (c *cache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.view == nil {
		return nil
	}
	err := c.view.Close()
	c.view, c.built = nil, false
	return err
}

// clone copies what overlay and judge change.
func (st *Status) clone() Status {
	out := *st
	out.Jobs = append([]JobStatus{}, st.Jobs...)
	out.Accounts = append([]AccountStatus{}, st.Accounts...)
	out.Attention = append([]Problem{}, st.Attention...)
	return out
}

// overlay adds what only this process knows.
func (d *Daemon) overlay(st *Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range st.Accounts {
		a := &st.Accounts[i]
		u := d.units[a.Name]
		if u == nil {
			continue
		}
		a.Running, a.Next, a.Note = u.running, u.next.Round(0), u.note
		if u.running {
			a.Next = time.Time{}
			a.Since = u.since
			if u.messages >= 0 {
				a.Messages, a.Bytes = u.messages, u.octets
			}
		}
	}
}

// stuck is how late an account may be before the schedule counts as stuck.
const stuck = 5 * time.Minute

// ErrUnhealthy is in the error of Health.
var ErrUnhealthy = errors.New("unhealthy")

// Stuck returns an error if the schedule itself does not go on: an account is
// minutes late and nothing of it runs. That servers cannot be reached is no
// reason to restart the process; this is.
func (d *Daemon) Stuck() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for _, u := range d.units {
		if !u.running && !u.next.IsZero() && now.Sub(u.next) > stuck {
			return fmt.Errorf("%w: the schedule is stuck: %s was due %s ago", ErrUnhealthy, u.name, roughly(now.Sub(u.next)))
		}
	}
	return nil
}

// Health returns an error if somebody should look at this process: an account is
// minutes late and nothing of it runs, or a job had no success for three of its
// intervals.
func (d *Daemon) Health() error {
	st := d.Status()
	if err := d.Stuck(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for i := range st.Accounts {
		a := &st.Accounts[i]
		u := d.units[a.Name]
		if u == nil || u.running && a.Failures == 0 {
			continue // a first pass over a large maildrop takes what it takes
		}
		if u.job.Every == 0 && u.job.Cron == "" {
			continue
		}
		last := later(a.LastSuccess, later(d.started, u.added))
		deadline := last
		for range 3 { // a cron's intervals differ: there may be a weekend between them
			deadline = later(u.job.Next(deadline), deadline.Add(u.delay))
		}
		if late := now.Sub(last); now.After(deadline.Add(u.phase + time.Minute)) {
			why := ""
			if a.Problem != nil {
				why = ": " + a.Problem.Head
			}
			return fmt.Errorf("%w: job %s had no success over %s for %s%s", ErrUnhealthy, a.Job, a.Name, roughly(late), why)
		}
	}
	return nil
}
