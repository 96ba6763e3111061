package state

import "time"

// The changes in this file are a person's decisions, not outcomes of a pass.

// Retry makes the next pass try messages again that are held or quarantined, as
// if nothing had failed yet. What is delivered stays delivered, and what is
// uncertain is still looked up first.
type Retry struct {
	Messages []int64
	At       time.Time
}

func (r Retry) apply(t *tx) error {
	list := ids(r.Messages)
	if err := t.must(len(r.Messages), "retry", `UPDATE message SET note = iif(suspect, note, ''), next_try = 0, fetches = 0,
		status = iif(EXISTS (SELECT 1 FROM delivery WHERE message = id), ?, ?)
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0 AND status IN (5, 6)`,
		StatusRouted, StatusNew, list); err != nil {
		return err
	}
	// The class stays: a copy that was interrupted is still a suspect, and is
	// sent alone.
	_, err := t.exec(`UPDATE delivery SET status = iif(status = 5, ?, status), attempts = 0, next_try = 0, at = ?
		WHERE message IN (SELECT value FROM json_each(?)) AND status <> 3`, DeliveryFailed, r.At, list)
	return err
}

// Marked remembers messages without delivering them, or without delivering the
// rest of their copies. They are never deleted. Nobody waits for a copy of them
// any more, so an uncertain one counts as failed.
type Marked struct {
	Messages []int64
	Note     string
}

func (m Marked) apply(t *tx) error {
	list := ids(m.Messages)
	if err := t.must(len(m.Messages), "mark", `UPDATE message SET status = ?, note = ?, next_try = 0
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0 AND status IN (0, 1, 5, 6)`,
		StatusMarked, m.Note, list); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM delivery WHERE message IN (SELECT value FROM json_each(?)) AND status = 0 AND attempts = 0`,
		list); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE delivery SET status = ?, next_try = 0 WHERE message IN (SELECT value FROM json_each(?)) AND status <> 3`,
		DeliveryFailed, list)
	return err
}

// Forgotten removes messages of an account as if they had never been listed, so
// that they are fetched again if they are still there. Tombstones stay: they
// are about mail that cannot come again. Until a pass is whole the account
// counts as new: what is fetched is compared with what lies in the targets.
type Forgotten struct {
	Account  int64
	Messages []int64
}

func (f Forgotten) apply(t *tx) error {
	list := ids(f.Messages)
	if _, err := t.exec(`DELETE FROM delivery WHERE message IN (SELECT value FROM json_each(?))`, list); err != nil {
		return err
	}
	if err := t.must(len(f.Messages), "forget", `DELETE FROM message
		WHERE id IN (SELECT value FROM json_each(?)) AND account = ? AND gone_at = 0`, list, f.Account); err != nil {
		return err
	}
	return t.must(1, "forget", `UPDATE account SET first_pass_done = 0 WHERE id = ?`, f.Account)
}

// SetClock sets the high-water clock to Now, also back: a wrong clock has moved
// it too far, and nothing is deleted by age until that time comes.
type SetClock struct{ Now time.Time }

func (c SetClock) apply(t *tx) error {
	now := millis(c.Now)
	t.then = append(t.then, func() { t.s.clock.Store(now) })
	return t.must(1, "clock", "UPDATE meta SET value = ? WHERE name = 'clock'", now)
}
