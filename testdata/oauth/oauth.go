// Package oauth is a provider of access tokens for tests: a token endpoint that
// renews whatever it is given, and an address at which a mail server asks whom a
// token belongs to.
package oauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// User is whose all tokens are.
const User = "jane"

// Provider gives tokens; only the latest is good. Its methods are safe for
// concurrent use.
type Provider struct {
	server *httptest.Server

	mu    sync.Mutex
	token string
	given int
}

// Start runs a provider until the test ends.
func Start(t testing.TB) *Provider {
	p := &Provider{}
	p.mu.Lock()
	p.renewLocked()
	p.given = 0
	p.mu.Unlock()
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.server.Close)
	return p
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/token":
		p.renewLocked()
		fmt.Fprintf(w, `{"access_token": %q, "refresh_token": "refresh-%d", "expires_in": 3600}`, p.token, p.given)
	case p.token != "" && r.FormValue("access_token") == p.token:
		fmt.Fprintf(w, `{"user": %q}`, User)
	default:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": "invalid_token"}`)
	}
}

// renewLocked makes a token as long as Microsoft's.
func (p *Provider) renewLocked() {
	p.given++
	p.token = fmt.Sprintf("token-%d-%s", p.given, strings.Repeat("x", 4500))
}

// TokenURL is where tokens are renewed.
func (p *Provider) TokenURL() string { return p.server.URL + "/token" }

// InfoURL is where a mail server asks, with the token appended.
func (p *Provider) InfoURL() string { return p.server.URL + "/info?access_token=" }

// Token returns the good one.
func (p *Provider) Token() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token
}

// Given returns how many tokens were given out.
func (p *Provider) Given() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given
}

// Revoke makes the latest token worthless, too.
func (p *Provider) Revoke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token = ""
}

// SignIn writes the file that a sign-in leaves, for the client "client", and
// returns its name. Its access token is worthless; expiry says until when it
// looks good, in the form of RFC 3339.
func (p *Provider) SignIn(t testing.TB, expiry string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "account-work.json")
	text := fmt.Sprintf(`{"user": %q, "client_id": "client", "token_url": %q, "access_token": "old", "refresh_token": "refresh-0",
		"expiry": %q, "got": "2026-01-01T00:00:00Z", "signed_in": "2026-01-01T00:00:00Z"}`, User, p.TokenURL(), expiry)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
