package imap

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"popferry/targets"
)

// maxReadOctets is how much of a folder is read by one FETCH for Takes that wait
// together; a longer message is read alone.
const maxReadOctets = 8 << 20

// catalog is what lay in a folder below a mark. A copy costs 28 octets, because
// of its Message-ID only a hash is kept: that two share one makes a candidate
// too many, and what a candidate is its contents decide.
type catalog struct {
	t        *Target
	folder   *folder
	validity uint32
	op       string
	seed     maphash.Seed

	mu      sync.Mutex
	lines   []line  // by key, then size
	bySize  []int32 // indices of lines
	read    map[uint32]targets.Hash
	pending map[uint32]*reading // by the UIDs that are to be read
	queue   []*reading
	serving bool // a goroutine reads what is in queue
}

// line is one copy in a catalog.
type line struct {
	key  uint64 // of its Message-ID
	size int64  // as the server says
	uid  uint32
	out  bool // taken, or gone
}

// reading is copies to be read for a Take.
type reading struct {
	uids    []uint32
	octets  int64
	longest int64
	waiters int // guarded by catalog.mu
	done    chan struct{}
	err     error // valid when done
}

// Catalog lists the folder, and reads what Take needs to see.
func (t *Target) Catalog(ctx context.Context, name string, below targets.Mark, claimed func(uid uint32) bool) (targets.Catalog, error) {
	k := &catalog{
		t: t, validity: below.UIDValidity, op: fmt.Sprintf("FETCH from %q", name), seed: maphash.MakeSeed(),
		read: map[uint32]targets.Hash{}, pending: map[uint32]*reading{},
	}
	if below.UIDNext <= 1 {
		return k, nil
	}
	var err error
	if k.folder, err = t.folderOf(ctx, name, below); err == nil {
		l := listing{k: k, last: below.UIDNext - 1, claimed: claimed, key: k.key}
		if err = l.run(ctx); err == nil {
			k.fill(l.lines)
		}
	}
	if err != nil {
		return nil, t.wrap(k.op, err)
	}
	return k, nil
}

func (k *catalog) key(id string) uint64 { return maphash.String(k.seed, id) }

// renewed is the error of a folder that is not the one that was listed.
func (k *catalog) renewed(validity uint32) error {
	return &targets.Error{Op: k.op, Err: fmt.Errorf("the folder was numbered anew: UIDVALIDITY was %d and is %d", k.validity, validity)}
}

// Take reads copies with w's Message-ID, or without one like w, until one is
// found whose contents are w's: first those of its size, then those of a size
// not far from it, because some servers count line ends otherwise, or guess.
// Nothing is read twice, and Takes that wait at the same time have their copies
// read together.
func (k *catalog) Take(ctx context.Context, w targets.Wanted) (targets.Found, error) {
	if w.Hash.IsZero() {
		return targets.Found{}, nil
	}
	for {
		k.mu.Lock()
		found, r := k.pickLocked(w)
		if r != nil {
			r.waiters++
		}
		k.mu.Unlock()
		if r == nil {
			return found, nil
		}
		select {
		case <-r.done:
			if r.err != nil {
				return targets.Found{}, k.t.wrap(k.op, r.err)
			}
		case <-ctx.Done():
			k.mu.Lock()
			r.waiters--
			k.mu.Unlock()
			return targets.Found{}, &targets.Error{Op: k.op, Err: ctx.Err()}
		}
	}
}

// pickLocked takes a copy of w, or returns what must be read to know whether
// there is one; nil and nothing found says that there is none.
func (k *catalog) pickLocked(w targets.Wanted) (targets.Found, *reading) {
	for tier := range 3 {
		var unread []*line
		for _, l := range k.candidates(w, tier) {
			if l.out {
				continue
			}
			hash, known := k.read[l.uid]
			if !known {
				unread = append(unread, l)
			} else if hash == w.Hash {
				l.out = true
				delete(k.read, l.uid)
				return targets.Found{OK: true, UIDValidity: k.validity, UID: l.uid, Exact: true}, nil
			}
		}
		if len(unread) > 0 {
			return targets.Found{}, k.readLocked(unread)
		}
	}
	return targets.Found{}, nil
}

// candidates returns copies that may be one of w, the likeliest in tier 0.
func (k *catalog) candidates(w targets.Wanted, tier int) (list []*line) {
	slack := int64(sizeSlack)
	switch {
	case tier == 1:
		slack = max(rewriteSlack, w.Size/rewriteShare)
	case tier == 2 && w.MessageID != "":
		return nil
	case tier == 2:
		// The server may see a Message-ID where we gave up looking.
		at := func(size int64) int {
			i, _ := slices.BinarySearchFunc(k.bySize, size, func(i int32, size int64) int { return cmp.Compare(k.lines[i].size, size) })
			return i
		}
		for _, i := range k.bySize[at(w.Size-slack):at(w.Size+slack+1)] {
			list = append(list, &k.lines[i])
		}
		return list
	}
	key := k.key(w.MessageID)
	at := func(size int64) int {
		i, _ := slices.BinarySearchFunc(k.lines, size, func(l line, size int64) int {
			return cmp.Or(cmp.Compare(l.key, key), cmp.Compare(l.size, size))
		})
		return i
	}
	for i, end := at(w.Size-slack), at(w.Size+slack+1); i < end; i++ {
		list = append(list, &k.lines[i])
	}
	return list
}

// readLocked has copies read, or waits for those that are being read.
func (k *catalog) readLocked(lines []*line) *reading {
	r := &reading{done: make(chan struct{})}
	for _, l := range lines {
		if other := k.pending[l.uid]; other != nil {
			return other
		}
		r.uids = append(r.uids, l.uid)
		r.octets += l.size
		r.longest = max(r.longest, l.size)
	}
	for _, uid := range r.uids {
		k.pending[uid] = r
	}
	k.queue = append(k.queue, r)
	if !k.serving {
		k.serving = k.t.running(k.serve)
	}
	if !k.serving {
		k.endLocked([]*reading{r}, errTargetClosed)
		k.queue = nil
	}
	return r
}

// serve reads what is wanted until nothing is.
func (k *catalog) serve() {
	for {
		k.mu.Lock()
		batch := k.batchLocked()
		k.serving = batch != nil
		k.mu.Unlock()
		if batch == nil {
			return
		}
		err := k.t.borrow(k.t.ctx, func(c *conn) error { return k.fetch(c, batch) })
		k.mu.Lock()
		k.endLocked(batch, err)
		k.mu.Unlock()
	}
}

// batchLocked returns what to read next, leaving out what nobody waits for any
// more; nil if there is nothing.
func (k *catalog) batchLocked() (batch []*reading) {
	octets, uids := int64(0), 0
	for len(k.queue) > 0 {
		r := k.queue[0]
		if r.waiters == 0 {
			k.endLocked([]*reading{r}, context.Canceled)
			k.queue = k.queue[1:]
			continue
		}
		octets += r.octets
		uids += len(r.uids)
		if batch != nil && (octets > maxReadOctets || uids > maxUIDs) {
			break
		}
		batch = append(batch, r)
		k.queue = k.queue[1:]
	}
	return batch
}

// fetch reads the copies of a batch, on a connection that may look at another
// folder.
func (k *catalog) fetch(c *conn, batch []*reading) error {
	var uids []uint32
	longest := int64(0)
	for _, r := range batch {
		uids = append(uids, r.uids...)
		longest = max(longest, r.longest)
	}
	slices.Sort(uids)
	c.selecting(true)
	defer c.selecting(false)
	exam, err := c.ask("EXAMINE", k.folder) // the FETCH follows without waiting
	if err != nil {
		return err
	}
	got := make(map[uint32]targets.Hash, len(uids))
	ferr := c.digests(uids, longest, func(uid uint32, d digest) { got[uid] = d.hash })
	<-exam.ended
	switch {
	case exam.err != nil:
		return exam.err
	case exam.reply.status != "OK":
		return exam.reply.error(fmt.Sprintf("EXAMINE %q", k.folder.name))
	case exam.box.validity != k.validity:
		return k.renewed(exam.box.validity)
	case ferr != nil:
		return ferr
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, uid := range uids {
		k.read[uid] = got[uid] // zero, which is nobody's, if it is gone
	}
	return nil
}

// endLocked tells those who wait that the readings are over.
func (k *catalog) endLocked(batch []*reading, err error) {
	for _, r := range batch {
		for _, uid := range r.uids {
			delete(k.pending, uid)
		}
		r.err = err
		close(r.done)
	}
}
