//go:build !linux && !darwin && !freebsd

package state

import "errors"

// isNetwork cannot tell here. WAL refuses by itself where there is no shared
// memory.
func isNetwork(string) bool { return false }

func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }
