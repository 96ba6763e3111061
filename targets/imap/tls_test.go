package imap_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestLogin_noTLS: without TLS nothing goes on, and the password stays here.
func TestLogin_noTLS(t *testing.T) {
	for _, c := range []struct{ name, greeting, starttls, want string }{
		{"stripped", "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi", "", "does not offer STARTTLS"},
		{"PREAUTH", "* PREAUTH [CAPABILITY IMAP4rev1] hi", "", "knows us already"},
		{"PREAUTH, offers it", "* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi", "OK", "knows us already"},
		{"refused", "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi", "NO not now", "NO not now"},
		{"sent ahead", "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi", "OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN", "in clear after the server agreed"},
		{"referral", "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi", "NO [REFERRAL imap://evil.example/] go there", "REFERRAL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := make(chan string, 1)
			ln := listen(t, func(nc net.Conn) {
				var all strings.Builder
				fmt.Fprintf(nc, "%s\r\n", c.greeting)
				for in := bufio.NewScanner(nc); in.Scan(); {
					fmt.Fprintln(&all, in.Text())
					tag, _, _ := strings.Cut(in.Text(), " ")
					fmt.Fprintf(nc, "%s %s\r\n", tag, c.starttls)
				}
				said <- all.String()
			})
			_, err := append1(t, open(t, config(ln, func(c *imap.Config) { c.TLS = endpoint.StartTLS })), targetstest.Text(1), "")
			if targets.FaultOf(err) != targets.Down || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want down, %q", err, c.want)
			}
			if all := <-said; strings.Contains(all, "LOGIN") || strings.Contains(all, "AUTHENTICATE") {
				t.Errorf("it said %q", all)
			}
		})
	}
}

// listen serves one connection and returns the port.
func listen(t *testing.T, serve func(net.Conn)) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		serve(nc)
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().(*net.TCPAddr).Port
}

// TestLogin_mechanisms: in clear only when tls: none is written out, which
// config does.
func TestLogin_mechanisms(t *testing.T) {
	for _, caps := range []string{"IMAP4rev1", "IMAP4rev1 AUTH=PLAIN", "IMAP4rev1 AUTH=PLAIN SASL-IR LOGINDISABLED"} {
		s := start(t, &targetstest.IMAP{Caps: caps, User: `j"a\ne`, Password: `p "w\`})
		tg := open(t, config(s.Port(), func(c *imap.Config) {
			c.User, c.Password = `j"a\ne`, endpoint.SecretValue(`p "w\`)
		}))
		if _, err := append1(t, tg, targetstest.Text(1), ""); err != nil {
			t.Errorf("%s: %v", caps, err)
		}
	}
	s := start(t, &targetstest.IMAP{Caps: "IMAP4rev1"})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.Password = endpoint.SecretValue("pä") }))
	if _, err := append1(t, tg, targetstest.Text(1), ""); err == nil || !strings.Contains(err.Error(), "ASCII") || s.Count("LOGIN") != 0 {
		t.Errorf("got %v", err)
	}
}
