package maildir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// put writes a file as another program would have delivered it.
func put(t testing.TB, path, name, raw string) {
	t.Helper()
	for _, d := range subdirs {
		if err := os.MkdirAll(filepath.Join(path, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, name), []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rename gives the only file in dir a new place.
func rename(t testing.TB, path, dir string, to func(name string) string) {
	t.Helper()
	list := names(t, filepath.Join(path, dir))
	if len(list) != 1 {
		t.Fatalf("%d files in %s", len(list), dir)
	}
	if err := os.Rename(filepath.Join(path, dir, list[0]), filepath.Join(path, to(list[0]))); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, tg *Target, folder string, since targets.Mark, raws ...string) []targets.Found {
	t.Helper()
	var want []targets.Wanted
	for _, raw := range raws {
		want = append(want, targetstest.WantedOf(raw))
	}
	found, err := tg.Find(t.Context(), folder, since, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func mark0(t testing.TB, tg *Target, folder string) targets.Mark {
	t.Helper()
	m, err := tg.Mark(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestFind_moved: a mail reader has moved the file to cur, set flags, and set
// others. Its number stays, for another process as well.
func TestFind_moved(t *testing.T) {
	path := t.TempDir()
	tg := open(t, path)
	raw := targetstest.Text(1)
	since := mark0(t, tg, "")
	r := mustDeliver(t, tg, raw, targets.Dest{})
	for _, to := range []func(string) string{
		func(n string) string { return "cur/" + n },
		func(n string) string { return "cur/" + n + ":2," },
		func(n string) string { return "cur/" + strings.TrimSuffix(n, ":2,") + ":2,FSab" },
	} {
		dir := "cur"
		if len(names(t, path+"/new")) == 1 {
			dir = "new"
		}
		rename(t, path, dir, to)
		for _, tg := range []*Target{tg, open(t, path)} {
			if f := find(t, tg, "", since, raw); !f[0].OK || f[0].UID != r.UID || f[0].UIDValidity != r.UIDValidity || !f[0].Exact {
				t.Errorf("%q: found %+v, want UID %d", names(t, path+"/cur"), f, r.UID)
			}
		}
	}
}

// TestFind_onlyOurs: what others have delivered is no interrupted delivery, and
// neither is what lies elsewhere, in tmp, or hidden.
func TestFind_onlyOurs(t *testing.T) {
	path := t.TempDir()
	tg := open(t, path)
	raw := targetstest.Text(1)
	since := mark0(t, tg, "")
	put(t, path, "new/1.M2P3.host", raw)
	put(t, path, "tmp/"+tg.uniqueName(tg.now(), since.UIDValidity, since.UIDNext, targetstest.WantedOf(raw).Hash), raw)
	put(t, path, "new/."+tg.uniqueName(tg.now(), since.UIDValidity, since.UIDNext, targetstest.WantedOf(raw).Hash), raw)
	mustDeliver(t, tg, raw, targets.Dest{Folder: "Else"})
	if f := find(t, tg, "", since, raw); f[0].OK {
		t.Errorf("found %+v", f)
	}
	mustDeliver(t, tg, raw, targets.Dest{})
	if f := find(t, tg, "", since, raw, raw); !f[0].OK || f[1].OK {
		t.Errorf("found %+v", f)
	}
}

// TestFind_numberedAnew: when the numbers have begun anew, the whole folder is
// searched, and a copy from before gets a number that is nobody else's.
func TestFind_numberedAnew(t *testing.T) {
	path := t.TempDir()
	raw := targetstest.Text(1)
	old := mustDeliver(t, open(t, path), raw, targets.Dest{})
	markers, _ := filepath.Glob(path + "/" + blockPrefix + "*")
	for _, m := range markers {
		os.Remove(m)
	}
	put(t, path, block{validity: old.UIDValidity + 9, index: 3}.file(), "")
	tg := open(t, path)
	now := mark0(t, tg, "")
	if now.UIDValidity != old.UIDValidity+9 {
		t.Fatalf("%+v", now)
	}
	if f := find(t, tg, "", now, raw); f[0].OK {
		t.Errorf("found %+v after the mark", f)
	}
	mustDeliver(t, tg, raw, targets.Dest{})
	f := find(t, tg, "", targets.Mark{UIDValidity: now.UIDValidity, UIDNext: 1}, raw, raw, raw)
	if !f[0].OK || !f[1].OK || f[2].OK || f[0].UID == f[1].UID || min(f[0].UID, f[1].UID) >= ourFirst {
		t.Errorf("found %+v", f)
	}
}

// TestCatalog_foreign: mail of other programs is recognised by its octets,
// whatever its line ends, and each copy counts once.
func TestCatalog_foreign(t *testing.T) {
	path := t.TempDir()
	i := 0
	for _, raw := range targetstest.Contents() {
		i++
		base := string(rune('a'+i)) + ".M2P3.host"
		put(t, path, "new/"+base, raw)
		put(t, path, "cur/"+base+"2:2,S", strings.ReplaceAll(raw, "\r\n", "\n"))
	}
	put(t, path, "cur/empty.host:2,", "")
	tg := open(t, path)
	c, err := tg.Catalog(t.Context(), "", mark0(t, tg, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for name, raw := range targetstest.Contents() {
		want := 2
		if name == "one line end" {
			want = 3 // the empty one is the same
		}
		for n := range want + 1 {
			f, err := c.Take(t.Context(), targetstest.WantedOf(raw))
			if err != nil || f.OK != (n < want) || f.OK && (seen[f.UID] || f.UID == 0) {
				t.Errorf("%s, time %d: %+v, %v", name, n+1, f, err)
			}
			seen[f.UID] = true
		}
	}
}

// TestCatalog_claimed: a file of another program that has served one message does
// not serve another, in a process of its own.
func TestCatalog_claimed(t *testing.T) {
	path := t.TempDir()
	raw := targetstest.Text(1)
	put(t, path, "new/1.M2P3.host", raw)
	take := func(claimed ...uint32) targets.Found {
		tg := open(t, path)
		c, err := tg.Catalog(t.Context(), "", mark0(t, tg, ""), func(uid uint32) bool {
			return len(claimed) > 0 && uid == claimed[0]
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.Take(t.Context(), targetstest.WantedOf(raw))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := take()
	if !f.OK || take() != f {
		t.Errorf("%+v, then %+v", f, take())
	}
	rename(t, path, "new", func(n string) string { return "cur/" + n + ":2,S" })
	if got := take(f.UID); got.OK {
		t.Errorf("taken twice: %+v", got)
	}
}

// TestCatalog_changing: files that get flags between the listing and the reading
// are found again, those that are gone are not.
func TestCatalog_changing(t *testing.T) {
	path := t.TempDir()
	put(t, path, "new/1.M2P3.host", targetstest.Text(1))
	tg := open(t, path)
	m := mark0(t, tg, "")
	c, err := tg.Catalog(t.Context(), "", m, nil)
	if err != nil {
		t.Fatal(err)
	}
	rename(t, path, "new", func(n string) string { return "cur/" + n + ":2,S" })
	if f, err := c.Take(t.Context(), targetstest.WantedOf(targetstest.Text(1))); err != nil || !f.OK {
		t.Errorf("%+v, %v", f, err)
	}
	if c, err = tg.Catalog(t.Context(), "", m, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + "/cur/1.M2P3.host:2,S"); err != nil {
		t.Fatal(err)
	}
	if f, err := c.Take(t.Context(), targetstest.WantedOf(targetstest.Text(1))); err != nil || f.OK {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestScan_whileRenamed: files whose flags change all the time are all seen.
func TestScan_whileRenamed(t *testing.T) {
	path := t.TempDir()
	tg := open(t, path)
	const n = 300
	for i := range n {
		mustDeliver(t, tg, targetstest.Text(i), targets.Dest{Flags: []string{"seen"}})
	}
	f, err := tg.folder("")
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			list := names(t, path+"/cur")
			for _, name := range list[:min(20, len(list))] {
				select {
				case <-stop:
					return
				default:
				}
				base, flags, _ := strings.Cut(name, infoMark)
				to := map[string]string{"S": "FS", "FS": "S"}[flags]
				if err := os.Rename(path+"/cur/"+name, path+"/cur/"+base+infoMark+to); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	missed := 0
	for range 50 {
		all, err := tg.scan(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < n {
			missed++
		}
		if len(all) > n {
			t.Fatalf("%d files of %d", len(all), n)
		}
	}
	close(stop)
	<-stopped
	if missed > 0 {
		t.Errorf("%d scans of 50 missed files", missed)
	}
}
