package config_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
)

var update = flag.Bool("update", false, "rewrite the want lines of testdata/config")

const (
	badFiles  = "../../testdata/config/bad"
	goodFiles = "../../testdata/config/good"
	examples  = "../../examples"
)

// canary is what every password variable holds. It must never be printed.
const canary = "canary-7f3a91"

// environ is the environment of all tests.
func environ(name string) (string, bool) {
	switch name {
	case "HOME":
		return "/home/jane", true
	case "WORK_SECRET":
		return canary, true
	case "EMPTY":
		return "", true
	case "POP_HOST":
		return "pop.isp.example", true
	case "POP_PORT":
		return "1995", true
	case "ARCHIVE":
		return "Old$Mail", true
	case "TWO_LINES":
		return canary + "\nRETR 1", true
	}
	return canary, strings.HasSuffix(name, "_PASSWORD")
}

// render is everything that is printed about an error.
func render(t testing.TB, err error) string {
	t.Helper()
	var errs config.Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("the error is a %T, not Errors: %v", err, err)
	}
	var b strings.Builder
	if err := errs.Render(&b, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var wantLine = regexp.MustCompile(`(?m)^# want: (.*)$`)

// TestBad loads files that have something wrong. Each says in its first lines,
// as "# want: line:column: [code] text", exactly what.
func TestBad(t *testing.T) {
	files, err := filepath.Glob(badFiles + "/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d files (%v); there were 60 at least", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for _, m := range wantLine.FindAllSubmatch(data, -1) {
				want = append(want, strings.TrimSuffix(string(m[1]), "\r"))
			}
			_, err = config.Load(file, environ)
			if err == nil {
				t.Fatal("no error")
			}
			for _, e := range err.(config.Errors) {
				got = append(got, fmt.Sprintf("%d:%d: [%s] %s", e.Line, e.Column, e.Code, e.Text))
			}
			if *update {
				rewriteWants(t, file, data, got)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			for _, e := range err.(config.Errors) {
				checkBlock(t, e, data)
			}
			if out := render(t, err); strings.Contains(out, "canary") {
				t.Errorf("a secret is shown:\n%s", out)
			}
		})
	}
}

// rewriteWants replaces the want lines. It keeps their number, or the places
// would be others.
func rewriteWants(t *testing.T, file string, data []byte, got []string) {
	n := 0
	out := wantLine.ReplaceAllFunc(data, func([]byte) []byte {
		n++
		if n > len(got) {
			return []byte("# want: -")
		}
		return []byte("# want: " + got[n-1])
	})
	if n != len(got) {
		t.Errorf("%s has %d want lines and %d errors:\n%s", file, n, len(got), strings.Join(got, "\n"))
	}
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkBlock checks what holds for the rendering of every error.
func checkBlock(t *testing.T, e *config.Error, data []byte) {
	t.Helper()
	var b strings.Builder
	if err := e.Render(&b, false); err != nil {
		t.Fatal(err)
	}
	block := b.String()
	if lines := strings.Count(block, "\n"); lines > 8 {
		t.Errorf("the block has %d lines; 8 are enough:\n%s", lines, block)
	}
	if strings.ContainsAny(block, "\x1b\x07\r\u202e") {
		t.Errorf("control characters get through: %q", block)
	}
	if e.Line == 0 {
		return
	}
	breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n") // YAML 1.1's
	if lines := strings.Count(breaks.Replace(string(data)), "\n") + 1; e.Line > lines || e.Column < 1 {
		t.Errorf("%d:%d is no place in a file of %d lines", e.Line, e.Column, lines)
	}
	if len(e.Excerpt) == 0 {
		t.Errorf("no excerpt:\n%s", block)
	}
	for _, word := range []string{"yaml:", "!!", "json", "struct", "cannot unmarshal", "invalid configuration", "map[", "nil"} {
		if strings.Contains(e.Text+e.Hint+e.Suggest, word) {
			t.Errorf("%q is not for users:\n%s", word, block)
		}
	}
	if strings.HasSuffix(e.Text, ".") || strings.ToUpper(e.Text[:1]) == e.Text[:1] && e.Text[0] >= 'A' && e.Text[0] <= 'Z' && e.Code != "config-env-unset" {
		t.Errorf("a text is lower case and has no full stop: %q", e.Text)
	}
}

// TestGood loads files without errors. They say in "# warn:" lines which
// warnings they have.
func TestGood(t *testing.T) {
	files, err := filepath.Glob(goodFiles + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	warnLine := regexp.MustCompile(`(?m)^# warn: (.*)$`)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(file, environ)
			if err != nil {
				t.Fatal(render(t, err))
			}
			var want, got []string
			for _, m := range warnLine.FindAllSubmatch(data, -1) {
				want = append(want, string(m[1]))
			}
			for _, e := range c.Warnings {
				checkBlock(t, e, data)
				got = append(got, fmt.Sprintf("%d:%d: [%s] %s", e.Line, e.Column, e.Code, e.Text))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
