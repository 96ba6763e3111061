package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch bounds how many Puts share a transaction, and so how long the first
// of them waits.
const maxBatch = 1024

// Store is an open state. All methods are safe for concurrent use.
type Store struct {
	path   string
	lock   *os.File // nil if opened by View
	writer *conn    // nil if opened by View; used by the writer goroutine only
	free   func(dir string) (uint64, error)

	puts    chan *put
	quit    chan struct{} // closed by Close
	stopped chan struct{} // closed when the writer goroutine has ended
	closing sync.Once
	closed  error // what Close returned
	dead    atomic.Pointer[Error]
	clock   atomic.Int64 // milliseconds
	nextID  int64        // of the next message row; used by the writer only
	idle    sync.Pool    // of *put that were answered, or never handed over

	readMu sync.Mutex
	reader *conn // nil once closed
}

// put is a Put waiting for its transaction.
type put struct {
	changes []Change
	done    chan error
}

// Path returns the database file's path.
func (s *Store) Path() string { return s.path }

// Put applies changes, all or none, in order, and returns when the transaction
// that holds them is on the disk. Concurrent calls share a transaction.
//
// IDs are filled into the structs of a Listed before Put returns nil; until then
// nobody else may touch them.
//
// When ctx ends before the writer has taken the changes, Put returns its error
// and nothing was or will be written. Once taken, Put waits for the outcome
// whatever ctx does. ErrConflict and an Error of CodeFull leave the store as it
// was; after a failed write or commit every Put fails with ErrDead.
func (s *Store) Put(ctx context.Context, changes ...Change) error {
	if s.writer == nil {
		return ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p, _ := s.idle.Get().(*put)
	if p == nil {
		p = &put{done: make(chan error, 1)}
	}
	p.changes = changes
	defer func() {
		p.changes = nil
		s.idle.Put(p)
	}()
	select {
	case s.puts <- p:
		return <-p.done
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return ErrClosed
	}
}

// Clock returns the high-water clock: the latest time that a Clock change has
// reached, zero if there was none.
func (s *Store) Clock() time.Time { return ofMillis(s.clock.Load()) }

// write is the writer goroutine. It takes whatever waits as one transaction;
// while that is being synced the next one gathers by itself, so no timer is
// needed.
func (s *Store) write() {
	defer close(s.stopped)
	batch := make([]*put, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case p := <-s.puts:
			batch = append(batch, p)
		case <-s.quit:
			return
		}
	gather:
		for len(batch) < maxBatch {
			select {
			case p := <-s.puts:
				batch = append(batch, p)
			default:
				break gather
			}
		}
		s.commit(batch)
	}
}

// commit writes batch as one transaction and answers each of its members. One
// that does not fit is answered and left out, and the rest is done again.
func (s *Store) commit(batch []*put) {
	batch = s.roomFor(batch)
	for len(batch) > 0 {
		if dead := s.dead.Load(); dead != nil {
			answer(batch, dead)
			return
		}
		t := &tx{s: s, c: s.writer}
		culprit, err := t.run(batch)
		switch {
		case err == nil:
			t.finish()
			answer(batch, nil)
			return
		case culprit >= 0 && errors.Is(err, ErrConflict):
			if _, rerr := s.writer.exec("ROLLBACK"); rerr != nil {
				s.die(rerr)
				continue
			}
			batch[culprit].done <- err
			batch = append(batch[:culprit], batch[culprit+1:]...)
		default:
			s.die(err)
		}
	}
}

func answer(batch []*put, err error) {
	for _, p := range batch {
		p.done <- err
	}
}

// die ends the store for good. There is no ROLLBACK: closing does that, and
// what the disk holds is for the next process to find out.
func (s *Store) die(err error) {
	s.dead.CompareAndSwap(nil, &Error{
		Code: CodeWriteFailed, Path: s.path,
		Text: fmt.Sprintf("writing to %s failed; nothing more is promised until popferry starts again", base(s.path)),
		Hint: "check the disk, then run popferry again: it finds out what was delivered",
		Err:  fmt.Errorf("%w: %w", ErrDead, err),
	})
}

// roomFor answers the members of batch that begin new work when the disk is
// nearly full. Outcomes of work that was begun are still written: the reserve
// is kept for them.
func (s *Store) roomFor(batch []*put) []*put {
	var full error
	checked := false
	kept := batch[:0]
	for _, p := range batch {
		if p.begins() && !checked {
			full, checked = s.room(), true
		}
		if full != nil && p.begins() {
			p.done <- full
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// begins reports whether p announces new work.
func (p *put) begins() bool {
	for _, ch := range p.changes {
		switch ch.(type) {
		case Fetching, *Fetching, Intent, *Intent:
			return true
		}
	}
	return false
}

// Close waits for the Puts that were taken, marks the state as cleanly closed,
// and releases the lock. After a failed write it only releases. It may be
// called more than once.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = s.shut() })
	return s.closed
}

func (s *Store) shut() error {
	if s.writer != nil {
		close(s.quit)
		<-s.stopped
	}
	s.readMu.Lock()
	err := s.reader.close()
	s.reader = nil
	s.readMu.Unlock()
	if s.writer == nil {
		return err
	}
	if s.dead.Load() == nil {
		// The mark is the last write. The checkpoint leaves one file that can be
		// read, and copied, alone.
		_, cerr := s.writer.exec("UPDATE meta SET value = 1 WHERE name = 'clean'")
		if cerr == nil {
			cerr = s.writer.script("PRAGMA wal_checkpoint(TRUNCATE)")
		}
		err = errors.Join(err, cerr)
	}
	return errors.Join(err, s.writer.close(), s.lock.Close())
}
