package maildrop

import (
	"bytes"
	"cmp"
	"io"
)

// dotReader reads the body of a reply and takes the dots out again that RFC
// 1939 §3 put in. It ends after CRLF "." CRLF and has then read nothing beyond
// it. A connection that ends earlier is io.ErrUnexpectedEOF.
//
// A dot is taken out only before another one. A server that puts them in never
// sends a single dot with anything but CRLF behind it, and one that forgets to
// (Dovecot 2.3 does before the first line of a mail) means it as it stands.
//
// A line here is what ends in CRLF. After a bare LF no dot is taken out, and
// none is believed to end the body: a mail with LF "." LF "+OK" in it could
// otherwise forge the mails that follow.
type dotReader struct {
	lc   *lineConn
	at   place
	cr   bool // the piece before ended in CR; only where lines end in LF
	done bool
	err  error
}

// place is where in a line the next octet lies.
type place int

const (
	lineStart place = iota // also before the first line
	afterCR
	within
)

var lineDot = []byte("\r\n.")

// next returns the next piece of the body, as long as the buffer allows. It is
// valid until the next call. After the last one comes io.EOF.
func (d *dotReader) next() ([]byte, error) {
	if d.err == nil && d.done {
		d.err = io.EOF
	}
	if d.err != nil {
		return nil, d.err
	}
	var piece []byte
	if d.lc.lf {
		piece, d.err = d.lfPiece()
	} else {
		piece, d.err = d.piece()
	}
	return piece, d.err
}

func (d *dotReader) piece() ([]byte, error) {
	br := d.lc.br
	if _, err := br.Peek(1); err != nil {
		return nil, noEOF(err)
	}
	buf, _ := br.Peek(br.Buffered())
	if d.at == lineStart && buf[0] == '.' {
		// Three octets tell the end from a line that begins with a dot; a
		// connection cut among them must not look like the end.
		if len(buf) < 3 {
			if _, err := br.Peek(3); err != nil {
				return nil, noEOF(err)
			}
			buf, _ = br.Peek(br.Buffered())
		}
		if buf[1] == '\r' && buf[2] == '\n' {
			_, _ = br.Discard(3)
			d.done = true
			return nil, io.EOF
		}
		if buf[1] == '.' {
			_, _ = br.Discard(1)
			buf = buf[1:]
		}
	}
	n := len(buf)
	switch i := bytes.Index(buf, lineDot); {
	case d.at == afterCR && buf[0] == '\n':
		n = 1 // the CR was the last octet of the piece before
	case i >= 0:
		n = i + 2
	}
	piece := buf[:n]
	switch {
	case bytes.HasSuffix(piece, lineDot[:2]), d.at == afterCR && n == 1 && piece[0] == '\n':
		d.at = lineStart
	case piece[n-1] == '\r':
		d.at = afterCR
	default:
		d.at = within
	}
	_, _ = br.Discard(n) // what was peeked at stays until the next read from the network
	return piece, nil
}

// lfPiece reads from a server that ends lines with LF, and ends them with CRLF.
func (d *dotReader) lfPiece() ([]byte, error) {
	br := d.lc.br
	if d.at == lineStart {
		if end, err := d.lfDot(); err != nil || end {
			d.done = end
			return nil, cmp.Or(err, io.EOF)
		}
	}
	if _, err := br.Peek(1); err != nil {
		return nil, noEOF(err)
	}
	buf, _ := br.Peek(br.Buffered())
	switch i := bytes.IndexByte(buf, '\n'); {
	case i < 0:
		d.at, d.cr = within, buf[len(buf)-1] == '\r'
		_, _ = br.Discard(len(buf))
		return buf, nil
	case i == 0 && d.cr:
		d.at, buf = lineStart, buf[:1]
	case i == 0:
		d.at = lineStart
		_, _ = br.Discard(1)
		return lineDot[:2], nil
	case buf[i-1] == '\r':
		d.at, buf = lineStart, buf[:i+1]
	default:
		d.at, buf = within, buf[:i] // its line end is the next piece
	}
	_, _ = br.Discard(len(buf))
	d.cr = false
	return buf, nil
}

// lfDot looks at the first octets of a line, and takes out a dot or reports the
// end.
func (d *dotReader) lfDot() (end bool, err error) {
	br := d.lc.br
	line, err := br.Peek(1)
	if err != nil || line[0] != '.' {
		return false, noEOF(err)
	}
	if line, err = br.Peek(2); err == nil && line[1] == '\r' {
		line, err = br.Peek(3)
	}
	if err != nil {
		return false, noEOF(err)
	}
	switch {
	case line[len(line)-1] == '\n':
		_, _ = br.Discard(len(line))
		return true, nil
	case line[1] == '.':
		_, _ = br.Discard(1)
	}
	return false, nil
}
