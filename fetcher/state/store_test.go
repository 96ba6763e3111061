package state

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	ctx = context.Background()
	t0  = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
)

const source = "pop.isp.example:995/jane"

// open opens a new state in a directory of its own.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(ctx, filepath.Join(t.TempDir(), "popferry.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func reopen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustPut(t testing.TB, s *Store, ch ...Change) {
	t.Helper()
	if err := s.Put(ctx, ch...); err != nil {
		t.Fatal(err)
	}
}

// wantConflict puts a change that must not fit, and checks that the store goes
// on afterwards.
func wantConflict(t testing.TB, s *Store, ch ...Change) {
	t.Helper()
	if err := s.Put(ctx, ch...); !errors.Is(err, ErrConflict) {
		t.Errorf("Put(%#v) = %v, want ErrConflict", ch, err)
	}
}

// list makes rows for messages "u0", "u1", …
func list(t testing.TB, s *Store, n int) (*Account, []*Message) {
	t.Helper()
	a := &Account{Source: source, Name: "isp"}
	ms := make([]*Message, n)
	for i := range ms {
		ms[i] = &Message{UIDL: fmt.Sprintf("u%d", i), Size: int64(100 + i)}
	}
	mustPut(t, s, Listed{Account: a, New: ms, Hash: []byte("h"), Count: n, At: t0})
	return a, ms
}

func content(i int) *Content {
	return &Content{
		Hash: [32]byte{1, byte(i)}, CanonSize: int64(200 + i), Stable: [32]byte{3, byte(i)},
		MessageID: fmt.Sprintf("<%d@example>", i), Octets: int64(201 + i),
	}
}

// routed routes a message to n copies in the folder INBOX of home.
func routed(m *Message, n int) Routed {
	if m.Content == nil {
		m.Content = content(int(m.ID))
	}
	r := Routed{Message: m}
	for i := range n {
		r.Deliveries = append(r.Deliveries, Delivery{N: i, Target: "home", Folder: "Lists/go", Flags: []string{"seen", "flagged"}, Rule: "lists"})
	}
	return r
}

func intent(m *Message, n int) Intent {
	return Intent{Message: m.ID, N: n, Box: "Lists.go", UIDValidity: 7, UIDNext: 10, At: t0.Add(time.Minute)}
}

func delivered(m *Message, n int, uid uint32) Delivered {
	return Delivered{Message: m.ID, N: n, Box: "Lists.go", UIDValidity: 7, UID: uid, Reply: "OK done", At: t0.Add(2 * time.Minute)}
}

func one(t testing.TB, s *Store, id int64) *Message {
	t.Helper()
	ms, err := s.Messages(ctx, id)
	if err != nil || len(ms) != 1 {
		t.Fatalf("Messages(%d) = %d rows, %v", id, len(ms), err)
	}
	return ms[0]
}

func deliveriesOf(t testing.TB, s *Store, id ...int64) []Delivery {
	t.Helper()
	ds, err := s.Deliveries(ctx, id...)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func known(t testing.TB, s *Store) *Known {
	t.Helper()
	k, err := s.Known(ctx, source)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantStatus(t testing.TB, s *Store, id int64, want Status) {
	t.Helper()
	if got := one(t, s, id).Status; got != want {
		t.Errorf("message %d is %v, want %v", id, got, want)
	}
}

func diff(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// TestStore_life follows a message from its listing to its tombstone, and reads
// every field back from a store opened anew.
func TestStore_life(t *testing.T) {
	s := open(t, Options{})
	if k := known(t, s); k.Account.ID != 0 || k.Account.Source != source || len(k.Messages) != 0 {
		t.Errorf("Known of a new account = %+v", k)
	}
	a, ms := list(t, s, 2)
	m := ms[0]
	mustPut(t, s, Fetching{Messages: []int64{m.ID}})
	if got := one(t, s, m.ID).Fetches; got != 1 {
		t.Errorf("%d fetches, want 1", got)
	}
	mustPut(t, s, routed(m, 2), intent(m, 0))
	mustPut(t, s, intent(m, 1))
	mustPut(t, s, delivered(m, 0, 11))
	wantStatus(t, s, m.ID, StatusRouted)
	mustPut(t, s, delivered(m, 1, 12))
	mustPut(t, s, PassDone{Account: a.ID, At: t0.Add(time.Hour), Success: true, FirstPass: true})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = reopen(t, s.Path())
	k := known(t, s)
	diff(t, "account", k.Account, Account{
		ID: a.ID, Source: source, Name: "isp", FirstPassDone: true, ListHash: []byte("h"), ListCount: 2,
		LastPass: t0.Add(time.Hour), LastSuccess: t0.Add(time.Hour),
	})
	want := Message{ID: m.ID, UIDL: "u0", Size: 100, FirstSeen: t0, Status: StatusSafe}
	diff(t, "known", k.Messages, []*Message{&want, {ID: ms[1].ID, UIDL: "u1", Size: 101, FirstSeen: t0}})
	want.Content = content(int(m.ID))
	diff(t, "message", one(t, s, m.ID), &want)
	d := Delivery{
		Message: m.ID, Target: "home", Folder: "Lists/go", Flags: []string{"seen", "flagged"}, Rule: "lists",
		Status: DeliveryDelivered, Attempts: 1, Box: "Lists.go", UIDValidity: 7, UIDNext: 10, UID: 11,
		Reply: "OK done", At: t0.Add(2 * time.Minute),
	}
	d2 := d
	d2.N, d2.UID = 1, 12
	diff(t, "deliveries", deliveriesOf(t, s, m.ID), []Delivery{d, d2})

	mustPut(t, s, DelSent{Messages: []int64{m.ID}, At: t0.Add(2 * time.Hour)})
	mustPut(t, s, Gone{Messages: []int64{m.ID}, At: t0.Add(3 * time.Hour)})
	if k := known(t, s); len(k.Messages) != 1 || k.Messages[0].ID != ms[1].ID {
		t.Errorf("Known still has the gone message: %+v", k.Messages)
	}
	got := one(t, s, m.ID)
	if !got.DelSentAt.Equal(t0.Add(2*time.Hour)) || !got.GoneAt.Equal(t0.Add(3*time.Hour)) {
		t.Errorf("tombstone = %+v", got)
	}
	claimed, err := s.Claimed(ctx, "home", "Lists.go", 7, 12)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "claimed", claimed, map[uint32]bool{12: true})
	if left, err := s.ByHash(ctx, a.ID, content(int(m.ID)).Hash); err != nil || len(left) != 1 || left[0].ID != m.ID {
		t.Errorf("ByHash = %v, %v", left, err)
	}

	mustPut(t, s, Prune{Before: t0.Add(3 * time.Hour)})
	if len(deliveriesOf(t, s, m.ID)) != 2 {
		t.Error("a tombstone was pruned too early")
	}
	mustPut(t, s, Prune{Before: t0.Add(3*time.Hour + time.Millisecond)})
	if ms, err := s.Messages(ctx, m.ID); err != nil || len(ms) != 0 || len(deliveriesOf(t, s, m.ID)) != 0 {
		t.Errorf("the tombstone is still there: %v, %v", ms, err)
	}
}

func TestStore_64writers(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 64*20)
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := range 20 {
				m := ms[w*20+i]
				for _, ch := range [][]Change{{routed(m, 1), intent(m, 0)}, {delivered(m, 0, uint32(m.ID))}} {
					if err := s.Put(ctx, ch...); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for _, m := range known(t, s).Messages {
		if m.Status != StatusSafe {
			t.Fatalf("message %d is %v", m.ID, m.Status)
		}
	}
	if claimed, err := s.Claimed(ctx, "home", "Lists.go", 7, 0); err != nil || len(claimed) != len(ms) {
		t.Errorf("%d UIDs claimed, want %d (%v)", len(claimed), len(ms), err)
	}
}
