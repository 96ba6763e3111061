package endpoint

import (
	"errors"
	"strings"
	"testing"
)

func TestMechanism(t *testing.T) {
	all := []string{"LOGIN", "plain", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", APOP, UserPass}
	for _, tt := range []struct {
		name    string
		auth    string
		tls     TLS
		secure  bool
		offered []string
		want    string // a mechanism, or the error's code
	}{
		{"best", "auto", Implicit, true, all, ScramSHA256},
		{"bound to the channel", "auto", Implicit, true, append([]string{"SCRAM-SHA-256-PLUS"}, all...), ScramSHA256Plus},
		{"bound to the channel, by name", "scram-sha-256", Implicit, true, append([]string{"scram-sha-256-plus"}, all...), ScramSHA256Plus},
		{"SHA-1 bound to the channel, by name", "scram-sha-1", Implicit, true, append([]string{"SCRAM-SHA-1-PLUS"}, all...), ScramSHA1Plus},
		{"no channel to bind to", "auto", Plain, false, append([]string{"SCRAM-SHA-256-PLUS"}, all...), ScramSHA256},
		{"a token", "xoauth2", Implicit, true, all, XOAuth2},
		{"a token in clear", "xoauth2", StartTLS, false, all, "auth-in-clear"},
		{"a token, not offered", "oauthbearer", Implicit, true, all, "auth-not-offered"},
		{"no token without being asked for", "auto", Implicit, true, []string{"XOAUTH2", "OAUTHBEARER"}, "auth-not-offered"},
		{"empty is auto", "", Implicit, true, all, ScramSHA256},
		{"next best", "auto", Implicit, true, all[:4], CramMD5},
		{"PLAIN before LOGIN", "auto", Implicit, true, all[:2], PlainText},
		{"LOGIN before APOP", "auto", Implicit, true, []string{APOP, "LOGIN", UserPass}, LoginText},
		{"APOP before USER", "auto", Implicit, true, []string{UserPass, APOP}, APOP},
		{"USER", "auto", Implicit, true, []string{"GSSAPI", UserPass}, UserPass},
		{"SHA-1 is not picked", "auto", Implicit, true, []string{"SCRAM-SHA-1", "PLAIN"}, PlainText},
		{"SHA-1 by name", "scram-sha-1", Implicit, true, all, ScramSHA1},
		{"by name", "plain", Implicit, true, all, PlainText},
		{"by name, not offered", "cram-md5", Implicit, true, all[:2], "auth-not-offered"},
		{"nothing offered", "auto", Implicit, true, nil, "auth-not-offered"},
		{"nothing we speak", "auto", Implicit, true, []string{"GSSAPI"}, "auth-not-offered"},
		{"no TLS, written out", "auto", Plain, false, all[:2], PlainText},
		{"no TLS by accident", "auto", StartTLS, false, all[:2], "auth-in-clear"},
		{"no TLS by accident, by name", "user", StartTLS, false, all, "auth-in-clear"},
		{"no TLS by accident, but no need", "auto", StartTLS, false, []string{"PLAIN", APOP, UserPass}, APOP},
	} {
		s := &Server{Host: "h", Port: 1, Auth: tt.auth, TLS: tt.tls}
		got, err := s.Mechanism(tt.offered, tt.secure)
		if e, ok := errors.AsType[*Error](err); ok {
			got = e.Code
			if e.Stage != "auth" || e.Text == "" || e.Hint == "" {
				t.Errorf("%s: %+v", tt.name, e)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	_, err := (&Server{Host: "h"}).Mechanism([]string{"\x1b[31mX"}, true)
	if strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q", err)
	}
}

// dialogue plays challenges against a client and returns what it answers.
func dialogue(t *testing.T, x Exchange, challenges ...string) (answers []string, err error) {
	t.Helper()
	_, ir, err := x.Start()
	if err != nil {
		return nil, err
	}
	if ir != nil {
		answers = append(answers, string(ir))
	}
	for _, c := range challenges {
		a, err := x.Next([]byte(c))
		if err != nil {
			return answers, err
		}
		answers = append(answers, string(a))
	}
	return answers, nil
}

func exchange(t *testing.T, mech, user, password string) Exchange {
	t.Helper()
	x, err := newExchange(mech, user, password, link{host: "mail.example", port: 993, gs2: "n,,"})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// The vectors are those of RFC 5802 §5, RFC 7677 §3 and RFC 2195 §2.
func TestExchange_vectors(t *testing.T) {
	for _, tt := range []struct {
		mech, user, password, nonce string
		challenges, want            []string
	}{
		{
			ScramSHA1, "user", "pencil", "fyko+d2lbbFgONRv9qkxdawL",
			[]string{"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
			[]string{
				"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
				"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "",
			},
		},
		{
			ScramSHA256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO",
			[]string{
				"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
				"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
			},
			[]string{
				"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
				"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "",
			},
		},
		{
			CramMD5, "tim", "tanstaaftanstaaf", "",
			[]string{"<1896.697170952@postoffice.reston.mci.net>"},
			[]string{"tim b913a602c7eda7a495b4e6e7334d3890"},
		},
		{PlainText, "tim", "pässwörd", "", nil, []string{"\x00tim\x00pässwörd"}},
		{PlainText, "tim", "x", "", []string{""}, []string{"\x00tim\x00x", "\x00tim\x00x"}},
		{LoginText, "tim", "x y", "", []string{"User Name\x00", "whatever"}, []string{"tim", "x y"}},
		{XOAuth2, "someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", "", nil, []string{
			"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01",
		}},
		{OAuthBearer, "a=b,c@example.com", "vF9dft4qmT==", "", []string{""}, []string{
			"n,a=a=3Db=2Cc@example.com,\x01host=mail.example\x01port=993\x01auth=Bearer vF9dft4qmT==\x01\x01",
			"n,a=a=3Db=2Cc@example.com,\x01host=mail.example\x01port=993\x01auth=Bearer vF9dft4qmT==\x01\x01",
		}},
	} {
		x := exchange(t, tt.mech, tt.user, tt.password)
		if s, ok := x.(*scram); ok {
			s.nonce = tt.nonce
		}
		got, err := dialogue(t, x, tt.challenges...)
		if err != nil || strings.Join(got, "|") != strings.Join(tt.want, "|") {
			t.Errorf("%s: %q, %v, want %q", tt.mech, got, err, tt.want)
		}
		if err := x.Done(); err != nil {
			t.Errorf("%s: %v", tt.mech, err)
		}
		if tt.mech == XOAuth2 || tt.mech == OAuthBearer {
			continue // a challenge there is a refusal; see TestBearer_refused
		}
		if _, err := x.Next([]byte("more")); err == nil {
			t.Errorf("%s answers a challenge too many", tt.mech)
		}
	}
}

// A server that does not know the password, or somebody in its place, is found
// out, and gets nothing it could use.
func TestScram_badServer(t *testing.T) {
	const good = "r=abcdef,s=QSXCR+Q6sek8bf92,i=4096"
	for _, challenges := range [][]string{
		{""},
		{"r=abc,s=QSXCR+Q6sek8bf92,i=4096"},    // our nonce and nothing more
		{"r=xyzdef,s=QSXCR+Q6sek8bf92,i=4096"}, // not our nonce
		{"r=abcdef,s=,i=4096"},
		{"r=abcdef,s=!,i=4096"},
		{"r=abcdef,s=QSXCR+Q6sek8bf92,i=1"},
		{"r=abcdef,s=QSXCR+Q6sek8bf92,i=2000000000"},
		{"r=abcdef,s=QSXCR+Q6sek8bf92,i=x"},
		{"m=x,r=abcdef,s=QSXCR+Q6sek8bf92,i=4096"},
		{"s=QSXCR+Q6sek8bf92,r=abcdef,i=4096"},
		{good, ""},
		{good, "v="},
		{good, "v=AAAA"},
		{good, "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
		{good, "x=y"},
	} {
		x := exchange(t, ScramSHA1, "user", "pencil")
		x.(*scram).nonce = "abc"
		if got, err := dialogue(t, x, challenges...); err == nil {
			t.Errorf("%q is answered with %q", challenges, got)
		}
		if x.Done() == nil {
			t.Errorf("%q is believed", challenges)
		}
	}
	x := exchange(t, ScramSHA1, "user", "pencil")
	x.(*scram).nonce = "abc"
	if _, err := dialogue(t, x, good); err != nil {
		t.Fatal(err)
	}
	if x.Done() == nil {
		t.Error("a server that skips its proof is believed")
	}
}

// A server-error (RFC 5802 §7) is noted and the dialogue goes on to the refusal.
func TestScram_error(t *testing.T) {
	const good = "r=abcdef,s=QSXCR+Q6sek8bf92,i=4096"
	for _, challenges := range [][]string{{"e=unknown-user"}, {good, "e=invalid-proof,x=y"}} {
		x := exchange(t, ScramSHA1, "user", "pencil")
		x.(*scram).nonce = "abc"
		got, err := dialogue(t, x, challenges...)
		want := strings.TrimPrefix(strings.Split(challenges[len(challenges)-1], ",")[0], "e=")
		if err != nil || got[len(got)-1] != "" || x.Said() != want || x.Again() {
			t.Errorf("%q: %q, %v, said %q", challenges, got, err, x.Said())
		}
		if x.Done() == nil {
			t.Errorf("%q is believed", challenges)
		}
		if _, err := x.Next([]byte(good)); err == nil {
			t.Errorf("%q: the dialogue goes on", challenges)
		}
	}
}

// A refused token: the server's reason comes in a challenge, and what follows it
// differs.
func TestBearer_refused(t *testing.T) {
	const reason = `{"status":"invalid_token","scope":"https://mail.google.com/"}`
	for mech, sorry := range map[string]string{XOAuth2: "", OAuthBearer: "\x01"} {
		x := exchange(t, mech, "jane", "token")
		got, err := dialogue(t, x, reason)
		if err != nil || len(got) != 2 || got[1] != sorry || x.Said() != reason {
			t.Errorf("%s: %q, %v, said %q", mech, got, err, x.Said())
		}
		if x.Done() == nil {
			t.Errorf("%s: a login after a refusal is believed", mech)
		}
		if _, err := x.Next(nil); err == nil {
			t.Errorf("%s: the token is sent after its refusal", mech)
		}
	}
}

func TestScram_names(t *testing.T) {
	x := exchange(t, ScramSHA256, "a=b,c", "x")
	_, ir, _ := x.Start()
	if !strings.HasPrefix(string(ir), "n,,n=a=3Db=2Cc,r=") {
		t.Errorf("%q", ir)
	}
	// RFC 4013 §3.
	for in, want := range map[string]string{"I\u00adX": "IX", "user": "user", "USER": "USER", "\u00aa": "a", "\u2168": "IX", "a\u00a0b": "a b"} {
		if got := saslPrep(in); got != want {
			t.Errorf("%q is prepared as %q, want %q", in, got, want)
		}
	}
	one, two := exchange(t, ScramSHA256, "a", "x"), exchange(t, ScramSHA256, "a", "x")
	_, a, _ := one.Start()
	_, b, _ := two.Start()
	if string(a) == string(b) {
		t.Error("the same nonce twice")
	}
}

func TestNewExchange_refused(t *testing.T) {
	for _, c := range [][3]string{
		{PlainText, "a\x00b", "x"},
		{PlainText, "a", "x\r\nDELE 1"},
		{LoginText, "a\n", "x"},
		{"GSSAPI", "a", "x"},
		{APOP, "a", "x"},
		{UserPass, "a", "x"},
		{"", "a", "x"},
		{XOAuth2, "a", "x y"},
		{XOAuth2, "a", "x\x01auth=Bearer y"},
		{OAuthBearer, "a\x01auth=Bearer y", "x"},
	} {
		if _, err := newExchange(c[0], c[1], c[2], link{}); err == nil {
			t.Errorf("%q", c)
		} else if strings.Contains(err.Error(), "DELE") {
			t.Errorf("%q shows the password", err)
		}
	}
	// An empty challenge would make the answer good for any other login.
	if _, err := exchange(t, CramMD5, "a", "x").Next(nil); err == nil {
		t.Error("CRAM-MD5 answers an empty challenge")
	}
}
