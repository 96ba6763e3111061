package imap

import (
	"context"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"

	"popferry/targets"
)

const (
	settleTime   = 5 * time.Second
	settleLarge  = 30 * time.Second
	largeMessage = 10 << 20

	maxScan   = 500_000 // messages looked through after UIDVALIDITY changed
	sizeSlack = 2       // a final CRLF that one side adds

	// A server that rewrites a message changes its size by no more than this,
	rewriteSlack = 4 << 10
	rewriteShare = 50 // or by one part in so many
)

// Find looks for copies of want in the folder (RFC 3501 §6.4.5): every message
// from since on is listed by FETCH, because SEARCH HEADER matches substrings and
// misses folded Message-IDs; those of about the right size are read and hashed.
// claimed is asked after this process's own APPENDs to the folder have ended;
// their outcomes must be known to it by then.
func (t *Target) Find(ctx context.Context, name string, since targets.Mark, want []targets.Wanted, claimed func(uid uint32) bool) ([]targets.Found, error) {
	found := make([]targets.Found, len(want))
	if len(want) == 0 {
		return found, nil
	}
	op := fmt.Sprintf("FETCH from %q", name)
	if err := t.settled(ctx, want); err != nil {
		return nil, &targets.Error{Op: op, Err: err}
	}
	f, err := t.folderOf(ctx, name, since)
	if err != nil {
		return nil, t.wrap(op, err)
	}
	if err := t.freeze(ctx, f); err != nil {
		return nil, t.wrap(op, err)
	}
	defer t.thaw(f)
	s := &search{folder: f, since: since, want: want, claimed: claimed, found: found}
	if err := t.borrow(ctx, s.run); err != nil {
		return nil, t.wrap(op, err)
	}
	return found, nil
}

// settled waits until what a dead connection left at the server has either been
// stored or never will be.
func (t *Target) settled(ctx context.Context, want []targets.Wanted) error {
	wait, long := t.cfg.Settle, t.cfg.SettleLarge
	if wait == 0 {
		wait = settleTime
	}
	if long == 0 {
		long = settleLarge
	}
	for _, w := range want {
		if w.Size > largeMessage {
			wait = max(wait, long)
		}
	}
	t.mu.Lock()
	from := t.opened
	if t.lastLoss.After(from) {
		from = t.lastLoss
	}
	t.mu.Unlock()
	if wait -= t.now().Sub(from); wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.ctx.Done():
		return errTargetClosed
	}
}

// folderOf returns the folder to look in, whether it is there or not.
func (t *Target) folderOf(ctx context.Context, name string, since targets.Mark) (*folder, error) {
	c, err := t.acquire(ctx, false) // the server's ways must be known
	if err != nil {
		return nil, err
	}
	t.leave(c)
	if since.Folder != "" {
		return t.folderNamed(since.Folder), nil
	}
	if name == "" {
		name = t.home()
	}
	t.mu.Lock()
	f, facts := t.aliases[name], t.facts
	t.mu.Unlock()
	if f != nil {
		return f, nil
	}
	full, err := facts.serverName(name)
	if err != nil {
		return nil, &targets.Error{Fault: targets.Refused, Op: "EXAMINE", Err: err}
	}
	return t.folderNamed(full), nil
}

// freeze holds back what waits for f and waits until what was sent is answered:
// a copy that is just being stored would pass for an older one.
func (t *Target) freeze(ctx context.Context, f *folder) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.frozen++
	for f.inFlight > 0 {
		ch := t.changed()
		t.mu.Unlock()
		select {
		case <-ch:
			t.mu.Lock()
		case <-ctx.Done():
			t.mu.Lock()
			f.frozen--
			t.notify()
			return ctx.Err()
		}
	}
	return nil
}

func (t *Target) thaw(f *folder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.frozen--
	t.notify()
}

// search is one Find on one connection.
type search struct {
	folder  *folder
	since   targets.Mark
	want    []targets.Wanted
	claimed func(uid uint32) bool
	found   []targets.Found

	validity uint32
	byID     map[string][]int // indices of want
	bySize   map[int64][]int
}

// candidate is a copy that may be one of want.
type candidate struct {
	uid  uint32
	size int64
	id   string
	digest
	taken bool
}

func (s *search) run(c *conn) error {
	c.selecting(true)
	defer c.selecting(false)
	box, err := c.client.Select(s.folder.name, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return c.missing(s.folder, err)
	}
	s.validity = box.UIDValidity
	from := max(1, s.since.UIDNext)
	// A server that has no UIDVALIDITY promises nothing about its UIDs.
	if s.since.UIDValidity != s.validity || s.validity == 0 {
		if from = 1; box.NumMessages > maxScan {
			return fmt.Errorf("UIDVALIDITY changed and the folder has %d messages, too many to look through", box.NumMessages)
		}
	}
	s.byID, s.bySize = map[string][]int{}, map[int64][]int{}
	for i, w := range s.want {
		s.byID[w.MessageID] = append(s.byID[w.MessageID], i)
		for size := w.Size - sizeSlack; size <= w.Size+sizeSlack; size++ {
			s.bySize[size] = append(s.bySize[size], i)
		}
	}
	list, err := s.list(c, from)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := s.read(c, list); err != nil {
		return err
	}
	s.match(list, true)
	s.match(list, false)
	return nil
}

// list returns what lies at or after from and may be a copy.
func (s *search) list(c *conn, from uint32) (list []*candidate, _ error) {
	err := c.overview(from, 0, func(uid uint32, size int64, id string) {
		k := &candidate{uid: uid, size: size, id: id}
		// "n:*" always has the last message, even when it lies before n.
		if uid >= from && s.plausible(k) && (s.claimed == nil || !s.claimed(uid)) {
			list = append(list, k)
		}
	})
	return list, err
}

// read reads the candidates.
func (s *search) read(c *conn, list []*candidate) error {
	byUID := make(map[uint32]*candidate, len(list))
	uids := make([]uint32, 0, len(list))
	longest := int64(0)
	for _, k := range list {
		byUID[k.uid] = k
		uids = append(uids, k.uid)
		longest = max(longest, k.size)
	}
	return c.digests(uids, longest, func(uid uint32, d digest) {
		if k := byUID[uid]; k != nil {
			k.digest = d
		}
	})
}

func (s *search) plausible(k *candidate) bool {
	if len(s.bySize[k.size]) > 0 {
		return true
	}
	for _, i := range s.byID[k.id] {
		if alike(k.size, s.want[i].Size) {
			return true
		}
	}
	return false
}

// alike tells whether a copy of got octets may be one of want octets that the
// server has rewritten.
func alike(got, want int64) bool {
	return max(got-want, want-got) <= max(rewriteSlack, want/rewriteShare)
}

// match pairs candidates and wants one to one: by hash, or where the server
// rewrote the message by Message-ID, header and size.
func (s *search) match(list []*candidate, exact bool) {
	for i, w := range s.want {
		if s.found[i].OK {
			continue
		}
		for _, k := range list {
			if k.taken || k.hash.IsZero() {
				continue
			}
			same := k.hash == w.Hash
			if !exact {
				same = w.MessageID != "" && k.id == w.MessageID && !w.Stable.IsZero() && k.stable == w.Stable && alike(k.size, w.Size)
			}
			if same {
				k.taken = true
				s.found[i] = targets.Found{OK: true, UIDValidity: s.validity, UID: k.uid, Exact: exact}
				break
			}
		}
	}
}
