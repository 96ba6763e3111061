// Package endpoint dials a mail server and logs in to it: name resolution,
// proxies, TCP, TLS from the first octet or after STARTTLS, deadlines that only
// progress renews, the secrets to log in with, and the mechanisms that use them.
//
// POP3, IMAP and SMTP stand on the same Conn, so a certificate is checked, a
// stalled peer is given up and a password is kept out of sight in one place.
// TLS is 1.2 or newer and never opportunistic: a server that does not offer
// what the configuration asks for is refused (RFC 8314).
//
// # Logging in
//
// The caller knows how its protocol carries a login and what the server offers.
// Mechanism picks one, Secret has what to log in with, NewExchange is the
// dialogue (RFC 4422), and Judged is told how it ended:
//
//	mech, err := srv.Mechanism(offered, conn.Secure())
//	secret, err := srv.Secret(ctx) // a password, or a token of OAuth
//	x, err := conn.NewExchange(mech, offered, secret)
//	…                              // if it was refused:
//	e := conn.LoginRefused(mech, reply, x.Said())
//	srv.Judged(ctx, secret, e)     // with nil if it was not
//
// A Breaker keeps a login that is refused from being tried until the account is
// locked. OAuth renews tokens, once for all who need one.
//
// # What shows
//
// A Secret never shows, however it is printed. What a login sends is hidden on
// its connection (Hide), and with it whatever a server quotes of it, in traces
// and in errors. Text of servers goes through Printable.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// TLS says how a connection is encrypted.
type TLS int

const (
	Implicit TLS = iota // from the first octet (RFC 8314 §3)
	StartTLS            // after STLS or STARTTLS, which must succeed
	Plain               // not at all; only when written out
)

func (t TLS) String() string { return [...]string{"implicit", "starttls", "none"}[t] }

// Server is where and how to log in. It is read-only once in use and may be
// shared.
type Server struct {
	Host string // name or address, without brackets
	Port int
	TLS  TLS

	CAFile      string // PEM; replaces the system's roots when set
	Fingerprint []byte // SHA-256 of the only leaf certificate to accept; nil: check the chain
	ServerName  string // to ask for and to check; "" is Host
	ClientCert  string // PEM file with the certificate to show the server; "" is none
	ClientKey   string // PEM file with its key

	User     string
	Password Secret
	Auth     string // "auto", or the one mechanism to use
	// OAuth gives tokens, and takes the place of Password; nil is none.
	OAuth *OAuth
	// LoginHint is what to do when the provider refuses a password; "" is not known.
	LoginHint string

	Proxy    Secret // URL with socks5 or http, perhaps with user and password; zero is none
	SourceIP string // address to connect from; "" is the system's choice

	// Breaker keeps a wrong password from being tried too often; nil lets it.
	Breaker *Breaker

	Timeout time.Duration // without progress; 0 is a minute
}

// dialTimeout bounds TCP connect and, apart from it, the TLS handshake.
const dialTimeout = 30 * time.Second

// Addr is host:port, with brackets where IPv6 wants them.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Dial connects, and does the TLS handshake when TLS is Implicit. Errors are
// *Error. ctx bounds the dialling only.
func (s *Server) Dial(ctx context.Context) (*Conn, error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	start := time.Now()
	nc, err := s.dialTCP(dctx)
	if err != nil {
		return nil, s.dialError(err)
	}
	c := newConn(nc, s)
	c.took = time.Since(start)
	if s.TLS == Implicit {
		if err := c.StartTLS(ctx); err != nil {
			nc.Close()
			return nil, err
		}
	}
	return c, nil
}

// Error is a server that could not be reached, or that did not prove who it is.
type Error struct {
	Stage string // "connect", "tls" or "auth"
	Code  string // stable, for the user: "tls-expired"
	Addr  string // host:port
	Text  string // what happened, in plain words
	Hint  string // what to do next; may be empty
	Err   error

	// Of a login that was refused:
	User      string
	Mechanism string // how it was tried
	Reply     string // the server's words, printable and without secrets

	Again bool      // another token may be accepted: worth one more try
	Until time.Time // the login is not tried before, unless its secret changes; zero if it is
}

// The codes of a login that a server did not accept.
const (
	CodeLoginRefused     = "login-refused"     // user and password are wrong, or so it says
	CodeLoginUnavailable = "login-unavailable" // for a reason that is not theirs: the next try may succeed
)

// LoginRefused is the error of a login with CodeLoginRefused: reply is what the
// server said in the end, told what it said before that. Both may be raw.
func (c *Conn) LoginRefused(mech, reply, told string) *Error {
	words := Printable(c.Mask(strings.TrimSpace(reply+" "+told)), maxWords)
	return &Error{
		Stage: "auth", Code: CodeLoginRefused, Addr: c.srv.Addr(), Text: words,
		User: c.srv.User, Mechanism: mech, Reply: words, Hint: c.srv.LoginHint,
	}
}

func (e *Error) Error() string {
	if e.Reply != "" {
		return e.Reply // whoever asked says what, and of whom
	}
	return e.Addr + ": " + e.Text
}

// Unwrap returns what lay below.
func (e *Error) Unwrap() error { return e.Err }

func (s *Server) dialError(err error) *Error {
	e := &Error{Stage: "connect", Code: "server-unreachable", Addr: s.Addr(), Err: err}
	var dns *net.DNSError
	var proxy *proxyError
	switch {
	case errors.As(err, &proxy):
		e.Code, e.Text, e.Hint = "proxy", proxy.text, "Check proxy: in the configuration, and that the proxy runs."
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Code, e.Text = "host-unknown", fmt.Sprintf("there is no host %q", s.Host)
		e.Hint = "Check the spelling of host:, and that this machine can resolve names."
	case errors.As(err, &dns):
		e.Text = fmt.Sprintf("the name %q could not be looked up: %s", s.Host, dns.Err)
		e.Hint = "This is usually temporary; the next pass tries again."
	case errors.Is(err, context.Canceled):
		e.Text = "interrupted while connecting"
	case IsTimeout(err):
		e.Text = fmt.Sprintf("no answer within %s", dialTimeout)
		e.Hint = "Check host and port, and whether a firewall is in between."
	default:
		e.Text = plainNetError(err)
		e.Hint = "Check host and port. Usual ports: POP3 995, or 110 with tls: starttls; IMAP 993, or 143 with tls: starttls."
	}
	return e
}

// IsTimeout reports whether err is a deadline that passed, of a connection or of
// a context.
func IsTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// plainNetError drops the "dial tcp 127.0.0.1:1:" that the address says already.
func plainNetError(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var sys interface{ Unwrap() error }
	if errors.As(err, &sys) && sys.Unwrap() != nil {
		err = sys.Unwrap()
	}
	return err.Error()
}
