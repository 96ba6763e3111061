package maildrop

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"popferry/targets/endpoint"
)

const (
	maxStatus = 2 << 10  // octets of a status line; RFC 2449 §4 allows 512
	maxLine   = 64 << 10 // octets of a line in a listing; also the read buffer

	// A reply may take slowGrace, and one second more for every slowRate octets
	// of it, of waiting for the server. Below that a server keeps a pass from
	// ending although it makes progress all the time.
	slowGrace = 10 * time.Minute
	slowRate  = 1 << 10
)

// botch is what a server may not say. It ends the connection as Botched.
type botch struct{ what string }

func (b *botch) Error() string { return b.what }

func botchf(format string, a ...any) error { return &botch{fmt.Sprintf(format, a...)} }

var errTooSlow = errors.New("the server sends less than 1 KiB a second")

// lineConn is the net.Conn that go-pop3 stands on. It gives go-pop3 status
// lines only, one a Read and in the one spelling it knows, so that its reader
// never holds an octet of what follows, and bodies and listings can be read
// from br past it. Commands are held back until octets are needed from the
// network: any number of Sends in a row are one segment.
type lineConn struct {
	*endpoint.Conn
	br    *bufio.Reader
	out   []byte // commands not sent yet
	carry []byte // of the status line that go-pop3 is reading
	store []byte // what carry lies in, used again
	last  status
	err   error // why the last Read failed

	allowLF bool
	lf      bool // lines end in LF: decided by the greeting
	greeted bool

	waited time.Duration // for the reply under way
	octets int64
}

// status is the first line of a reply.
type status struct {
	ok   bool   // +OK
	more bool   // "+ ": a SASL challenge (RFC 5034 §4)
	text []byte // what follows, valid until the next one is read
}

func newLineConn(nc *endpoint.Conn, allowLF bool) *lineConn {
	lc := &lineConn{Conn: nc, allowLF: allowLF}
	lc.br = bufio.NewReaderSize(network{lc}, maxLine)
	return lc
}

// network is the connection as br sees it.
type network struct{ lc *lineConn }

func (n network) Read(p []byte) (int, error) {
	lc := n.lc
	if len(lc.out) > 0 {
		_, err := lc.Conn.Write(lc.out)
		lc.out = lc.out[:0]
		if err != nil {
			return 0, err
		}
	}
	start := time.Now()
	k, err := lc.Conn.Read(p)
	lc.waited += time.Since(start)
	lc.octets += int64(k)
	if lc.waited > slowGrace+time.Duration(lc.octets/slowRate)*time.Second {
		return 0, errTooSlow
	}
	return k, err
}

// Dial returns the connection itself: it is the Dialer that go-pop3 is given.
func (lc *lineConn) Dial(string, string) (net.Conn, error) { return lc, nil }

// Write takes commands. They are sent when the next reply is waited for.
func (lc *lineConn) Write(p []byte) (int, error) {
	lc.out = append(lc.out, p...)
	return len(p), nil
}

// Read gives go-pop3 the next status line.
func (lc *lineConn) Read(p []byte) (int, error) {
	if len(lc.carry) == 0 {
		if lc.err = lc.readStatus(); lc.err != nil {
			return 0, lc.err
		}
		if lc.last.more {
			lc.err = botchf("a challenge where none was asked for")
			return 0, lc.err
		}
		verb := "-ERR"
		if lc.last.ok {
			verb = "+OK"
		}
		lc.store = append(append(append(append(lc.store[:0], verb...), ' '), lc.last.text...), "\r\n"...)
		lc.carry = lc.store
	}
	n := copy(p, lc.carry)
	if lc.carry = lc.carry[n:]; len(lc.carry) == 0 {
		lc.carry = nil
	}
	return n, nil
}

// readStatus reads the first line of a reply into last.
func (lc *lineConn) readStatus() error {
	lc.waited, lc.octets = 0, 0
	line, err := lc.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxStatus {
		return botchf("a status line of more than %d octets", maxStatus)
	}
	if err != nil {
		return noEOF(err)
	}
	lc.Progress()
	text, err := lc.chop(line)
	if err != nil {
		return err
	}
	s := status{}
	switch {
	case hasWord(text, "+OK"):
		s.ok, text = true, text[3:]
	case hasWord(text, "-ERR"):
		text = text[4:]
	case hasWord(text, "+"):
		s.more, text = true, text[1:]
	default:
		return botchf("%q", words(text))
	}
	s.text = append(lc.last.text[:0], bytes.Trim(text, " \t")...)
	lc.last = s
	return nil
}

// chop cuts the line end off. The first line of a connection decides which one
// that is.
func (lc *lineConn) chop(line []byte) ([]byte, error) {
	text, crlf := bytes.CutSuffix(line, []byte("\r\n"))
	if !crlf {
		text = line[:len(line)-1]
	}
	switch {
	case !lc.greeted:
		lc.greeted, lc.lf = true, !crlf
		if lc.lf && !lc.allowLF {
			return nil, botchf("the server ends lines with LF alone (allow_lf: yes accepts that)")
		}
	case !crlf && !lc.lf:
		return nil, botchf("a line that ends in LF alone: %q", words(text))
	}
	return text, nil
}

// hasWord reports whether line is word, in any case, alone or before a blank.
func hasWord(line []byte, word string) bool {
	n := len(word)
	return len(line) >= n && bytes.EqualFold(line[:n], []byte(word)) &&
		(len(line) == n || line[n] == ' ' || line[n] == '\t')
}

// readLines reads the lines of a multi-line reply up to its dot, and no more
// than most. A line is valid until each returns.
func (lc *lineConn) readLines(most int, each func(line []byte)) error {
	for n := 0; ; n++ {
		line, err := lc.br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return botchf("a line of more than %d octets", maxLine)
		}
		if err != nil {
			return noEOF(err)
		}
		text, crlf := bytes.CutSuffix(line, []byte("\r\n"))
		if !crlf {
			text = line[:len(line)-1]
		}
		if len(text) > 0 && text[0] == '.' && (crlf || lc.lf) {
			if len(text) == 1 {
				return nil
			}
			if text[1] == '.' {
				text = text[1:]
			}
		}
		if n == most {
			return botchf("more than %d lines", most)
		}
		each(text)
	}
}

// noEOF keeps a cut connection from passing for the end of a body.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
