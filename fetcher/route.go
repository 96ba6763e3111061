package fetcher

import (
	"bytes"
	"slices"
	"strings"

	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// ask asks the rules about a message of size octets. b is nil if only its header
// was read.
func (p *pass) ask(h *rules.Header, size int64, b *body) rules.Decision {
	if p.job.Rules == nil {
		return p.job.Rules.Decide(nil) // which looks at nothing
	}
	m := &rules.Message{Account: p.account.Name, Header: h, Size: size, Now: p.f.now()}
	if b != nil {
		m.Body = b.below
	}
	return p.job.Rules.Decide(m)
}

// route decides where the message of l goes, one part for each copy. b is nil if
// only its header was read.
func (p *pass) route(l *letter, size int64, b *body) {
	d := p.ask(&l.header, size, b)
	l.action = d.Action
	l.msg.Keep = keepFor(d.Keep)
	if n := len(d.Matched); n > 0 {
		l.rule = d.Matched[n-1]
	}
	var few [2]rules.Delivery
	for _, del := range d.Append(few[:0], p.job.Targets) {
		p.addParts(l, del)
	}
}

// addParts adds the copies that one delivery is: at a relay one for each recipient,
// since each may be refused by itself; else one in the folder.
func (p *pass) addParts(l *letter, del rules.Delivery) {
	s := p.sinks[del.Target]
	if s == nil || s.relay == nil {
		l.addPart(del, "")
		return
	}
	del.Dest.Folder, del.Dest.Flags = "", nil
	list := s.relay.Recipients(targets.Dest(del.Dest))
	if len(list) == 0 {
		list = []string{""} // delivering it will say what is wrong
	}
	for _, rcpt := range list {
		l.addPart(del, rcpt)
	}
}

// addPart adds one copy unless the message has it already.
func (l *letter) addPart(del rules.Delivery, rcpt string) {
	row := state.Delivery{
		Message: l.msg.ID, N: len(l.parts), Target: del.Target, Folder: del.Dest.Folder, Rcpt: rcpt, Flags: del.Dest.Flags, Rule: del.Rule,
	}
	l.parts = append(l.parts, part{Delivery: row, dest: destOf(row), derived: del.Derived})
	l.mergeParts()
}

// mergeParts leaves one of several copies for the same place. It must be done
// before the route is on record.
func (l *letter) mergeParts() {
	kept := l.parts[:0]
	for _, w := range l.parts {
		same := func(p part) bool {
			return p.Target == w.Target && p.Folder == w.Folder && strings.EqualFold(p.Rcpt, w.Rcpt)
		}
		if !slices.ContainsFunc(kept, same) {
			w.N = len(kept)
			kept = append(kept, w)
		}
	}
	l.parts = kept
}

// destOf is where a recorded copy goes.
func destOf(d state.Delivery) targets.Dest {
	dest := targets.Dest{Folder: d.Folder, Flags: d.Flags}
	if d.Rcpt != "" {
		dest.Rcpt = []string{d.Rcpt}
	}
	return dest
}

// bodyMax is as much of a body as rules look at.
const bodyMax = 1 << 20

// below returns what follows the header, bodyMax octets of it at most. Of a
// header that does not end nobody knows where the body begins.
func (b *body) below() []byte {
	if !bytes.Equal(b.head, crlf) && !bytes.HasSuffix(b.head, crlfcrlf) {
		return nil
	}
	out := make([]byte, min(b.size-int64(len(b.head)), bodyMax))
	n, _ := b.ReadAt(out, int64(len(b.head))) // what cannot be read cannot be delivered either
	return out[:n]
}
