package fetcher

import (
	"bytes"
	"context"
	"io"
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
)

// list reads the listing, compares it with what is remembered, and writes rows
// for what is new.
func (p *pass) list(ctx context.Context, conn *maildrop.Conn, known *state.Known, pending map[int64]bool) (*plan, error) {
	listing, err := conn.List(ctx)
	if err == nil {
		err = p.name(ctx, conn, &listing)
	}
	if err != nil {
		return nil, err
	}
	p.listing = nil
	if listing.Complete && !p.account.Consumes {
		p.listing = listing.Entries
	}
	if p.quiet(known.Account) {
		if bytes.Equal(known.Account.ListHash, p.hashOf(listing)) {
			return p.unchanged(listing, known), nil
		}
		if known, err = p.f.State.Known(ctx, p.source); err != nil {
			return nil, err
		}
	}
	q := &question{
		listing: listing, known: known.Messages, uncertain: pending, tried: p.tried,
		keep: p.account.Keep, only: p.account.only, limits: p.limits(), now: p.f.now(), consumes: p.account.Consumes, eager: p.eager,
	}
	if known.Account.ID == 0 {
		if q.old, err = p.oldOnes(ctx, conn, listing); err != nil {
			return nil, err
		}
	}
	if p.screens(conn) { // what is left of it is known after that
		q.limits.Messages, q.limits.Bytes, q.limits.MaxSize = 0, 0, 0
	}
	trouble := ""
	if p.account.Keep.For > 0 || p.job.Rules.Keeps() || slices.ContainsFunc(known.Messages, byAge) {
		trouble = clockTrouble(p.clock, q.now)
		q.noExpiry = trouble != ""
	}
	pl := planFor(q)
	for _, w := range append(listing.Warnings, append(pl.warnings, trouble)...) {
		p.warn(w)
	}
	p.known = known.Account
	p.known.Source, p.known.Name = p.source, p.account.Name
	if err := p.put(ctx, p.listed(listing, pl)...); err != nil {
		return nil, err
	}
	p.exact = max(p.exact, p.known.Exact)
	p.missing = len(pl.absent) > 0
	for _, m := range known.Messages {
		p.missing = p.missing || !m.AbsentSince.IsZero()
	}
	if err := p.check(ctx, conn, pl); err != nil {
		return nil, err
	}
	p.rest = pl.rest
	p.count(listing, pl)
	return pl, nil
}

// oldOnes returns what tells messages that first_run leaves alone, nil if it
// takes all.
func (p *pass) oldOnes(ctx context.Context, conn *maildrop.Conn, l maildrop.Listing) (func(maildrop.Entry) bool, error) {
	first := p.account.FirstRun
	switch {
	case first.New:
		return func(maildrop.Entry) bool { return true }, nil
	case first.Since.IsZero():
		return nil, nil
	case !conn.Caps().TOP:
		p.warn("the server has no TOP, so first_run cannot tell when messages came; all are fetched")
		return nil, nil
	}
	old := make(map[int]bool)
	i := 0
	for inc := range conn.Top(ctx, slices.Values(l.Entries)) {
		if inc.Err != nil && !maildrop.Usable(inc.Err) {
			return nil, inc.Err
		}
		if inc.Err == nil {
			head, err := io.ReadAll(io.LimitReader(inc.Body, headerMax))
			if err != nil {
				return nil, err
			}
			h := rules.ParseHeader(head)
			came := h.Received()
			if came.IsZero() {
				came = h.Date()
			}
			old[inc.Num] = !came.IsZero() && came.Before(first.Since)
		}
		i++
	}
	if i < len(l.Entries) {
		return nil, &maildrop.Error{Kind: maildrop.Lost, Op: "TOP", Err: cmpErr(ctx.Err(), io.ErrUnexpectedEOF)}
	}
	return func(e maildrop.Entry) bool { return old[e.Num] }, nil
}

// listed is what a listing changes in the state.
func (p *pass) listed(listing maildrop.Listing, pl *plan) []state.Change {
	now := pl.q.now
	rows := make([]*state.Message, len(pl.fresh))
	for i, it := range pl.fresh {
		rows[i] = it.msg
	}
	changes := []state.Change{state.Listed{Account: &p.known, New: rows, Count: len(listing.Entries), At: now}}
	if len(pl.present) > 0 {
		changes = append(changes, state.Present{Messages: pl.present})
	}
	if len(pl.absent) > 0 {
		changes = append(changes, state.Absent{Messages: pl.absent, At: now})
	}
	if len(pl.gone) > 0 {
		changes = append(changes, state.Gone{Messages: pl.gone, At: now})
	}
	return changes
}

// count fills in the report what the listing tells.
func (p *pass) count(listing maildrop.Listing, pl *plan) {
	r := &p.report
	if r.OnServer == 0 {
		r.OnServer, r.OnServerBytes = listing.Messages, listing.Octets
	}
	r.Left = listing.Messages
	// Later listings of a pass do not have what it has held or skipped itself.
	r.Held += pl.held - p.heldBefore
	r.Skipped += len(pl.skipped) - p.skippedBefore
	p.heldBefore, p.skippedBefore = pl.held, len(pl.skipped)
	for _, it := range pl.fresh {
		if it.msg.Status == state.StatusMarked {
			r.Marked++
		}
	}
	for _, it := range pl.skipped {
		p.emit(Event{Kind: Skipped, UIDL: it.UIDL, Octets: it.Size, Reason: "max_size"})
	}
	total := Totals{Messages: listing.Messages, Octets: listing.Octets, New: len(pl.fetch), NewBytes: pl.octets}
	if l := p.account.Limits; p.deletesAtOnce() && l.Messages == 0 && l.Bytes == 0 {
		// Later sessions of this pass bring the rest.
		total.New += pl.later.New
		total.NewBytes += pl.later.NewBytes
	}
	p.emit(Event{Kind: Listed, Total: total})
}

// limits are the account's, less what this pass has fetched already.
func (p *pass) limits() Limits {
	l := p.account.Limits
	if l.Messages > 0 {
		l.Messages = max(1, l.Messages-int(p.fetched.Load()))
	}
	if l.Bytes > 0 {
		l.Bytes = max(1, l.Bytes-p.octets.Load())
	}
	if p.deletesAtOnce() {
		n := l.SessionMessages
		if n == 0 {
			n = sessionMessages
		}
		if l.Messages == 0 || n < l.Messages {
			l.Messages = n
		}
	}
	return l
}

// deletesAtOnce reports whether what a session fetches is deleted at its end,
// so that a long session risks much.
func (p *pass) deletesAtOnce() bool { return !p.account.Keep.Forever && p.account.Keep.For == 0 }

// oneSession reports whether only the length of a session, and no limit of the
// account, ended the fetching.
func (p *pass) oneSession() bool {
	return p.deletesAtOnce() && p.within()
}

// within reports whether the limits of the account leave anything to fetch.
func (p *pass) within() bool {
	l := p.account.Limits
	return (l.Messages == 0 || p.fetched.Load() < int64(l.Messages)) && (l.Bytes == 0 || p.octets.Load() < l.Bytes)
}
