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
	m := r.Message
	switch {
	case m.Content == nil:
		return conflict("message %d is routed without its content", m.ID)
	case len(r.Deliveries) == 0:
		// "Every delivery is delivered" would hold at once, and the message be
		// deleted.
		return conflict("message %d is routed nowhere", m.ID)
	}
	n, err := t.route(m, "status = 0")
	if err == nil && n == 0 {
		// Not for the first time: there may be rows.
		if err = t.unplan(m.ID); err == nil {
			n, err = t.route(m, "status IN (1, 5, 6)")
		}
	}
	if err != nil {
		return err
	}
	if n != 1 {
		return conflict("message %d cannot be routed any more", m.ID)
	}
	args := make([]any, 0, 7*len(r.Deliveries))
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		args = append(args, m.ID, d.N, d.Target, d.Folder, d.Rcpt, strings.Join(d.Flags, flagSep), d.Rule)
	}
	return t.must(len(r.Deliveries), "route", `INSERT INTO delivery (message, n, target, folder, rcpt, flags, rule) VALUES `+
		tuples(len(r.Deliveries), 7), args...)
}

// flagSep separates flags in their column: no flag can contain it.
const flagSep = "\n"

func (t *tx) route(m *Message, from string) (int64, error) {
	c := m.Content
	return t.exec(`UPDATE message SET status = 1, fetches = 0, size = ?, hash = ?, canon_size = ?, stable = ?, body = ?, msgid = ?, octets = ?, keep_for = ?
		WHERE id = ? AND gone_at = 0 AND `+from,
		m.Size, c.Hash[:], c.CanonSize, c.Stable[:], c.Body[:], c.MessageID, c.Octets, m.keepFor(), m.ID)
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

func (d Delivered) apply(t *tx) error {
	from := "status IN (1, 2)"
	if d.Existed {
		// One copy serves one delivery, also when two passes find it at once.
		from = `status <> 3 AND NOT EXISTS (SELECT 1 FROM delivery o WHERE o.target = delivery.target
			AND o.box = ?1 AND o.uidvalidity = ?2 AND o.uid = ?3 AND o.uid > 0 AND o.status = 3)`
	}
	t.settle = append(t.settle, d.Message)
	return t.must(1, "delivered", `UPDATE delivery SET status = 3, box = ?, uidvalidity = ?, uid = ?, existed = ?, class = '',
		reply = ?, next_try = 0, at = ? WHERE message = ? AND n = ? AND `+from,
		d.Box, d.UIDValidity, d.UID, d.Existed, d.Reply, d.At, d.Message, d.N)
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
