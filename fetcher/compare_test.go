package fetcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// loseState removes the state with everything beside it.
func (w *world) loseState() {
	w.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(w.db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
}

// A lost state costs time, not duplicates, also when the pass that makes up for
// it is cut short, and twins stay twins.
func TestCompare_lostState(t *testing.T) {
	for _, uids := range []bool{true, false} {
		for _, cut := range []int{0, 1, 13, 24} {
			t.Run(fmt.Sprintf("UIDPLUS=%v cut=%d", uids, cut), func(t *testing.T) {
				w := newWorld(t).start()
				w.target.noUIDs = !uids
				w.fill(20)
				w.add("t1", "Message-ID: <t@x>\r\nSubject: twin\r\n\r\nx\r\n")
				w.mustPass()
				w.loseState()
				w.add("t2", "Message-ID: <t@x>\r\nSubject: twin\r\n\r\nx\r\n")
				w.add("o1", "Message-ID: <t@x>\r\nSubject: twin\r\n\r\ny\r\n")
				w.add("n1", "Subject: no id\r\n\r\nx\r\n")
				w.add("n2", "Subject: no id\r\n\r\nx\r\n")
				if cut > 0 {
					ctx, cancel := context.WithCancel(context.Background())
					n := 0
					st, err := state.Open(ctx, w.db, state.Options{})
					if err != nil {
						t.Fatal(err)
					}
					f := w.fetcher(st)
					f.Event = func(e Event) {
						if e.Kind == Duplicate || e.Kind == Delivered {
							if n++; n == cut {
								cancel()
							}
						}
					}
					_, _ = f.Pass(ctx, w.job, w.account)
					st.Close()
					cancel()
				}
				w.mustPass()
				w.exactlyOnce()
				w.mustPass()
				w.exactlyOnce()
			})
		}
	}
}

// twoAccounts runs passes over two accounts at once, each with one message.
func (w *world) twoAccounts(mine, theirs string) {
	w.t.Helper()
	w.pop.AddUser("june", "secret")
	w.add("a", mine)
	w.pop.Add("june", "b", []byte(theirs))
	st := w.open()
	defer st.Close()
	f := w.fetcher(st)
	other := *w.account
	other.Name, other.Maildrop.User = "other", "june"
	var wg sync.WaitGroup
	for _, a := range []*Account{w.account, &other} {
		wg.Go(func() {
			if _, err := f.Pass(w.t.Context(), w.job, a); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Two accounts that lost their state find the one copy of a message that both
// have had: one takes it, the other delivers its own.
func TestCompare_oneCopyTwoAccounts(t *testing.T) {
	w := newWorld(t).start()
	const twin = "Message-ID: <t@x>\r\nSubject: twin\r\n\r\nx\r\n"
	w.target.add(targets.Dest{}, []byte(twin))
	w.twoAccounts(twin, twin)
	if n := w.target.count("INBOX"); n != 2 {
		t.Errorf("%d copies, want 2", n)
	}
}

// Passes that run at the same time look into a folder once for all of them.
func TestCompare_shared(t *testing.T) {
	w := newWorld(t).start()
	w.target.add(targets.Dest{}, []byte("Subject: old\r\n\r\n"))
	var both sync.WaitGroup
	both.Add(2)
	w.target.before = func(*targets.Message) {
		both.Done()
		both.Wait()
	}
	w.twoAccounts("Subject: a\r\n\r\n", "Subject: b\r\n\r\n")
	if n := w.target.count("INBOX"); n != 3 || w.target.catalogs != 1 {
		t.Errorf("%d copies, %d catalogs", n, w.target.catalogs)
	}
}

// A folder is listed ahead where that is sure to be needed. That it fails then
// is no news: the first message tries again, once for all of them.
func TestCompare_ahead(t *testing.T) {
	failing := func(upTo int) func(int) error {
		return func(n int) error {
			if n <= upTo {
				return &targets.Error{Op: "FETCH", Err: errors.New("reset")}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name      string
		change    func(*world)
		catalogs  int
		delivered int
		failed    int
		refused   bool // no pass at all
	}{
		{"fails ahead", func(w *world) { w.target.unlisted = failing(1) }, 2, 20, 0, false},
		{"fails twice", func(w *world) { w.target.unlisted = failing(2) }, 2, 0, 20, false},
		{"works", func(*world) {}, 1, 20, 0, false},
		{"wrong password", func(w *world) { w.account.Maildrop.Password = endpoint.SecretValue("no") }, 0, 0, 0, true},
		{"empty", func(w *world) { w.pop.AddUser("june", "secret"); w.account.Maildrop.User = "june" }, 1, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).start()
			w.fill(20)
			c.change(w)
			r, err := w.pass(t.Context())
			if (err != nil) != c.refused || r.Delivered != c.delivered || r.Failed != c.failed {
				t.Errorf("%v: %+v", err, r)
			}
			if n := w.target.catalogs; n != c.catalogs && (c.name != "empty" || n != 0) {
				t.Errorf("%d catalogs, want %d", n, c.catalogs)
			}
			w.target.unlisted = nil
			if !c.refused && c.name != "empty" {
				w.mustPass()
				w.exactlyOnce()
			}
		})
	}
}

// That one pass could not list a folder says nothing to the others that share
// its shelf; but it is not tried again for every message.
func TestShelf_failure(t *testing.T) {
	var sh shelf
	var a, b pass
	calls := 0
	list := func(cat targets.Catalog, err error) func() (targets.Catalog, error) {
		return func() (targets.Catalog, error) { calls++; return cat, err }
	}
	reset, full := errors.New("reset"), &catalog{}
	for i, step := range []struct {
		by    *pass
		list  func() (targets.Catalog, error)
		want  error
		calls int
	}{
		{nil, list(nil, reset), reset, 1},
		{&a, list(nil, reset), reset, 2},
		{&a, list(full, nil), reset, 2},
		{&b, list(full, nil), nil, 3},
		{&a, list(nil, reset), nil, 3},
		{nil, list(nil, reset), nil, 3},
	} {
		cat, err := sh.contents(step.by, step.list)
		if !errors.Is(err, step.want) || (cat == nil) != (err != nil) || calls != step.calls {
			t.Errorf("step %d: %v, %v, %d calls", i, cat, err, calls)
		}
	}
}

// Once a first pass is done nothing is compared any more, unless it is asked
// for; and it can be asked not to be.
func TestCompare_modes(t *testing.T) {
	for _, c := range []struct {
		mode     Dedupe
		catalogs int
		copies   int
	}{{Recover, 1, 2}, {Compare, 2, 1}, {Off, 0, 2}} {
		w := newWorld(t).start()
		w.job.Dedupe = map[string]Dedupe{"home": c.mode}
		w.add("a", "Subject: a\r\n\r\n")
		w.mustPass()
		// Another program put the next one there before.
		const b = "Subject: b\r\n\r\n"
		w.target.mu.Lock()
		w.target.add(targets.Dest{}, []byte(b))
		w.target.mu.Unlock()
		w.add("b", b)
		w.mustPass()
		h := targets.Hash{}
		for k, n := range w.source {
			if n == 1 && w.target.hashes()[k] == c.copies {
				h = k
			}
		}
		if w.target.catalogs != c.catalogs || h == (targets.Hash{}) {
			t.Errorf("mode %d: %d catalogs, %v", c.mode, w.target.catalogs, w.target.hashes())
		}
	}
}

// Off does not look, as it says.
func TestCompare_offSendsAgain(t *testing.T) {
	w := newWorld(t).start()
	w.job.Dedupe = map[string]Dedupe{"home": Off}
	w.fill(1)
	broken := false
	w.target.fault = func(*targets.Message, targets.Dest) (error, bool) {
		if !broken {
			broken = true
			return &targets.Error{Fault: targets.Unsure, Op: "APPEND", Err: errors.New("reset")}, true
		}
		return nil, false
	}
	w.mustPass()
	w.mustPass()
	if n := w.target.count("INBOX"); n != 2 {
		t.Errorf("%d copies; dedupe: off does not look", n)
	}
}
