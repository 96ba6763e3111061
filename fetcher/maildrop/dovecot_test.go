package maildrop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/targets/endpoint"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
	"popferry/testdata/oauth"
)

// real is what a user would write to reach a Dovecot.
func real(s *dovecot.Server, tls endpoint.TLS, user string) *Config {
	c := &Config{Server: endpoint.Server{
		Host: s.Host, Port: s.POP3, TLS: tls, CAFile: s.CAFile, User: user, Password: endpoint.SecretValue(dovecot.Password),
		Timeout: 20 * time.Second,
	}}
	if tls == endpoint.Implicit {
		c.Port = s.POP3S
	}
	return c
}

func dialReal(t *testing.T, cfg *Config) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// served is how Dovecot hands a message out: LF becomes CRLF, and the last line
// has an end.
func served(raw []byte) []byte {
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	raw = bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(raw, "\r\n"...)
	}
	return raw
}

// Everything that can be in a mail comes through to the octet, over every kind
// of link, pipelined or not.
func TestDovecot_octets(t *testing.T) {
	s := dovecot.Start(t)
	mails := corpus.Nasty()
	var raws [][]byte
	for _, m := range append(mails, corpus.Varied()...) {
		if bytes.HasPrefix(m.Raw, []byte(".")) {
			continue // Dovecot serves them wrong; see below
		}
		raws = append(raws, m.Raw)
	}
	shared, err := filepath.Glob("../../../shared/mail/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(shared) == 0 {
		t.Log("../shared/mail is not there: only our own messages were fetched")
	}
	for _, file := range shared {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raws = append(raws, raw)
	}
	s.Put("jane", "INBOX", raws...)
	for i := range raws {
		raws[i] = served(raws[i])
	}
	for _, tt := range []struct {
		tls        endpoint.TLS
		pipelining string
	}{{endpoint.Implicit, "auto"}, {endpoint.StartTLS, "off"}, {endpoint.Plain, "auto"}} {
		t.Run(fmt.Sprintf("%s, pipelining %s", tt.tls, tt.pipelining), func(t *testing.T) {
			cfg := real(s, tt.tls, "jane")
			cfg.Pipelining = tt.pipelining
			c := dialReal(t, cfg)
			l := listAll(t, c)
			if len(l.Entries) != len(raws) || !l.Complete || len(l.Warnings) > 0 {
				t.Fatalf("%d of %d messages, %q", len(l.Entries), len(raws), l.Warnings)
			}
			if p := c.Caps(); !p.Pipelining || !p.TOP || !p.UIDL || !p.AuthCodes || !slices.Contains(p.SASL, "PLAIN") {
				t.Errorf("%+v", p)
			}
			n := 0
			for in := range c.Retrieve(t.Context(), slices.Values(l.Entries)) {
				if in.Err != nil {
					t.Fatal(in.Err)
				}
				got, err := io.ReadAll(in.Body)
				if want := raws[n]; err != nil || !bytes.Equal(got, want) {
					t.Errorf("message %d: %d octets, want %d, %v", in.Num, len(got), len(want), err)
				}
				n++
			}
			if n != len(raws) {
				t.Errorf("%d of %d messages", n, len(raws))
			}
			n = 0
			for in := range c.Top(t.Context(), slices.Values(l.Entries)) {
				if in.Err != nil {
					t.Fatal(in.Err)
				}
				got, err := io.ReadAll(in.Body)
				head, _, _ := bytes.Cut(append([]byte("\r\n"), raws[n]...), []byte("\r\n\r\n"))
				head = bytes.TrimPrefix(head, []byte("\r\n"))
				head = head[:min(len(head), topOctets)]
				if err != nil || len(got) > topOctets || !bytes.HasPrefix(append(got, "\r\n"...), head) {
					t.Errorf("header %d: %d octets, want %d, %v", in.Num, len(got), len(head), err)
				}
				n++
			}
			n = 0
			for in := range c.TopLines(t.Context(), slices.Values(l.Entries), 1<<20) {
				if in.Err != nil {
					t.Fatal(in.Err)
				}
				if got, err := io.ReadAll(in.Body); err != nil || !bytes.Equal(got, raws[n]) {
					t.Errorf("all lines of %d: %d octets, want %d, %v", in.Num, len(got), len(raws[n]), err)
				}
				n++
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Dovecot 2.3 does not double a dot that is the first octet of a mail. What can
// be told is put right, what cannot must not pass for something else.
func TestDovecot_firstDot(t *testing.T) {
	s := dovecot.Start(t)
	s.Put("jane", "INBOX", []byte(".a\r\n\r\n.b\r\n"), []byte("x\r\n"))
	c := dialReal(t, real(s, endpoint.Plain, "jane"))
	all := fetchAll(t.Context(), c, listAll(t, c).Entries)
	if len(all) != 2 || all[0].body != ".a\r\n\r\n.b\r\n" || all[1].body != "x\r\n" {
		t.Errorf("%+v", all)
	}
	s.Put("bob", "INBOX", []byte(".\r\n+OK forged\r\n"), []byte("x\r\n"))
	c = dialReal(t, real(s, endpoint.Plain, "bob"))
	all = fetchAll(t.Context(), c, listAll(t, c).Entries)
	if len(all) != 1 || asError(t, all[0].err).Kind != Botched {
		t.Errorf("%+v", all)
	}
}

func TestDovecot_delete(t *testing.T) {
	s := dovecot.Start(t)
	for _, m := range corpus.Small(1, 300) {
		s.Put("jane", "INBOX", m.Raw)
	}
	c := dialReal(t, real(s, endpoint.Implicit, "jane"))
	l := listAll(t, c)
	if deleted, err := c.Delete(t.Context(), l.Entries[:250]); err != nil || len(deleted) != 250 {
		t.Fatal(len(deleted), err)
	}
	c.Close()
	if n := s.Count("jane", "INBOX"); n != 300 {
		t.Errorf("hanging up left %d", n)
	}
	c = dialReal(t, real(s, endpoint.Implicit, "jane"))
	again := listAll(t, c)
	if !slices.Equal(again.Entries, l.Entries) {
		t.Error("another listing, other entries")
	}
	if _, err := c.Delete(t.Context(), again.Entries[:250]); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.Count("jane", "INBOX"); n != 50 {
		t.Errorf("QUIT left %d", n)
	}
}

// Another client expunges while we read: those messages are gone, the others
// come.
func TestDovecot_expungedMeanwhile(t *testing.T) {
	s := dovecot.Start(t)
	for _, m := range corpus.Small(1, 5) {
		s.Put("jane", "INBOX", m.Raw)
	}
	c := dialReal(t, real(s, endpoint.Implicit, "jane"))
	l := listAll(t, c)
	other := dialReal(t, real(s, endpoint.Implicit, "jane"))
	if _, err := other.Delete(t.Context(), listAll(t, other).Entries[1:3]); err != nil {
		t.Fatal(err)
	}
	if err := other.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var come, refused []int
	for in := range c.Retrieve(t.Context(), slices.Values(l.Entries)) {
		switch {
		case in.Err == nil:
			come = append(come, in.Num)
		case Usable(in.Err):
			refused = append(refused, in.Num)
		default:
			t.Fatal(in.Err)
		}
	}
	if !slices.Equal(come, []int{1, 4, 5}) || !slices.Equal(refused, []int{2, 3}) {
		t.Errorf("%v came, %v were refused", come, refused)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDovecot_login(t *testing.T) {
	s := dovecot.Start(t, dovecot.LockSession, "auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 apop")
	for _, mech := range []string{"plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "apop", "user", "auto"} {
		cfg := real(s, endpoint.Implicit, "jane")
		cfg.Auth = mech
		c := dialReal(t, cfg)
		if err := c.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		cfg := real(s, endpoint.StartTLS, "eve")
		cfg.Password = endpoint.SecretValue("canary")
		_, err := Dial(t.Context(), cfg, nil)
		if e := asError(t, err); e.Kind != LoginRefused || e.Code != Auth || strings.Contains(e.Error(), "canary") {
			t.Error(err)
		}
	})
	// Dovecot takes more than ten seconds to say so: no shorter timeout may turn
	// it into something else.
	t.Run("in use", func(t *testing.T) {
		t.Parallel()
		first := dialReal(t, real(s, endpoint.Implicit, "bob"))
		cfg := real(s, endpoint.Implicit, "bob")
		cfg.Timeout = 3 * time.Second
		_, err := Dial(t.Context(), cfg, nil)
		if e := asError(t, err); e.Kind != Unavailable || e.Code != InUse || !Temporary(err) {
			t.Error(err)
		}
		if err := first.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A server that dies in the middle of a body must not leave a shorter message.
func TestDovecot_killed(t *testing.T) {
	s := dovecot.Start(t)
	raw, err := io.ReadAll(corpus.Large(16 << 20))
	if err != nil {
		t.Fatal(err)
	}
	s.Put("jane", "INBOX", raw, raw)
	c := dialReal(t, real(s, endpoint.Plain, "jane"))
	l := listAll(t, c)
	n := 0
	for in := range c.Retrieve(context.Background(), slices.Values(l.Entries)) {
		n++
		if in.Err != nil {
			t.Fatal(in.Err)
		}
		if _, err := io.CopyN(io.Discard, in.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		s.Kill()
		if _, err := io.Copy(io.Discard, in.Body); asError(t, err).Kind != Lost {
			t.Errorf("the rest ends with %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d messages", n)
	}
}

// Dovecot lets in who has a token that the provider knows, in both dialects; one
// that the provider has withdrawn before its time is replaced once.
func TestDovecot_oauth(t *testing.T) {
	for _, mech := range []string{"auto", "oauthbearer"} {
		p := oauth.Start(t)
		s := dovecot.Start(t, dovecot.OAuth(p.InfoURL()))
		cfg := real(s, endpoint.Implicit, "jane")
		cfg.Auth, cfg.Password = mech, endpoint.Secret{}
		cfg.OAuth = &endpoint.OAuth{Name: "work", User: oauth.User, ClientID: "client", TokenURL: p.TokenURL(), File: p.SignIn(t, "2026-01-01T00:00:00Z")}
		for range 2 {
			c := dialReal(t, cfg)
			if err := c.Quit(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if p.Given() != 1 {
			t.Errorf("%s: %d tokens for two logins", mech, p.Given())
		}
		if mech != "auto" {
			continue // Dovecot lets those wait who are refused more than once
		}
		later := time.Now().Add(10 * time.Minute)
		cfg.OAuth.Now = func() time.Time { return later }
		p.Revoke()
		c := dialReal(t, cfg)
		c.Close()
		if p.Given() != 2 {
			t.Errorf("%s: %d tokens after one was withdrawn", mech, p.Given())
		}
		p.Revoke() // this one is young: there is no use in asking for another
		_, err := Dial(t.Context(), cfg, nil)
		if e := asError(t, err); e.Kind != LoginRefused || p.Given() != 2 || e.Login == nil || !strings.Contains(e.Login.Reply, `{"status":"401"`) {
			t.Errorf("%s: %v after %d tokens", mech, err, p.Given())
		}
		if strings.Contains(err.Error(), "token-2") || strings.Contains(err.Error(), "xxxx") {
			t.Errorf("%s: the token shows: %v", mech, err)
		}
	}
}
