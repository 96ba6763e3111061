package targets

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how much may go to a target in a time: N octets, or N messages.
type Rate struct {
	N      int64
	Octets bool
	Per    time.Duration // a second, a minute, an hour or a day
	Text   string        // as it stands in the configuration: "500M/day"
}

// budget tells that a rate counts over so long a time that nobody waits for it:
// when it is used up, the pass ends.
func (r Rate) budget() bool { return r.Per >= time.Hour }

// cost is what a message of so many octets takes of r.
func (r Rate) cost(octets int64) int64 {
	if r.Octets {
		return octets
	}
	return 1
}

// UsedUp is the error of a rate over an hour or a day of which nothing is left.
type UsedUp struct {
	Rate  Rate
	Until time.Time // when it goes on
	now   time.Time
}

// Error says it with the time of day, and with the date if that is another one.
func (u *UsedUp) Error() string {
	layout := "15:04"
	if u.Until.YearDay() != u.now.YearDay() {
		layout = "2006-01-02 15:04"
	}
	return fmt.Sprintf("%s is used up, goes on at %s", u.Rate.Text, u.Until.Format(layout))
}

// Sent is messages that were delivered within about a minute.
type Sent struct {
	At       time.Time
	Messages int64
	Octets   int64
}

// Limiter holds the deliveries to one target to its rates. It is asked before
// the intent of a delivery is recorded: what waits has nothing to recover after
// a kill. Rates up to a minute are waited for. Those over an hour or a day hold
// for every hour or day there is, not from one midnight to the next, and across
// restarts; when one is used up Take fails with a Down error that wraps UsedUp.
// A message larger than all of a rate may go when nothing else has.
//
// It is safe for concurrent use.
type Limiter struct {
	rates []Rate
	now   func() time.Time
	fast  []*rate.Limiter // for the rates that are no budgets, in their order

	mu   sync.Mutex
	sent []Sent // within the longest budget, by time
}

// grain is how exactly the Limiter remembers times.
const grain = time.Minute

// NewLimiter returns a Limiter that knows of nothing that was sent.
func NewLimiter(rates []Rate, now func() time.Time) *Limiter {
	l := &Limiter{rates: rates, now: now}
	for _, r := range rates {
		if !r.budget() {
			perSecond := float64(r.N) / r.Per.Seconds()
			// A second's worth at once keeps within the rate and the line busy.
			l.fast = append(l.fast, rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))))
		}
	}
	return l
}

// Memory is how far back Recall must reach; 0 if there is nothing to recall.
func (l *Limiter) Memory() time.Duration {
	longest := time.Duration(0)
	for _, r := range l.rates {
		if r.budget() {
			longest = max(longest, r.Per)
		}
	}
	return longest
}

// Recall tells what was sent before, in the order of time.
func (l *Limiter) Recall(sent []Sent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(append([]Sent(nil), sent...), l.sent...)
}

// Err returns the error that a Take would meet, nil if there is room.
func (l *Limiter) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rates {
		// The last hundredth is left: beginning a pass for it is not worth the while.
		if err := l.over(r, max(1, r.N/100)); err != nil {
			return err
		}
	}
	return nil
}

// Take asks for one message of so many octets, and waits for its turn.
func (l *Limiter) Take(ctx context.Context, octets int64) error {
	if err := l.spend(octets); err != nil {
		return err
	}
	fast := l.fast
	for _, r := range l.rates {
		if r.budget() {
			continue
		}
		for left := r.cost(octets); left > 0; {
			n := min(left, int64(fast[0].Burst()))
			if err := fast[0].WaitN(ctx, int(n)); err != nil {
				l.Return(octets)
				return &Error{Op: "rate " + r.Text, Err: err}
			}
			left -= n
		}
		fast = fast[1:]
	}
	return nil
}

// spend enters a message into the budgets, if it fits in all of them.
func (l *Limiter) spend(octets int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rates {
		if err := l.over(r, r.cost(octets)); err != nil {
			return err
		}
	}
	memory := l.Memory()
	if memory == 0 {
		return nil
	}
	now := l.now()
	for len(l.sent) > 0 && !l.sent[0].At.After(now.Add(-memory)) {
		l.sent = l.sent[1:]
	}
	at := now.Truncate(grain).Add(grain) // too late rather than too early
	if n := len(l.sent); n == 0 || l.sent[n-1].At.Before(at) {
		l.sent = append(l.sent, Sent{At: at})
	}
	last := &l.sent[len(l.sent)-1]
	last.Messages++
	last.Octets += octets
	return nil
}

// Return gives back what a message took that was not delivered.
func (l *Limiter) Return(octets int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.sent); n > 0 {
		l.sent[n-1].Messages--
		l.sent[n-1].Octets -= octets
	}
}

// over returns why so much more does not fit into a budget.
func (l *Limiter) over(r Rate, cost int64) error {
	if !r.budget() {
		return nil
	}
	now := l.now()
	used := int64(0)
	for _, s := range l.sent {
		if s.At.After(now.Add(-r.Per)) {
			used += r.of(s)
		}
	}
	excess := min(used, used+cost-r.N) // what must be forgotten before it fits
	if excess <= 0 {
		return nil
	}
	u := &UsedUp{Rate: r, Until: now.Add(r.Per), now: now}
	for _, s := range l.sent {
		if s.At.After(now.Add(-r.Per)) {
			if excess -= r.of(s); excess <= 0 {
				u.Until = s.At.Add(r.Per).In(now.Location())
				break
			}
		}
	}
	return &Error{Fault: Down, Op: "rate", After: u.Until.Sub(now), Err: u}
}

// of is what s took of r.
func (r Rate) of(s Sent) int64 {
	if r.Octets {
		return s.Octets
	}
	return s.Messages
}
