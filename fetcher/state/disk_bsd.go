//go:build darwin || freebsd

package state

import "golang.org/x/sys/unix"

func isNetwork(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&unix.MNT_LOCAL == 0
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Bavail < 0 { // FreeBSD: the reserve for root is in use
		return 0, nil
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}
