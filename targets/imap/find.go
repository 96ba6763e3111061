package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"popferry/targets"
)

const (
	settleTime   = 5 * time.Second
	settleLarge  = 30 * time.Second
	largeMessage = 10 << 20

	maxScan   = 500_000   // messages looked through after UIDVALIDITY changed
	maxHeader = 256 << 10 // of a copy's header that is compared
	sizeSlack = 2         // a final CRLF that one side adds
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
	c, err := t.acquire(ctx, true)
	if err != nil {
		return nil, t.wrap(op, err)
	}
	defer t.release(c)
	stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
	defer stop()
	s := &search{c: c, folder: f, since: since, want: want, claimed: claimed, found: found}
	if err := s.run(); err != nil {
		return nil, t.wrap(op, listError(c, err))
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
	if _, err := t.acquire(ctx, false); err != nil { // the server's ways must be known
		return nil, err
	}
	if since.Folder != "" {
		return t.folderNamed(since.Folder), nil
	}
	if name == "" {
		name = t.cfg.Folder
	}
	if name == "" {
		name = "INBOX"
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
	c       *conn
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
	uid   uint32
	size  int64
	id    string
	date  time.Time
	hash  targets.Hash
	stab  targets.Hash
	taken bool
}

func (s *search) run() error {
	s.c.selecting(true)
	defer s.c.selecting(false)
	box, err := s.c.client.Select(s.folder.name, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return s.missing(err)
	}
	s.validity = box.UIDValidity
	from := max(1, s.since.UIDNext)
	if s.since.UIDValidity != s.validity {
		if from = 1; box.NumMessages > maxScan {
			return fmt.Errorf("UIDVALIDITY changed and the folder has %d messages, too many to look through", box.NumMessages)
		}
	}
	s.byID, s.bySize = map[string][]int{}, map[int64][]int{}
	for i, w := range s.want {
		if w.MessageID != "" {
			s.byID[w.MessageID] = append(s.byID[w.MessageID], i)
		}
		for size := w.Size - sizeSlack; size <= w.Size+sizeSlack; size++ {
			s.bySize[size] = append(s.bySize[size], i)
		}
	}
	list, err := s.list(from)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := s.hash(list); err != nil {
		return err
	}
	s.match(list, true)
	s.match(list, false)
	return nil
}

// missing tells a folder that is not there, where nothing is found, from one
// that cannot be looked at now.
func (s *search) missing(err error) error {
	var e *imap.Error
	if !errors.As(err, &e) || e.Type != imap.StatusResponseTypeNo {
		return err
	}
	if e.Code == imap.ResponseCodeNonExistent {
		return nil
	}
	boxes, lerr := s.c.client.List("", s.folder.name, nil).Collect()
	if lerr != nil {
		return lerr
	}
	for _, b := range boxes {
		if b.Mailbox == s.folder.name {
			return err
		}
	}
	return nil
}

var messageIDOnly = &imap.FetchItemBodySection{
	Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Message-ID"}, Peek: true,
}

// list returns what lies at or after from and may be a copy.
func (s *search) list(from uint32) ([]*candidate, error) {
	dates := false
	for _, w := range s.want {
		dates = dates || !w.Not.IsZero()
	}
	cmd := s.c.client.Fetch(imap.UIDSet{{Start: imap.UID(from)}}, &imap.FetchOptions{
		UID: true, RFC822Size: true, InternalDate: dates, BodySection: []*imap.FetchItemBodySection{messageIDOnly},
	})
	var list []*candidate
	for {
		msg := cmd.Next()
		if msg == nil {
			return list, cmd.Close()
		}
		data, err := msg.Collect()
		if err != nil {
			cmd.Close()
			return nil, err
		}
		k := &candidate{uid: uint32(data.UID), size: data.RFC822Size, date: data.InternalDate}
		if len(data.BodySection) > 0 {
			k.id = messageIDOf(data.BodySection[0].Bytes)
		}
		// "n:*" always has the last message, even when it lies before n.
		if k.uid < from || !s.plausible(k) || s.claimed != nil && s.claimed(k.uid) {
			continue
		}
		list = append(list, k)
	}
}

// messageIDOf returns the Message-ID of a header that has no other field.
func messageIDOf(header []byte) string {
	_, v, _ := bytes.Cut(header, []byte(":"))
	return string(bytes.Join(bytes.Fields(v), nil))
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

// alike allows for a server that rewrites: two per cent, or four KiB.
func alike(a, b int64) bool {
	d := max(a-b, b-a)
	return d <= 4<<10 || d <= b/50
}

// hash reads the candidates, in flight one after the other, and never holds
// more than a header of one.
func (s *search) hash(list []*candidate) error {
	byUID := make(map[uint32]*candidate, len(list))
	var set imap.UIDSet
	longest := int64(0)
	for _, k := range list {
		byUID[k.uid] = k
		set.AddNum(imap.UID(k.uid))
		longest = max(longest, k.size)
	}
	// Sizes are the server's word; some count line ends otherwise.
	s.c.literals.Store(longest + longest/8 + maxLiteral)
	defer s.c.literals.Store(maxLiteral)
	cmd := s.c.client.Fetch(set, &imap.FetchOptions{
		UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	})
	for {
		msg := cmd.Next()
		if msg == nil {
			return cmd.Close()
		}
		if err := hashMessage(msg, byUID); err != nil {
			s.c.fail(err) // half a literal is left
			cmd.Close()
			return err
		}
	}
}

func hashMessage(msg *imapclient.FetchMessageData, byUID map[uint32]*candidate) error {
	var k *candidate
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			k = byUID[uint32(item.UID)]
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil {
				continue
			}
			var canon targets.Canon
			var header headerBuffer
			n, err := io.Copy(io.MultiWriter(&canon, &header), item.Literal)
			if err != nil {
				return err
			}
			if n != item.Literal.Size() {
				return io.ErrUnexpectedEOF
			}
			if k != nil {
				k.hash, _ = canon.Sum()
				k.stab = targets.StableHash(header.b, 0)
			}
		}
	}
	return nil
}

// headerBuffer keeps the beginning of what is written to it.
type headerBuffer struct{ b []byte }

func (h *headerBuffer) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxHeader-len(h.b))]...)
	return len(p), nil
}

// match pairs candidates and wants one to one: by hash, or where the server
// rewrote the message by Message-ID, header and size.
func (s *search) match(list []*candidate, exact bool) {
	for i, w := range s.want {
		if s.found[i].OK {
			continue
		}
		for _, k := range list {
			if k.taken || k.hash.IsZero() || !w.Not.IsZero() && k.date.Before(w.Not) {
				continue
			}
			same := k.hash == w.Hash
			if !exact {
				same = w.MessageID != "" && k.id == w.MessageID && !w.Stable.IsZero() && k.stab == w.Stable && alike(k.size, w.Size)
			}
			if same {
				k.taken = true
				s.found[i] = targets.Found{OK: true, UIDValidity: s.validity, UID: k.uid, Exact: exact}
				break
			}
		}
	}
}

// selecting tells the reader whether go-imap is to hear of folders.
func (c *conn) selecting(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.select_ = on
}
