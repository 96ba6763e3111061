package fetcher

import (
	"context"
	"strings"
	"testing"

	"popferry/rules"
	"popferry/targets"
)

// The clock is wrong, the disk full, one of two targets down, the configuration
// another one.

func TestFaults_clock(t *testing.T) {
	aged := func(w *world) {
		w.account.Keep = Keep{For: 30 * day}
		w.fill(9)
	}
	play(t, []ordeal{
		{name: "20 the clock is 10 days back", given: aged, passes: []then{
			{report: "9 new, 9 delivered, 9 left"},
			{first: later(31 * day), report: "9 deleted"},
			{first: func(w *world) { w.now = w.now.Add(-10 * day); w.add("late", "Subject: late\r\n\r\n") }, report: "1 new, 1 delivered, 1 left", warns: []string{"the clock is behind"}},
			{first: later(9 * day), report: "1 left", warns: []string{"the clock is behind"}},
			{first: later(31 * day), report: "1 deleted"},
		}},
		{name: "21 the clock is 10 years ahead", given: aged, passes: []then{
			{report: "9 new, 9 delivered, 9 left"},
			{first: later(3650 * day), report: "9 left", warns: []string{"the clock is more than 40 days ahead"}},
			{first: later(-3650*day + day), report: "9 left", warns: []string{"the clock is behind"}},
		}},
	})
}

// A body for which there is no room waits, and is not charged for it.
func TestFaults_spoolFull(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(4)
	w.add("big", "Subject: big\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 100_000))
	w.add("last", "Subject: last\r\n\r\nx\r\n")
	full := func(ctx context.Context) (Report, error) {
		st := w.open()
		defer st.Close()
		f := w.fetcher(st)
		f.Spool = "/proc/nowhere"
		return f.Pass(ctx, w.job, w.account)
	}
	w.judge("row 27", then{report: "5 new, 5 delivered, 1 failed, 5 deleted, 1 left", why: "no room in the spool"}, full)
	for range 4 { // more often than a message may be charged
		w.judge("row 27, again", then{report: "1 failed, 1 left", why: "no room in the spool"}, full)
	}
	w.expect("row 27, room again", then{report: "1 new, 1 delivered, 1 deleted"})
	w.exactlyOnce()
}

// One target that is full holds up no other, and nobody is charged for it.
func TestFaults_oneTargetDown(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.job.Targets = []string{"home", "archive"}
	w.fill(9)
	archive := newStore()
	down := &targets.Error{Fault: targets.Down, Op: `APPEND to "INBOX"`, Reply: "NO [OVERQUOTA] Quota exceeded"}
	archive.fault = func(*targets.Message, targets.Dest) (error, bool) { return down, false }
	pass := func(ctx context.Context) (Report, error) {
		st := w.open()
		defer st.Close()
		f := w.fetcher(st)
		f.Targets["archive"] = archive
		return f.Pass(ctx, w.job, w.account)
	}
	for i := range 5 {
		// Later passes download what only the archive lacks until it refuses.
		r, err := pass(t.Context())
		if err != nil || r.Failed == 0 || i == 0 && r.Failed != 9 || r.Held != 0 || w.left() != 9 {
			t.Fatalf("row 80, pass %d: %v, %+v, %d left", i+1, err, r, w.left())
		}
		w.exactlyOnce()
	}
	archive.fault = nil
	w.judge("row 80, room again", then{report: "9 new, 9 delivered, 9 deleted"}, pass)
	w.exactlyOnce()
	if diff := diffCounts(archive.hashes(), w.source); diff != "" {
		t.Error(diff)
	}
}

// New rules are for new mail: what was to go to a folder goes there, because a
// copy may exist already.
func TestFaults_rulesChanged(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	to := func(folder string) *rules.Set {
		set, err := rules.Compile([]rules.Rule{{Name: "all", Then: rules.Then{Folders: []string{folder}}}})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	w.job.Rules = to("Old")
	w.fill(3)
	w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Op: "APPEND", Reply: "NO [SERVERBUG] oops"}, false
	}
	w.expect("row 24", then{report: "3 new, 3 failed, 3 left"})
	w.target.fault = nil
	w.job.Rules = to("New")
	w.add("late", "Subject: late\r\n\r\nx\r\n")
	w.expect("row 24, after the reload", then{report: "4 new, 4 delivered, 4 deleted"})
	w.exactlyOnce()
	if o, n := w.target.count("Old"), w.target.count("New"); o != 3 || n != 1 {
		t.Errorf("row 24: %d in the old folder, %d in the new one", o, n)
	}
}
