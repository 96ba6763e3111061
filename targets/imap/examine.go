package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"popferry/targets"
)

// Box examines the folder, as HasFolder does.
func (t *Target) Box(ctx context.Context, name string) (string, error) {
	f, err := t.existing(ctx, cmp.Or(name, t.home()))
	if f == nil {
		return "", err
	}
	return f.name, nil
}

// Boxes asks for the folders of the account's own name space (RFC 2342): what
// others share is nobody's copy.
func (t *Target) Boxes(ctx context.Context) ([]string, error) {
	var names []string
	err := t.borrow(ctx, func(c *conn) error {
		t.mu.Lock()
		prefix := t.facts.prefix
		t.mu.Unlock()
		all, err := c.client.List("", "*", nil).Collect()
		names = nil
		for _, b := range all {
			holds := !slices.Contains(b.Attrs, imap.MailboxAttrNoSelect) && !slices.Contains(b.Attrs, imap.MailboxAttrNonExistent)
			if own := b.Mailbox == "INBOX" || strings.HasPrefix(b.Mailbox, prefix); holds && own {
				names = append(names, b.Mailbox)
			}
		}
		return err
	})
	if err != nil {
		return nil, t.wrap("LIST", err)
	}
	return names, nil
}

// Examine lists the folder with EXAMINE and FETCH, a big one over two
// connections.
func (t *Target) Examine(ctx context.Context, box string, key func(string) uint64) ([]targets.Copy, targets.Mark, error) {
	f, err := t.present(ctx, box)
	if f == nil {
		return nil, targets.Mark{Folder: box}, err
	}
	t.mu.Lock()
	mark := targets.Mark{Folder: f.name, UIDValidity: f.validity, UIDNext: f.next}
	t.mu.Unlock()
	k := &catalog{t: t, folder: f, validity: mark.UIDValidity, op: fmt.Sprintf("FETCH from %q", box)}
	l := listing{k: k, last: math.MaxUint32, key: key}
	if mark.UIDNext > 1 {
		l.last = mark.UIDNext - 1
	}
	if err := l.run(ctx); err != nil {
		return nil, mark, t.wrap(k.op, err)
	}
	copies := make([]targets.Copy, len(l.lines))
	for i, line := range l.lines {
		copies[i] = targets.Copy{UID: line.uid, Size: line.size, Key: line.key}
	}
	return copies, mark, nil
}

// present examines the folder that the server calls box; nil if there is none.
func (t *Target) present(ctx context.Context, box string) (*folder, error) {
	var f *folder
	err := t.borrow(ctx, func(c *conn) error {
		f = t.folderNamed(box)
		missing := t.examine(c, f)
		if missing == nil || c.failed() != nil || targets.FaultOf(missing) == targets.Down {
			return missing
		}
		there, err := c.client.List("", box, nil).Collect()
		switch {
		case err != nil:
			return err
		case slices.ContainsFunc(there, func(b *imap.ListData) bool {
			return b.Mailbox == box && !slices.Contains(b.Attrs, imap.MailboxAttrNonExistent) && !slices.Contains(b.Attrs, imap.MailboxAttrNoSelect)
		}):
			return blameless(missing)
		}
		f = nil
		return nil
	})
	if err != nil {
		return nil, t.wrap(fmt.Sprintf("EXAMINE %q", box), err)
	}
	return f, nil
}

// Hashes reads the copies, and goes on over another connection where one was
// lost.
func (t *Target) Hashes(ctx context.Context, at targets.Mark, copies []targets.Copy, each func(uid uint32, h targets.Hash)) error {
	op := fmt.Sprintf("FETCH from %q", at.Folder)
	longest := int64(0)
	want := make(map[uint32]bool, len(copies))
	for _, k := range copies {
		longest = max(longest, k.Size)
		want[k.UID] = true
	}
	rest := slices.Sorted(maps.Keys(want))
	if len(rest) == 0 {
		return nil
	}
	err := t.borrow(ctx, func(c *conn) error {
		c.selecting(true)
		defer c.selecting(false)
		box, err := c.client.Select(at.Folder, &imap.SelectOptions{ReadOnly: true}).Wait()
		switch {
		case err != nil:
			return err
		case box.UIDValidity != at.UIDValidity:
			return errRenewed
		}
		for len(rest) > 0 {
			few := rest[:min(len(rest), maxUIDs)]
			err := c.digests(few, longest, func(uid uint32, d digest) {
				if want[uid] {
					each(uid, d.hash)
				}
			})
			if err != nil {
				return err
			}
			rest = rest[len(few):]
		}
		return nil
	})
	if err != nil {
		return t.wrap(op, blameless(err))
	}
	return nil
}

var errRenewed = errors.New("the folder was numbered anew")
