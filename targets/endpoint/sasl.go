package endpoint

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
)

// The ways to log in, as servers announce them.
const (
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS" // RFC 7677, bound to the TLS connection
	ScramSHA256     = "SCRAM-SHA-256"      // RFC 7677
	ScramSHA1Plus   = "SCRAM-SHA-1-PLUS"   // RFC 5802, bound to the TLS connection
	ScramSHA1       = "SCRAM-SHA-1"        // RFC 5802
	CramMD5         = "CRAM-MD5"           // RFC 2195
	PlainText       = "PLAIN"              // RFC 4616
	LoginText       = "LOGIN"              // never an RFC, spoken everywhere
	XOAuth2         = "XOAUTH2"            // Google's, spoken by all who have OAuth
	OAuthBearer     = "OAUTHBEARER"        // RFC 7628
	APOP            = "APOP"               // RFC 1939 §7; no SASL mechanism: the caller does it
	UserPass        = "USER"               // the protocol's own command: USER and PASS in POP3, LOGIN in IMAP; the caller does it
)

// best is what "auto" tries for with a password, in this order. SCRAM-SHA-1 has
// to be asked for by name.
var best = []string{ScramSHA256Plus, ScramSHA256, CramMD5, PlainText, LoginText, APOP, UserPass}

// bestToken likewise with a token. What is older is what more servers have right.
var bestToken = []string{XOAuth2, OAuthBearer}

// inClear are those that show the secret to whoever reads along.
var inClear = []string{PlainText, LoginText, XOAuth2, OAuthBearer, UserPass}

// wanted are the mechanisms that Auth stands for, the best first. One that can
// bind the login to the TLS connection does so wherever the server can.
func (s *Server) wanted() []string {
	switch a := strings.ToUpper(s.Auth); {
	case a == ScramSHA256, a == ScramSHA1:
		return []string{a + "-PLUS", a}
	case a != "" && a != "AUTO":
		return []string{a}
	case s.OAuth != nil:
		return bestToken
	}
	return best
}

// Mechanism picks how to log in from what the server offers: the one that Auth
// names, or the best if that is "auto" or empty. offered are SASL names in any
// case, APOP if there is a timestamp to answer, and USER if the protocol's own
// login command may be used. Unless secure, or unless TLS is Plain, nothing is
// picked that sends the password or a token in clear. Errors are *Error, stage
// "auth".
func (s *Server) Mechanism(offered []string, secure bool) (string, error) {
	want := s.wanted()
	withheld := ""
	for _, mech := range want {
		if !offers(offered, mech) || strings.HasSuffix(mech, "-PLUS") && !secure {
			continue
		}
		if slices.Contains(inClear, mech) && !secure && s.TLS != Plain {
			withheld = mech
			continue
		}
		return mech, nil
	}
	e := &Error{Stage: "auth", Code: "auth-not-offered", Addr: s.Addr()}
	list := "no way to log in"
	if len(offered) > 0 {
		list = Printable(strings.Join(offered, ", "), maxWords)
	}
	switch {
	case withheld != "":
		e.Code = "auth-in-clear"
		e.Text = "the connection is not encrypted, and the server offers only " + list
		e.Hint = "Use tls: implicit or tls: starttls. Only tls: none, written out, sends a password in clear."
	case s.OAuth != nil:
		e.Text = "the server takes no OAuth tokens; it offers " + list
		e.Hint = "Sign in with a password: one of password, password_file and password_command in place of oauth."
	case s.Auth != "" && !strings.EqualFold(s.Auth, "auto"):
		e.Text = fmt.Sprintf("the server does not offer auth: %s; it offers %s", strings.ToLower(s.Auth), list)
		e.Hint = "Leave auth: out, and the best of what it offers is taken."
	default:
		e.Text = "the server offers " + list + ", none of which takes a password"
		e.Hint = "Ask the provider for password logins, often under the name of app password."
		if offers(offered, XOAuth2) || offers(offered, OAuthBearer) {
			e.Hint = "It wants a sign-in by OAuth: oauth: {client_id: …} in place of the password, then:  popferry auth login NAME"
		}
	}
	return "", e
}

func offers(offered []string, mech string) bool {
	return slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, mech) })
}

// ByChallenge reports whether the server must know the password in a form of
// its own for mech, which not every server does that offers it.
func ByChallenge(mech string) bool {
	return mech == CramMD5 || mech == APOP || strings.HasPrefix(mech, "SCRAM-")
}

// Exchange is one login by SASL (RFC 4422). It is a go-sasl Client for the
// dialogue. When the server has reported success, Done must be asked whether it
// also proved that it knows the password, where the mechanism promises so. When
// it has refused, Said is what it told about that within the dialogue, raw, and
// Again whether the login is worth another Exchange on the same connection.
// An Exchange is used once, by one goroutine.
type Exchange interface {
	sasl.Client
	Done() error
	Said() string
	Again() bool
}

// NewExchange readies a login by a SASL mechanism that Mechanism picked from
// what the server offered. secret is a password, or a token where mech takes
// those. Everything that goes out is hidden from Mask.
func (c *Conn) NewExchange(mech string, offered []string, secret string) (Exchange, error) {
	l, err := c.link(mech, offered)
	if err != nil {
		return nil, err
	}
	x, err := newExchange(mech, c.srv.User, secret, l)
	if err != nil {
		return nil, err
	}
	c.Hide(secret)
	return &hiding{x, c}, nil
}

// newExchange is NewExchange without a connection.
func newExchange(mech, user, secret string, l link) (Exchange, error) {
	if strings.ContainsAny(user, "\r\n\x00") || strings.ContainsAny(secret, "\r\n\x00") {
		return nil, errors.New("user or password holds a line break or a NUL, which no protocol can send")
	}
	switch mech {
	case ScramSHA256Plus, ScramSHA256, ScramSHA1Plus, ScramSHA1:
		return newScram(mech, user, secret, l), nil
	case CramMD5:
		return &cramMD5{user: user, password: secret}, nil
	case PlainText:
		return &plain{response: []byte("\x00" + user + "\x00" + secret)}, nil
	case LoginText:
		return &login{answers: [][]byte{[]byte(user), []byte(secret)}}, nil
	case XOAuth2, OAuthBearer:
		return newBearer(mech, user, secret, l)
	}
	return nil, fmt.Errorf("%q is no SASL mechanism that popferry speaks", mech)
}

// hiding keeps all messages of an exchange out of traces and errors.
type hiding struct {
	Exchange
	c *Conn
}

func (h *hiding) Start() (string, []byte, error) {
	mech, first, err := h.Exchange.Start()
	h.hide(first)
	return mech, first, err
}

func (h *hiding) Next(challenge []byte) ([]byte, error) {
	answer, err := h.Exchange.Next(challenge)
	h.hide(answer)
	return answer, err
}

func (h *hiding) hide(message []byte) {
	h.c.Hide(string(message), base64.StdEncoding.EncodeToString(message))
}

// unsaid is for mechanisms in which a refusal has no words of its own.
type unsaid struct{}

func (unsaid) Said() string { return "" }
func (unsaid) Again() bool  { return false }

// maxWords bounds what is quoted of a server's words.
const maxWords = 512

var errChallenge = errors.New("the server sent a challenge that has no place in this login")

// plain gives everything with its initial response, or once to an empty
// challenge where the server or the length of a line does not allow one.
type plain struct {
	unsaid
	response []byte
	again    bool
}

func (p *plain) Start() (string, []byte, error) { return PlainText, p.response, nil }

func (p *plain) Next(challenge []byte) ([]byte, error) {
	if len(challenge) > 0 || p.again {
		return nil, errChallenge
	}
	p.again = true
	return p.response, nil
}

func (p *plain) Done() error { return nil }

// login answers two challenges in order. What they say is not looked at:
// servers write "Username:", "User Name", base64 of NULs, or nothing.
type login struct {
	unsaid
	answers [][]byte
}

func (l *login) Start() (string, []byte, error) { return LoginText, nil, nil }

func (l *login) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, errChallenge
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return answer, nil
}

func (l *login) Done() error { return nil }

type cramMD5 struct {
	unsaid
	user, password string
	answered       bool
}

func (c *cramMD5) Start() (string, []byte, error) { return CramMD5, nil, nil }

func (c *cramMD5) Next(challenge []byte) ([]byte, error) {
	// An empty challenge would make the answer good for every login.
	if c.answered || len(challenge) == 0 {
		return nil, errChallenge
	}
	c.answered = true
	mac := hmac.New(md5.New, []byte(c.password))
	mac.Write(challenge)
	return []byte(c.user + " " + hex.EncodeToString(mac.Sum(nil))), nil
}

func (c *cramMD5) Done() error { return nil }
