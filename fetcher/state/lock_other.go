//go:build !unix

package state

import (
	"errors"
	"io/fs"
	"os"
)

const (
	noFollow = 0
	nonBlock = 0
)

// flock refuses: without a lock two processes could deliver the same mail.
func flock(*os.File, bool) error { return errors.ErrUnsupported }

func ownership(fs.FileInfo) (links uint64, mine bool) { return 1, true }

func syncDir(string) error { return nil }
