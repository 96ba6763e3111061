package targets

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	perDay  = Rate{N: 500 << 20, Octets: true, Per: 24 * time.Hour, Text: "500M/day"}
	perHour = Rate{N: 100, Per: time.Hour, Text: "100/h"}
)

// clock is a time that stands still.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func noon() *clock { return &clock{time.Date(2026, 11, 22, 12, 0, 30, 0, time.FixedZone("", 3600))} }

// usedUp demands that err is a used-up rate, and returns it.
func usedUp(t *testing.T, err error) *UsedUp {
	t.Helper()
	u, ok := errors.AsType[*UsedUp](err)
	if !ok || FaultOf(err) != Down {
		t.Fatalf("%v is no used-up rate", err)
	}
	return u
}

func TestLimiter_budget(t *testing.T) {
	c := noon()
	l := NewLimiter([]Rate{perDay, perHour}, c.now)
	if l.Memory() != 24*time.Hour {
		t.Errorf("memory %v", l.Memory())
	}
	for i := range 100 {
		if err := l.Take(t.Context(), 1<<20); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	err := l.Take(t.Context(), 1)
	if u := usedUp(t, err); u.Rate != perHour || u.Error() != "100/h is used up, goes on at 13:01" {
		t.Errorf("%+v: %v", u.Rate, u)
	}
	if e := err.(*Error); e.After != time.Hour+30*time.Second || e.Error() != "rate: 100/h is used up, goes on at 13:01" {
		t.Errorf("after %v: %v", e.After, e)
	}
	if l.Err() == nil {
		t.Error("Err does not say so")
	}
	c.t = c.t.Add(time.Hour + 29*time.Second)
	usedUp(t, l.Take(t.Context(), 1))
	c.t = c.t.Add(time.Second)
	if err := l.Err(); err != nil {
		t.Error(err)
	}
	// 100 MiB of 500 are gone.
	if err := l.Take(t.Context(), 399<<20); err != nil {
		t.Fatal(err)
	}
	u := usedUp(t, l.Take(t.Context(), 2<<20))
	// The 100 at noon go first, and with them there is room enough.
	if u.Rate != perDay || u.Error() != "500M/day is used up, goes on at 2026-11-23 12:01" {
		t.Errorf("%+v: %v", u.Rate, u)
	}
	if err := l.Take(t.Context(), 1<<20); err != nil {
		t.Errorf("a smaller one fits: %v", err)
	}
	if err := l.Err(); err == nil {
		t.Error("the last hundredth is worth a pass")
	}
}

// TestLimiter_recall: what a process before has sent counts.
func TestLimiter_recall(t *testing.T) {
	c := noon()
	l := NewLimiter([]Rate{perDay}, c.now)
	l.Recall([]Sent{
		{At: c.t.Add(-25 * time.Hour), Messages: 1, Octets: 1 << 40},
		{At: c.t.Add(-20 * time.Hour), Messages: 9, Octets: 300 << 20},
		{At: c.t.Add(-10 * time.Hour).UTC(), Messages: 9, Octets: 100 << 20},
	})
	if err := l.Take(t.Context(), 100<<20); err != nil {
		t.Fatal(err)
	}
	for _, need := range []struct {
		octets int64
		until  time.Duration
	}{{1, 4 * time.Hour}, {300 << 20, 4 * time.Hour}, {301 << 20, 14 * time.Hour}, {401 << 20, 24*time.Hour + 30*time.Second}} {
		if u := usedUp(t, l.Take(t.Context(), need.octets)); !u.Until.Equal(c.t.Add(need.until)) {
			t.Errorf("%d octets: goes on at %v, want in %v", need.octets, u.Until, need.until)
		}
	}
}

// TestLimiter_large: a message larger than the whole rate goes when nothing else
// has gone, or it would never.
func TestLimiter_large(t *testing.T) {
	c := noon()
	l := NewLimiter([]Rate{{N: 1000, Octets: true, Per: time.Hour, Text: "1000/h"}}, c.now)
	if err := l.Take(t.Context(), 5000); err != nil {
		t.Fatal(err)
	}
	usedUp(t, l.Take(t.Context(), 1))
	c.t = c.t.Add(2 * time.Hour)
	if err := l.Take(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if u := usedUp(t, l.Take(t.Context(), 5000)); !u.Until.Equal(c.t.Add(time.Hour + 30*time.Second)) {
		t.Errorf("goes on at %v", u.Until)
	}
}

// TestLimiter_returned: what was not stored costs nothing.
func TestLimiter_returned(t *testing.T) {
	l := NewLimiter([]Rate{perHour}, noon().now)
	for range 1000 {
		if err := l.Take(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		l.Return(1)
	}
	NewLimiter([]Rate{{N: 1, Per: time.Second}}, noon().now).Return(1) // has no memory
}

// TestLimiter_concurrent: all callers together get what there is, and no more.
func TestLimiter_concurrent(t *testing.T) {
	l := NewLimiter([]Rate{perHour}, noon().now)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range 500 {
		wg.Go(func() {
			if l.Take(t.Context(), 1) == nil {
				mu.Lock()
				got++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got != 100 {
		t.Errorf("%d of 500 went, want 100", got)
	}
}

// TestLimiter_waits: a rate up to a minute is waited for, in turn.
func TestLimiter_waits(t *testing.T) {
	for _, c := range []struct {
		name    string
		rate    Rate
		octets  int64
		n       int
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"100 messages a minute", Rate{N: 100, Per: time.Minute}, 1 << 30, 201, 119 * time.Second, 121 * time.Second},
		{"2 MiB a second", Rate{N: 2 << 20, Octets: true, Per: time.Second}, 1 << 20, 21, 9 * time.Second, 10 * time.Second},
		{"one larger than a second's worth", Rate{N: 2 << 20, Octets: true, Per: time.Second}, 20 << 20, 1, 9 * time.Second, 10 * time.Second},
		{"a message a minute", Rate{N: 1, Per: time.Minute}, 1, 3, 2 * time.Minute, 2*time.Minute + time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLimiter([]Rate{c.rate, {N: 1 << 40, Octets: true, Per: time.Second}}, time.Now)
				if l.Memory() != 0 || l.Err() != nil {
					t.Errorf("memory %v, %v", l.Memory(), l.Err())
				}
				start := time.Now()
				for i := range c.n {
					if err := l.Take(t.Context(), c.octets); err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
				}
				if took := time.Since(start); took < c.atLeast || took > c.atMost {
					t.Errorf("took %v, want %v to %v", took, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// TestLimiter_cancelled: the end of the context ends the wait, is nobody's fault,
// and what waited has used nothing.
func TestLimiter_cancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter([]Rate{{N: 2, Per: time.Hour, Text: "2/h"}, {N: 1, Per: time.Minute, Text: "1/min"}}, time.Now)
		if err := l.Take(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		start := time.Now()
		err := l.Take(ctx, 1)
		if !errors.Is(err, context.Canceled) || FaultOf(err) != Transient || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := l.Take(t.Context(), 1); err != nil {
			t.Errorf("the one that was cancelled counts: %v", err)
		}
		usedUp(t, l.Take(t.Context(), 1))
	})
}
