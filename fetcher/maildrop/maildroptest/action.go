package maildroptest

import (
	"io"
	"net"
	"time"
)

// Action is what a Hook wants done with one command. The zero Action answers
// it properly.
type Action struct {
	Reply  string    // raw octets to send instead of the proper reply; the command has no effect
	Before string    // raw octets to send ahead of the reply
	After  string    // raw octets to send behind it, in the same segment
	Stream io.Reader // octets to send behind all that as they come, for replies that do not end

	Delay time.Duration // before replying
	Cut   Cut           // how to end the connection
	At    int           // octets of all this to send before Cut; -1 sends it all
	// NoCommit keeps QUIT from deleting anything.
	NoCommit bool
	// Then is called when the reply has been sent, or cut.
	Then func()
}

// Cut is a way for a connection to end.
type Cut int

const (
	Stay  Cut = iota // it does not
	FIN              // the server closes it
	RST              // the server resets it
	Stall            // the server sends nothing any more, and waits for the client to hang up
)

// limited passes on a number of octets, then fails.
type limited struct {
	w    io.Writer
	left int // -1: no limit
}

var errCut = io.ErrClosedPipe

func (l *limited) Write(p []byte) (int, error) {
	if l.left < 0 || len(p) <= l.left {
		n, err := l.w.Write(p)
		if l.left >= 0 {
			l.left -= n
		}
		return n, err
	}
	n, err := l.w.Write(p[:l.left])
	l.left = 0
	if err == nil {
		err = errCut
	}
	return n, err
}

// cut ends a connection.
func cut(nc net.Conn, how Cut) {
	switch how {
	case RST:
		if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
			nc = t.NetConn()
		}
		if t, ok := nc.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		nc.Close()
	case FIN:
		if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
			nc = t.NetConn()
		}
		// What the client sent and nobody read would make this a reset, and a
		// reset takes back what is under way to the client.
		if t, ok := nc.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, nc)
		nc.Close()
	case Stall:
		_, _ = io.Copy(io.Discard, nc)
		nc.Close()
	}
}
