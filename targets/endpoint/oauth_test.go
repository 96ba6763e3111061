package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// tokenServer is a provider that does as it is told.
type tokenServer struct {
	*httptest.Server
	mu       sync.Mutex
	requests []url.Values                                      // to the token endpoint
	answer   func(n int, v url.Values) (status int, reply any) // n from 1
}

func newTokenServer(t *testing.T, answer func(n int, v url.Values) (int, any)) *tokenServer {
	t.Helper()
	s := &tokenServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, r.PostForm)
		n := len(s.requests)
		s.mu.Unlock()
		status, reply := s.answer(n, r.PostForm)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(reply)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// renewal is a good answer: a new access token and a new refresh token.
func renewal(n int, _ url.Values) (int, any) {
	return 200, map[string]any{"access_token": fmt.Sprintf("access-%d", n), "refresh_token": fmt.Sprintf("refresh-%d", n), "expires_in": 3600, "token_type": "Bearer"}
}

// signedIn is somebody who signed in an hour ago, with an access token for as long.
func signedIn(t *testing.T, s *tokenServer, left time.Duration) *OAuth {
	t.Helper()
	o := &OAuth{
		Name: "work", User: "jane@contoso.example", ClientID: "client-1", ClientSecret: SecretValue("canary-client"),
		TokenURL: s.URL + "/token", Scopes: []string{"mail", "offline_access"}, File: filepath.Join(t.TempDir(), "tokens", "account-work.json"),
	}
	now := time.Now()
	if err := o.save(&tokens{
		User: o.User, ClientID: o.ClientID, TokenURL: o.TokenURL, Access: "access-0", Refresh: "refresh-0",
		Expiry: now.Add(left), Got: now.Add(-time.Hour), SignedIn: now.Add(-time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	o.keep(nil) // as another process
	return o
}

// stored is what lies in the file.
func stored(t *testing.T, o *OAuth) *tokens {
	t.Helper()
	b, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	got := new(tokens)
	if err := json.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(o.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(o.File), ".token-*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	return got
}

// TestOAuth_refresh: a token is renewed when it has five minutes left, once for
// all who wait, and the new refresh token is on disk when they get theirs.
func TestOAuth_refresh(t *testing.T) {
	for _, tt := range []struct {
		left time.Duration
		want string
	}{
		{10 * time.Minute, "access-0"},
		{refreshAhead - time.Second, "access-1"},
		{-time.Hour, "access-1"},
	} {
		s := newTokenServer(t, renewal)
		o := signedIn(t, s, tt.left)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, err := o.Token(t.Context())
				if err != nil || got != tt.want {
					t.Errorf("%s left: %q, %v", tt.left, got, err)
				}
				if on := stored(t, o); on.Access != tt.want {
					t.Errorf("%s left: %s is in use and %s on disk", tt.left, tt.want, on.Access)
				}
			})
		}
		wg.Wait()
		if n := s.count(); n > 1 || (n == 1) != (tt.want == "access-1") {
			t.Errorf("%s left: %d requests", tt.left, n)
		}
		if tt.want == "access-1" {
			if v := s.requests[0]; v.Get("grant_type") != "refresh_token" || v.Get("refresh_token") != "refresh-0" || v.Get("client_secret") != "canary-client" {
				t.Errorf("asked with %v", v)
			}
			if on := stored(t, o); on.Refresh != "refresh-1" {
				t.Errorf("%s is on disk", on.Refresh)
			}
		}
	}
}

// TestOAuth_rotation: each refresh token is used once, also over processes.
func TestOAuth_rotation(t *testing.T) {
	s := newTokenServer(t, renewal)
	o := signedIn(t, s, 0)
	now := time.Now()
	for i := range 4 {
		o.Now = func() time.Time { return now.Add(time.Duration(i) * time.Hour) }
		if i == 2 {
			o.keep(nil)
		}
		if got, err := o.Token(t.Context()); err != nil || got != fmt.Sprintf("access-%d", i+1) {
			t.Fatalf("%q, %v", got, err)
		}
		if got := s.requests[i].Get("refresh_token"); got != fmt.Sprintf("refresh-%d", i) {
			t.Errorf("used %s", got)
		}
	}
	if st := o.Status(); !st.Ends.IsZero() {
		t.Errorf("it ends on %s", st.Ends)
	}
	// A provider that gives no new one leaves the old one good.
	s.answer = func(int, url.Values) (int, any) {
		return 200, map[string]any{"access_token": "same", "expires_in": 60, "refresh_token_expires_in": 604800}
	}
	o.Now = func() time.Time { return now.Add(5 * time.Hour) }
	if _, err := o.Token(t.Context()); err != nil || stored(t, o).Refresh != "refresh-4" {
		t.Errorf("%v", err)
	}
	if st := o.Status(); st.Ends.Unix() != now.Add(5*time.Hour+7*24*time.Hour).Unix() {
		t.Errorf("it ends on %s", st.Ends)
	}
}

// TestOAuth_errors: what the provider says decides what a person reads, and
// nothing that was sent to it shows.
func TestOAuth_errors(t *testing.T) {
	oauthError := func(status int, code, text string) func(int, url.Values) (int, any) {
		return func(_ int, v url.Values) (int, any) {
			return status, map[string]string{"error": code, "error_description": text + " " + v.Get("refresh_token")}
		}
	}
	for _, tt := range []struct {
		name   string
		answer func(int, url.Values) (int, any)
		left   time.Duration
		code   string // "" is the old token
		text   string
	}{
		{"revoked", oauthError(400, "invalid_grant", "Token has been revoked."), 0, CodeSignInExpired, "the provider has ended the sign-in: invalid_grant Token has been revoked. ***"},
		{"Microsoft", oauthError(400, "invalid_grant", "AADSTS70043: expired.\r\nTrace ID: x"), 0, CodeSignInExpired, "the provider has ended the sign-in: invalid_grant AADSTS70043: expired."},
		{"client", oauthError(401, "invalid_client", "no"), 0, CodeSignInClient, "the provider does not accept this client: invalid_client no ***"},
		{"trouble", oauthError(503, "temporarily_unavailable", "later"), 0, CodeSignInDown, "the provider gives no token now: temporarily_unavailable later ***"},
		{"trouble, but the old one is good for a while", oauthError(503, "temporarily_unavailable", "later"), time.Minute, "", ""},
		{"no JSON", func(int, url.Values) (int, any) { return 502, "refresh-0" }, 0, CodeSignInDown, "the provider gives no token now: 502 Bad Gateway"},
		{"redirect", func(int, url.Values) (int, any) { return 302, "x" }, 0, CodeSignInDown, "the provider gives no token now: 302 Found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTokenServer(t, tt.answer)
			o := signedIn(t, s, tt.left)
			got, err := o.Token(t.Context())
			if tt.code == "" {
				if got != "access-0" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Code != tt.code || e.Text != tt.text || e.Hint == "" || e.Stage != "auth" || e.Addr != "work" {
				t.Fatalf("%+v", err)
			}
			for _, secret := range []string{"refresh-0", "access-0", "canary"} {
				if strings.Contains(fmt.Sprintf("%+v %v", e, e), secret) {
					t.Errorf("%v shows %s", err, secret)
				}
			}
			// A dead sign-in is not asked for again, by any process, until a person signs in.
			asked := s.count()
			for _, o := range []*OAuth{o, {Name: o.Name, User: o.User, ClientID: o.ClientID, TokenURL: o.TokenURL, File: o.File}} {
				_, err := o.Token(t.Context())
				if e, ok := errors.AsType[*Error](err); tt.code == CodeSignInExpired && (!ok || e.Code != tt.code || !strings.Contains(e.Hint, "popferry auth login work")) {
					t.Errorf("again: %v", err)
				}
			}
			if n := s.count(); tt.code == CodeSignInExpired && n != asked {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestOAuth_slow: who waits for a slow endpoint can give up, and the others still
// get their token.
func TestOAuth_slow(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := newTokenServer(t, func(n int, v url.Values) (int, any) {
		close(asked)
		<-release
		return renewal(n, v)
	})
	o := signedIn(t, s, 0)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop it")
	first := make(chan error)
	go func() { _, err := o.Token(ctx); first <- err }()
	<-asked
	second := make(chan string)
	go func() { token, _ := o.Token(t.Context()); second <- token }()
	cancel(stop)
	if err := <-first; !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	close(release)
	if got := <-second; got != "access-1" || s.count() != 1 {
		t.Errorf("%q after %d requests", got, s.count())
	}
}

// TestOAuth_refused: a token that a mail server does not take although it has not
// expired is replaced, but not one that was made a moment ago.
func TestOAuth_refused(t *testing.T) {
	s := newTokenServer(t, renewal)
	o := signedIn(t, s, time.Hour)
	token, err := o.Token(t.Context())
	if err != nil || token != "access-0" || !o.Refused(token) {
		t.Fatalf("%q, %v", token, err)
	}
	if token, err = o.Token(t.Context()); err != nil || token != "access-1" {
		t.Fatalf("%q, %v", token, err)
	}
	if o.Refused(token) {
		t.Error("another token is to be had at once")
	}
	if token, err = o.Token(t.Context()); err != nil || token != "access-1" || s.count() != 1 {
		t.Errorf("%q, %v after %d requests", token, err, s.count())
	}
}

// TestOAuth_stored: what lies in the file is good for one user and client only.
func TestOAuth_stored(t *testing.T) {
	s := newTokenServer(t, renewal)
	for name, change := range map[string]func(*OAuth){
		"nobody has signed in as jane@contoso.example yet":       func(o *OAuth) { os.Remove(o.File) },
		"the stored sign-in is for another user or client":       func(o *OAuth) { o.ClientID = "client-2" },
		"the stored sign-in is for another user or client ":      func(o *OAuth) { o.User = "joe" },
		"the stored sign-in is damaged: ":                        func(o *OAuth) { os.WriteFile(o.File, []byte("{refresh-0"), 0o600) },
		"the stored sign-in cannot be read: " + "is a directory": func(o *OAuth) { os.Remove(o.File); os.Mkdir(o.File, 0o700) },
	} {
		o := signedIn(t, s, time.Hour)
		change(o)
		_, err := o.Token(t.Context())
		e, ok := errors.AsType[*Error](err)
		want, _, _ := strings.Cut(strings.TrimSpace(name), "is a directory")
		if !ok || e.Code != CodeSignIn || !strings.HasPrefix(e.Text, want) || strings.Contains(e.Text, "refresh-0") {
			t.Errorf("%s: %v", name, err)
		}
		if st := o.Status(); st.Err == nil {
			t.Errorf("%s: %+v", name, st)
		}
	}
	o := signedIn(t, s, time.Hour)
	if st := o.Status(); st.Err != nil || time.Since(st.Since) < 59*time.Minute {
		t.Errorf("%+v", st)
	}
	if was, err := o.Logout(); !was || err != nil {
		t.Error(was, err)
	}
	if was, err := o.Logout(); was || err != nil {
		t.Error(was, err)
	}
}

// TestOAuth_device: RFC 8628, with a person who takes a while. A second a poll is
// the least that can be asked for.
func TestOAuth_device(t *testing.T) {
	polls := 0
	s := newTokenServer(t, func(n int, v url.Values) (int, any) {
		if v.Get("grant_type") == "" {
			return 200, map[string]any{"device_code": "canary-device", "user_code": "F7KQ-2MXP", "verification_uri": "https://microsoft.com/devicelogin", "interval": 1, "expires_in": 900}
		}
		if polls++; polls == 1 {
			return 400, map[string]string{"error": "authorization_pending"}
		}
		return renewal(n, v)
	})
	o := signedIn(t, s, 0)
	if _, err := o.Logout(); err != nil {
		t.Fatal(err)
	}
	o.DeviceURL = s.URL + "/device"
	shown := ""
	if err := o.Device(t.Context(), func(uri, code string) { shown = uri + " " + code }); err != nil {
		t.Fatal(err)
	}
	if shown != "https://microsoft.com/devicelogin F7KQ-2MXP" || s.requests[0].Get("scope") != "mail offline_access" {
		t.Errorf("%q, asked with %v", shown, s.requests[0])
	}
	if token, err := o.Token(t.Context()); err != nil || token != "access-3" || stored(t, o).Refresh != "refresh-3" {
		t.Errorf("%q, %v", token, err)
	}
	s.answer = func(_ int, v url.Values) (int, any) {
		if v.Get("grant_type") == "" {
			return 200, map[string]any{"device_code": "d", "user_code": "u", "verification_uri": "https://x.example/", "interval": 1, "expires_in": 900}
		}
		return 400, map[string]string{"error": "access_denied", "error_description": "no thanks"}
	}
	err := o.Device(t.Context(), func(string, string) {})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeSignIn || e.Text != "the provider did not let you in: access_denied no thanks" {
		t.Errorf("%v", err)
	}
}

// TestOAuth_browser: the browser comes to us, or a person pastes where it went;
// with PKCE, and with our state only.
func TestOAuth_browser(t *testing.T) {
	for _, paste := range []bool{false, true} {
		s := newTokenServer(t, renewal)
		o := signedIn(t, s, 0)
		o.AuthURL = s.URL + "/auth"
		pasted := make(chan string)
		var wg sync.WaitGroup
		var wrong []string
		err := o.Browser(t.Context(), func(address string) {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) < 43 || q.Get("client_id") != "client-1" ||
				q.Get("scope") != "mail offline_access" || q.Get("login_hint") != o.User || strings.Contains(address, "canary") {
				t.Errorf("%s", address)
			}
			back := q.Get("redirect_uri") + "?" + url.Values{"state": {q.Get("state")}, "code": {"code-1"}}.Encode()
			wg.Go(func() {
				if paste {
					for _, text := range []string{"", "code-1", "http://127.0.0.1:1/?state=x&code=y", "http://127.0.0.1:1/?state=" + q.Get("state"), " " + back + "\n"} {
						pasted <- text
					}
					return
				}
				for _, at := range []string{"http" + "://" + strings.SplitN(back, "/", 4)[2] + "/favicon.ico", q.Get("redirect_uri") + "?state=x&code=evil", back} {
					r, err := http.Get(at)
					if err != nil {
						t.Error(err)
						continue
					}
					b, _ := io.ReadAll(r.Body)
					r.Body.Close()
					if ok := strings.HasPrefix(string(b), "Done."); ok != (at == back) {
						t.Errorf("%s: %s", at, b)
					}
				}
			})
		}, pasted, func(err error) { wrong = append(wrong, err.Error()) })
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if paste && len(wrong) != 4 {
			t.Errorf("%q", wrong)
		}
		if v := s.requests[0]; v.Get("code") != "code-1" || len(v.Get("code_verifier")) < 43 || v.Get("grant_type") != "authorization_code" {
			t.Errorf("%v", v)
		}
		if got := stored(t, o); got.Access != "access-1" || got.Refresh != "refresh-1" {
			t.Errorf("%+v", got)
		}
	}
}
