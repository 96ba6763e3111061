//go:build unix

package maildir

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// TestDeliver_modes: nobody else may read mail, whatever the umask is.
func TestDeliver_modes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "Maildir")
	tg := open(t, path)
	mustDeliver(t, tg, targetstest.Text(1), targets.Dest{Folder: "A/b"})
	got := tree(t, path)
	file := ""
	for i, line := range got {
		if strings.Contains(line, ours) {
			file = line
			got = slices.Delete(got, i, i+1)
			break
		}
	}
	want := []string{"drwx------ .", "drwx------ .A.b", "drwx------ .A.b/cur", "-rw------- .A.b/maildirfolder", "drwx------ .A.b/new", "drwx------ .A.b/tmp"}
	if !slices.Equal(got, want) || !strings.HasPrefix(file, "-rw------- .A.b/new/") {
		t.Errorf("%q and %q", got, file)
	}
	mustDeliver(t, tg, targetstest.Text(2), targets.Dest{})
	if got := tree(t, path); !slices.Contains(got, "drwx------ new") || slices.Contains(names(t, path), "maildirfolder") {
		t.Errorf("%q", got)
	}
}
