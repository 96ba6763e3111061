package imap_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
	"popferry/testdata/dovecot"
	"popferry/testdata/oauth"
)

// BenchmarkDeliver_dovecot delivers 8 KB messages from 256 goroutines to a real
// server, near and far; msg/s is the figure to look at.
func BenchmarkDeliver_dovecot(b *testing.B) {
	d := dovecot.Start(b)
	for _, delay := range []time.Duration{0, 40 * time.Millisecond} {
		for _, folders := range []int{1, 50} {
			b.Run(fmt.Sprintf("rtt=%s/folders=%d", 2*delay, folders), func(b *testing.B) {
				p := &targetstest.Proxy{Server: d.Addr(d.IMAP), Delay: delay}
				if err := p.Start(); err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				tg := open(b, config(p.Port(), func(c *imap.Config) {
					c.User = fmt.Sprintf("bench-%d-%d", folders, delay.Milliseconds())
				}))
				defer tg.Close()
				deliverMany(b, tg, folders)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

func deliverMany(b *testing.B, tg target, folders int) {
	body := targetstest.Text(1) + strings.Repeat("hello world, this is text\r\n", 300)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 256 {
		wg.Go(func() {
			for i := range work {
				folder := fmt.Sprintf("Lists/go%d", i%folders)
				if _, err := tg.Mark(b.Context(), folder); err != nil {
					b.Error(err)
				}
				m := &targets.Message{Key: "b", Size: int64(len(body)), Body: strings.NewReader(body)}
				if r, err := tg.Deliver(b.Context(), m, targets.Dest{Folder: folder}); err != nil || r.UID == 0 {
					b.Error(r, err)
				}
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		work <- i
	}
	close(work)
	wg.Wait()
}

// BenchmarkDeliver_fake costs what the client costs, and the fake's reading.
func BenchmarkDeliver_fake(b *testing.B) {
	s := start(b, &targetstest.IMAP{})
	deliverMany(b, open(b, config(s.Port())), 1)
}

func TestDeliver_overQuota(t *testing.T) {
	d := dovecot.Start(t, dovecot.Quota("*:messages=1"))
	tg := open(t, config(d.IMAPS, func(c *imap.Config) {
		c.TLS, c.CAFile, c.User = endpoint.Implicit, d.CAFile, "full"
	}))
	if _, err := append1(t, tg, targetstest.Text(1), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := append1(t, tg, targetstest.Text(2), ""); targets.FaultOf(err) != targets.Down {
		t.Errorf("got %v, want down", err)
	}
}

// TestDovecot_login: every mechanism, in TLS from the first octet and after
// STARTTLS; and what a wrong password is called.
func TestDovecot_login(t *testing.T) {
	d := dovecot.Start(t, "auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256")
	for i, mech := range []string{"plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "auto"} {
		at := func(c *imap.Config) {
			c.CAFile, c.User, c.Auth = d.CAFile, "jane", mech
			if c.TLS, c.Port = endpoint.Implicit, d.IMAPS; i%2 == 1 {
				c.TLS, c.Port = endpoint.StartTLS, d.IMAP
			}
		}
		var trace bytes.Buffer
		tg, err := config(0, at, func(c *imap.Config) { c.User = "jane-" + mech }).Open("test", slog.New(slog.NewTextHandler(&trace, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if err != nil {
			t.Fatal(err)
		}
		if fs, err := tg.Check(t.Context()); err != nil || slices.ContainsFunc(fs, func(f targets.Finding) bool { return f.Level == "fail" }) {
			t.Errorf("%s: %v, %v", mech, fs, err)
		}
		tg.Close()
		// User and password are in every message of a login, and nowhere else.
		for _, secret := range []string{dovecot.Password + "\x00", "jane-" + mech, "cHc=", base64.StdEncoding.EncodeToString([]byte("jane-" + mech))[:6], "n,,n=", "biws", "eSws"} {
			if strings.Contains(trace.String(), secret) || !strings.Contains(trace.String(), "AUTHENTICATE ") {
				t.Errorf("%s: %q shows in %s", mech, secret, trace.String())
			}
		}
		if _, err := append1(t, open(t, config(0, at)), targetstest.Text(i), ""); err != nil {
			t.Errorf("%s: %v", mech, err)
		}
		if mech != "plain" {
			continue // Dovecot lets those wait who are wrong more than once
		}
		wrong := open(t, config(0, at, func(c *imap.Config) { c.Password = endpoint.SecretValue("Xcanary") }))
		_, err = append1(t, wrong, targetstest.Text(i), "")
		e, ok := errors.AsType[*endpoint.Error](err)
		if !ok || e.Code != endpoint.CodeLoginRefused || e.Reply != "NO [AUTHENTICATIONFAILED] Authentication failed." || targets.FaultOf(err) != targets.Down {
			t.Errorf("%s with a wrong password: %v", mech, err)
		}
	}
	if n := d.Count("jane", "INBOX"); n != 6 {
		t.Errorf("%d messages arrived", n)
	}
}

// TestDovecot_oauth: a token that the provider knows, as long as Microsoft's, in
// both dialects, with and without an initial response; one that it does not know.
func TestDovecot_oauth(t *testing.T) {
	p := oauth.Start(t)
	for i, hidden := range []string{"", "SASL-IR"} {
		d := dovecot.Start(t, dovecot.OAuth(p.InfoURL()), dovecot.Hide(hidden))
		for _, mech := range []string{"xoauth2", "oauthbearer"} {
			at := func(c *imap.Config) {
				c.TLS, c.Port, c.CAFile, c.User, c.Auth, c.Password = endpoint.Implicit, d.IMAPS, d.CAFile, "jane", mech, endpoint.SecretValue(p.Token())
			}
			if _, err := append1(t, open(t, config(0, at)), targetstest.Text(i), ""); err != nil {
				t.Errorf("%s: %v", mech, err)
			}
		}
		// A token that is not accepted any more, though it looks good, is replaced.
		given := p.Given()
		old := open(t, config(d.IMAPS, func(c *imap.Config) {
			c.TLS, c.CAFile, c.User = endpoint.Implicit, d.CAFile, oauth.User
			c.OAuth = &endpoint.OAuth{Name: "work", User: oauth.User, ClientID: "client", TokenURL: p.TokenURL(), File: p.SignIn(t, "2099-01-01T00:00:00Z")}
		}))
		if _, err := append1(t, old, targetstest.Text(i), ""); err != nil || p.Given() != given+1 {
			t.Errorf("%d tokens for an old one: %v", p.Given()-given, err)
		}
		if i > 0 {
			continue // Dovecot lets those wait who are refused more than once
		}
		bad := open(t, config(d.IMAPS, func(c *imap.Config) {
			c.TLS, c.CAFile, c.User, c.Auth, c.Password = endpoint.Implicit, d.CAFile, "jane", "xoauth2", endpoint.SecretValue("canary")
		}))
		_, err := append1(t, bad, targetstest.Text(i), "")
		e, ok := errors.AsType[*endpoint.Error](err)
		if !ok || e.Code != endpoint.CodeLoginRefused || !strings.Contains(e.Reply, `"status":"401"`) {
			t.Errorf("an unknown token: %v", err)
		}
	}
}
