package fetcher

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
	"popferry/testdata/dovecot"
)

var (
	stormFlag = flag.Int("storm", 300, "how many messages go through the storm; from 1000 on, through a Dovecot")
	seedFlag  = flag.Uint64("seed", 1, "seed of what is random in these tests")
)

// storm is weather: how often the pass is killed, and after how many octets at
// most a connection is cut.
type storm struct {
	min, max time.Duration
	octets   int64
	mu       sync.Mutex
	rnd      *rand.Rand
	cuts     int
}

// pick spoils every other connection.
func (w *storm) pick(int) (targetstest.Way, int64, targetstest.End) {
	w.mu.Lock()
	defer w.mu.Unlock()
	way, how := targetstest.Way(w.rnd.IntN(2)), targetstest.End(w.rnd.IntN(2)) // FIN or RST
	if w.rnd.IntN(2) == 0 {
		return way, -1, how
	}
	w.cuts++
	return way, w.rnd.Int64N(w.octets), how
}

func (w *storm) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.min + time.Duration(w.rnd.Int64N(int64(w.max-w.min)))
}

// stormMail makes n messages of so many lines at most; every hundredth is like
// the one before.
func stormMail(n, lines int, rnd *rand.Rand) []string {
	mail := make([]string, n)
	for i := range mail {
		if i%100 == 99 {
			mail[i] = mail[i-1]
			continue
		}
		body := strings.Repeat("a line of a message that is like many others\r\n", 1+rnd.IntN(lines))
		mail[i] = fmt.Sprintf("Message-ID: <%d@storm>\r\nSubject: %d\r\n\r\n%s", i, i, body)
	}
	return mail
}

// idleChild returns how long a pass takes that has nothing to do: a storm that
// always kills sooner would never end.
func idleChild(t *testing.T) time.Duration {
	s := newScripted(t, "idle", nil, 1).start()
	defer s.close()
	begun := time.Now()
	r := s.run
	if f := s.spawn(&r); f.code != childDone {
		t.Errorf("an idle pass ended with %d: %s", f.code, f.out)
	}
	return time.Since(begun)
}

// TestStorm moves mail while the pass is killed and connections are cut at
// random, until a pass lives to its end. What arrived must be what was sent.
func TestStorm(t *testing.T) {
	t.Logf("seed %d", *seedFlag)
	w := &storm{min: 300 * time.Millisecond, max: 900 * time.Millisecond, octets: 64 << 10, rnd: rand.New(rand.NewPCG(*seedFlag, 2))}
	var tr *trial
	var mail []string
	calm := idleChild(t)
	if *stormFlag < 1000 {
		mail = stormMail(*stormFlag, 100, w.rnd)
		s := newScripted(t, "storm", mail, 1)
		s.careless = true
		pace := time.NewTicker(10 * time.Millisecond) // or it would be over before the first kill
		defer pace.Stop()
		s.hook(func(_ int, cmd string) (act maildroptest.Action) {
			if strings.HasPrefix(cmd, "RETR") {
				act.Then = func() {
					select {
					case <-pace.C:
					case <-s.gone():
					}
				}
			}
			return act
		}, nil)
		defer s.start().close()
		tr = s.trial
		tr.run.Settle = 250 * time.Millisecond
	} else {
		w.min, w.max, w.octets = 6*time.Second, 15*time.Second, 32<<20
		mail = stormMail(*stormFlag, 400, w.rnd)
		tr = newTrial(t, "storm")
		defer tr.close()
		newReal(tr, dovecot.Start(t), 0, mail)
		tr.run.Settle = 5 * time.Second
	}
	tr.run.Keep = Keep{}
	for _, port := range []*int{&tr.run.POP.Port, &tr.run.Targets[0].Port} {
		p := &targetstest.Proxy{Server: fmt.Sprintf("127.0.0.1:%d", *port), Pick: w.pick}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		*port = p.Port()
	}
	begun, kills, passes := time.Now(), 0, 0
	for done := false; !done && passes < 1000; passes++ {
		timer := time.AfterFunc(calm+w.pause(), tr.shoot)
		r := tr.run
		f := tr.spawn(&r)
		timer.Stop()
		if f.killed {
			kills++
		}
		done = f.code == childDone && !f.killed
	}
	took := time.Since(begun)
	w.mu.Lock()
	t.Logf("%d messages in %s: %d passes, %d of them killed, %d connections to be cut", len(mail), took.Round(time.Second), passes, kills, w.cuts)
	w.octets = 1 << 40 // calm
	w.mu.Unlock()
	held := tr.quiesce()
	t.Logf("%d messages held for a person", held)
	if kills == 0 {
		t.Error("nothing was killed")
	}
}
