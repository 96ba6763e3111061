package imap

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"popferry/targets"
)

// view takes the FETCH responses to a question of the engine's own. go-imap
// could ask it, but takes ten times as long to read 100,000 answers.
type view struct {
	buf  bytes.Buffer // one response with its literals
	each func(uid uint32, size int64, id string)
}

// overview calls each for every message from first to last, as the answers
// arrive: its UID, what the server says of its size, and its Message-ID. A last
// of 0 is the end of the folder. The folder must be open, and the connection the
// caller's alone.
func (c *conn) overview(first, last uint32, each func(uid uint32, size int64, id string)) error {
	end := "*"
	if last > 0 {
		end = strconv.FormatUint(uint64(last), 10)
	}
	c.view.Store(&view{each: each})
	defer c.view.Store(nil)
	cmd, err := c.ask(fmt.Sprintf("UID FETCH %d:%s (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])", first, end), nil)
	if err != nil {
		return err
	}
	<-cmd.ended
	switch {
	case cmd.err != nil:
		return cmd.err
	case cmd.reply.status != "OK":
		return cmd.reply.error("FETCH")
	}
	return nil
}

// take reads a complete response. One that is about something else, such as
// new flags, has not all of what was asked for, and is left out.
func (v *view) take() {
	if v == nil {
		return
	}
	if uid, size, header, ok := parseOverview(v.buf.Bytes()); ok {
		v.each(uid, size, targets.MessageIDOf(header))
	}
}

// parseOverview reads "* 5 FETCH (UID 7 RFC822.SIZE 4321 BODY[…] {30}…)", in
// whatever order the items stand (RFC 3501 §7.4.2) and with others among them.
func parseOverview(b []byte) (uid uint32, size int64, header []byte, ok bool) {
	_, items, found := bytes.Cut(b, []byte("("))
	if !found {
		return 0, 0, nil, false
	}
	size = -1
	body := false
	for p := (fetchItems{items}); ; {
		name, value, more := p.next()
		if !more {
			return uid, size, header, uid > 0 && size >= 0 && body
		}
		switch {
		case equalASCII(name, "UID"):
			if n := digits(value); 0 < n && n <= math.MaxUint32 {
				uid = uint32(n)
			}
		case equalASCII(name, "RFC822.SIZE"):
			size = digits(value)
		case len(name) > 5 && equalASCII(name[:5], "BODY["):
			header, body = value, true
		}
	}
}

// fetchItems are names and values of a FETCH response that were not read yet.
type fetchItems struct{ rest []byte }

// next returns the next pair, a string without its quotes or its length. more
// is false at the end, and at what cannot be understood.
func (p *fetchItems) next() (name, value []byte, more bool) {
	p.rest = bytes.TrimLeft(p.rest, " ")
	n := 0
	for depth := 0; ; n++ { // BODY[HEADER.FIELDS (MESSAGE-ID)] has blanks in its name
		if n == len(p.rest) {
			return nil, nil, false
		}
		switch c := p.rest[n]; {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ' ' && depth == 0:
			name, p.rest = p.rest[:n], p.rest[n+1:]
			value, more = p.value()
			return name, value, more
		case c == ')' && depth == 0, c == '\r' || c == '\n':
			return nil, nil, false
		}
	}
}

// value reads a string, a list, or an atom.
func (p *fetchItems) value() ([]byte, bool) {
	if len(p.rest) == 0 {
		return nil, false
	}
	switch p.rest[0] {
	case '{':
		line, body, ok := bytes.Cut(p.rest, crlf)
		n := digits(bytes.TrimRight(line[1:], "}+"))
		if !ok || n < 0 || n > int64(len(body)) {
			return nil, false
		}
		p.rest = body[n:]
		return body[:n], true
	case '"':
		return p.quoted()
	case '(':
		depth := 0
		for i, c := range p.rest {
			if c == '(' {
				depth++
			} else if c == ')' {
				depth--
			}
			if depth == 0 {
				value := p.rest[:i+1]
				p.rest = p.rest[i+1:]
				return value, true
			}
		}
		return nil, false
	default:
		n := bytes.IndexAny(p.rest, " )\r\n")
		if n < 0 {
			return nil, false
		}
		value := p.rest[:n]
		p.rest = p.rest[n:]
		return value, true
	}
}

func (p *fetchItems) quoted() ([]byte, bool) {
	var value []byte
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.rest = p.rest[i+1:]
			return value, true
		case '\\':
			if i++; i == len(p.rest) {
				return nil, false
			}
		}
		value = append(value, p.rest[i])
	}
	return nil, false
}

// digits reads a number, -1 if it is none.
func digits(b []byte) int64 {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// equalASCII compares without case; upper is in upper case.
func equalASCII(b []byte, upper string) bool {
	if len(b) != len(upper) {
		return false
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
