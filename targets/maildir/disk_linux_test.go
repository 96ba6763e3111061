package maildir

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// smallDisk mounts a file system of 16 MiB until the test ends.
func smallDisk(t *testing.T) string {
	dir := t.TempDir()
	if err := syscall.Mount("popferry", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=16m,mode=700"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes until nothing more fits.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}

func TestSuite_smallDisk(t *testing.T) {
	targetstest.Suite{New: func(t *testing.T) targetstest.Sink {
		dir := smallDisk(t)
		path := filepath.Join(dir, "Maildir")
		return targetstest.Sink{
			Target: open(t, path), Read: func(name string) []targetstest.Stored { return read(t, path, name) },
			Flags: true, System: true, Date: true, Full: func() { fill(t, filepath.Join(dir, "filler")) },
		}
	}, Without: []string{"refused"}}.Run(t) // a Maildir takes every message
}

// TestDisk_full: a disk that becomes full in the middle of a message leaves
// nothing of it behind, and takes it when there is room again.
func TestDisk_full(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "Maildir")
	tg := open(t, path)
	mustDeliver(t, tg, targetstest.Text(1), targets.Dest{})
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	if err := os.Truncate(filler, 8<<20); err != nil {
		t.Fatal(err)
	}
	large := "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 1<<20)
	_, err := tg.Deliver(t.Context(), targetstest.Message(large), targets.Dest{})
	if targets.FaultOf(err) != targets.Down || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v, want down: full", err)
	}
	if got := names(t, path+"/tmp"); got != nil {
		t.Errorf("in tmp: %q", got)
	}
	os.Remove(filler)
	mustDeliver(t, tg, large[:8<<20], targets.Dest{})
	if got := read(t, path, ""); len(got) != 2 {
		t.Errorf("%d there", len(got))
	}
	fill(t, filler)
	fs, err := tg.Check(t.Context())
	if err != nil || fs[len(fs)-1].Level != "fail" || !strings.Contains(fs[len(fs)-1].Text, "the disk is full") {
		t.Errorf("Check: %+v, %v", fs, err)
	}
}

func TestDisk_readOnly(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "Maildir")
	mustDeliver(t, open(t, path), targetstest.Text(1), targets.Dest{})
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	tg := open(t, path)
	_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(2)), targets.Dest{})
	if targets.FaultOf(err) != targets.Down || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("%v, want down: read-only", err)
	}
	if _, err := tg.Mark(t.Context(), ""); targets.FaultOf(err) != targets.Down {
		t.Errorf("Mark: %v, want down", err)
	}
	fs, err := tg.Check(t.Context())
	if err != nil || fs[len(fs)-1].Level != "fail" || !strings.Contains(fs[len(fs)-1].Text, "read-only") {
		t.Errorf("Check: %+v, %v", fs, err)
	}
}

// TestDisk_permission needs another user than root, whom nothing stops.
func TestDisk_permission(t *testing.T) {
	const asked = "POPFERRY_TEST_MAILDIR"
	if path := os.Getenv(asked); path != "" {
		if os.Getuid() == 0 {
			t.Fatal("still root")
		}
		_, err := open(t, path).Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{})
		if targets.FaultOf(err) != targets.Down || !strings.Contains(err.Error(), "this user may not write there") {
			t.Errorf("%v, want down: permission", err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "md") //nolint:usetesting // another user must get there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The test's own program, where the other user may run it.
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "maildir.test")
	if err := os.WriteFile(exe, program, 0o755); err != nil {
		t.Fatal(err)
	}
	mustDeliver(t, open(t, filepath.Join(dir, "Maildir")), targetstest.Text(1), targets.Dest{})
	for _, path := range []string{filepath.Join(dir, "Maildir"), filepath.Join(dir, "Other")} {
		var out bytes.Buffer
		cmd := exec.Command(exe, "-test.run=^TestDisk_permission$")
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
		cmd.Env = append(os.Environ(), asked+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out.String())
		}
	}
}
