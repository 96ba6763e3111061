package fetcher

import (
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// item is an entry of the listing together with what is remembered of it.
type item struct {
	maildrop.Entry
	msg *state.Message
}

// letter is a message in hand: its body, what its header says, and where it
// goes.
type letter struct {
	item
	body    body
	header  rules.Header
	message targets.Message
	action  rules.Action
	rule    string // the last rule that matched
	parts   []part
	first   [1]part // what parts lie in unless there are more

	routed      bool // the parts are on record
	quarantined bool // refused too often
	unsure      bool // a delivery was interrupted, and may have succeeded
}

// part is one copy to make: one row of the state.
type part struct {
	state.Delivery
	dest    targets.Dest
	derived bool // text from the message is part of the folder's name
	tried   bool // in this pass, together with others for the same relay
}

// open reads what is needed of a letter whose body is complete and decides where
// it goes. A route that an earlier pass recorded stands, whatever the rules say
// now: some of its copies exist already.
func (p *pass) open(l *letter, recorded []state.Delivery) {
	h, b := &l.header, &l.body
	h.Parse(b.head)
	l.message = targets.Message{
		Key:       p.account.Name + "/" + endpoint.Printable(l.UIDL, 80),
		MessageID: h.MessageID(),
		Host:      p.account.Maildrop.Host,
		Received:  h.Received(),
		Date:      h.Date(),
		Size:      b.size,
		Hash:      b.hash,
		Body:      b,
	}
	l.msg.Size = l.Size // as it was when its content was read
	l.msg.Content = &state.Content{
		Hash:      b.hash,
		CanonSize: b.canon,
		Octets:    b.octets,
		MessageID: l.message.MessageID,
		Stable:    targets.StableHash(b.head),
		Body:      b.text,
	}
	l.parts = l.first[:0]
	if len(recorded) > 0 {
		for _, d := range recorded {
			l.parts = append(l.parts, part{Delivery: d, dest: destOf(d)})
		}
		l.routed = true
	} else {
		p.route(l, b.size, b)
	}
	if slices.ContainsFunc(l.parts, p.mailed) {
		l.message.ReturnPath = returnPath(h)
	}
}

// mailed reports whether a copy goes to a target that takes an envelope.
func (p *pass) mailed(w part) bool {
	s := p.sinks[w.Target]
	return s != nil && s.relay != nil
}

// event starts an event about the message of l.
func (l *letter) event(k Kind) Event {
	return Event{Kind: k, UIDL: l.UIDL, MessageID: l.message.MessageID, Header: &l.header, Octets: l.body.octets, Rule: l.rule}
}
