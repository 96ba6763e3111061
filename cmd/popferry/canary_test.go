package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
)

// forms are the ways in which a secret could show: as it is, in hexadecimal, and
// in base64 wherever in a message it stands.
func forms(secret string) []string {
	list := []string{secret, hex.EncodeToString([]byte(secret))}
	for before := range 3 {
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + secret))
		list = append(list, b[(before*8+5)/6:len(b)-4])
	}
	return list
}

// everything is what a run left behind: what it printed, the names of files and
// what is in them.
func everything(t *testing.T, dir string, printed ...string) string {
	t.Helper()
	all := strings.Join(printed, "\n")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "popferry.yaml" {
			return err
		}
		b, err := os.ReadFile(path)
		all += "\n" + path + "\n" + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCanary: whatever the mechanism, and whether it works or not, at the most
// verbose level nothing shows the password or the token, not even where the
// server quotes it.
func TestCanary(t *testing.T) {
	const right, wrong = "c4nary-of-the-mine-R", "c4nary-of-the-mine-W"
	for _, mech := range []string{"plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "apop", "user", "xoauth2", "oauthbearer"} {
		for _, how := range []string{"right", "wrong", "quoted"} {
			t.Run(mech+" "+how, func(t *testing.T) {
				pop := maildroptest.New("jane", right)
				pop.TLS = maildroptest.STLS
				pop.SASL = append([]string{"XOAUTH2", "OAUTHBEARER"}, maildroptest.DefaultSASL...)
				pop.Token = func(_, token string) bool { return token == right }
				pop.Add("jane", "1", []byte("Subject: hi\r\n\r\nhello\r\n"))
				box := &targetstest.IMAP{User: "jane", Password: right}
				relay := &targetstest.SMTP{User: "jane", Password: right, Login: true, Extensions: []string{"AUTH PLAIN"}}
				secret := right
				switch how {
				case "wrong":
					secret = wrong
				case "quoted":
					pop.Hook = func(_ int, cmd string) (a maildroptest.Action) {
						if verb, _, _ := strings.Cut(cmd, " "); verb == "AUTH" || verb == "PASS" || verb == "APOP" {
							a.Reply = "-ERR what is " + cmd + "\r\n"
						}
						return a
					}
					relay.Hook = func(c targetstest.SMTPCommand) (a targetstest.SMTPAction) {
						if c.Verb == "AUTH" {
							a.Reply = "535 5.7.8 what is " + c.Line
						}
						return a
					}
					box.Hook = func(c targetstest.Command) (a targetstest.Action) {
						if c.Verb == "LOGIN" || c.Verb == "AUTHENTICATE" {
							a.Reply = "NO what is " + c.Line
						}
						return a
					}
				}
				for _, s := range []interface{ Start() error }{pop, box, relay} {
					if err := s.Start(); err != nil {
						t.Fatal(err)
					}
				}
				defer pop.Close()
				defer box.Close()
				defer relay.Close()
				dir := t.TempDir()
				config := fmt.Sprintf(`state: popferry.db
accounts:
  isp: { host: 127.0.0.1, port: %d, tls: starttls, tls_fingerprint: "sha256:%x", user: jane, auth: %s, password: "${SECRET}" }
targets:
  home: { host: 127.0.0.1, port: %d, tls: none, user: jane, password: "${SECRET}" }
  relay: { type: smtp, host: 127.0.0.1, port: %d, tls: none, user: jane, password: "${SECRET}", recipient: joe@home.example }
jobs: [ { from: isp, to: [home, relay] } ]
`, pop.Port(), pop.Fingerprint(), mech, box.Port(), relay.Port())
				path := filepath.Join(dir, "popferry.yaml")
				if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
					t.Fatal(err)
				}
				env := func(name string) (string, bool) { return secret, name == "SECRET" }
				for _, args := range [][]string{{"run", "-vv", "-c", path}, {"check", "-vv", "-c", path}, {"run", "-vv", "--json", "--log-format", "json", "-c", path}} {
					var stdout, stderr bytes.Buffer
					code := run(t.Context(), args, nil, &stdout, &stderr, env, nil)
					if how == "right" && code != exitOK || how != "right" && code != exitLogin {
						t.Errorf("%s: exit %d\n%s", args[0], code, stderr.String())
					}
					all := everything(t, dir, stdout.String(), stderr.String())
					if !strings.Contains(stderr.String(), "> CAPA") || args[0] == "check" &&
						(!strings.Contains(stderr.String(), "AUTHENTICATE PLAIN ***") || !strings.Contains(stderr.String(), "AUTH PLAIN ***")) {
						t.Errorf("there is no trace in %s", stderr.String())
					}
					for _, form := range append(forms(right), forms(wrong)...) {
						if i := strings.Index(all, form); i >= 0 {
							t.Errorf("%s shows %q: …%.200q", args[0], form, all[max(0, i-80):])
						}
					}
				}
			})
		}
	}
}
