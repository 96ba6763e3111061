//go:build !unix

package daemon

import "net"

// listenPrivate opens a socket that its directory protects.
func listenPrivate(name string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
}
