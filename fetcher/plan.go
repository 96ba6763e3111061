package fetcher

import (
	"fmt"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
)

const (
	// goneAfter is how long a message must be missing from complete listings
	// before it counts as gone: servers show partial listings.
	goneAfter = 24 * time.Hour
	// fewKnown is the number of remembered messages from which on a listing
	// that lacks nearly all of them is not believed.
	fewKnown = 10
	// fetchCharges is how often reading a message may have failed or crashed
	// before it is held.
	fetchCharges = 3
)

// plan says what one session does with every message of a listing. Making it
// has no effects and does no I/O.
type plan struct {
	q    *question
	calm bool // the listing is the one after which nothing was left to do

	fresh   []item  // never seen before: rows to write
	fetch   []item  // to download, in the listing's order
	expired []item  // safe, and their time has come; to verify, then delete
	kept    []item  // safe, and to stay for now; only if keep has a quota
	absent  []int64 // remembered, but newly missing from the listing
	gone    []int64 // missing for so long that they count as gone
	present []int64 // listed again after having been missing

	distrust  bool    // nothing is deleted by this listing
	changed   []item  // listed with another size than they had: maybe other messages
	strangers []item  // unknown, where nearly everything known is missing: maybe renamed
	missed    []int64 // what the strangers may be

	poison   []item // reading them has failed or crashed too often: to hold
	skipped  []item // larger than max_size: left where they are
	held     int    // left alone because they are held
	rest     bool   // a limit cut the fetching short: there is more
	octets   int64  // of fetch, by LIST
	later    Totals // New and NewBytes of what the limit left
	warnings []string
}

// question is what a plan is made from.
type question struct {
	listing   maildrop.Listing
	known     []*state.Message
	uncertain map[int64]bool // messages whose deliveries await recovery
	tried     map[int64]bool // messages that this pass is done with
	keep      Keep
	only      map[int64]bool // as Account.only
	limits    Limits         // what is left of them in this pass
	now       time.Time
	noExpiry  bool // the clock cannot be trusted: delete nothing by age
	consumes  bool // what is not listed may be there all the same
	eager     bool // what was put off is wanted now
	// old, if set, tells which messages are to be remembered and left alone: it
	// is set for the first listing of an account.
	old func(maildrop.Entry) bool
}

// expired reports whether a delivered message need not stay any longer.
func (q *question) expired(it item) bool {
	return q.may(it) && q.keep.over(it, q.listing.Messages, q.now) && !(q.noExpiry && q.keep.of(it.msg).For > 0)
}

// may reports whether a delivered message may be deleted at all.
func (q *question) may(it item) bool { return q.only == nil || q.only[it.msg.ID] }

// planFor decides for every message of the listing.
func planFor(q *question) *plan {
	pl := &plan{q: q}
	// Some servers give one UIDL to several messages: the n-th entry with it is
	// the n-th row with it. Such messages are not deleted by their UIDL.
	rows := make(map[string][]*state.Message, len(q.known))
	next := make(map[string]int, len(q.known)) // Gen of the next row with that UIDL
	for _, m := range q.known {
		rows[m.UIDL] = append(rows[m.UIDL], m) // in order of Gen
		next[m.UIDL] = m.Gen + 1
	}
	reset := !q.consumes && pl.reset(rows)
	for _, e := range q.listing.Entries {
		if left := rows[e.UIDL]; len(left) > 0 {
			rows[e.UIDL] = left[1:]
			pl.remembered(item{e, left[0]}, next[e.UIDL] > 1)
			continue
		}
		gen := next[e.UIDL]
		next[e.UIDL] = gen + 1
		it := item{e, &state.Message{UIDL: e.UIDL, Gen: gen, Size: e.Size, FirstSeen: q.now}}
		pl.fresh = append(pl.fresh, it)
		switch {
		case q.old != nil && q.old(e):
			it.msg.Status, it.msg.Note = state.StatusMarked, "first_run"
		case reset:
			pl.strangers = append(pl.strangers, it)
		default:
			pl.want(it)
		}
	}
	pl.missing(rows, reset)
	return pl
}

// reset reports whether it looks as if the server had given new UIDLs to the
// messages that are remembered.
func (pl *plan) reset(rows map[string][]*state.Message) bool {
	expected, found, unknown := 0, 0, 0
	for _, m := range pl.q.known {
		if m.AbsentSince.IsZero() && m.DelSentAt.IsZero() {
			expected++
		}
	}
	for _, e := range pl.q.listing.Entries {
		if len(rows[e.UIDL]) > 0 {
			found++
		} else {
			unknown++
		}
	}
	return expected >= fewKnown && found*5 < expected && unknown >= fewKnown
}

// remembered decides for a message that has been listed before. shared tells
// that others have had its UIDL.
func (pl *plan) remembered(it item, shared bool) {
	q, m := pl.q, it.msg
	if !m.AbsentSince.IsZero() {
		pl.present = append(pl.present, m.ID)
	}
	if q.tried[m.ID] || q.uncertain[m.ID] {
		return
	}
	if m.Size >= 0 && m.Size != it.Size && m.Status != state.StatusNew { // imported by its UIDL alone, it has no size
		pl.changed = append(pl.changed, it)
		return
	}
	switch m.Status {
	case state.StatusSafe, state.StatusDropped:
		switch {
		case m.Suspect, shared, !q.may(it):
		case q.expired(it):
			pl.expired = append(pl.expired, it)
		case q.keep.of(m).UntilFull > 0:
			pl.kept = append(pl.kept, it)
		}
	case state.StatusHeld:
		pl.held++
	case state.StatusQuarantined:
		if q.now.Before(m.NextTry) {
			pl.held++
			return
		}
		pl.want(it)
	case state.StatusNew, state.StatusRouted:
		if q.eager || !q.now.Before(m.NextTry) {
			pl.want(it)
		}
	case state.StatusMarked: // remembered so that it is left alone
	}
}

// want adds it to what is fetched unless a limit says otherwise.
func (pl *plan) want(it item) {
	l := pl.q.limits
	switch {
	case it.msg.Status == state.StatusNew && it.msg.Fetches >= fetchCharges:
		pl.poison = append(pl.poison, it)
	case l.MaxSize > 0 && it.Size > l.MaxSize:
		pl.skipped = append(pl.skipped, it)
	case l.Messages > 0 && len(pl.fetch) >= l.Messages,
		// One message is always taken, or one above the limit would stop all.
		l.Bytes > 0 && len(pl.fetch) > 0 && pl.octets+it.Size > l.Bytes:
		pl.rest = true
		pl.later.New++
		pl.later.NewBytes += max(it.Size, 0)
	default:
		pl.fetch = append(pl.fetch, it)
		pl.octets += max(it.Size, 0)
	}
}

// missing looks at the rows that no entry of the listing took.
func (pl *plan) missing(rows map[string][]*state.Message, reset bool) {
	q := pl.q
	if q.consumes {
		return
	}
	// What was to be deleted is missing because QUIT did it and its reply was
	// lost: that is no reason to doubt the listing.
	expected := 0
	for _, m := range q.known {
		if m.DelSentAt.IsZero() {
			expected++
		}
	}
	tiny := expected >= fewKnown && len(q.listing.Entries)*5 < expected
	if tiny {
		pl.warnings = append(pl.warnings, fmt.Sprintf(
			"the server lists %d messages where %d are remembered; nothing is forgotten", len(q.listing.Entries), expected))
	}
	if reset || tiny || !q.listing.Complete {
		// Whatever this listing is, it is not one to delete by.
		pl.expired, pl.kept, pl.distrust = nil, nil, true
	}
	for _, left := range rows {
		for _, m := range left {
			if reset {
				pl.missed = append(pl.missed, m.ID)
			}
			switch {
			case tiny || !q.listing.Complete:
			case m.AbsentSince.IsZero():
				pl.absent = append(pl.absent, m.ID)
			case !reset && q.now.Sub(m.AbsentSince) >= goneAfter:
				pl.gone = append(pl.gone, m.ID)
			}
		}
	}
}
