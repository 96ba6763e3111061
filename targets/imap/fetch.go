package imap

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"popferry/targets"
)

const (
	maxHeader = 256 << 10 // octets of a copy's header that are compared
	maxUIDs   = 256       // in one FETCH: a command must fit go-imap's buffer, see writeForeign
)

// borrow lends do a connection of its own, and another one if that is lost.
// When ctx ends the connection does, because an answer may be long.
func (t *Target) borrow(ctx context.Context, do func(*conn) error) error {
	for try := 0; ; try++ {
		c, err := t.acquire(ctx, true)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
		if err = do(c); err != nil {
			err = listError(c, err)
		}
		stop()
		lost := c.failed() != nil
		t.release(c)
		if err == nil || !lost || ctx.Err() != nil || try == maxLosses {
			return err
		}
	}
}

// missing tells a folder that is not there, where nothing is found, from one
// that cannot be looked at now, for the reason err.
func (c *conn) missing(f *folder, err error) error {
	var e *imap.Error
	if !errors.As(err, &e) || e.Type != imap.StatusResponseTypeNo {
		return err
	}
	if e.Code == imap.ResponseCodeNonExistent {
		return nil
	}
	boxes, lerr := c.client.List("", f.name, nil).Collect()
	if lerr != nil {
		return lerr
	}
	if slices.ContainsFunc(boxes, func(b *imap.ListData) bool { return b.Mailbox == f.name }) {
		return err
	}
	return nil
}

// selecting tells the reader whether go-imap is to hear of folders.
func (c *conn) selecting(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.select_ = on
}

// messages calls each for the messages that a FETCH brings, as they arrive.
func (c *conn) messages(which imap.UIDSet, what *imap.FetchOptions, each func(*imapclient.FetchMessageData) error) error {
	cmd := c.client.Fetch(which, what)
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		if err := each(msg); err != nil {
			// Half a literal is left. go-imap's reader goes on behind it, and
			// whoever asked cmd for more would read beside it.
			c.fail(err)
			return err
		}
	}
	return cmd.Close()
}

// copyLiteral writes what a FETCH item carries to w, all of it or none.
func copyLiteral(w io.Writer, item imapclient.FetchItemDataBodySection) (ok bool, _ error) {
	if item.Literal == nil { // NIL: the server has nothing to show
		return false, nil
	}
	n, err := io.Copy(w, item.Literal)
	if err == nil && n != item.Literal.Size() {
		err = io.ErrUnexpectedEOF
	}
	return true, err
}

// digest is what is kept of a copy that was read.
type digest struct {
	hash   targets.Hash // of the canonical form; zero if it was not read
	stable targets.Hash
}

// digests reads messages, in flight one after the other, and never holds more
// than a header of one. The longest of them has about so many octets; sizes are
// the server's word, and some count line ends otherwise. each is not called for
// messages that are gone.
func (c *conn) digests(uids []uint32, longest int64, each func(uid uint32, d digest)) error {
	c.literals.Store(longest + longest/8 + maxLiteral)
	defer c.literals.Store(maxLiteral)
	for part := range slices.Chunk(uids, maxUIDs) {
		var set imap.UIDSet
		for _, u := range part {
			set.AddNum(imap.UID(u))
		}
		err := c.messages(set, &imap.FetchOptions{
			UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}},
		}, func(msg *imapclient.FetchMessageData) error { return digestOf(msg, each) })
		if err != nil {
			return err
		}
	}
	return nil
}

func digestOf(msg *imapclient.FetchMessageData, each func(uint32, digest)) error {
	uid := uint32(0)
	var d digest
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			uid = uint32(item.UID)
		case imapclient.FetchItemDataBodySection:
			var canon targets.Canon
			var header headerBuffer
			ok, err := copyLiteral(io.MultiWriter(&canon, &header), item)
			if err != nil {
				return err
			}
			if ok {
				d.hash, _ = canon.Sum()
				d.stable = targets.StableHash(header.b)
			}
		}
	}
	if !d.hash.IsZero() {
		each(uid, d)
	}
	return nil
}

// headerBuffer keeps the beginning of what is written to it.
type headerBuffer struct{ b []byte }

func (h *headerBuffer) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxHeader-len(h.b))]...)
	return len(p), nil
}
