package maildrop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/endpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser     = "jane@isp.example"
	testPassword = "s3cret with blanks"
)

// start serves until the test ends. change may set the server's fields.
func start(t testing.TB, change func(*maildroptest.Server)) *maildroptest.Server {
	t.Helper()
	s := maildroptest.New(testUser, testPassword)
	if change != nil {
		change(s)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// config is what a user would write to reach s.
func config(t testing.TB, s *maildroptest.Server) *Config {
	t.Helper()
	c := &Config{Server: endpoint.Server{
		Host: s.Host(), Port: s.Port(), User: testUser, Password: endpoint.SecretValue(testPassword),
		TLS: map[maildroptest.TLS]endpoint.TLS{
			maildroptest.None: endpoint.Plain, maildroptest.Implicit: endpoint.Implicit, maildroptest.STLS: endpoint.StartTLS,
		}[s.TLS],
		Timeout: 10 * time.Second,
		Auth:    "plain", // "auto" is SCRAM, which takes time
	}}
	if s.TLS != maildroptest.None {
		c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(c.CAFile, s.CAPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func dial(t testing.TB, s *maildroptest.Server) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), config(t, s), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listAll(t testing.TB, c *Conn) Listing {
	t.Helper()
	l, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// got is an Incoming that has been read.
type got struct {
	num  int
	body string
	err  error
}

func fetchAll(ctx context.Context, c *Conn, want []Entry) []got {
	var all []got
	for in := range c.Retrieve(ctx, slices.Values(want)) {
		g := got{num: in.Num, err: in.Err}
		if in.Err == nil {
			var b []byte
			b, g.err = io.ReadAll(in.Body)
			g.body = string(b)
		}
		all = append(all, g)
	}
	return all
}

func fill(s *maildroptest.Server, n int) {
	for i := range n {
		s.Add(testUser, fmt.Sprintf("uid-%d", i+1), fmt.Appendf(nil, "Subject: %d\r\n\r\nbody %d\r\n", i+1, i+1))
	}
}

// asError returns the *Error that every failure of a session is.
func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is no *Error", err, err)
	}
	return e
}

func TestSession(t *testing.T) {
	for _, tls := range []maildroptest.TLS{maildroptest.None, maildroptest.Implicit, maildroptest.STLS} {
		for _, pipelining := range []bool{true, false} {
			t.Run(fmt.Sprintf("tls %d, pipelining %t", tls, pipelining), func(t *testing.T) {
				s := start(t, func(s *maildroptest.Server) {
					s.TLS = tls
					if !pipelining {
						s.Caps = []string{"TOP", "UIDL", "USER"}
					}
				})
				fill(s, 300)
				c := dial(t, s)
				l := listAll(t, c)
				if len(l.Entries) != 300 || !l.Complete || l.Messages != 300 || len(l.Warnings) > 0 {
					t.Fatalf("%d entries, complete %t, %d messages, warnings %q", len(l.Entries), l.Complete, l.Messages, l.Warnings)
				}
				if e := l.Entries[41]; e.Num != 42 || e.UIDL != "uid-42" || e.Size != int64(len("Subject: 42\r\n\r\nbody 42\r\n")) {
					t.Errorf("entry 42 is %+v", e)
				}
				if p := c.Caps(); !p.TOP || !p.UIDL || p.Pipelining != pipelining {
					t.Errorf("caps %+v", p)
				}
				for i, g := range fetchAll(t.Context(), c, l.Entries) {
					if want := fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", i+1, i+1); g.body != want || g.err != nil {
						t.Fatalf("message %d is %q, %v", i+1, g.body, g.err)
					}
				}
				n := 0
				for in := range c.Top(t.Context(), slices.Values(l.Entries[:5])) {
					n++
					if b, err := io.ReadAll(in.Body); err != nil || string(b) != fmt.Sprintf("Subject: %d\r\n\r\n", n) {
						t.Fatalf("top of %d is %q, %v", n, b, err)
					}
				}
				deleted, err := c.Delete(t.Context(), l.Entries[10:])
				if err != nil || len(deleted) != 290 || n != 5 {
					t.Fatalf("%d headers, %d deleted, %v", n, len(deleted), err)
				}
				if len(s.Messages(testUser)) != 300 {
					t.Fatal("deleted before QUIT")
				}
				if err := c.Quit(t.Context()); err != nil {
					t.Fatal(err)
				}
				if left := s.Messages(testUser); len(left) != 10 || left[9].UIDL != "uid-10" {
					t.Fatalf("%d messages left", len(left))
				}
				if _, err := c.List(t.Context()); asError(t, err).Kind != Lost || Usable(err) {
					t.Errorf("LIST after QUIT: %v", err)
				}
			})
		}
	}
}

// Every round trip is paid for by every account in every pass.
func TestDial_commands(t *testing.T) {
	for _, tt := range []struct {
		tls  maildroptest.TLS
		auth string
		want string
	}{
		{maildroptest.Implicit, "plain", "CAPA,AUTH PLAIN ***,CAPA,STAT,LIST,UIDL,QUIT"},
		{maildroptest.STLS, "plain", "STLS,CAPA,AUTH PLAIN ***,CAPA,STAT,LIST,UIDL,QUIT"},
		{maildroptest.Implicit, "user", "CAPA,USER " + testUser + ",PASS ***,CAPA,STAT,LIST,UIDL,QUIT"},
		{maildroptest.None, "apop", "CAPA,APOP ***,CAPA,STAT,LIST,UIDL,QUIT"},
		{maildroptest.None, "cram-md5", "CAPA,AUTH CRAM-MD5,***,CAPA,STAT,LIST,UIDL,QUIT"},
		{maildroptest.None, "auto", "CAPA,AUTH SCRAM-SHA-256 ***,***,***,CAPA,STAT,LIST,UIDL,QUIT"},
	} {
		s := start(t, func(s *maildroptest.Server) { s.TLS = tt.tls })
		cfg := config(t, s)
		cfg.Auth = tt.auth
		c, err := Dial(t.Context(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		listAll(t, c)
		if err := c.Quit(t.Context()); err != nil {
			t.Fatal(err)
		}
		log := strings.ReplaceAll(strings.Join(s.Log(), ","), "1: ", "")
		if log != tt.want {
			t.Errorf("%s: %s, want %s", tt.auth, log, tt.want)
		}
	}
}

func TestDial_badGreeting(t *testing.T) {
	for _, tt := range []struct {
		greeting string
		kind     Kind
		text     string
	}{
		{"-ERR [SYS/TEMP] busy\r\n", Unavailable, "greeting: -ERR [SYS/TEMP] busy"},
		{"-ERR too many connections\r\n", Unavailable, "greeting: -ERR too many connections"},
		{"220 mail.example ESMTP\r\n", Botched, `greeting: not a POP3 reply: "220 mail.example ESMTP"`},
		{"* OK IMAP4rev1\r\n", Botched, `greeting: not a POP3 reply: "* OK IMAP4rev1"`},
		{"\r\n", Botched, `greeting: not a POP3 reply: ""`},
		{"\x00\x01\r\n", Botched, `greeting: not a POP3 reply: "\\x00\\x01"`},
		{"+OKAY\r\n", Botched, `greeting: not a POP3 reply: "+OKAY"`},
		{"+ go on\r\n", Botched, "greeting: not a POP3 reply: a challenge where none was asked for"},
		{"+OK hello\n", Botched, "greeting: not a POP3 reply: the server ends lines with LF alone (allow_lf: yes accepts that)"},
		{"+OK " + strings.Repeat("x", 3000) + "\r\n", Botched, "greeting: not a POP3 reply: a status line of more than 2048 octets"},
		{"+OK " + strings.Repeat("x", 100_000), Botched, "greeting: not a POP3 reply: a status line of more than 2048 octets"},
	} {
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if cmd == "GREETING" {
					a.Reply = tt.greeting
				}
				return a
			}
		})
		_, err := Dial(t.Context(), config(t, s), nil)
		if e := asError(t, err); e.Kind != tt.kind || err.Error() != tt.text {
			t.Errorf("%.40q: %s, %q", tt.greeting, e.Kind, err)
		}
	}
}

// Spaces, tabs and case are forgiven; a POP3 server is recognised by its first
// word.
func TestReply_tolerated(t *testing.T) {
	for _, status := range []string{"+OK   1   26", "+ok 1 26", "+OK\t1\t26", "+Ok 1 26 and more", "+OK 1 26  "} {
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if cmd == "STAT" {
					a.Reply = status + "\r\n"
				}
				return a
			}
		})
		fill(s, 1)
		if l := listAll(t, dial(t, s)); l.Messages != 1 || l.Octets != 26 || len(l.Entries) != 1 {
			t.Errorf("%q: %+v", status, l)
		}
	}
}

// A reply that is none, or more than one, puts the session out of step, and no
// command may follow.
func TestReply_botched(t *testing.T) {
	for _, reply := range []string{
		"whatever\r\n", "\r\n", "+OKAY\r\n", "-ERRor\r\n", "+OK 1 26\n", " +OK 1 26\r\n", "+OK one\r\n", "+OK\r\n",
		"-ERR two\r\nlines\r\n", "+ \r\n", ".\r\n", "+OK -1 5\r\n", "+OK 99999999999 5\r\n",
	} {
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if cmd == "STAT" {
					a.Reply = reply
				}
				return a
			}
		})
		fill(s, 1)
		c := dial(t, s)
		_, err := c.List(t.Context())
		if asError(t, err).Kind != Botched || Usable(err) || Temporary(err) {
			t.Errorf("%q: %v", reply, err)
		}
		n := len(s.Log())
		if _, again := c.Delete(t.Context(), []Entry{{Num: 1}}); !errors.Is(again, err) {
			t.Errorf("%q: then %v", reply, again)
		}
		if err := c.Quit(t.Context()); asError(t, err).Kind != Botched {
			t.Errorf("%q: QUIT %v", reply, err)
		}
		if len(s.Log()) != n {
			t.Errorf("%q: a command followed: %q", reply, s.Log()[n:])
		}
	}
}

// Octets that nobody asked for are noticed before the next command goes out.
func TestReply_unasked(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
			if cmd == "UIDL" {
				a.After = "+OK and another thing\r\n"
			}
			return a
		}
	})
	fill(s, 1)
	c := dial(t, s)
	l := listAll(t, c)
	all := fetchAll(t.Context(), c, l.Entries)
	if len(all) != 1 || asError(t, all[0].err).Kind != Botched {
		t.Fatalf("%+v", all)
	}
}

func TestSTLS(t *testing.T) {
	for _, tt := range []struct{ name, reply, want string }{
		{"stripped", "-ERR unknown command\r\n", "starttls-refused"},
		{"plaintext behind it", "+OK begin\r\n+OK injected\r\n", "tls-injected"},
		{"no TLS behind it", "+OK begin\r\n", "tls-not-spoken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) {
				s.TLS = maildroptest.STLS
				s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
					switch cmd {
					case "STLS":
						a.Reply = tt.reply
					case "GREETING":
					default: // the ClientHello, perhaps with an LF in it
						a.Reply = "-ERR what is that\r\n"
					}
					return a
				}
			})
			cfg := config(t, s)
			cfg.Timeout = time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := Dial(ctx, cfg, nil)
			var e *endpoint.Error
			switch {
			case tt.name == "no TLS behind it":
				// The server may wait for a line to end where TLS sends none.
				if !errors.As(err, &e) || e.Stage != "tls" {
					t.Error(err)
				}
			case !errors.As(err, &e) || e.Code != tt.want:
				t.Error(err)
			}
			for _, cmd := range s.Log() {
				if strings.Contains(cmd, "USER") || strings.Contains(cmd, "AUTH") {
					t.Errorf("logged in without TLS: %q", cmd)
				}
			}
		})
	}
}

func TestCaps(t *testing.T) {
	var p Caps
	for _, line := range []string{
		"top", "UIDL", "SASL PLAIN login", "Expire 30 USER", "LOGIN-DELAY 900", "IMPLEMENTATION a b", "", "PIPELINING", "X-UNKNOWN 1",
	} {
		p.add(line)
	}
	if !p.TOP || !p.UIDL || !p.Pipelining || p.User || !slices.Equal(p.SASL, []string{"PLAIN", "LOGIN"}) ||
		!p.Expires || p.Expire != 30 || p.LoginDelay != 15*time.Minute || p.Implementation != "a b" {
		t.Errorf("%+v", p)
	}
	p = Caps{}
	for _, line := range []string{"EXPIRE NEVER", "LOGIN-DELAY -5", "LOGIN-DELAY 99999999999999999999"} {
		p.add(line)
	}
	if p.Expires || p.LoginDelay != 0 {
		t.Errorf("%+v", p)
	}
}

// A server without CAPA is one without capabilities, not a broken one.
func TestDial_noCAPA(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) { s.NoCAPA = true })
	fill(s, 3)
	cfg := config(t, s)
	cfg.Auth = "auto"
	c, err := Dial(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := listAll(t, c)
	if len(l.Entries) != 3 || c.Caps().Known || len(fetchAll(t.Context(), c, l.Entries)) != 3 {
		t.Errorf("%+v %+v", l, c.Caps())
	}
}

func TestDial_cancelled(t *testing.T) {
	asked := make(chan struct{})
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
			if cmd == "CAPA" {
				close(asked)
				a.Cut = maildroptest.Stall
			}
			return a
		}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop it")
	go func() { <-asked; cancel(stop) }()
	_, err := Dial(ctx, config(t, s), nil)
	if e := asError(t, err); e.Kind != Lost || !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

func TestConn_CertificateEnds(t *testing.T) {
	for _, how := range []maildroptest.TLS{maildroptest.None, maildroptest.Implicit, maildroptest.STLS} {
		ends := dial(t, start(t, func(s *maildroptest.Server) { s.TLS = how })).CertificateEnds()
		if left := time.Until(ends); (how == maildroptest.None) != ends.IsZero() || !ends.IsZero() && (left < 29*24*time.Hour || left > 30*24*time.Hour) {
			t.Errorf("%v: %v", how, ends)
		}
	}
}
