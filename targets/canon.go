package targets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"sync"
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
	d    *digest
	size int64
	crs  int  // CRs seen whose LF may still come
	open bool // the current line has octets, so its end is missing
}

// digest is SHA-256 of what is written in pieces: short ones are gathered,
// because hashing line by line costs more than hashing.
type digest struct {
	h   hash.Hash
	n   int // octets in buf
	buf [4 << 10]byte
}

// digests are the idle ones: every message needs three, which is most of what
// it would allocate.
var digests = sync.Pool{New: func() any { return &digest{h: sha256.New()} }}

func newDigest() *digest { return digests.Get().(*digest) }

func (d *digest) write(p []byte) {
	if d.n+len(p) > len(d.buf) {
		d.h.Write(d.buf[:d.n])
		d.n = 0
	}
	if len(p) >= len(d.buf) {
		d.h.Write(p)
		return
	}
	d.n += copy(d.buf[d.n:], p)
}

func (d *digest) put(c byte) {
	if d.n == len(d.buf) {
		d.h.Write(d.buf[:])
		d.n = 0
	}
	d.buf[d.n] = c
	d.n++
}

// sum returns the digest; d is not to be used afterwards.
func (d *digest) sum() (h Hash) {
	d.h.Write(d.buf[:d.n])
	d.h.Sum(d.buf[:0])
	copy(h[:], d.buf[:])
	d.h.Reset()
	d.n = 0
	digests.Put(d)
	return h
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
	if c.d == nil {
		c.d = newDigest()
	}
	c.size += int64(len(p))
	c.d.write(p)
}

// Sum ends the message, returns its hash and size, and readies c for another
// one. The canonical form of the empty message is one CRLF, which is how it is
// stored where a message cannot be empty.
func (c *Canon) Sum() (Hash, int64) {
	// CRs at the very end go with the CRLF that is added: whoever stores the
	// message adds an LF at least, and then they are CRs before a line end.
	if c.open || c.crs > 0 || c.size == 0 {
		c.emit(crlf)
	}
	sum, size := c.d.sum(), c.size
	*c = Canon{}
	return sum, size
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
	type field struct {
		name  int // of stableFields
		value []byte
	}
	var few [32]field // as many as nearly every header has
	fields := few[:0]
	rest := bytes.TrimPrefix(header, bom)
	for len(rest) > 0 && rest[0] != '\n' && !bytes.HasPrefix(rest, crlf) {
		n := fieldEnd(rest)
		if i := stableField(rest[:n]); i >= 0 {
			fields = append(fields, field{i, rest[len(stableFields[i])+1 : n]})
		}
		rest = rest[n:]
	}
	d := newDigest()
	for i, name := range stableFields {
		// In the order of the header: that of the Received fields is part of them.
		for _, f := range fields {
			if f.name == i {
				d.field(name, f.value)
			}
		}
	}
	return d.sum()
}

var bom = []byte("\xef\xbb\xbf")

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

// field hashes a field with every run of white space made one blank, so that a
// server that refolds a header does not change the hash. NUL reads as 0x80, as
// in the canonical form.
func (d *digest) field(name string, value []byte) {
	for i := range len(name) {
		d.put(name[i])
	}
	d.put(':')
	blank, begun := false, false
	for len(value) > 0 {
		if len(d.buf)-d.n < 64 {
			d.h.Write(d.buf[:d.n])
			d.n = 0
		}
		room := d.buf[d.n:]
		piece := value[:min(len(value), len(room)-1)] // and one blank from before it
		value = value[len(piece):]
		n := 0
		for _, c := range piece {
			if c <= ' ' {
				switch c {
				case ' ', '\t', '\r', '\n':
					blank = begun
					continue
				case 0:
					c = nulStandIn[0]
				}
			}
			if blank {
				room[n] = ' '
				n++
			}
			room[n] = c
			n++
			blank, begun = false, true
		}
		d.n += n
	}
	d.put('\n')
}
