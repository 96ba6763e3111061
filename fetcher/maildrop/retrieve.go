package maildrop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"sync"
	"time"
)

const (
	// What may be asked for ahead. 256 commands are 3 KiB and can never fill a
	// socket, so neither side waits for the other to read; fewer would bound a
	// pass over a long link.
	windowCommands = 256
	windowOctets   = 8 << 20

	topOctets  = 256 << 10 // of a header that Top gives out
	topGuess   = 32 << 10  // of a header, to count in the window
	leastLimit = 100 << 20 // what a body may have whatever LIST says

	emptyOctets = 2 // what LIST may say of an empty mail: servers count its CRLF
)

// Incoming is one message, or why it did not come.
type Incoming struct {
	Entry
	// Body is good until the next iteration; what is not read of it by then is
	// thrown away. An error of Read other than io.EOF is the end of the
	// connection and of the iteration; a body that ends early is never io.EOF.
	Body io.Reader
	// Err is -ERR for this one message, if Usable, and the iteration goes on.
	// Otherwise the connection has ended: this message and all after it were
	// not fetched, and this is the last iteration.
	Err error
}

// Retrieve fetches messages in the order of want, asking for up to 256 of them
// and 8 MiB (by LIST) ahead if the server pipelines. want is pulled only when
// there is room to ask for one more, and may block; when it ends, what was
// asked for still comes.
//
// When ctx ends or the loop is left, nothing more is asked for. What is on its
// way is then read and thrown away, so that the session can be used on to
// delete and to QUIT; if that takes longer than three seconds the connection is
// closed instead. After ctx ended the loop just ends: ask ctx whether it did.
func (c *Conn) Retrieve(ctx context.Context, want iter.Seq[Entry]) iter.Seq[Incoming] {
	return c.fetch(ctx, want, fetch{
		verb: "RETR",
		cost: func(e Entry) int64 { return e.Size },
	})
}

// Top fetches headers (TOP n 0), of each at most 256 KiB. It is else as
// Retrieve. Servers without TOP answer each with -ERR; some send body as well.
func (c *Conn) Top(ctx context.Context, want iter.Seq[Entry]) iter.Seq[Incoming] {
	return c.fetch(ctx, want, fetch{
		verb: "TOP", arg: " 0", show: topOctets,
		cost: func(e Entry) int64 { return min(e.Size, topGuess) },
	})
}

// TopLines fetches headers and as many lines of the bodies. It is for looking: to
// many servers RETR means that the message was taken, and is to be marked as read
// or never shown again, and TOP does not.
func (c *Conn) TopLines(ctx context.Context, want iter.Seq[Entry], lines int) iter.Seq[Incoming] {
	return c.fetch(ctx, want, fetch{
		verb: "TOP", arg: " " + strconv.Itoa(lines),
		cost: func(e Entry) int64 { return e.Size },
	})
}

// fetch is one run of Retrieve, Top or TopLines.
type fetch struct {
	verb, arg string
	show      int64 // octets of a body to give out; 0 is all
	cost      func(Entry) int64

	pull   func() (Entry, bool)
	held   []Entry // pulled, but the window was full: at most one
	flight []Entry // asked for, in order
	octets int64   // of these, by LIST
}

func (f *fetch) op(e Entry) op { return op{f.verb, e.Num, f.arg} }

func (c *Conn) fetch(ctx context.Context, want iter.Seq[Entry], f fetch) iter.Seq[Incoming] {
	return func(yield func(Incoming) bool) {
		if ctx.Err() != nil {
			return
		}
		f := f // an iterator may be run again
		var stop func()
		f.pull, stop = iter.Pull(want)
		defer stop()
		g := guard(ctx, c)
		defer g.stop()
		// A panic in the loop's body leaves replies behind that nobody reads.
		inStep := false
		defer func() {
			if !inStep {
				_ = c.fail(ctx, f.verb, errors.New("the loop was left by a panic"))
			}
		}()
		f.run(ctx, c, g, yield)
		inStep = true
	}
}

func (f *fetch) run(ctx context.Context, c *Conn, g *grace, yield func(Incoming) bool) {
	for more := true; more; {
		err := f.refill(ctx, c)
		if len(f.flight) == 0 && len(f.held) == 0 || ctx.Err() != nil && err == nil {
			break
		}
		if err != nil {
			first := f.held
			if len(f.flight) > 0 {
				first = f.flight
			}
			yield(Incoming{Entry: first[0], Err: err})
			return
		}
		e := f.land()
		op := f.op(e)
		if err := c.replyTo(ctx, op); err != nil {
			more = yield(Incoming{Entry: e, Err: err})
			if c.err != nil {
				return
			}
			continue
		}
		b := c.newBody(ctx, e, op, f.show)
		if more = yield(Incoming{Entry: e, Body: b}); !more {
			g.start()
		}
		if b.finish() != nil {
			return
		}
	}
	g.start()
	f.drain(ctx, c)
}

// refill sends as many commands as the window takes, and one at least if there
// is one, so that there is a reply to wait for.
func (f *fetch) refill(ctx context.Context, c *Conn) error {
	window := 1
	if c.caps.Pipelining && c.pipelining() {
		window = windowCommands
	}
	for len(f.flight) < window && ctx.Err() == nil {
		if len(f.held) == 0 {
			e, ok := f.pull()
			if !ok {
				return nil
			}
			f.held = append(f.held, e)
		}
		e := f.held[0]
		if len(f.flight) > 0 && f.octets+f.cost(e) > windowOctets {
			return nil
		}
		if err := c.sendOp(ctx, f.op(e)); err != nil {
			return err
		}
		f.held, f.flight, f.octets = f.held[:0], append(f.flight, e), f.octets+f.cost(e)
	}
	return nil
}

// land takes the entry whose reply comes next.
func (f *fetch) land() Entry {
	e := f.flight[0]
	f.flight, f.octets = f.flight[1:], f.octets-f.cost(e)
	return e
}

// drain reads the replies that are still to come.
func (f *fetch) drain(ctx context.Context, c *Conn) {
	for len(f.flight) > 0 {
		e := f.land()
		op := f.op(e)
		switch err := c.replyTo(ctx, op); {
		case !Usable(err):
			return
		case err == nil:
			if c.newBody(ctx, e, op, f.show).finish() != nil {
				return
			}
		}
	}
}

// pipelining reports whether the configuration allows it.
func (c *Conn) pipelining() bool { return c.cfg.Pipelining != "off" }

// body is the reader of one message.
type body struct {
	c     *Conn
	ctx   context.Context //nolint:containedctx // a reader cannot be given one
	op    op
	dots  dotReader
	left  []byte
	size  int64 // by LIST
	n     int64 // octets read
	limit int64 // of n
	show  int64 // octets to give out; then it is io.EOF
	over  bool  // the iteration went on
}

func (c *Conn) newBody(ctx context.Context, e Entry, op op, show int64) *body {
	b := &body{c: c, ctx: ctx, op: op, dots: dotReader{lc: c.lc}, size: e.Size, limit: c.Ceiling, show: show}
	if b.limit <= 0 {
		b.limit = max(leastLimit, 2*e.Size)
	}
	return b
}

var errOver = errors.New("body of an earlier message")

// next returns the next piece. Its errors other than io.EOF end the connection.
func (b *body) next() ([]byte, error) {
	piece, err := b.dots.next()
	if err == io.EOF { //nolint:errorlint // dotReader's own
		if b.n == 0 && b.show == 0 && b.size > emptyOctets {
			// The dot was the mail's first line and not the end, so the rest of it
			// comes where the next reply should be. An empty mail must not be
			// delivered, and deleted, in its place.
			b.dots.err = b.c.fail(b.ctx, b.op.String(), botchf("the body ends at once, LIST says %d octets", b.size))
			return nil, b.dots.err
		}
		return nil, err
	}
	if err != nil {
		return nil, b.c.fail(b.ctx, b.op.String(), err)
	}
	if b.n += int64(len(piece)); b.n > b.limit {
		b.c.err = &Error{Kind: TooLarge, Op: b.op.String(), Err: fmt.Errorf("more than %d octets, which is more than allowed", b.limit)}
		b.c.nc.Close()
		b.dots.err = b.c.err
		return nil, b.c.err
	}
	return piece, nil
}

// shown is next, as far as it is to be given out.
func (b *body) shown() ([]byte, error) {
	if b.over {
		return nil, errOver
	}
	if b.show > 0 && b.n >= b.show {
		return nil, io.EOF
	}
	piece, err := b.next()
	if b.show > 0 && b.n > b.show {
		piece = piece[:int64(len(piece))-(b.n-b.show)]
	}
	return piece, err
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		var err error
		if b.left, err = b.shown(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// WriteTo spares io.Copy its buffer.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	piece := b.left
	b.left = nil
	for {
		n, err := w.Write(piece)
		sum += int64(n)
		if err != nil {
			return sum, err
		}
		if piece, err = b.shown(); err == io.EOF { //nolint:errorlint // dotReader's own
			return sum, nil
		} else if err != nil {
			return sum, err
		}
	}
}

// finish reads what is left, so that the next reply is at hand.
func (b *body) finish() error {
	b.over, b.left = true, nil
	for {
		if _, err := b.next(); err == io.EOF { //nolint:errorlint // dotReader's own
			b.c.nc.Progress()
			return nil
		} else if err != nil {
			return err
		}
	}
}

// grace closes a connection some time after its user lost interest.
type grace struct {
	c      *Conn
	unhook func() bool
	mu     sync.Mutex
	timer  *time.Timer
	over   bool
}

// guard starts the time when ctx ends.
func guard(ctx context.Context, c *Conn) *grace {
	g := &grace{c: c}
	g.unhook = context.AfterFunc(ctx, g.start)
	return g
}

func (g *grace) start() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over && g.timer == nil {
		g.timer = time.AfterFunc(g.c.linger, func() { g.c.nc.Close() })
	}
}

// stop must be called when the session is in step, or over.
func (g *grace) stop() {
	g.unhook()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	if g.timer != nil {
		g.timer.Stop()
	}
}
