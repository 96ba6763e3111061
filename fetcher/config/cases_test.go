package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
)

func TestLoadCases(t *testing.T) {
	c := load(t, examples+"/rules.yaml")
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("a.eml", "Subject: from a file\n\nbody\n")
	account := c.Jobs[0].Accounts[0].Name
	path := write("cases.yaml", `tests:
  - name: all of it
    message:
      from: ["a@b.example", "c@d.example"]
      subject: "pays $5 in ${CURRENCY}"
      list_id: go.lists.example
      header: { X-A: [1, "2"], Received: "by x" }
      body: "one\ntwo"
      size: 2K
    account: `+account+`
    now: 2026-11-21
    expect: { folder: [A, "B$"], target: [], to: a@b.example, flags: [seen], matched: [], drop: no, skip: yes }
  - { name: file, message_file: a.eml, expect: { folder: INBOX } }
`)
	cases, err := config.LoadCases(path, c)
	if err != nil {
		t.Fatal(render(t, err))
	}
	one, two := cases[0], cases[1]
	want := config.Expect{
		Folders: []string{"A", "B$"}, Targets: []string{}, To: []string{"a@b.example"}, Flags: []string{"seen"},
		Matched: []string{}, Drop: new(false), Skip: new(true),
	}
	if diff := cmp.Diff(want, one.Expect); diff != "" {
		t.Error(diff)
	}
	h := one.Message.Header
	if one.Line != 2 || one.Name != "all of it" || one.Account != account || one.Message.Size != 2048 ||
		!one.Message.Now.Equal(time.Date(2026, 11, 21, 0, 0, 0, 0, c.Location)) {
		t.Errorf("case %+v, message %+v", one, one.Message)
	}
	id, _ := h.ListID()
	if got := h.Text("Subject"); got != "pays $5 in ${CURRENCY}" || len(h.Addresses("From")) != 2 || id != "go.lists.example" ||
		len(h.Values("X-A")) != 2 || h.Text("Received") != "by x" || string(one.Message.Body()) != "one\ntwo\n" {
		t.Errorf("subject %q, body %q", got, one.Message.Body())
	}
	if m := two.Message; m.Header.Text("Subject") != "from a file" || m.Size != 30 || !m.Now.IsZero() || two.Expect.Drop != nil || two.Expect.Matched != nil {
		t.Errorf("message %+v, expect %+v", m, two.Expect)
	}
}

// What is wrong with a whole file; testdata/cli/rules_test.txtar has the rest.
func TestParseCases_whole(t *testing.T) {
	c := load(t, examples+"/rules.yaml")
	for text, want := range map[string]string{
		"":                                    "t.yaml: the file is empty",
		" \n":                                 "t.yaml: the file is empty",
		"accounts: {}":                        `t.yaml:1:1: unknown key "accounts" in the file` + "\n" + "t.yaml:1:1: the file has no tests",
		"tests: 1":                            `t.yaml:1:8: tests must be a list of tests, not "1"`,
		"tests: []":                           "t.yaml:1:8: tests must be a list of tests, not a list",
		"tests: [1]":                          `t.yaml:1:9: test 1 must be a group of keys, not "1"`,
		"tests: [":                            "t.yaml:1:1: a [ or { is opened here and not closed, or a comma is missing",
		"tests:\n- {name: a, expect: {drop}}": `t.yaml:2:3: test 1 has no message` + "\n" + `t.yaml:2:22: key "drop" in expect of test 1 has no value`,
		strings.Repeat("x", 1<<20+1):          "t.yaml: larger than 1024 KiB, so it cannot be a file of tests",
	} {
		if _, err := config.ParseCases("t.yaml", []byte(text), c); err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	if _, err := config.LoadCases("nothing.yaml", c); err == nil || err.Error() != "nothing.yaml: cannot be read: no such file or directory" {
		t.Errorf("no file: %v", err)
	}
}

// FuzzParseCases never panics, and every case that is accepted can be asked.
func FuzzParseCases(f *testing.F) {
	f.Add([]byte("tests: [{name: a, message: {subject: x, header: {X-A: b}, body: c, size: 5M}, now: 2026-11-21, expect: {folder: x, drop: no}}]"))
	f.Add([]byte("tests:\n  - name: b\n    message_file: none\n    account: isp\n    expect: { matched: [a], flags: [seen], to: x, target: y }\n"))
	c, err := config.Load(examples+"/rules.yaml", environ)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cases, err := config.ParseCases("t.yaml", data, c)
		if err != nil {
			if render(t, err) == "" {
				t.Fatal("an error without words")
			}
			return
		}
		for _, tc := range cases {
			c.Rules.Decide(tc.Message)
		}
	})
}
