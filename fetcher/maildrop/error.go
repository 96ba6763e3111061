package maildrop

import (
	"errors"
	"strings"
	"time"

	"popferry/targets/endpoint"
)

// Kind says what an error means for the connection.
type Kind int

const (
	// Refused: -ERR to one command. The connection can be used on.
	Refused Kind = iota
	// LoginRefused: the server does not accept user and password.
	LoginRefused
	// Unavailable: the server takes no session now, whoever asks: somebody else
	// reads the maildrop, or it was read too short a time ago, or the server has
	// trouble of its own.
	Unavailable
	// Lost: the connection broke or stalled, or was closed by us. Whether the
	// commands without reply were carried out is not known.
	Lost
	// Botched: the server said what no POP3 server may say. Nothing it says
	// later could be matched to a command, so the connection was closed.
	Botched
	// TooLarge: a body went on beyond the ceiling and the connection was closed.
	TooLarge
)

func (k Kind) String() string {
	return [...]string{"refused", "login refused", "unavailable", "lost", "botched", "too large"}[k]
}

// Code is the response code of an -ERR (RFC 2449 §8, RFC 3206).
type Code int

const (
	NoCode     Code = iota
	InUse           // [IN-USE]: somebody else has the maildrop
	LoginDelay      // [LOGIN-DELAY]: too soon after the last login
	Auth            // [AUTH]: user or password is wrong
	SysTemp         // [SYS/TEMP]: likely to go away
	SysPerm         // [SYS/PERM]: will not go away by itself
)

func (c Code) String() string {
	return [...]string{"", "IN-USE", "LOGIN-DELAY", "AUTH", "SYS/TEMP", "SYS/PERM"}[c]
}

// Error is a command that failed, or the end of a connection.
type Error struct {
	Kind  Kind
	Code  Code
	Op    string        // verb and object, without secrets: "RETR 5"
	Reply string        // the server's words, made printable, at most 512 octets: "-ERR [IN-USE] locked"; "" if it said nothing
	After time.Duration // with LoginDelay, what CAPA says must lie between logins; 0 if it does not
	Err   error         // what lay below; nil where Reply says it all
	// Login is the refusal as it reads for all protocols, with LoginRefused; else nil.
	Login *endpoint.Error
}

// Error is one line: operation, the server's words, and what lay below.
func (e *Error) Error() string {
	parts := []string{e.Op}
	if e.Reply != "" {
		parts = append(parts, e.Reply)
	}
	switch e.Kind {
	case Lost:
		parts = append(parts, "connection lost")
	case Botched:
		parts = append(parts, "not a POP3 reply")
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns what lay below.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the next try may well succeed although nobody
// changes anything: the server had trouble of its own, or the connection broke.
// It is false for errors that are not an *Error.
func Temporary(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Kind {
	case Unavailable, Lost:
		return e.Code != SysPerm
	case Refused:
		return e.Code == SysTemp || e.Code == InUse || e.Code == LoginDelay
	}
	return false
}

// Usable reports whether the connection that returned err takes further
// commands. A nil err counts as usable.
func Usable(err error) bool {
	if err == nil {
		return true
	}
	var e *Error
	return errors.As(err, &e) && e.Kind == Refused
}

// words makes the server's text fit for logs.
func words(b []byte) string { return endpoint.Printable(string(b), 500) }

// codeOf reads the response code a reply's text begins with. Codes below a
// known one mean what that one means (RFC 2449 §8): [IN-USE/X] is IN-USE.
func codeOf(text []byte) Code {
	if len(text) == 0 || text[0] != '[' {
		return NoCode
	}
	code, _, ok := strings.Cut(string(text[1:]), "]")
	if !ok {
		return NoCode
	}
	code = strings.ToUpper(code)
	for c := InUse; c <= SysPerm; c++ {
		if rest, ok := strings.CutPrefix(code, c.String()); ok && (rest == "" || rest[0] == '/') {
			return c
		}
	}
	return NoCode
}

// lockedWords are how servers without response codes say that somebody else
// has the maildrop (RFC 1939 §4: "maildrop already locked"). A locked account
// is something else.
var lockedWords = []string{
	"already locked", "already in use", "maildrop locked", "mailbox locked", "maildrop is locked", "mailbox is locked",
	"lock busy", "unable to lock", "can't lock", "cannot lock", "could not lock", "in use by", "another session", "another pop",
}

// loginError says what the -ERR to a login means. The caller adds Reply. Only a server that says so, or that says
// nothing at all, has refused the password: users must not be sent looking for
// a typing error because a maildrop is busy.
func loginError(op string, text []byte, caps *Caps) *Error {
	e := &Error{Kind: LoginRefused, Code: codeOf(text), Op: op}
	if e.Code == NoCode {
		low := strings.ToLower(string(text))
		for _, w := range lockedWords {
			if strings.Contains(low, w) {
				e.Code = InUse
			}
		}
	}
	switch e.Code {
	case InUse, SysTemp, SysPerm:
		e.Kind = Unavailable
	case LoginDelay:
		e.Kind, e.After = Unavailable, caps.LoginDelay
	}
	return e
}

func errReply(text []byte) string { return strings.TrimSpace("-ERR " + words(text)) }
