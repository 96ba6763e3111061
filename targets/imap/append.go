package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// maxMinus is the longest literal that LITERAL- lets go without asking.
const maxMinus = 4096

// job is one message on its way into a folder.
type job struct {
	body  io.ReaderAt
	size  int64
	flags string // "(\Seen)"
	date  time.Time
	nul   bool // send 0x80 for NUL

	company company
	queued  bool        // guarded by Target.mu
	cmd     *command    // guarded by Target.mu: what carries it
	done    chan result // of size 1: who gave up may not come for it
}

// company says whom a message may travel with, after trouble.
type company int

const (
	together company = iota // with others in one command
	single                  // in a command of its own
	isolated                // with nothing else on the connection
)

// result is how one attempt at a job ended.
type result struct {
	cmd *command
	uid uint32
}

// begin gives cmd a tag and expects its reply. Called with wmu held.
func (c *conn) begin(cmd *command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.lastTag++
	cmd.tag = c.lastTag
	c.pending[cmd.tag] = cmd
	c.awaitLocked(1)
	start := len(c.out)
	c.out = append(c.out, ownTag)
	c.out = strconv.AppendUint(c.out, cmd.tag, 10)
	c.out = append(c.out, ' ')
	c.out = append(c.out, cmd.verb...)
	if cmd.folder != nil {
		c.out = append(c.out, ' ')
		c.out = append(c.out, cmd.folder.wire...)
	}
	if c.sent != nil {
		c.sent(string(c.out[start:]))
	}
	return nil
}

// send sends what was gathered. A command counts as sent before its last octet
// leaves, because afterwards nobody can say whether it did.
func (c *conn) send() error {
	if len(c.out) == 0 {
		return nil
	}
	c.mu.Lock()
	for _, cmd := range c.flush {
		cmd.sent = true
	}
	c.mu.Unlock()
	clear(c.flush)
	c.flush = c.flush[:0]
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.fail(err)
		return err
	}
	c.nc.Progress()
	return nil
}

// room makes sure that n octets can be gathered without another allocation.
func (c *conn) room(n int) error {
	if len(c.out)+n > cap(c.out) {
		return c.send()
	}
	return nil
}

// ask sends a command without data and returns at once; cmd.ended tells when it
// is over. EXAMINE moves the connection to its folder.
func (c *conn) ask(verb string, f *folder) (*command, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	cmd, err := c.askLocked(verb, f)
	if err == nil {
		err = c.send()
	}
	return cmd, err
}

func (c *conn) askLocked(verb string, f *folder) (*command, error) {
	cmd := &command{conn: c, verb: verb, folder: f, released: true, ended: make(chan struct{})}
	if f != nil {
		cmd.gen = f.gen.Load()
	}
	if err := c.room(maxCommand); err != nil {
		return nil, err
	}
	if err := c.begin(cmd); err != nil {
		return nil, err
	}
	c.out = append(c.out, crlf...)
	c.flush = append(c.flush, cmd)
	if cmd.opens() {
		c.examined = cmd
	}
	return cmd, nil
}

// maxCommand is the longest command line: a folder name is at most maxName
// octets on the wire, flags at most maxFlags.
const (
	maxName    = 2 << 10
	maxFlags   = 4 << 10
	maxCommand = maxName + maxFlags + 128
)

var errRefusedEarly = errors.New("refused before it was sent")

// append sends cmd, an APPEND of its jobs, after opening the folder when the
// connection looks at another (appending to a folder that is not open is many
// times slower). It returns when nothing more of the messages is read.
func (c *conn) append(cmd *command) {
	c.wmu.Lock()
	err := c.appendLocked(cmd)
	c.wmu.Unlock()

	var body *bodyError
	local := errors.As(err, &body)
	c.settle(cmd, func() {
		cmd.released = true
		if cmd.answered || err == nil || errors.Is(err, errRefusedEarly) {
			return
		}
		// The reader fails what was registered when the connection ends; what
		// never was, and what we gave up ourselves, ends here.
		if cmd.tag == 0 || local {
			delete(c.pending, cmd.tag)
			cmd.answered, cmd.err = true, err
		}
	})
	close(cmd.written)
	if local {
		// In the midst of a literal there is no way back, but what was sent
		// before it will still be answered.
		c.retire(err)
	}
}

func (c *conn) appendLocked(cmd *command) error {
	verb := cmd.folder.opening()
	if e := c.examined; e == nil || e.folder != cmd.folder || e.gen != cmd.folder.gen.Load() || e.verb != verb {
		if _, err := c.askLocked(verb, cmd.folder); err != nil {
			return err
		}
	}
	cmd.exam = c.examined
	if err := c.room(maxCommand); err != nil {
		return err
	}
	if err := c.begin(cmd); err != nil {
		return err
	}
	for i, j := range cmd.jobs {
		if err := c.room(maxCommand); err != nil {
			return err
		}
		c.out = append(c.out, ' ')
		if j.flags != "()" {
			c.out = append(c.out, j.flags...)
			c.out = append(c.out, ' ')
		}
		c.out = appendDate(c.out, j.date)
		if err := c.literal(cmd, j.size); err != nil {
			return err
		}
		if err := c.body(j); err != nil {
			cmd.bad = i
			return err
		}
	}
	if err := c.room(len(crlf)); err != nil {
		return err
	}
	c.out = append(c.out, crlf...)
	c.flush = append(c.flush, cmd)
	return c.send()
}

// literal announces size octets, and waits for leave where it must be asked for.
func (c *conn) literal(cmd *command, size int64) error {
	c.out = append(c.out, ' ', '{')
	c.out = strconv.AppendInt(c.out, size, 10)
	if c.caps.literalPlus() || c.caps.literalMinus() && size <= maxMinus {
		c.out = append(c.out, "+}\r\n"...)
		return nil
	}
	c.out = append(c.out, "}\r\n"...)
	c.mu.Lock()
	cmd.early = make(chan struct{})
	c.mu.Unlock()
	if err := c.send(); err != nil {
		return err
	}
	select {
	case <-c.goAhead:
		return nil
	case <-cmd.early:
		return errRefusedEarly
	case <-c.gone:
		return c.failed()
	}
}

// bodyError is a message that could not be read, which is no fault of the
// server's.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return fmt.Sprintf("reading the message: %v", e.err) }
func (e *bodyError) Unwrap() error { return e.err }

// body sends exactly the octets that were announced, straight from where the
// message lies.
func (c *conn) body(j *job) error {
	for at := int64(0); at < j.size; {
		if len(c.out) == cap(c.out) {
			if err := c.send(); err != nil {
				return err
			}
		}
		n := int(min(int64(cap(c.out)-len(c.out)), j.size-at))
		part := c.out[len(c.out) : len(c.out)+n]
		got, err := j.body.ReadAt(part, at)
		if got < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &bodyError{err}
		}
		if j.nul {
			zap(part)
		}
		c.out = c.out[:len(c.out)+n]
		at += int64(n)
	}
	return nil
}

// zap puts 0x80 where NUL is, as Dovecot stores it: the canonical form, by
// which copies are recognised, takes the two for one.
func zap(p []byte) {
	for {
		i := bytes.IndexByte(p, 0)
		if i < 0 {
			return
		}
		p[i] = 0x80
		p = p[i+1:]
	}
}
