package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"
)

// base is how messages call the file.
func base(path string) string { return filepath.Base(path) }

// siblings are the files that SQLite keeps beside the database.
var siblings = []string{"-wal", "-shm", "-journal"}

// checkFiles refuses links and files of others, tightens permissions, and
// reports whether there is a database. A file of zero bytes is none: it is what
// a kill leaves of a first start, and an emptied one is as good as lost.
func checkFiles(path string, log *slog.Logger) (there bool, err error) {
	for _, suffix := range append([]string{""}, siblings...) {
		fi, err := os.Lstat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, classify(path, err)
		}
		if err := private(path+suffix, fi, log); err != nil {
			return false, err
		}
		if suffix == "" {
			there = fi.Size() > 0
		}
	}
	return there, nil
}

// private checks that fi, the file at path, is a plain file and only ours.
func private(path string, fi fs.FileInfo, log *slog.Logger) error {
	unsafe := func(text, hint string) error {
		return &Error{Code: CodeUnsafe, Path: path, Text: base(path) + " " + text, Hint: hint}
	}
	if !fi.Mode().IsRegular() {
		return unsafe(fmt.Sprintf("is no regular file (%v)", fi.Mode()), "name the file itself as state, not a link to it")
	}
	if links, mine := ownership(fi); links > 1 {
		return unsafe("has another name: it is hard-linked", "remove the other name")
	} else if !mine {
		return unsafe("belongs to another user", "run popferry as its owner, or change the owner (chown)")
	}
	if fi.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return unwritable(path, err)
	}
	log.Warn(fmt.Sprintf("others could read %q; its permissions are now 0600", path))
	return nil
}

// create makes the empty database file, durably. SQLite would follow a link and
// use the umask.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	if errors.Is(err, fs.ErrExist) { // of zero bytes, checked before
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

// setAside renames a damaged database, and what SQLite keeps beside it, so that
// a repair finds them together.
func setAside(path string, o *Options) error {
	suffix := ".damaged-" + o.Now().UTC().Format("20060102T150405.000Z")
	for _, s := range append([]string{""}, siblings...) {
		if _, err := os.Lstat(path + suffix + s); err == nil {
			return unwritable(path, fmt.Errorf("%s: %w", base(path)+suffix+s, fs.ErrExist))
		}
		err := os.Rename(path+s, path+suffix+s)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return unwritable(path, err)
		}
		o.Log.Warn(fmt.Sprintf("the old state is kept as %q", path+suffix+s))
	}
	return syncDir(filepath.Dir(path))
}

func damaged(path string, err error) error {
	return &Error{
		Code: CodeDamaged, Path: path, Text: base(path) + " is damaged", Err: err,
		Hint: "restore a copy, or start anew: --new-state keeps the damaged file (messages already in a target are recognised by Message-ID)",
	}
}

func missing(path string) error {
	return &Error{
		Code: CodeMissing, Path: path, Text: base(path) + " is gone, but its lock file shows that it was there",
		Hint: "restore it, or start anew: --new-state (messages already in a target are recognised by Message-ID)",
	}
}

func unwritable(path string, err error) error {
	return &Error{
		Code: CodeUnwritable, Path: path, Text: "cannot write " + path, Err: err,
		Hint: "the state needs a directory that popferry may write",
	}
}

// classify makes an *Error of what SQLite or the file system said when the state
// was opened.
func classify(path string, err error) error {
	if se := (*Error)(nil); err == nil || errors.As(err, &se) {
		return err
	}
	switch {
	case isDamage(err):
		return damaged(path, err)
	case errors.Is(err, fs.ErrNotExist):
		return err
	}
	switch sqlCode(err) {
	case sqlite3.SQLITE_FULL:
		return &Error{Code: CodeFull, Path: path, Text: "no room for " + path, Err: err, Hint: "make room on the disk"}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY:
		return unwritable(path, err)
	case sqlite3.SQLITE_ERROR:
		// A statement that fits our version does not fit the tables.
		if strings.Contains(err.Error(), "no such") {
			return damaged(path, err)
		}
	}
	return &Error{Code: CodeUnreadable, Path: path, Text: "cannot read " + path, Err: err, Hint: "check the file's permissions and owner"}
}
