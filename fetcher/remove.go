package fetcher

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
)

// tombstoneTime is how long a message that left the maildrop is remembered, so
// that its copies stay claimed and a UIDL that comes back is noticed.
const tombstoneTime = 90 * 24 * time.Hour

// remove deletes what may go, and ends the session. POP3 deletes nothing before
// QUIT, so a connection that breaks here has deleted nothing. The error says
// why the connection was lost.
func (p *pass) remove(ctx, dctx context.Context, conn *maildrop.Conn, pl *plan) (lost error) {
	doomed, stale := p.due(pl)
	if ctx.Err() == nil && len(stale) > 0 {
		verified, err := p.verify(dctx, conn, stale)
		if err != nil {
			return err
		}
		doomed = append(doomed, verified...)
	}
	deleted, err := p.dele(dctx, conn, doomed)
	if err != nil {
		return err
	}
	qctx, cancel := context.WithTimeout(dctx, max(quitTime, p.account.Maildrop.Timeout))
	defer cancel()
	if err := conn.Quit(qctx); err != nil {
		if len(deleted) > 0 {
			// They are delivered and stay recorded so; the next listing tells
			// which are still there, and those are deleted again.
			p.warn(fmt.Sprintf("%d deletions are not confirmed: %v", len(deleted), err))
		}
		return nil
	}
	if len(deleted) == 0 {
		return nil
	}
	if err := p.put(context.WithoutCancel(dctx), state.Gone{Messages: ids(deleted), At: p.f.now()}); err != nil {
		return err
	}
	p.gone += len(deleted)
	p.mu.Lock()
	p.report.Deleted += len(deleted)
	p.report.Left -= len(deleted)
	p.mu.Unlock()
	for _, it := range deleted {
		p.emit(Event{Kind: Deleted, UIDL: it.UIDL, MessageID: it.msg.MessageID, Octets: it.Size, Reason: "keep: " + p.account.Keep.of(it.msg).String()})
	}
	return nil
}

// due returns what may go: messages fetched on this connection, and stale ones,
// which are known by their UIDL only.
func (p *pass) due(pl *plan) (doomed, stale []item) {
	if pl.distrust {
		return nil, nil
	}
	keep := p.account.Keep
	left := pl.q.listing.Octets
	stay := slices.Clone(pl.kept)
	stale = slices.Clone(pl.expired)
	here := make(map[int]bool, len(p.safe))
	for _, it := range p.safe {
		switch {
		case it.msg.Suspect, !pl.q.may(it):
		case pl.q.expired(it):
			doomed = append(doomed, it)
			left -= it.Size
		case keep.of(it.msg).UntilFull > 0:
			here[it.Num] = true
			stay = append(stay, it)
		}
	}
	for _, it := range stale {
		left -= it.Size
	}
	if keep.UntilFull == 0 {
		return doomed, stale
	}
	slices.SortFunc(stay, func(a, b item) int { return a.Num - b.Num })
	for _, it := range stay {
		if left <= keep.UntilFull {
			break
		}
		left -= it.Size
		if here[it.Num] {
			doomed = append(doomed, it)
		} else {
			stale = append(stale, it)
		}
	}
	return doomed, stale
}

// dele marks messages as deleted on the server and records that before QUIT.
func (p *pass) dele(ctx context.Context, conn *maildrop.Conn, doomed []item) ([]item, error) {
	if len(doomed) == 0 {
		return nil, nil
	}
	byNum := make(map[int]item, len(doomed))
	for _, it := range doomed {
		byNum[it.Num] = it
	}
	done, err := conn.Delete(ctx, entries(doomed))
	if err != nil {
		return nil, err
	}
	if n := len(doomed) - len(done); n > 0 {
		p.warn(fmt.Sprintf("the server refused to delete %d messages; the next pass asks again", n))
	}
	deleted := make([]item, len(done))
	for i, e := range done {
		deleted[i] = byNum[e.Num]
	}
	if len(deleted) == 0 {
		return nil, nil
	}
	return deleted, p.put(ctx, state.DelSent{Messages: ids(deleted), At: p.f.now()})
}

// verify returns those of items that are still what was delivered. A message
// that was not downloaded on this connection is known by its UIDL only, and
// servers give old UIDLs to new mail; deleting by UIDL alone destroys it. What
// turns out to be other mail is fetched as such.
func (p *pass) verify(ctx context.Context, conn *maildrop.Conn, items []item) ([]item, error) {
	byID, err := p.details(ctx, items)
	if err != nil {
		return nil, err
	}
	var asked []item
	for _, it := range items {
		if m := byID[it.msg.ID]; m != nil && m.Content != nil && m.Size == it.Size {
			it.msg = m
			asked = append(asked, it)
		}
	}
	if !conn.Caps().TOP && len(asked) > 0 {
		p.warn(fmt.Sprintf("the server has no TOP, so %d messages are read once more before they are deleted", len(asked)))
	}
	other, same, err := p.sort(p.heads(ctx, conn, entries(asked)), asked, func(it item, inc maildrop.Incoming) (bool, error) {
		return p.sameAs(ctx, it.msg, conn, inc)
	})
	if err == nil && conn.Caps().TOP && len(other) > 0 {
		// A header that changed does not make it another message: servers mark
		// mail as spam afterwards.
		var also []item
		other, also, err = p.sort(conn.Retrieve(ctx, slices.Values(entries(other))), other, func(it item, inc maildrop.Incoming) (bool, error) {
			return p.sameWhole(ctx, it.msg, inc)
		})
		same = append(same, also...)
	}
	if err != nil {
		return nil, err
	}
	if n := len(items) - len(same) - len(other); n > 0 {
		p.warn(fmt.Sprintf("%d messages could not be compared with what was delivered; they are not deleted", n))
	}
	if len(other) == 0 {
		return same, nil
	}
	p.warn(fmt.Sprintf("%d messages are not what was delivered under their UIDLs; they are not deleted but fetched as new", len(other)))
	p.again += len(other)
	_, err = p.rebirth(ctx, other)
	return same, err
}

// heads asks for what verification needs of each entry: its header, or all of
// it where the server has no TOP.
func (p *pass) heads(ctx context.Context, conn *maildrop.Conn, want []maildrop.Entry) iter.Seq[maildrop.Incoming] {
	if conn.Caps().TOP {
		return conn.Top(ctx, slices.Values(want))
	}
	return conn.Retrieve(ctx, slices.Values(want))
}

// sameAs reports whether what heads returned is the message m. Its size is
// compared elsewhere.
func (p *pass) sameAs(ctx context.Context, m *state.Message, conn *maildrop.Conn, inc maildrop.Incoming) (bool, error) {
	if !conn.Caps().TOP {
		return p.sameWhole(ctx, m, inc)
	}
	stable, err := stableOf(inc)
	return stable == targets.Hash(m.Stable), err
}

// sameWhole reports whether all of a message is the message m.
func (p *pass) sameWhole(ctx context.Context, m *state.Message, inc maildrop.Incoming) (bool, error) {
	b, err := p.f.bodies().take(ctx, inc.Body, inc.Size)
	if err != nil {
		return false, err
	}
	defer b.release()
	return b.is(m), nil
}
