package fetcher

import (
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
	body    *body
	header  *rules.Header
	message targets.Message
	action  rules.Action
	rule    string // the last rule that matched
	parts   []part

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

// open reads what is needed of a complete body and decides where the message
// goes. A route that an earlier pass recorded stands, whatever the rules say
// now: some of its copies exist already.
func (p *pass) open(it item, b *body, recorded []state.Delivery) *letter {
	h := rules.ParseHeader(b.head)
	l := &letter{item: it, body: b, header: h}
	l.message = targets.Message{
		Key:        p.account.Name + "/" + endpoint.Printable(it.UIDL, 80),
		MessageID:  h.MessageID(),
		Host:       p.account.Maildrop.Host,
		ReturnPath: returnPath(h),
		Received:   h.Received(),
		Date:       h.Date(),
		Size:       b.size,
		Hash:       b.hash,
		Body:       b,
	}
	it.msg.Size = it.Size // as it was when its content was read
	it.msg.Content = &state.Content{
		Hash:      b.hash,
		CanonSize: b.canon,
		Octets:    b.octets,
		MessageID: l.message.MessageID,
		Stable:    targets.StableHash(b.head),
		Body:      b.text,
	}
	if len(recorded) > 0 {
		for _, d := range recorded {
			l.parts = append(l.parts, part{Delivery: d, dest: destOf(d)})
		}
		l.routed = true
		return l
	}
	p.route(l, b.size)
	return l
}

// event starts an event about the message of l.
func (l *letter) event(k Kind) Event {
	return Event{Kind: k, UIDL: l.UIDL, MessageID: l.message.MessageID, Header: l.header, Octets: l.body.octets, Rule: l.rule}
}
