package fetcher

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
)

// side is the connection that is cut.
type side int

const (
	popSide side = iota
	imapSide
)

func (s side) String() string { return [...]string{"POP3", "IMAP"}[s] }

// cutStep is the distance between the offsets at which connections are cut. A
// build with steps leaves none out, others look at a few.
func cutStep(how targetstest.End) int64 {
	switch {
	case how == targetstest.Stall && withSteps:
		return 19 // each costs a timeout
	case how == targetstest.Stall:
		return 307
	case withSteps:
		return 1
	}
	return 61
}

// cuttable is a world of three messages with a proxy before one of its servers.
func cuttable(t *testing.T, name string, at side, pick func(n int) (targetstest.Way, int64, targetstest.End)) (*scripted, *targetstest.Proxy) {
	s := newScripted(t, name, trialMail()[1:4], 1)
	s.careless = true
	s.run.Keep = Keep{}
	s.start()
	p := &targetstest.Proxy{Pick: pick, Server: s.boxes[0].Addr()}
	port := &s.run.Targets[0].Port
	if at == popSide {
		p.Server, port = fmt.Sprintf("127.0.0.1:%d", s.pop.Port()), &s.run.POP.Port
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	*port = p.Port()
	return s, p
}

// measure returns how many octets a pass sends over a connection, each way, and
// how many of them go before the login is over.
func measure(t *testing.T, at side) (octets, login [2]int64) {
	s, p := cuttable(t, "undisturbed", at, nil)
	defer s.close()
	defer p.Close()
	now := func() [2]int64 { return [2]int64{p.Octets(targetstest.Up), p.Octets(targetstest.Down)} }
	s.hook(func(_ int, cmd string) maildroptest.Action {
		if cmd == "STAT" {
			login = now()
		}
		return maildroptest.Action{}
	}, nil)
	if r, err := s.pass(); err != nil || r.Deleted != 3 {
		t.Fatalf("undisturbed: %v, %+v", err, r)
	}
	if at == imapSide {
		login = [2]int64{}
	}
	return now(), login
}

// TestCut ends the first connection to a server at every octet of a pass that
// fetches, delivers and deletes three messages, in either direction.
func TestCut(t *testing.T) {
	for _, at := range []side{popSide, imapSide} {
		octets, login := measure(t, at)
		for _, way := range []targetstest.Way{targetstest.Up, targetstest.Down} {
			for _, how := range []targetstest.End{targetstest.FIN, targetstest.RST, targetstest.Stall} {
				name := fmt.Sprintf("%s %s %s", at, [...]string{"up", "down"}[way], [...]string{"FIN", "RST", "stall"}[how])
				t.Run(name, func(t *testing.T) {
					from, step := int64(0), cutStep(how)
					if how == targetstest.Stall {
						from = login[way] // a login may take half a minute whatever the timeout is
					}
					n := int((octets[way]-from)/step) + 1
					var unfinished atomic.Int64
					each(t, n, func(i int) {
						if !cutOnce(t, at, way, how, from+int64(i)*step) {
							unfinished.Add(1)
						}
					})
					t.Logf("%d octets, cut at %d offsets; %d passes did not finish by themselves", octets[way], n, unfinished.Load())
				})
			}
		}
	}
}

// cutOnce reports whether the pass that was cut finished nevertheless.
func cutOnce(t *testing.T, at side, way targetstest.Way, how targetstest.End, after int64) bool {
	s, p := cuttable(t, fmt.Sprintf("%s cut at %d", at, after), at, func(n int) (targetstest.Way, int64, targetstest.End) {
		if n > 1 {
			return way, -1, how
		}
		return way, after, how
	})
	defer s.close()
	defer p.Close()
	// The server may still be reading what had arrived when it was cut off, and
	// the pass connects again at once: it is kept waiting instead of settling.
	s.hook(nil, func(_ int, c targetstest.Command) targetstest.Action {
		if c.Verb == "" {
			s.boxes[0].Ended(c.N - 1)
		}
		return targetstest.Action{}
	})
	if how == targetstest.Stall {
		s.run.Timeout = 300 * time.Millisecond
	}
	r, err := s.pass()
	s.check("after the cut")
	s.run.Timeout = 30 * time.Second
	s.quiesce()
	return err == nil && r.Deleted == 3
}
