package state

import (
	"context"
	"time"
)

// Refusals are a login's that was refused, in a row.
type Refusals struct {
	Login     string // who logs in where, in the caller's words
	Count     int
	Last      time.Time
	Salt, Tag []byte // the caller's, to tell whether the secret has changed
}

// LoginRefused replaces what is known of the refusals of a login.
type LoginRefused Refusals

func (r LoginRefused) apply(t *tx) error {
	return t.must(1, "login", `INSERT INTO refused (login, count, last, salt, tag) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (login) DO UPDATE SET count = excluded.count, last = excluded.last, salt = excluded.salt, tag = excluded.tag`,
		r.Login, r.Count, r.Last, r.Salt, r.Tag)
}

// LoginAccepted forgets the refusals of a login; there need be none.
type LoginAccepted struct{ Login string }

func (a LoginAccepted) apply(t *tx) error {
	_, err := t.exec(`DELETE FROM refused WHERE login = ?`, a.Login)
	return err
}

// Refused returns what is known of the refusals of a login; Count is 0 if there
// are none.
func (s *Store) Refused(ctx context.Context, login string) (Refusals, error) {
	r := Refusals{Login: login}
	err := s.read(ctx, `SELECT count, last, salt, tag FROM refused WHERE login = ?`, []any{login}, func(row row) error {
		r.Count, r.Last, r.Salt, r.Tag = row.int(0), row.time(1), row.bytes(2), row.bytes(3)
		return nil
	})
	return r, err
}
