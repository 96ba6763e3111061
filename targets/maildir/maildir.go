// Package maildir delivers messages into a Maildir++ on this machine, and finds
// what an interrupted delivery left there.
//
// # Layout
//
// The directory of the configuration is the inbox. A folder "Lists/go" is the
// directory ".Lists.go" in it, its name in modified UTF-7, with an empty file
// maildirfolder: so Dovecot and Courier have it. A dot within a level becomes
// "_", because dots separate levels. Folders are made when they are needed, with
// mode 0700, files with 0600. Symbolic links that lead out of the Maildir are
// not followed.
//
// # Delivery
//
// A message is written to tmp and fsynced, dated, renamed into new, or into cur
// where it has flags, and that directory is fsynced. Deliver returns after the
// last of these, so a power loss takes nothing back. Deliveries that end at the
// same time share the fsync of the directory.
//
// Lines end in LF on disk, as everything that reads a Maildir expects: CRLF
// becomes LF, every other octet stays. The canonical form is that of the original.
// The file's mtime is what IMAP servers show as INTERNALDATE. Of flags those that
// file names can hold are kept: seen, flagged, answered, draft, $Forwarded (which
// Dovecot does not show). Other keywords are not: each server has a file of its
// own for them.
//
// # Names
//
// A file is called
//
//	1732252453.M123456P789_popferry_V_U_HASH.host,S=4711,W=4802
//
// V and U, in hexadecimal, stand for UIDVALIDITY and UID: a Maildir has none of
// its own, but a copy must be told from an identical one for ever. HASH is the
// beginning of the canonical hash. So Find opens no file: it reads two
// directories. Mail readers keep this part when they set flags. S and W are the
// size in octets on disk and with CRLF line ends, which saves Dovecot counting.
//
// Numbers are reserved a thousand at a time, by an empty file in the Maildir
// whose name says so (numbers.go); they are above 1<<31. Files that others have
// delivered get a number below that, made from their names.
//
// # Standards
//
// https://cr.yp.to/proto/maildir.html, Courier's maildir(5) for Maildir++ and
// Dovecot's additions to file names.
package maildir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"popferry/targets"
)

// Config is one checked target section of type maildir.
type Config struct {
	Path   string // absolute; it or its parent must exist
	Folder string // where messages go that name none; "" is the inbox

	// Step, if it is set, is called between the effects of a delivery: tests
	// kill the program there.
	Step func(label string)
}

// writers is how many messages are written at once. Each writer sits in a system
// call for most of its time; the disk joins their fsyncs into few.
const writers = 64

var _ interface {
	targets.Target
	targets.Comparer
	targets.Finder
} = (*Target)(nil)

// Target is a Maildir. It touches the disk when it is first used, and keeps
// nothing open between calls, so that its file system can be unmounted.
type Target struct {
	cfg  Config
	log  *slog.Logger
	now  func() time.Time
	host string // as part of a file name
	room chan struct{}

	numbers numbers

	mu      sync.Mutex
	closed  bool
	busy    sync.WaitGroup
	broken  error              // a directory could not be fsynced: nothing may be promised any more
	folders map[string]*folder // by directory
	told    map[string]bool    // keywords that the log has named
}

// errClosed is the error of everything after Close.
var errClosed = errors.New("the target is closed")

// Open returns the target. It does no I/O on the Maildir. log may be nil.
func (c Config) Open(name string, log *slog.Logger) (targets.Target, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.Step == nil {
		c.Step = func(string) {}
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	t := &Target{
		cfg: c, log: log.With("target", name), now: time.Now, host: hostPart(host),
		room: make(chan struct{}, writers), folders: map[string]*folder{}, told: map[string]bool{},
	}
	if _, err := t.folder(""); err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	return t, nil
}

// hostPart makes a host name fit for a file name, as the specification says.
func hostPart(host string) string {
	host = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, host)
	return host[:min(len(host), 60)]
}

// begin counts a call that Close must wait for.
func (t *Target) begin(ctx context.Context, op string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return &targets.Error{Op: op, Err: ctx.Err()}
	case t.closed:
		return &targets.Error{Op: op, Err: errClosed}
	case t.broken != nil:
		return &targets.Error{Fault: targets.Down, Op: op, Err: t.broken}
	}
	t.busy.Add(1)
	return nil
}

// Deliver writes m into the folder and returns when it would survive a power
// loss. It is Unsure only where the directory could not be fsynced; after that
// the target takes nothing more, because the kernel reports such an error once.
func (t *Target) Deliver(ctx context.Context, m *targets.Message, to targets.Dest) (targets.Receipt, error) {
	f, err := t.folder(to.Folder)
	if err != nil {
		return targets.Receipt{}, err
	}
	op := "delivery to " + f.op
	if err := t.begin(ctx, op); err != nil {
		return targets.Receipt{}, err
	}
	defer t.busy.Done()
	select {
	case t.room <- struct{}{}:
		defer func() { <-t.room }()
	case <-ctx.Done():
		return targets.Receipt{}, &targets.Error{Op: op, Err: ctx.Err()}
	}
	f.gate.RLock()
	defer f.gate.RUnlock()
	if err := t.ready(f); err != nil {
		return targets.Receipt{}, err
	}
	root, err := t.enter(f)
	if err != nil {
		return targets.Receipt{}, t.fault(op, f, err)
	}
	defer root.Close()
	return t.store(ctx, root, f, op, m, t.info(to.Flags))
}

// store makes the copy: written, renamed, on disk. What it leaves in tmp when it
// fails is nobody's, and the next process removes it.
func (t *Target) store(ctx context.Context, root *os.Root, f *folder, op string, m *targets.Message, info string) (targets.Receipt, error) {
	validity, uid, err := t.numbers.take(t)
	if err != nil {
		return targets.Receipt{}, t.fault(op, f, err)
	}
	now := t.now()
	name := t.uniqueName(now, validity, uid, m.Hash)
	tmp := "tmp/" + name
	size, err := t.write(ctx, root, tmp, m, now)
	if err != nil {
		_ = root.Remove(tmp)
		return targets.Receipt{}, t.fault(op, f, err)
	}
	t.cfg.Step("M1 written")
	into, flush := "new", &f.newSync
	if info != "" {
		into, flush = "cur", &f.curSync
	}
	name = fmt.Sprintf("%s,S=%d,W=%d%s", name, size.disk, size.virtual, info)
	if err := root.Rename(tmp, into+"/"+name); err != nil {
		_ = root.Remove(tmp)
		return targets.Receipt{}, t.fault(op, f, err)
	}
	t.cfg.Step("M2 renamed")
	if err := flush.wait(func() error { return syncDir(root, into) }); err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.broken == nil {
			t.broken = fmt.Errorf("fsync of %s: %w; start popferry anew when the disk is well", into, err)
		}
		return targets.Receipt{}, &targets.Error{Fault: targets.Unsure, Op: op, Err: t.broken}
	}
	t.cfg.Step("M3 on disk")
	return targets.Receipt{Folder: f.name, UIDValidity: validity, UID: uid}, nil
}

// Close waits for deliveries under way. Nothing was kept open.
func (t *Target) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.busy.Wait()
	return nil
}

// letters are the flags that a file name can hold; they stand in ASCII order.
var letters = []struct {
	flag   string
	letter byte
}{{"draft", 'D'}, {"flagged", 'F'}, {"$forwarded", 'P'}, {"answered", 'R'}, {"seen", 'S'}}

// info is what stands behind the name of a file with flags, "" if it has none.
func (t *Target) info(flags []string) string {
	set := make(map[string]bool, len(flags))
	for _, f := range flags {
		set[strings.ToLower(f)] = true
	}
	var info []byte
	for _, l := range letters {
		if set[l.flag] {
			info = append(info, l.letter)
			delete(set, l.flag)
		}
	}
	for keyword := range set {
		t.tell(keyword)
	}
	if info == nil {
		return ""
	}
	return infoMark + string(info)
}

// infoMark separates the unique part of a file's name from its flags.
const infoMark = ":2,"

// tell says once that a keyword is not kept.
func (t *Target) tell(keyword string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.told[keyword] {
		t.told[keyword] = true
		t.log.Warn(fmt.Sprintf("a Maildir keeps no keywords, so messages come without %q", keyword))
	}
}
