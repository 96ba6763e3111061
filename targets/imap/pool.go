package imap

import (
	"errors"
	"slices"
	"time"
)

const (
	maxBatch       = 128      // messages in one MULTIAPPEND
	maxBatchBig    = 512      // likewise, into a big folder
	leastBatch     = 32       // messages that are worth a command beside another one for the same folder
	leastBatchBig  = 256      // likewise, into a big folder
	leastOctets    = 1 << 20  // or octets
	maxBatchOctets = 8 << 20  // and octets
	travelsAlone   = 1 << 20  // a longer message has a command of its own
	maxInFlight    = 16 << 20 // octets unanswered on one connection
	depthMulti     = 2        // unanswered MULTIAPPENDs of one folder on one connection: one is stored while the next arrives
	depthPlus      = 16       // unanswered APPENDs with LITERAL+
	depthAsking    = 2        // where leave is asked for every literal: the next question travels behind the literal
	maxCommands    = 32       // unanswered on one connection, all folders together
	connsPlus      = 2        // with LITERAL+ the server is the limit,
	connsAsking    = 8        // without it the round trip is, and only more connections help
	growAt         = 8        // messages must wait before a second connection is worth its login
	staleAfter     = 30 * time.Second
	maxLosses      = 2 // connections that a message may lose before it is left for the next pass
)

// slot is what the pool knows of a connection.
type slot struct {
	commands int
	octets   int64
	load     map[*folder]int // unanswered commands per folder
	latest   *folder         // where its last APPEND went
	isolated bool            // its only message must stay alone
	guests   int             // who has it from acquire and may be about to ask something
	leased   bool            // one of borrow's callers has it alone
	parked   bool            // its writer waits for work
}

var errTargetClosed = errors.New("the target is closed")

// notify wakes everybody who waits for a change of the pool. Called with mu held.
func (t *Target) notify() {
	t.cond.Broadcast()
	if t.event != nil {
		close(t.event)
		t.event = nil
	}
}

// changed returns a channel that is closed at the next notify. Called with mu held.
func (t *Target) changed() <-chan struct{} {
	if t.event == nil {
		t.event = make(chan struct{})
	}
	return t.event
}

// enqueue offers j to the next connection with room.
func (t *Target) enqueue(f *folder, j *job) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errTargetClosed
	}
	if len(f.queue) == 0 {
		t.ready = append(t.ready, f)
	}
	f.queue = append(f.queue, j)
	j.queued, j.cmd = true, nil
	t.waiting++
	t.growLocked(false)
	t.cond.Broadcast()
	return nil
}

// withdraw takes j back, if no connection has it yet; else it returns the
// command that carries it.
func (t *Target) withdraw(f *folder, j *job) (*command, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !j.queued {
		return j.cmd, false
	}
	t.dequeueLocked(f, slices.Index(f.queue, j), 1)
	return nil, true
}

func (t *Target) dequeueLocked(f *folder, at, n int) {
	for _, j := range f.queue[at : at+n] {
		j.queued = false
	}
	f.queue = slices.Delete(f.queue, at, at+n)
	t.waiting -= n
	if len(f.queue) == 0 {
		t.ready = slices.DeleteFunc(t.ready, func(g *folder) bool { return g == f })
	}
}

// write is a connection's writer: as soon as the connection has room it takes
// everything that waits for one folder. There is no timer; while it writes, the
// next batch gathers.
func (t *Target) write(c *conn) {
	for {
		cmd := t.next(c)
		if cmd == nil {
			return
		}
		if c.stale() {
			// The server may have hung up long ago, and what is sent into a
			// dead connection would be neither stored nor certainly lost.
			if noop, err := c.ask("NOOP", nil); err == nil {
				<-noop.ended
			}
		}
		c.append(cmd)
	}
}

// stale tells whether nothing was heard for so long that it is worth asking
// whether the server is still there.
func (c *conn) stale() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) == 0 && time.Since(c.heard) > staleAfter
}

// next waits for work that c has room for. It returns nil when c takes no more.
func (t *Target) next(c *conn) *command {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if t.closed || !c.usable() {
			return nil
		}
		if cmd := t.takeLocked(c); cmd != nil {
			t.growLocked(false)
			return cmd
		}
		c.slot.parked = true
		t.cond.Wait()
		c.slot.parked = false
	}
}

// takeLocked makes a command of what waits, preferring the folder that c looks
// at, then the one that waits longest. nil if c has no room or nothing waits.
func (t *Target) takeLocked(c *conn) *command {
	s := &c.slot
	if s.leased || s.isolated || s.commands >= maxCommands {
		return nil
	}
	var f *folder
	for _, g := range t.ready {
		if g.frozen > 0 || !t.fitsLocked(c, g) || t.elsewhereLocked(c, g) {
			continue
		}
		if f == nil || g == s.latest {
			f = g
		}
	}
	if f == nil {
		return nil
	}
	n, octets := t.batch(c, f)
	cmd := &command{conn: c, verb: "APPEND", folder: f, octets: octets, jobs: slices.Clone(f.queue[:n]), written: make(chan struct{})}
	t.dequeueLocked(f, 0, n)
	for _, j := range cmd.jobs {
		j.cmd = cmd
	}
	s.commands++
	s.octets += octets
	s.load[f]++
	s.latest = f
	s.isolated = cmd.jobs[0].company == isolated
	f.inFlight++
	return cmd
}

// elsewhereLocked tells whether another connection should take what waits for f:
// what two write into a big folder each has to read there of the other.
func (t *Target) elsewhereLocked(c *conn, f *folder) bool {
	if !f.big() || !c.caps.multi() {
		return false
	}
	return slices.ContainsFunc(t.conns, func(o *conn) bool {
		s := &o.slot
		return o != c && s.latest == f && o.usable() && !s.leased && !s.isolated && s.commands < maxCommands && (s.load[f] > 0 || c.slot.latest != f)
	})
}

// worthLocked tells whether what waits for f is worth a command of its own
// while another one for the same folder is on its way: many small ones cost the
// server much more than the same messages together. There is no timer: when the
// other has ended, whatever waits may go.
func (f *folder) worthLocked() bool {
	least := leastBatch
	if f.big() {
		least = leastBatchBig
	}
	if f.inFlight == 0 || len(f.queue) >= least || f.queue[0].company != together {
		return true
	}
	octets := int64(0)
	for _, j := range f.queue {
		if octets += j.size; octets >= leastOctets {
			return true
		}
	}
	return false
}

// fitsLocked tells whether c has room for what waits first for f.
func (t *Target) fitsLocked(c *conn, f *folder) bool {
	s := &c.slot
	if len(f.queue) == 0 {
		return false
	}
	first := f.queue[0]
	switch {
	case c.caps.multi() && !f.worthLocked():
		return false
	case s.commands == 0:
		return true
	case first.company == isolated, s.octets+first.size > maxInFlight:
		return false
	case c.caps.multi():
		return s.load[f] < depthMulti
	case c.caps.literalPlus():
		return s.commands < depthPlus && s.octets+first.size <= maxInFlight/2
	default:
		return s.commands < depthAsking
	}
}

// batch tells how many of f's messages go in one command on c.
func (t *Target) batch(c *conn, f *folder) (n int, octets int64) {
	most := 1
	if c.caps.multi() {
		if most = maxBatch; f.big() {
			most = maxBatchBig
		}
	}
	for _, j := range f.queue {
		alone := j.size > travelsAlone || j.company != together
		if n > 0 && (alone || n == most || octets+j.size > maxBatchOctets) {
			break
		}
		n++
		octets += j.size
		if alone {
			break
		}
	}
	return n, octets
}

// over is told of every engine command that has ended.
func (t *Target) over(cmd *command) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case cmd.opens():
		t.examinedLocked(cmd)
		return
	case cmd.verb != "APPEND":
		return
	}
	s := &cmd.conn.slot
	s.commands--
	s.octets -= cmd.octets
	if s.load[cmd.folder]--; s.load[cmd.folder] == 0 {
		delete(s.load, cmd.folder)
	}
	s.isolated = false
	cmd.folder.inFlight--
	if cmd.err != nil {
		t.forgetLocked() // connLost comes too late for who is told of this one
		if cmd.sent {
			t.lastLoss = t.now()
		}
	}
	if cmd.reply.status == "BAD" {
		// What follows may be taken for something else.
		cmd.conn.retire(errors.New("the server said " + cmd.reply.String()))
	}
	if cmd.reply.maybeGone() {
		cmd.folder.outdatedLocked(cmd.exam)
	}
	cmd.words = cmd.reply.String()
	uids := t.confirmLocked(cmd)
	if cmd.reply.status == "OK" {
		cmd.folder.exists.Add(int64(len(cmd.jobs)))
	}
	for i, j := range cmd.jobs {
		r := result{cmd: cmd}
		if uids != nil {
			r.uid = uids[i]
		}
		j.done <- r
	}
	t.notify()
}

// confirmLocked returns the UIDs that a stored batch got, nil if they are not
// certain, and moves the folder's mark past them.
func (t *Target) confirmLocked(cmd *command) []uint32 {
	if cmd.reply.status != "OK" || cmd.reply.code != "APPENDUID" {
		return nil
	}
	validity, uids := appendUID(cmd.reply.arg, len(cmd.jobs))
	f := cmd.folder
	switch {
	case uids == nil:
		return nil
	case cmd.exam.reply.status != "OK" || cmd.exam.box.validity != validity:
		// Another folder than the one that was looked at: it was deleted and
		// made anew, or the server is confused.
		f.outdatedLocked(cmd.exam)
		return nil
	}
	if last := uids[len(uids)-1]; f.known && f.validity == validity && last >= f.next && last != 1<<32-1 {
		f.next = last + 1
	}
	return uids
}
