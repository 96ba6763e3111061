package endpoint

import (
	"bytes"
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// Breaker keeps logins that a server refuses from being tried over and over:
// providers lock accounts for that. After three refusals in a row a login waits
// until its secret is another one, or for an hour, then for two, and so on up to
// a day; any success ends that, and Forgive. What servers say while they cannot check a login
// does not count.
//
// The zero Breaker remembers for as long as it lives; Load and Save, which are
// to be set before it is used, make it last. It is safe for concurrent use.
type Breaker struct {
	Load func(ctx context.Context, login string) (Refusals, error) // nil is nothing; the zero Refusals where none are known
	Save func(ctx context.Context, login string, r Refusals) error // nil is not to be saved; the zero Refusals forgets
	Now  func() time.Time                                          // nil is time.Now

	mu    sync.Mutex
	known map[string]Refusals
	again time.Time         // what was refused before may be tried once more
	last  map[string]*Error // by login: the latest refusal in this process

	rounds int // of a tag; 0 is tagRounds. Tests are in a hurry
}

// Refusals are those of one login in a row.
type Refusals struct {
	Count int
	Last  time.Time
	// Salt and Tag tell, most likely, whether the secret has changed since. The
	// tag has sixteen bits and took long to make, so that whoever reads it learns
	// next to nothing about the secret.
	Salt, Tag []byte
}

const (
	patience  = 3               // refusals in a row before a login waits
	breath    = 5 * time.Second // after any refusal: a pass that asks for several connections shall not be refused several times
	pauseStep = time.Hour
	pauseMost = 24 * time.Hour
	tagRounds = 100_000
	tagOctets = 2
	saveTime  = 5 * time.Second
)

// CodePaused is a login that is not tried now, because it was refused too often.
const CodePaused = "login-paused"

// until is when the login may be tried again with the secret that was refused.
func (r Refusals) until() time.Time {
	if r.Count < patience {
		return time.Time{}
	}
	return r.Last.Add(min(time.Duration(r.Count-patience+1)*pauseStep, pauseMost))
}

func (b *Breaker) same(r Refusals, secret string) bool {
	return bytes.Equal(r.Tag, b.tag(secret, r.Salt))
}

func (b *Breaker) tag(secret string, salt []byte) []byte {
	tag, err := pbkdf2.Key(sha256.New, secret, salt, cmp.Or(b.rounds, tagRounds), tagOctets)
	if err != nil {
		return nil // only for lengths that a standard forbids
	}
	return tag
}

func (b *Breaker) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

// Forgive lets every login be tried once more at once: somebody asked for it.
func (b *Breaker) Forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.again = b.now()
}

// recall returns what is known of a login. Called with mu held.
func (b *Breaker) recall(ctx context.Context, login string) (Refusals, error) {
	r, ok := b.known[login]
	if ok || b.Load == nil {
		return r, nil
	}
	r, err := b.Load(ctx, login)
	if err == nil {
		b.keep(login, r)
	}
	return r, err
}

func (b *Breaker) keep(login string, r Refusals) {
	if b.known == nil {
		b.known = map[string]Refusals{}
	}
	b.known[login] = r
}

// record remembers r, also beyond the process. The pass that the login was for
// may be over; what was refused was refused nevertheless. A state that cannot be
// written ends passes by itself.
func (b *Breaker) record(ctx context.Context, login string, r Refusals) {
	b.keep(login, r)
	if b.Save != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
		defer cancel()
		_ = b.Save(ctx, login, r)
	}
}

// allow returns why a login must wait, nil if it may be tried.
func (b *Breaker) allow(ctx context.Context, s *Server, secret string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, err := b.recall(ctx, s.Login())
	if err != nil || r.Count == 0 || !b.same(r, secret) {
		return err
	}
	if r.Last.Before(b.again) {
		return nil
	}
	if last := b.last[s.Login()]; last != nil && b.now().Before(r.Last.Add(breath)) {
		return last
	}
	until := r.until()
	if !b.now().Before(until) {
		return nil
	}
	return &Error{
		Stage: "auth", Code: CodePaused, Addr: s.Addr(), User: s.User, Until: until,
		Text: fmt.Sprintf("login as %q was refused %d times, so it is not tried again before %s", s.User, r.Count, until.Format(time.DateTime)),
	}
}

// refused counts a refusal and notes in it until when the login must wait now.
func (b *Breaker) refused(ctx context.Context, login, secret string, e *Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, _ := b.recall(ctx, login)
	if r.Count == 0 || !b.same(r, secret) {
		r = Refusals{Salt: []byte(rand.Text())}
		r.Tag = b.tag(secret, r.Salt)
	}
	r.Count++
	r.Last = b.now()
	b.record(ctx, login, r)
	e.Until = r.until()
	if b.last == nil {
		b.last = map[string]*Error{}
	}
	b.last[login] = e
}

func (b *Breaker) accepted(ctx context.Context, login string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.last, login)
	if r, err := b.recall(ctx, login); err == nil && r.Count > 0 {
		b.record(ctx, login, Refusals{})
	}
}

// Login names who logs in where.
func (s *Server) Login() string { return s.Addr() + "/" + s.User }

// Secret returns what to log in with. Errors are *Error, stage "auth": the
// secret cannot be had, or was refused too often.
func (s *Server) Secret(ctx context.Context) (string, error) {
	if s.OAuth != nil {
		token, err := s.OAuth.Token(ctx)
		if err == nil && s.Breaker != nil {
			err = s.Breaker.allow(ctx, s, s.OAuth.since())
		}
		if err != nil {
			return "", err
		}
		return token, nil
	}
	secret, err := s.Password.Reveal(ctx)
	if err != nil {
		return "", &Error{Stage: "auth", Code: "password-unavailable", Addr: s.Addr(), Text: err.Error(), Err: err}
	}
	if s.Breaker == nil {
		return secret, nil
	}
	if err := s.Breaker.allow(ctx, s, secret); err != nil {
		return "", err
	}
	return secret, nil
}

// Judged tells that a login with secret was accepted, or refused with the error
// e, in which it notes until when the same will not be tried again, or that
// another token may do better.
func (s *Server) Judged(ctx context.Context, secret string, e *Error) {
	if s.OAuth != nil {
		if e != nil && e.Code == CodeLoginRefused && s.OAuth.Refused(secret) {
			e.Again = true
			return
		}
		secret = s.OAuth.since()
	}
	switch {
	case s.Breaker == nil:
	case e == nil:
		s.Breaker.accepted(ctx, s.Login())
	case e.Code == CodeLoginRefused:
		s.Breaker.refused(ctx, s.Login(), secret, e)
	}
}
