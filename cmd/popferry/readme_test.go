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
	"popferry/fetcher/daemon"
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
		if strings.HasPrefix(text, "tests:") {
			continue // TestReadme_console runs them
		}
		if i > 0 && !strings.HasPrefix(text, "accounts:") {
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
	text := readme(t)
	d := startDemo(t, nil)
	t.Chdir(t.TempDir())
	files := readmeFiles(t, text)
	files[".fetchids"] = demoUser + "@127.0.0.1 " + d.pop.Messages(demoUser)[0].UIDL + "\n"
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	printed := map[string]string{} // by command
	commands := 0
	for _, block := range blocks(text, "console") {
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
			a := newApp(nil, &out, &errs, anything)
			a.machine.Root = nowhere
			if code := a.main(t.Context(), strings.Fields(args)); code != 0 {
				t.Errorf("popferry %s: exit code %d\n%s%s", args, code, out.String(), errs.String())
			}
			printed[strings.TrimSuffix(args, " --config "+d.path)] = out.String()
		}
	}
	if commands < 5 {
		t.Errorf("only %d commands", commands)
	}
	if got, want := printed["rules explain invoice.eml"], blocks(text, "text"); !slices.Contains(want, got) {
		t.Errorf("the README explains\n%s\nand it is\n%s", want, got)
	}
	if got := printed["verify"]; !strings.HasPrefix(got, "✓ All ") {
		t.Errorf("verify says\n%s", got)
	}
	if got := printed["state import isp --from fetchmail .fetchids --dry-run"]; !strings.HasPrefix(got, "1 of 1 ids match messages on the server.") {
		t.Errorf("the import says\n%s", got)
	}
	if got := printed["rules test rules-test.yaml"]; strings.Count(got, "ok    ") != 3 {
		t.Errorf("the README's tests give\n%s", got)
	}
	if got := printed["rules convert dovecot.sieve"]; !slices.ContainsFunc(blocks(text, "yaml"), func(b string) bool { return strings.HasSuffix(got, b) }) {
		t.Errorf("the README's script becomes\n%s", got)
	}
}

// readmeFiles are the files that commands of the README name.
func readmeFiles(t *testing.T, text string) map[string]string {
	files := map[string]string{"invoice.eml": "From: Acme <invoice@acme.example>\nTo: jane@isp.example\nSubject: Rechnung 4711\n\nhello\n"}
	for _, block := range blocks(text, "yaml") {
		if strings.HasPrefix(block, "tests:") {
			files["rules-test.yaml"] = block
		}
	}
	if script := blocks(text, "sieve"); len(script) == 1 {
		files["dovecot.sieve"] = script[0]
	}
	if len(files) != 3 {
		t.Fatal("the README has no tests or no script")
	}
	return files
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
	want := daemon.ExitCodes()
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
