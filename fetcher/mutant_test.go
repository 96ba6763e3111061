//go:build steps

package fetcher

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutantsFlag = flag.Bool("mutants", false, "break the program in several ways, each of which a test must notice")

// TestMutants breaks a rule of the protocol in a copy of the module, one at a
// time, and demands that the test which the patch names fails.
func TestMutants(t *testing.T) {
	if !*mutantsFlag {
		t.Log("-mutants was not given: the patches are only applied")
	}
	patches, err := filepath.Glob("../testdata/mutants/*.patch")
	if err != nil || len(patches) < 5 {
		t.Fatalf("%d patches, %v", len(patches), err)
	}
	for _, patch := range patches {
		t.Run(strings.TrimSuffix(filepath.Base(patch), ".patch"), func(t *testing.T) {
			raw, err := os.ReadFile(patch)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			copyModule(t, dir)
			apply(t, dir, string(raw))
			if !*mutantsFlag {
				return
			}
			about, rest, _ := strings.Cut(string(raw), "\nNoticed by ")
			test, _, _ := strings.Cut(rest, "\n")
			cmd := exec.Command("go", "test", "-tags", "steps", "./fetcher", "-run", "^"+test+"$")
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			switch noticed := strings.Count(string(out), "--- FAIL: "); {
			case err == nil:
				t.Errorf("%s passes. %s", test, about)
			case noticed == 0:
				t.Errorf("no test failed, and yet: %v\n%s", err, out)
			default:
				t.Log(complaints(string(out), 3))
			}
		})
	}
}

// apply patches the files below dir. A hunk goes where its lines are, whatever
// numbers it has, and they must be in one place only: the engine may move on,
// but what the mutant breaks must still be there.
func apply(t *testing.T, dir, patch string) {
	t.Helper()
	_, patch, _ = strings.Cut(patch, "\n\n")
	file, before, after := "", "", ""
	flush := func() {
		if before == "" {
			return
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(raw), before); n != 1 {
			t.Fatalf("%s has this %d times:\n%s", strings.TrimPrefix(file, dir), n, before)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(raw), before, after, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		before, after = "", ""
	}
	for line := range strings.Lines(patch) {
		switch {
		case strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "diff "):
			flush()
		case strings.HasPrefix(line, "+++ b/"):
			file = filepath.Join(dir, strings.TrimSpace(line[len("+++ b/"):]))
		case strings.HasPrefix(line, "@@ "):
			flush()
		case line[0] == '-':
			before += line[1:]
		case line[0] == '+':
			after += line[1:]
		case line[0] == ' ':
			before, after = before+line[1:], after+line[1:]
		}
	}
	flush()
}

// complaints returns the first errors of a test's output.
func complaints(out string, n int) string {
	var list []string
	for line := range strings.Lines(out) {
		if len(list) < n && strings.Contains(line, "_test.go:") && !strings.HasSuffix(line, " steps\n") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return strings.Join(list, "\n")
}

// copyModule copies what the tests of this package are built from.
func copyModule(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && rel != ".":
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !strings.HasSuffix(path, ".go") && !strings.HasPrefix(d.Name(), "go.") && !strings.HasPrefix(rel, "testdata"):
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, 0o644)
	})
	if err != nil {
		t.Fatal(fmt.Errorf("copying the module: %w", err))
	}
}
