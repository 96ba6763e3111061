package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// tree is every path under a directory, with its mode; markers are left out.
func tree(t testing.TB, path string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(path, p)
		if !strings.HasPrefix(rel, blockPrefix) {
			out = append(out, fmt.Sprintf("%v %s", info.Mode(), rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// names are the files in a directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func mustDeliver(t testing.TB, tg *Target, raw string, to targets.Dest) targets.Receipt {
	t.Helper()
	r, err := tg.Deliver(t.Context(), targetstest.Message(raw), to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDeliver_steps looks at the disk between the effects: a message is in new or
// cur only when it is whole, and then no longer in tmp.
func TestDeliver_steps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Maildir")
	raw := targetstest.Text(1)
	for _, c := range []struct {
		into  string
		flags []string
	}{{"new", nil}, {"cur", []string{"Seen"}}} {
		var seen []string
		tg := open(t, path, func(k *Config) {
			k.Step = func(label string) {
				in, out := names(t, path+"/tmp"), names(t, path+"/"+c.into)
				seen = append(seen, fmt.Sprintf("%s: %d in tmp, %d in %s", label, len(in), len(out), c.into))
				for _, n := range in {
					if b, err := os.ReadFile(path + "/tmp/" + n); err != nil || string(withCRLF(b)) != raw {
						t.Errorf("%s: %q, %v", label, b, err)
					}
				}
			}
		})
		mustDeliver(t, tg, raw, targets.Dest{Flags: c.flags})
		want := []string{"M1 written: 1 in tmp, 0 in " + c.into, "M2 renamed: 0 in tmp, 1 in " + c.into, "M3 on disk: 0 in tmp, 1 in " + c.into}
		if !slices.Equal(seen, want) {
			t.Errorf("%q", seen)
		}
	}
}

// TestDeliver_leftovers: what interrupted deliveries left in tmp goes after 36
// hours, what others have there stays.
func TestDeliver_leftovers(t *testing.T) {
	path := t.TempDir()
	tg := open(t, path)
	now := time.Now()
	tg.now = func() time.Time { return now }
	mustDeliver(t, tg, targetstest.Text(1), targets.Dest{})
	old := tg.uniqueName(now.Add(-37*time.Hour), 1, ourFirst, targets.Hash{1})
	young := tg.uniqueName(now.Add(-35*time.Hour), 1, ourFirst, targets.Hash{1})
	foreign := fmt.Sprintf("%d.M1P1.host", now.Add(-100*time.Hour).Unix())
	for _, name := range []string{old, young, foreign, "x" + old} {
		if err := os.WriteFile(filepath.Join(path, "tmp", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustDeliver(t, open(t, path), targetstest.Text(2), targets.Dest{})
	want := []string{young, foreign, "x" + old}
	slices.Sort(want)
	if got := names(t, path+"/tmp"); !slices.Equal(got, want) {
		t.Errorf("in tmp: %q, want %q", got, want)
	}
}

// TestDeliver_links: symbolic links are followed within the Maildir, and nothing
// is written where others lead.
func TestDeliver_links(t *testing.T) {
	path, outside := filepath.Join(t.TempDir(), "Maildir"), t.TempDir()
	tg := open(t, path)
	mustDeliver(t, tg, targetstest.Text(1), targets.Dest{Folder: "Real"})
	for name, to := range map[string]string{".Evil": outside, ".Up": "../..", ".Inner": ".Real"} {
		if err := os.Symlink(to, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	mustDeliver(t, tg, targetstest.Text(2), targets.Dest{Folder: "Inner"})
	if got := read(t, path, "Real"); len(got) != 2 {
		t.Errorf("%d in the folder that the link leads to", len(got))
	}
	for _, name := range []string{"Evil", "Up"} {
		_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(3)), targets.Dest{Folder: name})
		if targets.FaultOf(err) != targets.Refused || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: %v, want refused", name, err)
		}
		if _, err := tg.Mark(t.Context(), name); targets.FaultOf(err) != targets.Refused {
			t.Errorf("%s: Mark: %v, want refused", name, err)
		}
		if _, err := open(t, path, func(c *Config) { c.Folder = name }).Mark(t.Context(), ""); targets.FaultOf(err) != targets.Down {
			t.Errorf("%s as the target's own: %v, want down", name, err)
		}
	}
	// One of the three directories, too.
	for _, d := range subdirs {
		if err := os.RemoveAll(filepath.Join(path, ".Real", d)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(path, ".Real", d)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, path).Deliver(t.Context(), targetstest.Message(targetstest.Text(4)), targets.Dest{Folder: "Real"}); err == nil {
		t.Error("delivered outside")
	}
	if got := names(t, outside); got != nil {
		t.Errorf("outside lies %q", got)
	}
}

// TestDeliver_trouble: what is wrong with the place concerns every message.
func TestDeliver_trouble(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, words string }{
		{filepath.Join(dir, "not", "there"), "is its file system mounted?"},
		{file, "not a directory"},
		{filepath.Join(file, "below"), "not a directory"},
	} {
		tg := open(t, c.path)
		_, err := tg.Mark(t.Context(), "")
		_, err2 := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{})
		for _, err := range []error{err, err2} {
			if targets.FaultOf(err) != targets.Down || !strings.Contains(fmt.Sprint(err), c.words) {
				t.Errorf("%s: %v, want down: %s", c.path, err, c.words)
			}
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
		t.Errorf("made: %q", got)
	}
}

// TestDeliver_unmounted: a Maildir that is gone while popferry runs is noticed,
// and made only by the next Mark.
func TestDeliver_unmounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Maildir")
	tg := open(t, path)
	for _, folder := range []string{"", "A"} {
		mustDeliver(t, tg, targetstest.Text(1), targets.Dest{Folder: folder})
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(2)), targets.Dest{Folder: folder})
		if targets.FaultOf(err) != targets.Down {
			t.Errorf("%q: %v, want down", folder, err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		mustDeliver(t, tg, targetstest.Text(2), targets.Dest{Folder: folder})
		if got := read(t, path, folder); len(got) != 2 || got[0].UID == got[1].UID {
			t.Errorf("%q: %d there", folder, len(got))
		}
	}
}

// TestDeliver_shortBody: a message that is not whole does not arrive.
func TestDeliver_shortBody(t *testing.T) {
	path := t.TempDir()
	m := targetstest.Message(targetstest.Text(1))
	m.Size++
	_, err := open(t, path).Deliver(t.Context(), m, targets.Dest{})
	if err == nil || targets.FaultOf(err) != targets.Transient {
		t.Errorf("%v, want transient", err)
	}
	if got := slices.Concat(names(t, path+"/tmp"), names(t, path+"/new")); got != nil {
		t.Errorf("%q", got)
	}
}

// TestDeliver_twoProcesses: two of them deliver into the same folders at once.
func TestDeliver_twoProcesses(t *testing.T) {
	path := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[string]int{}
	for p := range 2 {
		tg := open(t, path)
		for i := range 150 {
			wg.Go(func() {
				raw := targetstest.Text(i % 100) // both have the same ones
				_, err := tg.Deliver(t.Context(), targetstest.Message(raw), targets.Dest{Folder: fmt.Sprintf("F%d", i%3)})
				mu.Lock()
				defer mu.Unlock()
				if want[raw]++; err != nil {
					t.Errorf("process %d: %v", p, err)
				}
			})
		}
	}
	wg.Wait()
	got := map[string]int{}
	uids := map[uint32]bool{}
	for i := range 3 {
		for _, m := range read(t, path, fmt.Sprintf("F%d", i)) {
			got[string(m.Body)]++
			uids[m.UID] = true
		}
	}
	if !maps.Equal(got, want) || len(uids) != 300 {
		t.Errorf("%d different messages, %d UIDs", len(got), len(uids))
	}
}

// TestDeliver_dirSync: when a directory cannot be fsynced nobody knows what is on
// disk. That delivery is looked for later, and nothing more is promised.
func TestDeliver_dirSync(t *testing.T) {
	path := t.TempDir()
	tg := open(t, path)
	mustDeliver(t, tg, targetstest.Text(1), targets.Dest{})
	f, err := tg.folder("")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.newSync.wait(func() error { return syscall.EIO }); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	_, err = tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(2)), targets.Dest{})
	if targets.FaultOf(err) != targets.Unsure {
		t.Errorf("%v, want unsure", err)
	}
	for name, call := range map[string]func() error{
		"Deliver": func() error {
			_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(3)), targets.Dest{Folder: "A"})
			return err
		},
		"Mark": func() error { _, err := tg.Mark(t.Context(), "A"); return err },
		"Find": func() error { _, err := tg.Find(t.Context(), "", targets.Mark{}, nil, nil); return err },
	} {
		if err := call(); targets.FaultOf(err) != targets.Down {
			t.Errorf("%s: %v, want down", name, err)
		}
	}
	next := open(t, path)
	m, err := next.Mark(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	m.UIDNext = 1
	found, err := next.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(targetstest.Text(2))}, nil)
	if err != nil || !found[0].OK {
		t.Errorf("the next process finds %+v, %v", found, err)
	}
}

// TestGroupSync: callers share fsyncs, and none gets one that began before it
// asked.
func TestGroupSync(t *testing.T) {
	var g groupSync
	var mu sync.Mutex
	written, synced, syncs := 0, 0, 0
	begin, end := make(chan struct{}), make(chan struct{})
	fsync := func() error {
		mu.Lock()
		n := written
		syncs++
		first := syncs == 1
		mu.Unlock()
		if first {
			close(begin)
			<-end
		}
		mu.Lock()
		synced = max(synced, n)
		mu.Unlock()
		return nil
	}
	var wg sync.WaitGroup
	write := func() {
		mu.Lock()
		written++
		mine := written
		mu.Unlock()
		if err := g.wait(fsync); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if synced < mine {
			t.Errorf("number %d returned when %d were on disk", mine, synced)
		}
	}
	wg.Go(write)
	<-begin
	for range 100 {
		wg.Go(write)
	}
	for asked := uint64(0); asked < 101; {
		g.mu.Lock()
		asked = g.asked
		g.mu.Unlock()
	}
	close(end)
	wg.Wait()
	if syncs != 2 {
		t.Errorf("%d fsyncs, want one for the first and one for all others", syncs)
	}
}

func TestClose(t *testing.T) {
	path := t.TempDir()
	in, out := make(chan struct{}), make(chan struct{})
	tg := open(t, path, func(c *Config) {
		c.Step = func(label string) {
			if strings.HasPrefix(label, "M1") {
				close(in)
				<-out
			}
		}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		mustDeliver(t, tg, targetstest.Text(1), targets.Dest{})
	}()
	<-in
	closed := make(chan struct{})
	go func() { tg.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("closed with a delivery under way")
	case <-time.After(20 * time.Millisecond):
	}
	close(out)
	<-closed
	<-ended
	if got := read(t, path, ""); len(got) != 1 {
		t.Errorf("%d there", len(got))
	}
	if err := tg.Close(); err != nil {
		t.Error(err)
	}
	if _, err := tg.Mark(context.Background(), ""); !errors.Is(err, errClosed) {
		t.Errorf("Mark: %v", err)
	}
}
