package fetcher

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

const day = 24 * time.Hour

// summary is a plan in one line, by UIDL for messages listed and by id for rows.
func (pl *plan) summary() string {
	var b strings.Builder
	items := func(name string, its []item) {
		if len(its) > 0 {
			fmt.Fprintf(&b, " %s", name)
			for _, it := range its {
				fmt.Fprintf(&b, ":%s#%d", it.UIDL, it.Num)
			}
		}
	}
	rows := func(name string, ids []int64) {
		if len(ids) > 0 {
			slices.Sort(ids)
			fmt.Fprintf(&b, " %s%v", name, ids)
		}
	}
	items("fresh", pl.fresh)
	items("fetch", pl.fetch)
	items("expired", pl.expired)
	items("skipped", pl.skipped)
	rows("absent", pl.absent)
	rows("gone", pl.gone)
	rows("present", pl.present)
	if pl.held > 0 {
		fmt.Fprintf(&b, " held=%d", pl.held)
	}
	if pl.rest {
		b.WriteString(" rest")
	}
	if len(pl.warnings) > 0 {
		b.WriteString(" warned")
	}
	return strings.TrimSpace(b.String())
}

func listing(uidls ...string) maildrop.Listing {
	l := maildrop.Listing{Complete: true, Messages: len(uidls)}
	for i, u := range uidls {
		l.Entries = append(l.Entries, maildrop.Entry{Num: i + 1, UIDL: u, Size: 100})
	}
	return l
}

func known(id int64, uidl string, st state.Status, firstSeen time.Time) *state.Message {
	return &state.Message{ID: id, UIDL: uidl, Size: 100, Status: st, FirstSeen: firstSeen}
}

func TestPlan(t *testing.T) {
	keepAll := Keep{Forever: true}
	month := Keep{For: 30 * day}
	var many []*state.Message
	for i := range 20 {
		many = append(many, known(int64(i+1), fmt.Sprintf("m%02d", i), state.StatusSafe, ago(day)))
	}
	putOff := func(id int64, uidl string, st state.Status) *state.Message {
		m := known(id, uidl, st, ago(day))
		m.NextTry = noon.Add(time.Hour)
		return m
	}
	quarantined := func(next time.Time) *state.Message {
		m := known(1, "a", state.StatusQuarantined, ago(day))
		m.NextTry = next
		return m
	}
	absent := func(since time.Time) *state.Message {
		m := known(1, "a", state.StatusSafe, ago(day))
		m.AbsentSince = since
		return m
	}
	for _, c := range []struct {
		name string
		q    question
		want string
	}{
		{"everything new", question{listing: listing("a", "b"), keep: keepAll}, "fresh:a#1:b#2 fetch:a#1:b#2"},
		{
			"nothing new",
			question{listing: listing("a"), known: []*state.Message{known(1, "a", state.StatusSafe, ago(99*day))}, keep: keepAll},
			"",
		},
		{
			"kept for 30 days",
			question{listing: listing("a", "b"), keep: month, known: []*state.Message{known(1, "a", state.StatusSafe, ago(30*day)), known(2, "b", state.StatusSafe, ago(30*day-time.Second))}},
			"expired:a#1",
		},
		{
			"what was put off waits for its time",
			question{listing: listing("a", "b"), keep: keepAll, known: []*state.Message{putOff(1, "a", state.StatusNew), putOff(2, "b", state.StatusRouted)}},
			"",
		},
		{
			"unless somebody wants it now, who does not mean what is held",
			question{listing: listing("a", "b", "q"), keep: keepAll, eager: true, known: []*state.Message{putOff(1, "a", state.StatusNew), putOff(2, "b", state.StatusRouted), putOff(3, "q", state.StatusQuarantined)}},
			"fetch:a#1:b#2 held=1",
		},
		{
			"a final keep stands above what a rule said",
			question{listing: listing("a", "b"), keep: Keep{Forever: true, Final: true}, known: []*state.Message{
				known(1, "a", state.StatusSafe, ago(99*day)), {ID: 2, UIDL: "b", Size: 100, Status: state.StatusDropped, FirstSeen: ago(99 * day), Keep: new(day)},
			}},
			"",
		},
		{
			"a keep that is not final does not",
			question{listing: listing("b"), keep: keepAll, known: []*state.Message{
				{ID: 2, UIDL: "b", Size: 100, Status: state.StatusDropped, FirstSeen: ago(99 * day), Keep: new(day)},
			}},
			"expired:b#1",
		},
		{
			"what no target has is never deleted",
			question{listing: listing("a", "b", "c", "d", "e"), keep: Keep{}, known: []*state.Message{
				known(1, "a", state.StatusNew, ago(99*day)), known(2, "b", state.StatusRouted, ago(99*day)), known(3, "c", state.StatusHeld, ago(99*day)),
				known(4, "d", state.StatusMarked, ago(99*day)), known(5, "e", state.StatusDropped, ago(99*day)),
			}},
			"fetch:a#1:b#2 expired:e#5 held=1",
		},
		{
			"delete at once what was delivered before",
			question{listing: listing("a"), keep: Keep{}, known: []*state.Message{known(1, "a", state.StatusSafe, noon)}},
			"expired:a#1",
		},
		{
			"a clock that cannot be trusted deletes nothing",
			question{listing: listing("a"), keep: month, noExpiry: true, known: []*state.Message{known(1, "a", state.StatusSafe, ago(99*day))}},
			"",
		},
		{
			"an uncertain delivery is left alone",
			question{listing: listing("a"), keep: keepAll, uncertain: map[int64]bool{1: true}, known: []*state.Message{known(1, "a", state.StatusRouted, ago(day))}},
			"",
		},
		{
			"what failed in this pass waits for the next",
			question{listing: listing("a"), keep: keepAll, tried: map[int64]bool{1: true}, known: []*state.Message{known(1, "a", state.StatusNew, ago(day))}},
			"",
		},
		{"held until its time", question{listing: listing("a"), keep: keepAll, known: []*state.Message{quarantined(noon.Add(1))}}, "held=1"},
		{"held, and its time has come", question{listing: listing("a"), keep: keepAll, known: []*state.Message{quarantined(noon)}}, "fetch:a#1"},
		{
			"one UIDL for two messages",
			question{listing: listing("a", "a", "b"), keep: keepAll, known: []*state.Message{known(1, "a", state.StatusSafe, ago(day))}},
			"fresh:a#2:b#3 fetch:a#2:b#3",
		},
		{
			"missing for the first time",
			question{listing: listing("b"), keep: keepAll, known: []*state.Message{known(1, "a", state.StatusSafe, ago(day)), known(2, "b", state.StatusSafe, ago(day))}},
			"absent[1]",
		},
		{"missing for a day", question{listing: listing(), keep: keepAll, known: []*state.Message{absent(ago(day))}}, "gone[1]"},
		{"missing for less", question{listing: listing(), keep: keepAll, known: []*state.Message{absent(ago(day - 1))}}, ""},
		{"back again", question{listing: listing("a"), keep: keepAll, known: []*state.Message{absent(ago(day))}}, "present[1]"},
		{
			"an empty listing forgets nothing",
			question{listing: listing(), keep: keepAll, known: many},
			"warned",
		},
		{
			"a partial listing forgets nothing",
			question{listing: maildrop.Listing{Entries: listing("m00").Entries}, keep: keepAll, known: many[:5]},
			"",
		},
		{"at most so many", question{listing: listing("a", "b", "c"), keep: keepAll, limits: Limits{Messages: 2}}, "fresh:a#1:b#2:c#3 fetch:a#1:b#2 rest"},
		{"at most so much", question{listing: listing("a", "b", "c"), keep: keepAll, limits: Limits{Bytes: 250}}, "fresh:a#1:b#2:c#3 fetch:a#1:b#2 rest"},
		{"one above the limit is still taken", question{listing: listing("a", "b"), keep: keepAll, limits: Limits{Bytes: 50}}, "fresh:a#1:b#2 fetch:a#1 rest"},
		{"too large is left there", question{listing: listing("a"), keep: Keep{}, limits: Limits{MaxSize: 99}}, "fresh:a#1 skipped:a#1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.now = noon
			if got := planFor(&c.q).summary(); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestClockTrouble(t *testing.T) {
	for _, c := range []struct {
		name string
		high time.Time
		bad  bool
	}{
		{"first pass", time.Time{}, false},
		{"an hour later", ago(time.Hour), false},
		{"four minutes back", noon.Add(4 * time.Minute), false},
		{"ten days back", noon.Add(10 * day), true},
		{"ten years ahead", ago(3650 * day), true},
		{"a month's holiday", ago(31 * day), false},
	} {
		if got := clockTrouble(c.high, noon) != ""; got != c.bad {
			t.Errorf("%s: trouble = %v, want %v", c.name, got, c.bad)
		}
	}
}

func TestKeep_String(t *testing.T) {
	for k, want := range map[Keep]string{
		{Forever: true}:         "forever",
		{}:                      "0d",
		{For: 30 * day}:         "30d",
		{For: 90 * time.Minute}: "1h30m0s",
	} {
		if got := k.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
