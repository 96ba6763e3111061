//go:build unix

package state

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var errDisk = errors.New("input/output error")

// script is a run of the store, one Put at a time, that touches every table.
func script(a *Account, ms []*Message) [][]Change {
	m, n := ms[0], ms[1]
	id := []int64{1}
	return [][]Change{
		{Listed{Account: a, New: ms, At: t0}},
		{Fetching{Messages: id}},
		{routedID(m, 1), Intent{Message: 1, Box: "INBOX", At: t0}},
		{Delivered{Message: 1, Box: "INBOX", UIDValidity: 7, UID: 11, At: t0}},
		{routedID(n, 2), Intent{Message: 2, Box: "INBOX", At: t0}},
		{Failed{Message: 2, At: t0}, Quarantined{Message: 2, At: t0}},
		{DelSent{Messages: id, At: t0}, Gone{Messages: id, At: t0}},
		{Clock{Now: t0}, Prune{Before: t0.Add(time.Hour)}},
	}
}

// routedID is routed for a message whose ID is known before it was listed.
func routedID(m *Message, id int64) Routed {
	c := *m
	c.ID, c.Content = id, content(int(id))
	return routed(&c, 1)
}

func messages(n int) []*Message {
	ms := make([]*Message, n)
	for i := range ms {
		ms[i] = &Message{UIDL: fmt.Sprint("u", i)}
	}
	return ms
}

// TestStore_failingDisk lets every statement of a run fail in turn, before and
// after it took effect. The store must be dead from that Put on, and a new
// process must find what was acknowledged, and at most the failed Put more.
func TestStore_failingDisk(t *testing.T) {
	// The states after every Put, from a run without faults.
	var want [][][]string
	ref := open(t, Options{})
	want = append(want, dump(t, ref))
	for _, ch := range script(new(Account), messages(2)) {
		mustPut(t, ref, ch...)
		want = append(want, dump(t, ref))
	}
	for nth := 1; ; nth++ {
		failed := false
		for _, after := range []bool{false, true} {
			if !failAt(t, nth, after, want) {
				failed = true
			}
		}
		if failed {
			if nth < 30 {
				t.Errorf("only %d statements failed", nth)
			}
			return
		}
	}
}

// failAt runs the script with the nth statement failing, and reports whether
// there was one.
func failAt(t *testing.T, nth int, after bool, want [][][]string) bool {
	t.Helper()
	count, fired := 0, ""
	path := filepath.Join(t.TempDir(), "popferry.db")
	s, err := Open(ctx, path, Options{hook: func(isAfter bool, sql string) error {
		if isAfter == after {
			count++
		}
		if count >= nth && fired == "" && isAfter == after {
			fired = sql
			return errDisk
		}
		return nil
	}})
	if fired != "" {
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("Open with %q failing = %v", fired, err)
		}
		s = reopen(t, path)
		diff(t, "state after a failed Open", dump(t, s), want[0])
		_ = s.Close()
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	acked, dead := 0, false
	for _, ch := range script(new(Account), messages(2)) {
		switch err := s.Put(ctx, ch...); {
		case err == nil && !dead:
			acked++
		case err == nil:
			t.Fatalf("a Put succeeded after %q had failed", fired)
		case !errors.Is(err, ErrDead) || !errors.Is(err, errDisk):
			t.Fatalf("Put with %q failing = %v", fired, err)
		default:
			dead = true
		}
	}
	if err := s.Close(); err != nil && fired == "" {
		t.Fatal(err)
	}
	s = reopen(t, path)
	got := fmt.Sprint(dump(t, s))
	if got != fmt.Sprint(want[acked]) && (acked+1 == len(want) || got != fmt.Sprint(want[acked+1])) {
		t.Errorf("statement %d (%q, after %v): %d Puts were acknowledged, the state is\n%v", nth, fired, after, acked, got)
	}
	_ = s.Close()
	return fired != ""
}

// TestStore_walCut cuts the write-ahead log at many places, as a power loss may.
// What is read back must be the state after one of the transactions, a later one
// for a later cut.
func TestStore_walCut(t *testing.T) {
	s := open(t, Options{})
	path := s.Path()
	states := []string{fmt.Sprint(dump(t, s))}
	opened := len(read(t, path+"-wal"))
	for _, ch := range script(new(Account), messages(2)) {
		mustPut(t, s, ch...)
		states = append(states, fmt.Sprint(dump(t, s)))
	}
	db, wal, lock := read(t, path), read(t, path+"-wal"), read(t, path+".lock")
	const header, frame = 32, 24 + 4096
	// Every frame of the run, and a few of Open's.
	cuts := []int{0, 1, header, header + frame, opened / 2, len(wal)}
	for at := opened; at < len(wal); at += frame {
		cuts = append(cuts, at, at+1, at+frame/2, at+frame-1)
	}
	seen := make(map[int]int) // state → longest WAL that gave it
	for _, cut := range cuts {
		got, err := afterCut(t, db, wal[:cut], lock)
		if err != nil {
			t.Fatalf("WAL of %d octets: %v", cut, err)
		}
		n := -1
		for i, want := range states {
			if got == want {
				n = i
			}
		}
		if n < 0 {
			t.Fatalf("WAL of %d octets: no state of the run: %s", cut, got)
		}
		seen[n] = max(seen[n], cut)
	}
	for i := 1; i < len(states); i++ {
		if seen[i] == 0 {
			t.Errorf("no cut gave the state after Put %d", i)
		}
		if seen[i] <= seen[i-1] {
			t.Errorf("state %d was read at %d, the one before at %d", i, seen[i], seen[i-1])
		}
	}
}

func afterCut(t *testing.T, db, wal, lock []byte) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "popferry.db")
	write(t, path, db)
	write(t, path+"-wal", wal)
	write(t, path+".lock", lock)
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return "", err
	}
	defer s.Close()
	return fmt.Sprint(dump(t, s)), nil
}

// TestStore_deadWriters lets the disk fail under many writers: each Put either
// was written or says that the store is dead, and none hangs.
func TestStore_deadWriters(t *testing.T) {
	commits := 0
	s := open(t, Options{hook: func(after bool, sql string) error {
		if sql == "COMMIT" && !after {
			if commits++; commits == 5 {
				return errDisk
			}
		}
		return nil
	}})
	_, ms := list(t, s, 64)
	path := s.Path()
	acked := make([]int, len(ms))
	var wg sync.WaitGroup
	for i, m := range ms {
		wg.Go(func() {
			for {
				if err := s.Put(ctx, Fetching{Messages: []int64{m.ID}}); err != nil {
					if !errors.Is(err, ErrDead) {
						t.Errorf("Put = %v", err)
					}
					return
				}
				acked[i]++
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, m := range known(t, reopen(t, path)).Messages {
		if m.Fetches != acked[i] {
			t.Errorf("message %d: %d on disk, %d acknowledged", i, m.Fetches, acked[i])
		}
	}
}

// TestStore_clean checks the flag that spares a cleanly closed state its check:
// set by Close, and by nothing else.
func TestStore_clean(t *testing.T) {
	var fail error
	path := filepath.Join(t.TempDir(), "popferry.db")
	o := Options{hook: func(bool, string) error { return fail }}
	clean := func() int64 {
		t.Helper()
		c, err := openConn(path, "ro")
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		n, err := c.number("SELECT value FROM meta WHERE name = 'clean'")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, end := range []struct {
		fail error
		want int64
	}{{nil, 1}, {errDisk, 0}, {nil, 1}} {
		s, err := Open(ctx, path, o)
		if err != nil {
			t.Fatal(err)
		}
		if clean() != 0 {
			t.Error("an open state is marked as clean")
		}
		fail = end.fail
		if err := s.Put(ctx, Clock{Now: t0}); errors.Is(err, ErrDead) != (fail != nil) {
			t.Errorf("Put = %v", err)
		}
		_ = s.Close()
		fail = nil
		if got := clean(); got != end.want {
			t.Errorf("closed after %v: clean is %d, want %d", end.fail, got, end.want)
		}
	}
}
