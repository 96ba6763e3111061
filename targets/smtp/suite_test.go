package smtp_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/smtp"
	"popferry/targets/targetstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const jane = "jane@home.example"

func config(s *targetstest.SMTP, change ...func(*smtp.Config)) smtp.Config {
	c := smtp.Config{
		Server: endpoint.Server{
			Host: "127.0.0.1", Port: s.Port(), TLS: endpoint.Plain,
			User: targetstest.User, Password: endpoint.SecretValue(targetstest.Password),
			Timeout: 10 * time.Second,
		},
		LMTP: s.LMTP, Recipients: []string{jane}, Helo: "client.example",
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func open(t testing.TB, c smtp.Config) targets.Target {
	t.Helper()
	tg, err := c.Open("test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg
}

func start(t testing.TB, s *targetstest.SMTP) *targetstest.SMTP {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const poison = "X-POISON"

// withoutPipelining are the extensions of a server to which everything is said
// one by one.
var withoutPipelining = targetstest.DefaultExtensions[1:]

func TestSuite(t *testing.T) {
	for name, s := range map[string]*targetstest.SMTP{
		"smtp":                    {},
		"smtp without pipelining": {Extensions: withoutPipelining},
		"smtp without anything":   {Extensions: []string{"AUTH PLAIN"}},
		"lmtp":                    {LMTP: true},
		"lmtp without pipelining": {LMTP: true, Extensions: withoutPipelining},
	} {
		t.Run(name, func(t *testing.T) {
			targetstest.Suite{
				Relay: true,
				New:   func(t *testing.T) targetstest.Sink { return fakeSink(t, s.LMTP, s.Extensions) },
			}.Run(t)
		})
	}
}

func fakeSink(t *testing.T, lmtp bool, ext []string) targetstest.Sink {
	full := false
	s := start(t, &targetstest.SMTP{
		LMTP: lmtp, Extensions: ext, Login: true,
		Hook: func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
			switch {
			case c.Verb == "MAIL" && full:
				act.Reply = "452 4.3.1 insufficient system storage"
			case c.Verb == "." && bytes.Contains(c.Body, []byte(poison)):
				act.Reply = "554 5.6.0 poison"
			case c.Verb == "RCPT" && strings.Contains(c.Line, "nobody@"):
				act.Reply = "550 5.1.1 no such user"
			}
			return act
		},
	})
	return targetstest.Sink{
		Target: open(t, config(s)),
		Read:   func(string) []targetstest.Stored { return inbox(t, s, jane) },
		Refuse: poison, Full: func() { full = true },
		Unable: []string{"bare CR"},
		Nobody: "nobody@home.example",
		For:    func(rcpt string) []targetstest.Stored { return inbox(t, s, rcpt) },
	}
}

// inbox is what was taken for somebody, without the trace field.
func inbox(t testing.TB, s *targetstest.SMTP, rcpt string) (list []targetstest.Stored) {
	t.Helper()
	for _, m := range s.Messages() {
		if slices.Contains(m.Rcpt, rcpt) {
			list = append(list, targetstest.Stored{Body: untraced(t, m.Body)})
		}
	}
	return list
}

// untraced takes the trace field off.
func untraced(t testing.TB, body []byte) []byte {
	t.Helper()
	for _, begin := range []string{"Received: from ", "\tby client.example (popferry) with POP3;", "\t"} {
		line, rest, _ := bytes.Cut(body, []byte("\r\n"))
		if !bytes.HasPrefix(line, []byte(begin)) {
			t.Fatalf("%q is no part of a trace field", line)
		}
		body = rest
	}
	return body
}
