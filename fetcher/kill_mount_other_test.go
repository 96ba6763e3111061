//go:build !linux

package fetcher

import "testing"

// smallDisk would be a small file system.
func smallDisk(t *testing.T) string {
	t.Skip("mounting a small file system is known for Linux only")
	return ""
}
