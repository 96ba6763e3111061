package imap_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

func TestLogin(t *testing.T) {
	for _, c := range []struct {
		name string
		s    *targetstest.IMAP
		want string // "" is success
	}{
		{"BYE", &targetstest.IMAP{Greeting: "* BYE too many connections"}, "BYE too many connections"},
		{"no server", &targetstest.IMAP{Greeting: "220 smtp.example ESMTP"}, "no IMAP server"},
		{"wrong password", &targetstest.IMAP{Password: "other"}, "NO [AUTHENTICATIONFAILED]"},
		{"LOGINDISABLED", &targetstest.IMAP{Caps: "IMAP4rev1 LOGINDISABLED"}, "no way to log in"},
		{"PREAUTH", &targetstest.IMAP{Greeting: "* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] hello"}, ""},
		{"no capabilities told", &targetstest.IMAP{Greeting: "* OK hello"}, ""},
		{"POP3", &targetstest.IMAP{Caps: "POP3"}, "neither IMAP4rev1"},
		{"two revisions", &targetstest.IMAP{Caps: "IMAP4rev1 IMAP4rev2 AUTH=PLAIN"}, ""},
		{"control characters", &targetstest.IMAP{Greeting: "* BYE \x1b]0;x\x07"}, `BYE \x1b]0;x\a`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.s)
			_, err := append1(t, open(t, config(s.Port())), targetstest.Text(1), "Übung")
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || targets.FaultOf(err) != targets.Down || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want down, %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), targetstest.Password+"\"") {
				t.Errorf("%v has the password", err)
			}
			if c.want == "" && s.Messages("&ANw-bung") == nil {
				t.Errorf("folders %q", s.Folders())
			}
		})
	}
}

// TestLogin_roundTrips: each costs a tenth of a second on a long way.
func TestLogin_roundTrips(t *testing.T) {
	var mu sync.Mutex
	var verbs []string
	s := start(t, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		mu.Lock()
		defer mu.Unlock()
		verbs = append(verbs, c.Verb)
		return targetstest.Action{}
	}})
	tg := open(t, config(s.Port()))
	if _, err := tg.Mark(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := append1(t, tg, targetstest.Text(1), ""); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := fmt.Sprint(verbs), "[ AUTHENTICATE NAMESPACE LIST EXAMINE APPEND]"; got != want {
		t.Errorf("said %s, want %s", got, want)
	}
}

// TestLogin_refused: only a server that means user and password may say so.
func TestLogin_refused(t *testing.T) {
	for reply, want := range map[string]string{
		"NO [AUTHENTICATIONFAILED] no":                                    endpoint.CodeLoginRefused,
		"NO [AUTHORIZATIONFAILED] no":                                     endpoint.CodeLoginRefused,
		"NO [EXPIRED] change it":                                          endpoint.CodeLoginRefused,
		"NO [ALERT] Application-specific password required":               endpoint.CodeLoginRefused,
		"NO LOGIN failed.":                                                endpoint.CodeLoginRefused,
		"NO [UNAVAILABLE] Temporary authentication failure.":              endpoint.CodeLoginUnavailable,
		"NO [INUSE] later":                                                endpoint.CodeLoginUnavailable,
		"NO [LIMIT] Rate limit hit":                                       endpoint.CodeLoginUnavailable,
		"NO [SERVERBUG] oh":                                               endpoint.CodeLoginUnavailable,
		"NO Request is throttled. Suggested Backoff Time: 9 milliseconds": endpoint.CodeLoginUnavailable,
		"NO too many connections":                                         endpoint.CodeLoginUnavailable,
		"BAD what":                                                        endpoint.CodeLoginUnavailable,
	} {
		s := start(t, &targetstest.IMAP{Caps: "IMAP4rev1", Hook: func(c targetstest.Command) (a targetstest.Action) {
			if c.Verb == "LOGIN" {
				a.Reply = reply
			}
			return a
		}})
		_, err := append1(t, open(t, config(s.Port())), targetstest.Text(1), "")
		e, ok := errors.AsType[*endpoint.Error](err)
		if !ok || e.Code != want || e.Reply != reply || targets.FaultOf(err) != targets.Down {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

// TestLogin_quoted: a server that quotes what it does not like shows no secret.
func TestLogin_quoted(t *testing.T) {
	for _, caps := range []string{"IMAP4rev1", "IMAP4rev1 SASL-IR AUTH=PLAIN"} {
		s := start(t, &targetstest.IMAP{Caps: caps, Hook: func(c targetstest.Command) (a targetstest.Action) {
			if c.Verb == "LOGIN" || c.Verb == "AUTHENTICATE" {
				a.Reply = "NO what is " + c.Line
			}
			return a
		}})
		tg := open(t, config(s.Port(), func(c *imap.Config) { c.Password = endpoint.SecretValue(`can"ary`) }))
		_, err := append1(t, tg, targetstest.Text(1), "")
		if err == nil || !strings.Contains(err.Error(), "***") || strings.Contains(err.Error(), "ary") ||
			strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("\x00" + targetstest.User))[:8]) {
			t.Errorf("%v", err)
		}
	}
}
