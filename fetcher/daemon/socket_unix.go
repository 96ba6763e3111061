//go:build unix

package daemon

import (
	"context"
	"net"
	"os"
	"syscall"
)

// listenPrivate opens a socket that nobody else may use. On Linux its mode is
// taken from the descriptor, so that it is never anybody's; elsewhere there is an
// instant in which its directory alone protects it.
func listenPrivate(name string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := lc.Listen(context.Background(), "unix", name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l.(*net.UnixListener), nil
}
