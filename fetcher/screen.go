package fetcher

import (
	"context"
	"io"
	"iter"
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// screenWindow is how many messages are asked about before those that are wanted
// are fetched: a connection that the server ends early must not cost all of it.
const screenWindow = 1000

// screens reports whether messages are asked about by their headers before they
// are fetched: only where that may spare a download.
func (p *pass) screens(conn *maildrop.Conn) bool {
	// What such a server has shown, if only in part, may be gone.
	return p.job.Rules.Spares(p.account.Name) && conn.Caps().TOP && !p.account.Consumes
}

// screened yields what is left of turns after the rules were asked by header
// alone. It sees to the limits, which count only what is fetched: messages that
// are skipped every time would else use them up. *lost is set if the connection
// ended.
func (p *pass) screened(ctx, dctx context.Context, conn *maildrop.Conn, turns [][]item, lost *error) iter.Seq[[]item] {
	if !p.screens(conn) {
		return slices.Values(turns)
	}
	return func(yield func([]item) bool) {
		left := quota{Limits: p.limits()}
		for _, few := range turns {
			for chunk := range slices.Chunk(few, screenWindow) {
				var wanted []item
				if wanted, *lost = p.screen(ctx, dctx, conn, chunk); *lost != nil || ctx.Err() != nil {
					return
				}
				wanted = slices.DeleteFunc(wanted, func(it item) bool { return p.tooLarge(it, left.MaxSize) })
				n := left.take(wanted)
				if n > 0 && !yield(wanted[:n]) {
					return
				}
				if n < len(wanted) {
					p.rest = true
					return
				}
			}
		}
	}
}

// quota is what is left of the limits of a pass.
type quota struct {
	Limits
	messages int
	octets   int64
}

// take returns how many of items, from the first on, the limits allow. The first
// message of all is always one, or a single large one would stop all.
func (q *quota) take(items []item) int {
	for i, it := range items {
		if q.Messages > 0 && q.messages == q.Messages || q.Bytes > 0 && q.messages > 0 && q.octets+it.Size > q.Bytes {
			return i
		}
		q.messages++
		q.octets += max(it.Size, 0)
	}
	return len(items)
}

// screen asks for the headers of items and does what the rules want done with
// messages that are not to be fetched. It returns the others.
func (p *pass) screen(ctx, dctx context.Context, conn *maildrop.Conn, items []item) (wanted []item, err error) {
	asked := slices.DeleteFunc(slices.Clone(items), func(it item) bool { return it.msg.Status != state.StatusNew })
	unwanted := make(map[int]bool)
	next := 0
	for inc := range conn.Top(ctx, slices.Values(entries(asked))) {
		it := asked[next]
		next++
		var head []byte
		if inc.Err == nil {
			head, inc.Err = io.ReadAll(io.LimitReader(inc.Body, headerMax))
		}
		if inc.Err != nil {
			if !maildrop.Usable(inc.Err) {
				return nil, inc.Err
			}
			continue // RETR tells more
		}
		unwanted[it.Num] = p.turnAway(dctx, it, headerOf(head))
	}
	if next < len(asked) && ctx.Err() == nil {
		return nil, &maildrop.Error{Kind: maildrop.Lost, Op: "TOP", Err: io.ErrUnexpectedEOF}
	}
	return slices.DeleteFunc(slices.Clone(items), func(it item) bool { return unwanted[it.Num] }), p.dead()
}

// turnAway asks the rules about a message of which only the header was read, and
// reports whether it need not be fetched.
func (p *pass) turnAway(ctx context.Context, it item, head []byte) bool {
	h := rules.ParseHeader(head)
	d := p.ask(h, it.Size, nil)
	if d.Action != rules.Drop && d.Action != rules.Skip {
		return false
	}
	e := Event{UIDL: it.UIDL, MessageID: h.MessageID(), Header: h, Octets: it.Size, Rule: d.Matched[len(d.Matched)-1]}
	e.Reason = "rule " + e.Rule
	if d.Action == rules.Skip {
		e.Kind = Skipped
		p.leave(it, e)
		return true
	}
	e.Kind = Dropped
	it.msg.Size, it.msg.Keep = it.Size, keepFor(d.Keep)
	it.msg.Content = &state.Content{Stable: targets.StableHash(head), MessageID: h.MessageID()}
	if p.put(ctx, state.Dropped{Message: it.msg, Rule: e.Rule, At: p.f.now()}) != nil {
		return true // the pass is over
	}
	p.mu.Lock()
	p.report.New++
	p.report.Dropped++
	p.safe = append(p.safe, it)
	p.mu.Unlock()
	p.emit(e)
	return true
}

// tooLarge leaves a message that is above the limit where it is.
func (p *pass) tooLarge(it item, limit int64) bool {
	if limit <= 0 || it.Size <= limit {
		return false
	}
	p.leave(it, Event{Kind: Skipped, UIDL: it.UIDL, Octets: it.Size, Reason: "max_size"})
	return true
}

// leave counts a message that stays on the maildrop without having been read.
func (p *pass) leave(it item, e Event) {
	p.mu.Lock()
	p.report.Skipped++
	p.tried[it.msg.ID] = true
	p.mu.Unlock()
	p.emit(e)
}
