//go:build steps

package fetcher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/state"
	"popferry/testdata/dovecot"
)

// The bounds of what is random in the proof, and its seed.
var (
	pairsFlag   = flag.Int("pairs", 60, "how many pairs of steps to kill at")
	triplesFlag = flag.Int("triples", 40, "how many triples of steps to kill at")
)

// steps is how many steps an undisturbed pass has.
func (sc scene) steps(t *testing.T) int {
	s := sc.trial(t, "undisturbed")
	defer s.close()
	f := s.kill(1 << 30)
	s.quiesce()
	t.Logf("%s: %d steps", sc.name, len(f.steps))
	return len(f.steps)
}

// TestKill_everyStep kills a pass at each of its steps.
func TestKill_everyStep(t *testing.T) {
	var sum tally
	for _, sc := range scenes {
		n := sc.steps(t)
		each(t, n, func(i int) {
			sum.kill(sc.trial(t, fmt.Sprintf("step %d", i+1)), i+1)
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
			sum.kill(sc.trial(t, fmt.Sprintf("steps %v", list[i].at)), list[i].at...)
		})
		sum.log(t, fmt.Sprintf("%d kills each", c.size))
	}
}

// TestKill_relayEveryStep kills a pass that delivers to a relay at each of its
// steps, and the one that goes on from there at another.
func TestKill_relayEveryStep(t *testing.T) {
	t.Logf("seed %d", *seedFlag)
	rnd := rand.New(rand.NewPCG(*seedFlag, 2))
	var sum relayTally
	for _, sc := range relayScenes {
		s := sc.trial(t, "undisturbed")
		n := len(s.kill(1 << 30).steps)
		s.quiesce()
		s.close()
		again := make([]int, n)
		for i := range again {
			again[i] = 1 + rnd.IntN(n)
		}
		each(t, n, func(i int) {
			at := []int{i + 1}
			if i%3 == 0 {
				at = append(at, again[i])
			}
			sum.kill(sc.trial(t, fmt.Sprintf("steps %v", at)), at...)
		})
	}
	sum.log(t, "every step")
}

// TestDisk_stateEnds closes the state under a pass at every one of its steps.
// The servers watch that nothing comes in from then on that is not on disk.
func TestDisk_stateEnds(t *testing.T) {
	sc := scenes[2]
	for n := 1; !t.Failed(); n++ {
		s := sc.trial(t, fmt.Sprintf("the state ends at step %d", n))
		label, err := s.endAt(n)
		s.check("state closed")
		// What is put in the end, when all is done, is missed by nobody.
		if label != "" && !errors.Is(err, state.ErrClosed) && !strings.HasSuffix(label, "Prune") && label != "K19" {
			s.errorf("%s: the pass ended with %v", label, err)
		}
		s.quiesce()
		s.close()
		if label == "" {
			t.Logf("%d steps", n-1)
			if err != nil || n < 30 {
				t.Errorf("%d steps: %v", n-1, err)
			}
			return
		}
	}
}

// endAt makes a pass whose state is closed at its n-th step, and returns the
// label of that, "" if there were not so many.
func (s *scripted) endAt(n int) (label string, err error) {
	s.tick()
	_, err = s.run.pass(context.Background(), func(st *state.Store) error {
		var mu sync.Mutex
		count := 0
		onStep(func(at string) {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == n && at != "K20" && at != "K21" {
				label = at
				_ = st.Close()
			}
		})
		return nil
	})
	onStep(nil)
	s.quiet()
	return label, err
}

// TestKill_dovecot kills passes between the two ends of a real server, at random
// steps.
func TestKill_dovecot(t *testing.T) {
	t.Logf("seed %d", *seedFlag)
	rnd := rand.New(rand.NewPCG(*seedFlag, 1))
	server := dovecot.Start(t)
	at := make([][2]int, *pairsFlag/2)
	for i := range at {
		at[i] = [2]int{1 + rnd.IntN(56), 1 + rnd.IntN(40)}
	}
	var kills atomic.Int64
	each(t, len(at), func(i int) {
		mail := trialMail()
		s := newReal(newTrial(t, fmt.Sprintf("Dovecot, steps %v", at[i])), server, i, mail[:2])
		defer s.close()
		s.run.Settle = time.Second
		if i%2 == 0 {
			s.run.Keep = Keep{}
		}
		if i%3 > 0 { // an account that had a whole pass before
			if _, err := s.pass(); err != nil {
				s.errorf("first pass: %v", err)
			}
		}
		s.put(mail[1:]...)
		for _, n := range at[i] {
			if s.kill(n).killed {
				kills.Add(1)
			}
		}
		s.quiesce()
	})
	t.Logf("Dovecot: %d trials, %d kills", len(at), kills.Load())
}
