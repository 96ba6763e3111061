package fetcher

import (
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/rules"
)

// isQuiet reports whether the next pass need not look at the messages, if the
// listing stays as it is.
func (w *world) isQuiet() bool {
	w.t.Helper()
	st := w.open()
	defer st.Close()
	a, err := st.Account(w.t.Context(), w.account.Source())
	if err != nil {
		w.t.Fatal(err)
	}
	return a.FirstPassDone && len(a.ListHash) > 0 && w.now.Before(a.QuietUntil)
}

// An account is quiet exactly while there is nothing to do, and whatever ends
// that is noticed.
func TestQuiet(t *testing.T) {
	w := newWorld(t).start()
	w.fill(5)
	w.account.Keep = Keep{For: 30 * 24 * time.Hour}
	quiet := func(want bool, what string) {
		t.Helper()
		if w.isQuiet() != want {
			t.Errorf("%s: quiet is %v", what, !want)
		}
	}
	quiet(false, "before the first pass")
	w.mustPass()
	quiet(true, "after it")
	tops := w.saw("TOP")
	if r := w.mustPass(); r.OnServer != 5 || r.Left != 5 || r.New+r.Failed != 0 {
		t.Errorf("%+v", r)
	}
	quiet(true, "after another one")

	w.add("new", "Message-ID: <new@x>\r\n\r\nx\r\n")
	if r := w.mustPass(); r.Delivered != 1 {
		t.Errorf("something new: %+v", r)
	}
	quiet(true, "after something new")

	w.pop.Remove("jane", "u002")
	w.source[canonOf([]byte("Message-ID: <2@x>\r\nSubject: 2\r\n\r\nbody 2\r\n"))] = 1
	w.mustPass()
	quiet(false, "a message is missing, and may come back")
	w.now = w.now.Add(25 * time.Hour)
	w.mustPass()
	w.mustPass()
	quiet(true, "it is gone for good")

	w.account.Keep = Keep{For: 7 * 24 * time.Hour}
	w.mustPass()
	w.now = w.now.Add(6 * 24 * time.Hour)
	if w.saw("TOP") != tops {
		t.Error("something was verified before it was time")
	}
	if r := w.mustPass(); r.Deleted != 5 {
		t.Errorf("the time of the others has come: %+v", r)
	}
	w.exactlyOnce()
}

// What failed, is held, or is left alone for its size may change without the
// listing.
func TestQuiet_never(t *testing.T) {
	var broken atomic.Bool
	for name, set := range map[string]func(*world){
		"large":      func(w *world) { w.account.Limits.MaxSize = 20 },
		"limit":      func(w *world) { w.account.Limits.Messages = 2 },
		"newest":     func(w *world) { w.account.Keep = Keep{Forever: true, Newest: 2} },
		"until full": func(w *world) { w.account.Keep = Keep{Forever: true, UntilFull: 1 << 20} },
		"consumes":   func(w *world) { w.account.Consumes = true },
		"delete":     func(w *world) { w.account.Keep = Keep{} },
		"held": func(w *world) {
			w.mustPass()
			st := w.open()
			defer st.Close()
			k, err := st.Known(t.Context(), w.account.Source())
			if err == nil {
				err = st.Put(t.Context(), state.Forgotten{Account: k.Account.ID, Messages: []int64{k.Messages[0].ID}})
			}
			if err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.fill(5)
			broken.Store(false)
			w.pop.Hook = func(session int, cmd string) maildroptest.Action {
				if !broken.Load() {
					return maildroptest.Action{}
				}
				return says("RETR 1", "-ERR [SYS/PERM] damaged\r\n")(session, cmd)
			}
			w.start()
			set(w)
			w.mustPass()
			if w.isQuiet() && w.left() > 0 {
				t.Error("it is quiet")
			}
		})
	}
}

// TestQuiet_final: that nothing is left to do where rules count for nothing does not
// say that there is nothing where they count, nor the other way round.
func TestQuiet_final(t *testing.T) {
	w := newWorld(t).start()
	w.obey(rules.Rule{Name: "short", Then: rules.Then{Keep: &rules.Keep{For: 24 * time.Hour}}})
	w.fill(3)
	w.account.Keep = Keep{Forever: true, Final: true}
	w.mustPass()
	w.now = w.now.Add(48 * time.Hour)
	if r := w.mustPass(); r.Deleted != 0 || !w.isQuiet() {
		t.Fatalf("%+v", r)
	}
	w.account.Keep = Keep{Forever: true}
	if r := w.mustPass(); r.Deleted != 3 || w.left() != 0 {
		t.Errorf("%+v", r)
	}
}
