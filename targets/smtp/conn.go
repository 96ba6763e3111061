package smtp

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"popferry/targets"
	"popferry/targets/endpoint"
)

// conn is one session. After the login it belongs to the goroutine that serves
// it; fail may be called by others.
type conn struct {
	nc   *endpoint.Conn
	br   *bufio.Reader
	bw   *bufio.Writer
	buf  []byte
	helo string
	peer *gosmtp.Client // while logging in

	pipelining bool
	eightBit   bool
	utf8       bool
	hasSize    bool  // the size may be told
	size       int64 // largest message; 0 is not known
	mechanisms []string

	work   chan *job // with room for one: what an idle connection is given
	busy   bool      // under Target.mu: not idle
	stale  bool      // it was used before, and has not answered to anything of this message
	open   bool      // a transaction may be open at the server, so RSET comes first
	broken bool      // of no more use
}

// connect dials and logs in.
func (t *Target) connect(ctx context.Context) (*conn, error) {
	c, err := t.connectOnce(ctx)
	if e, ok := errors.AsType[*endpoint.Error](err); ok && e.Again {
		t.log.Info("the token is not accepted any more, asking for another", "target", t.name, "err", err)
		c, err = t.connectOnce(ctx)
	}
	return c, err
}

func (t *Target) connectOnce(ctx context.Context) (*conn, error) {
	nc, err := t.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	nc.Trace(t.log.With("target", t.name))
	stop := nc.CloseOn(ctx)
	c := &conn{
		nc: nc, br: bufio.NewReaderSize(nc, maxLine), bw: bufio.NewWriterSize(nc, 64<<10), buf: make([]byte, chunk),
		work: make(chan *job, 1),
	}
	c.helo = heloName(t.cfg.Helo, hostName(), hostOf(nc.LocalAddr()))
	err = c.login(ctx, &t.cfg)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	t.leaf.Store(nc.Certificate())
	return c, nil
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

func hostOf(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return "127.0.0.1"
}

// login takes the session up to where mail can be sent. Errors are *targets.Error
// that say Down, or *endpoint.Error.
func (c *conn) login(ctx context.Context, cfg *Config) error {
	r, err := c.reply()
	if err != nil {
		return down("greeting", err)
	}
	if r.code != 220 {
		return refused("greeting", r)
	}
	if err := c.hello(cfg.LMTP); err != nil {
		return err
	}
	if cfg.TLS == endpoint.StartTLS {
		if err := c.startTLS(ctx); err != nil {
			return err
		}
		if err := c.hello(cfg.LMTP); err != nil {
			return err
		}
	}
	if cfg.User != "" {
		if err := c.authenticate(ctx, cfg); err != nil {
			return err
		}
	}
	if c.br.Buffered() > 0 {
		return down("login", errOutOfStep)
	}
	return nil
}

// hello asks for the extensions. The greeting was read already, and after
// STARTTLS there is none, so go-smtp is shown one that says nothing.
func (c *conn) hello(lmtp bool) error {
	l := &lines{Conn: c.nc, c: c, rest: []byte("220 \r\n")}
	c.peer = gosmtp.NewClient(l)
	op := "EHLO"
	if lmtp {
		c.peer, op = gosmtp.NewClientLMTP(l), "LHLO"
	}
	if err := c.peer.Hello(c.helo); err != nil {
		return down(op, err)
	}
	c.pipelining, _ = c.peer.Extension("PIPELINING")
	c.eightBit, _ = c.peer.Extension("8BITMIME")
	c.utf8, _ = c.peer.Extension("SMTPUTF8")
	hasSize, size := c.peer.Extension("SIZE")
	c.hasSize = hasSize
	c.size, _ = strconv.ParseInt(strings.TrimSpace(size), 10, 64)
	_, mechanisms := c.peer.Extension("AUTH")
	c.mechanisms = strings.Fields(mechanisms)
	return nil
}

// startTLS changes to TLS and forgets all that was said before.
func (c *conn) startTLS(ctx context.Context) error {
	const op = "STARTTLS"
	if ok, _ := c.peer.Extension(op); !ok {
		return c.nc.Server().NoTLS(op, "", 465)
	}
	c.nc.Sent(op)
	if _, err := io.WriteString(c.nc, "STARTTLS\r\n"); err != nil {
		return down(op, err)
	}
	r, err := c.reply()
	switch {
	case err != nil:
		return down(op, err)
	case r.code != 220:
		return c.nc.Server().NoTLS(op, r.raw(), 465)
	case c.br.Buffered() > 0:
		return c.nc.Server().SentAhead(op)
	}
	return c.nc.StartTLS(ctx)
}

// authenticate logs in by the best way both sides know (RFC 4954).
func (c *conn) authenticate(ctx context.Context, cfg *Config) error {
	mech, err := cfg.Mechanism(c.mechanisms, c.nc.Secure())
	if err != nil {
		return err
	}
	c.nc.Chose(mech, c.mechanisms)
	password, err := cfg.Secret(ctx)
	if err != nil {
		return err
	}
	op := fmt.Sprintf("login as %q", cfg.User)
	for {
		x, err := c.nc.NewExchange(mech, c.mechanisms, password)
		if err != nil {
			return down(op, err)
		}
		if err = c.peer.Auth(&answers{Exchange: x}); err == nil {
			err = x.Done()
		}
		said, refused := errors.AsType[*gosmtp.SMTPError](err)
		switch {
		case err == nil:
			cfg.Judged(ctx, password, nil)
			return nil
		case !refused:
			return down(op, err)
		case x.Again():
			continue
		}
		r := replyOf(said)
		e := c.nc.LoginRefused(mech, r.raw(), x.Said())
		if !r.aboutCredentials() {
			e.Code = endpoint.CodeLoginUnavailable
		}
		cfg.Judged(ctx, password, e)
		return &targets.Error{Fault: targets.Down, Op: op, Err: e}
	}
}

// aboutCredentials reports whether a reply to AUTH is about user and password
// (RFC 4954 §6). One that begins with 4 is about the server, and 500 to 504 about
// the command.
func (r reply) aboutCredentials() bool {
	return r.code/100 == 5 && r.code > 504
}

// maxAuthLine is the longest AUTH that may carry an initial response (RFC 4954
// §4, RFC 5321 §4.5.3.1.4).
const maxAuthLine = 510

// answers is an exchange as go-smtp wants it: a first answer that is too long for
// the command's line waits until the server asks, and empty ones are sent, for
// nil would be the end of the dialogue.
type answers struct {
	endpoint.Exchange
	held []byte
}

func (a *answers) Start() (string, []byte, error) {
	mech, first, err := a.Exchange.Start()
	if len("AUTH ")+len(mech)+1+base64.StdEncoding.EncodedLen(len(first)) > maxAuthLine {
		first, a.held = nil, first
	}
	return mech, first, err
}

func (a *answers) Next(challenge []byte) ([]byte, error) {
	if first := a.held; first != nil {
		a.held = nil
		return first, nil
	}
	p, err := a.Exchange.Next(challenge)
	if p == nil {
		p = []byte{}
	}
	return p, err
}

// down is a failure before anything can be delivered.
func down(op string, err error) error {
	e := &targets.Error{Fault: targets.Down, Op: op, Err: err}
	if said, ok := errors.AsType[*gosmtp.SMTPError](err); ok {
		e.Reply, e.Err = replyOf(said).String(), nil
	}
	return e
}

// replyOf is what go-smtp read.
func replyOf(said *gosmtp.SMTPError) reply {
	r := reply{code: said.Code, text: strings.ReplaceAll(said.Message, "\n", " ")}
	if said.EnhancedCode != (gosmtp.EnhancedCode{}) {
		r.enhanced = fmt.Sprintf("%d.%d.%d", said.EnhancedCode[0], said.EnhancedCode[1], said.EnhancedCode[2])
	}
	return r
}

func refused(op string, r reply) error {
	return &targets.Error{Fault: targets.Down, Op: op, Reply: r.String()}
}

// reply reads the next reply. The time allowed starts anew with each.
func (c *conn) reply() (reply, error) {
	var r reply
	c.nc.Progress()
	for octets := 0; ; {
		line, err := c.line()
		if err != nil {
			return r, err
		}
		if octets += len(line); octets > maxReply {
			return r, errEndless
		}
		code, text, more, ok := parseLine(strings.TrimRight(string(line), "\r\n"))
		if !ok || r.code != 0 && code != r.code {
			return r, fmt.Errorf("%w: %q", errOutOfStep, endpoint.Printable(string(line), 100))
		}
		r.code = code
		r.add(text)
		if !more {
			return r, nil
		}
	}
}

var errEndless = errors.New("the server talks without end")

// line reads a line with its end, valid until the next call.
func (c *conn) line() ([]byte, error) {
	line, err := c.br.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errEndless
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	}
	if err == nil && c.nc.Tracing() {
		c.nc.Got(string(line))
	}
	return line, err
}

// lines is the connection as go-smtp sees it: one line a Read, so that nothing
// that follows a reply ends in a buffer of its own.
type lines struct {
	*endpoint.Conn
	c      *conn
	rest   []byte // of a line
	octets int    // since something was sent
}

// Read returns at most one line.
func (l *lines) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		line, err := l.c.line()
		if err != nil {
			return 0, err
		}
		if l.octets += len(line); l.octets > maxReply {
			return 0, errEndless
		}
		l.rest = line
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// Write sends a command: the time allowed for its reply starts.
func (l *lines) Write(p []byte) (int, error) {
	l.octets = 0
	l.Progress()
	if l.Tracing() {
		l.Sent(string(p))
	}
	return l.Conn.Write(p)
}

// quitTime is how long a server may take to say goodbye.
const quitTime = 2 * time.Second

// quit ends the session in order, when nothing is under way.
func (c *conn) quit() {
	c.nc.Allow(quitTime)
	if _, err := io.WriteString(c.nc, "QUIT\r\n"); err == nil {
		_, _ = c.reply() // whatever it says, it is over
	}
	c.nc.Close()
}

// Certificate is part of targets.Certified.
func (t *Target) Certificate() *x509.Certificate { return t.leaf.Load() }
