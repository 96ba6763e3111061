package fetcher

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"popferry/fetcher/state"
	"popferry/targets"
)

func (w *world) openState() *state.Store {
	w.t.Helper()
	st, err := state.Open(context.Background(), w.db, state.Options{Now: func() time.Time { return w.now }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { st.Close() })
	return st
}

// A Fetcher for another configuration knows of the passes under way with the old
// one, shares their gates, and goes on counting where a rate is the same.
func TestFetcher_With(t *testing.T) {
	w := newWorld(t).start()
	w.fill(1)
	f := w.fetcher(w.openState())
	slow, fast := targets.Rate{N: 100, Per: time.Hour, Text: "100/h"}, targets.Rate{N: 100, Per: time.Second, Text: "100/s"}
	f.Rates = map[string][]targets.Rate{"home": {slow}}
	other := newStore()
	same := f.With(map[string]targets.Target{"home": other}, map[string][]targets.Rate{"home": {slow}})
	changed := f.With(f.Targets, map[string][]targets.Rate{"home": {fast}})

	var second error
	w.target.before = func(*targets.Message) { _, second = same.Pass(context.Background(), w.job, w.account) }
	if _, err := f.Pass(context.Background(), w.job, w.account); err != nil || !errors.Is(second, ErrBusy) {
		t.Errorf("%v, meanwhile %v", err, second)
	}
	if f.gate("home", "INBOX") != same.gate("home", "INBOX") {
		t.Error("a delivery on its way is not seen by the other")
	}
	limiter := func(f *Fetcher) *targets.Limiter {
		t.Helper()
		l, err := f.limiter(context.Background(), "home")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if limiter(f) != limiter(same) {
		t.Error("the same rate begins anew")
	}
	if limiter(f) == limiter(changed) {
		t.Error("another rate is not taken")
	}

	w.add("later", "Message-ID: <later@x>\r\n\r\nlater\r\n")
	if _, err := same.Pass(context.Background(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	if w.target.count("INBOX") != 1 || other.count("INBOX") != 1 {
		t.Errorf("%d messages at the old target, %d at the new one", w.target.count("INBOX"), other.count("INBOX"))
	}
}

// A panic while a message is delivered goes through Pass, when all others have
// ended, and leaves nothing behind that the next pass could not put right.
func TestPass_panic(t *testing.T) {
	w := newWorld(t).start()
	w.fill(20)
	f := w.fetcher(w.openState())
	once := make(chan struct{}, 1)
	once <- struct{}{}
	w.target.before = func(m *targets.Message) {
		if m.MessageID == "<7@x>" {
			select {
			case <-once:
				panic("ouch")
			default:
			}
		}
	}
	caught := func() (v any) {
		defer func() { v = recover() }()
		_, err := f.Pass(context.Background(), w.job, w.account)
		t.Errorf("no panic, but %v", err)
		return nil
	}()
	p, ok := caught.(*Panic)
	if !ok || p.Value != "ouch" || len(p.Stack) == 0 {
		t.Fatalf("Pass panicked with %v", caught)
	}
	if got := w.target.count("INBOX"); got != 19 {
		t.Errorf("%d of the other 19 messages are there", got)
	}
	if _, err := f.Pass(context.Background(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	w.exactlyOnce()
}

// Every pass is recorded once, with its end, also one that reached no server, and
// a dry run is not.
func TestPass_record(t *testing.T) {
	w := newWorld(t).start()
	w.fill(2)
	st := w.openState()
	f := w.fetcher(st)
	var got []Report
	var errs []error
	f.Record = func(r Report, err error) state.Change {
		got, errs = append(got, r), append(errs, err)
		return state.Passed{Pass: state.Pass{Account: r.Account, Job: r.Job, ID: r.Pass, Start: r.Start, Took: r.Took, New: r.New, Messages: r.OnServer}}
	}
	if _, err := f.Pass(context.Background(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	port := w.account.Maildrop.Port
	w.account.Maildrop.Port = 1
	if _, err := f.Pass(context.Background(), w.job, w.account); err == nil {
		t.Fatal("a server that is not there was read")
	}
	w.account.Maildrop.Port = port
	dry := w.fetcher(st)
	dry.DryRun, dry.Record = true, f.Record
	if _, err := dry.Pass(context.Background(), w.job, w.account); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].New != 2 || got[0].LoggedIn.IsZero() || errs[0] != nil || errs[1] == nil || !got[1].LoggedIn.IsZero() {
		t.Errorf("recorded %+v, %v", got, errs)
	}
	lines, err := st.Passes(context.Background(), "isp", 10)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, l := range lines {
		ids = append(ids, l.ID)
	}
	if !slices.Equal(ids, []string{got[1].Pass, got[0].Pass}) {
		t.Errorf("the state has the passes %v", ids)
	}
}

// A target's name may stand for another server after a reload. What lay on the
// first one is not taken for what lies on the second by a pass that begins while
// one with the old configuration is under way.
func TestFetcher_With_anotherServer(t *testing.T) {
	w := newWorld(t).start()
	const both = "Message-ID: <t@x>\r\nSubject: on the old server\r\n\r\nx\r\n"
	w.target.add(targets.Dest{}, []byte(both))
	w.fill(1)
	w.pop.AddUser("june", "secret")
	w.pop.Add("june", "b", []byte(both))
	june := *w.account
	june.Name, june.Maildrop.User = "other", "june"
	f := w.fetcher(w.openState())
	another := newStore()
	after := f.With(map[string]targets.Target{"home": another}, nil)
	w.target.before = func(*targets.Message) {
		if r, err := after.Pass(t.Context(), w.job, &june); err != nil || r.Delivered != 1 || r.Duplicate != 0 {
			t.Errorf("after the reload: %v, %+v", err, r)
		}
	}
	if _, err := f.Pass(t.Context(), w.job, w.account); err != nil {
		t.Error(err)
	}
	if n := another.count("INBOX"); n != 1 {
		t.Errorf("%d copies on the other server, want 1", n)
	}
}
