package state

import "fmt"

// tx is a transaction of the writer.
type tx struct {
	s    *Store
	c    *conn
	then []func() // run after the commit
}

// run applies a batch and commits it. culprit is the index of the Put whose
// change failed, -1 if it was the transaction itself.
func (t *tx) run(batch []*put) (culprit int, err error) {
	if _, err := t.c.exec("BEGIN IMMEDIATE"); err != nil {
		return -1, err
	}
	for i, p := range batch {
		if err := t.applyAll(p.changes); err != nil {
			return i, err
		}
	}
	_, err = t.c.exec("COMMIT")
	return -1, err
}

// applyAll applies the changes of one Put.
func (t *tx) applyAll(changes []Change) error {
	for len(changes) > 0 {
		n := 1
		begun, err := t.begun(changes)
		if begun {
			n = 2
		} else if err == nil {
			err = changes[0].apply(t)
		}
		if err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
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
