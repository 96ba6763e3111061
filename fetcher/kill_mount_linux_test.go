package fetcher

import (
	"syscall"
	"testing"
)

// smallDisk mounts a file system of 24 MiB until the test ends.
func smallDisk(t *testing.T) string {
	dir := t.TempDir()
	if err := syscall.Mount("popferry", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=24m,mode=700"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
