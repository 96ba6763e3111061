package maildrop

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/endpoint"
)

func TestDial_auth(t *testing.T) {
	for _, mech := range []string{"plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "apop", "user", "auto", ""} {
		for _, right := range []bool{true, false} {
			s := start(t, nil)
			cfg := config(t, s)
			cfg.Auth = mech
			if !right {
				cfg.Password = endpoint.SecretValue("Xcanary")
			}
			c, err := Dial(t.Context(), cfg, nil)
			if right {
				if err != nil {
					t.Errorf("%q: %v", mech, err)
					continue
				}
				c.Close()
				continue
			}
			e := asError(t, err)
			if e.Kind != LoginRefused || e.Code != Auth || e.Reply != "-ERR [AUTH] authentication failed" || Usable(err) || Temporary(err) {
				t.Errorf("%q with a wrong password: %s %q %v", mech, e.Kind, e.Reply, e)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("%q shows the password: %v", mech, err)
			}
		}
	}
}

// A login is bound to the TLS connection where the server can do that, in the
// way that it knows.
func TestDial_channelBinding(t *testing.T) {
	plus := append([]string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"}, maildroptest.DefaultSASL...)
	for _, tt := range []struct {
		name, auth string
		tls        maildroptest.TLS
		max        uint16
		bindings   []string
		want       string
	}{
		{"TLS 1.3", "auto", maildroptest.Implicit, 0, []string{"tls-exporter"}, "AUTH SCRAM-SHA-256-PLUS"},
		{"TLS 1.3 after STLS", "auto", maildroptest.STLS, 0, []string{"tls-exporter"}, "AUTH SCRAM-SHA-256-PLUS"},
		{"SHA-1", "scram-sha-1", maildroptest.Implicit, 0, []string{"tls-exporter"}, "AUTH SCRAM-SHA-1-PLUS"},
		{"TLS 1.2", "auto", maildroptest.Implicit, tls.VersionTLS12, []string{"tls-unique"}, "AUTH SCRAM-SHA-256-PLUS"},
		{"by certificate", "auto", maildroptest.Implicit, 0, []string{"tls-server-end-point"}, "AUTH SCRAM-SHA-256-PLUS *** *** AUTH SCRAM-SHA-256-PLUS"},
		{"in clear", "auto", maildroptest.None, 0, []string{"tls-exporter"}, "AUTH SCRAM-SHA-256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) {
				s.TLS, s.MaxTLS, s.SASL, s.Bindings = tt.tls, tt.max, plus, tt.bindings
			})
			cfg := config(t, s)
			cfg.Auth = tt.auth
			c, err := Dial(t.Context(), cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if log := strings.ReplaceAll(strings.Join(s.Log(), " "), "1: ", ""); !strings.Contains(log+" ***", tt.want+" ***") {
				t.Errorf("%s, want %s", log, tt.want)
			}
		})
	}
	t.Run("no kind in common", func(t *testing.T) {
		s := start(t, func(s *maildroptest.Server) { s.TLS, s.SASL = maildroptest.Implicit, plus })
		cfg := config(t, s)
		cfg.Auth = "auto"
		_, err := Dial(t.Context(), cfg, nil)
		if e := asError(t, err); e.Kind != LoginRefused || !strings.HasSuffix(e.Error(), ": unsupported-channel-binding-type") {
			t.Error(err)
		}
	})
	// Somebody between takes the offer away; the server learns of it.
	t.Run("stripped", func(t *testing.T) {
		s := start(t, func(s *maildroptest.Server) {
			s.TLS, s.SASL, s.Bindings = maildroptest.Implicit, plus, []string{"tls-exporter"}
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if cmd == "CAPA" {
					a.Reply = "+OK\r\nSASL SCRAM-SHA-256\r\n.\r\n"
				}
				return a
			}
		})
		cfg := config(t, s)
		cfg.Auth = "auto"
		_, err := Dial(t.Context(), cfg, nil)
		if e := asError(t, err); e.Kind != LoginRefused || !strings.HasSuffix(e.Error(), ": server-does-support-channel-binding") {
			t.Error(err)
		}
	})
}

// Tokens are long, and a server says why it does not like one.
func TestDial_token(t *testing.T) {
	token := strings.Repeat("ya29.A0", 800)
	for _, mech := range []string{"xoauth2", "oauthbearer"} {
		for _, good := range []string{"ya29.short", token} {
			s := start(t, func(s *maildroptest.Server) {
				s.TLS, s.SASL = maildroptest.Implicit, []string{"PLAIN", "XOAUTH2", "OAUTHBEARER"}
				s.Token = func(user, token string) bool { return user == testUser && token == good }
			})
			cfg := config(t, s)
			cfg.Auth, cfg.Password = mech, endpoint.SecretValue(good)
			c, err := Dial(t.Context(), cfg, nil)
			if err != nil {
				t.Fatalf("%s: %v", mech, err)
			}
			c.Close()
			log := strings.Join(s.Log(), ",")
			if alone := strings.Contains(log, "AUTH "+strings.ToUpper(mech)+",1: ***"); alone != (good == token) {
				t.Errorf("a token of %d octets: %s", len(good), log)
			}
			cfg.Password = endpoint.SecretValue("expired" + good)
			var trace bytes.Buffer
			_, err = Dial(t.Context(), cfg, debugLog(&trace))
			e := asError(t, err)
			if e.Kind != LoginRefused || !strings.Contains(e.Error(), `{"status":"invalid_token","schemes":"bearer","scope":"mail"}`) {
				t.Errorf("%s: %v", mech, err)
			}
			if all := trace.String() + err.Error(); strings.Contains(all, good) || strings.Contains(all, b64("auth=Bearer")[:12]) {
				t.Errorf("%s: %s", mech, all)
			}
		}
	}
}

// A long token does not fit one line of AUTH.
func TestDial_longInitialResponse(t *testing.T) {
	long := strings.Repeat("pässwörd", 40)
	s := start(t, func(s *maildroptest.Server) { s.AddUser(testUser, long) })
	cfg := config(t, s)
	cfg.Auth, cfg.Password = "plain", endpoint.SecretValue(long)
	c, err := Dial(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if log := strings.Join(s.Log(), ","); log != "1: CAPA,1: AUTH PLAIN,1: ***" {
		t.Error(log)
	}
}

// What a login's -ERR means decides whether a user is sent to look for a typing
// error, so only a server that means the password may say so.
func TestDial_refused(t *testing.T) {
	for _, tt := range []struct {
		reply string
		kind  Kind
		code  Code
		temp  bool
	}{
		{"-ERR [IN-USE] locked", Unavailable, InUse, true},
		{"-ERR [in-use/other] locked", Unavailable, InUse, true},
		{"-ERR maildrop already locked", Unavailable, InUse, true},
		{"-ERR [LOGIN-DELAY] too soon", Unavailable, LoginDelay, true},
		{"-ERR [SYS/TEMP] disk trouble", Unavailable, SysTemp, true},
		{"-ERR [SYS/PERM] call us", Unavailable, SysPerm, false},
		{"-ERR [AUTH] no", LoginRefused, Auth, false},
		{"-ERR no", LoginRefused, NoCode, false},
		{"-ERR", LoginRefused, NoCode, false},
		{"-err\tno", LoginRefused, NoCode, false},
		{"-ERR account locked", LoginRefused, NoCode, false},
		{"-ERR [SYSTEM] no", LoginRefused, NoCode, false},
	} {
		s := start(t, func(s *maildroptest.Server) {
			s.Caps = []string{"USER", "LOGIN-DELAY 900", "PIPELINING"}
			s.SASL = []string{}
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if strings.HasPrefix(cmd, "PASS") {
					a.Reply = tt.reply + "\r\n"
				}
				return a
			}
		})
		cfg := config(t, s)
		cfg.Auth = "user"
		_, err := Dial(t.Context(), cfg, nil)
		e := asError(t, err)
		if e.Kind != tt.kind || e.Code != tt.code || Temporary(err) != tt.temp {
			t.Errorf("%q is %s %q, temporary %t", tt.reply, e.Kind, e.Code, Temporary(err))
		}
		if want := 15 * time.Minute; tt.code == LoginDelay && e.After != want {
			t.Errorf("back off %s, want %s", e.After, want)
		}
	}
}

// A server that answers late because it waits for a lock is not a stalled one,
// even if the configured timeout is shorter.
func TestDial_slowLock(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
			if strings.HasPrefix(cmd, "AUTH") {
				a.Reply, a.Delay = "-ERR [IN-USE] locked\r\n", 300*time.Millisecond
			}
			return a
		}
	})
	cfg := config(t, s)
	cfg.Timeout = 50 * time.Millisecond
	cfg.Auth = "plain"
	_, err := Dial(t.Context(), cfg, nil)
	if asError(t, err).Code != InUse {
		t.Fatal(err)
	}
}

// The secret must not come back in the server's words, nor in the trace.
func TestDial_noSecretShown(t *testing.T) {
	for _, mech := range []string{"plain", "login", "cram-md5", "scram-sha-256", "apop", "user"} {
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if strings.HasPrefix(cmd, "PASS") || strings.HasPrefix(cmd, "AUTH") || strings.HasPrefix(cmd, "APOP") {
					a.Reply = "-ERR no such thing as " + cmd + "\x1b[31m\r\n"
				}
				return a
			}
		})
		cfg := config(t, s)
		cfg.Auth = mech
		var trace bytes.Buffer
		c, err := Dial(t.Context(), cfg, debugLog(&trace))
		out := trace.String()
		if err != nil {
			out += err.Error()
		} else {
			c.Close()
		}
		if !strings.Contains(out, "CAPA") {
			t.Fatalf("no trace in %q", out)
		}
		for _, secret := range []string{testPassword, "c3VjcmV0", b64(testPassword), b64("\x00" + testUser + "\x00" + testPassword), "\x1b"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s: %q in %q", mech, secret, out)
			}
		}
	}
}

func TestAPOPTimestamp(t *testing.T) {
	for greeting, want := range map[string]string{
		"ready <1896.697170952@dbc.mtview.ca.us>": "<1896.697170952@dbc.mtview.ca.us>",
		"<a@b> <c@d>":     "<a@b>",
		"ready":           "",
		"ready <a b@c>":   "",
		"ready <@b>":      "",
		"ready <a@>":      "",
		"ready <ab>":      "",
		"ready <a@b@c>":   "",
		"ready <a@b":      "",
		"ready <>":        "",
		"ready <a\x80@b>": "",
		"ready > <a@b>":   "<a@b>",
	} {
		if got := apopTimestamp([]byte(greeting)); got != want {
			t.Errorf("%q: %q, want %q", greeting, got, want)
		}
	}
}
