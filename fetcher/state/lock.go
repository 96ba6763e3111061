package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
)

// The lock file holds three lines of fixed length, each written alone and in
// place, so that writing one cannot lose the others: whether the database was
// ever in use, who has it, and how often it was opened. The database knows that
// last number, too: one that knows a smaller one is an old copy put back.
const (
	markLine = "initialised\n"
	noMark   = "new        \n"
	pidLine  = "pid %-10d\n"
	pidAt    = int64(len(markLine))
	useLine  = "use %-10d\n"
	useAt    = pidAt + int64(len("pid 1234567890\n"))
)

// lock is the held lock on a state.
type lock struct {
	f           *os.File
	initialised bool  // the database was in use once
	use         int64 // how often it was opened; 0 if the file does not say
}

// lockPath is the file that stands for the state at path.
func lockPath(path string) string { return path + ".lock" }

// takeLock locks the state at path for this process. Closing the file, or the
// end of the process, releases it.
func takeLock(path string, log *slog.Logger) (*lock, error) {
	name := lockPath(path)
	// Not blocking: a FIFO of that name would wait for a reader.
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|noFollow|nonBlock, 0o600)
	if err != nil {
		// A link, which is not followed, gives an error that says little.
		if fi, lerr := os.Lstat(name); lerr == nil && !fi.Mode().IsRegular() {
			return nil, private(name, fi, log)
		}
		return nil, unwritable(path, err)
	}
	fi, err := f.Stat()
	if err == nil {
		err = private(name, fi, log)
	}
	if err == nil {
		err = flock(f, true)
	}
	if err != nil {
		defer f.Close()
		return nil, lockError(path, f, err)
	}
	l := &lock{f: f, initialised: hasMark(f), use: number(f, useAt, "use ", useLine)}
	if !l.initialised {
		_, err = f.WriteAt([]byte(noMark), 0)
	}
	if err == nil {
		_, err = fmt.Fprintf(writerAt{f, pidAt}, pidLine, os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		return nil, unwritable(path, err)
	}
	return l, nil
}

func lockError(path string, f *os.File, err error) error {
	if se := (*Error)(nil); errors.As(err, &se) {
		return err
	}
	if errors.Is(err, ErrLocked) {
		e := &Error{Code: CodeLocked, Path: path, Text: base(path) + " is locked by another popferry", Err: ErrLocked, PID: holder(f)}
		e.Hint = "wait for it, or stop it; reading commands work beside it"
		if e.PID != 0 {
			e.Text = fmt.Sprintf("%s is locked by pid %d", base(path), e.PID)
		}
		return e
	}
	return &Error{
		Code: CodeNoLocks, Path: path, Text: "cannot lock " + lockPath(path), Err: err,
		Hint: "two processes could deliver the same mail; keep the state on a file system that can lock",
	}
}

// mark notes, durably, that the database is in use from now on.
func (l *lock) mark() error {
	if l.initialised {
		return nil
	}
	if _, err := l.f.WriteAt([]byte(markLine), 0); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	l.initialised = true
	return syncDir(filepath.Dir(l.f.Name()))
}

func hasMark(f *os.File) bool {
	b := make([]byte, len(markLine))
	_, err := f.ReadAt(b, 0)
	return err == nil && string(b) == markLine
}

// used notes how often the database was opened. It need not be durable: a number
// that is too small here says nothing.
func (l *lock) used(n int64) error {
	_, err := fmt.Fprintf(writerAt{l.f, useAt}, useLine, n)
	return err
}

// wasUsed reports whether the state at path was in use once. It takes no lock.
func wasUsed(path string) bool {
	f, err := os.OpenFile(lockPath(path), os.O_RDONLY|noFollow|nonBlock, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return hasMark(f)
}

// holder returns the process id in a lock file, 0 if there is none.
func holder(f *os.File) int {
	return int(number(f, pidAt, "pid ", pidLine))
}

// number returns what stands in a line of the lock file, 0 if there is no such
// line.
func number(f *os.File, at int64, word, line string) int64 {
	b := make([]byte, len(fmt.Sprintf(line, 0)))
	n, _ := f.ReadAt(b, at)
	value, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimPrefix(b[:n], []byte(word)))), 10, 64)
	if err != nil {
		return 0
	}
	return value
}

// lockFree reports whether nobody has the lock on the state at path.
func lockFree(path string) bool {
	f, err := os.OpenFile(lockPath(path), os.O_RDONLY|noFollow|nonBlock, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	defer f.Close()
	return flock(f, false) == nil
}

// writerAt writes at a fixed place of a file.
type writerAt struct {
	f  *os.File
	at int64
}

func (w writerAt) Write(b []byte) (int, error) { return w.f.WriteAt(b, w.at) }
