package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"popferry/fetcher/config"
)

const (
	settling   = 10 * time.Second // changes that follow each other within it are told together
	betweenTwo = time.Minute      // messages to one place are at least so far apart
	lastTry    = time.Hour        // pauses before a place that did not answer is tried again grow up to this
	drainTime  = 10 * time.Second // to tell what is left when Run ends
	saveDelay  = 5 * time.Second  // what is remembered is on disk after so long
)

// Notifier tells people when accounts begin to fail, work again, or need
// somebody. Fill it in, call Use and Run, and let it know of every pass; none of
// its methods waits for anybody, and all are safe for concurrent use.
//
// It compares how things are with what each place was told, and tells the
// difference. So a change is told once, however often it is seen; a place that
// could not be reached hears of what still holds when it can; and what came and
// went in the meantime nobody hears of. What was told is remembered in File, so
// that a restart, or a run from cron, repeats nothing.
//
// healthchecks is another matter: a ping for every pass, see heartbeat.
type Notifier struct {
	File string                           // what was told, beside the state; "" remembers nothing
	Log  *slog.Logger                     // nil for none
	Env  func(name string) (string, bool) // of which commands see harmless variables; nil for none
	HTTP http.RoundTripper                // nil is the network

	mu        sync.Mutex
	zone      *time.Location
	memory    memory
	attention []Problem
	places    []*place
	changed   chan struct{} // Use was called
	dirty     chan struct{} // memory differs from File

	saving sync.Mutex
	logged sync.Map // by place: a failure is logged once, until it works again
}

// place is somebody to tell: an entry of notify.
type place struct {
	*config.Notify
	name string        // "notify 1 (ntfy)", for logs, and what File calls it
	wake chan struct{} // something may be to tell; of size 1
	beat *heartbeat    // of healthchecks, else nil
}

// Use says who is to be told, and of what, from now on. It may be called again
// while Run runs, with another configuration.
func (n *Notifier) Use(c *config.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init()
	n.zone = c.Location
	for name := range n.memory.Accounts {
		if c.Accounts[name] == nil {
			delete(n.memory.Accounts, name)
		}
	}
	n.places = nil
	for i, to := range c.Notify {
		p := &place{Notify: to, name: fmt.Sprintf("notify %d (%s)", i+1, to.Type), wake: make(chan struct{}, 1)}
		if to.Type == "healthchecks" {
			p.beat = newHeartbeat()
		}
		n.places = append(n.places, p)
	}
	signal(n.changed)
}

// init makes the channels, once. n is locked.
func (n *Notifier) init() {
	if n.changed != nil {
		return
	}
	n.changed, n.dirty = make(chan struct{}, 1), make(chan struct{}, 1)
	n.zone, n.memory = time.UTC, n.recall()
}

// PassStart tells that a pass begins.
func (n *Notifier) PassStart(job, account, pass string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init()
	for _, p := range n.places {
		if p.beat != nil && p.about(job) {
			p.beat.begin(rid(job, account, pass), account)
			signal(p.wake)
		}
	}
}

// PassDone tells how a pass ended. One that was interrupted (exit code 130 or
// 143) says nothing about the account.
func (n *Notifier) PassDone(d Pass) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init()
	if d.Exit == exitInt || d.Exit == exitTerm {
		return
	}
	h := n.memory.Accounts[d.Account]
	if h == nil {
		h = &health{}
		n.memory.Accounts[d.Account] = h
	}
	if before := h.Failures; h.pass(d) != before {
		signal(n.dirty)
	}
	for _, p := range n.places {
		if !p.about(d.Job) {
			continue
		}
		if p.beat != nil {
			p.beat.finish(rid(d.Job, d.Account, d.ID), d)
		}
		signal(p.wake)
	}
}

// Attention tells what needs somebody now, all of it: what was told in earlier
// calls and is missing has been dealt with.
func (n *Notifier) Attention(items []Problem) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init()
	n.attention = items
	for _, p := range n.places {
		if p.beat == nil {
			signal(p.wake)
		}
	}
}

// Run sends until ctx ends, and then what is left, for ten seconds at most.
func (n *Notifier) Run(ctx context.Context) {
	n.mu.Lock()
	n.init()
	n.mu.Unlock()
	var saver sync.WaitGroup
	saver.Go(func() { n.remember(ctx) })
	defer n.save()
	defer saver.Wait()
	for {
		n.round(ctx)
		if ctx.Err() != nil {
			return
		}
	}
}

// round serves the places that there are until others come, or ctx ends.
func (n *Notifier) round(ctx context.Context) {
	n.mu.Lock()
	places := n.places
	select {
	case <-n.changed: // they are these
	default:
	}
	n.mu.Unlock()
	until, stop := context.WithCancel(ctx)
	defer stop()
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var wg sync.WaitGroup
	for _, p := range places {
		wg.Go(func() {
			if p.beat != nil {
				n.ping(until, sending, p)
				return
			}
			n.tell(until, sending, p)
		})
	}
	select {
	case <-ctx.Done():
	case <-n.changed:
	}
	stop()
	late := time.AfterFunc(drainTime, giveUp)
	defer late.Stop()
	wg.Wait()
}

// tell tells one place of changes until ctx ends; sending outlives it.
func (n *Notifier) tell(ctx, sending context.Context, p *place) {
	var next time.Time // when it may be told again
	pause := betweenTwo
	for ctx.Err() == nil {
		if !n.wait(ctx, p, &next, pause > betweenTwo) {
			break
		}
		told := n.difference(sending, p)
		switch {
		case told == nil:
			pause = betweenTwo
		case told.err == nil:
			pause, next = betweenTwo, time.Now().Add(betweenTwo)
		default:
			next, pause = time.Now().Add(pause), min(2*pause, lastTry)
		}
	}
	n.difference(sending, p)
}

// wait waits for something to tell, or if the last attempt failed, until it is
// time for another. It reports false when ctx ended.
func (n *Notifier) wait(ctx context.Context, p *place, next *time.Time, again bool) bool {
	if !again {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return false
		}
		if at := time.Now().Add(settling); at.After(*next) {
			*next = at
		}
	}
	return waitUntil(ctx, *next)
}

// waitUntil waits for a time. It reports false if ctx ended before.
func waitUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt is how telling something went.
type attempt struct{ err error }

// difference tells p what has changed since it was last told, and remembers
// that it knows. It returns nil if nothing has.
func (n *Notifier) difference(ctx context.Context, p *place) *attempt {
	n.mu.Lock()
	told := n.memory.of(p.name)
	changes := told.changes(p, n.memory.Accounts, n.attention, time.Now())
	zone := n.zone
	n.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	a := &attempt{}
	for _, c := range changes {
		if c.wanted(p) {
			if err := n.send(ctx, p, c.notice(time.Now(), zone), httpTries); err != nil {
				a.err = cmp.Or(a.err, err)
				continue
			}
		}
		n.mu.Lock()
		c.note(told)
		n.mu.Unlock()
	}
	n.report(p, a.err)
	n.save()
	return a
}

// report logs that a place cannot be told, once until it can be again.
func (n *Notifier) report(p *place, err error) {
	if err == nil {
		n.logged.Delete(p.name)
		return
	}
	if _, already := n.logged.Swap(p.name, true); !already && n.Log != nil {
		n.Log.Warn("cannot notify, and will try again", "target", p.name, "err", err)
	}
}

// Test tells every place that this is a test, and calls each with the place's
// name and how that went, in the order of the file.
func (n *Notifier) Test(ctx context.Context, each func(name string, err error)) {
	n.mu.Lock()
	places, now := n.places, time.Now().In(n.zone)
	n.mu.Unlock()
	notice := &Notice{
		Event: "test", Time: now, Title: "popferry: a test", Problems: []item{},
		Text: "This is a test of popferry. When something fails, it will be said here.\n",
	}
	for _, p := range places {
		if ctx.Err() != nil {
			return
		}
		each(p.name, n.send(ctx, p, notice, 1))
	}
}

// signal wakes whoever waits for ch, or who will look next.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
