package maildir

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"popferry/targets"
	"popferry/targets/targetstest"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	maildir := filepath.Join(dir, "Maildir")
	mustDeliver(t, open(t, maildir), targetstest.Text(1), targets.Dest{Folder: "Lists/go"})
	mustDeliver(t, open(t, maildir), targetstest.Text(1), targets.Dest{})
	home, empty, file := filepath.Join(dir, "home"), filepath.Join(dir, "empty"), filepath.Join(dir, "file")
	for _, d := range []string{home, empty} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{file, filepath.Join(home, "letter.txt")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const writable = "ok: a message can be written; flags are kept, other keywords are not"
	for _, c := range []struct {
		path string
		want []string
	}{
		{maildir, []string{"ok: " + maildir + " is a Maildir; folders beside the inbox: 1", writable}},
		{empty, []string{"ok: " + empty + " is there", writable}},
		{home, []string{"warn: " + home + " holds other things than a Maildir; cur, new and tmp will be made beside them", writable}},
		{filepath.Join(dir, "new"), []string{"ok: " + dir + "/new is not there yet; it will be made"}},
		{filepath.Join(dir, "not", "there"), []string{
			fmt.Sprintf("fail: folder \"INBOX\" in %s/not/there: the directory is not there; is its file system mounted?: stat %s/not: no such file or directory", dir, dir),
		}},
		{file, []string{"fail: " + file + " is no directory"}},
		{filepath.Join(file, "x"), []string{fmt.Sprintf("fail: folder \"INBOX\" in %s/x: stat %s/x: not a directory", file, file)}},
	} {
		before := tree(t, dir)
		findings, err := open(t, c.path).Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range findings {
			got = append(got, f.Level+": "+f.Text)
			if f.Level == "fail" && f.Hint == "" && targets.FaultOf(f.Err) != targets.Down {
				t.Errorf("%s: %v, want down", c.path, f.Err)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", c.path, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		if after := tree(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: Check leaves %q, not %q", c.path, after, before)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, maildir).Check(ctx); err == nil {
		t.Error("the end of the context is no error")
	}
}

// TestDeliver_keywords: what cannot be kept is said once.
func TestDeliver_keywords(t *testing.T) {
	var log strings.Builder
	path := t.TempDir()
	tg, err := Config{Path: path}.Open("disk", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer tg.Close()
	for range 3 {
		if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{Flags: []string{"Work", "$Forwarded", "SEEN"}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), `\"work\"`); n != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", log.String())
	}
	for _, name := range names(t, path+"/cur") {
		if !strings.HasSuffix(name, ":2,PS") {
			t.Error(name)
		}
	}
	if n := len(names(t, path+"/cur")); n != 3 {
		t.Errorf("%d in cur", n)
	}
}
