package imap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
)

const (
	maxLine    = 1 << 20  // octets in one line of a response; a SEARCH result is the longest
	maxLiteral = 1 << 20  // octets in a literal nobody asked for; find raises it for bodies
	maxDepth   = 32       // parentheses within parentheses: the parser above recurses
	outBuffer  = 64 << 10 // octets gathered before they are sent
	ownTag     = 'P'      // our commands are P1, P2, …; go-imap's are T1, T2, …
)

// link is the connection below: *endpoint.Conn, or a pipe in tests.
type link interface {
	net.Conn
	Progress()
	Idle(idle bool)
}

// conn is an IMAP connection that two speak on: go-imap, for everything that
// is asked seldom, and the APPEND engine. One goroutine (read) takes the replies
// to the engine's commands out of the stream and gives go-imap the rest, but
// only while it has asked something and only what it understands: an unknown
// response would make it close the connection.
//
// Commands are written whole, under wmu, so the two never cut into each other.
// While any command is unanswered the link's timeout runs; otherwise it may sit
// idle for ever.
type conn struct {
	nc     link
	br     *bufio.Reader
	client *imapclient.Client
	caps   caps

	pr *io.PipeReader // what go-imap reads
	pw *io.PipeWriter

	wmu      sync.Mutex // held while a command is written
	out      []byte     // octets not sent yet
	flush    []*command // commands whose last octet is in out
	examined *command   // the EXAMINE whose folder commands find when they arrive

	mu       sync.Mutex
	lastTag  uint64
	pending  map[uint64]*command
	foreign  int  // go-imap's unanswered commands
	select_  bool // go-imap selects: folder data is for it
	err      error
	retired  error  // no more commands; close when all are answered
	bye      string // the server's farewell or last alert
	heard    time.Time
	goAhead  chan struct{} // a "+" for the engine
	literals atomic.Int64  // the longest literal to accept

	line []byte // read's line, reused
	box  box    // what the folder data since the last EXAMINE reply said
	gone chan struct{}
	done func(*command) // called once for every engine command that is over, with no lock held
	lost func(*conn)    // called once when the connection has ended, after done for all but one being written

	slot slot // the pool's view, guarded by Target.mu
}

// box is what an EXAMINE tells of a folder; 0 is "did not say".
type box struct{ validity, next uint32 }

// command is one of the engine's commands.
type command struct {
	conn   *conn
	verb   string
	folder *folder
	jobs   []*job   // of an APPEND, in order
	exam   *command // of an APPEND: the EXAMINE before it
	octets int64

	// Guarded by conn.mu.
	tag      uint64
	sent     bool // its last octet may have left
	released bool // nothing of it will be written any more
	answered bool
	over     bool
	reply    reply
	box      box   // of an EXAMINE, once answered
	err      error // why it has no reply
	bad      int   // of jobs, the one whose body could not be read

	written chan struct{} // of an APPEND: closed when no message of it is read any more
	early   chan struct{} // closed when answered; only where a "+" is waited for
	ended   chan struct{} // closed when over; nil if nobody waits
}

func newConn(nc link, br *bufio.Reader, cs caps) *conn {
	c := &conn{
		nc: nc, br: br, caps: cs,
		out:     make([]byte, 0, outBuffer),
		pending: make(map[uint64]*command),
		heard:   time.Now(),
		goAhead: make(chan struct{}, 1),
		gone:    make(chan struct{}),
		slot:    slot{load: map[*folder]int{}},
	}
	c.literals.Store(maxLiteral)
	c.pr, c.pw = io.Pipe()
	return c
}

// start begins reading, on a connection that is logged in and on which nothing
// is outstanding. done and lost must be set.
// run starts the goroutine that reads.
func (c *conn) start(run func(func())) {
	c.nc.Idle(true)
	c.client = imapclient.New(clientEnd{c}, nil)
	run(c.read)
}

// clientEnd is the connection as go-imap sees it.
type clientEnd struct{ c *conn }

func (e clientEnd) Read(p []byte) (int, error)       { return e.c.pr.Read(p) }
func (e clientEnd) Write(p []byte) (int, error)      { return e.c.writeForeign(p) }
func (e clientEnd) Close() error                     { e.c.fail(net.ErrClosed); return nil }
func (e clientEnd) LocalAddr() net.Addr              { return e.c.nc.LocalAddr() }
func (e clientEnd) RemoteAddr() net.Addr             { return e.c.nc.RemoteAddr() }
func (e clientEnd) SetDeadline(time.Time) error      { return nil }
func (e clientEnd) SetReadDeadline(time.Time) error  { return nil }
func (e clientEnd) SetWriteDeadline(time.Time) error { return nil }

var errLiteral = errors.New("a name that cannot be quoted")

// writeForeign sends go-imap's commands. Every one we have it send fits its
// buffer and has no literal, so what comes is whole lines.
func (c *conn) writeForeign(p []byte) (int, error) {
	if !bytes.HasSuffix(p, crlf) || bytes.HasSuffix(p, []byte("}\r\n")) {
		return 0, errLiteral
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	n := bytes.Count(p, crlf)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return 0, c.err
	}
	c.foreign += n
	c.awaitLocked(n)
	c.mu.Unlock()
	return c.nc.Write(p)
}

// awaitLocked starts the clock when n new commands are the only ones. Called
// with mu held, after they were counted.
func (c *conn) awaitLocked(n int) {
	if len(c.pending)+c.foreign == n {
		c.nc.Idle(false)
	}
}

// restLocked notes that a reply came: the clock starts anew, or stops. Called
// with mu held.
func (c *conn) restLocked() {
	switch {
	case len(c.pending)+c.foreign > 0:
		c.nc.Progress()
	case c.retired != nil:
		c.failLocked(c.retired)
	default:
		c.nc.Idle(true)
	}
}

// retire lets the connection answer what it was asked and then ends it, for the
// reason err.
func (c *conn) retire(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired == nil {
		c.retired = err
	}
	if len(c.pending)+c.foreign == 0 {
		c.failLocked(c.retired)
	}
}

// usable tells whether the connection takes commands.
func (c *conn) usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && c.retired == nil
}

// fail ends the connection for the reason err; only the first counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *conn) failLocked(err error) {
	if c.err == nil {
		c.err = err
	}
	c.nc.Close()
	c.pr.CloseWithError(err) // wakes read where go-imap has stopped listening
}

// failed returns why the connection ended, nil while it has not.
func (c *conn) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// read takes the server's responses apart until the connection ends. Then it
// ends every command that has no answer.
func (c *conn) read() {
	c.pw.Write([]byte("* PREAUTH [CAPABILITY " + c.caps.forClient() + "] ready\r\n"))
	var err error
	for err == nil {
		err = c.response()
	}
	c.fail(err)
	close(c.gone)
	c.pw.CloseWithError(io.ErrUnexpectedEOF)
	<-c.client.Closed()

	c.mu.Lock()
	left := make([]*command, 0, len(c.pending))
	for _, cmd := range c.pending {
		left = append(left, cmd)
	}
	clear(c.pending)
	err = c.err
	c.mu.Unlock()
	for _, cmd := range left {
		c.settle(cmd, func() { cmd.answered, cmd.err = true, err })
	}
	c.lost(c)
}

// response reads one response and hands it on.
func (c *conn) response() error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	switch {
	case line[0] == '*':
		return c.untagged(line)
	case line[0] == '+':
		select {
		case c.goAhead <- struct{}{}:
			return nil
		default:
			return errors.New("the server asks for data that was not announced")
		}
	case line[0] == ownTag:
		return c.tagged(line)
	case line[0] == 'T':
		c.mu.Lock()
		known := c.foreign > 0
		if known {
			c.foreign--
			c.restLocked()
		}
		c.box = box{}
		c.heard = time.Now()
		c.mu.Unlock()
		if !known {
			return unexpected(line)
		}
		_, err := c.pw.Write(line)
		return err
	}
	return unexpected(line)
}

func unexpected(line []byte) error {
	return fmt.Errorf("the server is out of step, it said %q", printable(string(bytes.TrimRight(line, "\r\n"))))
}

// tagged takes the reply to one of our commands.
func (c *conn) tagged(line []byte) error {
	word, rest, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), space)
	tag, err := strconv.ParseUint(string(word[1:]), 10, 64)
	if err != nil {
		return unexpected(line)
	}
	r, ok := parseReply(rest)
	if !ok {
		return unexpected(line)
	}
	c.mu.Lock()
	cmd := c.pending[tag]
	if cmd == nil {
		c.mu.Unlock()
		return unexpected(line)
	}
	delete(c.pending, tag)
	c.restLocked()
	c.heard = time.Now()
	c.mu.Unlock()
	if cmd.verb == "EXAMINE" && r.status == "OK" {
		cmd.box = c.box
	}
	c.box = box{}
	c.settle(cmd, func() { cmd.answered, cmd.reply = true, r })
	if cmd.early != nil {
		close(cmd.early)
	}
	return nil
}

// settle changes cmd under the lock and, when it is answered and nothing of it
// will be written any more, reports it as over. Both are needed: a server may
// refuse a literal it has not read to its end, and until the engine stops
// writing it still reads the messages.
func (c *conn) settle(cmd *command, change func()) {
	c.mu.Lock()
	change()
	over := cmd.answered && cmd.released && !cmd.over
	cmd.over = cmd.over || over
	c.mu.Unlock()
	if !over {
		return
	}
	c.done(cmd)
	if cmd.ended != nil {
		close(cmd.ended)
	}
}

// untagged takes a response that answers no command, or not yet.
func (c *conn) untagged(line []byte) error {
	kind, num := kindOf(line)
	switch kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return c.status(kind, line)
	}
	c.mu.Lock()
	pass := c.foreign > 0 && wanted(kind, num, c.select_)
	c.mu.Unlock()
	size := int64(0)
	for {
		if depth(line) > maxDepth {
			return errors.New("the server nests lists too deeply")
		}
		n, literal, err := literalOf(line)
		if err != nil {
			return err
		}
		if pass {
			if _, err := c.pw.Write(line); err != nil {
				return err
			}
		}
		if !literal {
			return nil
		}
		if size += n; size > c.literals.Load() {
			return fmt.Errorf("the server announces %d octets, more than was asked for", n)
		}
		var to io.Writer = io.Discard
		if pass {
			to = c.pw
		}
		if _, err := io.CopyN(to, c.br, n); err != nil {
			return noEOF(err)
		}
		if line, err = c.readLine(); err != nil {
			return err
		}
		if size += int64(len(line)); size > c.literals.Load()+maxLine {
			return errors.New("a response without end")
		}
	}
}

// status takes "* OK …" and its like. Their text may end in what looks like a
// literal and is none. Only what a folder selection needs reaches go-imap.
func (c *conn) status(kind string, line []byte) error {
	rest := bytes.TrimRight(line[1:], "\r\n")
	r, ok := parseReply(bytes.TrimLeft(rest, " "))
	if !ok {
		return nil
	}
	number := func() uint32 { v, _ := strconv.ParseUint(r.arg, 10, 32); return uint32(v) }
	switch {
	case kind == "BYE" || r.code == "ALERT":
		c.mu.Lock()
		c.bye = r.String()
		c.mu.Unlock()
	case r.code == "UIDVALIDITY":
		c.box.validity = number()
	case r.code == "UIDNEXT":
		c.box.next = number()
	default:
		return nil
	}
	c.mu.Lock()
	pass := c.select_ && c.foreign > 0 && kind == "OK" && number() != 0
	c.mu.Unlock()
	if pass {
		_, err := fmt.Fprintf(c.pw, "* OK [%s %d] selected\r\n", r.code, number())
		return err
	}
	return nil
}

// wanted tells whether go-imap is given responses of a kind.
func wanted(kind string, num, selecting bool) bool {
	switch kind {
	case "FETCH":
		return num && selecting
	case "EXISTS":
		return num && selecting
	case "SEARCH", "ESEARCH":
		return !num && selecting
	case "LIST", "STATUS", "NAMESPACE", "QUOTA", "QUOTAROOT":
		return !num
	}
	return false
}

// readLine returns the next line with its end, valid until the next call.
func (c *conn) readLine() ([]byte, error) {
	c.line = c.line[:0]
	for {
		part, err := c.br.ReadSlice('\n')
		if err == nil && len(c.line) == 0 {
			if len(part) < 2 || part[len(part)-2] != '\r' {
				return nil, unexpected(part)
			}
			if len(part) == 2 {
				return nil, unexpected(part)
			}
			return part, nil
		}
		if len(c.line)+len(part) > maxLine {
			return nil, errors.New("the server sends a line without end")
		}
		c.line = append(c.line, part...)
		if err == nil {
			if !bytes.HasSuffix(c.line, crlf) {
				return nil, unexpected(c.line[:64])
			}
			return c.line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, noEOF(err)
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	return err
}

var errClosed = errors.New("the server closed the connection")

// farewell is what the server said last before it hung up, or an alert.
func (c *conn) farewell() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bye
}

// farewellAndClose takes leave and does not wait for the answer.
func (c *conn) farewellAndClose() {
	if c.usable() && c.wmu.TryLock() {
		_, _ = c.askLocked("LOGOUT", nil)
		_ = c.send()
		c.wmu.Unlock()
	}
	c.fail(errTargetClosed)
}

// mayBeStored tells whether the server may have all of cmd.
func (cmd *command) mayBeStored() bool {
	cmd.conn.mu.Lock()
	defer cmd.conn.mu.Unlock()
	return cmd.sent
}
