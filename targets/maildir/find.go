package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"popferry/targets"
)

// Mark makes the folder ready and returns the UID that the next copy will have.
func (t *Target) Mark(ctx context.Context, name string) (targets.Mark, error) {
	f, err := t.folder(name)
	if err != nil {
		return targets.Mark{}, err
	}
	if err := t.begin(ctx, "folder "+f.op); err != nil {
		return targets.Mark{}, err
	}
	defer t.busy.Done()
	if err := t.ready(f); err != nil {
		return targets.Mark{}, err
	}
	validity, next, err := t.numbers.peek(t)
	if err != nil {
		return targets.Mark{}, t.fault("folder "+f.op, f, err)
	}
	return targets.Mark{Folder: f.name, UIDValidity: validity, UIDNext: next}, nil
}

// Find reads the names in the folder, once, and opens no file. What it finds is
// on disk: an interrupted delivery may have left a name that was not yet.
func (t *Target) Find(ctx context.Context, name string, since targets.Mark, want []targets.Wanted, claimed func(uid uint32) bool) ([]targets.Found, error) {
	found := make([]targets.Found, len(want))
	f, err := t.folder(name)
	if err != nil {
		return nil, err
	}
	op := "search in " + f.op
	if err := t.begin(ctx, op); err != nil {
		return nil, err
	}
	defer t.busy.Done()
	f.gate.Lock()
	defer f.gate.Unlock()
	copies, err := t.scan(f)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return nil, t.fault(op, f, err)
	}
	byTag := map[string][]*entry{}
	given := foreignUIDs{}
	for _, c := range copies {
		if c.mark.tag == "" || c.mark.validity == since.UIDValidity && c.mark.uid < since.UIDNext {
			continue
		}
		if c.uid = c.mark.uid; c.mark.validity != since.UIDValidity {
			if since.UIDNext > 1 {
				continue // from before the UIDs began anew
			}
			c.uid = given.next(c.base)
		}
		if claimed == nil || !claimed(c.uid) {
			byTag[c.mark.tag] = append(byTag[c.mark.tag], c)
		}
	}
	for i, w := range want {
		tag := tagOf(w.Hash)
		if list := byTag[tag]; len(list) > 0 {
			found[i] = targets.Found{OK: true, UIDValidity: since.UIDValidity, UID: list[0].uid, Exact: true}
			byTag[tag] = list[1:]
		}
	}
	return found, nil
}

// entry is one message in a folder.
type entry struct {
	base string // its name without flags, which stays for ever
	path string // new/NAME or cur/NAME, when it was last looked at
	mark mark   // zero if popferry did not deliver it
	uid  uint32
	size int64 // octets on disk; -1 if nobody has asked
}

// scans is how often a folder is read whose files are being renamed.
const scans = 5

// scan returns what lies in a folder, in the order of base names. Its
// directories are on disk afterwards. A reader that sets flags renames files,
// and one that is renamed while its directory is read may not be seen: so the
// directories are read again until they do not change meanwhile, and count
// together.
func (t *Target) scan(f *folder) ([]*entry, error) {
	root, err := t.enter(f)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	all := map[string]*entry{}
	for range scans {
		before, err := changed(root)
		if err != nil {
			return nil, err
		}
		// new first: files go from there to cur.
		for _, dir := range []string{"new", "cur"} {
			names, err := list(root, dir)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if name[0] == '.' {
					continue // never a message
				}
				base, _, _ := strings.Cut(name, infoMark)
				m, _ := markOf(base)
				all[base] = &entry{base: base, path: dir + "/" + name, mark: m, size: -1}
			}
		}
		after, err := changed(root)
		if err != nil {
			return nil, err
		}
		if after == before {
			break
		}
	}
	for _, dir := range []string{"new", "cur"} {
		if err := syncDir(root, dir); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *entry) int { return strings.Compare(a.base, b.base) }), nil
}

// changed is when names in the folder last changed.
func changed(root *os.Root) (at [2]time.Time, err error) {
	for i, dir := range []string{"new", "cur"} {
		info, err := root.Stat(dir)
		if err != nil {
			return at, err
		}
		at[i] = info.ModTime()
	}
	return at, nil
}

// locate finds a file again whose name has got other flags.
func locate(root *os.Root, base string) (string, error) {
	for _, dir := range []string{"new", "cur", "new"} {
		names, err := list(root, dir)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			if b, _, _ := strings.Cut(name, infoMark); b == base {
				return dir + "/" + name, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", base, fs.ErrNotExist)
}
