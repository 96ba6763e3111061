package maildir

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"popferry/targets"
)

// Box returns the name of the folder if its directory is there.
func (t *Target) Box(ctx context.Context, name string) (string, error) {
	f, err := t.folder(name)
	if err != nil {
		return "", err
	}
	op := "search in " + f.op
	if err := t.begin(ctx, op); err != nil {
		return "", err
	}
	defer t.busy.Done()
	info, err := os.Stat(filepath.Join(t.cfg.Path, f.dir, "cur"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", t.fault(op, f, err)
	case !info.IsDir():
		return "", nil
	}
	return f.name, nil
}

// Boxes returns the folders whose directories are there. Those whose names
// popferry would write otherwise are left out.
func (t *Target) Boxes(ctx context.Context) ([]string, error) {
	home, err := t.folder("")
	if err != nil {
		return nil, err
	}
	op := "search in " + t.cfg.Path
	if err := t.begin(ctx, op); err != nil {
		return nil, err
	}
	defer t.busy.Done()
	names, err := t.dirs()
	if err != nil {
		return nil, t.fault(op, home, err)
	}
	boxes := []string{"INBOX"}
	for _, dir := range names {
		levels, ok := strings.CutPrefix(dir, ".")
		if !ok || levels == "" || dir == ".." {
			continue
		}
		name, ok := targets.FromUTF7(strings.ReplaceAll(levels, ".", "/"))
		if !ok {
			continue
		}
		if f, err := t.folder(name); err == nil && f.dir == dir {
			boxes = append(boxes, f.name)
		}
	}
	slices.Sort(boxes[1:])
	return boxes, nil
}

// dirs returns the names of directories in the Maildir.
func (t *Target) dirs() ([]string, error) {
	all, err := os.ReadDir(t.cfg.Path)
	var names []string
	for _, e := range all {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return names, err
}

// Examine reads every message: what the name of a file says of it is what was
// true when it was delivered.
func (t *Target) Examine(ctx context.Context, box string, key func(string) uint64) ([]targets.Copy, targets.Mark, error) {
	var copies []targets.Copy
	mark, err := t.look(ctx, box, func(root *os.Root, c *entry) error {
		k := targets.Copy{UID: c.uid, Size: -1}
		err := peruse(root, c, func(r io.Reader) (err error) {
			var id string
			if id, k.Size, err = sizeOf(r); err == nil {
				k.Key = key(id)
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is gone
		}
		if err != nil {
			k.Size = -1
		}
		copies = append(copies, k)
		return nil
	})
	slices.SortFunc(copies, func(a, b targets.Copy) int { return cmp.Compare(a.UID, b.UID) })
	return copies, mark, err
}

// sizeOf returns the Message-ID of a message and its size in canonical form.
func sizeOf(r io.Reader) (id string, size int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	id = targets.MessageIDOf(idField(head))
	_, size, err = targets.CanonOf(in)
	return id, size, err
}

// idField returns what follows the beginning of the first Message-ID field of a
// header, nil if it has none.
func idField(head []byte) []byte {
	const name = "message-id:"
	for len(head) > 0 && head[0] != '\n' && head[0] != '\r' {
		if len(head) >= len(name) && strings.EqualFold(string(head[:len(name)]), name) {
			return head
		}
		i := bytes.IndexByte(head, '\n')
		if i < 0 {
			return nil
		}
		head = head[i+1:]
	}
	return nil
}

// Hashes reads the copies once more.
func (t *Target) Hashes(ctx context.Context, at targets.Mark, copies []targets.Copy, each func(uid uint32, h targets.Hash)) error {
	want := make(map[uint32]bool, len(copies))
	for _, k := range copies {
		want[k.UID] = true
	}
	mark, err := t.look(ctx, at.Folder, func(root *os.Root, c *entry) error {
		if !want[c.uid] {
			return nil
		}
		// What cannot be read is left out.
		_ = peruse(root, c, func(r io.Reader) error {
			h, _, err := targets.CanonOf(r)
			if err == nil {
				each(c.uid, h)
			}
			return err
		})
		return nil
	})
	if err == nil && mark.UIDValidity != at.UIDValidity {
		return &targets.Error{Op: "search in " + at.Folder, Err: errors.New("the numbers of its messages have begun anew")}
	}
	return err
}

// look calls do for every message in a folder, in order of names, with its UID.
// It reserves no UIDs, so those of a Maildir that has none yet mean nothing:
// its UIDVALIDITY is then 1.
func (t *Target) look(ctx context.Context, box string, do func(*os.Root, *entry) error) (targets.Mark, error) {
	mark := targets.Mark{Folder: box}
	f, err := t.folder(box)
	if err != nil {
		return mark, err
	}
	op := "search in " + f.op
	if err := t.begin(ctx, op); err != nil {
		return mark, err
	}
	defer t.busy.Done()
	all, err := t.scan(f)
	if errors.Is(err, fs.ErrNotExist) {
		return mark, nil
	}
	if err == nil {
		mark.UIDValidity, err = t.validity()
	}
	if err == nil {
		err = t.walk(ctx, f, all, mark.UIDValidity, do)
	}
	if err != nil {
		return mark, t.fault(op, f, err)
	}
	return mark, nil
}

func (t *Target) walk(ctx context.Context, f *folder, all []*entry, validity uint32, do func(*os.Root, *entry) error) error {
	root, err := t.enter(f)
	if err != nil {
		return err
	}
	defer root.Close()
	given := foreignUIDs{}
	for _, c := range all {
		if c.uid = c.mark.uid; c.mark.validity != validity {
			c.uid = given.next(c.base)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := do(root, c); err != nil {
			return err
		}
	}
	return nil
}

// validity is the UIDVALIDITY of the latest block.
func (t *Target) validity() (uint32, error) {
	root, err := os.OpenRoot(t.cfg.Path)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	all, err := blocks(root)
	return max(1, latest(all).validity), err
}

// peruse opens a file, under another name if a reader has set flags meanwhile.
func peruse(root *os.Root, c *entry, do func(io.Reader) error) error {
	file, err := root.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		var path string
		if path, err = locate(root, c.base); err == nil {
			file, err = root.Open(path)
		}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return do(file)
}
