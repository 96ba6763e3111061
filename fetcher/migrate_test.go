package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets"
)

// migrate runs one migration as a process of its own would.
func (w *world) migrate(ctx context.Context, patience time.Duration, change func(*Fetcher)) (Report, error) {
	w.t.Helper()
	st := w.open()
	defer st.Close()
	f := w.fetcher(st)
	if change != nil {
		change(f)
	}
	m, err := f.Migrate(ctx, w.job, w.account, MigrateOptions{Patience: patience})
	return m.Report, err
}

// waits returns the Waiting events.
func (w *world) waits() (list []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == Waiting {
			list = append(list, e)
		}
	}
	return list
}

// TestMigrate_goesOn: connections that break again and again, more often than a
// pass puts up with, end no migration as long as something moves.
func TestMigrate_goesOn(t *testing.T) {
	w := newWorld(t)
	set := w.hooked()
	w.fill(30)
	w.start()
	set(func(session int, cmd string) maildroptest.Action {
		if session <= 10 && strings.HasPrefix(cmd, fmt.Sprintf("RETR %d", 2*session)) {
			return maildroptest.Action{Cut: maildroptest.RST, At: 10}
		}
		return maildroptest.Action{}
	})
	r, err := w.migrate(t.Context(), 2*time.Second, nil)
	if err != nil || r.Delivered != 30 || r.New < 30 || r.Failed+r.Held != 0 || r.Folders["home"]["INBOX"] != 30 {
		t.Errorf("%v, %+v", err, r)
	}
	waits := w.waits()
	if len(waits) < 2 {
		t.Fatalf("%d waits: a pass gives up after %d lost connections", len(waits), reconnects)
	}
	var me *maildrop.Error
	if e := waits[0]; e.Job != w.job.Name || e.Account != "isp" || !e.Until.After(w.now) || !errors.As(e.Err, &me) || me.Kind != maildrop.Lost {
		t.Errorf("%+v", e)
	}
	w.exactlyOnce()
}

// TestMigrate_targetReturns: a target that takes nothing for a while ends no
// migration either.
func TestMigrate_targetReturns(t *testing.T) {
	w := newWorld(t)
	w.fill(5)
	w.start()
	n := 0
	w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
		if n++; n > 1 && n < 4 {
			return &targets.Error{Fault: targets.Down, Op: "APPEND", Reply: "NO [UNAVAILABLE] later"}, false
		}
		return nil, false
	}
	r, err := w.migrate(t.Context(), 2*time.Second, nil)
	if err != nil || r.Delivered != 5 || r.Failed != 0 || len(r.Down) != 0 {
		t.Errorf("%v, %+v", err, r)
	}
	var te *TargetError
	if waits := w.waits(); len(waits) == 0 || !errors.As(waits[0].Err, &te) || te.Target != "home" {
		t.Errorf("%+v", w.waits())
	}
	w.exactlyOnce()
}

// TestMigrate_ends: what only a person can change ends it at once, in whichever
// server it is; what may pass by itself does when nothing has moved for too long.
func TestMigrate_ends(t *testing.T) {
	full := &targets.Error{Fault: targets.Down, Op: "APPEND", Reply: "NO [OVERQUOTA] full"}
	for _, c := range []struct {
		name  string
		set   func(w *world)
		want  string // of the error
		waits bool
		moved int
	}{
		{"password", func(w *world) { w.pop.AddUser("jane", "another") }, "login refused", false, 0},
		{"full", func(w *world) {
			w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
				if w.target.next["INBOX"] == 3 {
					return full, false
				}
				return nil, false
			}
		}, "home: " + full.Error(), false, 3},
		{"no directory", func(w *world) {
			w.target.away = &targets.Error{Fault: targets.Down, Op: `folder "INBOX"`, Err: fmt.Errorf("mkdir: %w", fs.ErrNotExist)}
		}, "home: folder \"INBOX\": mkdir: " + fs.ErrNotExist.Error(), false, 0},
		{"away", func(w *world) {
			w.target.away = &targets.Error{Fault: targets.Down, Op: "EXAMINE", Reply: "NO [UNAVAILABLE] later"}
		}, "home: EXAMINE: NO [UNAVAILABLE] later", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.fill(5)
			w.start()
			c.set(w)
			r, err := w.migrate(t.Context(), 400*time.Millisecond, nil)
			text := fmt.Sprint(err)
			if me, ok := errors.AsType[*maildrop.Error](err); ok {
				text = me.Kind.String()
			}
			if text != c.want || (len(w.waits()) > 0) != c.waits || r.Delivered != c.moved || w.left() != 5 {
				t.Errorf("%v (%s), %d waits, %+v", err, text, len(w.waits()), r)
			}
		})
	}
}

// TestMigrate_patience: who has mistyped a host learns it soon, and who has moved
// something already is waited for.
func TestMigrate_patience(t *testing.T) {
	w := newWorld(t)
	set := w.hooked()
	w.fill(2)
	w.start()
	began := time.Now()
	set(func(int, string) maildroptest.Action { return maildroptest.Action{Cut: maildroptest.FIN} })
	if _, err := w.migrate(t.Context(), 10*time.Second, nil); err == nil {
		t.Error("no error")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("gave up after %v", took)
	}
	w.events = nil
	began = time.Now()
	set(func(session int, cmd string) maildroptest.Action {
		if strings.HasPrefix(cmd, "RETR 2") {
			return maildroptest.Action{Cut: maildroptest.FIN}
		}
		return maildroptest.Action{}
	})
	r, err := w.migrate(t.Context(), time.Second, nil)
	if took := time.Since(began); err == nil && r.Held == 0 || r.Delivered != 1 || took < time.Second/2 && r.Held == 0 {
		t.Errorf("%v, %+v after %v", err, r, took)
	}
}

// TestMigrate_refused: a message that the target does not want is tried as often
// as in passes, and then held: that is no failure of the migration.
func TestMigrate_refused(t *testing.T) {
	w := newWorld(t)
	w.fill(5)
	w.start()
	tries := 0
	w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
		if m.MessageID == "<2@x>" {
			tries++
			return &targets.Error{Fault: targets.Refused, Op: "APPEND", Reply: "NO too odd"}, false
		}
		return nil, false
	}
	r, err := w.migrate(t.Context(), 2*time.Second, nil)
	if err != nil || r.Delivered != 4 || r.Held != 1 || r.Failed != 0 || tries != deliveryCharges {
		t.Errorf("%v, %d tries, %+v", err, tries, r)
	}
}

// TestMigrate_rates: a rate that is used up is waited for, for as many days as it
// takes, and the events tell until when.
func TestMigrate_rates(t *testing.T) {
	w := newWorld(t)
	w.fill(10)
	w.start()
	days := 0
	r, err := w.migrate(t.Context(), time.Second, func(f *Fetcher) {
		f.Rates = map[string][]targets.Rate{"home": {fourADay}}
		seen := f.Event
		f.Event = func(e Event) {
			if seen(e); e.Kind != Waiting {
				return
			}
			if days++; e.Err == nil || !strings.Contains(e.Err.Error(), "4/day is used up") || e.Until.Before(w.now.Add(23*time.Hour)) {
				t.Errorf("%+v", e)
			}
			w.now = e.Until
		}
	})
	if err != nil || days != 2 || r.Delivered != 10 || r.More || r.Skipped != 0 {
		t.Errorf("%v after %d days, %+v", err, days, r)
	}
	w.exactlyOnce()
}

// TestMigrate_limits: what bounds one pass bounds no migration.
func TestMigrate_limits(t *testing.T) {
	w := newWorld(t)
	w.fill(10)
	w.start()
	w.account.Limits.Messages = 3
	r, err := w.migrate(t.Context(), time.Second, nil)
	if err != nil || r.Delivered != 10 || r.New != 10 || r.More || len(w.waits()) != 0 || w.kinds()[PassEnd] != 4 {
		t.Errorf("%v, %v, %+v", err, w.kinds(), r)
	}
}

// TestMigrate_stops: a signal ends it while it waits, and the next one goes on.
func TestMigrate_stops(t *testing.T) {
	w := newWorld(t)
	w.fill(6)
	w.start()
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	rate := func(f *Fetcher) {
		f.Rates = map[string][]targets.Rate{"home": {fourADay}}
		seen := f.Event
		f.Event = func(e Event) {
			if seen(e); e.Kind == Waiting {
				cancel(stop)
			}
		}
	}
	if r, err := w.migrate(ctx, time.Second, rate); !errors.Is(err, stop) || r.Delivered != 4 {
		t.Errorf("%v, %+v", err, r)
	}
	w.estimates("2/82 new of 6/246, 4 moved, 0 held, 0 left, 0 expired; 0 of 2 there; home:INBOX 4")
	// Nothing is known of a rate any more: what it has put off goes now.
	if r, err := w.migrate(t.Context(), time.Second, nil); err != nil || r.Delivered != 2 {
		t.Errorf("%v, %+v", err, r)
	}
	w.exactlyOnce()
}

// compared is a migration that compares and deletes.
func (w *world) compared(keep Keep) (Migrated, error) {
	w.t.Helper()
	st := w.open()
	defer st.Close()
	w.account.Keep = keep
	return w.fetcher(st).Migrate(w.t.Context(), w.job, w.account, MigrateOptions{Patience: 2 * time.Second, Compare: true, Deep: true})
}

// TestMigrate_deletesWhatWasCompared: not before, and nothing at all if anything is
// lacking but what is held.
func TestMigrate_deletesWhatWasCompared(t *testing.T) {
	w := newWorld(t)
	set := w.hooked()
	w.fill(5)
	w.start()
	refuse := func(m *targets.Message, _ targets.Dest) (error, bool) {
		if m.MessageID == "<4@x>" {
			return &targets.Error{Fault: targets.Refused, Op: "APPEND", Reply: "NO too odd"}, false
		}
		return nil, false
	}
	w.target.fault = refuse
	order := ""
	set(func(_ int, cmd string) maildroptest.Action {
		for _, verb := range []string{"DELE", "TOP", "RETR"} {
			if strings.HasPrefix(cmd, verb) && !strings.HasSuffix(order, verb) {
				order += verb
			}
		}
		return maildroptest.Action{}
	})
	w.target.before = func(m *targets.Message) { // somebody takes one away as soon as it is there
		if m.MessageID == "<3@x>" {
			go w.target.remove("INBOX", "body 1")
		}
	}
	m, err := w.compared(Keep{Forever: true})
	if err != nil || m.Delivered != 4 || m.Held != 1 || m.Deleted != 0 || m.Proof == nil {
		t.Fatalf("%v, %+v", err, m)
	}
	w.target.before = nil
	w.target.remove("INBOX", "body 1")
	m, err = w.compared(Keep{})
	lacking := m.Lacking()
	if err != nil || len(lacking) != 1 || lacking[0].UIDL != "u001" || lacking[0].Held || len(m.Proof.Doubts) != 2 || m.Deleted != 0 || w.left() != 5 {
		t.Fatalf("%v, %+v, %+v", err, lacking, m)
	}
	w.target.add(targets.Dest{}, []byte("Message-ID: <1@x>\r\nSubject: 1\r\n\r\nbody 1\r\n"))
	order = ""
	m, err = w.compared(Keep{})
	if err != nil || len(m.Lacking()) != 0 || m.Deleted != 4 || m.Held != 1 || w.left() != 1 || m.Left != 1 {
		t.Fatalf("%v, %+v", err, m)
	}
	if at := strings.Index(order, "DELE"); at < 0 || strings.Contains(order[at:], "RETR") {
		t.Errorf("the order is %s", order)
	}
	if got := w.kinds(); got[Comparing] != 3 || got[Compared] != 3 {
		t.Errorf("%v", got)
	}
}

// TestMigrate_deletesNothingElse: what comes while both sides are compared is
// brought over, too, but stays: nobody has compared it.
func TestMigrate_deletesNothingElse(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	w.start()
	w.target.unlisted = func(n int) error {
		if n == 2 { // the first lists what lies there for the pass
			w.add("late", "Message-ID: <late@x>\r\nSubject: late\r\n\r\nlate\r\n")
		}
		return nil
	}
	m, err := w.compared(Keep{})
	if err != nil || m.Delivered != 4 || m.Deleted != 3 || w.left() != 1 {
		t.Errorf("%v, %d left, %+v", err, w.left(), m)
	}
	w.target.unlisted = nil
	if m, err = w.compared(Keep{}); err != nil || m.Deleted != 1 || w.left() != 0 {
		t.Errorf("%v, %d left, %+v", err, w.left(), m)
	}
	w.exactlyOnce()
}

// TestMigrate_consumes: where a message is shown once, it must be deleted by the
// pass that has it, if at all.
func TestMigrate_consumes(t *testing.T) {
	w := newWorld(t)
	w.pop.Consumes = true
	w.account.Consumes = true
	w.fill(3)
	w.start()
	m, err := w.compared(Keep{})
	if err != nil || m.Delivered != 3 || m.Deleted != 3 || w.left() != 0 || len(m.Lacking()) != 0 {
		t.Errorf("%v, %+v", err, m)
	}
	w.exactlyOnce()
}

// TestMigrate_compareAgain: a server that is in trouble while both sides are
// compared is waited for, too; one that stays so ends it.
func TestMigrate_compareAgain(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	w.start()
	fails := 2
	w.target.unlisted = func(n int) error {
		if n > 1 && fails > 0 { // the first lists what lies there for the pass
			fails--
			return &targets.Error{Fault: targets.Down, Op: "FETCH", Reply: "NO [UNAVAILABLE] later"}
		}
		return nil
	}
	m, err := w.compared(Keep{Forever: true})
	if err != nil || m.Proof == nil || len(m.Lacking()) != 0 || len(w.waits()) != 2 {
		t.Errorf("%v, %d waits, %+v", err, len(w.waits()), m)
	}
	w.target.unlisted = func(int) error {
		return &targets.Error{Fault: targets.Down, Op: "FETCH", Reply: "NO [UNAVAILABLE] later"}
	}
	var te *TargetError
	if m, err = w.compared(Keep{}); !errors.As(err, &te) || m.Deleted != 0 || w.left() != 3 {
		t.Errorf("%v, %+v", err, m)
	}
}

// TestMigrate_loginDelay: pauses that the server wants between logins are kept
// between passes, and before both sides are compared.
func TestMigrate_loginDelay(t *testing.T) {
	w := newWorld(t)
	w.pop.Caps = append(slices.Clone(maildroptest.DefaultCaps), "LOGIN-DELAY 1")
	w.fill(2)
	w.start()
	began := time.Now()
	m, err := w.compared(Keep{Forever: true})
	if err != nil || len(m.Lacking()) != 0 {
		t.Fatalf("%v, %+v", err, m)
	}
	if waits := w.waits(); len(waits) != 1 || !strings.Contains(waits[0].Reason, "LOGIN-DELAY") || time.Since(began) < 2*time.Second {
		t.Errorf("after %v: %+v", time.Since(began), waits)
	}
}

// TestMigrate_mistyped: nobody is to wait for a server that is not there.
func TestMigrate_mistyped(t *testing.T) {
	w := newWorld(t)
	w.fill(1)
	w.start()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	w.account.Maildrop.Port = nobody.Addr().(*net.TCPAddr).Port
	if r, err := w.migrate(t.Context(), time.Hour, nil); err == nil || len(w.waits()) != 0 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestMigrate_compareListed: what the last pass has listed need not be listed again
// to be compared, unless a message must be seen.
func TestMigrate_compareListed(t *testing.T) {
	for _, c := range []struct {
		name     string
		options  MigrateOptions
		change   func(w *world)
		sessions int
		lacking  int
	}{
		{"ids and sizes", MigrateOptions{Compare: true}, nil, 1, 0},
		{"contents, of which the state has the hashes", MigrateOptions{Compare: true, Deep: true}, nil, 1, 0},
		{"one is missing, and to be described", MigrateOptions{Compare: true}, func(w *world) { w.target.remove("INBOX", "body 2") }, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.fill(5)
			w.start()
			w.mustPass()
			if c.change != nil {
				c.change(w)
			}
			before := w.pop.Sessions()
			st := w.open()
			defer st.Close()
			m, err := w.fetcher(st).Migrate(t.Context(), w.job, w.account, c.options)
			if err != nil || m.Proof.Messages != 5 || len(m.Lacking()) != c.lacking || w.pop.Sessions()-before != c.sessions {
				t.Errorf("%v, %d sessions, %+v", err, w.pop.Sessions()-before, m.Proof)
			}
			if c.lacking > 0 && m.Lacking()[0].Subject != "2" {
				t.Errorf("%+v", m.Lacking())
			}
		})
	}
}

// TestMigrate_hidden: servers list a part of a maildrop now and then. What was not
// listed was not compared, and is not deleted when it is listed again.
func TestMigrate_hidden(t *testing.T) {
	w := newWorld(t)
	w.fill(12)
	w.start()
	w.mustPass()
	raw := "Message-ID: <3@x>\r\nSubject: 3\r\n\r\nbody 3\r\n"
	w.pop.Remove("jane", "u003")
	w.target.remove("INBOX", "body 3") // which a comparison would find
	st := w.open()
	defer st.Close()
	f := w.fetcher(st)
	seen := f.Event
	f.Event = func(e Event) {
		if seen(e); e.Kind == Compared {
			w.pop.Add("jane", "u003", []byte(raw))
		}
	}
	w.account.Keep = Keep{}
	m, err := f.Migrate(t.Context(), w.job, w.account, MigrateOptions{Compare: true})
	if err != nil || m.Proof.Messages != 11 || m.Deleted != 11 || w.left() != 1 {
		t.Errorf("%v, %d left, %+v", err, w.left(), m)
	}
}
