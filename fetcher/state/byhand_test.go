package state

import (
	"testing"
	"time"
)

// TestRetry makes held messages ready for the next pass, each as far as it was.
func TestRetry(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 4)
	refused, broken, unread, fresh := ms[0], ms[1], ms[2], ms[3]
	mustPut(t, s, routed(refused, 2), intent(refused, 0), delivered(refused, 0, 11),
		intent(refused, 1), Failed{Message: refused.ID, N: 1, Class: "refused", Reply: "NO", NextTry: t0.Add(time.Hour), At: t0},
		Quarantined{Message: refused.ID, Note: "NO", NextTry: t0.Add(time.Hour), At: t0})
	mustPut(t, s, routed(broken, 2), intent(broken, 0), Failed{Message: broken.ID, Class: "lost", At: t0}, intent(broken, 1),
		Held{Message: broken.ID, Note: "interrupted 3 times", At: t0})
	mustPut(t, s, Fetching{Messages: []int64{unread.ID}}, Fetching{Messages: []int64{unread.ID}},
		Quarantined{Message: unread.ID, Note: "never ended", NextTry: t0.Add(time.Hour), At: t0})

	at := t0.Add(time.Minute)
	mustPut(t, s, Retry{Messages: []int64{refused.ID, broken.ID, unread.ID}, At: at})
	for _, x := range []struct {
		m    *Message
		want Status
	}{{refused, StatusRouted}, {broken, StatusRouted}, {unread, StatusNew}} {
		if got := one(t, s, x.m.ID); got.Status != x.want || got.Note != "" || !got.NextTry.IsZero() || got.Fetches != 0 {
			t.Errorf("message = %+v, want %v", got, x.want)
		}
	}
	ds := deliveriesOf(t, s, refused.ID)
	if ds[0].Status != DeliveryDelivered || ds[0].Attempts != 1 {
		t.Errorf("the delivered copy became %+v", ds[0])
	}
	if ds[1].Status != DeliveryFailed || ds[1].Attempts != 0 || !ds[1].NextTry.IsZero() || !ds[1].At.Equal(at) {
		t.Errorf("the refused copy became %+v", ds[1])
	}
	ds = deliveriesOf(t, s, broken.ID)
	if ds[0].Status != DeliveryFailed || ds[0].Class != "lost" || ds[0].Attempts != 0 {
		t.Errorf("the interrupted copy became %+v", ds[0])
	}
	if ds[1].Status != DeliveryIntent || ds[1].Attempts != 0 {
		t.Errorf("the uncertain copy became %+v", ds[1])
	}
	mustPut(t, s, intent(refused, 1), delivered(refused, 1, 12))
	wantStatus(t, s, refused.ID, StatusSafe)
	wantConflict(t, s, Retry{Messages: []int64{unread.ID}})
	wantConflict(t, s, Retry{Messages: []int64{fresh.ID}})
	wantConflict(t, s, Retry{Messages: []int64{refused.ID}})
}

// TestMarked gives messages up: they are never delivered and never deleted.
func TestMarked(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 3)
	held, under, planned := ms[0], ms[1], ms[2]
	mustPut(t, s, routed(held, 2), intent(held, 0), delivered(held, 0, 11), intent(held, 1), Failed{Message: held.ID, N: 1, At: t0},
		Held{Message: held.ID, Note: "NO", At: t0})
	mustPut(t, s, routed(under, 1), intent(under, 0))
	mustPut(t, s, routed(planned, 1))
	all := []int64{held.ID, under.ID, planned.ID}
	mustPut(t, s, Marked{Messages: all, Note: "given up"})
	for _, m := range ms {
		if got := one(t, s, m.ID); got.Status != StatusMarked || got.Note != "given up" {
			t.Errorf("message = %+v", got)
		}
	}
	if ds := deliveriesOf(t, s, held.ID); ds[0].Status != DeliveryDelivered || ds[1].Status != DeliveryFailed {
		t.Errorf("deliveries = %+v", ds)
	}
	if ds := deliveriesOf(t, s, planned.ID); len(ds) != 0 {
		t.Errorf("a copy that nobody will make is still planned: %+v", ds)
	}
	if u, err := s.Uncertain(ctx, a.ID); err != nil || len(u) != 0 {
		t.Errorf("uncertain = %+v, %v", u, err)
	}
	for _, id := range all {
		wantConflict(t, s, DelSent{Messages: []int64{id}, At: t0})
		wantConflict(t, s, Retry{Messages: []int64{id}})
	}
}

// TestForgotten removes rows so that they are new again, and the account with
// them: what is fetched is compared with the target.
func TestForgotten(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 3)
	for i, m := range ms {
		mustPut(t, s, routed(m, 1), intent(m, 0), delivered(m, 0, uint32(11+i)))
	}
	mustPut(t, s, PassDone{Account: a.ID, At: t0, FirstPass: true},
		Gone{Messages: []int64{ms[2].ID}, At: t0})
	wantConflict(t, s, Forgotten{Account: a.ID, Messages: []int64{ms[0].ID, ms[2].ID}})
	wantConflict(t, s, Forgotten{Account: a.ID + 1, Messages: []int64{ms[0].ID}})
	if k := known(t, s); len(k.Messages) != 2 || !k.Account.FirstPassDone {
		t.Fatalf("a refused change did something: %+v", k)
	}
	mustPut(t, s, Forgotten{Account: a.ID, Messages: []int64{ms[0].ID}})
	k := known(t, s)
	if len(k.Messages) != 1 || k.Messages[0].ID != ms[1].ID || k.Account.FirstPassDone {
		t.Errorf("known = %+v", k)
	}
	if ds := deliveriesOf(t, s, ms[0].ID); len(ds) != 0 {
		t.Errorf("deliveries = %+v", ds)
	}
	claimed, err := s.Claimed(ctx, "home", "Lists.go", 7, 0)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "claimed", claimed, map[uint32]bool{12: true, 13: true})
	mustPut(t, s, Listed{Account: &Account{Source: source}, New: []*Message{{UIDL: "u0"}}, At: t0})
}

// TestSetClock goes back, which Clock never does.
func TestSetClock(t *testing.T) {
	s := open(t, Options{})
	mustPut(t, s, Clock{Now: t0.AddDate(10, 0, 0)})
	mustPut(t, s, SetClock{Now: t0})
	if !s.Clock().Equal(t0) {
		t.Errorf("clock = %v", s.Clock())
	}
	mustPut(t, s, Clock{Now: t0.Add(time.Hour)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = reopen(t, s.Path()); !s.Clock().Equal(t0.Add(time.Hour)) {
		t.Errorf("clock = %v", s.Clock())
	}
}
