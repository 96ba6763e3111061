package fetcher

import (
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// TestRelay_rateUsedUp: a message counts once for all its recipients, while it is
// sent and when the state is asked what was sent before.
func TestRelay_rateUsedUp(t *testing.T) {
	w := newRelayWorld(t, 10, &targetstest.SMTP{LMTP: true})
	w.account.Keep = Keep{}
	w.rates = []targets.Rate{fourADay}
	for i, want := range []struct {
		after           time.Duration
		delivered, mail int
	}{{0, 4, 4}, {time.Hour, 0, 4}, {23*time.Hour + time.Minute, 4, 8}, {24*time.Hour + time.Minute, 2, 10}} {
		w.now = w.now.Add(want.after)
		r, err := w.pass(t.Context())
		if err != nil || r.Delivered != want.delivered || r.Deleted != want.delivered || r.Failed+r.Held != 0 || w.relay.Count("MAIL") != want.mail {
			t.Errorf("pass %d: %v, %+v, %d MAIL", i+1, err, r, w.relay.Count("MAIL"))
		}
		if used := w.left() > 0; used != (len(r.Warnings) == 1 && strings.Contains(r.Warnings[0], "4/day is used up")) {
			t.Errorf("pass %d: warnings %q", i+1, r.Warnings)
		}
	}
	if w.has(both[0]) != 10 || w.has(both[1]) != 10 {
		t.Errorf("jane has %d, john %d", w.has(both[0]), w.has(both[1]))
	}
}

// TestRelay_rateSentTwice: what one of two recipients gets later is a message of
// its own.
func TestRelay_rateSentTwice(t *testing.T) {
	w := newRelayWorld(t, 1, &targetstest.SMTP{LMTP: true, Hook: nth("RCPT", len(both), targetstest.SMTPAction{Reply: "450 4.2.0 later"})})
	w.rates = []targets.Rate{{N: 2, Per: time.Hour, Text: "2/h"}}
	for i, want := range []Report{{Failed: 1}, {Delivered: 1}, {Warnings: []string{"home: rate: 2/h is used up, goes on at 13:01"}}} {
		if i == 2 {
			w.add("more", "Subject: more\r\n\r\nx\r\n")
		}
		r, err := w.pass(t.Context())
		if err != nil || r.Failed != want.Failed || r.Delivered != want.Delivered || !slices.Equal(r.Warnings, want.Warnings) {
			t.Errorf("pass %d: %v, %+v", i+1, err, r)
		}
		w.now = w.now.Add(time.Minute)
	}
	if w.has(both[0]) != 1 || w.has(both[1]) != 1 || w.relay.Count("MAIL") != 2 {
		t.Errorf("jane has %d, john %d, %d MAIL", w.has(both[0]), w.has(both[1]), w.relay.Count("MAIL"))
	}
}

// TestRelay_rateGivenBack: what nobody took used nothing of the rate.
func TestRelay_rateGivenBack(t *testing.T) {
	w := newRelayWorld(t, 1, &targetstest.SMTP{Hook: nth("DATA", 1, targetstest.SMTPAction{Reply: "451 4.3.0 later"})})
	w.rates = []targets.Rate{{N: 1, Per: time.Hour, Text: "1/h"}}
	st := w.open()
	defer st.Close()
	f := w.fetcher(st) // both passes in one process: the state cannot know
	for i, delivered := range []int{0, 1} {
		if r, err := f.Pass(t.Context(), w.job, w.account); err != nil || r.Delivered != delivered || r.Skipped != 0 {
			t.Errorf("pass %d: %v, %+v", i+1, err, r)
		}
	}
}

// TestRelay_rateBeforeIntent: a message that waits for its turn has no intent on
// disk.
func TestRelay_rateBeforeIntent(t *testing.T) {
	relay := &targetstest.SMTP{}
	most := make(chan int, 3) // intents on disk at each MAIL
	var uncertain func() int
	relay.Hook = func(c targetstest.SMTPCommand) targetstest.SMTPAction {
		if c.Verb == "MAIL" {
			most <- uncertain()
		}
		return targetstest.SMTPAction{}
	}
	w := newRelayWorld(t, 3, relay)
	w.rates = []targets.Rate{{N: 19, Per: 10 * time.Second}}
	st := w.open()
	defer st.Close()
	uncertain = func() int {
		known, err := st.Known(t.Context(), w.account.Source())
		if err != nil {
			t.Error(err)
		}
		ds, err := st.Uncertain(t.Context(), known.Account.ID)
		if err != nil {
			t.Error(err)
		}
		return len(ds)
	}
	if r, err := w.fetcher(st).Pass(t.Context(), w.job, w.account); err != nil || r.Delivered != 3 {
		t.Errorf("%v, %+v", err, r)
	}
	close(most)
	for n := range most {
		if n != len(both) {
			t.Errorf("%d copies have an intent while one message is sent", n)
		}
	}
}
