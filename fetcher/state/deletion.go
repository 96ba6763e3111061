package state

import (
	"context"
	"time"
)

// DelSent records that DELE was accepted for messages. They must be safe or
// dropped, and no suspects: nothing else is ever deleted.
type DelSent struct {
	Messages []int64
	At       time.Time
}

func (d DelSent) apply(t *tx) error {
	return t.must(len(d.Messages), "DELE", `UPDATE message SET delsent_at = ?
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0 AND status IN (2, 3) AND suspect = 0`,
		d.At, ids(d.Messages))
}

// Gone makes rows tombstones: QUIT was answered +OK after their DELE, or they
// have been absent for long enough.
type Gone struct {
	Messages []int64
	At       time.Time
}

func (g Gone) apply(t *tx) error {
	return t.must(len(g.Messages), "gone", `UPDATE message SET gone_at = ?
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0`, g.At, ids(g.Messages))
}

// Absent records that messages are missing from a complete listing. The first
// time counts.
type Absent struct {
	Messages []int64
	At       time.Time
}

func (a Absent) apply(t *tx) error {
	_, err := t.exec(`UPDATE message SET absent_since = ?
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0 AND absent_since = 0`, a.At, ids(a.Messages))
	return err
}

// Present records that messages are listed again.
type Present struct{ Messages []int64 }

func (p Present) apply(t *tx) error {
	_, err := t.exec(`UPDATE message SET absent_since = 0
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0 AND absent_since > 0`, ids(p.Messages))
	return err
}

// Rekey gives a message the UIDL under which the server lists it now. A row of
// that key of which nothing was sent yet (Listed made it) gives way; any other
// is a conflict.
type Rekey struct {
	Message int64
	UIDL    string
	Gen     int
	Size    int64
}

func (k Rekey) apply(t *tx) error {
	uidl := []byte(k.UIDL)
	var other int64
	err := t.c.query(context.Background(), `SELECT id FROM message WHERE account = (SELECT account FROM message WHERE id = ?)
		AND uidl = ? AND gen = ? AND gone_at = 0 AND id <> ? AND status IN (0, 1)`,
		[]any{k.Message, uidl, k.Gen, k.Message}, func(r row) error { other = r.int64(0); return nil })
	if err != nil {
		return err
	}
	if other != 0 {
		if err := t.unplan(other); err != nil {
			return err
		}
		if err := t.must(1, "rekey", `DELETE FROM message WHERE id = ?
			AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = id)`, other); err != nil {
			return err
		}
	}
	return t.must(1, "rekey", `UPDATE message SET uidl = ?, gen = ?, size = ?, absent_since = 0, delsent_at = 0
		WHERE id = ? AND gone_at = 0`, uidl, k.Gen, k.Size, k.Message)
}

// Prune removes tombstones from before a time, with their deliveries.
type Prune struct{ Before time.Time }

func (p Prune) apply(t *tx) error {
	const old = "gone_at > 0 AND gone_at < ?"
	if _, err := t.exec(`DELETE FROM delivery WHERE message IN (SELECT id FROM message WHERE `+old+`)`, p.Before); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM message WHERE `+old, p.Before)
	return err
}
