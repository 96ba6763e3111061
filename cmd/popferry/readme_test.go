package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"popferry/fetcher/config"
)

func readme(t *testing.T) string {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// blocks returns the fenced blocks of a language.
func blocks(text, language string) []string {
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// anything is an environment that has every password and a home.
func anything(name string) (string, bool) {
	switch {
	case name == "HOME":
		return "/nowhere", true
	case strings.HasSuffix(name, "PASSWORD"):
		return "x", true
	}
	return "", false
}

// Every snippet is a configuration, or goes on from the first one.
func TestReadme_yaml(t *testing.T) {
	all := blocks(readme(t), "yaml")
	if len(all) < 2 {
		t.Fatalf("%d yaml blocks", len(all))
	}
	for i, text := range all {
		if i > 0 {
			text = all[0] + text
		}
		if _, err := config.Parse("README.md", []byte(text), anything); err != nil {
			t.Errorf("block %d: %v", i+1, err)
		}
	}
	if n := strings.Count(all[0], "\n"); n > 15 {
		t.Errorf("the first configuration has %d lines", n)
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "minimal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(example), all[0]) {
		t.Error("the first configuration is not examples/minimal.yaml")
	}
}

// Every command in the README ends with 0: the demo as it is, the others with
// a configuration for servers in this process.
func TestReadme_console(t *testing.T) {
	d := startDemo(t, nil)
	commands := 0
	for _, block := range blocks(readme(t), "console") {
		for line := range strings.Lines(block) {
			args, ok := strings.CutPrefix(strings.TrimSpace(line), "$ go run ./cmd/popferry ")
			if !ok {
				if args, ok = strings.CutPrefix(strings.TrimSpace(line), "$ popferry "); !ok {
					t.Fatalf("%q is no popferry command", line)
				}
				args += " --config " + d.path
			}
			commands++
			var out, errs bytes.Buffer
			if code := run(t.Context(), strings.Fields(args), nil, &out, &errs, anything); code != 0 {
				t.Errorf("popferry %s: exit code %d\n%s%s", args, code, out.String(), errs.String())
			}
		}
	}
	if commands < 5 {
		t.Errorf("only %d commands", commands)
	}
}

// The table has the codes that there are.
func TestReadme_exitCodes(t *testing.T) {
	text := readme(t)
	var got []int
	for _, m := range regexp.MustCompile(`(?m)^\| ([0-9, ]+) \|`).FindAllStringSubmatch(text, -1) {
		for n := range strings.SplitSeq(m[1], ", ") {
			code, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, code)
		}
	}
	want := slices.Clone(bySeverity)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the README has exit codes %v, there are %v", got, want)
	}
}

// Every module that go.mod asks for directly is named, with its reason.
func TestReadme_builtWith(t *testing.T) {
	text := readme(t)
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		module := regexp.MustCompile(`/v\d+$`).ReplaceAllString(m[1], "")
		module = strings.TrimSuffix(module, "/fallback")
		name := module[strings.LastIndex(module, "/")+1:]
		if name = strings.TrimSuffix(name, "internal"); name == "go-" {
			name = "testscript"
		}
		if !strings.Contains(text, name) {
			t.Errorf("the README does not say why there is %s", m[1])
		}
	}
}
