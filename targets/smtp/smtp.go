// Package smtp hands messages to a mail server by SMTP or LMTP: re-injection,
// for a server that filters, forwards or stores them.
//
// # What it is worth
//
// A message is delivered when the server has answered the final dot with 250, or
// with LMTP once for each recipient. Nothing that was sent can be looked up
// afterwards: if the connection ends between the final dot and the reply, nobody
// knows. So a target of this package is no Finder. Just before the dot it calls
// Message.Commit, which puts on disk that the answer may get lost; everything
// that breaks before that is certainly not delivered, and sent again.
//
// # Speed
//
// Deliver is called by many goroutines at once; what they bring waits in one
// queue, and up to Connections sessions take from it. Where the server has
// PIPELINING (RFC 2920), MAIL, RCPT and DATA travel together, and together with
// the final dot of the message before: one round trip a message. Sessions are
// kept for the next message, and end after a while without any.
//
// A session that breaks off in the midst of a message is closed, never ended with
// a dot: half a message is never submitted.
//
// # What is changed
//
// Before each message one Received field is put (trace.go), which ends mail
// loops, with a limit of 30. Octets that different servers read differently are
// made harmless, so that every receiver sees exactly one message and no commands
// (body.go): bare LFs become CRLF, other stray CRs blanks, NULs 0x80. That breaks
// a DKIM signature over such lines, so it is logged. Nothing else is changed:
// lines of more than 998 octets are sent as they are, and so is 8-bit text where
// the server has no 8BITMIME.
//
// # Protocol
//
// RFC 5321, RFC 2033 LMTP, RFC 1870 SIZE, RFC 2920 PIPELINING, RFC 3207
// STARTTLS, RFC 4954 AUTH, RFC 6152 8BITMIME, RFC 6531 SMTPUTF8 (only where an
// address needs it), RFC 2034 status codes. go-smtp speaks up to the login; the
// transactions, where speed and certainty are decided, are our own.
package smtp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
)

// Config is one checked target section of type smtp or lmtp.
type Config struct {
	endpoint.Server          // without a User nobody logs in
	LMTP            bool     // LHLO, and a reply for each recipient
	Recipients      []string // of messages for which no rule has others
	Sender          Sender
	Helo            string // how the client calls itself; "" is the name of the machine
	Connections     int    // at most; 0 is four
	// FinalReply is how long the reply to the final dot may take; 0 is ten
	// minutes (RFC 5321 §4.5.3.2.6). Giving up sooner means more duplicates.
	FinalReply time.Duration
}

// Sender is who an envelope says the message is from: the one who hears of it
// when it cannot be delivered further on. The zero Sender is who the message
// itself names (Message.ReturnPath).
type Sender struct {
	Empty   bool   // nobody: <>
	Address string // always this
}

const (
	defaultConnections = 4
	defaultFinalReply  = 10 * time.Minute
)

var _ interface {
	targets.Target
	targets.Relay
} = (*Target)(nil)

// Target is a mail server that takes messages by SMTP or LMTP. It dials when it
// is first used.
type Target struct {
	cfg  Config
	name string
	log  *slog.Logger
	now  func() time.Time

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	unsafe sync.Once                        // the warning about 8-bit text
	leaf   atomic.Pointer[x509.Certificate] // of the last login over TLS

	mu      sync.Mutex
	closed  bool
	queue   []*job // the longest waiting first
	conns   []*conn
	idle    []*conn // those with nothing to do
	dialing int
	proven  bool // a login has succeeded, and none failed since
	refused int  // the server took no more than so many connections; 0 is not known
	losses  int  // connections lost, one after the other, with nothing delivered between
}

// Open returns the target. It does no I/O. A nil log logs nothing.
func (c Config) Open(name string, log *slog.Logger) (targets.Target, error) {
	check := c.Recipients
	if c.Sender.Address != "" {
		check = append(slices.Clone(check), c.Sender.Address)
	}
	for _, a := range check {
		if err := CheckAddress(a); err != nil {
			return nil, fmt.Errorf("%q: %w", a, err)
		}
	}
	if c.Connections <= 0 {
		c.Connections = defaultConnections
	}
	if c.FinalReply <= 0 {
		c.FinalReply = defaultFinalReply
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Target{cfg: c, name: name, log: log, now: time.Now, ctx: ctx, cancel: cancel}, nil
}

// Recipients returns whom Deliver would send to: those of to, else the target's
// own.
func (t *Target) Recipients(to targets.Dest) []string {
	list := to.Rcpt
	if len(list) == 0 {
		list = t.cfg.Recipients
	}
	var unique []string
	for _, r := range list {
		if !slices.Contains(unique, r) {
			unique = append(unique, r)
		}
	}
	return unique
}

// maxRecipients is what every server must take at once (RFC 5321 §4.5.3.1.8).
const maxRecipients = 100

// Deliver sends m to all recipients in one transaction. What became of each is
// in Receipt.Failed; the error is nil if one of them has it.
func (t *Target) Deliver(ctx context.Context, m *targets.Message, to targets.Dest) (targets.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return targets.Receipt{}, &targets.Error{Op: "MAIL", Err: err}
	}
	j, err := t.prepare(ctx, m, t.Recipients(to))
	if err != nil {
		return targets.Receipt{}, err
	}
	t.enqueue(j, false)
	select {
	case <-j.done:
	case <-ctx.Done():
		if t.withdraw(j) {
			return targets.Receipt{}, &targets.Error{Op: "MAIL", Err: ctx.Err()}
		}
		<-j.done // its session is closed by now, and lets go of m
	}
	return j.receipt()
}

// prepare looks at a message before it is sent.
func (t *Target) prepare(ctx context.Context, m *targets.Message, rcpts []string) (*job, error) {
	no := func(op string, err error) (*job, error) {
		return nil, &targets.Error{Fault: targets.Refused, Op: op, Err: err}
	}
	switch {
	case len(rcpts) == 0:
		return no("RCPT", errors.New("there is nobody to send it to: no rule says so, and the target has no recipient"))
	case len(rcpts) > maxRecipients:
		return no("RCPT", fmt.Errorf("%d recipients are more than the %d that every server takes", len(rcpts), maxRecipients))
	}
	for _, r := range rcpts {
		if err := CheckAddress(r); err != nil {
			return no("RCPT TO:<"+endpoint.Printable(r, 100)+">", err)
		}
	}
	s, err := surveyOf(m, make([]byte, min(chunk, max(m.Size, 1))))
	if err != nil {
		return nil, &targets.Error{Op: "MAIL", Err: err}
	}
	if s.received > maxReceived {
		return no("MAIL", fmt.Errorf("a mail loop: the message has %d Received fields, more than %d", s.received, maxReceived))
	}
	if !s.clean() {
		t.log.Warn("octets that are not allowed in mail are changed; a DKIM signature over them will not verify",
			"target", t.name, "uidl", m.Key, "err", s.changes())
	}
	return &job{ctx: ctx, m: m, survey: s, rcpts: rcpts, from: t.sender(m), done: make(chan struct{}), failed: map[string]error{}}, nil
}

// changes says what is changed.
func (s *survey) changes() string {
	var list []string
	for _, c := range []struct {
		n    int
		what string
	}{{s.lfs, "line ends made CRLF"}, {s.crs, "CRs made blanks"}, {s.nuls, "NULs made 0x80"}} {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(list, ", ")
}

// sender returns the reverse-path. What a message says goes into it only if it
// is an address and nothing else; what is not means the empty one.
func (t *Target) sender(m *targets.Message) string {
	switch s := t.cfg.Sender; {
	case s.Address != "":
		return s.Address
	case s.Empty, CheckAddress(m.ReturnPath) != nil:
		return ""
	}
	return m.ReturnPath
}

// Close ends all sessions, those with nothing under way in order, and waits until
// nothing of the target runs any more. Deliveries under way fail.
func (t *Target) Close() error {
	t.mu.Lock()
	t.closed = true
	for _, j := range t.queue {
		j.fail(&targets.Error{Op: "MAIL", Err: errClosed})
	}
	t.queue = nil
	for _, c := range t.conns {
		if c.busy {
			c.nc.Close()
		}
	}
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	return nil
}

var errClosed = errors.New("the target is closed")
