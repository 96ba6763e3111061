package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"popferry/fetcher/config"
)

// FuzzParse never panics, always ends with a configuration or with errors that
// can be rendered, and never prints what a variable holds.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{badFiles, goodFiles, examples} {
		files, err := filepath.Glob(dir + "/*.yaml")
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			slow := strings.Contains(file, "bomb") // and every descendant as well
			if len(data) < 4<<10 && !slow && !strings.Contains(string(data), "canary") {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "canary") {
			return // then it is no secret of the environment
		}
		c, err := config.Parse("p.yaml", data, environ)
		var warns []*config.Error
		if err == nil {
			warns = c.Warnings
			if len(c.Accounts) == 0 || len(c.Targets) == 0 || len(c.Jobs) == 0 || c.State == "" || c.Location == nil {
				t.Fatalf("accepted with something missing: %+v", c)
			}
		} else {
			warns = err.(config.Errors)
		}
		for _, e := range warns {
			checkBlock(t, e, data)
		}
		var b strings.Builder
		if err := config.Errors(warns).Render(&b, false); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), canary) {
			t.Fatalf("a secret is shown:\n%s", b.String())
		}
	})
}

// FuzzSecret writes a password into a file as it should be, breaks the file in
// front of it and behind it, and looks for the password in what is printed.
func FuzzSecret(f *testing.F) {
	for _, s := range []string{"", "\t", "kep: 1", `"`, "'", "[", "{", "- ", "&a ", "*", "!x ", "|\n", "? ", ": ", "#", "---\n", "\xff", "x: |\n"} {
		f.Add(s, "")
		f.Add("", s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "canary") {
			return
		}
		data := "accounts:\n  isp:\n    host: pop.isp.example\n    kep: 1\n    " + before +
			"\n    password: " + canary + "\n    " + after + "\n    user: jane\n"
		_, err := config.Parse("p.yaml", []byte(data), environ)
		if out := render(t, err); strings.Contains(out, canary) {
			t.Fatalf("a secret is shown for\n%s\n%s", data, out)
		}
	})
}
