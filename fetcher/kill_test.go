//go:build steps

package fetcher

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// The bounds of what is random in the proof, and its seed.
var (
	pairsFlag   = flag.Int("pairs", 60, "how many pairs of steps to kill at")
	triplesFlag = flag.Int("triples", 40, "how many triples of steps to kill at")
	seedFlag    = flag.Uint64("seed", 1, "seed of what is random in these tests")
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

// steps is how many steps an undisturbed pass has.
func (sc scene) steps(t *testing.T) int {
	s := sc.trial(t, "undisturbed").start()
	defer s.close()
	f := s.kill(1 << 30)
	s.quiesce()
	t.Logf("%s: %d steps: %v", sc.name, len(f.steps), f.steps)
	return len(f.steps)
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

// TestKill_everyStep kills a pass at each of its steps.
func TestKill_everyStep(t *testing.T) {
	var sum tally
	for _, sc := range scenes {
		n := sc.steps(t)
		each(t, n, func(i int) {
			sum.kill(sc.trial(t, fmt.Sprintf("step %d", i+1)).start(), i+1)
		})
	}
	sum.log(t, "every step")
}

// TestKill_combined kills a pass, the one that recovers from it, and the one
// that recovers from that, at random steps.
func TestKill_combined(t *testing.T) {
	t.Logf("seed %d", *seedFlag)
	rnd := rand.New(rand.NewPCG(*seedFlag, 0))
	most := make([]int, len(scenes))
	for i, sc := range scenes {
		most[i] = sc.steps(t)
	}
	for _, c := range []struct{ size, n int }{{2, *pairsFlag}, {3, *triplesFlag}} {
		type combination struct {
			scene int
			at    []int
		}
		list := make([]combination, c.n)
		for i := range list {
			list[i].scene = i % len(scenes)
			for range c.size {
				list[i].at = append(list[i].at, 1+rnd.IntN(most[list[i].scene]))
			}
		}
		var sum tally
		each(t, len(list), func(i int) {
			sc := scenes[list[i].scene]
			sum.kill(sc.trial(t, fmt.Sprintf("steps %v", list[i].at)).start(), list[i].at...)
		})
		sum.log(t, fmt.Sprintf("%d kills each", c.size))
	}
}
