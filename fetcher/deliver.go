package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// deliveryCharges is how often a message may be refused before it is held.
const deliveryCharges = 3

// sink is a target as one pass sees it.
type sink struct {
	name     string
	target   targets.Target
	finder   targets.Finder   // nil if uncertain deliveries cannot be looked up
	comparer targets.Comparer // nil if it cannot be asked what it has
	relay    targets.Relay    // nil if it has folders; else see commit.go
	limit    *targets.Limiter // nil if the target has no rate

	mu      sync.Mutex
	down    error            // it takes nothing more in this pass
	blocked map[string]error // box → why nothing goes there until it was searched
	shelves map[string]*shelf
	streak  []state.Failed // charges for one and the same reply, one after the other

	interrupted bool // a delivery was, and that was told

	lost     int                       // messages of which a relay did not say whether it has them
	refusals map[string][]state.Failed // of a relay, by recipient and words
	served   bool                      // a relay has taken something in this pass
}

// sameReply is how many messages in a row a target may refuse in the same words
// before that is taken for its own trouble and not for theirs.
const sameReply = 5

// charge notes a refusal. When there have been too many alike it returns them,
// so that nobody is charged.
func (s *sink) charge(f state.Failed) (innocent []state.Failed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streak) > 0 && s.streak[0].Reply != f.Reply {
		s.streak = nil
	}
	if s.streak = append(s.streak, f); len(s.streak) < sameReply {
		return nil
	}
	innocent, s.streak = s.streak, nil
	if s.down == nil {
		s.down = fmt.Errorf("%s refuses every message: %s", s.name, f.Reply)
	}
	return innocent
}

// accepted ends a row of refusals.
func (s *sink) accepted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streak = nil
}

func newSink(name string, t targets.Target) *sink {
	s := &sink{name: name, target: t, blocked: map[string]error{}, shelves: map[string]*shelf{}}
	s.finder, _ = t.(targets.Finder)
	s.comparer, _ = t.(targets.Comparer)
	s.relay, _ = t.(targets.Relay)
	return s
}

// firstInterruption reports whether no delivery of this pass was interrupted before.
func (s *sink) firstInterruption() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.interrupted
	s.interrupted = true
	return first
}

func (s *sink) downErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// closed says why nothing may go to box now, nil if it may.
func (s *sink) closed(box string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	return s.blocked[box]
}

// shut notes a fault that concerns more than one message.
func (s *sink) shut(box string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch targets.FaultOf(err) {
	case targets.Down:
		if s.down == nil {
			s.down = err
		}
	case targets.Unsure:
		s.blocked[box] = err
	}
}

// deliver hands one message to all its targets and records each outcome.
func (p *pass) deliver(ctx context.Context, l *letter) {
	p.settleFolders(ctx, l)
	var errs []error
	for i := range l.parts {
		part := &l.parts[i]
		if part.Status == state.DeliveryDelivered || part.tried {
			continue
		}
		err := p.deliverPart(ctx, l, part)
		if p.dead() != nil {
			return
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if used := rationed(errs); used != nil && !l.unsure {
		p.postpone(ctx, l, used, errs[0])
		return
	}
	if len(errs) > 0 && !l.routed {
		// It was read without harm; nothing else says so on disk. Else a target that
		// is down for three passes would have it taken for one that breaks us.
		_ = p.put(context.WithoutCancel(ctx), state.Unfetched{Messages: []int64{l.msg.ID}})
	}
	if len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, errStopped) }) {
		return // it waited when a signal came, and is as if it had not been fetched
	}
	p.settle(l, errors.Join(errs...))
}

// deliverPart makes one copy, at a relay those for its other recipients as well.
func (p *pass) deliverPart(ctx context.Context, l *letter, part *part) error {
	s := p.sinks[part.Target]
	switch {
	case s == nil:
		return fmt.Errorf("target %q, chosen by an earlier pass, is not in job %q any more", part.Target, p.job.Name)
	case s.relay != nil:
		return p.consign(ctx, l, s)
	}
	return p.file(ctx, l, part, s)
}

// file makes one copy in a folder. The order of its steps is the protocol: the
// intent is on disk before an octet leaves, the outcome before it counts.
func (p *pass) file(ctx context.Context, l *letter, part *part, s *sink) error {
	if err := s.downErr(); err != nil {
		return err
	}
	mark, err := p.mark(ctx, s, part)
	if err != nil {
		return p.notSent(ctx, l, part, s, "", err)
	}
	// Recovery of the same folder, by a pass over another account, must not see
	// this copy before its UID is on disk: it would take it for an unclaimed one.
	gate := p.f.gate(s.name, mark.Folder)
	gate.RLock()
	defer gate.RUnlock()
	if err := s.closed(mark.Folder); err != nil {
		l.unsure = targets.FaultOf(err) == targets.Unsure // the next session may bring it
		return err
	}
	found, err := p.existing(ctx, s, part.dest.Folder, mark, l.msg)
	if err != nil {
		return p.notSent(ctx, l, part, s, "", err)
	}
	ch := make([]state.Change, 0, 2)
	if !l.routed {
		ch = append(ch, state.Routed{Message: l.msg, Deliveries: deliveries(l.parts)})
	}
	for found.OK {
		err := p.wasThere(ctx, l, part, mark.Folder, found, ch)
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
		// Recovery of another account has found its own copy in this one.
		if found, err = p.existing(ctx, s, part.dest.Folder, mark, l.msg); err != nil {
			return p.notSent(ctx, l, part, s, "", err)
		}
	}
	if err := s.take(p.going, &l.message); err != nil {
		return p.notSent(ctx, l, part, s, "", err)
	}
	ch = append(ch, state.Intent{
		Message: part.Message, N: part.N, Box: mark.Folder,
		UIDValidity: mark.UIDValidity, UIDNext: mark.UIDNext, At: p.f.now(),
	})
	if err := p.put(ctx, ch...); err != nil {
		return err
	}
	l.routed = true
	rc, err := s.target.Deliver(ctx, &l.message, part.dest)
	if err != nil {
		s.giveBack(&l.message, err)
		return p.notSent(ctx, l, part, s, mark.Folder, err)
	}
	s.accepted()
	// Not under ctx: the copy exists, and a record of it must, too.
	err = p.put(context.Background(), state.Delivered{
		Message: part.Message, N: part.N, Box: mark.Folder,
		UIDValidity: cmp.Or(rc.UIDValidity, mark.UIDValidity), UID: rc.UID, Existed: rc.Existed, Reply: rc.Reply, At: p.f.now(),
	})
	if err == nil {
		p.arrived(l, part, rc)
	}
	return err
}

// wasThere records a copy that this pass need not make.
func (p *pass) wasThere(ctx context.Context, l *letter, part *part, box string, found targets.Found, ch []state.Change) error {
	rc := targets.Receipt{Folder: box, UIDValidity: found.UIDValidity, UID: found.UID, Existed: true}
	ch = append(ch, state.Delivered{
		Message: part.Message, N: part.N, Box: box, UIDValidity: rc.UIDValidity, UID: rc.UID, Existed: true,
		Reply: "was there already", At: p.f.now(),
	})
	if err := p.put(ctx, ch...); err != nil {
		return err
	}
	l.routed = true
	p.arrived(l, part, rc)
	return nil
}

// mark readies the folder. A folder that the target does not want (its name, no
// permission) is replaced by the target's own, so that mail is not held up by a
// rule.
func (p *pass) mark(ctx context.Context, s *sink, part *part) (targets.Mark, error) {
	if s.finder == nil {
		return targets.Mark{Folder: part.dest.Folder}, nil
	}
	m, err := s.finder.Mark(ctx, part.dest.Folder)
	if targets.FaultOf(err) != targets.Refused || part.dest.Folder == "" || err == nil {
		return m, err
	}
	p.warn(fmt.Sprintf("%s does not take the folder %q; using its own: %v", s.name, part.dest.Folder, err))
	part.dest.Folder = ""
	return s.finder.Mark(ctx, "")
}

// notSent records the outcome of a delivery that did not succeed.
func (p *pass) notSent(ctx context.Context, l *letter, part *part, s *sink, box string, err error) error {
	fault := targets.FaultOf(err)
	s.shut(box, err)
	if box == "" {
		return err // no intent was written, so there is nothing to settle
	}
	if fault == targets.Unsure {
		// The intent stays: it is looked up before anything else goes there.
		l.unsure = true
		level := slog.LevelDebug // one connection may have a hundred of them
		if s.firstInterruption() {
			level = slog.LevelWarn
		}
		p.log.Log(ctx, level, "a delivery was interrupted and will be looked up, like any others under way", "uidl", endpoint.Printable(l.UIDL, 80), "target", s.name, "err", err)
		return err
	}
	failed := state.Failed{
		Message: part.Message, N: part.N, Class: fault.String(), Reply: err.Error(),
		Uncharge: fault != targets.Refused, At: p.f.now(),
	}
	var te *targets.Error
	if errors.As(err, &te) && te.After > 0 {
		failed.NextTry = p.f.now().Add(te.After)
	}
	ch := []state.Change{failed}
	if fault == targets.Refused {
		for _, f := range s.charge(failed) {
			f.Uncharge = true
			ch = append(ch, f)
		}
		if part.Attempts++; part.Attempts >= deliveryCharges && len(ch) == 1 {
			ch = append(ch, p.quarantine(l.msg, err.Error()))
			l.quarantined = true
		}
	}
	if perr := p.put(context.WithoutCancel(ctx), ch...); perr != nil {
		return perr
	}
	return err
}

// pauses are how long a held message waits for its next try.
var pauses = []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// quarantine holds a message that failed too often. It stays on the maildrop,
// is never deleted, and is tried again after growing pauses.
func (p *pass) quarantine(m *state.Message, why string) state.Change {
	now := p.f.now()
	n := min(m.Holds, len(pauses)-1)
	return state.Quarantined{Message: m.ID, Note: why, NextTry: now.Add(pauses[n]), At: now}
}

// arrived counts one copy that is at its target and on record.
func (p *pass) arrived(l *letter, part *part, rc targets.Receipt) {
	part.Status = state.DeliveryDelivered
	folder := rc.Folder
	kind := Delivered
	if rc.Existed {
		kind = Duplicate
	}
	p.countFolder(part.Target, folder)
	if rc.Existed {
		p.mu.Lock()
		p.report.Duplicate++
		p.mu.Unlock()
	}
	e := l.event(kind)
	e.Target, e.Folder, e.Rule = part.Target, folder, part.Rule
	p.emit(e)
}

func (p *pass) countFolder(target, folder string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report.Folders[target] == nil {
		p.report.Folders[target] = map[string]int{}
	}
	p.report.Folders[target][folder]++
}

// settle counts a message after its deliveries. One that is unsure, or waits
// for one that is, counts when that was looked up.
func (p *pass) settle(l *letter, err error) {
	switch {
	case err == nil:
		p.unlinkStashed(l.msg)
		p.mu.Lock()
		p.report.Delivered++
		p.safe = append(p.safe, l.item)
		p.mu.Unlock()
	case l.unsure:
		p.mu.Lock()
		p.unsure++
		p.mu.Unlock()
	default:
		e := l.event(Failed)
		if l.quarantined {
			e.Kind = Held
		}
		e.Err = err
		if lacking := p.lacking(deliveries(l.parts)); len(lacking) == 1 {
			e.Target = lacking[0]
		}
		p.setback(l.item, e)
	}
}

func deliveries(parts []part) []state.Delivery {
	out := make([]state.Delivery, len(parts))
	for i := range parts {
		out[i] = parts[i].Delivery
	}
	return out
}
