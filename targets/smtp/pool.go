package smtp

import (
	"errors"
	"slices"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
)

const (
	// idleTime is how long a session waits for the next message. Servers wait
	// five minutes (RFC 5321 §4.5.3.2.7) and allow few sessions.
	idleTime = 20 * time.Second
	// maxLosses is how often a message is sent again at once when its session
	// breaks before the final dot.
	maxLosses = 2
	// lossesInRow is how many sessions may break one after the other before the
	// server is taken for down.
	lossesInRow = 6
)

// enqueue gives a job to a session that has nothing to do, else lets it wait.
func (t *Target) enqueue(j *job, front bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		j.fail(&targets.Error{Op: "MAIL", Err: errClosed})
		return
	}
	if n := len(t.idle); n > 0 {
		c := t.idle[n-1]
		t.idle = t.idle[:n-1]
		c.busy = true
		c.work <- j
		return
	}
	if front {
		t.queue = slices.Insert(t.queue, 0, j)
	} else {
		t.queue = append(t.queue, j)
	}
	t.growLocked(0)
}

// Greet dials the first session, if there is none.
func (t *Target) Greet() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed && len(t.conns)+t.dialing == 0 {
		t.dialing++
		t.wg.Go(t.dial)
	}
}

// withdraw takes back a job that no session has begun.
func (t *Target) withdraw(j *job) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.queue, j)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	return i >= 0
}

// growLocked dials where jobs wait and more sessions are allowed; taken is how
// many of them a session is about to take. The first login goes alone: a wrong
// password must not be tried four times.
func (t *Target) growLocked(taken int) {
	most := t.cfg.Connections
	if !t.proven {
		most = 1
	} else if t.refused > 0 {
		most = min(most, t.refused)
	}
	for !t.closed && len(t.queue)-taken > t.dialing && len(t.conns)+t.dialing < most {
		t.dialing++
		t.wg.Go(t.dial)
	}
}

// dial adds a session and serves it until it ends.
func (t *Target) dial() {
	c, err := t.connect(t.ctx)
	t.mu.Lock()
	t.dialing--
	if err != nil {
		t.undialedLocked(err)
		t.mu.Unlock()
		return
	}
	if t.closed {
		t.mu.Unlock()
		c.quit()
		return
	}
	c.busy = true
	t.conns = append(t.conns, c)
	t.proven = true
	t.growLocked(1)
	t.mu.Unlock()
	t.serve(c)
}

// undialedLocked notes that a session could not be had. Without any other,
// nothing can be delivered now.
func (t *Target) undialedLocked(err error) {
	if t.refused = len(t.conns); t.refused > 0 || t.dialing > 0 {
		return
	}
	t.proven = false
	if t.closed {
		err = errClosed
	}
	for _, j := range t.queue {
		j.fail(connectError(err))
	}
	t.queue = nil
}

// connectError makes err one that FaultOf understands.
func connectError(err error) error {
	if e, ok := errors.AsType[*targets.Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*endpoint.Error](err); ok {
		return &targets.Error{Fault: targets.Down, Op: "connect", Err: err}
	}
	return &targets.Error{Op: "connect", Err: err}
}

// serve sends on one session until that ends.
func (t *Target) serve(c *conn) {
	for j := t.next(c); j != nil; {
		following := t.transact(c, j)
		if c.broken {
			if following != nil {
				following.sent = false
				t.again(following, nil)
			}
			break
		}
		if j = following; j == nil {
			j = t.next(c)
		}
	}
	t.mu.Lock()
	t.conns = slices.DeleteFunc(t.conns, func(o *conn) bool { return o == c })
	t.refused = 0 // there may be a free place at the server now
	t.growLocked(0)
	t.mu.Unlock()
	if c.broken {
		c.nc.Close()
	} else {
		c.quit()
	}
}

// next waits for a job for c. Without one for some time, or when the target is
// closed, it returns nil.
func (t *Target) next(c *conn) *job {
	t.mu.Lock()
	if len(t.queue) > 0 && !t.closed {
		j := t.popLocked()
		t.mu.Unlock()
		return j
	}
	c.busy = false
	t.idle = append(t.idle, c)
	t.mu.Unlock()
	timer := time.NewTimer(idleTime)
	defer timer.Stop()
	select {
	case j := <-c.work:
		return j
	case <-timer.C:
	case <-t.ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.idle, c)
	if i < 0 {
		return <-c.work // it was given one at the last moment
	}
	t.idle = slices.Delete(t.idle, i, i+1)
	return nil
}

func (t *Target) popLocked() *job {
	j := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	return j
}

// waiting returns a job that waits, nil if there is none.
func (t *Target) waiting() *job {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 || t.closed {
		return nil
	}
	return t.popLocked()
}

// again sends a job once more whose session broke before its final dot. err says
// how; nil that it was not the job's doing.
func (t *Target) again(j *job, err *targets.Error) {
	if err != nil {
		j.losses++
	}
	t.mu.Lock()
	row := t.losses
	t.mu.Unlock()
	switch {
	case j.ctx.Err() != nil:
		j.fail(&targets.Error{Op: "MAIL", Err: j.ctx.Err()})
	case err != nil && (endpoint.IsTimeout(err) || row >= lossesInRow):
		err.Fault = targets.Down
		j.fail(err)
	case j.losses > maxLosses:
		j.fail(err)
	default:
		j.reset()
		t.enqueue(j, true)
	}
}

// lost counts sessions that broke, delivered says that one worked.
func (t *Target) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.losses++
}

func (t *Target) delivered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.losses = 0
}
