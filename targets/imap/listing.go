package imap

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/emersion/go-imap/v2"

	"popferry/targets"
)

// listing is a folder being listed for a catalog. A server that was never asked
// for Message-IDs reads every message for it, which keeps one processor of its
// busy for a connection; so a big folder is listed in parts, over two of them.
type listing struct {
	k       *catalog
	last    uint32 // UID
	claimed func(uid uint32) bool
	key     func(messageID string) uint64

	mu    sync.Mutex
	begun bool
	parts []uidRange // that nobody has begun to read
	lines []line
}

// uidRange is the UIDs from first to last.
type uidRange struct{ first, last uint32 }

// listingParts is how many parts a big folder has: more than connections,
// because the second may have to be dialled first, and UIDs may lie unevenly.
const listingParts = 4

// run lists the folder.
func (l *listing) run(ctx context.Context) error {
	needed, cancel := context.WithCancel(ctx)
	defer cancel()
	helping, stop := context.WithCancel(ctx)
	defer stop()
	var helper sync.WaitGroup
	for {
		err := l.k.t.borrow(ctx, func(c *conn) error {
			split, err := l.open(c)
			if split {
				helper.Go(func() { l.help(helping, needed) })
			}
			if err != nil {
				return err
			}
			return l.read(c)
		})
		cancel() // a helper that still waits for a connection comes too late
		if err != nil {
			stop()
		}
		helper.Wait()
		if err != nil {
			return blameless(err)
		}
		if len(l.parts) == 0 {
			l.lines = unique(l.lines)
			return nil
		}
	}
}

// blameless makes an error one that no message is charged for: the server refused
// to list a folder, and nothing else.
func blameless(err error) error {
	if e, ok := errors.AsType[*targets.Error](err); ok && e.Fault == targets.Refused {
		e.Fault = targets.Transient
	}
	return err
}

// help reads parts over a second connection, if one can be had while it is
// needed. What it cannot read is left to the first.
func (l *listing) help(ctx, needed context.Context) {
	c, err := l.k.t.acquire(needed, true)
	if err != nil {
		return
	}
	defer l.k.t.release(c)
	defer context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })()
	if _, err := l.open(c); err == nil {
		_ = l.read(c)
	}
}

// open opens the folder on c. split says, once, that it is worth a helper.
func (l *listing) open(c *conn) (split bool, err error) {
	k := l.k
	c.selecting(true)
	defer c.selecting(false)
	box, err := c.client.Select(k.folder.name, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return false, c.missing(k.folder, err)
	}
	if box.UIDValidity != k.validity {
		return false, k.renewed(box.UIDValidity)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun || box.NumMessages == 0 {
		return false, nil
	}
	l.begun = true
	l.lines = make([]line, 0, min(box.NumMessages, l.last, maxScan))
	if box.NumMessages < bigFolder || l.last < listingParts {
		l.parts = []uidRange{{1, l.last}}
		return false, nil
	}
	for i := range uint32(listingParts) {
		part := l.last / listingParts
		l.parts = append(l.parts, uidRange{i*part + 1, (i + 1) * part})
	}
	l.parts[listingParts-1].last = l.last
	return true, nil
}

// read reads parts until none is left. One that could not be read to its end is
// left for another connection.
func (l *listing) read(c *conn) error {
	c.selecting(true)
	defer c.selecting(false)
	for {
		l.mu.Lock()
		if len(l.parts) == 0 {
			l.mu.Unlock()
			return nil
		}
		part := l.parts[0]
		l.parts = l.parts[1:]
		l.mu.Unlock()
		var lines []line
		err := c.overview(part.first, part.last, func(uid uint32, size int64, id string) {
			if part.first <= uid && uid <= part.last && (l.claimed == nil || !l.claimed(uid)) {
				lines = append(lines, line{key: l.key(id), size: size, uid: uid})
			}
		})
		l.mu.Lock()
		if err != nil {
			l.parts = append(l.parts, part)
			l.mu.Unlock()
			return err
		}
		l.lines = append(l.lines, lines...)
		l.mu.Unlock()
	}
}

// unique puts lines in the order of their UIDs: a copy that the server tells of
// twice must not be taken twice.
func unique(lines []line) []line {
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.uid, b.uid) })
	return slices.CompactFunc(lines, func(a, b line) bool { return a.uid == b.uid })
}

// fill puts lines in the order in which they are looked up.
func (k *catalog) fill(lines []line) {
	slices.SortStableFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.size, b.size))
	})
	bySize := make([]int32, len(lines))
	for i := range bySize {
		bySize[i] = int32(i)
	}
	slices.SortFunc(bySize, func(i, j int32) int { return cmp.Compare(lines[i].size, lines[j].size) })
	k.lines, k.bySize = lines, bySize
}
