package fetcher

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/targets/targetstest"
)

// ambush is a place on the wire at which a server kills the pass that talks to
// it: what lies between two steps of the engine.
type ambush struct {
	name string
	pop  map[string]popShot // by command
	imap imapShot
	nth  int // APPEND
}

type (
	popShot  func(s *scripted) maildroptest.Action
	imapShot func(s *scripted) targetstest.Action
)

// shots at the POP3 server. Those that return what to say are fired before it is
// said.
var (
	beforeReply popShot = func(s *scripted) maildroptest.Action { s.shoot(); return maildroptest.Action{} }
	inBody      popShot = func(s *scripted) maildroptest.Action {
		return maildroptest.Action{Reply: "+OK\r\nSubject: cut", Then: s.shoot}
	}
	afterReply    popShot = func(s *scripted) maildroptest.Action { return maildroptest.Action{Then: s.shoot} }
	withoutEffect popShot = func(s *scripted) maildroptest.Action {
		s.shoot()
		return maildroptest.Action{NoCommit: true}
	}
)

// shots at the IMAP server, when the line of an APPEND has come in.
var (
	nothingStored imapShot = func(s *scripted) targetstest.Action {
		s.shoot()
		return targetstest.Action{Cut: targetstest.CutBefore}
	}
	inLiteral imapShot = func(s *scripted) targetstest.Action {
		s.shoot()
		return targetstest.Action{Cut: targetstest.CutLiteral, Octets: 20}
	}
	whatCameStored imapShot = func(s *scripted) targetstest.Action { s.shoot(); return targetstest.Action{} }
)

func ambushes() (list []ambush) {
	pop := func(name, cmd string, shot popShot) {
		list = append(list, ambush{name: name + " " + cmd, pop: map[string]popShot{cmd: shot}})
	}
	for _, n := range []int{1, 3, 8} {
		pop("K4", fmt.Sprintf("RETR %d", n), beforeReply)
		pop("K5", fmt.Sprintf("RETR %d", n), inBody)
		pop("K15", fmt.Sprintf("DELE %d", n), beforeReply)
		pop("K15, answered,", fmt.Sprintf("DELE %d", n), afterReply)
	}
	pop("K17", "QUIT", beforeReply)
	pop("K17, without effect,", "QUIT", withoutEffect)
	pop("K18", "QUIT", afterReply)
	for _, n := range []int{1, 2, 3, 5, 8} {
		list = append(list,
			ambush{name: fmt.Sprintf("K9 APPEND %d", n), imap: nothingStored, nth: n},
			ambush{name: fmt.Sprintf("K10 APPEND %d", n), imap: inLiteral, nth: n},
			ambush{name: fmt.Sprintf("K11 APPEND %d", n), imap: whatCameStored, nth: n})
	}
	return list
}

// lay makes the servers of s wait for the next pass, once.
func (a ambush) lay(s *scripted, target int) *scripted {
	var fired atomic.Bool
	before := 0
	if a.imap != nil {
		before = s.boxes[target].Count("APPEND")
	}
	s.hook(func(_ int, cmd string) maildroptest.Action {
		if shot := a.pop[cmd]; shot != nil && fired.CompareAndSwap(false, true) {
			return shot(s)
		}
		return maildroptest.Action{}
	}, func(i int, c targetstest.Command) targetstest.Action {
		if a.imap != nil && i == target && c.Verb == "APPEND" && c.N == before+a.nth && fired.CompareAndSwap(false, true) {
			return a.imap(s)
		}
		return targetstest.Action{}
	})
	return s
}

// TestKill_onTheWire kills a pass in the midst of commands.
func TestKill_onTheWire(t *testing.T) {
	type shot struct {
		scene scene
		at    ambush
	}
	var list []shot
	for i, sc := range scenes {
		for j, a := range ambushes() {
			if sc.targets == 0 && a.imap != nil {
				continue
			}
			if withSteps || (i+j)%len(scenes) == 0 { // all of each, but not all together
				list = append(list, shot{sc, a})
			}
		}
	}
	var sum tally
	each(t, len(list), func(i int) {
		sc, a := list[i].scene, list[i].at
		sum.kill(a.lay(sc.trial(t, a.name), sc.targets-1), 0)
	})
	sum.log(t, "on the wire")
	if n := sum.kills.Load(); n < int64(len(list))/2 {
		t.Errorf("only %d of %d were hit", n, len(list))
	}
}

// TestKill_lateCommit kills a pass while its target is slow: the server stores
// what it was sent when the next pass has already begun. That pass must not send
// anything again before the server had its time.
func TestKill_lateCommit(t *testing.T) {
	s := scenes[1].trial(t, "late commit")
	defer s.close()
	var (
		late, stored = make(chan struct{}), make(chan struct{})
		mu           sync.Mutex
		killed       bool
	)
	s.hook(nil, func(_ int, c targetstest.Command) (act targetstest.Action) {
		if c.Verb != "APPEND" {
			return act
		}
		mu.Lock()
		defer mu.Unlock()
		if !killed {
			killed = true
			s.shoot()
			act.Late = late
			return act
		}
		select {
		case <-stored:
		default:
			s.errorf("sent again before the server had time to store it")
		}
		return act
	})
	s.run.Settle = 1500 * time.Millisecond
	if f := s.kill(0); !f.killed {
		t.Fatalf("not killed: %s", f.out)
	}
	time.AfterFunc(s.run.Settle/10, func() { close(late); close(stored) })
	s.quiesce()
	<-stored
}

// TestKill_twins kills a pass when one of two identical messages is stored and
// the other is not, and nobody was told: the one copy must not pass for both.
func TestKill_twins(t *testing.T) {
	twin := trialMail()[1]
	s := newScripted(t, "twins", []string{twin, twin}, 1)
	defer s.close()
	s.boxes[0].Caps = inLine
	s.hook(nil, func(_ int, c targetstest.Command) (act targetstest.Action) {
		if c.Verb == "APPEND" && c.N == 1 {
			s.await(state.DeliveryIntent, 2)
			s.shoot()
			act.Cut = targetstest.CutStored
		}
		return act
	})
	s.start()
	if f := s.kill(0); !f.killed {
		t.Errorf("not killed: %s", f.out)
	}
	if n := len(s.boxes[0].Messages("INBOX")); n != 1 {
		t.Errorf("%d stored when it was killed", n)
	}
	s.quiesce()
}

// TestKill_claimed kills a pass when one of two identical messages is stored and
// on record, and the other is not stored: what the first has claimed must not
// pass for the second.
func TestKill_claimed(t *testing.T) {
	twin := trialMail()[1]
	s := newScripted(t, "claimed", []string{twin, twin}, 1)
	defer s.close()
	s.boxes[0].Caps = inLine
	s.hook(nil, func(_ int, c targetstest.Command) (act targetstest.Action) {
		switch {
		case c.Verb == "APPEND" && c.N == 1:
			s.await(state.DeliveryIntent, 2)
		case c.Verb == "APPEND" && c.N == 2:
			act.Wait, act.Cut = make(chan struct{}), targetstest.CutBefore
			go func() {
				defer close(act.Wait) // while it waits, the first reply is on its way
				s.await(state.DeliveryDelivered, 1)
				s.shoot()
			}()
		}
		return act
	})
	s.start()
	if f := s.kill(0); !f.killed {
		t.Errorf("not killed: %s", f.out)
	}
	s.hook(nil, nil)
	s.quiesce()
}

// await waits until so many deliveries on disk have a status, or the child has
// ended.
func (s *scripted) await(status state.DeliveryStatus, n int) {
	for have := 0; have < n; {
		have = 0
		err := s.view(func(st *state.Store, live []int64) error {
			ds, err := st.Deliveries(context.Background(), live...)
			have = count(ds, func(d state.Delivery) bool { return d.Status == status })
			return err
		})
		if err != nil {
			s.errorf("waiting for %d %s: %v", n, status, err)
			return
		}
		select {
		case <-s.gone():
			return
		default:
		}
	}
}
