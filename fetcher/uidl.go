package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
)

// What a server says about its messages is believed as far as it has been
// found true. UIDLs are given again to other mail, are all new after a move, or
// are missing; sizes are estimates; RETR returns another message.

// sizeTrust is how many messages in a row must have had the size that LIST said
// before one that has another is suspected.
const sizeTrust = 20

// name gives messages that have no UIDL, on a server without UIDL all of them,
// names made of their headers. They are as good as the headers are different:
// two messages with one name are told apart by their order.
func (p *pass) name(ctx context.Context, conn *maildrop.Conn, l *maildrop.Listing) error {
	var nameless []maildrop.Entry
	for _, e := range l.Entries {
		if e.UIDL == "" {
			nameless = append(nameless, e)
		}
	}
	switch {
	case len(nameless) == 0:
		return nil
	case conn.Caps().TOP:
	case l.NoUIDL:
		return &maildrop.Error{Kind: maildrop.Refused, Op: "UIDL", Err: errNoUIDL}
	default:
		p.warn(fmt.Sprintf("%d messages have no UIDL and the server has no TOP; they are left alone", len(nameless)))
		l.Entries = slices.DeleteFunc(l.Entries, func(e maildrop.Entry) bool { return e.UIDL == "" })
		return nil
	}
	names := make(map[int]string, len(nameless))
	for inc := range conn.Top(ctx, slices.Values(nameless)) {
		if inc.Err != nil {
			return inc.Err
		}
		stable, err := stableOf(inc)
		if err != nil {
			return err
		}
		names[inc.Num] = fmt.Sprintf("~%.40s-%d", stable, inc.Size)
	}
	if len(names) < len(nameless) {
		return &maildrop.Error{Kind: maildrop.Lost, Op: "TOP", Err: cmpErr(ctx.Err(), io.ErrUnexpectedEOF)}
	}
	for i, e := range l.Entries {
		if e.UIDL == "" {
			l.Entries[i].UIDL = names[e.Num]
		}
	}
	return nil
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// errNoUIDL is a maildrop whose messages cannot be told apart.
var errNoUIDL = errors.New("the server has neither UIDL nor TOP, so popferry could not remember what it fetched")

// stableOf identifies a message by the header that TOP returned.
func stableOf(inc maildrop.Incoming) (targets.Hash, error) {
	head, err := io.ReadAll(io.LimitReader(inc.Body, headerMax))
	return targets.StableHash(headerOf(head)), err
}

// check settles what the plan could not: whether messages whose size changed are
// still the same, and whether unknown ones are known ones that were renamed.
// What has to be fetched after all is added to the plan.
func (p *pass) check(ctx context.Context, conn *maildrop.Conn, pl *plan) error {
	reborn, err := p.changed(ctx, conn, pl.changed)
	if err != nil {
		return err
	}
	strangers, err := p.renamed(ctx, conn, pl)
	if err != nil {
		return err
	}
	for _, it := range append(reborn, strangers...) {
		pl.want(it)
	}
	// Fetched in the order of the listing, whatever was found out first.
	slices.SortFunc(pl.fetch, func(a, b item) int { return a.Num - b.Num })
	return nil
}

// changed returns those of items that are other messages than the ones that had
// their UIDLs before. They get rows of their own; nothing is assumed of them.
// The header tells most of them; where it is the same, the whole message does.
func (p *pass) changed(ctx context.Context, conn *maildrop.Conn, items []item) ([]item, error) {
	if len(items) == 0 {
		return nil, nil
	}
	details, err := p.details(ctx, items)
	if err != nil {
		return nil, err
	}
	alike := func(it item, inc maildrop.Incoming) (bool, error) {
		m := details[it.msg.ID]
		if m.Content == nil {
			return false, nil // nothing to compare with
		}
		return p.sameAs(ctx, m, conn, inc)
	}
	other, rest, err := p.sort(p.heads(ctx, conn, entries(items)), items, alike)
	if err != nil {
		return nil, err
	}
	if conn.Caps().TOP && len(rest) > 0 {
		var also []item
		also, rest, err = p.sort(conn.Retrieve(ctx, slices.Values(entries(rest))), rest, func(it item, inc maildrop.Incoming) (bool, error) {
			return p.sameWhole(ctx, details[it.msg.ID], inc)
		})
		if err != nil {
			return nil, err
		}
		other = append(other, also...)
	}
	if err := p.resize(ctx, rest); err != nil || len(other) == 0 {
		return nil, err
	}
	p.warn(fmt.Sprintf("%d messages have the UIDLs of earlier ones but are others; they are fetched as new", len(other)))
	return p.rebirth(ctx, other)
}

// sort separates the items whose messages are like from the others. What the
// server refuses to show is in neither.
func (p *pass) sort(replies iter.Seq[maildrop.Incoming], items []item, like func(item, maildrop.Incoming) (bool, error)) (other, same []item, err error) {
	next := 0
	for inc := range replies {
		it := items[next]
		next++
		if inc.Err != nil {
			if !maildrop.Usable(inc.Err) {
				return nil, nil, inc.Err
			}
			continue
		}
		ok, err := like(it, inc)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			same = append(same, it)
		} else {
			other = append(other, it)
		}
	}
	return other, same, nil
}

// resize records the sizes under which messages are listed now.
func (p *pass) resize(ctx context.Context, items []item) error {
	var ch []state.Change
	for _, it := range items {
		ch = append(ch, state.Rekey{Message: it.msg.ID, UIDL: it.UIDL, Gen: it.msg.Gen, Size: it.Size})
	}
	if ch == nil {
		return nil
	}
	return p.put(ctx, ch...)
}

// rebirth gives messages new rows, because their old ones belong to messages
// that are no longer there.
func (p *pass) rebirth(ctx context.Context, items []item) ([]item, error) {
	now := p.f.now()
	rows := make([]*state.Message, len(items))
	fresh := make([]item, len(items))
	for i, it := range items {
		rows[i] = &state.Message{UIDL: it.UIDL, Gen: it.msg.Gen, Size: it.Size, FirstSeen: now}
		fresh[i] = item{it.Entry, rows[i]}
	}
	account := p.known // its ID is set again, to the same
	return fresh, p.put(ctx, state.Gone{Messages: ids(items), At: now},
		state.Listed{Account: &account, New: rows, Hash: account.ListHash, Count: account.ListCount, At: now})
}

// renamed recognises messages after the server gave all of them new UIDLs, and
// returns those that are really new. Without this a whole maildrop would be
// fetched and delivered again.
func (p *pass) renamed(ctx context.Context, conn *maildrop.Conn, pl *plan) ([]item, error) {
	if len(pl.strangers) == 0 || !conn.Caps().TOP {
		return pl.strangers, nil // they are recognised after their download
	}
	missing, err := p.f.State.Messages(ctx, pl.missed...)
	if err != nil {
		return nil, err
	}
	type looks struct {
		stable targets.Hash
		size   int64
	}
	rows := make(map[looks][]*state.Message)
	for _, m := range missing {
		if m.Content != nil {
			k := looks{m.Stable, m.Size}
			rows[k] = append(rows[k], m)
		}
	}
	var ch []state.Change
	fresh, _, err := p.sort(conn.Top(ctx, slices.Values(entries(pl.strangers))), pl.strangers, func(it item, inc maildrop.Incoming) (bool, error) {
		stable, err := stableOf(inc)
		k := looks{stable, it.Size}
		if len(rows[k]) == 0 {
			return false, err
		}
		ch = append(ch, state.Rekey{Message: rows[k][0].ID, UIDL: it.UIDL, Gen: it.msg.Gen, Size: it.Size})
		rows[k] = rows[k][1:]
		return true, err
	})
	if err != nil || ctx.Err() != nil {
		return nil, cmpErr(err, context.Cause(ctx))
	}
	if len(ch) > 0 {
		p.warn(fmt.Sprintf("the server has given new UIDLs; %d of its %d messages are recognised and not fetched again", len(ch), len(pl.strangers)))
	}
	return fresh, p.put(ctx, ch...)
}

// recognised reports whether a message just fetched is one that is delivered
// already and whose UIDL is no longer listed. If the old one were still listed,
// this would be a true second copy.
func (p *pass) recognised(ctx context.Context, it item, hash targets.Hash) (*state.Message, error) {
	if !p.missing || it.msg.Status != state.StatusNew {
		return nil, nil
	}
	rows, err := p.f.State.ByHash(ctx, p.known.ID, hash)
	if err != nil {
		return nil, err
	}
	for _, m := range rows {
		if m.GoneAt.IsZero() && (m.Status == state.StatusSafe || m.Status == state.StatusDropped) {
			return m, p.put(ctx, state.Rekey{Message: m.ID, UIDL: it.UIDL, Gen: it.msg.Gen, Size: it.Size})
		}
	}
	return nil, nil
}

// honest compares the size of a message with what LIST said. Where they always
// agreed, a message that has another size may be another message, or a part of
// one: it is fetched once more over a new connection, and if that does not help
// it is delivered but never deleted.
func (p *pass) honest(it item, octets int64) (again, suspect bool) {
	// Some servers do not count the line end they add to a message without one.
	if octets == it.Size || octets == it.Size+int64(len(crlf)) {
		p.exact++
		return false, false
	}
	if p.exact < sizeTrust {
		p.exact = 0
		return false, false
	}
	if p.doubted[it.msg.ID] || p.account.Consumes {
		return false, true
	}
	p.doubted[it.msg.ID] = true
	return true, false
}

// details loads the content of items' rows.
func (p *pass) details(ctx context.Context, items []item) (map[int64]*state.Message, error) {
	ms, err := p.f.State.Messages(ctx, ids(items)...)
	byID := make(map[int64]*state.Message, len(ms))
	for _, m := range ms {
		byID[m.ID] = m
	}
	return byID, err
}
