package state

import "errors"

var (
	// ErrLocked is in the error of Open when another process has the state.
	ErrLocked = errors.New("locked by another process")
	// ErrReadOnly is returned by Put on a Store that View opened.
	ErrReadOnly = errors.New("the state is open for reading only")
	// ErrDead is returned by Put once a write or commit has failed.
	ErrDead = errors.New("the state has failed and takes nothing more")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the state is closed")
	// ErrConflict is returned by Put when a change does not fit the rows as they
	// are. Nothing was written, and the Store goes on. It means a bug in the
	// caller.
	ErrConflict = errors.New("the change does not fit the state")
)

// The codes of Error.
const (
	CodeMissing       = "state-missing"        // the database is gone, its lock file says it was there
	CodeLocked        = "state-locked"         // another process has it; also errors.Is(err, ErrLocked)
	CodeNoLocks       = "state-no-locks"       // the file system cannot lock
	CodeDamaged       = "state-damaged"        // not a database, or not a sound one
	CodeForeign       = "state-foreign"        // a database of another program
	CodeNewer         = "state-newer"          // written by a newer version
	CodeOlder         = "state-older"          // View only: a writer has to migrate it first
	CodeExists        = "state-exists"         // Options.New, but the state is sound
	CodeUnsafe        = "state-unsafe"         // a link, a device, or somebody else's file
	CodeUnwritable    = "state-unwritable"     // files or directory cannot be written
	CodeUnreadable    = "state-unreadable"     // files cannot be read
	CodeFull          = "state-full"           // less than 16 MiB are free
	CodeWriteFailed   = "state-write-failed"   // a write or commit failed; also errors.Is(err, ErrDead)
	CodeNotPersistent = "state-not-persistent" // Ground: it would be gone with the container
)

// Error says why the state cannot be used. It is meant to be shown.
type Error struct {
	Code string // one of the Code constants
	Path string
	Text string // one line, lower case, no full stop
	Hint string // what to do now; may be ""
	PID  int    // of CodeLocked: who has it; 0 if unknown
	Err  error  // the cause; may be nil
}

// Error returns Text and the cause. It does not hold the hint.
func (e *Error) Error() string {
	if e.Err == nil || e.Code == CodeLocked {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
