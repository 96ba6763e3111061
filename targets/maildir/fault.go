package maildir

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"popferry/targets"
)

// fault says of an error of the file system what to do about it. Nearly all of
// them concern every message: then the target is Down.
func (t *Target) fault(op string, f *folder, err error) error {
	if te, ok := errors.AsType[*targets.Error](err); ok {
		return te
	}
	e := &targets.Error{Fault: targets.Down, Op: op, Err: err}
	_, system := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Fault = targets.Transient
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Reply = "the disk is full, or a quota is used up"
	case errors.Is(err, syscall.EROFS):
		e.Reply = "the file system is read-only"
	case errors.Is(err, fs.ErrPermission):
		e.Reply = "this user may not write there"
	case errors.Is(err, syscall.EFBIG):
		e.Fault, e.Reply = targets.Refused, "the file system takes no file of that size"
	case errors.Is(err, fs.ErrNotExist):
		e.Reply = "the directory is not there; is its file system mounted?"
		t.lost(f)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EINTR):
		e.Fault = targets.Transient
	case errors.Is(err, syscall.ENAMETOOLONG) && !f.home, errors.Is(err, syscall.EILSEQ) && !f.home:
		e.Fault, e.Reply = targets.Refused, "the file system takes no such name"
	case pathError(err) && !system:
		e.Reply = "it is a symbolic link that leads out of the Maildir, which is not followed"
		if !f.home {
			e.Fault = targets.Refused
		}
	case !system:
		e.Fault = targets.Transient
	}
	return e
}

// pathError tells that it was about a file. Of these only os.Root makes some
// itself, when a path escapes it; all others are of the system.
func pathError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}
