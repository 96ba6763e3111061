package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
)

// TestRender pins the blocks that the command line documentation shows.
func TestRender(t *testing.T) {
	const file = `accounts:
  isp:
    host: pop.isp.example
    password: ${NOWHERE}
    kep: 30d
    user: jane
targets:
  home:
    host: imap.home.example
    user: jane
    password: ${HOME_PASSWORD}
jobs:
  - from: isp
    cron: "0 */5 * * * *"
    to: home
`
	want := `popferry.yaml:4:15: NOWHERE is not set                                      [config-env-unset]
   3 |     host: pop.isp.example
   4 |     password: ${NOWHERE}
     |               ^^^^^^^^^^
   Set it (export NOWHERE=…, or environment: in compose), or use password_file: FILE
popferry.yaml:5:5: unknown key "kep" in account "isp"                       [config-unknown-key]
   4 |     password: ${NOWHERE}
   5 |     kep: 30d
     |     ^^^ did you mean "keep"?
   Keys allowed here: host, port, user, password, password_file, password_command, keep, …
popferry.yaml:14:11: "0 */5 * * * *" has 6 fields; cron here has 5          [config-cron-fields]
  13 |   - from: isp
  14 |     cron: "0 */5 * * * *"
     |           ^^^^^^^^^^^^^^^
   Drop the first field (seconds): "*/5 * * * *"   or write   every: 5m
`
	_, err := config.Parse("popferry.yaml", []byte(file), environ)
	if diff := cmp.Diff(want, render(t, err)); diff != "" {
		t.Error(diff)
	}
	wantLines := `popferry.yaml:4:15: NOWHERE is not set
popferry.yaml:5:5: unknown key "kep" in account "isp"
popferry.yaml:14:11: "0 */5 * * * *" has 6 fields; cron here has 5`
	if diff := cmp.Diff(wantLines, err.Error()); diff != "" {
		t.Error(diff)
	}
	var one *config.Error
	if !errors.As(err, &one) || one.Line != 4 {
		t.Errorf("errors.As finds %v", one)
	}
}

func TestRender_color(t *testing.T) {
	_, err := config.Parse("p.yaml", []byte("x: 1\n"), environ)
	var b strings.Builder
	if err := err.(config.Errors).Render(&b, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x1b[1mp.yaml:1:1: unknown key \"x\" in the file\x1b[0m", "\x1b[31;1m^\x1b[0m", "\x1b[2m   1 |\x1b[0m x: 1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%q", want, b.String())
		}
	}
}

// TestRender_window cuts long lines around the caret.
func TestRender_window(t *testing.T) {
	long := strings.Repeat("é", 300)
	_, err := config.Parse("p.yaml", []byte(`{"`+long+`": 1, kep: 2}`), environ)
	i := slices.IndexFunc(err.(config.Errors), func(e *config.Error) bool { return strings.Contains(e.Text, `"kep"`) })
	if i < 0 {
		t.Fatal(err)
	}
	e := err.(config.Errors)[i]
	if e.Column != 309 || len(e.Excerpt) != 1 {
		t.Fatalf("column %d, excerpt %v", e.Column, e.Excerpt)
	}
	line := []rune(e.Excerpt[0].Text)
	if len(line) > 100 || line[0] != '…' || string(line[e.Caret:e.Caret+e.Width]) != "kep" {
		t.Errorf("caret %d+%d in %q", e.Caret, e.Width, string(line))
	}
}

func TestParse_manyErrors(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		b.WriteString("k" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + ": 1\n")
	}
	_, err := config.Parse("p.yaml", []byte(b.String()), environ)
	errs := err.(config.Errors)
	if last := errs[len(errs)-1]; len(errs) != 101 || last.Code != "config-more-errors" || last.Text != "and 4903 more errors" {
		t.Errorf("%d errors, the last is %v", len(errs), last)
	}
}

func TestParse_limits(t *testing.T) {
	big := []byte("accounts: " + strings.Repeat("x", 1<<20))
	for name, tc := range map[string]struct {
		data []byte
		code string
	}{
		"larger than 1 MiB": {big, "config-too-big"},
		"nested 20000 deep": {[]byte(strings.Repeat("[", 20_000)), "config-syntax"},
		"UTF-16":            {[]byte("\xff\xfea\x00:\x00"), "config-encoding"},
		"NUL":               {[]byte("a: \x00"), "config-encoding"},
		"control character": {[]byte("a: \x01"), "config-syntax"},
		"nothing":           {nil, "config-empty"},
		"only a BOM":        {[]byte("\ufeff"), "config-empty"},
		"many aliases": {
			[]byte("rules: &a [" + strings.Repeat("{name: x, if: {from: &p [a,a,a,a,a,a,a,a,a,a]}},", 50) +
				strings.Repeat("{name: y, if: {any: [{from: *p}, {to: *p}, {cc: *p}]}},", 10_000) + "]"), "config-too-complex",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("p.yaml", tc.data, environ)
			errs, ok := err.(config.Errors)
			if !ok || !slices.ContainsFunc(errs, func(e *config.Error) bool { return e.Code == tc.code }) {
				t.Errorf("no %s in: %.300v", tc.code, err)
			}
		})
	}
}
