package imap

import (
	"context"
	"slices"
)

// mostLocked is how many connections there may be. Until a first one has logged in
// it is not known what they are good for.
func (t *Target) mostLocked() int {
	n := connsAsking
	switch {
	case t.facts == nil:
		return 1
	case t.cfg.Connections > 0:
		n = t.cfg.Connections
	case t.facts.caps.literalPlus():
		n = connsPlus
	}
	if t.refused > 0 {
		n = min(n, t.refused)
	}
	return n
}

// growLocked dials one more connection where one would help: none is there, or
// messages wait and all writers are busy. needed says that somebody waits for a
// connection whatever the queue says.
func (t *Target) growLocked(needed bool) {
	have := len(t.conns) + t.dialing
	if t.closed || have >= t.mostLocked() || needed && t.dialing > 0 {
		return
	}
	if have > 0 && !needed {
		threshold := growAt
		if !t.facts.caps.literalPlus() {
			threshold = 1 + t.dialing
		}
		if t.waiting < threshold || slices.ContainsFunc(t.conns, func(c *conn) bool { return c.slot.parked && c.slot.commands == 0 }) {
			return
		}
	}
	if have == 0 && !needed && t.waiting == 0 {
		return
	}
	t.dialing++
	t.wg.Go(t.dial)
}

// dial adds a connection to the pool and writes on it until it ends.
func (t *Target) dial() {
	c, err := t.connect(t.ctx)
	if t.join(c, err) {
		t.write(c)
	}
}

// join takes what a dial has brought into the pool.
func (t *Target) join(c *conn, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialing--
	if err == nil && c.failed() != nil {
		// It ended right after its login. connLost has not found it in the pool,
		// and may not come again: it would be in everybody's way for ever.
		err = t.wrap("login", listError(c, c.failed()))
	}
	switch {
	case err != nil:
		t.dialErr, t.dialFails = err, t.dialFails+1
		if t.refused = len(t.conns); t.refused == 0 {
			t.failQueuesLocked(err)
		}
	case t.closed:
		c.fail(errTargetClosed)
	default:
		t.conns = append(t.conns, c)
	}
	t.notify()
	return err == nil
}

// failQueuesLocked gives everything that waits the error: there is no
// connection and none can be made.
func (t *Target) failQueuesLocked(err error) {
	for _, f := range t.ready {
		for _, j := range f.queue {
			j.queued = false
			j.done <- result{cmd: &command{err: err}}
		}
		f.queue = nil
	}
	t.ready, t.waiting = nil, 0
}

// connLost takes a connection out of the pool when it has ended.
func (t *Target) connLost(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns = slices.DeleteFunc(t.conns, func(o *conn) bool { return o == c })
	t.refused = 0 // there may be a free place at the server now
	t.forgetLocked()
	if t.waiting > 0 {
		t.growLocked(false)
	}
	t.notify()
}

// forgetLocked makes the next Mark look at its folder again: before a server
// hung up it may have lost, renamed or renumbered any of them.
func (t *Target) forgetLocked() {
	for _, f := range t.folders {
		f.known = false
	}
}

// acquire returns a connection for a question or two; others use it at the same
// time, and leave ends it. With lease it is the caller's alone, with nothing
// outstanding, until release: an EXAMINE that a guest was about to send would
// have the caller read another folder.
func (t *Target) acquire(ctx context.Context, lease bool) (*conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fails := t.dialFails
	var mine *conn // leased, and still answering what it was asked before
	for {
		if t.closed {
			return nil, errTargetClosed
		}
		if mine != nil && !mine.usable() {
			mine.slot.leased, mine = false, nil
		}
		if mine == nil {
			if best := t.bestLocked(); best != nil && !lease {
				best.slot.guests++
				return best, nil
			} else if best != nil {
				mine = best
				mine.slot.leased = true
			}
		}
		if mine != nil && mine.slot.commands == 0 && mine.slot.guests == 0 {
			return mine, nil
		}
		if mine == nil {
			t.growLocked(true)
			if len(t.conns)+t.dialing == 0 || t.dialFails > fails && len(t.conns) == 0 {
				return nil, t.dialErr
			}
		}
		ch := t.changed()
		t.mu.Unlock()
		select {
		case <-ch:
			t.mu.Lock()
		case <-ctx.Done():
			t.mu.Lock()
			if mine != nil {
				mine.slot.leased = false
				t.notify()
			}
			return nil, ctx.Err()
		}
	}
}

// bestLocked is the usable connection with the least to do.
func (t *Target) bestLocked() *conn {
	var best *conn
	for _, c := range t.conns {
		if !c.slot.leased && c.usable() && (best == nil || c.slot.commands < best.slot.commands) {
			best = c
		}
	}
	return best
}

// leave ends what acquire without lease began.
func (t *Target) leave(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.slot.guests--
	t.notify()
}

// release ends a lease.
func (t *Target) release(c *conn) {
	c.wmu.Lock()
	c.examined = nil // go-imap has selected something else
	c.wmu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	c.slot.leased = false
	t.notify()
}
