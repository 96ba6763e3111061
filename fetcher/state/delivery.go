package state

import (
	"strings"
	"time"
)

// Routed records where a message goes, before anything of it is sent. The rows
// are planned; earlier ones that were never begun are replaced, all others stay.
// A message that is safe, dropped or marked cannot be routed. Message.Content
// must be filled in. The attempts to read it are forgotten: it has been read.
type Routed struct {
	Message    *Message
	Deliveries []Delivery // Message is set to Message.ID; N must not be one that stays
}

func (r Routed) apply(t *tx) error {
	if err := t.route(r); err != nil {
		return err
	}
	for i := range r.Deliveries {
		if err := t.plan(r.Message.ID, &r.Deliveries[i]); err != nil {
			return err
		}
	}
	return nil
}

// begun applies a Routed together with the Intent of its only delivery behind
// it, which is how nearly every delivery begins: so its row is written once, not
// twice. It reports whether changes begin so; if not, nothing was done.
func (t *tx) begun(changes []Change) (bool, error) {
	if len(changes) < 2 {
		return false, nil
	}
	r, routed := changes[0].(Routed)
	i, intent := changes[1].(Intent)
	if !routed || !intent || len(r.Deliveries) != 1 || r.Message.ID != i.Message || r.Deliveries[0].N != i.N {
		return false, nil
	}
	if err := t.route(r); err != nil {
		return true, err
	}
	d := &r.Deliveries[0]
	return true, t.must(1, "intent", `INSERT INTO delivery (message, n, target, folder, rcpt, flags, rule, status, attempts, box, uidvalidity, uidnext, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, ?, ?, ?, ?)`,
		r.Message.ID, d.N, d.Target, d.Folder, d.Rcpt, strings.Join(d.Flags, flagSep), d.Rule, i.Box, i.UIDValidity, i.UIDNext, i.At)
}

// flagSep separates flags in their column: no flag can contain it.
const flagSep = "\n"

// route writes the message's side of r.
func (t *tx) route(r Routed) error {
	m := r.Message
	switch {
	case m.Content == nil:
		return conflict("message %d is routed without its content", m.ID)
	case len(r.Deliveries) == 0:
		// "Every delivery is delivered" would hold at once, and the message be
		// deleted.
		return conflict("message %d is routed nowhere", m.ID)
	}
	n, err := t.routeFrom(m, routeNew)
	if err == nil && n == 0 {
		// Not for the first time: there may be rows.
		if err = t.unplan(m.ID); err == nil {
			n, err = t.routeFrom(m, routeAgain)
		}
	}
	if err == nil && n != 1 {
		err = conflict("message %d cannot be routed any more", m.ID)
	}
	return err
}

const (
	routeMessage = `UPDATE message SET status = 1, fetches = 0, size = ?, hash = ?, canon_size = ?, stable = ?, body = ?, msgid = ?, octets = ?, keep_for = ?
		WHERE id = ? AND gone_at = 0 AND `
	routeNew   = routeMessage + "status = 0"
	routeAgain = routeMessage + "status IN (1, 5, 6)"
)

func (t *tx) routeFrom(m *Message, sql string) (int64, error) {
	c := m.Content
	return t.exec(sql, m.Size, c.Hash[:], c.CanonSize, c.Stable[:], c.Body[:], c.MessageID, c.Octets, m.keepFor(), m.ID)
}

// plan writes the row of a delivery that is decided.
func (t *tx) plan(message int64, d *Delivery) error {
	return t.must(1, "route", `INSERT INTO delivery (message, n, target, folder, rcpt, flags, rule) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		message, d.N, d.Target, d.Folder, d.Rcpt, strings.Join(d.Flags, flagSep), d.Rule)
}

// unplan forgets deliveries of which nothing was ever sent.
func (t *tx) unplan(message int64) error {
	_, err := t.exec(`DELETE FROM delivery WHERE message = ? AND status = 0 AND attempts = 0`, message)
	return err
}

// Intent records that octets of a copy are about to be sent, where, and from
// which UID on it can be found. It needs a delivery that is planned or failed,
// and counts an attempt.
type Intent struct {
	Message     int64
	N           int
	Box         string // the folder as the server calls it
	UIDValidity uint32
	UIDNext     uint32
	At          time.Time
}

func (i Intent) apply(t *tx) error {
	return t.must(1, "intent", `UPDATE delivery SET status = 1, attempts = attempts + 1, box = ?, uidvalidity = ?, uidnext = ?,
		next_try = 0, at = ? WHERE message = ? AND n = ? AND status IN (0, 4)`,
		i.Box, i.UIDValidity, i.UIDNext, i.At, i.Message, i.N)
}

// Commit records that the final dot of an SMTP message is about to be sent.
type Commit struct {
	Message int64
	N       int
	At      time.Time
}

func (c Commit) apply(t *tx) error {
	return t.must(1, "commit", `UPDATE delivery SET status = 2, at = ? WHERE message = ? AND n = ? AND status = 1`,
		c.At, c.Message, c.N)
}

// Delivered records that the target has a copy. It needs an Intent, unless the
// copy existed before; then no other delivery may have it. Where it is the last delivery of its message, the message
// is safe from then on.
type Delivered struct {
	Message     int64
	N           int
	Box         string
	UIDValidity uint32
	UID         uint32 // 0 if the server did not say
	Existed     bool
	Reply       string
	At          time.Time
}

const (
	deliver = `UPDATE delivery SET status = 3, box = ?, uidvalidity = ?, uid = ?, existed = ?, class = '', reply = ?, next_try = 0, at = ?
		WHERE message = ? AND n = ? AND `
	deliverBegun = deliver + `status IN (1, 2)`
	// One copy serves one delivery, also when two passes find it at once.
	deliverExisting = deliver + `status <> 3 AND NOT EXISTS (SELECT 1 FROM delivery o WHERE o.target = delivery.target
		AND o.box = ?1 AND o.uidvalidity = ?2 AND o.uid = ?3 AND o.uid > 0 AND o.status = 3)`
)

func (d Delivered) apply(t *tx) error {
	sql := deliverBegun
	if d.Existed {
		sql = deliverExisting
	}
	if err := t.must(1, "delivered", sql, d.Box, d.UIDValidity, d.UID, d.Existed, d.Reply, d.At, d.Message, d.N); err != nil {
		return err
	}
	// IN with more than two values would be a table of its own, made for every
	// message.
	_, err := t.exec(`UPDATE message SET status = 2, note = iif(suspect, note, ''), next_try = 0
		WHERE id = ?1 AND gone_at = 0 AND (status = 1 OR status = 5 OR status = 6)
		AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.message = ?1 AND status <> 3)`, d.Message)
	return err
}

// Failed records that a copy was certainly not stored. Uncharge gives the
// attempt back.
type Failed struct {
	Message  int64
	N        int
	Class    string
	Reply    string
	NextTry  time.Time
	Uncharge bool
	At       time.Time
}

func (f Failed) apply(t *tx) error {
	return t.must(1, "failed", `UPDATE delivery SET status = 4, class = ?, reply = ?, next_try = ?, at = ?,
		attempts = max(attempts - ?, 0) WHERE message = ? AND n = ? AND status IN (0, 1, 2, 4)`,
		f.Class, f.Reply, f.NextTry, f.At, f.Uncharge, f.Message, f.N)
}
