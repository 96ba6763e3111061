package rules

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// explanation is what `popferry rules explain` makes of the steps.
func explanation(set *Set, m *Message) string {
	var b strings.Builder
	d := set.Explain(m, func(s Step) {
		mark := map[Verdict]string{Matched: "✓", Failed: "✗", OtherAccount: "–"}[s.Verdict]
		name := s.Rule
		for _, line := range s.Lines() {
			fmt.Fprintf(&b, "%s %-16s %s\n", mark, name, line)
			mark, name = " ", ""
		}
	})
	fmt.Fprintf(&b, "Result: %v", d.Action)
	for _, d := range d.Deliver {
		fmt.Fprintf(&b, " [%s %s]", d.Dest.Folder, ShowFlags(d.Dest.Flags))
	}
	return b.String()
}

// The first case is the example that the user documentation shows.
func TestExplain_golden(t *testing.T) {
	invoice := "From: Acme <invoice@acme.example>\r\nTo: jane@isp.example, joe@isp.example\r\nSubject: Rechnung 4711\r\nX-Tag:\r\n\r\n"
	all := func(conds ...Cond) *Cond { return &Cond{All: conds} }
	spam, lists := where("header X-Spam-Flag", Is, "yes"), where("list_id", Glob, "*")
	tests := map[string]struct {
		rules []Rule
		want  string
	}{
		"documentation": {
			[]Rule{
				{Name: "spam-marked", If: &spam, Then: Then{Folders: []string{"Spam"}}},
				{
					Name: "invoices", If: all(where("from", Glob, "*@billing.example.com", "invoice@*"), where("subject", Regex, `(?i)\b(invoice|rechnung)\b`)),
					Then: Then{Folders: []string{"Finance/Invoices"}, Flags: []string{"flagged"}}, Continue: true,
				},
				{Name: "lists", If: &lists, Then: Then{Folders: []string{"Lists"}}},
				to("newsletters", "News").only("oldhost"),
			},
			`
✗ spam-marked      header X-Spam-Flag: not present
✓ invoices         from    "invoice@acme.example" matches "invoice@*"
                   subject "Rechnung 4711" matches /(?i)\b(invoice|rechnung)\b/
                   → folder Finance/Invoices, flag \Flagged · continue
✗ lists            no List-Id header
– newsletters      only for account oldhost
Result: deliver [Finance/Invoices \Flagged]`,
		},
		"failures": {
			[]Rule{
				to("never", "x").never(),
				{Name: "glob", If: all(where("to", Glob, "x@*"))},
				{Name: "many", If: all(where("to", Is, "a", "b", "c", "d"))},
				{Name: "second", If: all(where("from", Domain, "example"), where("subject", Contains, "x"))},
				{Name: "any", If: &Cond{Any: []Cond{where("from", Domain, "x.example"), where("subject", Regex, "^x")}}},
				{Name: "not", If: &Cond{Not: new(where("from", Is, "invoice@acme.example"))}},
				{Name: "size", If: all(sized(">", 5<<20))},
				{Name: "account", If: all(where("account", Is, "old"))},
				{Name: "exists", If: all(where("subject", Exists, "no"))},
				{Name: "present", If: all(where("cc", Exists, "yes"))},
				{Name: "empty", If: all(where("header X-Tag", Contains, "x"))},
			},
			`
✗ never            no condition to hold
✗ glob             to "jane@isp.example" and 1 more does not match "x@*"
✗ many             to "jane@isp.example" and 1 more matches none of "a", "b", "c", 1 more
✗ second           subject "Rechnung 4711" does not contain "x"
✗ any              from    "invoice@acme.example" is not in domain "x.example"
                   subject "Rechnung 4711" does not match /^x/
✗ not              from "invoice@acme.example" is "invoice@acme.example"
✗ size             size 2048 is not > 5M
✗ account          account "isp" is not "old"
✗ exists           subject "Rechnung 4711" is present
✗ present          no Cc header
✗ empty            header X-Tag "" does not contain "x"
Result: deliver [ ]`,
		},
		"results": {
			[]Rule{
				to("everything").on(),
				to("two", "A", "B").flags("seen", "$x").on(),
				{Name: "exists", If: all(where("subject", Exists, "yes"), where("cc", Exists, "no"), sized("<", 2049)), Continue: true},
				to("dropped").drop(),
				to("unseen", "x"),
			},
			`
✓ everything       every message
                   → what follows · continue
✓ two              every message
                   → folders A, B, flags \Seen $x · continue
✓ exists           subject: present
                   no Cc header
                   size 2048 is < 2049
                   → what follows · continue
✓ dropped          every message
                   → drop
Result: deliver [A \Seen $x] [B \Seen $x]`,
		},
		"skip": {
			[]Rule{{Name: "s", If: all(Cond{Not: new(where("from", Domain, "isp.example"))}), Then: Then{Skip: true}}},
			`
✓ s                from "invoice@acme.example" is not in domain "isp.example"
                   → skip
Result: skip`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := explanation(mustCompile(t, tt.rules...), message(invoice))
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What a sender writes must not reach the terminal as it is.
func TestExplain_hostile(t *testing.T) {
	evil := "\x1b]0;x\x07\u202e\u2028\x00" + strings.Repeat("A", 1<<20)
	cond := Cond{Any: []Cond{where("subject", Contains, "B"), where("from", Is, "B"), where("subject", Regex, "(?s).*(.)\u202e")}}
	set := mustCompile(t, Rule{Name: "r", If: &cond, Then: Then{Folders: []string{"${1}x"}}})
	m := message("Subject: " + evil + "\r\nFrom: <" + evil + "@x>\r\n\r\n")
	checkLines := func(s Step) {
		for _, c := range s.Checks {
			checkLine(t, c.String())
		}
		for _, line := range s.Lines() {
			checkLine(t, line)
		}
	}
	if d := set.Explain(m, checkLines); len(d.Matched) != 1 {
		t.Error("the regex did not match")
	}
}

func checkLine(t interface {
	Errorf(string, ...any)
	Helper()
}, line string,
) {
	t.Helper()
	const longest = 1000
	if len(line) > longest || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("line of %d octets: %.100q", len(line), line)
	}
}
