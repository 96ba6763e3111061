package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
)

// job is one message on its way. Until done is closed it belongs to the queue or
// to a session, afterwards to Deliver.
type job struct {
	ctx context.Context
	m   *targets.Message
	survey
	from  string
	rcpts []string
	done  chan struct{}

	sent     bool     // the envelope is under way, all of it
	accepted []string // recipients that the server took
	losses   int      // sessions that broke with it

	failed map[string]error // what became of recipients that are not served
	reply  string           // to the final dot
}

// reset makes a job like new, for another session.
func (j *job) reset() {
	j.sent, j.accepted = false, nil
	clear(j.failed)
}

// fail ends a job: every recipient without an outcome has err.
func (j *job) fail(err error) {
	for _, r := range j.rcpts {
		if j.failed[r] == nil {
			j.failed[r] = err
		}
	}
	close(j.done)
}

// end ends a job whose recipients have their outcome.
func (j *job) end() { close(j.done) }

// receipt says what became of a job that has ended. The error is that of the
// recipient about whom least is certain, when nobody was served.
func (j *job) receipt() (targets.Receipt, error) {
	var served []string
	var worst error
	for _, r := range j.rcpts {
		switch err := j.failed[r]; {
		case err == nil:
			served = append(served, r)
		case worst == nil, targets.FaultOf(err) > targets.FaultOf(worst):
			worst = err
		}
	}
	rc := targets.Receipt{Folder: strings.Join(served, ", "), Reply: j.reply, Failed: j.failed}
	if len(served) > 0 {
		return rc, nil
	}
	return rc, worst
}

// transact sends one message. The next one, if its envelope went out with the
// final dot, is returned. When the session cannot be used any more it is marked
// broken. Every job it was given either ended or is in the queue again.
func (t *Target) transact(c *conn, j *job) (following *job) {
	stop := c.nc.CloseOn(j.ctx) // a session that has lost its place cannot go on
	defer func() {
		c.stale = true
		if !stop() {
			c.broken = true
		}
		if c.broken {
			c.nc.Close()
		}
	}()
	ready, err := t.envelope(c, j)
	if err != nil {
		t.brokeOff(c, j, err)
		return nil
	}
	if !ready {
		j.end()
		return nil
	}
	if err := c.text(t, j); err != nil {
		t.brokeOff(c, j, c.farewell(err))
		return nil
	}
	if j.m.Commit != nil {
		if err := j.m.Commit(j.ctx, j.accepted); err != nil {
			c.broken = true
			j.fail(&targets.Error{Op: "DATA", Err: err})
			return nil
		}
	}
	following = t.dot(c, j)
	t.outcome(c, j)
	return following
}

// brokeAt is a session that ended, and during what.
type brokeAt struct {
	op  string
	err error
}

func (e *brokeAt) Error() string { return e.op + ": " + e.err.Error() }
func (e *brokeAt) Unwrap() error { return e.err }

// brokeOff decides about a job whose session ended before its final dot: nothing
// of it is at the server.
func (t *Target) brokeOff(c *conn, j *job, err error) {
	c.broken = true
	if _, ok := errors.AsType[*bodyError](err); ok {
		j.fail(&targets.Error{Op: "DATA", Err: err})
		return
	}
	e := &targets.Error{Op: "DATA", Err: err}
	if at, ok := errors.AsType[*brokeAt](err); ok {
		e.Op, e.Err = at.op, at.err
	}
	if said, ok := errors.AsType[*targets.Error](err); ok { // it said why
		e = said
	}
	if c.stale {
		t.again(j, nil) // a server ends sessions when it likes; that says nothing about this message
		return
	}
	t.lost()
	if e.Reply != "" {
		j.fail(e)
		return
	}
	t.again(j, e)
}

// commands are the lines of j's envelope.
func (c *conn) commands(j *job) []string {
	var b strings.Builder
	utf8 := false
	from := j.from
	if !isASCII(from) && !c.utf8 {
		from = "" // nobody hears of failures, but the message is not held up
	}
	for _, a := range append([]string{from}, j.rcpts...) {
		utf8 = utf8 || !isASCII(a)
	}
	fmt.Fprintf(&b, "MAIL FROM:<%s>", from)
	if c.hasSize {
		fmt.Fprintf(&b, " SIZE=%d", c.octets(j))
	}
	if j.eightBit && c.eightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if utf8 && c.utf8 {
		b.WriteString(" SMTPUTF8")
	}
	list := []string{b.String()}
	for _, r := range j.rcpts {
		list = append(list, "RCPT TO:<"+r+">")
	}
	return append(list, "DATA")
}

// octets is how large j is here, with its trace field.
func (c *conn) octets(j *job) int64 {
	return int64(len(trace(j.m, c.helo, time.Time{}))) + j.size // a date is always as long
}

// unfit says why j cannot be sent on this session at all.
func (c *conn) unfit(j *job) error {
	if n := c.octets(j); c.size > 0 && n > c.size {
		return fmt.Errorf("the message has %d octets and the server takes %d (SIZE)", n, c.size)
	}
	if !c.utf8 {
		for _, r := range j.rcpts {
			if !isASCII(r) {
				return fmt.Errorf("%s is not ASCII, and the server has no SMTPUTF8", endpoint.Printable(r, 100))
			}
		}
	}
	return nil
}

// announce sends the whole envelope of j, together with what is written already.
func (c *conn) announce(j *job) {
	if c.open {
		c.put("RSET")
	}
	for _, line := range c.commands(j) {
		c.put(line)
	}
	j.sent = true
}

// put adds a command to what goes out next. An error shows when that happens.
func (c *conn) put(line string) {
	c.nc.Sent(line)
	_, _ = c.bw.WriteString(line)
	_, _ = c.bw.WriteString("\r\n")
}

// envelope sends MAIL, RCPT and DATA and reads the answers. ready says that the
// text may follow; if not, and there is no error, all recipients have their
// outcome. An error means that the session has ended.
func (t *Target) envelope(c *conn, j *job) (ready bool, err error) {
	if err := c.unfit(j); err != nil && !j.sent {
		for _, r := range j.rcpts {
			j.failed[r] = &targets.Error{Fault: targets.Refused, Op: "MAIL", Err: err}
		}
		return false, nil
	}
	if !j.sent && c.br.Buffered() > 0 {
		return false, &brokeAt{"MAIL", errOutOfStep}
	}
	e := &exchange{c: c, j: j, ahead: c.pipelining}
	if e.ahead && !j.sent {
		c.announce(j)
		if err := c.bw.Flush(); err != nil {
			return false, &brokeAt{"MAIL", err}
		}
	}
	if c.open {
		if r, err := e.ask("RSET"); err != nil {
			return false, err
		} else if !r.ok() {
			return false, &brokeAt{"RSET", fmt.Errorf("%w: %s", errOutOfStep, r)}
		}
		c.open = false
	}
	return e.run()
}

// exchange is an envelope being answered.
type exchange struct {
	c     *conn
	j     *job
	ahead bool // all commands were sent already
}

// ask returns the reply to a command.
func (e *exchange) ask(line string) (reply, error) {
	op, _, _ := strings.Cut(line, " ")
	if !e.ahead {
		e.c.put(line)
		if err := e.c.bw.Flush(); err != nil {
			return reply{}, &brokeAt{op, err}
		}
	}
	r, err := e.c.reply()
	switch {
	case err != nil:
		return r, &brokeAt{op, err}
	case r.code == 421: // it hangs up, whatever was asked
		return r, r.error(atMail, op)
	}
	e.c.stale = false
	return r, nil
}

func (e *exchange) run() (ready bool, err error) {
	c, j := e.c, e.j
	lines := c.commands(j)
	r, err := e.ask(lines[0])
	switch {
	case err != nil:
		return false, err
	case !r.ok() && !r.refusal():
		return false, &brokeAt{"MAIL", fmt.Errorf("%w: %s", errOutOfStep, r)}
	case !r.ok():
		refusal := r.error(atMail, "MAIL")
		for _, rcpt := range j.rcpts {
			j.failed[rcpt] = refusal
		}
		return false, e.drop()
	}
	c.open = true
	for i, rcpt := range j.rcpts {
		r, err := e.ask(lines[1+i])
		switch {
		case err != nil:
			return false, err
		case r.ok():
			j.accepted = append(j.accepted, rcpt)
		case r.refusal():
			j.failed[rcpt] = r.error(atRcpt, "RCPT TO:<"+endpoint.Printable(rcpt, 100)+">")
		default:
			return false, &brokeAt{"RCPT", fmt.Errorf("%w: %s", errOutOfStep, r)}
		}
	}
	if len(j.accepted) == 0 {
		return false, e.drop()
	}
	return e.data()
}

// data asks for the text.
func (e *exchange) data() (ready bool, err error) {
	r, err := e.ask("DATA")
	switch {
	case err != nil:
		return false, err
	case r.code == 354:
		return true, nil
	case !r.refusal():
		return false, &brokeAt{"DATA", fmt.Errorf("%w: %s", errOutOfStep, r)}
	}
	for _, rcpt := range e.j.accepted {
		e.j.failed[rcpt] = r.error(atData, "DATA")
	}
	return false, nil
}

// drop reads the answers to what was sent ahead for nothing. A server that now
// waits for the text is hung up on: whatever ended it would be a message.
func (e *exchange) drop() error {
	if !e.ahead {
		return nil
	}
	answered := 1 // MAIL
	if e.c.open {
		answered += len(e.j.rcpts)
	}
	for range 1 + len(e.j.rcpts) + 1 - answered {
		r, err := e.c.reply()
		if err != nil || !r.refusal() && !r.ok() {
			e.c.broken = true
			return nil //nolint:nilerr // the message has its outcome; only the session has ended
		}
		e.c.open = true
	}
	return nil
}

// text sends trace field and message, up to but without the last line end, and
// does not wait for anything.
func (c *conn) text(t *Target, j *job) error {
	if j.eightBit && !c.eightBit {
		t.unsafe.Do(func() {
			t.log.Warn("the server does not offer 8BITMIME, and 8-bit text is sent to it as it is", "target", t.name, "uidl", j.m.Key)
		})
	}
	if _, err := c.bw.WriteString(trace(j.m, c.helo, t.now())); err != nil {
		return err
	}
	if err := writeBody(c.bw, j.m, c.buf); err != nil {
		return err
	}
	return c.bw.Flush()
}

// farewell is why a text could not be sent: a server that hangs up in the midst
// of one may have said what it does not like.
func (c *conn) farewell(err error) error {
	if _, ok := errors.AsType[*bodyError](err); ok || endpoint.IsTimeout(err) {
		return &brokeAt{"DATA", err}
	}
	c.nc.Allow(quitTime)
	if r, rerr := c.reply(); rerr == nil && r.refusal() {
		return r.error(atData, "DATA")
	}
	return &brokeAt{"DATA", err}
}

// dot sends the final dot, and with it the envelope of the next message that
// waits. From here on the message may be at the server.
func (t *Target) dot(c *conn, j *job) (following *job) {
	_, _ = c.bw.WriteString("\r\n.\r\n")
	c.open, c.stale = false, true
	if c.pipelining {
		if following = t.waiting(); following != nil && c.unfit(following) == nil {
			c.announce(following)
		}
	}
	if err := c.bw.Flush(); err != nil {
		c.broken = true
		for _, r := range j.accepted {
			j.failed[r] = unsure(err)
		}
	}
	return following
}

func unsure(err error) error {
	return &targets.Error{Fault: targets.Unsure, Op: "the final dot", Err: err}
}

// outcome reads what became of the message: one reply, or one for each recipient
// that was accepted (RFC 2033 §4.2).
func (t *Target) outcome(c *conn, j *job) {
	defer j.end()
	if c.broken {
		t.lost()
		return
	}
	c.nc.Allow(t.cfg.FinalReply)
	defer func() { c.nc.Allow(c.nc.Timeout()) }()
	var r reply
	var err error
	for i, rcpt := range j.accepted {
		if err == nil && (i == 0 || t.cfg.LMTP) {
			if r, err = c.reply(); err == nil && !r.ok() && !r.refusal() {
				err = fmt.Errorf("%w: %s", errOutOfStep, r)
			}
			c.broken = c.broken || err != nil || r.code == 421
		}
		switch {
		case err != nil:
			j.failed[rcpt] = unsure(err)
		case !r.ok():
			j.failed[rcpt] = r.error(atEnd, "the final dot")
		case j.reply == "":
			j.reply = r.String()
		}
	}
	if err != nil {
		t.lost()
	} else if j.reply != "" {
		t.delivered()
	}
}
