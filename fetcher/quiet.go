package fetcher

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
)

// A maildrop of 100,000 messages of which none is new is looked at every few
// minutes, year in, year out. When a pass has ended and nothing is left to do, it
// notes the hash of the listing and until when that will be so. As long as both
// hold, the messages are not even loaded.

// never is when something is to be done that has no time.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// quiet reports whether an account needs nothing while its listing is the same.
func (p *pass) quiet(a state.Account) bool {
	return a.FirstPassDone && len(a.ListHash) > 0 && p.f.now().Before(a.QuietUntil)
}

// hashOf identifies a listing, and what of the account's settings decides what
// is to be done about it.
func (p *pass) hashOf(l maildrop.Listing) []byte {
	h := sha256.New()
	h.Write([]byte(p.account.Keep.String()))
	if p.account.Keep.Final {
		h.Write([]byte(" whatever rules say"))
	}
	var b []byte
	for _, e := range l.Entries {
		b = binary.AppendVarint(b[:0], int64(e.Num))
		b = binary.AppendVarint(b, e.Size)
		b = binary.AppendVarint(b, int64(len(e.UIDL)))
		h.Write(append(b, e.UIDL...))
	}
	return h.Sum(nil)
}

// unchanged is the plan for a listing about which nothing is to be done.
func (p *pass) unchanged(l maildrop.Listing, known *state.Known) *plan {
	pl := &plan{q: &question{listing: l, now: p.f.now()}, calm: true}
	for _, w := range l.Warnings {
		p.warn(w)
	}
	if known.Account.QuietUntil.Before(never) {
		p.warn(clockTrouble(p.clock, p.f.now()))
	}
	p.known = known.Account
	p.known.Name = p.account.Name
	p.exact = max(p.exact, p.known.Exact)
	p.count(l, pl)
	return pl
}

// calm notes at the end of a session that nothing is left to do, if that is so.
func (p *pass) calm(ctx context.Context, pl *plan) error {
	if pl.calm || p.report.Failed+p.unsure > 0 || p.rest || p.missing {
		return nil
	}
	until := p.nextDue(pl)
	if until.IsZero() {
		return nil
	}
	return p.put(ctx, state.Quiet{Account: p.known.ID, Hash: p.hashOf(pl.q.listing), Until: until})
}

// nextDue returns when the first message of pl's listing must be looked at again
// although the listing is the same; zero if that cannot be told.
func (p *pass) nextDue(pl *plan) time.Time {
	q := pl.q
	switch keep := p.account.Keep; {
	case p.account.Consumes, p.account.only != nil, keep.Newest > 0, keep.UntilFull > 0, pl.distrust, p.gone > 0,
		len(pl.expired)+len(pl.changed)+len(pl.skipped)+len(pl.strangers)+len(pl.poison)+pl.held > 0:
		return time.Time{}
	}
	safe := make(map[int64]bool, len(p.safe))
	for _, it := range p.safe {
		safe[it.msg.ID] = true
	}
	until := never
	note := func(m *state.Message, listed int64) bool {
		switch {
		case m.Status == state.StatusMarked:
			return true
		case m.Status != state.StatusSafe && m.Status != state.StatusDropped && !safe[m.ID]:
			return false
		case m.Suspect || m.Size >= 0 && m.Size != listed:
			return false
		}
		if k := p.account.Keep.of(m); !k.Forever {
			if due := m.FirstSeen.Add(k.For); due.Before(until) {
				until = due
			}
		}
		return true
	}
	for _, m := range q.known {
		if !note(m, m.Size) {
			return time.Time{}
		}
	}
	for _, it := range pl.fresh {
		if !note(it.msg, it.Size) {
			return time.Time{}
		}
	}
	if !until.After(q.now) {
		return time.Time{}
	}
	return until
}
