package maildir

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"popferry/targets"
)

// size is how large a message is on disk, and with CRLF line ends.
type size struct{ disk, virtual int64 }

// write makes the file of a message and returns when its octets are on disk. Its
// mtime is the message's date; its atime is now, or whoever cleans up tmp would
// take it for an old leftover.
func (t *Target) write(ctx context.Context, root *os.Root, name string, m *targets.Message, now time.Time) (size, error) {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return size{}, err
	}
	defer f.Close()
	w := lineWriters.Get().(*lineWriter)
	defer lineWriters.Put(w)
	w.reset(f)
	n, err := w.copy(ctx, io.NewSectionReader(m.Body, 0, m.Size))
	if err == nil && n != m.Size {
		err = fmt.Errorf("the message has %d octets, not %d: %w", n, m.Size, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = root.Chtimes(name, now, targets.Dated(now, m.Received, m.Date))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	return w.size, err
}

// lineWriter writes a message with LF for every CRLF, and leaves all else alone.
type lineWriter struct {
	w    io.Writer
	buf  []byte // its first octet is for a CR held back
	last byte   // the last octet written
	size size
}

var lineWriters = sync.Pool{New: func() any { return &lineWriter{buf: make([]byte, 64<<10)} }}

func (l *lineWriter) reset(w io.Writer) {
	l.w, l.last, l.size = w, 0, size{}
}

// copy writes all of r, unless ctx ends first, and returns how many octets it
// was.
func (l *lineWriter) copy(ctx context.Context, r io.Reader) (n int64, err error) {
	held := 0 // 1 if the last octet read was a CR: an LF may follow
	for {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		k, err := r.Read(l.buf[1:])
		n += int64(k)
		l.buf[0] = '\r'
		part := l.buf[1-held : 1+k]
		held = 0
		if len(part) > 0 && part[len(part)-1] == '\r' && err == nil {
			held, part = 1, part[:len(part)-1]
		}
		if _, err := l.w.Write(l.lines(part)); err != nil {
			return n, err
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("reading the message: %w", err)
		}
	}
}

// lines makes LF of every CRLF in p, where it lies.
func (l *lineWriter) lines(p []byte) []byte {
	n := 0
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			n += copy(p[n:], rest)
			break
		}
		line := rest[:i]
		rest = rest[i+1:]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		n += copy(p[n:], line)
		if n > 0 {
			l.last = p[n-1]
		}
		if l.last != '\r' {
			l.size.virtual++ // the CR that a reader sees
		}
		p[n], l.last = '\n', '\n'
		n++
	}
	if n > 0 {
		l.last = p[n-1]
	}
	l.size.disk += int64(n)
	l.size.virtual += int64(n)
	return p[:n]
}
