package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"popferry/targets"
)

// Check looks whether a message could be written. It leaves nothing behind and
// makes no directory. What is wrong is a finding; an error means that ctx ended.
func (t *Target) Check(ctx context.Context) ([]targets.Finding, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	info, err := os.Stat(t.cfg.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []targets.Finding{t.absent()}, nil
	case err != nil:
		return []targets.Finding{t.failed(err)}, nil
	case !info.IsDir():
		return []targets.Finding{{Level: "fail", Text: t.cfg.Path + " is no directory", Hint: "path must name a directory, or one that is to be made."}}, nil
	}
	names, err := os.ReadDir(t.cfg.Path)
	if err != nil {
		return []targets.Finding{t.failed(err)}, nil
	}
	has := func(name string) bool {
		return slices.ContainsFunc(names, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	findings := []targets.Finding{{Level: "ok", Text: t.cfg.Path + " is there"}}
	dir := "."
	switch {
	case has("cur") && has("new") && has("tmp"):
		dir = "tmp"
		findings[0].Text = fmt.Sprintf("%s is a Maildir; folders beside the inbox: %d", t.cfg.Path, folders(names))
	case len(names) > 0 && !has("cur"):
		findings[0] = targets.Finding{
			Level: "warn", Text: t.cfg.Path + " holds other things than a Maildir; cur, new and tmp will be made beside them",
			Hint: "Is that the right directory? A new one of its own is better.",
		}
	}
	if err := probe(filepath.Join(t.cfg.Path, dir)); err != nil {
		return append(findings, t.failed(err)), nil
	}
	return append(findings, targets.Finding{
		Level: "ok", Text: "a message can be written; flags are kept, other keywords are not",
	}), ctx.Err()
}

func folders(names []fs.DirEntry) (n int) {
	for _, e := range names {
		if strings.HasPrefix(e.Name(), ".") && e.IsDir() {
			n++
		}
	}
	return n
}

// absent is what to say of a directory that is not there.
func (t *Target) absent() targets.Finding {
	parent := filepath.Dir(t.cfg.Path)
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return t.failed(err)
	}
	if err := probe(parent); err != nil {
		return t.failed(err)
	}
	return targets.Finding{Level: "ok", Text: t.cfg.Path + " is not there yet; it will be made"}
}

func (t *Target) failed(err error) targets.Finding {
	f, _ := t.folder("")
	if err == nil {
		err = fs.ErrNotExist
	}
	err = t.fault("folder "+f.op, f, err)
	return targets.Finding{Level: "fail", Text: err.Error(), Err: err}
}

// probe writes a file that is gone at once, to see whether that is possible.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, "popferry-check-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return err
	}
	return f.Sync()
}
