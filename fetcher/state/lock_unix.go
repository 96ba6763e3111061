//go:build unix

package state

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	noFollow = syscall.O_NOFOLLOW
	nonBlock = syscall.O_NONBLOCK
)

// flock locks f, exclusively or shared, without waiting. Another's lock gives
// ErrLocked.
func flock(f *os.File, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}

// ownership returns how many names the file has and whether it is ours.
func ownership(fi fs.FileInfo) (links uint64, mine bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 1, true
	}
	return uint64(st.Nlink), int(st.Uid) == os.Geteuid() //nolint:unconvert // its type differs between systems
}

// syncDir makes names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
