package state

import "fmt"

// tx is a transaction of the writer.
type tx struct {
	s *Store
	c *conn
	// settle holds messages of which a delivery was delivered: whether they are
	// safe now is asked once for all of them.
	settle []int64
	then   []func() // run after the commit
}

// run applies a batch and commits it. culprit is the index of the Put whose
// change failed, -1 if it was the transaction itself.
func (t *tx) run(batch []*put) (culprit int, err error) {
	if _, err := t.c.exec("BEGIN IMMEDIATE"); err != nil {
		return -1, err
	}
	for i, p := range batch {
		for _, ch := range p.changes {
			if err := t.apply(ch); err != nil {
				return i, err
			}
		}
	}
	if err := t.settled(); err != nil {
		return -1, err
	}
	_, err = t.c.exec("COMMIT")
	return -1, err
}

func (t *tx) apply(ch Change) error {
	switch ch.(type) {
	case Delivered, Intent, Commit, Failed, Routed, Fetching:
		// They do not ask whether a message is safe.
	default:
		if err := t.settled(); err != nil {
			return err
		}
	}
	return ch.apply(t)
}

// settled makes the messages safe whose deliveries are all delivered now.
func (t *tx) settled() error {
	if len(t.settle) == 0 {
		return nil
	}
	_, err := t.c.exec(`UPDATE message SET status = ?, note = iif(suspect, note, ''), next_try = 0
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0 AND status IN (1, 5, 6)
		AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.message = message.id AND status <> 3)`,
		StatusSafe, ids(t.settle))
	t.settle = t.settle[:0]
	return err
}

// finish does what waited for the commit.
func (t *tx) finish() {
	for _, f := range t.then {
		f()
	}
}

// exec runs a statement that may change any number of rows. A constraint that
// it breaks is a conflict: the caller's mistake, not the disk's.
func (t *tx) exec(sql string, args ...any) (int64, error) {
	n, err := t.c.exec(sql, args...)
	if isConstraint(err) {
		err = fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return n, err
}

// must runs a statement that has to change exactly want rows; what names the
// change in the error.
func (t *tx) must(want int, what string, sql string, args ...any) error {
	n, err := t.exec(sql, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n != int64(want) {
		return fmt.Errorf("%s: %w: %d of %d rows are in a state that allows it", what, ErrConflict, n, want)
	}
	return nil
}
