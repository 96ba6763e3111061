package endpoint

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestBreaker: three refusals in a row, and the login waits: for another
// password, or for an hour, two, three … a day.
func TestBreaker(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	saved := map[string]Refusals{}
	breaker := func() *Breaker { // as another process would make it
		return &Breaker{
			rounds: 1,
			Now:    func() time.Time { return now },
			Load:   func(_ context.Context, login string) (Refusals, error) { return saved[login], nil },
			Save: func(_ context.Context, login string, r Refusals) error {
				if r.Count == 0 {
					delete(saved, login)
				} else {
					saved[login] = r
				}
				return nil
			},
		}
	}
	s := &Server{Host: "h", Port: 995, User: "jane", Breaker: breaker()}
	try := func(password string, want bool) {
		t.Helper()
		s.Password, s.Breaker = SecretValue(password), breaker()
		got, err := s.Secret(t.Context())
		e, paused := errors.AsType[*Error](err)
		if want && (err != nil || got != password) || !want && (!paused || e.Code != CodePaused || e.Until.IsZero() || got != "") {
			t.Fatalf("%s at %s: %q, %v", password, now, got, err)
		}
	}
	refuse := func(password string, pause time.Duration) {
		t.Helper()
		try(password, true)
		e := &Error{Code: CodeLoginRefused}
		s.Judged(t.Context(), password, e)
		until := e.Until
		if pause == 0 && !until.IsZero() || pause > 0 && until != now.Add(pause) {
			t.Fatalf("it waits until %s, want %s", until, pause)
		}
	}
	refuse("a", 0)
	refuse("a", 0)
	refuse("a", time.Hour)
	try("a", false)
	now = now.Add(time.Hour - time.Second)
	try("a", false)
	now = now.Add(time.Second)
	refuse("a", 2*time.Hour)
	for i := 3; i <= 30; i++ {
		now = now.Add(24 * time.Hour)
		refuse("a", min(time.Duration(i)*time.Hour, 24*time.Hour))
	}
	try("a", false)
	refuse("b", 0) // another one starts anew
	refuse("b", 0)
	s.Judged(t.Context(), "b", &Error{Code: CodeLoginUnavailable})
	s.Judged(t.Context(), "b", nil)
	if len(saved) != 0 {
		t.Errorf("after a success there is %v", saved)
	}
	refuse("b", 0)
	refuse("b", 0)
	refuse("b", time.Hour)
	if r := saved["h:995/jane"]; r.Count != 3 || len(r.Tag) != tagOctets {
		t.Errorf("%+v", saved)
	}
	other := *s
	other.User = "joe"
	if _, err := other.Secret(t.Context()); err != nil {
		t.Errorf("somebody else waits too: %v", err)
	}
}

// The zero Breaker remembers by itself, and none at all lets everything pass.
func TestBreaker_zero(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, b := range []*Breaker{nil, {rounds: 1, Now: func() time.Time { return now }}} {
		s := &Server{Host: "h", Port: 995, User: "jane", Password: SecretValue("x"), Breaker: b}
		for range 3 {
			if _, err := s.Secret(t.Context()); err != nil {
				t.Fatal(err)
			}
			refusal := &Error{Code: CodeLoginRefused, Reply: "no"}
			s.Judged(t.Context(), "x", refusal)
			// Who asks again at once hears the same.
			if _, err := s.Secret(t.Context()); b != nil && err != refusal {
				t.Errorf("at once: %v", err)
			}
			now = now.Add(breath)
		}
		if _, err := s.Secret(t.Context()); (err == nil) != (b == nil) {
			t.Errorf("%v: %v", b == nil, err)
		}
	}
	failed := errors.New("disk")
	s := &Server{Password: SecretValue("x"), Breaker: &Breaker{Load: func(context.Context, string) (Refusals, error) { return Refusals{}, failed }}}
	if _, err := s.Secret(t.Context()); !errors.Is(err, failed) {
		t.Errorf("%v, want that the state cannot be read", err)
	}
}
