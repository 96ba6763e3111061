package fetcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// This file is about relays, which cannot be searched. In place of a search
// there is a second note on disk, before the final dot of a message: what was
// interrupted before it is certainly not delivered, what was interrupted after
// it may be, and nobody can find out.

// lostReplies is how many messages may lose their final reply before a relay
// gets nothing more in this pass: each may be delivered twice.
const lostReplies = 3

// consignment is what a message has to go to one relay: all its recipients there
// that do not have it, in one transaction with the server.
type consignment struct {
	p     *pass
	l     *letter
	s     *sink
	parts []*part
	names map[*part][]string // whom each part is for
}

// consign delivers l to all its recipients at a relay that do not have it yet.
func (p *pass) consign(ctx context.Context, l *letter, s *sink) error {
	c := &consignment{p: p, l: l, s: s, names: map[*part][]string{}}
	var to targets.Dest
	for i := range l.parts {
		part := &l.parts[i]
		if part.Target != s.name || part.Status == state.DeliveryDelivered {
			continue
		}
		part.tried = true
		c.parts = append(c.parts, part)
		// An earlier pass may have planned a folder, for a target of this name.
		c.names[part] = s.relay.Recipients(part.dest)
		to.Rcpt = append(to.Rcpt, c.names[part]...)
	}
	if err := s.downErr(); err != nil {
		return err
	}
	// Once for all recipients: the message travels once.
	if err := s.take(p.going, &l.message); err != nil {
		s.shut("", err)
		return err
	}
	var ch []state.Change
	if !l.routed {
		ch = append(ch, state.Routed{Message: l.msg, Deliveries: deliveries(l.parts)})
	}
	for _, part := range c.parts {
		ch = append(ch, state.Intent{Message: part.Message, N: part.N, Box: part.Rcpt, At: p.f.now()})
	}
	if err := p.put(ctx, ch...); err != nil {
		return err
	}
	l.routed = true
	m := l.message
	m.Commit = c.commit
	rc, err := s.target.Deliver(ctx, &m, to)
	return c.outcome(context.WithoutCancel(ctx), rc, err)
}

// commit puts on disk that the final dot is about to be sent, to these
// recipients.
func (c *consignment) commit(ctx context.Context, rcpt []string) error {
	var ch []state.Change
	for _, part := range c.parts {
		if slices.ContainsFunc(c.names[part], func(n string) bool { return slices.Contains(rcpt, n) }) {
			ch = append(ch, state.Commit{Message: part.Message, N: part.N, At: c.p.f.now()})
		}
	}
	return c.p.put(ctx, ch...)
}

// outcome records what became of every copy. ctx does not end: what was
// delivered must be on record.
func (c *consignment) outcome(ctx context.Context, rc targets.Receipt, err error) error {
	now := c.p.f.now() // one for all, by which the state knows that they were one transaction
	var ch []state.Change
	var served []*part
	failed := map[*part]error{}
	for _, part := range c.parts {
		if failed[part] = failureOf(c.names[part], rc, err); failed[part] == nil {
			served = append(served, part)
			ch = append(ch, state.Delivered{Message: part.Message, N: part.N, Box: part.Rcpt, Reply: rc.Reply, At: now})
		}
	}
	if len(served) > 0 {
		if err := c.p.put(ctx, ch...); err != nil {
			return err
		}
	}
	for _, part := range served {
		c.s.serve(part.Rcpt)
		c.p.arrived(c.l, part, targets.Receipt{Folder: strings.Join(c.names[part], ", "), Reply: rc.Reply})
	}
	var first error
	lost := false
	for _, part := range c.parts {
		err := failed[part]
		switch {
		case err == nil:
			continue
		case targets.FaultOf(err) == targets.Unsure:
			lost = true
			c.p.log.Warn("the server's answer was lost: the message may have arrived",
				"uidl", endpoint.Printable(c.l.UIDL, 80), "target", c.s.name, "rcpt", endpoint.Printable(part.Rcpt, 200), "err", err)
		default:
			err = c.notServed(ctx, part, err)
		}
		if first == nil {
			first = err
		}
	}
	switch {
	case lost:
		c.s.replyLost()
		c.l.unsure = c.s.downErr() == nil // the next session may bring it
	case len(served) == 0:
		c.s.giveBack(&c.l.message, first)
	}
	return first
}

// notServed records a copy that was certainly not delivered.
func (c *consignment) notServed(ctx context.Context, part *part, err error) error {
	fault := targets.FaultOf(err)
	c.s.shut(part.Rcpt, err)
	failed := state.Failed{
		Message: part.Message, N: part.N, Class: fault.String(), Reply: err.Error(),
		Uncharge: fault != targets.Refused, At: c.p.f.now(),
	}
	ch := []state.Change{failed}
	if fault == targets.Refused {
		innocent := c.s.refuse(part.Rcpt, failed)
		for _, f := range innocent {
			f.Uncharge = true
			ch = append(ch, f)
		}
		if part.Attempts++; part.Attempts >= deliveryCharges && len(innocent) == 0 {
			ch = append(ch, c.p.quarantine(c.l.msg, err.Error()))
			c.l.quarantined = true
		}
	}
	if perr := c.p.put(ctx, ch...); perr != nil {
		return perr
	}
	return err
}

// refuse notes a refusal. When a recipient has been refused too often in the same
// words, and not served between, that is no message's fault: it returns those to
// give back their charges. If nobody at all was served meanwhile, the relay gets
// nothing more.
func (s *sink) refuse(rcpt string, f state.Failed) (innocent []state.Failed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusals == nil {
		s.refusals = map[string][]state.Failed{}
	}
	key := rcpt + "\x00" + f.Reply
	list := append(s.refusals[key], f)
	s.refusals[key] = list
	if len(list) < sameReply {
		return nil
	}
	if !s.served && s.down == nil {
		s.down = fmt.Errorf("%s refuses every message: %s", s.name, f.Reply)
	}
	if len(list) == sameReply {
		return list
	}
	return list[len(list)-1:]
}

// serve notes that a recipient was served.
func (s *sink) serve(rcpt string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = true
	maps.DeleteFunc(s.refusals, func(key string, _ []state.Failed) bool { return strings.HasPrefix(key, rcpt+"\x00") })
}

// failureOf returns why a copy for these recipients was not delivered: the
// failure about which least is known.
func failureOf(names []string, rc targets.Receipt, err error) error {
	var worst error
	for _, n := range names {
		f := rc.Failed[n]
		if f == nil {
			f = err
		}
		if worst == nil || f != nil && targets.FaultOf(f) > targets.FaultOf(worst) {
			worst = f
		}
	}
	if len(names) == 0 {
		return err
	}
	return worst
}

// replyLost counts messages whose final reply was lost.
func (s *sink) replyLost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost++; s.lost >= lostReplies && s.down == nil {
		s.down = fmt.Errorf("%s does not answer when it has a message; it gets no more in this pass", s.name)
	}
}

// settleRelay decides about copies whose delivery to a relay was interrupted.
// Without a commit they are certainly not there. With one they may be: they are
// sent again, or wait for a person where the configuration says so.
func (p *pass) settleRelay(ctx context.Context, s *sink, ds []state.Delivery, messages map[int64]*state.Message) error {
	now := p.f.now()
	var ch []state.Change
	var order []int64
	why := map[int64]string{} // of what is held
	for _, d := range ds {
		reply, note := "interrupted before the server had all of it", ""
		if d.Status == state.DeliveryCommit {
			reply = "interrupted before the server had answered"
			if p.job.Hold[s.name] {
				note = fmt.Sprintf("%s may have it: the connection was lost before it answered", s.name)
			}
		}
		if note == "" && d.Attempts >= lostMax {
			note = fmt.Sprintf("delivery to %s was interrupted %d times", s.name, d.Attempts)
		}
		ch = append(ch, state.Failed{Message: d.Message, N: d.N, Class: classLost, Reply: reply, At: now})
		if note != "" && why[d.Message] == "" {
			why[d.Message] = note
			order = append(order, d.Message)
		}
	}
	for _, id := range order {
		ch = append(ch, state.Held{Message: id, Note: why[id], At: now})
	}
	if err := p.put(ctx, ch...); err != nil {
		return err
	}
	for _, d := range ds {
		if d.Status == state.DeliveryCommit && why[d.Message] == "" {
			p.log.Warn("sent again, and may be delivered twice: the server's answer was lost",
				"uidl", endpoint.Printable(messages[d.Message].UIDL, 80), "target", s.name, "rcpt", endpoint.Printable(d.Rcpt, 200))
		}
	}
	for _, id := range order {
		m := messages[id]
		p.emit(Event{
			Kind: Held, UIDL: m.UIDL, MessageID: m.MessageID, Octets: m.Octets, Target: s.name,
			Err: &targets.Error{Fault: targets.Unsure, Op: "the final dot", Err: errors.New(why[id])},
		})
	}
	return nil
}

// returnPath is whom failures of a message concern: what its Return-Path says,
// which may be nobody. Mail that was never delivered by SMTP has none; then it is
// whoever sent it.
func returnPath(h *rules.Header) string {
	if h.Raw("Return-Path") != nil {
		return h.ReturnPath()
	}
	for _, field := range []string{"Sender", "From"} {
		if list := h.Addresses(field); len(list) > 0 {
			return list[0].Addr()
		}
	}
	return ""
}
