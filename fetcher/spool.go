package fetcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/semaphore"

	"popferry/fetcher/state"
	"popferry/targets"
)

const (
	// memoryBudget bounds the bodies held in memory by all passes together.
	memoryBudget = 64 << 20
	// spoolBudget bounds the bodies held in files by all passes together.
	spoolBudget = 2 << 30
	// inMemory is the size above which a body goes to a file.
	inMemory = 1 << 20
	// headerMax is as much of a header as rules and fingerprints look at.
	headerMax = 256 << 10
)

// errSpoolFull is a large body for which there is no room now; it can wait.
var errSpoolFull = errors.New("no room in the spool")

// spool holds the bodies of messages in hand, for all passes of a Fetcher. It
// is safe for concurrent use.
type spool struct {
	dir  string
	mem  *semaphore.Weighted
	disk *semaphore.Weighted
}

func newSpool(dir string) *spool {
	return &spool{dir: dir, mem: semaphore.NewWeighted(memoryBudget), disk: semaphore.NewWeighted(spoolBudget)}
}

// body is a message as targets take it: dot-unstuffed, every line ended by
// CRLF, never empty. It is immutable once take returned it.
type body struct {
	io.ReaderAt
	memory bytes.Reader // the ReaderAt, if there is no file
	size   int64        // octets here
	octets int64        // octets as the server sent them
	hash   targets.Hash
	canon  int64        // octets of the canonical form
	text   targets.Hash // of the canonical form without the header
	head   []byte       // the header, headerMax octets of it at most

	sp       *spool
	held     int64 // of the memory budget
	heldDisk int64 // of the spool budget
	file     *os.File
}

// is reports whether this is the body of m, but for marks that servers put into
// the header of what they have shown (Status, X-UIDL).
func (b *body) is(m *state.Message) bool {
	return targets.StableHash(b.head) == targets.Hash(m.Stable) && b.text == targets.Hash(m.Body)
}

// release gives the budget back. The body is not to be read afterwards.
func (b *body) release() {
	if b.file != nil {
		b.file.Close()
		b.sp.disk.Release(b.heldDisk)
		b.file = nil
	}
	b.sp.mem.Release(b.held)
	b.held = 0
	b.memory.Reset(nil)
	b.ReaderAt, b.head = nil, nil
}

// take reads r to its end. It waits until the budget has room for claim octets,
// what LIST said. After an error nothing is held; r may not be at its end.
func (s *spool) take(ctx context.Context, r io.Reader, claim int64) (*body, error) {
	b := new(body)
	if err := s.fill(ctx, b, r, claim); err != nil {
		return nil, err
	}
	return b, nil
}

// fill is take into a body that is part of something else.
func (s *spool) fill(ctx context.Context, b *body, r io.Reader, claim int64) error {
	*b = body{sp: s}
	in := intake{sp: s, b: b}
	in.held = copy(in.edge[:], crlf) // as if a line had ended: a message may have no header
	// A little more than LIST says: bare LFs grow and some servers do not count
	// line ends. What it lies about beyond that is at most inMemory a message,
	// one message at a time.
	room := max(claim, 0) + max(claim, 0)/8 + 512
	large := room > inMemory
	if large {
		room = headerMax
	}
	if err := s.mem.Acquire(ctx, room); err != nil {
		return err
	}
	b.held = room
	var err error
	if large {
		err = in.toFile(nil)
	} else {
		in.mem = make([]byte, 0, room)
	}
	if err == nil {
		err = in.read(r)
	}
	if err == nil {
		err = in.done()
	}
	if err != nil {
		b.release()
	}
	return err
}

// intake is a body while it is being read.
type intake struct {
	sp    *spool
	b     *body
	mem   []byte
	canon targets.Canon
	text  targets.Canon // of what follows the header
	below bool          // it has begun
	edge  [8]byte       // the last octets before that
	held  int           // of edge
	last  byte
}

// chunks is what a body is read through; only ever as many exist as passes.
var chunks = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func (in *intake) read(r io.Reader) error {
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	for {
		n, err := r.Read(*chunk)
		if n > 0 {
			in.b.octets += int64(n)
			if werr := in.write((*chunk)[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write takes the next octets and gives every bare LF its CR: a bare LF is not
// mail anywhere (RFC 5322 §2.3), servers disagree on what it means, and some
// refuse it.
func (in *intake) write(p []byte) error {
	for len(p) > 0 {
		n, bare := lines(p, in.last)
		if n > 0 {
			if err := in.store(p[:n]); err != nil {
				return err
			}
			in.last = p[n-1]
			p = p[n:]
		}
		if bare {
			if err := in.store(crlf); err != nil {
				return err
			}
			in.last = '\n'
			p = p[1:]
		}
	}
	return nil
}

var crlf = []byte("\r\n")

// lines returns how many octets of p come before the first bare LF, and whether
// there is one. last is the octet before p.
func lines(p []byte, last byte) (n int, bare bool) {
	for {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			return len(p), false
		}
		before := last
		if n+i > 0 {
			before = p[n+i-1]
		}
		if before != '\r' {
			return n + i, true
		}
		n += i + 1
	}
}

func (in *intake) store(p []byte) error {
	in.canon.Write(p)
	in.split(p)
	b := in.b
	b.size += int64(len(p))
	if b.file != nil {
		return in.spill(p)
	}
	if len(in.mem)+len(p) > inMemory {
		return in.toFile(p)
	}
	if want := int64(len(in.mem) + len(p)); want > b.held {
		// The server's claim was too low. Waiting for room here could wait for
		// ourselves, so it is taken when there is some and the body goes to a
		// file when there is not.
		more := min(max(want-b.held, b.held), inMemory-b.held)
		if !in.sp.mem.TryAcquire(more) {
			return in.toFile(p)
		}
		b.held += more
	}
	in.mem = append(in.mem, p...)
	return nil
}

// split finds the end of the header and hashes what follows it: a server may
// mark the header of a message it has shown, and it is still the same message.
func (in *intake) split(p []byte) {
	if in.below {
		in.text.Write(p)
		return
	}
	const most = len("\r\n\r\n") - 1 // octets of the end that are not yet it
	edge := in.edge[:in.held+copy(in.edge[in.held:], p[:min(len(p), most)])]
	start := -1
	if i := bytes.Index(edge, crlfcrlf); i >= 0 { // it lies across pieces
		start = i + len(crlfcrlf) - in.held
	} else if i := bytes.Index(p, crlfcrlf); i >= 0 {
		start = i + len(crlfcrlf)
	}
	switch {
	case start >= 0:
		in.below = true
		in.text.Write(p[start:])
	case len(p) >= most:
		in.held = copy(in.edge[:], p[len(p)-most:])
	default:
		in.held = copy(in.edge[:], edge[max(0, len(edge)-most):])
	}
}

// toFile moves what is in memory to a file, and p behind it.
func (in *intake) toFile(p []byte) error {
	f, err := unlinkedFile(in.sp.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errSpoolFull, err)
	}
	in.b.file = f
	in.b.head = append([]byte(nil), in.mem[:min(len(in.mem), headerMax)]...)
	if err := in.spill(in.mem); err != nil {
		return err
	}
	in.mem = nil
	return in.spill(p)
}

// spill appends p to the file.
func (in *intake) spill(p []byte) error {
	b := in.b
	if !in.sp.disk.TryAcquire(int64(len(p))) {
		return fmt.Errorf("%w: %d octets are in it", errSpoolFull, int64(spoolBudget))
	}
	b.heldDisk += int64(len(p))
	if _, err := b.file.Write(p); err != nil {
		return fmt.Errorf("%w: %w", errSpoolFull, err)
	}
	if room := headerMax - len(b.head); room > 0 && in.mem == nil {
		b.head = append(b.head, p[:min(len(p), room)]...)
	}
	return nil
}

func (in *intake) done() error {
	b := in.b
	if b.size == 0 {
		// An empty message cannot be stored anywhere; one CRLF is its canonical
		// form.
		if err := in.store(crlf); err != nil {
			return err
		}
	}
	b.hash, b.canon = in.canon.Sum()
	b.text, _ = in.text.Sum()
	if b.file != nil {
		b.ReaderAt = b.file
		b.head = bytes.Clone(headerOf(b.head)) // or every large body pins headerMax octets
		b.sp.mem.Release(b.held)
		b.held = 0
		return nil
	}
	b.memory.Reset(in.mem)
	b.ReaderAt = &b.memory
	b.head = headerOf(in.mem[:min(len(in.mem), headerMax)])
	return nil
}

// headerOf returns what comes before the first empty line, with it.
func headerOf(p []byte) []byte {
	if bytes.HasPrefix(p, crlf) {
		return p[:len(crlf)]
	}
	if i := bytes.Index(p, crlfcrlf); i >= 0 {
		return p[:i+len(crlfcrlf)]
	}
	return p
}

var crlfcrlf = []byte("\r\n\r\n")

// ownDir makes dir if it is not there. A link is refused: it could lead mail to
// where others can read it.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: errors.New("is a link; it must be a directory")}
	}
	return err
}

// unlinkedFile makes a file that no longer has a name, so that nothing is left
// of it however the process ends.
func unlinkedFile(dir string) (*os.File, error) {
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "body-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, filepath.Base(f.Name()))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
