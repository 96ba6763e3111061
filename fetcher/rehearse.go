package fetcher

import (
	"cmp"
	"context"
	"io"
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
)

// rehearse tells what a pass would do with every message and changes nothing:
// not the maildrop, not a target, not the state. It reads headers by TOP, so a
// rule that needs more than header and size cannot be told.
func (p *pass) rehearse(ctx context.Context) error {
	conn, err := maildrop.Dial(ctx, &p.account.Maildrop, p.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	listing, err := conn.List(ctx)
	if err == nil {
		err = p.name(ctx, conn, &listing)
	}
	if err != nil {
		return err
	}
	q := &question{listing: listing, keep: p.account.Keep, limits: p.account.Limits, now: p.f.now()}
	var account state.Account
	if p.f.State != nil {
		k, err := p.f.State.Known(ctx, p.source)
		if err != nil {
			return err
		}
		q.known, account = k.Messages, k.Account
	}
	if account.ID == 0 {
		if q.old, err = p.oldOnes(ctx, conn, listing); err != nil {
			return err
		}
	}
	pl := planFor(q)
	for _, w := range append(listing.Warnings, pl.warnings...) {
		p.warn(w)
	}
	p.count(listing, pl)
	for _, it := range pl.expired {
		p.emit(Event{Kind: Planned, UIDL: it.UIDL, Octets: it.Size, Reason: "delete from the maildrop, keep: " + p.account.Keep.of(it.msg).String()})
	}
	if err := p.preview(ctx, conn, pl.fetch); err != nil {
		return err
	}
	return conn.Quit(ctx)
}

// preview tells where each of items would go.
func (p *pass) preview(ctx context.Context, conn *maildrop.Conn, items []item) error {
	if !conn.Caps().TOP {
		for _, it := range items {
			p.emit(Event{Kind: Planned, UIDL: it.UIDL, Octets: it.Size, Reason: "fetch; the server has no TOP, so the rules cannot be asked before"})
		}
		return nil
	}
	next := 0
	for inc := range conn.Top(ctx, slices.Values(entries(items))) {
		it := items[next]
		next++
		if inc.Err == nil {
			var head []byte
			if head, inc.Err = io.ReadAll(io.LimitReader(inc.Body, headerMax)); inc.Err == nil {
				p.planned(it, head)
				continue
			}
		}
		if !maildrop.Usable(inc.Err) {
			return inc.Err
		}
		p.emit(Event{Kind: Planned, UIDL: it.UIDL, Octets: it.Size, Err: inc.Err})
	}
	return nil
}

// planned emits what would become of one message, one event a copy.
func (p *pass) planned(it item, head []byte) {
	l := &letter{item: it}
	l.header.Parse(head)
	p.route(l, it.Size, nil)
	e := Event{Kind: Planned, UIDL: it.UIDL, MessageID: l.header.MessageID(), Header: &l.header, Octets: it.Size, Rule: l.rule}
	switch l.action {
	case rules.Skip:
		e.Reason = "leave on the maildrop"
		p.emit(e)
	case rules.Drop:
		e.Reason = "drop"
		p.emit(e)
	case rules.NeedBody:
		e.Reason = "fetch; a rule looks at the body"
		p.emit(e)
	}
	for _, part := range l.parts {
		e := e
		e.Target, e.Folder, e.Rule, e.Reason = part.Target, cmp.Or(part.Rcpt, part.Folder), part.Rule, ""
		p.emit(e)
	}
}
