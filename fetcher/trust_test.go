package fetcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
)

var noUIDL = []string{"TOP", "USER", "PIPELINING"}

// replace lets the server list its messages under new UIDLs.
func (w *world) rename(name func(i int, old string) string) {
	ms := w.pop.Messages("jane")
	for i := range ms {
		ms[i].UIDL = name(i, ms[i].UIDL)
	}
	w.pop.SetMessages("jane", ms)
}

// All UIDLs change: nothing is fetched again, nothing is deleted, and what is
// really new arrives.
func TestTrust_reset(t *testing.T) {
	for _, top := range []bool{true, false} {
		t.Run(fmt.Sprintf("TOP=%v", top), func(t *testing.T) {
			w := newWorld(t)
			if !top {
				w.pop.Caps = []string{"UIDL", "USER", "PIPELINING"}
			}
			w.start()
			w.account.Keep = Keep{For: 10 * day}
			w.fill(30)
			w.add("twin1", "Subject: twin\r\n\r\nx\r\n")
			w.add("twin2", "Subject: twin\r\n\r\nx\r\n")
			w.mustPass()
			retr := w.saw("RETR")
			w.rename(func(i int, _ string) string { return fmt.Sprintf("new-%d", i) })
			w.add("newcomer", "Subject: newcomer\r\n\r\nx\r\n")
			w.now = w.now.Add(11 * day)
			r := w.mustPass()
			w.exactlyOnce()
			if top && w.saw("RETR") != retr+1 {
				t.Errorf("%d fetched again", w.saw("RETR")-retr-1)
			}
			if r.Deleted != 0 {
				t.Errorf("deleted by a listing that cannot be trusted: %+v", r)
			}
			retr = w.saw("RETR")
			if r = w.mustPass(); r.Deleted != 32 || w.left() != 1 || top && w.saw("RETR") != retr {
				t.Errorf("the pass after that: %+v, %d left", r, w.left())
			}
			w.exactlyOnce()
		})
	}
}

// New mail under the UIDL of old mail is fetched, and never deleted unfetched.
func TestTrust_reuse(t *testing.T) {
	for _, keep := range []Keep{{Forever: true}, {}, {For: day}} {
		t.Run(keep.String(), func(t *testing.T) {
			w := newWorld(t).start()
			w.account.Keep = keep
			w.fill(5)
			w.mustPass()
			w.pop.Remove("jane", "u002")
			w.add("u002", "Subject: the UIDL is old, the mail is new\r\n\r\nx\r\n")
			w.now = w.now.Add(2 * day)
			w.mustPass()
			w.exactlyOnce()
			for _, line := range w.pop.Log() {
				if strings.HasPrefix(line, "2: DELE") && w.saw("RETR") < 6 {
					t.Errorf("deleted unfetched: %s", line)
				}
			}
			w.mustPass()
			w.exactlyOnce()
		})
	}
}

// A LIST size that changes for the same message is no reason to fetch it again.
func TestTrust_sizeChanges(t *testing.T) {
	w := newWorld(t).start()
	w.fill(3)
	w.mustPass()
	ms := w.pop.Messages("jane")
	ms[1].Size = "9999"
	w.pop.SetMessages("jane", ms)
	if r := w.mustPass(); r.New != 0 || w.saw("TOP") != 1 {
		t.Errorf("%+v, %d TOP", r, w.saw("TOP"))
	}
	w.exactlyOnce()
}

// A server that marks what it has shown changes the size and the octets of a
// message: it is still the same message, and may be deleted.
func TestTrust_statusHeader(t *testing.T) {
	for _, top := range []bool{true, false} {
		w := newWorld(t)
		if !top {
			w.pop.Caps = []string{"UIDL", "USER", "PIPELINING"}
		}
		w.start()
		w.account.Keep = Keep{For: day}
		w.fill(12)
		w.mustPass()
		ms := w.pop.Messages("jane")
		for i := range ms {
			ms[i].Body = append([]byte("Status: RO\r\nX-UIDL: abc\r\n"), ms[i].Body...)
		}
		w.pop.SetMessages("jane", ms)
		if r := w.mustPass(); r.New != 0 || r.Delivered != 0 {
			t.Errorf("TOP=%v: %+v", top, r)
		}
		w.now = w.now.Add(day)
		if r := w.mustPass(); r.Deleted != 12 || w.left() != 0 {
			t.Errorf("TOP=%v: %+v, %d left", top, r, w.left())
		}
		w.exactlyOnce()
	}
}

func TestTrust_duplicateUIDLs(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{For: day}
	for i := range 3 {
		w.add("same", fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i))
	}
	w.add("other", "Subject: other\r\n\r\nx\r\n")
	w.mustPass()
	w.exactlyOnce()
	w.now = w.now.Add(day)
	if r := w.mustPass(); r.Deleted != 1 || w.left() != 3 {
		t.Errorf("%+v, %d left", r, w.left())
	}
	w.exactlyOnce()

	w = newWorld(t).start()
	w.account.Keep = Keep{}
	w.add("same", "Subject: 1\r\n\r\nx\r\n")
	w.add("same", "Subject: 2\r\n\r\nx\r\n")
	if w.mustPass(); w.left() != 0 {
		t.Errorf("fetched on this connection, and %d left", w.left())
	}
	w.exactlyOnce()
}

func TestTrust_noUIDL(t *testing.T) {
	w := newWorld(t)
	w.pop.Caps = noUIDL
	w.start()
	w.fill(4)
	w.add("", "Subject: twin\r\n\r\nx\r\n")
	w.add("", "Subject: twin\r\n\r\nx\r\n")
	w.mustPass()
	w.exactlyOnce()
	retr := w.saw("RETR")
	w.add("", "Subject: late\r\n\r\nx\r\n")
	if r := w.mustPass(); r.New != 1 || w.saw("RETR") != retr+1 {
		t.Errorf("%+v", r)
	}
	w.exactlyOnce()
}

func TestTrust_neitherUIDLNorTOP(t *testing.T) {
	w := newWorld(t)
	w.pop.Caps = []string{"USER"}
	w.start()
	w.fill(2)
	if _, err := w.pass(context.Background()); !errors.Is(err, errNoUIDL) || w.saw("RETR") != 0 {
		t.Errorf("%v, %d RETR", err, w.saw("RETR"))
	}
}

// RETR returns another message than the one that was asked for, once: it is
// noticed by its size and fetched again over a new connection.
func TestTrust_wrongMessage(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		t.Run(fmt.Sprintf("stubborn=%v", stubborn), func(t *testing.T) {
			w := newWorld(t)
			w.pop.Hook = func(session int, cmd string) maildroptest.Action {
				if session == 1 && cmd == "RETR 25" || session == 2 && cmd == "RETR 1" && stubborn {
					return maildroptest.Action{Reply: "+OK\r\nSubject: not this one\r\n\r\n.\r\n"}
				}
				return maildroptest.Action{}
			}
			w.start()
			w.account.Keep = Keep{}
			w.fill(30)
			r := w.mustPass()
			if !stubborn {
				w.exactlyOnce()
				if w.left() != 0 {
					t.Errorf("%d left", w.left())
				}
				return
			}
			left := w.pop.Messages("jane")
			if len(left) != 1 || left[0].UIDL != "u024" || r.Delivered != 30 || len(r.Warnings) == 0 {
				t.Errorf("%v left, %+v", left, r)
			}
			if w.now = w.now.Add(99 * day); w.mustPass().Deleted != 0 || w.left() != 1 {
				t.Error("a suspect was deleted")
			}
		})
	}
}

// A server whose sizes are estimates is believed in nothing, and suspected of
// nothing.
func TestTrust_sizesAreEstimates(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(60)
	ms := w.pop.Messages("jane")
	for i := range ms {
		if i%3 == 0 {
			ms[i].Size = "1024"
		}
	}
	w.pop.SetMessages("jane", ms)
	w.mustPass()
	w.exactlyOnce()
	if w.left() != 0 || w.saw("RETR") != 60 {
		t.Errorf("%d left, %d RETR", w.left(), w.saw("RETR"))
	}
}

func TestTrust_partialListing(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{For: 100 * day}
	w.fill(50)
	w.mustPass()
	all := w.pop.Messages("jane")
	for _, n := range []int{0, 3, 20, 50} {
		w.pop.SetMessages("jane", all[:n])
		w.now = w.now.Add(2 * day)
		if r := w.mustPass(); r.New != 0 || r.Deleted != 0 {
			t.Errorf("%d of 50 listed: %+v", n, r)
		}
	}
	w.exactlyOnce()
	if w.saw("RETR") != 50 {
		t.Errorf("%d RETR", w.saw("RETR"))
	}
}

func TestKeep_newestAndFull(t *testing.T) {
	for _, c := range []struct {
		keep  Keep
		after time.Duration
		want  string
	}{
		{Keep{Newest: 3}, 0, "u007 u008 u009"},
		{Keep{For: 5 * day, Newest: 3}, 4 * day, "u000 u001 u002 u003 u004 u005 u006 u007 u008 u009"},
		{Keep{For: 5 * day, Newest: 3}, 6 * day, "u007 u008 u009"},
		{Keep{Forever: true, UntilFull: 210}, 0, "u005 u006 u007 u008 u009"},
		{Keep{Forever: true, UntilFull: 1}, 0, ""},
		{Keep{For: 5 * day, UntilFull: 130}, 6 * day, ""},
	} {
		t.Run(c.keep.String(), func(t *testing.T) {
			w := newWorld(t).start()
			w.account.Keep = c.keep
			w.fill(10)
			w.mustPass()
			w.now = w.now.Add(c.after)
			w.mustPass()
			var left []string
			for _, m := range w.pop.Messages("jane") {
				left = append(left, m.UIDL)
			}
			if got := strings.Join(left, " "); got != c.want {
				t.Errorf("left %q, want %q", got, c.want)
			}
			w.exactlyOnce()
		})
	}
}

// first_run leaves old mail alone for good: it is neither fetched nor deleted.
func TestFirstRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		first FirstRun
		want  int
	}{
		{"new", FirstRun{New: true}, 0},
		{"since", FirstRun{Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, 2},
		{"all", FirstRun{}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).start()
			w.account.FirstRun = c.first
			w.account.Keep = Keep{}
			w.add("old", "Date: Thu, 01 Jan 2015 00:00:00 +0000\r\nSubject: old\r\n\r\n")
			w.add("young", "Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nSubject: young\r\n\r\n")
			w.add("undated", "Subject: undated\r\n\r\n")
			r := w.mustPass()
			if r.Delivered != c.want || r.Marked != 3-c.want || w.left() != 3-c.want {
				t.Errorf("%+v, %d left", r, w.left())
			}
			w.now = w.now.Add(99 * day)
			w.add("later", "Date: Thu, 01 Jan 2015 00:00:00 +0000\r\nSubject: later\r\n\r\n")
			if r := w.mustPass(); r.Delivered != 1 || w.left() != 3-c.want {
				t.Errorf("later: %+v, %d left", r, w.left())
			}
		})
	}
}

// An old copy of the state that is put back does not know what came since: it is
// compared with the target, and nothing comes twice.
func TestPass_oldState(t *testing.T) {
	w := newWorld(t).start()
	w.fill(5)
	w.mustPass()
	old, err := os.ReadFile(w.db)
	if err != nil {
		t.Fatal(err)
	}
	w.add("later", "Message-ID: <later@x>\r\n\r\nx\r\n")
	w.add("twin", "Message-ID: <later@x>\r\n\r\nx\r\n")
	w.mustPass()
	if err := os.WriteFile(w.db, old, 0o600); err != nil {
		t.Fatal(err)
	}
	w.add("new", "Message-ID: <new@x>\r\n\r\nx\r\n")
	if r := w.mustPass(); r.New != 3 || r.Duplicate != 2 {
		t.Errorf("%+v", r)
	}
	w.exactlyOnce()
}
