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
			cmd := exec.Command("git", "apply", "--verbose", "-")
			cmd.Dir, cmd.Stdin = dir, strings.NewReader(string(raw))
			// A repository around dir would make git look for the files there.
			cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !*mutantsFlag {
				return
			}
			about, rest, _ := strings.Cut(string(raw), "\nNoticed by ")
			test, _, _ := strings.Cut(rest, "\n")
			cmd = exec.Command("go", "test", "-tags", "steps", "./fetcher", "-run", "^"+test+"$")
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
