package maildir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"popferry/targets"
)

// folder is one folder of the Maildir.
type folder struct {
	name string // with "/" between levels, "INBOX" for the inbox
	dir  string // in the Maildir, "." for the inbox
	op   string // for errors: the name in quotes, and the directory
	home bool   // the target's own: there is no other to go to instead

	// gate is held for reading by deliveries and for writing by Find, which must
	// see either all of one or nothing.
	gate             sync.RWMutex
	newSync, curSync groupSync

	mu    sync.Mutex
	ready bool // all its directories were there, and old leftovers are gone
}

// maxDir is how long the name of a directory may be on nearly every file system.
const maxDir = 255

// folder returns the folder of a name from the configuration. A name that cannot
// be one is Refused.
func (t *Target) folder(name string) (*folder, error) {
	home := cmp.Or(t.cfg.Folder, "INBOX")
	levels := strings.Split(cmp.Or(name, home), "/")
	for i, l := range levels {
		if l == "" || l == "." || l == ".." || !utf8.ValidString(l) || strings.ContainsFunc(l, unicode.IsControl) || l[0] == '~' && i == 0 {
			return nil, &targets.Error{Fault: targets.Refused, Op: fmt.Sprintf("folder %q", name), Err: fmt.Errorf("no folder can have the level %q", l)}
		}
		levels[i] = strings.ReplaceAll(l, ".", "_")
	}
	if strings.EqualFold(levels[0], "INBOX") {
		levels[0] = "INBOX"
	}
	f := &folder{name: strings.Join(levels, "/"), dir: "."}
	if f.name != "INBOX" {
		for i, l := range levels {
			levels[i] = targets.UTF7(strings.ReplaceAll(l, "/", "_"))
		}
		f.dir = "." + strings.Join(levels, ".")
	}
	if len(f.dir) > maxDir {
		return nil, &targets.Error{Fault: targets.Refused, Op: fmt.Sprintf("folder %q", f.name[:64]+"…"), Err: errors.New("the name is too long")}
	}
	f.op = fmt.Sprintf("%q in %s", f.name, t.cfg.Path)
	f.home = name == "" || strings.EqualFold(name, home)
	t.mu.Lock()
	defer t.mu.Unlock()
	if there := t.folders[f.dir]; there != nil {
		return there, nil
	}
	t.folders[f.dir] = f
	return f, nil
}

// subdirs are the directories of every folder.
var subdirs = []string{"tmp", "new", "cur"}

// ready makes what is missing of a folder, once, and removes what interrupted
// deliveries left in tmp.
func (t *Target) ready(f *folder) error {
	if err := f.once(t.make); err != nil {
		return t.fault("folder "+f.op, f, err)
	}
	return nil
}

// once calls prepare unless it has succeeded before.
func (f *folder) once(prepare func(*folder) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ready {
		return nil
	}
	err := prepare(f)
	f.ready = err == nil
	return err
}

// lost is called when a folder that was ready is not there any more.
func (t *Target) lost(f *folder) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = false
	t.numbers.forget()
}

func (t *Target) make(f *folder) error {
	if err := makeDir(os.Mkdir, t.cfg.Path); err != nil {
		return err
	}
	root, err := os.OpenRoot(t.cfg.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	inbox := f.dir == "."
	fresh := false
	if !inbox {
		if _, err := root.Stat(f.dir); errors.Is(err, fs.ErrNotExist) {
			fresh = true
		}
		if err := makeDir(root.Mkdir, f.dir); err != nil {
			return err
		}
	}
	for _, d := range subdirs {
		if err := makeDir(root.Mkdir, filepath.Join(f.dir, d)); err != nil {
			return err
		}
	}
	if fresh {
		// It tells Courier's and other Maildir++ software that this is no inbox.
		m, err := root.OpenFile(filepath.Join(f.dir, "maildirfolder"), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := m.Close(); err != nil {
			return err
		}
	}
	for _, d := range []string{f.dir, "."} {
		if err := syncDir(root, d); err != nil {
			return err
		}
	}
	if inbox {
		if err := syncPath(filepath.Dir(t.cfg.Path)); err != nil {
			return err
		}
	}
	return t.sweep(root, filepath.Join(f.dir, "tmp"))
}

func makeDir(mkdir func(string, fs.FileMode) error, name string) error {
	if err := mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// tooOld is how long a file may lie in tmp; the specification says so.
const tooOld = 36 * time.Hour

// sweep removes what interrupted deliveries of popferry left in tmp. The age is
// that of the name: mtime is the message's date.
func (t *Target) sweep(root *os.Root, tmp string) error {
	names, err := list(root, tmp)
	for _, name := range names {
		seconds, _, _ := strings.Cut(name, ".")
		began, err := strconv.ParseInt(seconds, 10, 64)
		if _, ok := markOf(name); ok && err == nil && t.now().Sub(time.Unix(began, 0)) > tooOld {
			_ = root.Remove(filepath.Join(tmp, name))
		}
	}
	return err
}

// enter opens a folder.
func (t *Target) enter(f *folder) (*os.Root, error) {
	root, err := os.OpenRoot(t.cfg.Path)
	if err != nil || f.dir == "." {
		return root, err
	}
	defer root.Close()
	return root.OpenRoot(f.dir)
}

// list returns the names in a directory.
func list(root *os.Root, dir string) ([]string, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return syncClose(d)
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil // it can be passed but not read, and nothing was made in it
		}
		return err
	}
	return syncClose(d)
}

// syncClose fsyncs a directory. Some file systems have no such thing; they say so
// by EINVAL or ENOTSUP.
func syncClose(d *os.File) error {
	defer d.Close()
	err := d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// groupSync lets those share an fsync that wait for it at the same time. After
// one that failed every other fails, too: the kernel reports an error once, and
// may have dropped what it could not write.
type groupSync struct {
	mu          sync.Mutex
	ended       *sync.Cond
	asked, done uint64
	running     bool
	err         error
}

// wait returns when an fsync that began after the call has ended, with its error.
func (g *groupSync) wait(fsync func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended == nil {
		g.ended = sync.NewCond(&g.mu)
	}
	g.asked++
	for mine := g.asked; g.done < mine && g.err == nil; {
		if g.running {
			g.ended.Wait()
			continue
		}
		upTo := g.asked
		g.running = true
		g.mu.Unlock()
		err := fsync()
		g.mu.Lock()
		g.running, g.done, g.err = false, upTo, err
		g.ended.Broadcast()
	}
	return g.err
}
