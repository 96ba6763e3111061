package targets

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"hash"
	"io"
)

// Hash is a SHA-256 digest. The zero Hash means "not known".
type Hash [sha256.Size]byte

// IsZero reports whether the digest is not known.
func (h Hash) IsZero() bool { return h == Hash{} }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Canon reads a message and yields the hash and size of its canonical form:
// every run of CRs before an LF and every bare LF become CRLF, NUL and 0x80
// count as the same octet, and the last line ends in CRLF. Servers make exactly
// these changes (Dovecot stores NUL as 0x80, LF and CRCRLF as CRLF), so copies
// are compared in this form and never octet by octet.
//
// The zero value is ready for use; it is not safe for concurrent use.
type Canon struct {
	h    hash.Hash
	size int64
	crs  int  // CRs seen whose LF may still come
	open bool // the current line has octets, so its end is missing
	buf  []byte
}

// Write takes the next octets. It never fails.
func (c *Canon) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if c.crs == 0 {
			if clean := cleanLines(p); clean > 0 {
				c.emit(p[:clean])
				c.open = false
				if p = p[clean:]; len(p) == 0 {
					break
				}
			}
		}
		p = p[c.dirty(p):]
	}
	return n, nil
}

// cleanLines returns how many octets of p are whole lines in canonical form,
// which is nearly all of nearly all mail: they are hashed where they lie.
func cleanLines(p []byte) int {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	n := 0
	for {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 1 || p[n+i-1] != '\r' || bytes.IndexByte(p[n:n+i-1], '\r') >= 0 {
			return n
		}
		n += i + 1
	}
}

// dirty takes one line, or what there is of it, octet class by octet class and
// returns its length.
func (c *Canon) dirty(p []byte) int {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p = p[:i+1]
	}
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n\x00") // compares octets: all three are ASCII
		if i < 0 {
			c.literal(p)
			break
		}
		c.literal(p[:i])
		switch p[i] {
		case '\r':
			c.crs++
		case '\n':
			c.crs = 0
			c.emit(crlf)
			c.open = false
		case 0:
			c.literal(nulStandIn)
		}
		p = p[i+1:]
	}
	return n
}

var (
	crlf       = []byte("\r\n")
	nulStandIn = []byte{0x80}
	crRun      = bytes.Repeat([]byte{'\r'}, 256)
)

func (c *Canon) literal(p []byte) {
	if len(p) == 0 {
		return
	}
	c.flushCR()
	c.emit(p)
	c.open = true
}

// flushCR emits CRs that turned out not to belong to a line end.
func (c *Canon) flushCR() {
	for c.crs > 0 {
		n := min(c.crs, len(crRun))
		c.emit(crRun[:n])
		c.crs -= n
		c.open = true
	}
}

func (c *Canon) emit(p []byte) {
	if c.h == nil {
		c.h = sha256.New()
	}
	c.size += int64(len(p))
	// Short pieces are gathered: hashing line by line costs more than hashing.
	if len(c.buf)+len(p) > canonBuffer {
		c.h.Write(c.buf)
		c.buf = c.buf[:0]
	}
	if len(p) >= canonBuffer {
		c.h.Write(p)
		return
	}
	if c.buf == nil {
		c.buf = make([]byte, 0, canonBuffer)
	}
	c.buf = append(c.buf, p...)
}

const canonBuffer = 4 << 10

// Sum returns hash and size of what was written so far, as if it ended here.
// More may be written afterwards. The canonical form of the empty message is
// one CRLF, which is how it is stored where a message cannot be empty.
func (c *Canon) Sum() (Hash, int64) {
	d := Canon{h: sha256.New(), size: c.size, crs: c.crs, open: c.open}
	if c.h != nil {
		state, err := c.h.(encoding.BinaryMarshaler).MarshalBinary()
		if err == nil {
			err = d.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
		}
		if err != nil {
			panic(err) // SHA-256 states can always be copied
		}
	}
	d.h.Write(c.buf)
	// CRs at the very end go with the CRLF that is added: whoever stores the
	// message adds an LF at least, and then they are CRs before a line end.
	if d.open || d.crs > 0 || d.size == 0 {
		d.emit(crlf)
	}
	d.h.Write(d.buf)
	var sum Hash
	d.h.Sum(sum[:0])
	return sum, d.size
}

// CanonOf reads r to its end and returns hash and size of its canonical form.
func CanonOf(r io.Reader) (Hash, int64, error) {
	var c Canon
	if _, err := io.Copy(&c, r); err != nil {
		return Hash{}, 0, err
	}
	h, n := c.Sum()
	return h, n, nil
}

// stableFields are the header fields that servers leave alone, in the order in
// which they are hashed. Status, X-Status, X-UID, X-UIDL, X-Keywords,
// Content-Length, Lines and X-Mozilla-* are rewritten between logins and never
// count.
var stableFields = [...]string{"cc", "date", "from", "message-id", "received", "subject", "to"}

// StableHash identifies a message by the fields of its header that no server
// rewrites (Message-ID, Date, From, To, Cc, Subject, every Received; unfolded,
// blanks squeezed). header may be followed by a body, which is not looked at;
// lines end in LF or CRLF.
func StableHash(header []byte) Hash {
	var fields [len(stableFields)][][]byte
	rest := bytes.TrimPrefix(header, []byte("\xef\xbb\xbf"))
	for len(rest) > 0 && rest[0] != '\n' && !bytes.HasPrefix(rest, crlf) {
		n := fieldEnd(rest)
		if i := stableField(rest[:n]); i >= 0 {
			fields[i] = append(fields[i], rest[len(stableFields[i])+1:n])
		}
		rest = rest[n:]
	}
	sq := squeezer{h: sha256.New()}
	for i, name := range stableFields {
		// In the order of the header: that of the Received fields is part of them.
		for _, value := range fields[i] {
			sq.field(name, value)
		}
	}
	sq.h.Write(sq.buf[:sq.n])
	var sum Hash
	sq.h.Sum(sum[:0])
	return sum
}

// fieldEnd returns the length of the first field of b with its continuation
// lines.
func fieldEnd(b []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return len(b)
		}
		n += i + 1
		if n == len(b) || b[n] != ' ' && b[n] != '\t' {
			return n
		}
	}
}

// stableField returns which of stableFields a field is, -1 if none.
func stableField(field []byte) int {
	for i, name := range stableFields {
		if len(field) > len(name) && field[len(name)] == ':' && equalFold(field[:len(name)], name) {
			return i
		}
	}
	return -1
}

// equalFold compares b with name, which is in lower case, and allocates
// nothing.
func equalFold(b []byte, name string) bool {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// squeezer hashes fields with every run of white space made one blank, so that a
// server that refolds a header does not change the hash. NUL reads as 0x80, as
// in the canonical form.
type squeezer struct {
	h   hash.Hash
	n   int
	buf [512]byte
}

func (s *squeezer) put(c byte) {
	if s.n == len(s.buf) {
		s.h.Write(s.buf[:])
		s.n = 0
	}
	s.buf[s.n] = c
	s.n++
}

func (s *squeezer) field(name string, value []byte) {
	for i := range len(name) {
		s.put(name[i])
	}
	s.put(':')
	blank, begun := false, false
	for _, c := range value {
		switch c {
		case ' ', '\t', '\r', '\n':
			blank = begun
			continue
		case 0:
			c = nulStandIn[0]
		}
		if blank {
			s.put(' ')
		}
		s.put(c)
		blank, begun = false, true
	}
	s.put('\n')
}
