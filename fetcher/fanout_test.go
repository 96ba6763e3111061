package fetcher

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/targetstest"
)

// TestFanout delivers to a mailbox and a Maildir of which one is in trouble. The
// other gets everything at once, nothing is deleted that one of them lacks, and
// when the trouble is over only what is missing is delivered.
func TestFanout(t *testing.T) {
	mail := trialMail()
	var refuses atomic.Bool // one of the messages
	for _, c := range []struct {
		name    string
		trouble func(s *scripted) (over func())
		there   int // the target that has everything at once
		left    int // messages on the maildrop meanwhile
	}{
		{"mailbox full", func(s *scripted) func() {
			s.hook(nil, appendSays("NO [OVERQUOTA] Quota exceeded"))
			return func() { s.hook(nil, nil) }
		}, 1, len(mail)},
		{"mailbox does not let us in", func(s *scripted) func() {
			s.hook(nil, func(_ int, c targetstest.Command) targetstest.Action {
				if c.Verb == "AUTHENTICATE" || c.Verb == "LOGIN" {
					return targetstest.Action{Reply: "NO [UNAVAILABLE] Try later"}
				}
				return targetstest.Action{}
			})
			return func() { s.hook(nil, nil) }
		}, 1, len(mail)},
		{"mailbox refuses one message", func(s *scripted) func() {
			refuses.Store(true)
			return func() { refuses.Store(false) }
		}, 1, 1},
		{"mailbox stores and hangs up", func(s *scripted) func() {
			s.hook(nil, func(_ int, c targetstest.Command) (act targetstest.Action) {
				if c.Verb == "APPEND" && c.N == 1 {
					act.Cut = targetstest.CutStored
				}
				return act
			})
			return func() {}
		}, 1, 0}, // the pass itself finds what was stored
		{"disk not mounted", func(s *scripted) func() {
			s.run.Targets[1].Maildir = s.dir + "/mnt/Maildir"
			return func() {
				if err := os.Mkdir(s.dir+"/mnt", 0o700); err != nil {
					t.Error(err)
				}
			}
		}, 0, len(mail)},
		{"disk full", func(s *scripted) func() {
			dir := smallDisk(t)
			s.run.Targets[1].Maildir = dir + "/Maildir"
			fillDisk(t, dir+"/filler")
			return func() { os.Remove(dir + "/filler") }
		}, 0, len(mail)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScripted(t, c.name, mail, 1)
			defer s.close()
			s.run.Keep = Keep{}
			refuses.Store(false)
			s.boxes[0].Caps = inLine // so that one that is refused is alone in its command
			watch := s.boxes[0].Reject
			s.boxes[0].Reject = func(body []byte) string {
				if refuses.Load() && strings.Contains(string(body), "<7@x>") {
					return "NO no"
				}
				return watch(body)
			}
			s.start()
			s.addMaildir()
			over := c.trouble(s)
			for range 2 {
				r, err := s.pass()
				s.check("in trouble")
				if err != nil || r.Left != c.left || r.Held != 0 {
					t.Errorf("%v, %+v", err, r)
				}
				if diff := diffCounts(s.stored(c.there), s.source); diff != "" {
					t.Errorf("at %s: %s", targetName(c.there), diff)
				}
			}
			over()
			s.quiesce()
		})
	}
}

// appendSays answers every APPEND so.
func appendSays(reply string) imapHook {
	return func(_ int, c targetstest.Command) targetstest.Action {
		if c.Verb == "APPEND" {
			return targetstest.Action{Reply: reply}
		}
		return targetstest.Action{}
	}
}

// TestFanout_downloads: what only a target lacks that takes nothing is not all
// downloaded again in every pass, and new mail does not wait behind it.
func TestFanout_downloads(t *testing.T) {
	const n = workers + window + 200 // more than can be in hand and on the way
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.job.Targets = []string{"home", "archive"}
	w.fill(n)
	archive := newStore()
	archive.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Fault: targets.Down, Op: "APPEND", Reply: "NO [OVERQUOTA] Quota exceeded"}, false
	}
	pass := func() Report {
		t.Helper()
		st := w.open()
		defer st.Close()
		f := w.fetcher(st)
		f.Targets["archive"] = archive
		r, err := f.Pass(context.Background(), w.job, w.account)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := pass(); r.New != n || r.Delivered != 0 || r.Failed != n {
		t.Fatalf("%+v", r)
	}
	w.exactlyOnce()
	w.add("new", "Subject: new\r\n\r\nnew\r\n")
	before := len(w.pop.Log())
	r := pass()
	w.exactlyOnce()
	var retr []string
	for _, line := range w.pop.Log()[before:] {
		if _, cmd, _ := strings.Cut(line, ": "); strings.HasPrefix(cmd, "RETR") {
			retr = append(retr, cmd)
		}
	}
	if len(retr) == 0 || len(retr) > n || retr[0] != fmt.Sprintf("RETR %d", n+1) {
		t.Errorf("%d RETR, the first %q; want the new message first, and not all others", len(retr), retr[:min(1, len(retr))])
	}
	if r.Deleted != 0 || w.left() != n+1 {
		t.Errorf("%+v, %d left", r, w.left())
	}
	archive.fault = nil
	if r := pass(); r.Delivered != n+1 || r.Deleted != n+1 {
		t.Errorf("%+v", r)
	}
	w.exactlyOnce()
	if diff := diffCounts(archive.hashes(), w.source); diff != "" {
		t.Error(diff)
	}
}

// TestFanout_named: a failure that is one target's names it.
func TestFanout_named(t *testing.T) {
	w := newWorld(t).start()
	w.job.Targets = []string{"home", "archive"}
	w.fill(1)
	archive := newStore()
	archive.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Op: "APPEND", Reply: "NO"}, false
	}
	st := w.open()
	defer st.Close()
	f := w.fetcher(st)
	f.Targets["archive"] = archive
	if _, err := f.Pass(t.Context(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.events {
		if e.Kind == Failed && e.Target != "archive" {
			t.Errorf("%+v", e)
		}
	}
	if w.kinds()[Failed] != 1 || w.kinds()[Delivered] != 1 {
		t.Errorf("%v", w.kinds())
	}
}

// TestFanout_targetGone: that a message waits for a target which is not in the job
// any more is said in every pass, not passed over.
func TestFanout_targetGone(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.job.Targets = []string{"home", "archive"}
	w.fill(2)
	archive := newStore()
	archive.fault = func(*targets.Message, targets.Dest) (error, bool) {
		return &targets.Error{Op: "APPEND", Reply: "NO"}, false
	}
	for i, names := range [][]string{{"home", "archive"}, {"home"}, {"home"}} {
		w.job.Targets, w.events = names, nil
		st := w.open()
		f := w.fetcher(st)
		f.Targets["archive"] = archive
		r, err := f.Pass(t.Context(), w.job, w.account)
		st.Close()
		if err != nil || r.Failed != 2 || w.left() != 2 {
			t.Errorf("pass %d: %v, %+v", i+1, err, r)
		}
		for _, e := range w.events {
			if e.Kind == Failed && i > 0 && !strings.Contains(e.Err.Error(), `"archive", chosen by an earlier pass, is not in job`) {
				t.Errorf("pass %d: %v", i+1, e.Err)
			}
		}
		w.exactlyOnce()
	}
}

func TestByLacking(t *testing.T) {
	p := &pass{job: &Job{Targets: []string{"b", "a"}}}
	items := func(ids ...int64) (out []item) {
		for _, id := range ids {
			out = append(out, item{msg: &state.Message{ID: id}})
		}
		return out
	}
	done := func(target string) state.Delivery {
		return state.Delivery{Target: target, Status: state.DeliveryDelivered}
	}
	todo := func(target string) state.Delivery {
		return state.Delivery{Target: target, Status: state.DeliveryFailed}
	}
	recorded := map[int64][]state.Delivery{
		2: {done("a"), todo("b")}, 3: {todo("b"), done("a")}, 4: {todo("a"), done("b")}, 5: {todo("b"), todo("a"), todo("a")}, 6: {todo("gone")},
	}
	var got []string
	for _, g := range p.byLacking([][]item{items(2, 1, 4, 3, 5), items(6, 2), items(7)}, recorded) {
		line := strings.Join(p.lacking(recorded[g[0].msg.ID]), "+") + ":"
		for _, it := range g {
			line += fmt.Sprint(" ", it.msg.ID)
		}
		got = append(got, line)
	}
	want := "a+b: 1 5; b: 2 3; a: 4; gone: 6; b: 2; a+b: 7"
	if strings.Join(got, "; ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
