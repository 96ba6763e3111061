package smtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"popferry/targets"
)

// chunk is how much of a message is read at a time.
const chunk = 32 << 10

// survey is what has to be known of a message before its envelope is sent.
type survey struct {
	size     int64 // octets to send: after cleaning, with a final CRLF, without doubled dots
	eightBit bool
	nuls     int // sent as 0x80
	crs      int // CRs that belong to no line end; sent as blanks
	lfs      int // line ends that are not exactly CRLF; sent as CRLF
	received int // Received fields
}

// clean reports whether the message is sent octet for octet.
func (s *survey) clean() bool { return s.nuls == 0 && s.crs == 0 && s.lfs == 0 }

// bodyError is a message that could not be read: no fault of the server's.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return fmt.Sprintf("reading the message: %v", e.err) }
func (e *bodyError) Unwrap() error { return e.err }

// surveyOf reads a message once. buf is used for reading.
func surveyOf(m *targets.Message, buf []byte) (survey, error) {
	var s survey
	var c cleaner
	for at := int64(0); at < m.Size; {
		p, err := readAt(m, buf, at)
		if err != nil {
			return s, err
		}
		if at == 0 {
			s.received = countReceived(p)
		}
		s.look(p, &c)
		at += int64(len(p))
	}
	c.end(&s)
	return s, nil
}

// readAt returns the octets of m at a place, as many as buf has room for.
func readAt(m *targets.Message, buf []byte, at int64) ([]byte, error) {
	p := buf[:min(int64(len(buf)), m.Size-at)]
	n, err := m.Body.ReadAt(p, at)
	if n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, &bodyError{err}
	}
	return p, nil
}

// look takes the next octets of the message.
func (s *survey) look(p []byte, c *cleaner) {
	s.eightBit = s.eightBit || !allASCII(p)
	for len(p) > 0 {
		n := c.plain(p)
		s.size += int64(n)
		if p = p[n:]; len(p) == 0 {
			return
		}
		s.size += int64(len(c.octet(p[0], s)))
		p = p[1:]
	}
}

func allASCII(p []byte) bool {
	var all uint64
	for len(p) >= 8 {
		all |= binary.NativeEndian.Uint64(p)
		p = p[8:]
	}
	for _, b := range p {
		all |= uint64(b)
	}
	return all&0x8080808080808080 == 0
}

// cleaner makes a message safe for every receiver, so that all agree on where
// it ends: a receiver that takes a bare LF for a line end, or a CR, or drops
// NULs, would else find an end of the message, and commands behind it, where
// others see text ("SMTP smuggling"). LF and CR LF with more CRs before become
// CRLF, any other CR a blank, NUL 0x80: RFC 5321 §2.3.8 and RFC 6152 allow none
// of them. The final line end is left out: the final dot brings it along.
//
// A message without such octets passes unchanged.
type cleaner struct {
	crs  int  // CRs seen that may belong to a line end
	held bool // a line end that is sent before the next octet
	slow bool // the rest of this line is looked at octet by octet: it has had something to change
	out  []byte
}

// plain returns how many octets at the beginning of p can be sent as they are:
// whole lines, and what comes before the first octet that has to be looked at.
func (c *cleaner) plain(p []byte) int {
	if c.slow || c.crs > 0 || c.held || p[0] == '\r' || p[0] == '\n' || p[0] == 0 {
		return 0
	}
	end := 0 // of what is fine
	for end < len(p) {
		i := bytes.IndexByte(p[end:], '\n')
		rest := p[end:]
		if i >= 0 {
			rest = p[end : end+i+1]
		}
		bad := bytes.IndexByte(rest, '\r')
		if nul := bytes.IndexByte(rest, 0); nul >= 0 && (bad < 0 || nul < bad) {
			bad = nul
		}
		switch {
		case bad < 0 && i < 0:
			end += len(rest) // no line end: the end of this part of the message
		case bad < 0:
			end += i // a bare LF
		case bad == i-1 && rest[bad] == '\r' && end+i+1 < len(p):
			end += i + 1
			continue
		default:
			end += bad
		}
		break
	}
	return end
}

// octet takes one octet that may need a change, and returns what to send now,
// which is valid until the next call. It counts changes.
func (c *cleaner) octet(b byte, s *survey) []byte {
	if b == '\r' {
		c.crs++
		return nil
	}
	c.out = c.out[:0]
	if c.held {
		c.out = append(c.out, "\r\n"...)
	}
	if c.held = b == '\n'; c.held {
		if c.crs != 1 {
			s.lfs++
		}
		c.crs, c.slow = 0, false
		return c.out
	}
	for ; c.crs > 0; c.crs-- {
		s.crs++
		c.slow = true
		c.out = append(c.out, ' ')
	}
	if b == 0 {
		s.nuls++
		s.eightBit, c.slow = true, true
		b = 0x80
	}
	return append(c.out, b)
}

// end counts what is left to send.
func (c *cleaner) end(s *survey) {
	if c.crs > 0 {
		s.lfs++
	}
	s.size += int64(len(c.last()) + len("\r\n"))
}

// last returns what is sent before the final line end. CRs before that are part
// of it, as in the canonical form, and so make one line more of what they follow.
func (c *cleaner) last() []byte {
	if c.held && c.crs > 0 {
		return []byte("\r\n")
	}
	return nil
}

// writeBody sends a message through w, with its lines that begin with a dot
// given another, up to but without its final line end.
func writeBody(w io.Writer, m *targets.Message, buf []byte) error {
	var c cleaner
	var s survey // its counts are known already
	d := dotter{w: w, first: true}
	for at := int64(0); at < m.Size && d.err == nil; {
		p, err := readAt(m, buf, at)
		if err != nil {
			return err
		}
		at += int64(len(p))
		for len(p) > 0 && d.err == nil {
			n := c.plain(p)
			d.write(p[:n])
			if p = p[n:]; len(p) == 0 {
				break
			}
			d.write(c.octet(p[0], &s))
			p = p[1:]
		}
	}
	d.write(c.last())
	return d.err
}

// dotter doubles dots that begin a line (RFC 5321 §4.5.2). Only CRLF ends a line
// in what it is given.
type dotter struct {
	w     io.Writer
	first bool // the next octet begins a line
	err   error
}

var dot = []byte{'.'}

func (d *dotter) write(p []byte) {
	for len(p) > 0 && d.err == nil {
		if d.first && p[0] == '.' {
			d.put(dot)
		}
		i := bytes.Index(p, []byte("\n."))
		if i < 0 {
			d.first = p[len(p)-1] == '\n'
			d.put(p)
			return
		}
		d.first = true
		d.put(p[:i+1])
		p = p[i+1:]
	}
}

func (d *dotter) put(p []byte) {
	if d.err == nil {
		_, d.err = d.w.Write(p)
	}
}
