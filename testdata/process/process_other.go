//go:build !linux

package process

import (
	"errors"
	"os"
	"sync"
)

// Process is a server's first process and everything it has started.
type Process struct {
	Logged sync.WaitGroup // who reads its output
}

// Start runs nothing here.
func Start(*os.File, string, ...string) (*Process, error) {
	return nil, errors.New("runs on Linux only")
}

// Stop does nothing.
func (*Process) Stop() {}

// Kill does nothing.
func (*Process) Kill() {}
