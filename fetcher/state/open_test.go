//go:build unix

package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wantCode checks that err is an Error with this code and says something.
func wantCode(t testing.TB, err error, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	if e.Text == "" || e.Hint == "" || e.Path == "" {
		t.Errorf("%s: text %q, hint %q, path %q", code, e.Text, e.Hint, e.Path)
	}
	return e
}

// used returns the path of a state that was used and cleanly closed, with one
// safe message.
func used(t testing.TB) string {
	t.Helper()
	s := open(t, Options{})
	_, ms := list(t, s, 1)
	mustPut(t, s, routed(ms[0], 1), intent(ms[0], 0), delivered(ms[0], 0, 11))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.Path()
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpen_files checks names, permissions, and that a closed state is one file.
func TestOpen_files(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "popferry.db")
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		filepath.Dir(path): 0o700, path: 0o600, path + ".lock": 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
	} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %o", name, fi.Mode(), err, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	diff(t, "files after Close", names, []string{"popferry.db", "popferry.db.lock"})
	diff(t, "lock file", string(read(t, path+".lock")), fmt.Sprintf("initialised\npid %-10d\nuse 1         \n", os.Getpid()))
}

func TestOpen_locked(t *testing.T) {
	s := open(t, Options{})
	_, err := Open(ctx, s.Path(), Options{})
	e := wantCode(t, err, CodeLocked)
	if !errors.Is(err, ErrLocked) || e.PID != os.Getpid() || err.Error() != fmt.Sprintf("popferry.db is locked by pid %d", os.Getpid()) {
		t.Errorf("error %q, pid %d", err, e.PID)
	}
	// The attempt did not disturb the holder.
	list(t, s, 1)
}

func TestOpen_missing(t *testing.T) {
	for name, lose := range map[string]func(string) error{
		"removed": os.Remove,
		"emptied": func(p string) error { return os.Truncate(p, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			path := used(t)
			if err := lose(path); err != nil {
				t.Fatal(err)
			}
			_, err := Open(ctx, path, Options{})
			wantCode(t, err, CodeMissing)
			if fi, err := os.Stat(path); err == nil && fi.Size() > 0 {
				t.Error("a new state was made")
			}
			s, err := Open(ctx, path, Options{New: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if k := known(t, s); k.Account.ID != 0 {
				t.Errorf("the new state knows %+v", k.Account)
			}
		})
	}
}

// TestOpen_missingWAL keeps what is left of a lost database apart from the new
// one.
func TestOpen_missingWAL(t *testing.T) {
	path := used(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path+"-wal", []byte("rest"))
	now := func() time.Time { return t0 }
	s, err := Open(ctx, path, Options{New: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := read(t, path+".damaged-20261101T080000.000Z-wal"); string(got) != "rest" {
		t.Errorf("kept %q", got)
	}
}

// TestOpen_firstStartKilled finds what a kill before the first commit leaves.
func TestOpen_firstStartKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.db")
	write(t, path, nil)
	write(t, path+".lock", []byte(noMark))
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if !bytes.HasPrefix(read(t, path+".lock"), []byte(markLine)) {
		t.Error("the lock file has no mark")
	}
}

func TestOpen_new(t *testing.T) {
	path := used(t)
	_, err := Open(ctx, path, Options{New: true})
	wantCode(t, err, CodeExists)
	// Never used, never missing: --new-state may stay on the command line once.
	fresh := filepath.Join(t.TempDir(), "popferry.db")
	s, err := Open(ctx, fresh, Options{New: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

// unclean makes the state look as after a kill, so that it is checked.
func unclean(t testing.TB, path string) {
	t.Helper()
	c, err := openConn(path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.exec("UPDATE meta SET value = 0 WHERE name = 'clean'"); err != nil {
		t.Fatal(err)
	}
}

// TestOpen_damaged overwrites parts of the file. It must be refused and not
// touched; --new-state then keeps it.
func TestOpen_damaged(t *testing.T) {
	pristine := used(t)
	unclean(t, pristine)
	good := read(t, pristine)
	const page = 4096
	junk := bytes.Repeat([]byte{0xa5, 0x00, 0xff}, page)[:page]
	damage := map[string]func([]byte) []byte{
		"text": func([]byte) []byte {
			return []byte("this is not a database, it is a letter of more than 100 octets ........................................")
		},
		"short":      func(b []byte) []byte { return b[:50] },
		"cut":        func(b []byte) []byte { return b[:len(b)-page] },
		"NULs":       func(b []byte) []byte { return make([]byte, len(b)) },
		"page 1 end": func(b []byte) []byte { copy(b[100:], junk[:3000]); return b },
	}
	for n := 1; n < len(good)/page; n++ {
		damage[fmt.Sprintf("page %d", n+1)] = func(b []byte) []byte { copy(b[n*page:], junk); return b }
	}
	for name, f := range damage {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "popferry.db")
			bad := f(bytes.Clone(good))
			write(t, path, bad)
			write(t, path+".lock", read(t, pristine+".lock"))
			_, err := Open(ctx, path, Options{})
			wantCode(t, err, CodeDamaged)
			if !bytes.Equal(read(t, path), bad) {
				t.Error("the file was touched")
			}
			s, err := Open(ctx, path, Options{New: true, Now: func() time.Time { return t0 }})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			list(t, s, 1)
			if !bytes.Equal(read(t, path+".damaged-20261101T080000.000Z"), bad) {
				t.Error("the damaged file was not kept as it was")
			}
		})
	}
}

func TestOpen_newer(t *testing.T) {
	for name, journal := range map[string]string{"wal": "WAL", "truncate": "TRUNCATE"} {
		t.Run(name, func(t *testing.T) {
			path := used(t)
			c, err := openConn(path, "rw", "journal_mode="+journal, fmt.Sprintf("user_version=%d", len(schema)+1))
			if err != nil {
				t.Fatal(err)
			}
			_ = c.close()
			before := read(t, path)
			for _, o := range []Options{{}, {New: true}} {
				_, err = Open(ctx, path, o)
				wantCode(t, err, CodeNewer)
			}
			_, err = View(ctx, path)
			wantCode(t, err, CodeNewer)
			if !bytes.Equal(read(t, path), before) {
				t.Error("the file was touched")
			}
		})
	}
}

func TestOpen_foreign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.db")
	write(t, path, nil)
	c, err := openConn(path, "rw", "application_id=7")
	if err == nil {
		err = c.script("CREATE TABLE bookmarks (url TEXT)")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = c.close()
	before := read(t, path)
	_, err = Open(ctx, path, Options{})
	wantCode(t, err, CodeForeign)
	if !bytes.Equal(read(t, path), before) {
		t.Error("the file was touched")
	}
}

// TestOpen_unsafe plants what is no plain file of ours under every name.
func TestOpen_unsafe(t *testing.T) {
	for _, suffix := range []string{"", ".lock", "-wal", "-shm", "-journal"} {
		for kind, plant := range map[string]func(other, name string) error{
			"symlink":  os.Symlink,
			"dangling": func(_, name string) error { return os.Symlink("/nonexistent/file", name) },
			"hardlink": os.Link,
			"fifo":     func(_, name string) error { return syscall.Mkfifo(name, 0o600) },
			"dir":      func(_, name string) error { return os.Mkdir(name, 0o700) },
		} {
			t.Run(kind+suffix, func(t *testing.T) {
				dir := t.TempDir()
				path, other := filepath.Join(dir, "popferry.db"), filepath.Join(dir, "other")
				write(t, other, []byte("precious"))
				if err := plant(other, path+suffix); err != nil {
					t.Fatal(err)
				}
				_, err := Open(ctx, path, Options{})
				wantCode(t, err, CodeUnsafe)
				if got := read(t, other); string(got) != "precious" {
					t.Errorf("the other file became %q", got)
				}
			})
		}
	}
}

func TestOpen_foreignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := used(t)
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, err := Open(ctx, path, Options{})
	wantCode(t, err, CodeUnsafe)
}

func TestOpen_permissions(t *testing.T) {
	path := used(t)
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := Open(ctx, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if !strings.Contains(log.String(), "others could read") {
		t.Errorf("log %q", &log)
	}
}

func TestOpen_noDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	_, err := Open(ctx, filepath.Join(file, "popferry.db"), Options{})
	wantCode(t, err, CodeUnwritable)
}

// TestOpen_full refuses a nearly full disk before anything is begun, and later
// only what begins something: outcomes are still written.
func TestOpen_full(t *testing.T) {
	room := uint64(reserve - 1)
	o := Options{free: func(string) (uint64, error) { return room, nil }}
	path := filepath.Join(t.TempDir(), "popferry.db")
	_, err := Open(ctx, path, o)
	wantCode(t, err, CodeFull)
	room++
	s, err := Open(ctx, path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, ms := list(t, s, 2)
	mustPut(t, s, routed(ms[0], 1), intent(ms[0], 0))
	room--
	wantCode(t, s.Put(ctx, routed(ms[1], 1), intent(ms[1], 0)), CodeFull)
	wantCode(t, s.Put(ctx, Fetching{Messages: []int64{ms[1].ID}}), CodeFull)
	mustPut(t, s, delivered(ms[0], 0, 11))
	wantStatus(t, s, ms[0].ID, StatusSafe)
	wantStatus(t, s, ms[1].ID, StatusNew)
	room++
	mustPut(t, s, Fetching{Messages: []int64{ms[1].ID}})
}

// TestOpen_network uses no shared memory on a network file system, also where a
// local one did before.
func TestOpen_network(t *testing.T) {
	path := used(t)
	s, err := Open(ctx, path, Options{net: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mode, err := s.writer.word("PRAGMA journal_mode")
	if err != nil || mode != "truncate" {
		t.Errorf("journal mode %q, %v", mode, err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", suffix, err)
		}
	}
	// Reading and writing at the same time wait for each other.
	done := make(chan error)
	go func() {
		_, err := s.Known(ctx, source)
		done <- err
	}()
	mustPut(t, s, Clock{Now: t0})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if v, err := s.writer.number("PRAGMA synchronous"); err != nil || v != 2 {
		t.Errorf("synchronous = %d, %v, want FULL", v, err)
	}
}

func TestOpen_journal(t *testing.T) {
	s := open(t, Options{})
	if mode, err := s.writer.word("PRAGMA journal_mode"); err != nil || mode != "wal" {
		t.Errorf("journal mode %q, %v", mode, err)
	}
	if v, err := s.writer.number("PRAGMA synchronous"); err != nil || v != 2 {
		t.Errorf("synchronous = %d, %v, want FULL", v, err)
	}
}

// TestOpen_hotJournal opens a state whose writer was killed within a
// transaction on a network file system.
func TestOpen_hotJournal(t *testing.T) {
	path := used(t)
	c, err := openConn(path, "rw", "journal_mode=TRUNCATE", "cache_spill=1", "cache_size=1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := c.exec("INSERT INTO account (source, name) VALUES (?, ?)", fmt.Sprint(i), strings.Repeat("x", 500)); err != nil {
			t.Fatal(err)
		}
	}
	db, journal := read(t, path), read(t, path+"-journal")
	_ = c.close()
	crashed := filepath.Join(t.TempDir(), "popferry.db")
	write(t, crashed, db)
	write(t, crashed+"-journal", journal)
	s, err := Open(ctx, crashed, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	accounts, err := s.Accounts(ctx)
	if err != nil || len(accounts) != 1 || accounts[0].Source != source {
		t.Errorf("accounts = %+v, %v", accounts, err)
	}
}

// TestOpen_older opens a state of the first format.
func TestOpen_older(t *testing.T) {
	path := used(t)
	c, err := openConn(path, "rw", "journal_mode=WAL")
	if err == nil {
		err = c.script("ALTER TABLE message DROP COLUMN keep_for; ALTER TABLE account DROP COLUMN quiet_until; DROP TABLE pass; DROP TABLE refused; PRAGMA user_version = 1")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = c.close()
	s := reopen(t, path)
	before := known(t, s)
	if len(before.Messages) == 0 {
		t.Fatal("nothing is left")
	}
	m := before.Messages[0]
	if m.Keep != nil {
		t.Errorf("keep = %v", *m.Keep)
	}
}
