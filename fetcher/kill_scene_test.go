package fetcher

import (
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
	name    string
	keep    Keep
	targets int
	caps    string // of the IMAP servers
}

const (
	oneByOne = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS"
	inLine   = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ UIDPLUS"
	noUIDs   = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ MULTIAPPEND"
)

var scenes = []scene{
	{"keep", Keep{Forever: true}, 1, ""},
	{"delete", Keep{}, 1, inLine},
	{"delete, no UIDPLUS", Keep{}, 1, noUIDs},
	{"keep, two targets", Keep{Forever: true}, 2, oneByOne},
	{"delete, two targets", Keep{}, 2, ""},
}

func (sc scene) trial(t *testing.T, what string) *scripted {
	s := newScripted(t, sc.name+": "+what, trialMail(), sc.targets)
	s.run.Keep = sc.keep
	for _, b := range s.boxes {
		b.Caps = sc.caps
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
