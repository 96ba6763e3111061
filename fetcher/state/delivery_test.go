package state

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRouted_again replaces what was never begun and keeps what was.
func TestRouted_again(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	m := ms[0]
	mustPut(t, s, routed(m, 3), intent(m, 1), Failed{Message: m.ID, N: 1, Class: "refused", Reply: "NO", At: t0})
	mustPut(t, s, Routed{Message: m, Deliveries: []Delivery{{N: 5, Target: "other"}}})
	ds := deliveriesOf(t, s, m.ID)
	if len(ds) != 2 || ds[0].N != 1 || ds[0].Status != DeliveryFailed || ds[1].N != 5 || ds[1].Target != "other" {
		t.Errorf("deliveries = %+v", ds)
	}
	mustPut(t, s, intent(m, 1), Intent{Message: m.ID, N: 5, At: t0}, delivered(m, 1, 11), delivered(m, 5, 12))
	wantStatus(t, s, m.ID, StatusSafe)
}

func TestFailed(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	m := ms[0]
	mustPut(t, s, routed(m, 1), intent(m, 0), Failed{Message: m.ID, Class: "refused", Reply: "NO [TOOBIG]", NextTry: t0, At: t0})
	mustPut(t, s, intent(m, 0), Commit{Message: m.ID, At: t0}, Failed{Message: m.ID, Class: "transient", Reply: "451", Uncharge: true, At: t0})
	d := deliveriesOf(t, s, m.ID)[0]
	if d.Attempts != 1 || d.Status != DeliveryFailed || d.Class != "transient" || d.Reply != "451" || !d.NextTry.IsZero() {
		t.Errorf("delivery = %+v", d)
	}
	mustPut(t, s, intent(m, 0), delivered(m, 0, 11))
	if d := deliveriesOf(t, s, m.ID)[0]; d.Attempts != 2 || d.Class != "" || d.Reply != "OK done" {
		t.Errorf("delivery = %+v", d)
	}
}

// TestUncertain returns intents and commits of the account without outcome.
func TestUncertain(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 5)
	for _, m := range ms {
		mustPut(t, s, routed(m, 1))
	}
	for _, m := range ms[:4] {
		mustPut(t, s, intent(m, 0))
	}
	mustPut(t, s, Commit{Message: ms[1].ID, At: t0}, delivered(ms[2], 0, 11), Failed{Message: ms[3].ID, At: t0})
	got, err := s.Uncertain(ctx, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Message != ms[0].ID || got[0].Status != DeliveryIntent ||
		got[1].Message != ms[1].ID || got[1].Status != DeliveryCommit || got[1].UIDNext != 10 || got[1].UIDValidity != 7 {
		t.Errorf("Uncertain = %+v", got)
	}
	if got, err := s.Uncertain(ctx, a.ID+1); err != nil || got != nil {
		t.Errorf("Uncertain of another account = %+v, %v", got, err)
	}
}

// TestDelivered_existed needs no intent: nothing was sent.
func TestDelivered_existed(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	m := ms[0]
	d := delivered(m, 0, 11)
	d.Existed = true
	mustPut(t, s, routed(m, 1), d)
	wantStatus(t, s, m.ID, StatusSafe)
	if got := deliveriesOf(t, s, m.ID)[0]; !got.Existed || got.Attempts != 0 {
		t.Errorf("delivery = %+v", got)
	}
}

// TestSent counts what was stored at a target by the minute, and nothing else.
func TestSent(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 7)
	at := func(i int, d time.Duration) Delivered {
		x := delivered(ms[i], 0, uint32(i+1))
		x.At = t0.Add(d)
		return x
	}
	for i := range 6 {
		mustPut(t, s, routed(ms[i], 2), intent(ms[i], 0))
	}
	existed := at(4, time.Minute)
	existed.Existed = true
	mustPut(t, s, at(0, -time.Millisecond), at(1, 0), at(2, 59*time.Second), at(3, time.Hour), existed)
	size := func(i int) int64 { return ms[i].Octets }
	got, err := s.Sent(ctx, "home", t0)
	want := []Sent{
		{At: t0.Add(time.Minute), Messages: 2, Octets: size(1) + size(2)},
		{At: t0.Add(time.Hour + time.Minute), Messages: 1, Octets: size(3)},
	}
	if err != nil || !slices.EqualFunc(got, want, func(a, b Sent) bool {
		return a.At.Equal(b.At) && a.Messages == b.Messages && a.Octets == b.Octets
	}) {
		t.Errorf("Sent = %+v, %v, want %+v", got, err, want)
	}
	// What two recipients got at once was sent once; what a third got later, again.
	m := ms[6]
	r := routed(m, 3)
	for i := range r.Deliveries {
		r.Deliveries[i].Target, r.Deliveries[i].Rcpt = "relay", fmt.Sprint(i)
	}
	mustPut(t, s, r)
	for i, at := range []time.Time{t0, t0, t0.Add(time.Second)} {
		mustPut(t, s, intent(m, i), Delivered{Message: m.ID, N: i, At: at})
	}
	got, err = s.Sent(ctx, "relay", t0)
	if err != nil || len(got) != 1 || got[0].Messages != 2 || got[0].Octets != 2*m.Octets {
		t.Errorf("Sent to a relay = %+v, %v", got, err)
	}
	if got, err := s.Sent(ctx, "archive", t0); err != nil || got != nil {
		t.Errorf("Sent to another target = %+v, %v", got, err)
	}
}

func TestHeld(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 1)
	m := ms[0]
	mustPut(t, s, routed(m, 4), intent(m, 0), delivered(m, 0, 11), intent(m, 1), Failed{Message: m.ID, N: 1, At: t0})
	mustPut(t, s, intent(m, 2), Commit{Message: m.ID, N: 2, At: t0}, intent(m, 3))
	mustPut(t, s, Held{Message: m.ID, Note: "three uncertain ends", At: t0})
	if got := one(t, s, m.ID); got.Status != StatusHeld || got.Note != "three uncertain ends" {
		t.Errorf("message = %+v", got)
	}
	ds := deliveriesOf(t, s, m.ID)
	if ds[0].Status != DeliveryDelivered || ds[1].Status != DeliveryHeld || ds[2].Status != DeliveryHeld {
		t.Errorf("deliveries = %v, %v, %v", ds[0].Status, ds[1].Status, ds[2].Status)
	}
	// Its copy may have arrived: a search is still due.
	if u, _ := s.Uncertain(ctx, a.ID); len(u) != 1 || u[0].N != 3 {
		t.Errorf("uncertain = %+v", u)
	}
	wantConflict(t, s, intent(m, 1))
	wantConflict(t, s, DelSent{Messages: []int64{m.ID}, At: t0})
}

func TestQuarantined(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	m := ms[0]
	mustPut(t, s, routed(m, 1), intent(m, 0), Failed{Message: m.ID, At: t0}, Quarantined{Message: m.ID, Note: "NO", NextTry: t0, At: t0})
	mustPut(t, s, Quarantined{Message: m.ID, Note: "NO again", NextTry: t0.Add(time.Hour), At: t0})
	if got := one(t, s, m.ID); got.Status != StatusQuarantined || got.Holds != 2 || got.Note != "NO again" || !got.NextTry.Equal(t0.Add(time.Hour)) {
		t.Errorf("message = %+v", got)
	}
	// Tried again, and accepted.
	mustPut(t, s, intent(m, 0), delivered(m, 0, 11))
	if got := one(t, s, m.ID); got.Status != StatusSafe || got.Note != "" || !got.NextTry.IsZero() {
		t.Errorf("message = %+v", got)
	}
}

// TestCopies returns what was delivered to a folder, by whichever account.
func TestCopies(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 3)
	for _, m := range ms {
		mustPut(t, s, routed(m, 1), intent(m, 0))
	}
	mustPut(t, s, delivered(ms[0], 0, 11), delivered(ms[1], 0, 0), Gone{Messages: []int64{ms[1].ID}, At: t0})
	got, err := s.Copies(ctx, "home", "Lists.go")
	if err != nil {
		t.Fatal(err)
	}
	want := func(m *Message, uid uint32) Copy {
		return Copy{
			Hash: m.Hash, CanonSize: m.CanonSize, Stable: m.Stable, MessageID: m.MessageID,
			UIDValidity: 7, UIDNext: 10, UID: uid, At: t0.Add(2 * time.Minute),
		}
	}
	diff(t, "copies", got, []Copy{want(ms[0], 11), want(ms[1], 0)})
	if got, err := s.Copies(ctx, "home", "INBOX"); err != nil || got != nil {
		t.Errorf("copies elsewhere = %+v, %v", got, err)
	}
}

// An intent that comes with the route it belongs to leaves the same rows as one
// that comes later.
func TestIntent_withItsRoute(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 3)
	mustPut(t, s, routed(ms[0], 1), intent(ms[0], 0))
	mustPut(t, s, routed(ms[1], 1))
	mustPut(t, s, intent(ms[1], 0))
	got := deliveriesOf(t, s, ms[0].ID, ms[1].ID)
	if len(got) != 2 {
		t.Fatalf("%d deliveries", len(got))
	}
	together, apart := got[0], got[1]
	together.Message = apart.Message
	if d := cmp.Diff(apart, together); d != "" || apart.Status != DeliveryIntent || apart.Attempts != 1 {
		t.Errorf("apart %+v; together (-apart +together)\n%s", apart, d)
	}
	wantStatus(t, s, ms[0].ID, StatusRouted)
	// One that is about another copy than the route's stands by itself.
	err := s.Put(ctx, routed(ms[2], 1), intent(ms[2], 1))
	if !errors.Is(err, ErrConflict) {
		t.Errorf("an intent without a row: %v", err)
	}
	if got := deliveriesOf(t, s, ms[2].ID); len(got) != 0 {
		t.Errorf("the route of a refused Put was written: %+v", got)
	}
}
