package smtp

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"popferry/targets"
	"popferry/targets/endpoint"
)

const (
	// maxLine is a line of a reply. RFC 5321 §4.5.3.1.5 has 512 octets; servers
	// that quote addresses or policies need more.
	maxLine = 4 << 10
	// maxReply is all lines of a reply: a server that talks without end is given up.
	maxReply = 64 << 10
	// maxWords is how much of what a server says is worth keeping.
	maxWords = 512
)

// reply is what a server answers to one command (RFC 5321 §4.2).
type reply struct {
	code     int
	enhanced string // status code of RFC 3463, "5.1.1"; "" if there is none
	text     string // of all lines, without the codes
}

// String returns the server's words as one printable line.
func (r reply) String() string { return endpoint.Printable(r.raw(), maxWords) }

// raw returns the server's words.
func (r reply) raw() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%03d", r.code)
	for _, s := range []string{r.enhanced, r.text} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	return b.String()
}

func (r reply) ok() bool { return r.code/100 == 2 }

// refusal reports whether the reply is one at all that says no. Whatever is
// neither yes nor no means that client and server are out of step.
func (r reply) refusal() bool { return r.code/100 == 4 || r.code/100 == 5 }

// parseLine reads one line of a reply, without its end. more tells that others
// follow.
func parseLine(line string) (code int, text string, more, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return 0, "", false, false
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 {
		return 0, "", false, false
	}
	if len(line) == 3 {
		return code, "", false, true
	}
	return code, line[4:], line[3] == '-', true
}

// add takes the text of one line. Servers repeat the status code on each.
func (r *reply) add(text string) {
	if m := statusCode.FindString(text); m != "" {
		r.enhanced = strings.TrimSpace(m)
		text = text[len(m):]
	}
	if text = strings.TrimSpace(text); text == "" {
		return
	}
	if r.text != "" {
		r.text += " "
	}
	r.text += text
}

var statusCode = regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}( |$)`)

// stage is how far a transaction has come.
type stage int

const (
	atMail stage = iota
	atRcpt
	atData // the command
	atEnd  // the final dot
)

// fault puts a refusal into a Fault. What concerns the server or the account as
// a whole is Down, wherever it is said; a temporary refusal at MAIL is, too, for
// nothing of the message is known there yet.
func (r reply) fault(at stage) targets.Fault {
	switch {
	case r.code == 421, loginNeeded[r.code], systemWide[strings.TrimLeft(r.enhanced, "245.")]:
		return targets.Down
	case r.code/100 == 5:
		return targets.Refused
	case at == atMail:
		return targets.Down
	}
	return targets.Transient
}

// loginNeeded are replies to somebody who has not logged in, or not well enough
// (RFC 4954 §6).
var loginNeeded = map[int]bool{530: true, 534: true, 535: true, 538: true}

// systemWide are the parts of status codes behind the class that are about the
// mail system and not about a message or a mailbox (RFC 3463 §3.4): full, takes
// nothing from the network, wrongly configured.
var systemWide = map[string]bool{"3.1": true, "3.2": true, "3.5": true}

// error returns the failure of op that the reply stands for.
func (r reply) error(at stage, op string) *targets.Error {
	return &targets.Error{Fault: r.fault(at), Op: op, Reply: r.String()}
}

// errOutOfStep is what cannot be a reply to what was sent. Nothing more can be
// said on that connection.
var errOutOfStep = errors.New("the server answers what it was not asked")
