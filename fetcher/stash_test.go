package fetcher

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets"
)

// consuming is a maildrop that shows ten messages at a time and none that was
// read: row 61.
func consuming(t *testing.T) *world { return consumer(t).start() }

// consumer is consuming before its server starts, for a hook.
func consumer(t *testing.T) *world {
	w := newWorld(t)
	w.spool = t.TempDir()
	w.pop.Consumes, w.pop.Page = true, 10
	w.account.Consumes = true
	w.fill(35)
	return w
}

// noneKept demands that no mail is left behind on disk.
func (w *world) noneKept() {
	w.t.Helper()
	if left, err := os.ReadDir(w.spool); err != nil || len(left) > 0 {
		w.t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// One pass takes all, however little of it a session shows, and is not alarmed
// by what is hidden.
func TestConsumes_wholeMaildrop(t *testing.T) {
	for _, keep := range []Keep{{}, {Forever: true}} {
		t.Run("keep: "+keep.String(), func(t *testing.T) {
			w := consuming(t)
			w.account.Keep = keep
			r := w.mustPass()
			w.exactlyOnce()
			if r.Delivered != 35 || len(r.Warnings) > 0 || w.left() > 0 != keep.Forever {
				t.Errorf("%d on the server, %+v", w.left(), r)
			}
			w.noneKept()
			if r := w.mustPass(); r.New+r.Failed > 0 || len(r.Warnings) > 0 {
				t.Errorf("nothing is new: %+v", r)
			}
		})
	}
}

// What a limit leaves is for the next pass.
func TestConsumes_limit(t *testing.T) {
	w := consuming(t)
	w.account.Limits.Messages = 15
	for i, want := range []int{15, 15, 5} {
		if r := w.mustPass(); r.Delivered != want {
			t.Errorf("pass %d: %+v", i, r)
		}
	}
	w.exactlyOnce()
}

// The server shows a message once. If it cannot be delivered then, it is
// delivered from disk later, and not lost.
func TestConsumes_targetFails(t *testing.T) {
	for _, c := range []struct {
		fault  targets.Fault
		stored bool
	}{{targets.Down, false}, {targets.Transient, false}, {targets.Unsure, false}, {targets.Unsure, true}, {targets.Refused, false}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			w := consuming(t)
			w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
				return &targets.Error{Fault: c.fault, Op: "APPEND", Reply: "NO " + m.MessageID, Err: errors.New("broken")}, c.stored
			}
			for range 2 {
				_, _ = w.pass(t.Context())
			}
			w.target.fault = nil
			// Some may be held by now; their time comes.
			for range 3 {
				w.now = w.now.Add(8 * 24 * time.Hour)
				w.mustPass()
			}
			w.exactlyOnce()
			w.noneKept()
		})
	}
}

// The process dies, or the state does: what was read is on disk.
func TestConsumes_afterDeath(t *testing.T) {
	w := consuming(t)
	st := w.open()
	w.target.before = func(m *targets.Message) {
		if m.MessageID == "<3@x>" {
			st.Close()
		}
	}
	if _, err := w.fetcher(st).Pass(t.Context(), w.job, w.account); err == nil {
		t.Fatal("a dead state was not noticed")
	}
	w.target.before = nil
	r := w.mustPass()
	w.exactlyOnce()
	w.noneKept()
	if r.Failed > 0 {
		t.Errorf("%+v", r)
	}
}

// A connection that breaks takes with it only the message it was sending.
func TestConsumes_cut(t *testing.T) {
	w := consumer(t)
	w.pop.Hook = func(session int, cmd string) maildroptest.Action {
		if session == 1 && strings.HasPrefix(cmd, "RETR 5") {
			return maildroptest.Action{Cut: maildroptest.FIN}
		}
		return maildroptest.Action{}
	}
	w.start()
	w.mustPass()
	w.exactlyOnce()
	w.noneKept()
}

// Where the mail cannot be kept safe, it is not read.
func TestConsumes_noRoom(t *testing.T) {
	w := consuming(t)
	w.spool += "/file"
	if err := os.WriteFile(w.spool, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pass(t.Context()); err == nil || w.saw("RETR") > 0 {
		t.Errorf("%v, %d RETR", err, w.saw("RETR"))
	}
	if err := os.Remove(w.spool); err != nil {
		t.Fatal(err)
	}
	w.mustPass()
	w.exactlyOnce()
}

// A spool that is a link is not written to.
func TestSpool_link(t *testing.T) {
	w := newWorld(t)
	w.add("large", "Subject: x\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 100_000))
	w.start()
	there := t.TempDir()
	w.spool = t.TempDir() + "/spool"
	if err := os.Symlink(there, w.spool); err != nil {
		t.Fatal(err)
	}
	if r := w.mustPass(); r.Failed != 1 {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(w.spool); err != nil {
		t.Fatal(err)
	}
	w.mustPass()
	w.exactlyOnce()
}

// What is kept of a message is not taken for other mail that got the number of
// its row, when the state is lost or the message forgotten.
func TestConsumes_lostState(t *testing.T) {
	w := consuming(t)
	w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Fault: targets.Transient, Op: "APPEND", Reply: "NO later"}, false
	}
	w.mustPass()
	w.target.fault = nil
	if files, err := os.ReadDir(w.spool); err != nil || len(files) != 35 {
		t.Fatalf("%d files kept, %v", len(files), err)
	}
	w.db += ".new"
	w.source = map[targets.Hash]int{} // only Gmail and the spool know of those
	for i := range 9 {
		w.add(fmt.Sprintf("other%d", i), fmt.Sprintf("Message-ID: <other%d@x>\r\n\r\nother\r\n", i))
	}
	w.mustPass() // numbers its rows as they were
	w.exactlyOnce()
}
