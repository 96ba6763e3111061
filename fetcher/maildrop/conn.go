package maildrop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/go-pop3"

	"popferry/targets/endpoint"
)

// Conn is a POP3 session after login. It is used by one goroutine at a time;
// only Close may be called at any time.
type Conn struct {
	// Ceiling bounds the octets of one body; a longer one is TooLarge. 0 is the
	// larger of 100 MiB and twice what LIST says. Set it before Retrieve.
	Ceiling int64

	cfg   *Config
	nc    *endpoint.Conn
	lc    *lineConn
	pop   *pop3.Conn
	log   *slog.Logger
	trace bool
	caps  Caps
	late  bool // caps are those after login
	in    bool // logged in: nothing secret is sent any more
	due   int  // replies that are still to come
	err   error
	// linger is drainTime; tests have less patience.
	linger time.Duration
}

const (
	// loginTime is the least time a server has to answer a login. Dovecot takes
	// 10.6 s to say that a maildrop is locked, others wait for file locks.
	loginTime = 30 * time.Second
	// quitTime likewise: the server deletes now.
	quitTime = 2 * time.Minute
	// drainTime is how long what is on its way may keep a session from being
	// used on, after its reader gave up.
	drainTime = 3 * time.Second
)

// Dial connects to the maildrop, secures the connection and logs in. A nil log
// logs nothing. The round trips after TCP and TLS are: greeting, STLS if
// configured, CAPA, and the login (one for PLAIN).
//
// Errors are *endpoint.Error or *Error; of those, LoginRefused is the only one
// that speaks of user and password. When ctx ends the connection is closed;
// later it has no hold on it.
func Dial(ctx context.Context, cfg *Config, log *slog.Logger) (*Conn, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := dialOnce(ctx, cfg, log)
	if e, ok := errors.AsType[*Error](err); ok && e.Login != nil && e.Login.Again {
		log.Info("the token is not accepted any more, asking for another", "err", err)
		c, err = dialOnce(ctx, cfg, log)
	}
	return c, err
}

func dialOnce(ctx context.Context, cfg *Config, log *slog.Logger) (*Conn, error) {
	// First of all: a server should not wait for a slow password command.
	password, err := cfg.Secret(ctx)
	if err != nil {
		return nil, err
	}
	nc, err := cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &Conn{cfg: cfg, nc: nc, lc: newLineConn(nc, cfg.AllowLF), log: log, trace: log.Enabled(ctx, slog.LevelDebug), linger: drainTime}
	stop := nc.CloseOn(ctx)
	err = c.open(ctx, password)
	if !stop() && err == nil {
		err = c.fail(ctx, "login", context.Cause(ctx))
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) open(ctx context.Context, password string) error {
	nc := c.nc
	nc.Allow(max(nc.Timeout(), loginTime))
	if err := c.greet(ctx); err != nil {
		return err
	}
	timestamp := apopTimestamp(c.lc.last.text)
	if c.cfg.TLS == endpoint.StartTLS {
		if err := c.startTLS(ctx); err != nil {
			return err
		}
	}
	caps, err := c.capa(ctx)
	if err != nil {
		return err
	}
	c.caps = caps
	nc.Hide(password)
	if err := c.login(ctx, password, timestamp); err != nil {
		return err
	}
	c.cfg.Judged(ctx, password, nil)
	c.in = true
	nc.Allow(nc.Timeout())
	return nil
}

// CertificateEnds returns when the server's certificate does, zero without TLS.
func (c *Conn) CertificateEnds() time.Time {
	if leaf := c.nc.Certificate(); leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

// greet waits for the greeting. -ERR there is a server that wants no session.
func (c *Conn) greet(ctx context.Context) error {
	pop, err := pop3.New(pop3.Opt{Dialer: c.lc}).NewConn()
	c.pop = pop
	switch {
	case c.lc.err != nil:
		return c.fail(ctx, "greeting", c.lc.err)
	case err != nil:
		text := c.lc.last.text
		return &Error{Kind: Unavailable, Code: codeOf(text), Op: "greeting", Reply: errReply(text)}
	}
	c.debug("greeting")
	return nil
}

// startTLS does RFC 2595 §4. Nothing asked before it is of use after it.
func (c *Conn) startTLS(ctx context.Context) error {
	switch err := c.command(ctx, "STLS"); {
	case Usable(err) && err != nil:
		return c.cfg.NoTLS("STLS", errReply(c.lc.last.text), 995)
	case err != nil:
		return err
	}
	if c.lc.br.Buffered() > 0 {
		return c.cfg.SentAhead("STLS")
	}
	return c.nc.StartTLS(ctx)
}

// capa asks for capabilities. A server without CAPA has none.
func (c *Conn) capa(ctx context.Context) (Caps, error) {
	if err := c.send(ctx, "CAPA"); err != nil {
		return Caps{}, err
	}
	return c.readCaps(ctx)
}

func (c *Conn) readCaps(ctx context.Context) (Caps, error) {
	caps := Caps{}
	if err := c.reply(ctx, "CAPA"); err != nil {
		if Usable(err) {
			err = nil
		}
		return caps, err
	}
	caps.Known = true
	err := c.lines(ctx, "CAPA", maxCaps, func(line []byte) { caps.add(string(line)) })
	return caps, err
}

// Caps returns the server's capabilities: those after login once List has run,
// those before it until then.
func (c *Conn) Caps() Caps { return c.caps }

// Facts returns what the connection has shown of the server.
func (c *Conn) Facts() endpoint.Facts { return c.nc.Facts() }

// Quit ends the session. Only now the server deletes what was marked, and after
// nil it has. After -ERR (Refused) some of it may be left, after Lost nobody
// knows: the next listing tells. The connection is closed in any case.
func (c *Conn) Quit(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		c.nc.Close()
		return err
	}
	defer end()
	c.nc.Allow(max(c.nc.Timeout(), quitTime))
	err = c.command(ctx, "QUIT")
	c.nc.Close()
	c.end("QUIT was sent")
	return err
}

// Close hangs up. The server deletes nothing of what was marked.
func (c *Conn) Close() error { return c.nc.Close() }

func (c *Conn) end(why string) {
	if c.err == nil {
		c.err = &Error{Kind: Lost, Op: "session", Err: errors.New(why)}
	}
}

// begin readies a method that closes the connection when ctx ends. A context
// that has ended already does no harm to it.
func (c *Conn) begin(ctx context.Context) (end func(), err error) {
	if c.err != nil {
		return nil, c.err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	stop := c.nc.CloseOn(ctx)
	return func() {
		if !stop() {
			c.end(context.Cause(ctx).Error())
		}
	}, nil
}

// fail ends the connection and returns why, as every later call will.
func (c *Conn) fail(ctx context.Context, op string, err error) error {
	if c.err != nil {
		return c.err
	}
	e := &Error{Kind: Lost, Op: op, Err: err}
	var b *botch
	switch {
	case ctx.Err() != nil:
		e.Err = context.Cause(ctx)
	case errors.As(err, &b):
		e.Kind = Botched
	case endpoint.IsTimeout(err):
		e.Err = fmt.Errorf("no progress for %s: %w", c.nc.Timeout(), err)
	}
	c.err = e
	c.nc.Close()
	return e
}

// command is send and reply.
func (c *Conn) command(ctx context.Context, cmd string) error {
	if err := c.send(ctx, cmd); err != nil {
		return err
	}
	return c.reply(ctx, cmd)
}

// send queues one command line; it leaves with the next wait for a reply.
func (c *Conn) send(ctx context.Context, cmd string) error {
	return c.sendSecret(ctx, cmd, cmd)
}

// sendSecret is send for a line that may be logged only as shown.
func (c *Conn) sendSecret(ctx context.Context, cmd, shown string) error {
	// The second line would be a second command, with a reply of its own.
	if strings.ContainsAny(cmd, "\r\n\x00") {
		return c.fail(ctx, shown, errors.New("argument with a line break or a NUL"))
	}
	if err := c.sending(ctx, op{verb: shown}); err != nil {
		return err
	}
	if err := c.pop.Send(cmd); err != nil {
		return c.fail(ctx, shown, err)
	}
	return nil
}

// op is a command about a message. It is text only where somebody reads it:
// there are two of them for every message.
type op struct {
	verb string
	num  int    // of the message; 0 for none
	arg  string // with a blank before it
}

func (o op) append(b []byte) []byte {
	b = append(b, o.verb...)
	if o.num != 0 {
		b = strconv.AppendInt(append(b, ' '), int64(o.num), 10)
	}
	return append(b, o.arg...)
}

func (o op) String() string { return string(o.append(nil)) }

// sendOp is send without the string.
func (c *Conn) sendOp(ctx context.Context, o op) error {
	if err := c.sending(ctx, o); err != nil {
		return err
	}
	c.lc.out = append(o.append(c.lc.out), "\r\n"...)
	return nil
}

// sending notes that a command is about to be queued, which must not be answered
// already.
func (c *Conn) sending(ctx context.Context, o op) error {
	if c.err != nil {
		return c.err
	}
	if c.due == 0 && c.lc.br.Buffered() > 0 {
		line, _ := c.lc.br.Peek(min(c.lc.br.Buffered(), 80))
		return c.fail(ctx, o.String(), botchf("said without being asked: %q", words(line)))
	}
	if c.trace {
		c.log.Debug("> " + o.String())
	}
	c.due++
	return nil
}

// reply reads the next status line. The error of -ERR is Refused; all others
// end the connection.
func (c *Conn) reply(ctx context.Context, cmd string) error { return c.replyTo(ctx, op{verb: cmd}) }

func (c *Conn) replyTo(ctx context.Context, o op) error {
	if c.err != nil {
		return c.err
	}
	_, err := c.pop.ReadOne()
	c.due--
	if c.lc.err != nil {
		return c.fail(ctx, o.String(), c.lc.err)
	}
	if c.trace {
		c.debug(o.String())
	}
	if err != nil {
		text := c.lc.last.text
		return &Error{Kind: Refused, Code: codeOf(text), Op: o.String(), Reply: errReply(c.said())}
	}
	return nil
}

// lines reads the rest of a reply of several lines.
func (c *Conn) lines(ctx context.Context, op string, most int, each func(line []byte)) error {
	if err := c.lc.readLines(most, each); err != nil {
		return c.fail(ctx, op, err)
	}
	c.nc.Progress()
	return nil
}

// said is the text of the last reply without secrets: some servers quote in an
// -ERR what they did not like.
func (c *Conn) said() []byte {
	if c.in {
		return c.lc.last.text
	}
	return []byte(c.nc.Mask(string(c.lc.last.text)))
}

func (c *Conn) debug(op string) {
	if c.trace {
		c.log.Debug("< "+op, "reply", words(c.said()))
	}
}
