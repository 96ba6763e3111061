package targetstest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Way is a direction of a Proxy's traffic.
type Way int

// The two directions.
const (
	Up   Way = iota // from the client to the server
	Down            // from the server to the client
)

// End is how a Proxy ends a connection.
type End int

// The ways to end.
const (
	FIN   End = iota // an orderly end
	RST              // a reset: what is under way is lost
	Stall            // nothing more, and no end until the other side gives up
)

// Proxy passes connections on to a server and spoils some of them: the first
// Times connections end, as How says, when After octets have gone the Way.
type Proxy struct {
	Server string // host:port
	Way    Way
	After  int64
	How    End
	Times  int
	Delay  time.Duration // each way, without limiting the rate
	// Pick, if it is set, decides about the n-th connection, from 1, in place of
	// Way, After, How and Times. A negative after spares it.
	Pick func(n int) (way Way, after int64, how End)

	octets [2]atomic.Int64 // by Way

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	seen  int
	done  chan struct{}
	wg    sync.WaitGroup
}

// Start listens on a free port of 127.0.0.1 and passes on until Close.
func (p *Proxy) Start() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.ln, p.conns, p.done = ln, map[net.Conn]bool{}, make(chan struct{})
	p.wg.Go(p.accept)
	return nil
}

// Port is where it listens.
func (p *Proxy) Port() int { return p.ln.Addr().(*net.TCPAddr).Port }

// Octets is how many have gone a way so far.
func (p *Proxy) Octets(w Way) int64 { return p.octets[w].Load() }

// Close ends all connections and waits for their goroutines.
func (p *Proxy) Close() error {
	err := p.ln.Close()
	p.mu.Lock()
	close(p.done)
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.Server)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.seen++
		n := p.seen
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		l := &lane{p: p, a: client, b: server}
		way, after := p.Way, int64(-1)
		if p.Pick != nil {
			way, after, l.how = p.Pick(n)
		} else if n <= p.Times {
			after, l.how = p.After, p.How
		}
		limit := map[Way]int64{way: after, 1 - way: -1}
		p.wg.Go(func() { l.pass(server, client, Up, limit[Up]) })
		p.wg.Go(func() { l.pass(client, server, Down, limit[Down]) })
	}
}

// lane is one connection through the proxy.
type lane struct {
	p    *Proxy
	a, b net.Conn
	how  End
}

// counted counts what is written.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// CloseWrite ends the way.
func (c counted) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// pass copies from one end to the other, limit octets if it is not negative.
func (l *lane) pass(to, from net.Conn, w Way, limit int64) {
	if l.p.Delay > 0 {
		to = newDelayed(to, l.p)
	}
	to = counted{to, &l.p.octets[w]}
	if limit < 0 {
		io.Copy(to, from)
		if c, ok := to.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
		return
	}
	if _, err := io.CopyN(to, from, limit); err != nil {
		l.a.Close()
		l.b.Close()
		return
	}
	switch l.how {
	case Stall:
		io.Copy(io.Discard, from)
	case RST:
		l.a.(*net.TCPConn).SetLinger(0)
		l.b.(*net.TCPConn).SetLinger(0)
	}
	l.a.Close()
	l.b.Close()
}

// delayed holds back what is written, so that it arrives Delay later.
type delayed struct {
	net.Conn
	queue chan parcel
	p     *Proxy
}

type parcel struct {
	due  time.Time
	data []byte
}

func newDelayed(nc net.Conn, p *Proxy) net.Conn {
	d := &delayed{Conn: nc, queue: make(chan parcel, 4096), p: p}
	p.wg.Go(func() {
		for {
			select {
			case x, ok := <-d.queue:
				if !ok {
					d.Conn.(*net.TCPConn).CloseWrite()
					return
				}
				select {
				case <-time.After(time.Until(x.due)):
				case <-p.done:
					return
				}
				if _, err := d.Conn.Write(x.data); err != nil {
					return
				}
			case <-p.done:
				return
			}
		}
	})
	return d
}

func (d *delayed) Write(b []byte) (int, error) {
	select {
	case d.queue <- parcel{time.Now().Add(d.p.Delay), append([]byte(nil), b...)}:
		return len(b), nil
	case <-d.p.done:
		return 0, net.ErrClosed
	}
}

func (d *delayed) CloseWrite() error {
	close(d.queue)
	return nil
}
