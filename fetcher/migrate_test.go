package fetcher

import (
	"context"
	"errors"
	"fmt"
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
	return f.Migrate(ctx, w.job, w.account, patience)
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
	w.now = w.now.Add(25 * time.Hour)
	if r, err := w.migrate(t.Context(), time.Second, rate); err != nil || r.Delivered != 2 {
		t.Errorf("%v, %+v", err, r)
	}
	w.exactlyOnce()
}
