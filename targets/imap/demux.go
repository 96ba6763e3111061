package imap

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"popferry/targets/endpoint"
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

	line []byte               // read's line, reused
	view atomic.Pointer[view] // who wants FETCH responses while go-imap asks for none
	box  box                  // what the folder data since the last EXAMINE reply said
	gone chan struct{}
	done func(*command) // called once for every engine command that is over, with no lock held
	lost func(*conn)    // called once when the connection has ended, after done for all but one being written

	sent, got func(line string) // trace; nil for no trace
	facts     endpoint.Facts    // of the connection

	slot slot // the pool's view, guarded by Target.mu
}

// box is what an EXAMINE tells of a folder; 0 is "did not say".
type box struct{ validity, next, exists uint32 }

// command is one of the engine's commands.
type command struct {
	conn   *conn
	verb   string
	folder *folder
	jobs   []*job   // of an APPEND, in order
	exam   *command // of an APPEND: the command before it that opened the folder
	octets int64
	gen    uint32 // of an EXAMINE: its folder's when it was sent

	// Guarded by conn.mu.
	tag      uint64
	sent     bool // its last octet may have left
	released bool // nothing of it will be written any more
	answered bool
	over     bool
	reply    reply
	words    string // of reply, made printable once for all of jobs
	box      box    // of an EXAMINE, once answered
	err      error  // why it has no reply
	bad      int    // of jobs, the one whose body could not be read

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
	if c.sent != nil {
		c.sent(string(p))
	}
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
