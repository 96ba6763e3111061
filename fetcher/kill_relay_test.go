package fetcher

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/targetstest"
)

// relayTrial is a trial whose target is a relay. From outside it watches that nothing
// comes in without an intent on disk, and no final dot without a commit. Its
// promise is weaker than that of a folder: a message may be there once more for
// every time that its final reply was interrupted, and never where it is held.
type relayTrial struct {
	*scripted
	relay *targetstest.SMTP
	hold  bool

	relays func(targetstest.SMTPCommand) targetstest.SMTPAction // set before a pass; nil is a good server
	excuse int                                                  // so many messages may have lost their final reply in this pass
	loose  []map[targets.Hash]int                               // by place: copies that are not on record
}

// relayScene is a kind of relay to be killed with.
type relayScene struct {
	name       string
	lmtp, hold bool
	rcpt       []string
	keep       Keep
	ext        []string // nil is all
}

var (
	one  = []string{"jane@home.example"}
	both = []string{"jane@home.example", "john@home.example"}

	relayScenes = []relayScene{
		{"smtp, redeliver", false, false, one, Keep{Forever: true}, nil},
		{"smtp, hold, delete", false, true, one, Keep{}, nil},
		{"lmtp, redeliver, delete", true, false, both, Keep{}, nil},
		{"lmtp, hold, one by one", true, true, both, Keep{Forever: true}, []string{"AUTH PLAIN"}},
	}
)

// trial makes a world with its servers running.
func (sc relayScene) trial(t *testing.T, what string, mail ...string) *relayTrial {
	if mail == nil {
		mail = trialMail()
	}
	s := &relayTrial{scripted: newScripted(t, sc.name+": "+what, mail, 0), hold: sc.hold}
	s.ends = s
	s.run.Keep = sc.keep
	s.relay = &targetstest.SMTP{LMTP: sc.lmtp, Extensions: sc.ext, Hook: s.relayed}
	s.start()
	if err := s.relay.Start(); err != nil {
		t.Fatal(err)
	}
	s.run.Targets = []login{{Port: s.relay.Port(), User: targetstest.User, Password: targetstest.Password, Relay: &relay{sc.lmtp, sc.hold, sc.rcpt}}}
	for range sc.rcpt {
		s.extras = append(s.extras, map[targets.Hash]int{})
		s.loose = append(s.loose, map[targets.Hash]int{})
	}
	return s
}

func (s *relayTrial) close() {
	s.relay.Close()
	s.scripted.close()
}

// untraced takes off the field that a relay's messages begin with.
func untraced(body []byte) []byte {
	for range 3 {
		_, body, _ = bytes.Cut(body, []byte("\r\n"))
	}
	return body
}

func (s *relayTrial) stored(place int) map[targets.Hash]int {
	who := s.run.places()[place]
	out := map[targets.Hash]int{}
	for _, m := range s.relay.Messages() {
		if slices.Contains(m.Rcpt, who) {
			out[canonOf(untraced(m.Body))]++
		}
	}
	return out
}

// quiet also counts what came in and is not on record as delivered: that much a
// lost reply excuses, if there was one.
func (s *relayTrial) quiet() {
	s.scripted.quiet()
	s.relay.Ended(s.relay.Count(""))
	for i, who := range s.run.places() {
		recorded := map[targets.Hash]int{}
		err := s.view(func(st *state.Store, _ []int64) error {
			copies, err := st.Copies(context.Background(), "t0", who)
			for _, c := range copies {
				recorded[c.Hash]++
			}
			return err
		})
		if err != nil {
			s.errorf("the state cannot be read: %v", err)
		}
		grown := 0
		for h, n := range s.stored(i) {
			more := n - recorded[h] - s.loose[i][h]
			if grown += more; more > s.source[h] {
				s.errorf("%s got %d copies of %.8s that are not on record, in one interruption", who, more, h)
			}
			if s.loose[i][h] = n - recorded[h]; !s.hold {
				s.extras[i][h] = max(s.extras[i][h], s.loose[i][h])
			}
		}
		if grown > s.excuse {
			s.errorf("%s has %d copies that are not on record, and %d replies were lost", who, grown, s.excuse)
		}
	}
}

func (s *relayTrial) traffic() string {
	return fmt.Sprintf("%s, %d logins and %d MAILs", s.scripted.traffic(), s.relay.Count("AUTH"), s.relay.Count("MAIL"))
}

// relayed sees what the relay is told.
func (s *relayTrial) relayed(c targetstest.SMTPCommand) targetstest.SMTPAction {
	switch {
	case s.careless:
	case c.Verb == "MAIL":
		s.onDisk("MAIL", nil, state.DeliveryIntent, state.DeliveryCommit)
	case c.Verb == ".":
		s.onDisk("the final dot", c.Body, state.DeliveryCommit)
	}
	s.mu.Lock()
	relays := s.relays
	s.mu.Unlock()
	if relays == nil {
		return targetstest.SMTPAction{}
	}
	return relays(c)
}

// onDisk demands that a delivery of the message, if it is known, has one of these
// statuses.
func (s *relayTrial) onDisk(what string, body []byte, want ...state.DeliveryStatus) {
	found := false
	var have []state.DeliveryStatus
	err := s.view(func(st *state.Store, live []int64) error {
		ms, err := st.Messages(context.Background(), live...)
		if err != nil {
			return err
		}
		var alike []int64
		for _, m := range ms {
			if body == nil || m.Content != nil && targets.Hash(m.Hash) == canonOf(untraced(body)) {
				alike = append(alike, m.ID)
			}
		}
		ds, err := st.Deliveries(context.Background(), alike...)
		for _, d := range ds {
			have = append(have, d.Status)
			found = found || slices.Contains(want, d.Status)
		}
		return err
	})
	if err != nil || !found {
		s.errorf("%s comes in, and on disk no delivery is %v, but %v (%v)", what, want, have, err)
	}
}

// interrupted makes a pass that may be disturbed: so many messages may be at the
// relay afterwards and not on record.
func (s *relayTrial) interrupted(excuse int, pass func()) {
	s.excuse = excuse
	pass()
	s.excuse = 0
}

// atOnce is how many messages a kill may find without an outcome on disk: on each
// connection one that waits for its final reply, and the one before, whose outcome
// is on its way to the disk.
const atOnce = 2 * 4

// relayAmbush is a place in the talk with a relay at which the pass is killed.
type relayAmbush struct {
	verb string
	nth  int
	act  targetstest.SMTPAction
}

func (a relayAmbush) String() string {
	return fmt.Sprintf("%s %d, %v", a.verb, a.nth, [...]string{"answered", "not answered", "in the text", "stored", "answered"}[a.act.Cut])
}

func relayAmbushes() (list []relayAmbush) {
	for _, n := range []int{1, 2, 5, 8} {
		for _, verb := range []string{"MAIL", "RCPT", "DATA", "."} {
			list = append(list, relayAmbush{verb, n, targetstest.SMTPAction{Cut: targetstest.CutBefore}})
		}
		list = append(list,
			relayAmbush{"DATA", n, targetstest.SMTPAction{Cut: targetstest.CutLiteral, Octets: 150}},
			relayAmbush{".", n, targetstest.SMTPAction{Cut: targetstest.CutStored}},
			relayAmbush{".", n, targetstest.SMTPAction{}})
	}
	return list
}

// lay makes the relay of s kill the next pass, once.
func (a relayAmbush) lay(s *relayTrial) *relayTrial {
	var fired atomic.Bool
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relays = func(c targetstest.SMTPCommand) targetstest.SMTPAction {
		if c.Verb == a.verb && c.N == a.nth && fired.CompareAndSwap(false, true) {
			s.shoot()
			return a.act
		}
		return targetstest.SMTPAction{}
	}
	return s
}

// TestKill_relayOnTheWire kills a pass in the midst of its talk with a relay.
func TestKill_relayOnTheWire(t *testing.T) {
	type shot struct {
		scene relayScene
		at    relayAmbush
	}
	var list []shot
	for i, sc := range relayScenes {
		for j, a := range relayAmbushes() {
			if withSteps || (i+j)%len(relayScenes) == 0 { // all of each, but not all together
				list = append(list, shot{sc, a})
			}
		}
	}
	var sum relayTally
	each(t, len(list), func(i int) {
		sum.kill(list[i].at.lay(list[i].scene.trial(t, list[i].at.String())), 0)
	})
	sum.log(t, "on the wire")
	if n := sum.kills.Load(); n < int64(len(list))*3/4 {
		t.Errorf("only %d of %d were hit", n, len(list))
	}
	if sum.held.Load() == 0 || sum.extra.Load() == 0 {
		t.Error("nothing was ever held, or nothing doubled: the kills did not hit where it matters")
	}
}

// relayTally sums up what trials came to.
type relayTally struct {
	tally
	extra atomic.Int64
}

func (c *relayTally) kill(s *relayTrial, at ...int) {
	defer s.close()
	c.trials.Add(1)
	for _, n := range at {
		s.interrupted(atOnce, func() {
			if s.kill(n).killed {
				c.kills.Add(1)
			}
		})
	}
	c.held.Add(int64(s.quiesce()))
	for _, more := range s.extras {
		for _, n := range more {
			c.extra.Add(int64(n))
		}
	}
}

func (c *relayTally) log(t *testing.T, what string) {
	t.Logf("%s: %d trials, %d kills, %d messages held, %d copies too many", what, c.trials.Load(), c.kills.Load(), c.held.Load(), c.extra.Load())
}

// TestCut_relay ends the first connection to a relay at every octet of a pass, in
// either direction.
func TestCut_relay(t *testing.T) {
	for i, sc := range relayScenes {
		octets := measureRelay(t, sc)
		for _, way := range []targetstest.Way{targetstest.Up, targetstest.Down} {
			for _, how := range []targetstest.End{targetstest.FIN, targetstest.RST, targetstest.Stall} {
				if !withSteps && (int(way)+int(how)+i)%2 == 0 {
					continue
				}
				name := fmt.Sprintf("%s %s %s", sc.name, [...]string{"up", "down"}[way], [...]string{"FIN", "RST", "stall"}[how])
				t.Run(name, func(t *testing.T) {
					step := cutStep(how)
					n := int(octets[way]/step) + 1
					var unfinished atomic.Int64
					each(t, n, func(i int) {
						if !cutRelay(t, sc, way, how, int64(i)*step) {
							unfinished.Add(1)
						}
					})
					t.Logf("%d octets, cut at %d offsets; %d passes did not finish by themselves", octets[way], n, unfinished.Load())
				})
			}
		}
	}
}

// cuttableRelay is a world of three messages with a proxy before its relay.
func cuttableRelay(t *testing.T, sc relayScene, name string, pick func(n int) (targetstest.Way, int64, targetstest.End)) (*relayTrial, *targetstest.Proxy) {
	s := sc.trial(t, name, trialMail()[1:4]...)
	s.careless = true
	p := &targetstest.Proxy{Pick: pick, Server: s.relay.Addr()}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	s.run.Targets[0].Port = p.Port()
	return s, p
}

func measureRelay(t *testing.T, sc relayScene) [2]int64 {
	s, p := cuttableRelay(t, sc, "undisturbed", nil)
	defer s.close()
	defer p.Close()
	if r, err := s.pass(); err != nil || r.Delivered != 3 {
		t.Fatalf("undisturbed: %v, %+v", err, r)
	}
	return [2]int64{p.Octets(targetstest.Up), p.Octets(targetstest.Down)}
}

// cutRelay reports whether the pass that was cut finished nevertheless. One
// connection was cut, so one message at most lost its final reply.
func cutRelay(t *testing.T, sc relayScene, way targetstest.Way, how targetstest.End, after int64) bool {
	s, p := cuttableRelay(t, sc, fmt.Sprintf("cut at %d", after), func(n int) (targetstest.Way, int64, targetstest.End) {
		if n > 1 {
			return way, -1, how
		}
		return way, after, how
	})
	defer s.close()
	defer p.Close()
	if how == targetstest.Stall {
		s.run.Timeout = 300 * time.Millisecond
	}
	var done bool
	s.interrupted(1, func() {
		r, err := s.pass()
		done = err == nil && r.Delivered == 3
	})
	s.check("after the cut")
	s.run.Timeout = 30 * time.Second
	s.quiesce()
	return done
}
