package maildir

import (
	"bufio"
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
		err = w.end()
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
	w    *bufio.Writer
	buf  []byte
	cr   bool // a CR is held back: an LF may follow
	last byte // the last octet written
	size size
}

var lineWriters = sync.Pool{New: func() any {
	return &lineWriter{w: bufio.NewWriterSize(nil, 32<<10), buf: make([]byte, 32<<10)}
}}

func (l *lineWriter) reset(w io.Writer) {
	l.w.Reset(w)
	l.cr, l.last, l.size = false, 0, size{}
}

// copy writes all of r, unless ctx ends first, and returns how many octets it
// was.
func (l *lineWriter) copy(ctx context.Context, r io.Reader) (n int64, err error) {
	for {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		k, err := r.Read(l.buf)
		n += int64(k)
		if err := l.lines(l.buf[:k]); err != nil {
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

func (l *lineWriter) lines(p []byte) error {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		line := p
		if i >= 0 {
			line = p[:i]
		}
		if l.cr && (i != 0) {
			l.cr = false
			if err := l.put(crOnly); err != nil {
				return err
			}
		}
		l.cr = l.cr || len(line) > 0 && line[len(line)-1] == '\r'
		if len(line) > 0 && l.cr {
			line = line[:len(line)-1]
		}
		if err := l.put(line); err != nil {
			return err
		}
		if i < 0 {
			return nil
		}
		l.cr = false
		if l.last != '\r' {
			l.size.virtual++ // the CR that a reader sees
		}
		if err := l.put(lfOnly); err != nil {
			return err
		}
		p = p[i+1:]
	}
	return nil
}

var crOnly, lfOnly = []byte{'\r'}, []byte{'\n'}

func (l *lineWriter) put(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	l.last = p[len(p)-1]
	l.size.disk += int64(len(p))
	l.size.virtual += int64(len(p))
	_, err := l.w.Write(p)
	return err
}

// end writes what was held back.
func (l *lineWriter) end() error {
	if l.cr {
		l.cr = false
		if err := l.put(crOnly); err != nil {
			return err
		}
	}
	return l.w.Flush()
}
