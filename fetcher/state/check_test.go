//go:build unix

package state

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestCheck_sound(t *testing.T) {
	s := eventful(t)
	c, err := s.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "check", c, &Checked{Accounts: 2, Messages: 11, Gone: 1, Deliveries: 9, Clock: s.Clock()})
}

// TestCheck_contradiction breaks each promise by hand. Every rule must find what
// breaks it.
func TestCheck_contradiction(t *testing.T) {
	const safe, under, dropped, fresh = "id = 1", "id = 2", "id = 3", "id = 4"
	for _, x := range []struct{ sql, want string }{
		{"DELETE FROM delivery WHERE message = 1", "is safe without a delivery"},
		{"UPDATE delivery SET status = 4 WHERE message = 1", "is safe, but not all of its deliveries are delivered"},
		{"UPDATE delivery SET status = 3 WHERE message = 2", "is not safe, though all of its deliveries are delivered"},
		{"DELETE FROM delivery WHERE message = 2", "is routed without a delivery"},
		{"UPDATE message SET status = 0 WHERE " + under, "has deliveries, though it is new or dropped"},
		{"UPDATE message SET status = 4 WHERE " + under, "is marked, though a delivery is under way"},
		{"UPDATE message SET delsent_at = 1 WHERE " + fresh, "was deleted from the maildrop without being safe"},
		{"UPDATE message SET delsent_at = 1, suspect = 1 WHERE " + safe, "was deleted from the maildrop without being safe"},
		{"UPDATE message SET hash = NULL WHERE " + safe, "has deliveries, but no hash of what was delivered"},
		{"UPDATE message SET account = 9 WHERE " + dropped, `message "u2" of account "?" belongs to no account`},
		{"UPDATE message SET status = 7 WHERE " + fresh, "has a status that is not known"},
		{"DELETE FROM message WHERE " + safe, "1 deliveries belong to no message"},
	} {
		t.Run(strings.Trim(strings.ReplaceAll(x.want, " ", "_"), "_"), func(t *testing.T) {
			s := open(t, Options{})
			_, ms := list(t, s, 4)
			mustPut(t, s, routed(ms[0], 1), intent(ms[0], 0), delivered(ms[0], 0, 11), routed(ms[1], 1), intent(ms[1], 0), Dropped{Message: ms[2], At: t0})
			if c, err := s.Check(ctx); err != nil || len(c.Findings) > 0 {
				t.Fatalf("Check = %+v, %v", c, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			c, err := openConn(s.Path(), "rw")
			if err == nil {
				err = c.script(x.sql)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = c.close()
			v, err := View(ctx, s.Path())
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			got, err := v.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Findings) != 1 || !strings.Contains(got.Findings[0], x.want) {
				t.Errorf("findings %q, want one: %s", got.Findings, x.want)
			}
		})
	}
}

// TestCheck_damage finds what lies deeper than opening looks.
func TestCheck_damage(t *testing.T) {
	s := open(t, Options{})
	list(t, s, 2000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b := read(t, s.Path())
	copy(b[len(b)/2&^4095:], bytes.Repeat([]byte{0xa5}, 4096))
	if err := os.WriteFile(s.Path(), b, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := View(ctx, s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	c, err := v.Check(ctx)
	if err != nil || len(c.Findings) == 0 || !strings.Contains(c.Findings[0], "damaged") {
		t.Errorf("Check = %+v, %v", c, err)
	}
}
