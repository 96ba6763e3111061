package fetcher

import (
	"context"
	"fmt"

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
	if s == nil || s.finder == nil {
		return fmt.Errorf("%q is no target of job %q that can be searched", at.target, p.job.Name)
	}
	if err := s.downErr(); err != nil {
		return err
	}
	since := targets.Mark{Folder: ds[0].Box, UIDValidity: ds[0].UIDValidity, UIDNext: ds[0].UIDNext}
	want := make([]targets.Wanted, len(ds))
	for i, d := range ds {
		// The smallest mark is before all copies.
		since.UIDNext = min(since.UIDNext, d.UIDNext)
		m := messages[d.Message]
		want[i] = targets.Wanted{Hash: m.Hash, Size: m.CanonSize, MessageID: m.MessageID, Stable: m.Stable}
	}
	// Deliveries of other passes to this folder end first, and their UIDs are on
	// disk, or their copies would pass for ours.
	gate := p.f.gate(at.target, since.Folder)
	gate.Lock()
	defer gate.Unlock()
	claimed, err := p.f.State.Claimed(ctx, at.target, since.Folder, since.UIDValidity, 0)
	if err != nil {
		return err
	}
	found, err := s.finder.Find(ctx, at.folder, since, want, func(uid uint32) bool { return claimed[uid] })
	if err != nil {
		s.shut(since.Folder, err)
		return err
	}
	return p.recordFound(ctx, ds, messages, found)
}

// recordFound commits what a search found: a copy is a delivery, none is a
// delivery to make again.
func (p *pass) recordFound(ctx context.Context, ds []state.Delivery, messages map[int64]*state.Message, found []targets.Found) error {
	ch := make([]state.Change, len(ds))
	now := p.f.now()
	for i, d := range ds {
		if found[i].OK {
			ch[i] = state.Delivered{
				Message: d.Message, N: d.N, Box: d.Box, At: now, Reply: "found after an interruption",
				UIDValidity: found[i].UIDValidity, UID: found[i].UID,
			}
			continue
		}
		ch[i] = state.Failed{Message: d.Message, N: d.N, Class: "lost", Reply: "interrupted, and not found afterwards", Uncharge: true, At: now}
	}
	if err := p.put(ctx, ch...); err != nil {
		return err
	}
	s := p.sinks[ds[0].Target]
	s.mu.Lock()
	delete(s.blocked, ds[0].Box)
	s.mu.Unlock()
	for i, d := range ds {
		if found[i].OK {
			m := messages[d.Message]
			p.mu.Lock()
			p.report.Recovered++
			p.mu.Unlock()
			p.countFolder(d.Target, d.Box)
			p.emit(Event{Kind: Delivered, UIDL: m.UIDL, MessageID: m.MessageID, Octets: m.Octets, Target: d.Target, Folder: d.Box, Rule: d.Rule, Reason: "found after an interruption"})
		}
	}
	return nil
}
