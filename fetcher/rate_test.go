package fetcher

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"popferry/targets"
)

// rated is a pass of a process of its own, with a rate for a target.
func (w *world) rated(target string, r targets.Rate, more map[string]targets.Target) func(context.Context) (Report, error) {
	return func(ctx context.Context) (Report, error) {
		st := w.open()
		defer st.Close()
		f := w.fetcher(st)
		f.Rates = map[string][]targets.Rate{target: {r}}
		maps.Copy(f.Targets, more)
		return f.Pass(ctx, w.job, w.account)
	}
}

var fourADay = targets.Rate{N: 4, Per: 24 * time.Hour, Text: "4/day"}

// TestRate_usedUp: when a day's worth has gone the pass ends well, the next ones
// download nothing until the time has come, and nobody has to remember that but
// the state.
func TestRate_usedUp(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(10)
	pass := w.rated("home", fourADay, nil)
	for day := range 3 {
		n := min(4, w.left())
		r, err := pass(t.Context())
		if err != nil || r.Delivered != n || r.Deleted != n || r.Failed+r.Held != 0 {
			t.Fatalf("day %d: %v, %+v", day+1, err, r)
		}
		if w.left() == 0 {
			break
		}
		if len(r.Warnings) != 1 || r.Warnings[0] != "home: rate: 4/day is used up, goes on at "+w.now.Add(24*time.Hour+time.Minute).Format("2006-01-02 15:04") {
			t.Errorf("day %d: warnings %q", day+1, r.Warnings)
		}
		if r.Skipped != w.left() {
			t.Errorf("day %d: %+v", day+1, r)
		}
		before := w.saw("RETR")
		w.now = w.now.Add(23 * time.Hour)
		r, err = pass(t.Context())
		if err != nil || r.New != 0 || len(r.Warnings) != 1 || w.saw("RETR") != before {
			t.Errorf("day %d, 23 hours later: %v, %+v, %d RETR", day+1, err, r, w.saw("RETR")-before)
		}
		w.now = w.now.Add(time.Hour + time.Minute)
	}
	if w.left() != 0 {
		t.Errorf("%d left", w.left())
	}
	w.exactlyOnce()
	st := w.open()
	defer st.Close()
	known, err := st.Known(t.Context(), w.account.Source())
	if err != nil || !known.Account.FirstPassDone {
		t.Errorf("%v, %+v", err, known.Account)
	}
}

// TestRate_notTheWholeFirstPass: an account of which something waits for a rate
// has not had a whole pass.
func TestRate_notTheWholeFirstPass(t *testing.T) {
	w := newWorld(t).start()
	w.fill(5)
	pass := w.rated("home", fourADay, nil)
	for i := range 2 {
		if _, err := pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		st := w.open()
		known, err := st.Known(t.Context(), w.account.Source())
		if err != nil || known.Account.FirstPassDone {
			t.Errorf("pass %d: %v, %+v", i+1, err, known.Account)
		}
		st.Close()
	}
}

// TestRate_oneOfTwo: what one target has used up, the other does not wait for;
// nothing is deleted meanwhile.
func TestRate_oneOfTwo(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.job.Targets = []string{"home", "archive"}
	w.fill(10)
	archive := newStore()
	pass := w.rated("archive", fourADay, map[string]targets.Target{"archive": archive})
	r, err := pass(t.Context())
	if err != nil || r.Delivered != 4 || r.Deleted != 4 || r.Skipped != 6 || r.Failed != 0 {
		t.Errorf("%v, %+v", err, r)
	}
	w.exactlyOnce()
	for w.left() > 0 {
		w.now = w.now.Add(24*time.Hour + time.Minute)
		left := w.left()
		if r, err := pass(t.Context()); err != nil || w.left() != max(0, left-4) || r.Failed != 0 {
			t.Fatalf("%v, %+v, %d left", err, r, w.left())
		}
		w.exactlyOnce()
	}
	if diff := diffCounts(archive.hashes(), w.source); diff != "" {
		t.Error(diff)
	}
}

// TestRate_notCharged: what a target refuses, and what lay there before, uses
// nothing of its rate.
func TestRate_notCharged(t *testing.T) {
	w := newWorld(t).start()
	w.fill(6)
	w.target.add(targets.Dest{}, []byte("Message-ID: <0@x>\r\nSubject: 0\r\n\r\nbody 0\r\n"))
	w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
		if strings.HasPrefix(m.MessageID, "<3@") {
			return &targets.Error{Fault: targets.Refused, Op: "APPEND", Reply: "NO"}, false
		}
		return nil, false
	}
	five := targets.Rate{N: 5, Per: time.Hour, Text: "5/h"} // and six of them are on their way at once
	r, err := w.rated("home", five, nil)(t.Context())
	if err != nil || r.Delivered != 5 || r.Duplicate != 1 || r.Failed != 1 || r.Skipped != 0 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestRate_nothingToRecover: messages that wait for their turn have no intent on
// disk: after a kill nobody looks for them, and none counts as interrupted.
func TestRate_nothingToRecover(t *testing.T) {
	w := newWorld(t).start()
	w.fill(3)
	st := w.open()
	defer st.Close()
	f := w.fetcher(st)
	f.Rates = map[string][]targets.Rate{"home": {{N: 19, Per: 10 * time.Second}}}
	w.target.before = func(*targets.Message) {
		known, err := st.Known(t.Context(), w.account.Source())
		if err != nil {
			t.Error(err)
			return
		}
		uncertain, err := st.Uncertain(t.Context(), known.Account.ID)
		if err != nil || len(uncertain) > 1 {
			t.Errorf("%v, %d have an intent while one is delivered", err, len(uncertain))
		}
	}
	if r, err := f.Pass(t.Context(), w.job, w.account); err != nil || r.Delivered != 3 {
		t.Errorf("%v, %+v", err, r)
	}
	w.exactlyOnce()
}

// TestRate_stops: what waits for its turn when a signal comes is not in hand, and
// nobody waits for it.
func TestRate_stops(t *testing.T) {
	w := newWorld(t).start()
	w.fill(50)
	ctx, cancel := context.WithCancel(t.Context())
	w.target.before = func(*targets.Message) { cancel() }
	began := time.Now()
	r, err := w.rated("home", targets.Rate{N: 1, Per: time.Minute, Text: "1/min"}, nil)(ctx)
	if took := time.Since(began); !errors.Is(err, context.Canceled) || r.Delivered != 1 || r.Failed != 0 || w.kinds()[Failed] != 0 || took > 10*time.Second {
		t.Errorf("%v after %v, %+v", err, took, r)
	}
	if r, err := w.pass(t.Context()); err != nil || w.target.count("INBOX") != 50 {
		t.Errorf("%v, %+v", err, r)
	}
	w.exactlyOnce()
}
