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
