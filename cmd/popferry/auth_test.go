package main

import (
	"bytes"
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

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
)

// TestAuth_login: a person signs in, by code and by browser with paste-back; the
// login is tried, mail is fetched with the token, and nothing shows any of it.
func TestAuth_login(t *testing.T) {
	secrets := []string{"c4nary-client", "c4nary-access", "c4nary-refresh", "c4nary-device", "c4nary-code"}
	for _, how := range []string{"device_url", "auth_url"} {
		t.Run(how, func(t *testing.T) {
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case r.URL.Path == "/device":
					fmt.Fprint(w, `{"device_code": "c4nary-device", "user_code": "F7KQ-2MXP", "verification_uri": "https://provider.example/device", "interval": 1, "expires_in": 60}`)
				case r.FormValue("client_secret") == "c4nary-client" && (r.FormValue("device_code") == "c4nary-device" || r.FormValue("code") == "c4nary-code" || r.FormValue("refresh_token") == "c4nary-refresh"):
					fmt.Fprint(w, `{"access_token": "c4nary-access", "refresh_token": "c4nary-refresh", "expires_in": 3600}`)
				default:
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprint(w, `{"error": "invalid_grant"}`)
				}
			}))
			defer provider.Close()
			pop := maildroptest.New("jane", "none")
			pop.SASL = []string{"XOAUTH2"}
			pop.Token = func(user, token string) bool { return user == "jane" && token == "c4nary-access" }
			pop.Add("jane", "1", []byte("Subject: hi\r\n\r\nhello\r\n"))
			box := &targetstest.IMAP{}
			for _, s := range []interface{ Start() error }{pop, box} {
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
			}
			defer pop.Close()
			defer box.Close()
			dir := t.TempDir()
			path := filepath.Join(dir, "popferry.yaml")
			text := fmt.Sprintf(`state: popferry.db
accounts:
  work: { host: 127.0.0.1, port: %d, tls: none, user: jane, oauth: { client_id: x, client_secret: "${SECRET}", token_url: "%s/token", %s: "%s/%s", scopes: mail } }
targets:
  home: { host: 127.0.0.1, port: %d, tls: none, user: %s, password: %s }
jobs: [ { from: work, to: home } ]
`, pop.Port(), provider.URL, how, provider.URL, strings.TrimSuffix(how, "_url"), box.Port(), targetstest.User, targetstest.Password)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			env := func(name string) (string, bool) { return "c4nary-client", name == "SECRET" }
			stdin, person := io.Pipe()
			defer person.Close()
			out := &printed{}
			if how == "auth_url" {
				// The person's browser runs elsewhere: it goes to the address, and what it ends at is pasted.
				out.line = func(line string) {
					u, err := url.Parse(strings.TrimSpace(line))
					if err != nil || u.Query().Get("state") == "" {
						return
					}
					go fmt.Fprintf(person, "what?\nhttp://127.0.0.1:1/?%s\n", url.Values{"state": {u.Query().Get("state")}, "code": {"c4nary-code"}}.Encode())
				}
			}
			var stderr bytes.Buffer
			if code := run(t.Context(), []string{"auth", "login", "work", "-vv", "-c", path}, stdin, out, &stderr, env, nil); code != exitOK {
				t.Fatalf("exit %d: %s\n%s", code, out, stderr.String())
			}
			want := []string{"Signed in as jane. The tokens are in ", "login ok"}
			if how == "device_url" {
				want = append(want, "1. Open https://provider.example/device on any device      2. Enter the code  F7KQ-2MXP")
			} else {
				want = append(want, "No: that is no address with a code in it")
			}
			for _, w := range want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is not in %s", w, out)
				}
			}
			if info, err := os.Stat(filepath.Join(dir, "tokens", "account-work.json")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			var stdout bytes.Buffer
			for _, args := range [][]string{{"run", "-vv"}, {"auth", "status"}} {
				if code := run(t.Context(), append(args, "-c", path), nil, &stdout, &stderr, env, nil); code != exitOK {
					t.Errorf("%s: exit %d: %s", args, code, stderr.String())
				}
			}
			if len(box.Messages("INBOX")) != 1 || !strings.Contains(stdout.String(), "the token is good for ") {
				t.Errorf("%d messages, %s", len(box.Messages("INBOX")), stdout.String())
			}
			all := out.String() + stdout.String() + stderr.String()
			db, err := os.ReadFile(filepath.Join(dir, "popferry.db"))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range secrets {
				for _, form := range forms(s) {
					if strings.Contains(all+string(db), form) {
						t.Errorf("%s shows as %s", s, form)
					}
				}
			}
		})
	}
}

// printed is output that somebody reads as it comes.
type printed struct {
	mu   sync.Mutex
	b    bytes.Buffer
	line func(string)
}

func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.b.Write(text)
	if p.line != nil {
		for l := range strings.Lines(string(text)) {
			p.line(l)
		}
	}
	return len(text), nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}
