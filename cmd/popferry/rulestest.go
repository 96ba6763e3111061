package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/rules"
	"popferry/targets/endpoint"
)

const rulesTestLong = `Runs tests of the rules: files with tests: (.yaml), which say of messages what
should become of them. It prints ok or FAIL for each, and ends with 1 if one
failed. Of files with messages (.eml, an mbox, - for standard input) it prints
where each would go.`

const rulesTestExample = `  popferry rules test rules-test.yaml
  popferry rules test ~/mail/old.mbox

  tests:
    - name: invoice goes to Finance
      message: { from: "Acme <invoice@acme.example>", subject: "Rechnung 4711" }
      expect: { folder: Finance/Invoices, flags: [flagged], matched: [invoices] }`

func (a *app) rulesTestCommand() *cobra.Command {
	var from origin
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test FILE…", Short: "do the rules do what they should?", Long: rulesTestLong, Example: rulesTestExample,
		Args: wantArgs("file", -1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			t := &trial{app: a, config: c, from: from, json: asJSON, now: time.Now()}
			for _, path := range args {
				if err := t.file(path); err != nil {
					return err
				}
			}
			return t.end()
		},
	}
	from.flags(a, cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// trial is one run of tests.
type trial struct {
	*app
	config *config.Config
	from   origin
	json   bool
	now    time.Time

	cases, failed int
}

// testsKey begins a file of tests that does not have the name of one.
var testsKey = regexp.MustCompile(`(?m)^tests:`)

// file runs the tests in a file, or tells where the messages in it go.
func (t *trial) file(path string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		return t.tests(path)
	}
	s, err := t.openMail(path)
	if err != nil {
		return err
	}
	defer s.close()
	if head, _ := s.r.Peek(4096); path != "-" && testsKey.Match(head) { // a shorter file is no error
		return t.tests(path)
	}
	return t.messages(s)
}

// tests runs a file of tests.
func (t *trial) tests(path string) error {
	if _, err := os.Stat(path); err != nil {
		return noFile(err)
	}
	cases, err := config.LoadCases(path, t.config)
	if err != nil {
		return err
	}
	for _, c := range cases {
		from := t.from
		if c.Account != "" {
			from = origin{account: c.Account}
		}
		r, err := from.route(t.config)
		if err != nil {
			if u, ok := err.(*usageError); ok { //nolint:errorlint // route wraps nothing
				return &usageError{text: fmt.Sprintf("%s:%d: %s", path, c.Line, u.text), hint: "Give the test an  account:  or name it: --account NAME"}
			}
			return err
		}
		m := *c.Message
		if m.Account = r.account.Name; m.Now.IsZero() {
			m.Now = t.now
		}
		t.verdict(path, c, r, r.job.Rules.Decide(&m))
	}
	return nil
}

// verdict prints what came of a test.
func (t *trial) verdict(path string, c *config.Case, r *route, d rules.Decision) {
	places := r.places(d)
	diffs := compare(c.Expect, d, places)
	t.cases++
	if len(diffs) > 0 {
		t.failed++
	}
	if t.json {
		t.stdout.json(jsonCase{"test", path, c.Line, c.Name, len(diffs) == 0, diffs, d.Action.String(), append([]string{}, d.Matched...), places})
		return
	}
	mark := t.stdout.paint(green, "ok  ")
	if len(diffs) > 0 {
		mark = t.stdout.paint(red, "FAIL")
	}
	t.stdout.printf("%s  %s\n", mark, endpoint.Printable(c.Name, 200))
	for _, diff := range diffs {
		t.stdout.printf("      %-8s expected %s\n      %-8s got      %s\n", diff.Key, diff.Expected, "", diff.Got)
	}
}

// difference is one key of expect that does not hold.
type difference struct {
	Key      string `json:"key"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// jsonCase is the line of one test.
type jsonCase struct {
	Type        string       `json:"type"`
	File        string       `json:"file"`
	Line        int          `json:"line"`
	Name        string       `json:"name"`
	OK          bool         `json:"ok"`
	Differences []difference `json:"differences"`
	Action      string       `json:"action"`
	Matched     []string     `json:"matched"`
	Deliveries  []place      `json:"deliveries"`
}

// compare finds where the decision is not as expected.
func compare(e config.Expect, d rules.Decision, places []place) []difference {
	diffs := []difference{}
	none := fate(d.Action)
	list := func(key string, want, got []string, ordered bool) {
		if want == nil {
			return
		}
		if !ordered {
			want, got = unordered(want), unordered(got)
		}
		if !slices.EqualFunc(want, got, func(a, b string) bool { return a == b || key == "flags" && strings.EqualFold(a, b) }) {
			text := endpoint.Printable(strings.Join(got, ", "), 300)
			if text == "" {
				text = "none"
			}
			if none != "" && key != "matched" {
				text = none
			}
			want := endpoint.Printable(strings.Join(want, ", "), 300)
			if want == "" {
				want = "none"
			}
			diffs = append(diffs, difference{key, want, text})
		}
	}
	var folders, targets, to, flags []string
	for _, p := range places {
		if p.Folder != "" {
			folders = append(folders, p.Folder)
		}
		targets, to, flags = append(targets, p.Target), append(to, p.To...), append(flags, p.Flags...)
	}
	list("folder", e.Folders, folders, false)
	list("target", e.Targets, targets, false)
	list("to", e.To, to, false)
	list("flags", e.Flags, flags, false)
	list("matched", e.Matched, d.Matched, true)
	truth := func(key string, want *bool, got bool) {
		if want != nil && *want != got {
			diffs = append(diffs, difference{key, yes(*want), yes(got)})
		}
	}
	truth("drop", e.Drop, d.Action == rules.Drop)
	truth("skip", e.Skip, d.Action == rules.Skip)
	return diffs
}

// unordered is a list sorted, each value once.
func unordered(list []string) []string {
	out := slices.Clone(list)
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return slices.Compact(out)
}

// messages tells where the messages in a file go.
func (t *trial) messages(s *source) error {
	r, err := t.from.route(t.config)
	if err != nil {
		return err
	}
	rows := [][]string{{"MESSAGE", "FROM", "SUBJECT", "→ FOLDER", "RULE"}}
	n := 0
	for m, err := range s.messages() {
		if err != nil {
			return err
		}
		n++
		name := s.name
		if s.mbox {
			name = fmt.Sprintf("%s#%d", s.name, n)
		}
		m.Account, m.Now = r.account.Name, t.now
		d := r.job.Rules.Decide(m)
		if t.json {
			t.stdout.json(jsonMailOf(name, m, d, r.places(d)))
			continue
		}
		rows = append(rows, t.rows(name, m, d, r.places(d))...)
		if len(rows) > planRows {
			table(t.stdout, rows, 40)
			rows = rows[:1]
		}
	}
	if len(rows) > 1 {
		table(t.stdout, rows, 40)
	}
	return nil
}

// rows are the lines of one message, one for each copy.
func (t *trial) rows(name string, m *rules.Message, d rules.Decision, places []place) [][]string {
	from, subject := "–", endpoint.Printable(m.Header.Text("Subject"), 120)
	if list := m.Header.Addresses("From"); len(list) > 0 {
		from = endpoint.Printable(list[0].Addr(), 80)
	}
	if subject == "" {
		subject = "–"
	}
	rule := "(default)"
	if n := len(d.Matched); n > 0 {
		rule = d.Matched[n-1]
	}
	row := []string{endpoint.Printable(name, 200), from, subject}
	if text := fate(d.Action); text != "" {
		return [][]string{append(row, d.Action.String(), rule)}
	}
	var rows [][]string
	for _, p := range places {
		rule := cmp.Or(p.Rule, "(default)")
		folder := endpoint.Printable(cmp.Or(p.Folder, strings.Join(p.To, ", "), "the target's own"), 200)
		if len(t.config.Targets) > 1 {
			folder = p.Target + ": " + folder
		}
		rows = append(rows, append(slices.Clone(row), "→ "+folder, rule))
	}
	return rows
}

// jsonMail is the line of one message in a file.
type jsonMail struct {
	Type       string   `json:"type"`
	Message    string   `json:"message"`
	MessageID  string   `json:"message_id"`
	From       string   `json:"from"`
	Subject    string   `json:"subject"`
	Bytes      int64    `json:"bytes"`
	Action     string   `json:"action"`
	Matched    []string `json:"matched"`
	Deliveries []place  `json:"deliveries"`
}

func jsonMailOf(name string, m *rules.Message, d rules.Decision, places []place) jsonMail {
	line := jsonMail{
		Type: "message", Message: name, MessageID: m.Header.MessageID(), Subject: m.Header.Text("Subject"), Bytes: m.Size,
		Action: d.Action.String(), Matched: append([]string{}, d.Matched...), Deliveries: places,
	}
	if list := m.Header.Addresses("From"); len(list) > 0 {
		line.From = list[0].Addr()
	}
	return line
}

// end says how many tests failed.
func (t *trial) end() error {
	if t.failed == 0 {
		return nil
	}
	return exit{code: exitSome, reason: fmt.Sprintf("%d of %s failed", t.failed, count(t.cases, "test"))}
}
