package fetcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

func TestPass_refused(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(5)
	poison := func(m *targets.Message, _ targets.Dest) (error, bool) {
		if m.MessageID == "<2@x>" {
			return &targets.Error{Fault: targets.Refused, Op: `APPEND to "INBOX"`, Reply: "NO Message contains invalid header"}, false
		}
		return nil, false
	}
	w.target.fault = poison
	for i := range 3 {
		r := w.mustPass()
		if left := w.left(); left != 1 || r.Failed+r.Held != 1 {
			t.Fatalf("pass %d: %d left, %+v", i+1, left, r)
		}
	}
	if k := w.kinds(); k[Failed] != 2 || k[Held] != 1 || k[Delivered] != 4 {
		t.Errorf("%v", k)
	}
	retr := w.saw("RETR")
	if r := w.mustPass(); r.Held != 1 || r.Failed != 0 || w.saw("RETR") != retr {
		t.Errorf("a held message is left alone: %+v", r)
	}
	w.target.fault = nil
	w.now = w.now.Add(time.Hour)
	if r := w.mustPass(); r.Delivered != 1 || w.left() != 0 {
		t.Errorf("its time has come: %+v, %d left", r, w.left())
	}
	w.exactlyOnce()
}

// A target that cannot even be reached says nothing about a message.
func TestPass_targetAway(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(5)
	w.target.away = &targets.Error{Fault: targets.Down, Op: "login", Reply: "NO [UNAVAILABLE] later"}
	for range 5 {
		if r := w.mustPass(); r.Failed == 0 || r.Held != 0 || w.left() != 5 {
			t.Fatalf("%+v", r)
		}
	}
	w.target.away = nil
	if r := w.mustPass(); r.Delivered != 5 || w.left() != 0 {
		t.Errorf("%+v, %d left", r, w.left())
	}
	w.exactlyOnce()
}

func TestPass_targetDown(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(5)
	w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Fault: targets.Down, Op: `APPEND to "INBOX"`, Reply: "NO [OVERQUOTA] Quota exceeded"}, false
	}
	for range 5 { // more often than a message may be charged
		if r := w.mustPass(); r.Failed == 0 || r.Held != 0 || w.left() != 5 {
			t.Fatalf("%+v", r)
		}
	}
	w.target.fault = nil
	w.mustPass()
	w.exactlyOnce()
	if w.left() != 0 {
		t.Errorf("%d left", w.left())
	}
}

// A target that refuses all in the same words has trouble of its own: nobody
// is held for that.
func TestPass_refusesEverything(t *testing.T) {
	w := newWorld(t).start()
	w.fill(20)
	w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Fault: targets.Refused, Op: `APPEND to "INBOX"`, Reply: "NO Internal error occurred"}, false
	}
	for i := range 6 {
		if r := w.mustPass(); r.Held != 0 || r.Failed == 0 {
			t.Fatalf("pass %d: %+v", i+1, r)
		}
	}
	w.target.fault = nil
	w.mustPass()
	w.exactlyOnce()
}

// The connection to the target breaks after the message was sent: it is looked
// up, not sent again, and the pass goes on.
func TestPass_unsure(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			w := newWorld(t).start()
			w.account.Keep = Keep{}
			w.fill(6)
			broken := false
			w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
				if m.MessageID == "<3@x>" && !broken {
					broken = true
					return &targets.Error{Fault: targets.Unsure, Op: `APPEND to "INBOX"`, Err: errors.New("connection reset")}, stored
				}
				return nil, false
			}
			r := w.mustPass()
			w.exactlyOnce()
			if w.left() != 0 || stored != (r.Recovered == 1) {
				t.Errorf("%d left, %+v", w.left(), r)
			}
		})
	}
}

// Deliveries that a dead process left open are resolved before anything else.
func TestPass_afterDeath(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			w := newWorld(t).start()
			w.fill(6)
			// A pass whose store dies between the answer and its record.
			st, err := state.Open(context.Background(), w.db, state.Options{})
			if err != nil {
				t.Fatal(err)
			}
			w.target.before = func(m *targets.Message) {
				if m.MessageID == "<3@x>" {
					st.Close()
				}
			}
			w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
				if m.MessageID == "<3@x>" && !stored {
					return &targets.Error{Fault: targets.Unsure, Op: `APPEND to "INBOX"`, Err: errors.New("killed")}, false
				}
				return nil, false
			}
			_, err = w.fetcher(st).Pass(context.Background(), w.job, w.account)
			if err == nil {
				t.Fatal("a dead store was not noticed")
			}
			w.target.before, w.target.fault = nil, nil
			w.mustPass()
			w.exactlyOnce()
		})
	}
}

func TestPass_maildropFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		hook func(session int, cmd string) maildroptest.Action
		keep Keep
		left int
	}{
		{"FIN before a reply", cutAt("RETR 4", maildroptest.FIN, 0), Keep{}, 0},
		{"RST inside a body", cutAt("RETR 4", maildroptest.RST, 30), Keep{}, 0},
		{"FIN inside a body, kept", cutAt("RETR 4", maildroptest.FIN, 50), Keep{Forever: true}, 9},
		{"cut at DELE", cutAt("DELE 3", maildroptest.RST, 0), Keep{}, 0},
		{"QUIT refused", func(session int, cmd string) maildroptest.Action {
			if session == 1 && cmd == "QUIT" {
				return maildroptest.Action{Reply: "-ERR some deleted messages not removed\r\n", NoCommit: true}
			}
			return maildroptest.Action{}
		}, Keep{}, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.pop.Hook = c.hook
			w.start()
			w.account.Keep = c.keep
			w.fill(9)
			r, err := w.pass(context.Background())
			if err != nil {
				t.Fatalf("%v %+v", err, r)
			}
			w.exactlyOnce()
			if w.left() != c.left {
				t.Errorf("%d left, want %d; %v", w.left(), c.left, w.pop.Log())
			}
			w.mustPass()
			w.exactlyOnce()
			if want := map[bool]int{true: 9}[c.keep.Forever]; w.left() != want {
				t.Errorf("%d left after the next pass", w.left())
			}
		})
	}
}

// cutAt cuts the first session at a command, n octets into its reply.
func cutAt(cmd string, how maildroptest.Cut, n int) func(int, string) maildroptest.Action {
	return func(session int, got string) maildroptest.Action {
		if session == 1 && got == cmd {
			return maildroptest.Action{Cut: how, At: n}
		}
		return maildroptest.Action{}
	}
}

// -ERR to one RETR is that message's problem and nobody else's.
func TestPass_retrRefused(t *testing.T) {
	w := newWorld(t)
	w.pop.Hook = func(_ int, cmd string) maildroptest.Action {
		if cmd == "RETR 2" {
			return maildroptest.Action{Reply: "-ERR cannot open message\r\n"}
		}
		return maildroptest.Action{}
	}
	w.start()
	w.fill(4)
	for i, want := range []string{"failed", "failed", "held", "left alone"} {
		r := w.mustPass()
		got := map[bool]string{true: "failed"}[r.Failed == 1]
		if r.Held == 1 {
			got = "held"
			if w.saw("RETR 2") == i {
				got = "left alone"
			}
		}
		if got != want {
			t.Errorf("pass %d: %q, want %q: %+v", i+1, got, want, r)
		}
	}
	if w.target.count("INBOX") != 3 {
		t.Errorf("%d delivered", w.target.count("INBOX"))
	}
}

func TestPass_interrupted(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(300)
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	w.target.before = func(*targets.Message) { once.Do(cancel) }
	r, err := w.pass(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	// What was delivered is deleted, the rest is as it was.
	if done := w.target.count("INBOX"); done == 0 || r.Deleted != done || w.left() != 300-done {
		t.Errorf("%d delivered, %d left, %+v", done, w.left(), r)
	}
	w.target.before = nil
	w.mustPass()
	w.exactlyOnce()
}

func TestPass_dryRun(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{For: day}
	w.fill(3)
	f := w.fetcher(nil)
	f.DryRun = true
	if _, err := f.Pass(context.Background(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	if k := w.kinds(); k[Planned] != 3 || len(w.target.folders) != 0 || w.target.marks != 0 || w.saw("RETR")+w.saw("DELE") != 0 {
		t.Errorf("%v", k)
	}
	w.mustPass()
	w.now = w.now.Add(2 * day)
	w.events = nil
	st, err := state.View(context.Background(), w.db)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f = w.fetcher(st)
	f.DryRun = true
	if _, err := f.Pass(context.Background(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	if k := w.kinds(); k[Planned] != 3 || w.left() != 3 || w.events[2].Reason == "" {
		t.Errorf("%v", k)
	}
}

func TestPass_busy(t *testing.T) {
	w := newWorld(t).start()
	w.fill(1)
	st, err := state.Open(context.Background(), w.db, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f := w.fetcher(st)
	var second error
	w.target.before = func(*targets.Message) { _, second = f.Pass(context.Background(), w.job, w.account) }
	if _, err := f.Pass(context.Background(), w.job, w.account); err != nil || !errors.Is(second, ErrBusy) {
		t.Errorf("%v, %v", err, second)
	}
}

// A rule's folder that the target does not want must not hold up the mail.
func TestPass_folderRefused(t *testing.T) {
	w := newWorld(t).start()
	w.job.Rules, _ = rules.Compile([]rules.Rule{{Name: "x", Then: rules.Then{Folders: []string{"Not.Allowed"}}}})
	w.target.refuses = map[string]bool{"Not.Allowed": true}
	w.fill(2)
	r := w.mustPass()
	if w.target.count("INBOX") != 2 || len(r.Warnings) == 0 {
		t.Errorf("%+v", r)
	}
	w.exactlyOnce()
}

// A message whose delivery always breaks the connection is held after three
// interruptions, the last two of them alone; the others arrive.
func TestPass_alwaysInterrupted(t *testing.T) {
	w := newWorld(t).start()
	w.fill(20)
	company := 0
	w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
		if m.MessageID == "<7@x>" {
			company++
			return &targets.Error{Fault: targets.Unsure, Op: `APPEND to "INBOX"`, Reply: "BYE Invalid character in literal"}, false
		}
		return nil, false
	}
	w.mustPass()
	r := w.mustPass()
	if company != 3 || r.Held != 1 || w.kinds()[Held] != 1 {
		t.Errorf("sent %d times, %+v, %v", company, r, w.kinds())
	}
	if n := w.target.count("INBOX"); n != 19 {
		t.Errorf("%d delivered", n)
	}
	if r := w.mustPass(); company != 3 || r.Held != 1 || r.Failed != 0 {
		t.Errorf("held, and still sent: %d, %+v", company, r)
	}
}

// Two identical messages need two copies, also where the server tells no UID
// and one of them is already known to be there.
func TestPass_twinsWithoutUIDPLUS(t *testing.T) {
	for _, stored := range []bool{true, false} {
		w := newWorld(t).start()
		w.target.noUIDs = true
		const twin = "Subject: twin\r\n\r\nthe same\r\n"
		w.add("a", twin)
		w.mustPass()
		w.add("b", twin)
		broken := false
		w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
			if !broken {
				broken = true
				return &targets.Error{Fault: targets.Unsure, Op: "APPEND", Err: errors.New("reset")}, stored
			}
			return nil, false
		}
		w.mustPass()
		w.mustPass()
		w.exactlyOnce()
	}
}

// Reading a message crashes the process, time and again: it is held, and the
// others arrive.
func TestPass_crashesReading(t *testing.T) {
	w := newWorld(t).start()
	w.fill(6)
	for range 3 {
		// What a crash leaves behind: attempts counted, nothing else.
		st, err := state.Open(context.Background(), w.db, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		known, err := st.Known(context.Background(), sourceOf(w.account))
		if err != nil {
			t.Fatal(err)
		}
		if known.Account.ID == 0 {
			if err := st.Put(context.Background(), state.Listed{Account: &state.Account{Source: sourceOf(w.account), Name: "isp"}, New: []*state.Message{{UIDL: "u003", Size: 41}}, Count: 1, At: w.now}); err != nil {
				t.Fatal(err)
			}
			known, _ = st.Known(context.Background(), sourceOf(w.account))
		}
		if err := st.Put(context.Background(), state.Fetching{Messages: []int64{known.Messages[0].ID}}); err != nil {
			t.Fatal(err)
		}
		st.Close()
	}
	r := w.mustPass()
	if r.Delivered != 5 || r.Held != 1 || w.saw("RETR 4") != 0 {
		t.Errorf("%+v", r)
	}
	w.now = w.now.Add(time.Hour)
	w.mustPass()
	w.exactlyOnce()
}
