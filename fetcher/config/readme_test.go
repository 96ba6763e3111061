package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// readmeCase is what a line of the table must do: a condition holds for hit and
// not for miss, and an action makes want of hit.
type readmeCase struct{ hit, miss, want string }

// multipart is a mail with one part beside its text.
func multipart(part string) string {
	return "Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n" + part + "\n\nx\n--b--\n"
}

// readmeCases are by the last cell of the line.
var readmeCases = map[string]readmeCase{
	`if: { from: { domain: shop.example } }`:                    {"From: Ann <a@mail.SHOP.example>\n", "From: shop.example <a@other.example>\n", ""},
	`if: { to: desk@x.example }`:                                {"To: a@x.example, Desk <desk@x.example>\n", "Cc: desk@x.example\n", ""},
	`if: { to: { detail: lists } }`:                             {"To: jane+lists@x.example\n", "To: lists@x.example\n", ""},
	`if: { recipient: jane@x.example }`:                         {"To: all@x.example\nDelivered-To: jane@x.example\n", "From: jane@x.example\n", ""},
	`if: { subject: "*invoice*" }`:                              {"Subject: Your INVOICE 12\n", "Subject: your voice\n", ""},
	`if: { subject: { regex: "#[0-9]+" } }`:                     {"Subject: re #12\n", "Subject: re #\n", ""},
	`if: { header: { X-Mailer: mass } }`:                        {"x-mailer: Mass\n", "X-Mailer: mass mailer\n", ""},
	`if: { list_id: { exists: yes } }`:                          {"List-Id:\n", "Subject: list-id\n", ""},
	`if: { list_id: go.x.example }`:                             {"List-Id: The go list <go.X.example>\n", "List-Id: go.x.example <other.x.example>\n", ""},
	`if: { spam: yes }`:                                         {"X-Spam-Flag: YES\n", "X-Spam-Flag: NO\n", ""},
	`if: { body: "*amount due*" }`:                              {"Subject: x\n\nThe Amount due is 3\n", "Subject: amount due\n\nx\n", ""},
	`if: { has_attachment: yes }`:                               {multipart("Content-Type: application/pdf; name=a.pdf\n"), multipart("Content-Type: text/html\n"), ""},
	`if: { size: ">5M" }`:                                       {"Subject: larger\n", "Subject: x\n", ""},
	`if: { date: ">=2026-01-01" }`:                              {"Date: Thu, 1 Jan 2026 00:00:00 +0100\n", "Date: Wed, 31 Dec 2025 23:59:59 -0500\n", ""},
	`if: { older_than: 30d }`:                                   {"Date: Thu, 1 Oct 2026 00:00:00 +0000\n", "Date: Sun, 1 Nov 2026 00:00:00 +0000\n", ""},
	`if: { any: [{ from: a@x.example }, { cc: a@x.example }] }`: {"Cc: a@x.example\n", "To: a@x.example\n", ""},
	`if: { from: a@x.example, not: { subject: "*ad*" } }`:       {"From: a@x.example\nSubject: hi\n", "From: a@x.example\nSubject: an ad\n", ""},
	`if: { account: isp }`:                                      {"Subject: x\n", "", ""}, // there is no other account here

	`then: { folder: Lists/go }`:                                                {want: "Lists/go"},
	`then: { folder: [A, INBOX] }`:                                              {want: "A, INBOX"},
	`then: { folder: A, flags: [flagged] }`:                                     {want: "A flagged"},
	`then: { flags: [seen] }, continue: yes`:                                    {want: "- seen"},
	`then: { folder: A }, continue: yes`:                                        {want: "A, Last"},
	`then: { to: joe@x.example, target: relay }`:                                {want: "relay:<joe@x.example>"},
	`then: { drop: yes }`:                                                       {want: "drop"},
	`then: { skip: yes }`:                                                       {want: "skip"},
	`then: { folder: A, keep: 7d }`:                                             {want: "A, kept 7d"},
	`if: { subject: { regex: '\[(\w+)\]' } }, then: { folder: "Tickets/${1}" }`: {hit: "Subject: re [ab12] broken\n", want: "Tickets/ab12"},
}

var tableLine = regexp.MustCompile("(?m)^\\|.*\\| `((?:if|then): .*)` \\|$")

// TestReadme_rules runs each line of the table that says what rules can say.
func TestReadme_rules(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range tableLine.FindAllStringSubmatch(string(readme), -1) {
		cell := m[1]
		c, ok := readmeCases[cell]
		if !ok || seen[cell] {
			t.Errorf("%s: has no case, or is there twice", cell)
			continue
		}
		seen[cell] = true
		t.Run(cell, func(t *testing.T) { checkReadmeRule(t, cell, c) })
	}
	for cell := range readmeCases {
		if !seen[cell] {
			t.Errorf("%s: not in the README", cell)
		}
	}
}

func checkReadmeRule(t *testing.T, cell string, c readmeCase) {
	var rule yaml.Node
	if err := yaml.Unmarshal([]byte("{name: r, "+cell+"}"), &rule); err != nil {
		t.Fatal(err)
	}
	node := rule.Content[0]
	if !strings.Contains(cell, "then:") {
		node.Content = append(node.Content, scalar("then"), mapping("folder", scalar("Matched")))
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{node}}
	if strings.Contains(cell, "folder: A }, continue") {
		list.Content = append(list.Content, mapping("name", scalar("last"), "then", mapping("folder", scalar("Last"))))
	}
	var targets []string
	if strings.Contains(cell, "relay") {
		targets = []string{"relay"}
	}
	set := withRules(t, list, targets)
	result := func(mail string) string {
		size := int64(0)
		if strings.Contains(mail, "larger") {
			size = 6 << 20
		}
		d := set.Decide(message(mail, size))
		got := outcome(d)
		if d.Keep != nil {
			got += ", kept " + d.Keep.String()
		}
		return got
	}
	want := c.want
	if want == "" {
		want = "Matched"
	}
	if got := result(c.hit); got != want {
		t.Errorf("%q: got %q, want %q", c.hit, got, want)
	}
	if c.miss != "" {
		if got := result(c.miss); got != "-" {
			t.Errorf("%q: got %q, want none", c.miss, got)
		}
	}
}
