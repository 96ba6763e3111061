package imap

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
)

var (
	crlf  = []byte("\r\n")
	space = []byte(" ")
)

// reply is a status response: OK, NO, BAD or BYE (RFC 3501 §7.1).
type reply struct {
	status string // upper case
	code   string // response code, upper case; "" if there is none
	arg    string // what follows the code
	text   string
}

// String returns the server's words as one printable line.
func (r reply) String() string { return printable(r.raw()) }

// raw returns the server's words.
func (r reply) raw() string {
	var b strings.Builder
	b.WriteString(r.status)
	if r.code != "" {
		b.WriteString(" [" + r.code)
		if r.arg != "" {
			b.WriteString(" " + r.arg)
		}
		b.WriteString("]")
	}
	if r.text != "" {
		b.WriteString(" " + r.text)
	}
	return b.String()
}

// maxReply is how much of what a server says is worth keeping.
const maxReply = 512

func printable(s string) string { return endpoint.Printable(s, maxReply) }

// parseReply reads what follows the tag of a status response. A text without
// code and a code without text are fine; an unfinished code is text.
func parseReply(p []byte) (reply, bool) {
	word, rest, _ := bytes.Cut(p, space)
	r := reply{status: strings.ToUpper(string(word))}
	switch r.status {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
	default:
		return reply{}, false
	}
	if len(rest) > 0 && rest[0] == '[' {
		if code, text, ok := bytes.Cut(rest[1:], []byte("]")); ok {
			name, arg, _ := bytes.Cut(code, space)
			r.code, r.arg = strings.ToUpper(string(name)), string(arg)
			rest = bytes.TrimLeft(text, " ")
		}
	}
	r.text = string(rest)
	return r, true
}

// kindOf returns the upper-case name of an untagged response, and whether a
// number precedes it.
func kindOf(line []byte) (kind string, num bool) {
	f := bytes.TrimLeft(line[1:], " ")
	word, rest := cutWord(f)
	if len(word) > 0 && word[0] >= '0' && word[0] <= '9' {
		num = true
		word, _ = cutWord(bytes.TrimLeft(rest, " "))
	}
	return strings.ToUpper(string(word)), num
}

func cutWord(p []byte) (word, rest []byte) {
	if i := bytes.IndexAny(p, " \r\n("); i >= 0 {
		return p[:i], p[i:]
	}
	return p, nil
}

// literalOf reads the literal that a line announces at its end, "{n}".
func literalOf(line []byte) (n int64, ok bool, err error) {
	l := bytes.TrimSuffix(line, crlf)
	if len(l) < 3 || l[len(l)-1] != '}' {
		return 0, false, nil
	}
	i := bytes.LastIndexByte(l, '{')
	if i < 0 {
		return 0, false, nil
	}
	digits := l[i+1 : len(l)-1]
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false, nil
		}
	}
	if len(digits) == 0 {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(string(digits), 10, 64)
	return n, err == nil, err
}

// depth returns how deep a line nests parentheses outside quoted strings.
func depth(line []byte) int {
	deepest, now := 0, 0
	quoted := false
	for i := 0; i < len(line); i++ {
		switch b := line[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '(':
			now++
			deepest = max(deepest, now)
		case b == ')':
			now--
		}
	}
	return deepest
}

// appendUID reads the argument of APPENDUID (RFC 4315 §3): the folder's
// UIDVALIDITY and the UIDs of count messages in order. It gives no UIDs unless
// there are exactly count, rising.
func appendUID(arg string, count int) (validity uint32, uids []uint32) {
	first, set, ok := strings.Cut(arg, " ")
	v, err := strconv.ParseUint(first, 10, 32)
	if !ok || err != nil || v == 0 {
		return 0, nil
	}
	uids = make([]uint32, 0, count)
	last := uint64(0)
	for part := range strings.SplitSeq(set, ",") {
		a, b, isRange := strings.Cut(part, ":")
		lo, err := strconv.ParseUint(a, 10, 32)
		hi := lo
		if isRange && err == nil {
			hi, err = strconv.ParseUint(b, 10, 32)
		}
		if hi < lo { // a range is the same either way round
			lo, hi = hi, lo
		}
		if err != nil || lo == 0 || lo <= last || hi-lo >= uint64(count-len(uids)) {
			return 0, nil
		}
		for u := lo; u <= hi; u++ {
			uids = append(uids, uint32(u))
		}
		last = hi
	}
	if len(uids) != count {
		return 0, nil
	}
	return uint32(v), uids
}

const maxBackOff = time.Hour

// backOff finds "Suggested Backoff Time: 299609 milliseconds", which is how
// Exchange throttles.
var backOff = regexp.MustCompile(`(?i)backoff time: *(\d{1,12}) *milliseconds`)

// busyText are the words of servers that throttle without a response code.
var busyText = regexp.MustCompile(`(?i)throttl|too many (simultaneous|connections|commands)|rate limit|bandwidth limit|try again later`)

// faultOf puts a refusal of an APPEND into a Fault.
func (r reply) fault() (targets.Fault, time.Duration) {
	if m := backOff.FindStringSubmatch(r.text); m != nil {
		ms, _ := strconv.ParseInt(m[1], 10, 64)
		return targets.Down, min(time.Duration(ms)*time.Millisecond, maxBackOff)
	}
	switch r.code {
	case "OVERQUOTA", "UNAVAILABLE", "INUSE", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "THROTTLED":
		return targets.Down, 0
	case "TOOBIG", "LIMIT":
		return targets.Refused, 0
	}
	switch {
	case r.status == "BYE", busyText.MatchString(r.text):
		return targets.Down, 0
	case r.status == "BAD", r.code == "":
		return targets.Refused, 0
	}
	return targets.Transient, 0
}

// maybeGone tells whether a refusal of an APPEND may be due to the folder:
// somebody has deleted or renamed it. TRYCREATE says so, but Dovecot answers
// SERVERBUG where the connection has that folder open.
func (r reply) maybeGone() bool {
	f, _ := r.fault()
	return r.status == "NO" && f == targets.Transient
}

// error returns the failure of op that the reply stands for.
func (r reply) error(op string) *targets.Error {
	f, after := r.fault()
	return &targets.Error{Fault: f, Op: op, Reply: r.String(), After: after}
}
