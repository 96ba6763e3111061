//go:build unix

package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestView reads beside a writer, and what the writer puts later.
func TestView(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.db")
	if _, err := View(ctx, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("View of nothing = %v", err)
	}
	write(t, path, nil)
	if _, err := View(ctx, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("View of an empty file = %v", err)
	}
	s := open(t, Options{})
	list(t, s, 2)
	v, err := View(ctx, s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if n := len(known(t, v).Messages); n != 2 {
		t.Errorf("%d messages", n)
	}
	mustPut(t, s, Listed{Account: &Account{Source: source}, New: []*Message{{UIDL: "later"}}, At: t0}, Clock{Now: t0})
	if n := len(known(t, v).Messages); n != 3 {
		t.Errorf("%d messages, want the later one, too", n)
	}
	if err := v.Put(ctx, Clock{Now: t0}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Put = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if v2, err := View(ctx, s.Path()); err != nil {
		t.Error(err)
	} else {
		if !v2.Clock().Equal(t0) {
			t.Errorf("clock %v", v2.Clock())
		}
		_ = v2.Close()
	}
}

// TestView_missing does not take a lost state for one that never was.
func TestView_missing(t *testing.T) {
	path := used(t)
	for _, lose := range []func() error{
		func() error { return os.Truncate(path, 0) },
		func() error { return os.Remove(path) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		_, err := View(ctx, path)
		if wantCode(t, err, CodeMissing); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v passes for a first start", err)
		}
	}
}

func TestView_damaged(t *testing.T) {
	path := used(t)
	write(t, path, bytes.Repeat([]byte("junk"), 2000))
	_, err := View(ctx, path)
	wantCode(t, err, CodeDamaged)
}

// childView opens for reading and prints what there is.
func childView(path string) error {
	s, err := View(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	accounts, err := s.Accounts(ctx)
	fmt.Println(len(accounts), accounts[0].Known)
	return err
}

// TestView_readOnlyDirectory reads a cleanly closed state that lies where this
// process may write nothing.
func TestView_readOnlyDirectory(t *testing.T) {
	path := used(t)
	dir := filepath.Dir(path)
	cmd := child(t, "view", path)
	if os.Geteuid() == 0 {
		// Root may write everything, so somebody else reads: a copy of this
		// binary, and of the state, where they can get at it.
		dir = publicDir(t)
		exe := filepath.Join(dir, "state.test")
		copyFile(t, cmd.Path, exe, 0o755)
		copyFile(t, path, filepath.Join(dir, "popferry.db"), 0o644)
		copyFile(t, path+".lock", filepath.Join(dir, "popferry.db.lock"), 0o644)
		cmd.Path, cmd.Args = exe, []string{exe, filepath.Join(dir, "popferry.db")}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	out, err := cmd.Output()
	if err != nil || string(out) != "1 1\n" {
		t.Errorf("the child said %q, %v", out, err)
	}
}

// publicDir returns a new directory that everybody can reach, unlike t.TempDir.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "popferry") //nolint:usetesting // the point is not to be in t.TempDir
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func copyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(to, read(t, from), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, mode); err != nil {
		t.Fatal(err)
	}
}
