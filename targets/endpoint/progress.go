package endpoint

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Conn is a connection to a mail server on which only progress renews the
// time allowed: 4 KiB received, a complete reply (Progress), or a chunk sent.
// A peer that sends one octet now and then is given up like one that is silent.
// Time between reads does not count: a caller may be slow.
//
// One goroutine may read while another writes. Progress, Idle and Close may be
// called at any time.
type Conn struct {
	srv     *Server
	timeout time.Duration

	mu    sync.Mutex
	nc    net.Conn // the TLS connection once there is one
	idle  bool     // nothing is awaited: reads may take for ever
	since time.Time
	spent time.Duration // blocked in Read since the last progress
	got   int           // octets since the last progress
	busy  bool          // a Read is under way, since `since`

	took      time.Duration // what connecting took
	mechanism string        // see Chose
	offered   []string

	log           *slog.Logger // see Trace; nil for none
	hidden        []string     // see Hide
	byCertificate bool         // channel binding is tls-server-end-point; the login alone looks at it
}

const defaultTimeout = time.Minute

// progressOctets is what a peer must send within the timeout to be alive.
const progressOctets = 4 << 10

// writeChunk is sent under one deadline; a large literal is many chunks.
const writeChunk = 64 << 10

func newConn(nc net.Conn, s *Server) *Conn {
	c := &Conn{srv: s, nc: nc}
	c.timeout = c.Timeout()
	return c
}

// Server returns what the connection was dialled with.
func (c *Conn) Server() *Server { return c.srv }

// Timeout returns the time allowed without progress, as configured.
func (c *Conn) Timeout() time.Duration {
	if c.srv.Timeout <= 0 {
		return defaultTimeout
	}
	return c.srv.Timeout
}

// Allow changes the time allowed without progress, for commands that a server
// may think about for long. Only Timeout reads it back as it was.
func (c *Conn) Allow(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = d
	c.arm()
}

func (c *Conn) conn() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc
}

// Read reads from the server. It fails with a timeout when there was no
// progress for the server's Timeout.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	nc := c.nc
	c.busy, c.since = true, time.Now()
	c.arm()
	c.mu.Unlock()

	n, err := nc.Read(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if !c.idle {
		c.spent += time.Since(c.since)
	}
	if c.got += n; c.got >= progressOctets {
		c.got, c.spent = 0, 0
	}
	return n, err
}

// arm sets the read deadline for the Read under way.
func (c *Conn) arm() {
	if !c.busy {
		return
	}
	var at time.Time
	if !c.idle {
		at = c.since.Add(c.timeout - c.spent)
	}
	_ = c.nc.SetReadDeadline(at) // fails on a closed connection only, and then Read says so
}

// Progress says that a complete reply came, or that a new one is awaited: the
// time allowed starts again.
func (c *Conn) Progress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got, c.spent, c.since = 0, 0, time.Now()
	c.arm()
}

// Idle tells whether a reply is awaited. While it is not, a Read may block for
// ever; as soon as it is, the time allowed starts.
func (c *Conn) Idle(idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == idle {
		return
	}
	c.idle = idle
	c.got, c.spent, c.since = 0, 0, time.Now()
	c.arm()
}

// Write sends p, 64 KiB at a time, each within the time allowed.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	nc, timeout := c.nc, c.timeout
	c.mu.Unlock()
	sent := 0
	for {
		chunk := p[sent:min(len(p), sent+writeChunk)]
		if err := nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return sent, err
		}
		n, err := nc.Write(chunk)
		sent += n
		if err != nil || sent == len(p) {
			return sent, err
		}
	}
}

// CloseOn closes the connection when ctx ends, which is how a context reaches
// a blocked read. stop undoes it, and reports whether it was in time.
func (c *Conn) CloseOn(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.Close() })
}

// Close closes the connection; blocked reads and writes fail.
func (c *Conn) Close() error {
	// Not through tls.Conn.Close, which waits for a writer that may be stuck.
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn().Close()
	}
	return nc.Close()
}

// LocalAddr returns our end's address.
func (c *Conn) LocalAddr() net.Addr { return c.conn().LocalAddr() }

// RemoteAddr returns the server's address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn().RemoteAddr() }

// The deadlines of a Conn are its own; libraries above may not change them,
// because theirs are absolute and would cut a large transfer.

// SetDeadline does nothing.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
