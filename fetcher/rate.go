package fetcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"popferry/fetcher/state"
	"popferry/targets"
)

// rated is a target's limiter, and what it holds to.
type rated struct {
	rates   []targets.Rate
	limiter *targets.Limiter
}

// limiter returns what holds the deliveries to a target to its rates, nil if it
// has none. What was sent before this process began is in the state: no count of
// its own could be as true.
func (f *Fetcher) limiter(ctx context.Context, target string) (*targets.Limiter, error) {
	rates := f.Rates[target]
	if len(rates) == 0 {
		return nil, nil
	}
	c := f.common()
	c.rateMu.Lock()
	defer c.rateMu.Unlock()
	if r := c.limiters[target]; r != nil && slices.Equal(r.rates, rates) {
		return r.limiter, nil
	}
	l := targets.NewLimiter(rates, f.now)
	if memory := l.Memory(); memory > 0 {
		sent, err := f.State.Sent(ctx, target, f.now().Add(-memory))
		if err != nil {
			return nil, err
		}
		past := make([]targets.Sent, len(sent))
		for i, s := range sent {
			past[i] = targets.Sent(s)
		}
		l.Recall(past)
	}
	c.limiters[target] = &rated{rates, l}
	return l, nil
}

// ration gives each target its limiter. One that has used up a rate takes
// nothing in this pass.
func (p *pass) ration(ctx context.Context) error {
	for _, s := range p.sinks {
		l, err := p.f.limiter(ctx, s.name)
		if err != nil {
			return err
		}
		if s.limit = l; l == nil {
			continue
		}
		if s.down = l.Err(); s.down != nil {
			p.usedUp(s)
		}
	}
	return nil
}

// usedUp tells once in a pass that a target has used up a rate.
func (p *pass) usedUp(s *sink) {
	p.mu.Lock()
	told := p.rationed[s.name]
	p.rationed[s.name] = true
	if u, ok := errors.AsType[*targets.UsedUp](s.downErr()); ok {
		p.usedFirst(u)
	}
	p.mu.Unlock()
	if !told {
		p.warn(fmt.Sprintf("%s: %v", s.name, s.downErr()))
	}
}

// usedFirst notes a rate that left something. p.mu is held.
func (p *pass) usedFirst(u *targets.UsedUp) {
	if p.used == nil || u.Until.Before(p.used.Until) {
		p.used = u
	}
}

// take waits for the turn of a message. It comes before the intent: what only
// waits must not look interrupted after a kill.
func (s *sink) take(ctx context.Context, m *targets.Message) error {
	if s.limit == nil {
		return nil
	}
	err := s.limit.Take(ctx, m.Size)
	if err != nil && ctx.Err() != nil {
		return errStopped
	}
	return err
}

// errStopped is of a message that was still waiting for its turn when the pass was
// to end.
var errStopped = errors.New("the pass ended before its turn came")

// giveBack returns what a message took that was certainly not stored.
func (s *sink) giveBack(m *targets.Message, err error) {
	if s.limit != nil && targets.FaultOf(err) != targets.Unsure {
		s.limit.Return(m.Size)
	}
}

// rationed returns the rate that alone keeps a message from its targets, of several
// the first that goes on; nil if there is another reason.
func rationed(errs []error) (first *targets.UsedUp) {
	for _, err := range errs {
		u, ok := errors.AsType[*targets.UsedUp](err)
		if !ok {
			return nil
		}
		if first == nil || u.Until.Before(first.Until) {
			first = u
		}
	}
	return first
}

// postponeMost is how long a message waits at most before a rate is asked again:
// the configuration may have changed.
const postponeMost = time.Hour

// postpone leaves a message until a rate allows for it. It is not downloaded
// before: when the rate is used up no message is, and when only this one does not
// fit it has its time.
func (p *pass) postpone(ctx context.Context, l *letter, used *targets.UsedUp, why error) {
	for _, part := range l.parts {
		if s := p.sinks[part.Target]; s != nil {
			if _, ok := errors.AsType[*targets.UsedUp](s.downErr()); ok {
				p.usedUp(s)
			}
		}
	}
	next := used.Until
	if latest := p.f.now().Add(postponeMost); next.After(latest) {
		next = latest
	}
	if p.put(context.WithoutCancel(ctx), state.MessageFailed{Message: l.msg.ID, Reply: why.Error(), NextTry: next, Uncharge: true}) != nil {
		return
	}
	p.mu.Lock()
	p.report.Skipped++
	p.tried[l.msg.ID] = true
	p.usedFirst(used)
	p.mu.Unlock()
	e := l.event(Skipped)
	e.Reason = why.Error()
	p.emit(e)
}
