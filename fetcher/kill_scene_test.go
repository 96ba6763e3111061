package fetcher

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// each calls f for every number below n, some at a time, until t has failed.
func each(t *testing.T, n int, f func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !t.Failed(); i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// scene is a kind of world to be killed in.
type scene struct {
	name     string
	keep     Keep
	targets  int    // IMAP servers
	caps     string // of them
	maildirs int
	// later tells that the account had a whole pass before. A first pass compares
	// with what lies in the target, and so forgives more.
	later bool
}

const (
	oneByOne = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS"
	inLine   = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ UIDPLUS"
	noUIDs   = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ MULTIAPPEND"
)

var scenes = []scene{
	{name: "keep, first pass", keep: Keep{Forever: true}, targets: 1, caps: inLine},
	{name: "keep", keep: Keep{Forever: true}, targets: 1, later: true},
	{name: "delete", targets: 1, caps: inLine, later: true},
	{name: "delete, no UIDPLUS", targets: 1, caps: noUIDs, later: true},
	{name: "keep, two targets", keep: Keep{Forever: true}, targets: 2, caps: oneByOne, later: true},
	{name: "delete, two targets", targets: 2, later: true},
	{name: "delete, two targets, first pass", targets: 2},
	{name: "delete, Maildir", maildirs: 1, later: true},
	{name: "keep, Maildir, first pass", keep: Keep{Forever: true}, maildirs: 1},
	{name: "delete, IMAP and Maildir", targets: 1, caps: inLine, maildirs: 1, later: true},
}

// trial makes a world with its servers running.
func (sc scene) trial(t *testing.T, what string) *scripted {
	mail := trialMail()
	first := mail
	if sc.later {
		first = mail[:2]
	}
	s := newScripted(t, sc.name+": "+what, first, sc.targets)
	s.run.Keep = sc.keep
	for _, b := range s.boxes {
		b.Caps = sc.caps
	}
	s.start()
	for range sc.maildirs {
		s.addMaildir()
	}
	if sc.later {
		if r, err := s.pass(); err != nil || r.Delivered != len(first) {
			s.errorf("first pass: %v, %+v", err, r)
		}
		// One of them is like one that has been delivered already.
		for i, raw := range mail[1:] {
			s.add(fmt.Sprintf("v%04d", i), raw)
		}
	}
	return s
}

// tally sums up what trials came to.
type tally struct{ kills, trials, held atomic.Int64 }

func (c *tally) kill(s *scripted, at ...int) {
	defer s.close()
	c.trials.Add(1)
	for _, n := range at {
		if s.kill(n).killed {
			c.kills.Add(1)
		}
	}
	c.held.Add(int64(s.quiesce()))
}

func (c *tally) log(t *testing.T, what string) {
	t.Logf("%s: %d trials, %d kills, %d messages held for a person in the end", what, c.trials.Load(), c.kills.Load(), c.held.Load())
}
