package endpoint

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
)

// The ways to log in, as servers announce them.
const (
	ScramSHA256 = "SCRAM-SHA-256" // RFC 7677
	ScramSHA1   = "SCRAM-SHA-1"   // RFC 5802
	CramMD5     = "CRAM-MD5"      // RFC 2195
	PlainText   = "PLAIN"         // RFC 4616
	LoginText   = "LOGIN"         // never an RFC, spoken everywhere
	APOP        = "APOP"          // RFC 1939 §7; no SASL mechanism: the caller does it
	UserPass    = "USER"          // the protocol's own command: USER and PASS in POP3, LOGIN in IMAP; the caller does it
)

// best is what "auto" tries for, in this order. SCRAM-SHA-1 has to be asked for
// by name.
var best = []string{ScramSHA256, CramMD5, PlainText, LoginText, APOP, UserPass}

// inClear are those that show the password to whoever reads along.
var inClear = []string{PlainText, LoginText, UserPass}

// Mechanism picks how to log in from what the server offers: the one that Auth
// names, or the best if that is "auto" or empty. offered are SASL names in any
// case, APOP if there is a timestamp to answer, and USER if the protocol's own
// login command may be used. Unless secure, or unless TLS is Plain, nothing is
// picked that sends the password in clear. Errors are *Error, stage "auth".
func (s *Server) Mechanism(offered []string, secure bool) (string, error) {
	want := best
	if a := strings.ToUpper(s.Auth); a != "" && a != "AUTO" {
		want = []string{a}
	}
	withheld := ""
	for _, mech := range want {
		if !slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, mech) }) {
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
	case len(want) == 1:
		e.Text = fmt.Sprintf("the server does not offer auth: %s; it offers %s", strings.ToLower(want[0]), list)
		e.Hint = "Leave auth: out, and the best of what it offers is taken."
	default:
		e.Text = "the server offers " + list + ", none of which popferry speaks"
		e.Hint = "Ask the provider for password logins, often under the name of app password."
	}
	return "", e
}

// Exchange is one login by SASL (RFC 4422). It is a go-sasl Client for the
// dialogue; when the server has reported success, Done must be asked whether it
// also proved that it knows the password, where the mechanism promises so.
// An Exchange is used once, by one goroutine.
type Exchange interface {
	sasl.Client
	Done() error
}

// NewExchange readies a login by a SASL mechanism that Mechanism picked. User
// and password may hold anything but NUL, CR and LF.
func NewExchange(mech, user, password string) (Exchange, error) {
	if strings.ContainsAny(user, "\r\n\x00") || strings.ContainsAny(password, "\r\n\x00") {
		return nil, errors.New("user or password holds a line break or a NUL, which no mail protocol can send")
	}
	switch mech {
	case ScramSHA256, ScramSHA1:
		return newScram(mech, user, password), nil
	case CramMD5:
		return &cramMD5{user: user, password: password}, nil
	case PlainText:
		return &plain{response: []byte("\x00" + user + "\x00" + password)}, nil
	case LoginText:
		return &login{answers: [][]byte{[]byte(user), []byte(password)}}, nil
	}
	return nil, fmt.Errorf("%q is no SASL mechanism that popferry speaks", mech)
}

// maxWords bounds what is quoted of a server's words.
const maxWords = 512

var errChallenge = errors.New("the server sent a challenge that has no place in this login")

// plain gives everything with its initial response, or once to an empty
// challenge where the server or the length of a line does not allow one.
type plain struct {
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
type login struct{ answers [][]byte }

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
