// Package imap delivers messages into the folders of an IMAP account, by APPEND
// at full speed, and finds what an interrupted delivery left there.
//
// # Speed
//
// Deliver is called by many goroutines at once. What they bring waits in one
// queue per folder; each connection has a writer that, whenever the connection
// has room, takes everything that waits for one folder and sends it as one
// command. How depends on what the server can do: MULTIAPPEND with LITERAL+
// (one command for up to 128 messages), LITERAL+ alone (up to 16 APPENDs under
// way), else APPENDs that ask before they send, on up to 8 connections. The
// folder is EXAMINEd first, never SELECTed: servers append to an open folder
// many times faster, and EXAMINE leaves \Recent alone.
//
// # Certainty
//
// An APPEND is stored when its tagged OK is read. When the connection ends
// before that, a command of which not everything was written is certainly not
// stored, and is sent again on another connection; one whose last octet may
// have left is Unsure, and Find tells later whether it arrived. A MULTIAPPEND is
// all or nothing: after a NO its messages go one by one, each with its own
// outcome; after a BAD each goes alone on a connection, because BAD means that
// client and server may not agree any more on where a command ends.
//
// # Protocol
//
// RFC 3501 and, where a server speaks nothing else, RFC 9051; RFC 2342
// NAMESPACE, RFC 3502 MULTIAPPEND, RFC 4315 UIDPLUS, RFC 7888 LITERAL+ and
// LITERAL-, RFC 7889 APPENDLIMIT, RFC 9208 QUOTA. go-imap speaks on the same
// connections, for folders and for looking at messages (demux.go).
package imap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
)

// Config is one checked target section of type imap.
type Config struct {
	endpoint.Server
	Folder        string // where messages go that name none; "" is INBOX
	CreateFolders bool   // make folders that are missing
	Subscribe     bool   // subscribe to folders that were made
	Flags         []string
	Date          DatePolicy
	Connections   int // at most; 0 is two with LITERAL+, else eight

	// Find waits so long after a connection was lost, or after Open, because a
	// server may store what it has received after the connection is gone. 0 is
	// five seconds, and thirty for a message above 10 MiB; negative is not at all.
	Settle, SettleLarge time.Duration
}

var _ interface {
	targets.Target
	targets.Comparer
	targets.Finder
} = (*Target)(nil)

// Target is an IMAP account. It dials when it is first used.
type Target struct {
	cfg  Config
	name string
	log  *slog.Logger
	now  func() time.Time

	flags string // for every message

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	opened time.Time
	leaf   atomic.Pointer[x509.Certificate] // of the last login over TLS

	mu        sync.Mutex
	cond      *sync.Cond    // writers wait for work
	event     chan struct{} // others wait for a change of the pool; nil if none does
	closed    bool
	conns     []*conn
	dialing   int
	dialErr   error
	dialFails int
	refused   int // the server took no more than so many connections; 0 is not known
	lastLoss  time.Time

	facts   *facts
	folders map[string]*folder      // by the server's name
	aliases map[string]*folder      // by the name in the rules
	opening map[string]*openingCall // folders being made ready
	ready   []*folder               // folders for which messages wait, the longest waiting first
	waiting int                     // messages in them
}

// Open returns the target. It does no I/O. A nil log logs nothing.
func (c Config) Open(name string, log *slog.Logger) (targets.Target, error) {
	flags, err := flagList(c.Flags)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Target{
		cfg: c, name: name, log: log, now: time.Now, flags: flags,
		ctx: ctx, cancel: cancel, opened: time.Now(),
		folders: map[string]*folder{}, aliases: map[string]*folder{}, opening: map[string]*openingCall{},
	}
	t.cond = sync.NewCond(&t.mu)
	return t, nil
}

// Deliver appends m to the folder and returns when the server has it.
func (t *Target) Deliver(ctx context.Context, m *targets.Message, to targets.Dest) (targets.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return targets.Receipt{}, &targets.Error{Op: "APPEND", Err: err}
	}
	flags, err := t.flags, error(nil)
	if len(to.Flags) > 0 {
		flags, err = flagList(t.cfg.Flags, to.Flags)
	}
	if err == nil && len(flags) > maxFlags {
		err = errors.New("too many flags")
	}
	if err == nil && m.Size <= 0 {
		err = errors.New("an empty message cannot be appended")
	}
	if err != nil {
		return targets.Receipt{}, &targets.Error{Fault: targets.Refused, Op: "APPEND", Err: err}
	}
	d := &delivery{t: t, m: m, dest: to.Folder}
	d.job = job{
		body: m.Body, size: m.Size, flags: flags,
		date: t.cfg.Date.internalDate(m, t.now()),
		done: outcomes.Get().(chan result),
	}
	for {
		f, err := t.open(ctx, to.Folder)
		if err != nil {
			return targets.Receipt{}, t.wrap(fmt.Sprintf("EXAMINE %q", to.Folder), err)
		}
		if f.limit > 0 && m.Size > f.limit {
			return targets.Receipt{}, &targets.Error{
				Fault: targets.Refused, Op: f.op(),
				Err: fmt.Errorf("the message has %d octets and the server takes %d (APPENDLIMIT)", m.Size, f.limit),
			}
		}
		receipt, again, err := d.attempt(ctx, f)
		if !again {
			if !d.abandoned {
				outcomes.Put(d.job.done)
			}
			return receipt, err
		}
	}
}

// outcomes are channels for outcomes that nobody will send anything to.
var outcomes = sync.Pool{New: func() any { return make(chan result, 1) }}

// delivery is one Deliver under way.
type delivery struct {
	t    *Target
	m    *targets.Message
	dest string
	job  job

	tries, losses int
	recreated     bool
	abandoned     bool // its outcome may still come
}

// maxTries bounds the attempts at one message whatever happens.
const maxTries = 12

// attempt sends the message once and judges the outcome.
func (d *delivery) attempt(ctx context.Context, f *folder) (_ targets.Receipt, again bool, _ error) {
	if d.tries++; d.tries > maxTries {
		return targets.Receipt{}, false, &targets.Error{Op: f.op(), Err: errors.New("given up after too many attempts in one pass")}
	}
	if err := d.t.enqueue(f, &d.job); err != nil {
		return targets.Receipt{}, false, &targets.Error{Op: f.op(), Err: err}
	}
	var r result
	select {
	case r = <-d.job.done:
	case <-ctx.Done():
		d.abandoned = true
		return targets.Receipt{}, false, d.abandon(ctx, f, f.op())
	}
	switch cmd := r.cmd; {
	case cmd.err != nil:
		again, err := d.lost(cmd, f.op())
		return targets.Receipt{}, again, err
	case cmd.reply.status == "OK":
		receipt := targets.Receipt{Folder: f.name, UID: r.uid, Reply: cmd.words}
		if r.uid != 0 {
			receipt.UIDValidity = cmd.exam.box.validity
		}
		return receipt, false, nil
	default:
		again, err := d.refused(cmd, f.op())
		return targets.Receipt{}, again, err
	}
}

// lost judges an attempt whose connection ended before the reply.
func (d *delivery) lost(cmd *command, op string) (again bool, _ error) {
	fault := &targets.Error{Op: op, Err: cmd.err}
	var body *bodyError
	switch {
	case cmd.conn == nil: // no connection could be made
		return false, d.t.wrap(op, cmd.err)
	case errors.As(cmd.err, &body):
		if cmd.jobs[cmd.bad] == &d.job {
			return false, fault
		}
		return true, nil
	}
	fault.Reply = cmd.conn.farewell()
	if cmd.sent {
		fault.Fault = targets.Unsure
		return false, fault
	}
	if cmd.tag != 0 {
		d.losses++
	}
	if d.losses <= maxLosses {
		return true, nil
	}
	if fault.Reply != "" {
		fault.Fault = targets.Down
	}
	return false, fault
}

// refused judges a NO or BAD.
func (d *delivery) refused(cmd *command, op string) (again bool, _ error) {
	e := cmd.reply.error(op)
	j := &d.job
	switch {
	case cmd.reply.maybeGone() && !d.recreated:
		// The folder was there a moment ago; over has made sure that it is looked at again.
		d.recreated = true
		return true, nil
	case cmd.reply.status == "BAD" && j.company != isolated:
		j.company = isolated
		return true, nil
	case len(cmd.jobs) > 1 && (e.Fault != targets.Down || cmd.reply.code == "OVERQUOTA"):
		j.company = single // a batch is over quota before each of its messages is
		return true, nil
	case e.Fault == targets.Refused && !j.nul && hasNUL(d.m):
		j.nul = true
		d.t.log.Warn("sent again with 0x80 for NUL", "target", d.t.name, "uidl", d.m.Key, "reply", e.Reply)
		return true, nil
	}
	return false, e
}

// graceToRelease is how long a caller that gives up waits for the writer to let
// go of its message, before the connection is closed under it.
const graceToRelease = 2 * time.Second

// abandon gives up waiting. The message may be read until this returns and no
// longer.
func (d *delivery) abandon(ctx context.Context, f *folder, op string) error {
	cmd, withdrawn := d.t.withdraw(f, &d.job)
	if withdrawn || cmd == nil {
		return &targets.Error{Op: op, Err: ctx.Err()}
	}
	e := &targets.Error{Op: op, Err: ctx.Err()}
	timer := time.AfterFunc(graceToRelease, func() { cmd.conn.fail(ctx.Err()) })
	defer timer.Stop()
	select {
	case <-cmd.written:
		if cmd.mayBeStored() {
			e.Fault = targets.Unsure
		}
	case r := <-d.job.done:
		if r.cmd.err == nil && r.cmd.reply.status == "OK" || r.cmd.err != nil && r.cmd.sent {
			e.Fault = targets.Unsure
		}
	}
	return e
}

// hasNUL looks for a NUL in m.
func hasNUL(m *targets.Message) bool {
	buf := make([]byte, 32<<10)
	for at := int64(0); at < m.Size; {
		n, _ := m.Body.ReadAt(buf[:min(int64(len(buf)), m.Size-at)], at)
		if n == 0 {
			return false
		}
		if slices.Contains(buf[:n], 0) {
			return true
		}
		at += int64(n)
	}
	return false
}

// wrap makes err one that FaultOf understands: what kept us from talking to the
// server at all means that the target is down.
func (t *Target) wrap(op string, err error) error {
	var e *targets.Error
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errTargetClosed):
		return &targets.Error{Op: op, Err: err}
	}
	if _, ok := errors.AsType[*endpoint.Error](err); ok {
		op = "connect"
	}
	return &targets.Error{Fault: targets.Down, Op: op, Err: err}
}

// running runs f in a goroutine that Close waits for, unless the target is
// closed.
func (t *Target) running(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

// Close ends all connections and waits until nothing of the target runs any
// more. Deliveries under way fail.
func (t *Target) Close() error {
	t.mu.Lock()
	t.closed = true
	conns := slices.Clone(t.conns)
	t.failQueuesLocked(errTargetClosed)
	t.notify()
	t.mu.Unlock()
	t.cancel()
	for _, c := range conns {
		c.farewellAndClose()
	}
	t.wg.Wait()
	return nil
}
