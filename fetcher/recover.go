package fetcher

import (
	"context"
	"fmt"
	"time"

	"popferry/fetcher/state"
	"popferry/targets"
)

// place is one folder of one target as a route names it.
type place struct{ target, folder string }

// recover resolves deliveries whose end is not known, because the process was
// killed or a connection broke after the message was sent. resolved tells that
// there were some. pending are the messages for which that was not possible
// now: nothing may be done with them in this session.
func (p *pass) recover(ctx context.Context, account int64) (resolved bool, pending map[int64]bool, err error) {
	uncertain, err := p.f.State.Uncertain(ctx, account)
	if err != nil || len(uncertain) == 0 {
		return false, nil, err
	}
	pending = make(map[int64]bool)
	places := make(map[place][]state.Delivery)
	var order []place
	for _, d := range uncertain {
		pending[d.Message] = true
		at := place{d.Target, d.Folder}
		if places[at] == nil {
			order = append(order, at)
		}
		places[at] = append(places[at], d)
	}
	messages, err := p.messages(ctx, uncertain)
	if err != nil {
		return false, nil, err
	}
	p.log.Warn("looking for messages whose delivery was interrupted", "new", len(uncertain))
	open := make(map[int64]int)
	for _, d := range uncertain {
		open[d.Message]++
	}
	for _, at := range order {
		if err := p.search(ctx, at, places[at], messages); err != nil {
			if p.dead() != nil || ctx.Err() != nil {
				return resolved, nil, err
			}
			p.warn(fmt.Sprintf("interrupted deliveries to %s cannot be looked up now: %v", at.target, err))
			continue
		}
		resolved = true
		for _, d := range places[at] {
			if open[d.Message]--; open[d.Message] == 0 {
				delete(pending, d.Message)
			}
		}
	}
	return resolved, pending, nil
}

func (p *pass) messages(ctx context.Context, ds []state.Delivery) (map[int64]*state.Message, error) {
	var want []int64
	for _, d := range ds {
		want = append(want, d.Message)
	}
	ms, err := p.f.State.Messages(ctx, want...)
	byID := make(map[int64]*state.Message, len(ms))
	for _, m := range ms {
		byID[m.ID] = m
	}
	return byID, err
}

// search looks for the copies of ds in one folder and records what it finds.
func (p *pass) search(ctx context.Context, at place, ds []state.Delivery, messages map[int64]*state.Message) error {
	s := p.sinks[at.target]
	if s != nil && s.relay != nil {
		return p.settleRelay(ctx, s, ds, messages)
	}
	if s == nil || s.finder == nil {
		return fmt.Errorf("%q is no target of job %q that can be searched", at.target, p.job.Name)
	}
	if err := s.downErr(); err != nil {
		return err
	}
	if p.job.Dedupe[at.target] == Off {
		return p.recordFound(ctx, ds, messages, make([]targets.Found, len(ds)))
	}
	// Deliveries of other passes to this folder end first, and their UIDs are on
	// disk, or their copies would pass for ours.
	gate := p.f.gate(at.target, ds[0].Box)
	gate.Lock()
	defer gate.Unlock()
	now, err := s.finder.Mark(ctx, at.folder)
	if err != nil {
		s.shut(ds[0].Box, err)
		return err
	}
	since := windowOf(ds, now)
	confirmed, since, err := p.confirmed(ctx, ds, messages, since)
	if err != nil {
		return err
	}
	claimed, err := p.f.State.Claimed(ctx, at.target, now.Folder, now.UIDValidity, since.UIDNext)
	if err != nil {
		return err
	}
	want := make([]targets.Wanted, 0, len(confirmed)+len(ds))
	want = append(want, confirmed...)
	for _, d := range ds {
		want = append(want, wanted(messages[d.Message]))
	}
	found, err := s.finder.Find(ctx, at.folder, since, want, func(uid uint32) bool { return claimed[uid] })
	if err != nil {
		s.shut(now.Folder, err)
		return err
	}
	return p.recordFound(ctx, ds, messages, surplus(want, found, len(confirmed)))
}

func wanted(m *state.Message) targets.Wanted {
	return targets.Wanted{Hash: m.Hash, Size: m.CanonSize, MessageID: m.MessageID, Stable: m.Stable}
}

// windowOf returns where the copies of ds can lie: from the smallest of their
// marks on, or anywhere if the folder has been numbered anew since.
func windowOf(ds []state.Delivery, now targets.Mark) targets.Mark {
	since := targets.Mark{Folder: now.Folder, UIDValidity: now.UIDValidity, UIDNext: ds[0].UIDNext}
	for _, d := range ds {
		if d.UIDValidity != now.UIDValidity {
			since.UIDNext = 1
			break
		}
		since.UIDNext = min(since.UIDNext, d.UIDNext)
	}
	return since
}

// settledBefore is how long before the first uncertain delivery another one must
// have ended for its copy to lie before the window by the clock alone. It is far
// more than any pass takes; a clock that stands still or goes back is behind it.
const settledBefore = 24 * time.Hour

// confirmed returns copies that are known to be in the folder but not where: the
// server told no UID for them, or has numbered the folder anew. Each takes one
// copy away from an uncertain delivery of the same message, because two
// identical messages need two copies. For that they must lie in the window, so
// it returns one that holds them all.
func (p *pass) confirmed(ctx context.Context, ds []state.Delivery, messages map[int64]*state.Message, since targets.Mark) ([]targets.Wanted, targets.Mark, error) {
	// Those that only share the Message-ID count, too: where the server rewrites
	// mail it is by this that copies are told apart, after the exact ones.
	hashes, names := make(map[[32]byte]bool), make(map[string]bool)
	first := ds[0].At
	for _, d := range ds {
		m := messages[d.Message]
		hashes[m.Hash] = true
		names[m.MessageID] = m.MessageID != ""
		if d.At.Before(first) {
			first = d.At
		}
	}
	copies, err := p.f.State.Copies(ctx, ds[0].Target, ds[0].Box)
	var out []targets.Wanted
	for _, c := range copies {
		switch {
		case !hashes[c.Hash] && !names[c.MessageID], c.UIDValidity == since.UIDValidity && c.UID != 0:
			continue // another message, or excluded by its UID
		case c.UIDValidity == since.UIDValidity && c.UIDNext < since.UIDNext && c.At.Before(first.Add(-settledBefore)):
			continue // before the window
		case c.UIDValidity != since.UIDValidity:
			since.UIDNext = 1
		default:
			since.UIDNext = min(since.UIDNext, c.UIDNext)
		}
		out = append(out, targets.Wanted{Hash: c.Hash, Size: c.CanonSize, MessageID: c.MessageID, Stable: c.Stable})
	}
	return out, since, err
}

// surplus deals the copies found of each message to the confirmed wants first,
// which are the first n, and returns what is left for the others.
func surplus(want []targets.Wanted, found []targets.Found, n int) []targets.Found {
	pool := make(map[targets.Hash][]targets.Found)
	for i, f := range found {
		if f.OK {
			pool[want[i].Hash] = append(pool[want[i].Hash], f)
		}
	}
	out := make([]targets.Found, len(want))
	for i, w := range want {
		if fs := pool[w.Hash]; len(fs) > 0 {
			out[i], pool[w.Hash] = fs[0], fs[1:]
		}
	}
	return out[n:]
}

// lostMax is how many times a delivery may be interrupted, and not found
// afterwards, before its message is held: one that breaks every connection must
// not be tried for ever.
const lostMax = 3

// recordFound commits what a search found: a copy is a delivery, none is a
// delivery to make again.
func (p *pass) recordFound(ctx context.Context, ds []state.Delivery, messages map[int64]*state.Message, found []targets.Found) error {
	var ch []state.Change
	now := p.f.now()
	held := make(map[int64]bool)
	for i, d := range ds {
		if found[i].OK {
			ch = append(ch, state.Delivered{
				Message: d.Message, N: d.N, Box: d.Box, At: now, Reply: "found after an interruption",
				UIDValidity: found[i].UIDValidity, UID: found[i].UID,
			})
			continue
		}
		ch = append(ch, state.Failed{Message: d.Message, N: d.N, Class: classLost, Reply: "interrupted, and not found afterwards", At: now})
		if d.Attempts >= lostMax && !held[d.Message] {
			held[d.Message] = true
			ch = append(ch, state.Held{Message: d.Message, Note: fmt.Sprintf("delivery to %s was interrupted %d times", d.Target, d.Attempts), At: now})
		}
	}
	if err := p.put(ctx, ch...); err != nil {
		return err
	}
	s := p.sinks[ds[0].Target]
	s.mu.Lock()
	delete(s.blocked, ds[0].Box)
	s.mu.Unlock()
	for i, d := range ds {
		m := messages[d.Message]
		e := Event{Kind: Delivered, UIDL: m.UIDL, MessageID: m.MessageID, Octets: m.Octets, Target: d.Target, Folder: d.Box, Rule: d.Rule, Reason: "found after an interruption"}
		switch {
		case found[i].OK:
			p.mu.Lock()
			p.report.Recovered++
			p.mu.Unlock()
			p.countFolder(d.Target, d.Box)
			p.emit(e)
		case held[d.Message]:
			e.Kind, e.Reason = Held, ""
			e.Err = fmt.Errorf("interrupted %d times: %s", d.Attempts, d.Reply)
			p.emit(e)
		}
	}
	return nil
}

// classLost marks a delivery that was interrupted: its message is a suspect,
// and is delivered alone the next time.
const classLost = "lost"
