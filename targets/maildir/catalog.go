package maildir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"popferry/targets"
)

// catalog is what lay in a folder below a mark. The hash of a copy that popferry
// made is in its name; other files are read when a Take needs to see them, each
// once.
type catalog struct {
	t        *Target
	folder   *folder
	op       string
	validity uint32

	mu     sync.Mutex
	byTag  map[string][]*entry
	byHash map[targets.Hash][]*entry
	unread []*entry // by size
}

// Catalog reads the names in the folder.
func (t *Target) Catalog(ctx context.Context, name string, below targets.Mark, claimed func(uid uint32) bool) (targets.Catalog, error) {
	f, err := t.folder(name)
	if err != nil {
		return nil, err
	}
	k := &catalog{
		t: t, folder: f, op: "search in " + f.op, validity: below.UIDValidity,
		byTag: map[string][]*entry{}, byHash: map[targets.Hash][]*entry{},
	}
	if err := t.begin(ctx, k.op); err != nil {
		return nil, err
	}
	defer t.busy.Done()
	all, err := t.scan(f)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = k.fill(all, below, claimed)
	}
	if err != nil {
		return nil, t.fault(k.op, f, err)
	}
	return k, nil
}

// fill takes in what lies below the mark and is not claimed.
func (k *catalog) fill(all []*entry, below targets.Mark, claimed func(uid uint32) bool) error {
	root, err := k.t.enter(k.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	given := foreignUIDs{}
	for _, c := range all {
		own := c.mark.tag != "" && c.mark.validity == below.UIDValidity
		switch {
		case own && c.mark.uid >= below.UIDNext:
			continue
		case own:
			c.uid = c.mark.uid
		default:
			c.uid = given.next(c.base)
		}
		if claimed != nil && claimed(c.uid) {
			continue
		}
		if c.mark.tag != "" {
			k.byTag[c.mark.tag] = append(k.byTag[c.mark.tag], c)
			continue
		}
		info, err := root.Stat(c.path)
		if errors.Is(err, fs.ErrNotExist) {
			if c.path, err = locate(root, c.base); err == nil {
				info, err = root.Stat(c.path)
			}
		}
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return err
		}
		c.size = info.Size()
		k.unread = append(k.unread, c)
	}
	slices.SortFunc(k.unread, func(a, b *entry) int { return cmp.Compare(a.size, b.size) })
	return nil
}

// Take first looks among the copies whose hash is known, then reads those that
// can be w by their size.
func (k *catalog) Take(ctx context.Context, w targets.Wanted) (targets.Found, error) {
	if w.Hash.IsZero() {
		return targets.Found{}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if found := k.pick(w.Hash); found.OK {
		return found, nil
	}
	if err := k.read(ctx, w); err != nil {
		return targets.Found{}, k.t.fault(k.op, k.folder, err)
	}
	return k.pick(w.Hash), nil
}

// pick takes a copy whose hash is known.
func (k *catalog) pick(h targets.Hash) targets.Found {
	tag := tagOf(h)
	var c *entry
	switch {
	case len(k.byTag[tag]) > 0:
		c, k.byTag[tag] = k.byTag[tag][0], k.byTag[tag][1:]
	case len(k.byHash[h]) > 0:
		c, k.byHash[h] = k.byHash[h][0], k.byHash[h][1:]
	default:
		return targets.Found{}
	}
	return targets.Found{OK: true, UIDValidity: k.validity, UID: c.uid, Exact: true}
}

// sizeSlack is by how much a file may differ from the canonical size in what is
// no line end: a final one may be missing, a run of CRs be longer.
const sizeSlack = 64

// read hashes the files that can be w: on disk every line end may be one octet
// shorter, and no message has more line ends than octets.
func (k *catalog) read(ctx context.Context, w targets.Wanted) error {
	from, _ := slices.BinarySearchFunc(k.unread, w.Size/2-sizeSlack, func(c *entry, n int64) int { return cmp.Compare(c.size, n) })
	to, _ := slices.BinarySearchFunc(k.unread, w.Size+sizeSlack+1, func(c *entry, n int64) int { return cmp.Compare(c.size, n) })
	if from == to {
		return nil
	}
	if err := k.t.begin(ctx, k.op); err != nil {
		return err
	}
	defer k.t.busy.Done()
	root, err := k.t.enter(k.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	done := from
	for ; done < to && err == nil; done++ {
		if err = ctx.Err(); err == nil {
			err = k.hash(root, k.unread[done])
		}
		if err != nil {
			break
		}
	}
	k.unread = slices.Delete(k.unread, from, done)
	return err
}

// hash reads one file. A copy that stands for a message must be on disk, and
// whoever has written it may not have seen to that.
func (k *catalog) hash(root *os.Root, c *entry) error {
	file, err := root.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		var path string
		if path, err = locate(root, c.base); err == nil {
			file, err = root.Open(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is gone
	}
	if err != nil {
		return err
	}
	defer file.Close()
	h, _, err := targets.CanonOf(file)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.base, err)
	}
	k.byHash[h] = append(k.byHash[h], c)
	return nil
}
