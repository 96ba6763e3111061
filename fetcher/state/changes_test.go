package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// TestPut_conflict gives changes to rows that do not allow them. Nothing may be
// written, and the store must go on.
func TestPut_conflict(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 4)
	fresh, safe, gone, under := ms[0], ms[1], ms[2], ms[3]
	mustPut(t, s, routed(safe, 1), intent(safe, 0), delivered(safe, 0, 11))
	mustPut(t, s, routed(gone, 1), intent(gone, 0), delivered(gone, 0, 12), DelSent{Messages: []int64{gone.ID}, At: t0}, Gone{Messages: []int64{gone.ID}, At: t0})
	mustPut(t, s, routed(under, 2), intent(under, 0))
	before := dump(t, s)
	for name, ch := range map[string]Change{
		"delivered twice":                  delivered(safe, 0, 13),
		"delivered becomes failed":         Failed{Message: safe.ID, At: t0},
		"delivered becomes intent":         intent(safe, 0),
		"delivered becomes commit":         Commit{Message: safe.ID, At: t0},
		"delivered without intent":         delivered(under, 1, 14),
		"commit without intent":            Commit{Message: under.ID, N: 1, At: t0},
		"intent twice":                     intent(under, 0),
		"intent of no delivery":            intent(fresh, 0),
		"safe is routed again":             routed(safe, 1),
		"safe is dropped":                  Dropped{Message: safe, Rule: "r", At: t0},
		"safe is held":                     Held{Message: safe.ID, At: t0},
		"safe is quarantined":              Quarantined{Message: safe.ID, At: t0},
		"safe is marked":                   Marked{Messages: []int64{safe.ID}},
		"one under way is dropped":         Dropped{Message: under, Rule: "r", At: t0},
		"routed nowhere":                   routed(fresh, 0),
		"routed without content":           Routed{Message: &Message{ID: fresh.ID}, Deliveries: []Delivery{{}}},
		"routed over a begun delivery":     routed(under, 1),
		"DELE of a new one":                DelSent{Messages: []int64{fresh.ID}, At: t0},
		"DELE of one under way":            DelSent{Messages: []int64{safe.ID, under.ID}, At: t0},
		"gone twice":                       Gone{Messages: []int64{gone.ID}, At: t0},
		"gone is fetched":                  Fetching{Messages: []int64{fresh.ID, gone.ID}},
		"gone gets a key":                  Rekey{Message: gone.ID, UIDL: "x"},
		"a key that another message holds": Rekey{Message: under.ID, UIDL: safe.UIDL},
		"an unknown message":               MessageFailed{Message: 999},
		"an unknown account":               PassDone{Account: 999, At: t0},
		"a UIDL listed twice":              Listed{Account: &Account{Source: source}, New: []*Message{{UIDL: "u0"}}, At: t0},
		"a UIDL of 513 octets":             Listed{Account: &Account{Source: source}, New: []*Message{{UIDL: strings.Repeat("x", 513)}}, At: t0},
		"no UIDL":                          Listed{Account: &Account{Source: source}, New: []*Message{{}}, At: t0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			// The first change alone would do: all or none.
			wantConflict(t, s, Fetching{Messages: []int64{fresh.ID}}, ch)
			diff(t, "state", dump(t, s), before)
		})
	}
	mustPut(t, s, Fetching{Messages: []int64{fresh.ID}})
}

// dump returns all rows there are.
func dump(t testing.TB, s *Store) (out [][]string) {
	t.Helper()
	for _, table := range []string{"account", "message", "delivery"} {
		err := s.read(ctx, "SELECT * FROM "+table+" ORDER BY 1, 2", nil, func(r row) error {
			out = append(out, columns(r))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// columns returns all columns of a row, escaped.
func columns(r row) (out []string) {
	for i := range int(sqlite3.Xsqlite3_column_count(r.tls, r.st)) {
		out = append(out, fmt.Sprintf("%q", r.text(i)))
	}
	return out
}

// TestPut_conflictAmongOthers makes sure that a change that does not fit costs
// only its own Put, whatever transaction it shared.
func TestPut_conflictAmongOthers(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 64)
	var wg sync.WaitGroup
	for i, m := range ms {
		wg.Go(func() {
			if i%3 == 0 {
				if err := s.Put(ctx, Fetching{Messages: []int64{m.ID}}, Gone{Messages: []int64{999}, At: t0}); !errors.Is(err, ErrConflict) {
					t.Errorf("Put = %v, want ErrConflict", err)
				}
				return
			}
			mustPut(t, s, Fetching{Messages: []int64{m.ID}})
		})
	}
	wg.Wait()
	for i, m := range known(t, s).Messages {
		want := 1
		if i%3 == 0 {
			want = 0
		}
		if m.Fetches != want {
			t.Errorf("message %d has %d fetches, want %d", i, m.Fetches, want)
		}
	}
}

func TestPut_context(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(done, Fetching{Messages: []int64{ms[0].ID}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Put = %v", err)
	}
	if got := one(t, s, ms[0].ID).Fetches; got != 0 {
		t.Errorf("%d fetches were written under an ended context", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, Fetching{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Put after Close = %v", err)
	}
	if _, err := s.Known(ctx, source); !errors.Is(err, ErrClosed) {
		t.Errorf("Known after Close = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

// TestListed_octets keeps UIDLs as they came, whatever they are.
func TestListed_octets(t *testing.T) {
	s := open(t, Options{})
	uidls := []string{"plain", "\x00\xff'\"; DROP TABLE message", "ü\xc3", strings.Repeat("\xfe", 512), "dup", "dup"}
	var ms []*Message
	for i, u := range uidls {
		m := &Message{UIDL: u, Size: 1 << 40}
		if i == len(uidls)-1 {
			m.Gen = 1
		}
		ms = append(ms, m)
	}
	mustPut(t, s, Listed{Account: &Account{Source: source}, New: ms, At: t0})
	k := known(t, s)
	var got []string
	for _, m := range k.Messages {
		got = append(got, m.UIDL)
	}
	diff(t, "UIDLs", got, uidls)
	if m := k.Messages[5]; m.Gen != 1 || m.Size != 1<<40 {
		t.Errorf("last = %+v", m)
	}
	// The same again, by another source.
	other := &Account{Source: "pop.isp.example:995/joe", Name: "joe"}
	mustPut(t, s, Listed{Account: other, New: []*Message{{UIDL: "plain"}}, At: t0})
	if other.ID == k.Account.ID {
		t.Error("two sources share a row")
	}
}

// TestListed_again updates the account and numbers rows on, also in a store
// opened anew.
func TestListed_again(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 100)
	_ = s.Close()
	s = reopen(t, s.Path())
	again := &Account{Source: source, Name: "renamed"}
	m := &Message{UIDL: "new"}
	mustPut(t, s, Listed{Account: again, New: []*Message{m}, Hash: []byte("h2"), Count: 101, At: t0.Add(time.Hour)})
	if again.ID != a.ID || m.ID != ms[99].ID+1 || !m.FirstSeen.Equal(t0.Add(time.Hour)) {
		t.Errorf("account %d, message %d seen %v", again.ID, m.ID, m.FirstSeen)
	}
	k := known(t, s)
	if k.Account.Name != "renamed" || string(k.Account.ListHash) != "h2" || k.Account.ListCount != 101 || len(k.Messages) != 101 {
		t.Errorf("account = %+v, %d messages", k.Account, len(k.Messages))
	}
}

// TestListed_afterGone lets a server use a UIDL again.
func TestListed_afterGone(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 1)
	mustPut(t, s, Gone{Messages: []int64{ms[0].ID}, At: t0})
	m := &Message{UIDL: "u0"}
	mustPut(t, s, Listed{Account: a, New: []*Message{m}, At: t0})
	if k := known(t, s); len(k.Messages) != 1 || k.Messages[0].ID != m.ID || m.ID == ms[0].ID {
		t.Errorf("known = %+v", k.Messages)
	}
}

func TestFetching_unfetched(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 3)
	list := []int64{ms[0].ID, ms[1].ID, ms[2].ID}
	mustPut(t, s, Fetching{Messages: list}, Fetching{Messages: list})
	mustPut(t, s, Unfetched{Messages: list[:1]})
	mustPut(t, s, MessageFailed{Message: list[1], Class: "fetch", Reply: "-ERR no", NextTry: t0, Uncharge: true})
	mustPut(t, s, MessageFailed{Message: list[2], Reply: "-ERR no"})
	got := known(t, s).Messages
	if got[0].Fetches != 1 || got[1].Fetches != 1 || got[2].Fetches != 2 {
		t.Errorf("fetches %d %d %d, want 1 1 2", got[0].Fetches, got[1].Fetches, got[2].Fetches)
	}
	if got[1].Note != "fetch: -ERR no" || !got[1].NextTry.Equal(t0) || got[2].Note != "-ERR no" {
		t.Errorf("notes %q %q, next try %v", got[1].Note, got[2].Note, got[1].NextTry)
	}
	mustPut(t, s, Unfetched{Messages: list[:1]}, Unfetched{Messages: list[:1]})
	if n := one(t, s, list[0]).Fetches; n != 0 {
		t.Errorf("%d fetches, want 0", n)
	}
}

func TestDropped_marked(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 3)
	ms[0].Content = content(0)
	mustPut(t, s, Dropped{Message: ms[0], Rule: "spam", At: t0}, Dropped{Message: ms[1], Rule: "spam", At: t0})
	mustPut(t, s, Marked{Messages: []int64{ms[2].ID}, Note: "first_run: skip"})
	if m := one(t, s, ms[0].ID); m.Status != StatusDropped || m.Note != "spam" || m.Content == nil || m.Hash != content(0).Hash {
		t.Errorf("dropped = %+v", m)
	}
	if m := one(t, s, ms[1].ID); m.Status != StatusDropped || m.Content != nil {
		t.Errorf("dropped by its header = %+v", m)
	}
	if m := one(t, s, ms[2].ID); m.Status != StatusMarked || m.Note != "first_run: skip" {
		t.Errorf("marked = %+v", m)
	}
	mustPut(t, s, DelSent{Messages: []int64{ms[0].ID, ms[1].ID}, At: t0})
	wantConflict(t, s, DelSent{Messages: []int64{ms[2].ID}, At: t0})
}

// TestDropped_routed drops a message that was routed by older rules, but of
// which nothing was sent.
func TestDropped_routed(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	mustPut(t, s, routed(ms[0], 2), Dropped{Message: ms[0], Rule: "spam", At: t0})
	if ds := deliveriesOf(t, s, ms[0].ID); len(ds) != 0 {
		t.Errorf("deliveries = %+v", ds)
	}
}

func TestAbsent_present(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 2)
	id := []int64{ms[0].ID}
	mustPut(t, s, routed(ms[0], 1))
	mustPut(t, s, Absent{Messages: id, At: t0}, Absent{Messages: id, At: t0.Add(time.Hour)})
	if got := one(t, s, id[0]).AbsentSince; !got.Equal(t0) {
		t.Errorf("absent since %v, want the first time", got)
	}
	if left, err := s.ByHash(ctx, a.ID, ms[0].Hash); err != nil || len(left) != 1 {
		t.Errorf("ByHash = %+v, %v", left, err)
	}
	mustPut(t, s, Present{Messages: id})
	if got := one(t, s, id[0]).AbsentSince; !got.IsZero() {
		t.Errorf("absent since %v", got)
	}
	if left, err := s.ByHash(ctx, a.ID, ms[0].Hash); err != nil || len(left) != 0 {
		t.Errorf("ByHash of a listed message = %+v, %v", left, err)
	}
}

// TestRekey moves a delivered message to the key its account lists now, over the
// row that the listing has made.
func TestRekey(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 1)
	m := ms[0]
	mustPut(t, s, routed(m, 1), intent(m, 0), delivered(m, 0, 11))
	fresh := &Message{UIDL: "new\xff", Size: 7}
	mustPut(t, s, Listed{Account: a, New: []*Message{fresh}, At: t0.Add(time.Hour)}, Absent{Messages: []int64{m.ID}, At: t0})
	mustPut(t, s, Rekey{Message: m.ID, UIDL: "new\xff", Size: 7})
	k := known(t, s)
	if len(k.Messages) != 1 {
		t.Fatalf("%d rows, want 1", len(k.Messages))
	}
	want := &Message{ID: m.ID, UIDL: "new\xff", Size: 7, FirstSeen: t0, Status: StatusSafe}
	diff(t, "message", k.Messages[0], want)
}

func TestPassDone(t *testing.T) {
	s := open(t, Options{})
	a, _ := list(t, s, 0)
	mustPut(t, s, PassDone{Account: a.ID, At: t0, Success: true, FirstPass: true})
	mustPut(t, s, PassDone{Account: a.ID, At: t0.Add(time.Hour)})
	got := known(t, s).Account
	if !got.FirstPassDone || !got.LastPass.Equal(t0.Add(time.Hour)) || !got.LastSuccess.Equal(t0) {
		t.Errorf("account = %+v", got)
	}
}

func TestClock(t *testing.T) {
	s := open(t, Options{})
	if !s.Clock().IsZero() {
		t.Errorf("new clock = %v", s.Clock())
	}
	const day = 24 * time.Hour
	for _, step := range []struct{ now, want time.Time }{
		{t0, t0},
		{t0.Add(-10 * day), t0},
		{t0.Add(day), t0.Add(day)},
		{t0.Add(3650 * day), t0.Add(41 * day)},
		{t0.Add(2 * day), t0.Add(41 * day)},
	} {
		mustPut(t, s, Clock{Now: step.now})
		if got := s.Clock(); !got.Equal(step.want) {
			t.Errorf("at %v the clock is %v, want %v", step.now, got, step.want)
		}
	}
	_ = s.Close()
	if got := reopen(t, s.Path()).Clock(); !got.Equal(t0.Add(41 * day)) {
		t.Errorf("opened again it is %v", got)
	}
}

func TestAccounts(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 7)
	for i := range 3 {
		mustPut(t, s, routed(ms[i], 1), intent(ms[i], 0), delivered(ms[i], 0, uint32(11+i)))
	}
	mustPut(t, s, Gone{Messages: []int64{ms[0].ID}, At: t0}, Absent{Messages: []int64{ms[1].ID}, At: t0})
	mustPut(t, s, Dropped{Message: ms[3], Rule: "r", At: t0}, Held{Message: ms[4].ID, At: t0}, Quarantined{Message: ms[5].ID, At: t0})
	empty := &Account{Source: "pop.b.example:995/x", Name: "a"}
	mustPut(t, s, Listed{Account: empty, At: t0})
	mustPut(t, s, PassDone{Account: empty.ID, At: t0, Success: true})
	got, err := s.Accounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "accounts", got, []AccountSummary{
		{Account: Account{ID: empty.ID, Source: empty.Source, Name: "a", LastPass: t0, LastSuccess: t0}},
		{Account: known(t, s).Account, Known: 6, OnServer: 5, Waiting: 2, OldestWaiting: t0, Undelivered: 1, Held: 2, FirstSeen: t0},
	})
}

func TestStatus_strings(t *testing.T) {
	if got := StatusQuarantined.String() + " " + DeliveryHeld.String() + " " + Status(99).String(); got != "quarantined held unknown" {
		t.Error(got)
	}
}

// TestSuspect keeps a message from ever being deleted, and says why.
func TestSuspect(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	m := ms[0]
	mustPut(t, s, routed(m, 1), intent(m, 0), Suspect{Message: m.ID, Note: "not as large as LIST said"}, delivered(m, 0, 11))
	if got := known(t, s).Messages[0]; !got.Suspect || got.Status != StatusSafe || got.Note != "not as large as LIST said" {
		t.Errorf("message = %+v", got)
	}
	wantConflict(t, s, DelSent{Messages: []int64{m.ID}, At: t0})
	if a, err := s.Accounts(ctx); err != nil || a[0].OnServer != 1 || a[0].Waiting != 0 || !a[0].OldestWaiting.IsZero() {
		t.Errorf("accounts = %+v, %v", a, err)
	}
}

func TestExact(t *testing.T) {
	s := open(t, Options{})
	a, _ := list(t, s, 0)
	mustPut(t, s, Exact{Account: a.ID, Count: 20})
	if got := known(t, s).Account.Exact; got != 20 {
		t.Errorf("exact = %d", got)
	}
	wantConflict(t, s, Exact{Account: a.ID + 1, Count: 1})
}

// TestKeep remembers what a rule says about a message, and of one dropped for
// its header what it is known by.
func TestKeep(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 4)
	ms[0].Keep = new(36 * time.Hour)
	mustPut(t, s, routed(ms[0], 1))
	ms[1].Keep = new(Forever)
	mustPut(t, s, routed(ms[1], 1))
	ms[2].Keep, ms[2].Content = new(time.Duration(0)), &Content{Stable: [32]byte{9}, MessageID: "<x@y>"}
	mustPut(t, s, Dropped{Message: ms[2], Rule: "r", At: t0})
	k := known(t, s)
	for i, want := range []*time.Duration{new(36 * time.Hour), new(Forever), new(time.Duration(0)), nil} {
		diff(t, ms[i].UIDL, k.Messages[i].Keep, want)
	}
	if got := one(t, s, ms[2].ID).Content; got == nil || got.Stable != ms[2].Stable || got.MessageID != "<x@y>" {
		t.Errorf("content = %+v", got)
	}
	mustPut(t, s, Absent{Messages: []int64{ms[2].ID}, At: t0})
	if left, err := s.ByHash(ctx, a.ID, [32]byte{}); err != nil || len(left) != 0 {
		t.Errorf("a message without a hash is found by one: %+v, %v", left, err)
	}
	if _, err := ReadExport(strings.NewReader(exported(t, s))); err != nil {
		t.Error(err)
	}
}
