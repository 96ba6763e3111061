//go:build !linux

package dovecot

import (
	"errors"
	"os"
	"sync"
)

type process struct{ logged sync.WaitGroup }

func startProcess(*os.File, string, ...string) (*process, error) {
	return nil, errors.New("runs on Linux only")
}

func (*process) stop() {}
func (*process) kill() {}
