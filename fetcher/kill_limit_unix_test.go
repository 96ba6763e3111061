//go:build unix

package fetcher

import (
	"os/signal"
	"syscall"
)

// limitFiles lets no file of this process grow beyond n octets any more.
func limitFiles(n int64) error {
	if n == 0 {
		return nil
	}
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = uint64(n)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}
