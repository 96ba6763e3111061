package rules

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompile_errors(t *testing.T) {
	cond := func(c Cond) Rule { return Rule{Name: "r", If: &c} }
	deep := where("from", Glob, "x")
	for range maxCondTree + 2 {
		deep = Cond{Not: &Cond{Any: []Cond{deep}}}
	}
	tests := map[string]struct {
		rule Rule
		path string
		text string // a part of it
	}{
		"no name":             {Rule{}, "name", "needs a name"},
		"name to a terminal":  {Rule{Name: "a\x1b[2J"}, "name", `"a\x1b[2J" has control characters`},
		"no accounts":         {Rule{Name: "r", Accounts: []string{}}, "accounts", "never matches"},
		"empty condition":     {cond(Cond{}), "if", "this is 0"},
		"two in one":          {cond(Cond{All: []Cond{}, Any: []Cond{}}), "if", "this is 2"},
		"empty in a list":     {cond(Cond{All: []Cond{sized("<", 1), {}}}), "if.all[1]", "this is 0"},
		"deep":                {cond(deep), "if" + strings.Repeat(".not.any[0]", 16) + ".not", "more than 32 deep"},
		"unknown key":         {cond(where("form", Glob, "x")), "if.form", `no key "form"`},
		"no pattern":          {cond(where("from", Glob)), "if.from", "no pattern"},
		"name on a subject":   {cond(Cond{Test: &Test{Key: "subject", Name: "x", Patterns: []Pattern{{Glob, "x"}}}}), "if.subject", "only a header test"},
		"size on a subject":   {cond(Cond{Test: &Test{Key: "subject", Size: SizeTest{"<", 1}, Patterns: []Pattern{{Glob, "x"}}}}), "if.subject", "only a size test"},
		"header without name": {cond(where("header ", Glob, "x")), "if.header.", "cannot be the name"},
		"header name":         {cond(where("header X:Y", Glob, "x")), "if.header.X:Y", `"X:Y" cannot be the name`},
		"size operator":       {cond(sized("=", 1)), "if.size", `"=" does not compare`},
		"size negative":       {cond(sized("<", -1)), "if.size", "not negative"},
		"size with pattern":   {cond(Cond{Test: &Test{Key: "size", Size: SizeTest{"<", 1}, Patterns: []Pattern{{Glob, "x"}}}}), "if.size", "size has no patterns"},
		"kind":                {cond(where("from", Kind(17), "x")), "if.from[0]", "no pattern of kind 17"},
		"second pattern":      {cond(Cond{Any: []Cond{{Not: new(where("subject", Regex, "x", "(a"))}}}), "if.any[0].not.subject[1]", `missing closing ): "(a"`},
		"header pattern":      {cond(where("header X-Spam-Flag", Regex, "+")), "if.header.X-Spam-Flag[0]", `missing argument to repetition operator: "+"`},
		"regex too long":      {cond(where("from", Regex, strings.Repeat("a", maxPattern+1))), "if.from[0]", "longer than 1024"},
		"regex too large":     {cond(where("from", Regex, strings.Repeat("(a{30}){30}", 20))), "if.from[0]", "steps; 10000 are allowed"},
		"regex repeats":       {cond(where("from", Regex, "((a{100}){100}){100}")), "if.from[0]", "regex: invalid repeat count"},
		"glob too long":       {cond(where("from", Glob, strings.Repeat("*", maxPattern+1))), "if.from[0]", "longer than 1024"},
		"not UTF-8":           {cond(where("from", Glob, "\xff")), "if.from[0]", "not UTF-8"},
		"contains nothing":    {cond(where("from", Contains, "")), "if.from[0]", "contains an empty one"},
		"domain with at":      {cond(where("from", Domain, "@x.example")), "if.from[0]", "write it bare"},
		"domain with dot":     {cond(where("from", Domain, ".x.example")), "if.from[0]", "write it bare"},
		"domain with star":    {cond(where("from", Domain, "*.x.example")), "if.from[0]", "write it bare"},
		"domain empty":        {cond(where("from", Domain, "")), "if.from[0]", "write it bare"},
		"domain of subject":   {cond(where("subject", Domain, "x")), "if.subject[0]", "subject has no domain"},
		"exists maybe":        {cond(where("from", Exists, "maybe")), "if.from[0]", `not "maybe"`},
		"exists account":      {cond(where("account", Exists, "yes")), "if.account[0]", "every message has an account"},
		"date operator":       {cond(Cond{Test: &Test{Key: "date", Date: DateTest{"!", "2026"}}}), "if.date", `"!" does not compare`},
		"date":                {cond(Cond{Test: &Test{Key: "date", Date: DateTest{"<", "2026-02-30"}}}), "if.date", `"2026-02-30" is no day`},
		"date of a size":      {cond(Cond{Test: &Test{Key: "size", Size: SizeTest{"<", 1}, Date: DateTest{"<", "2026"}}}), "if.size", "only a date test"},
		"no age":              {cond(Cond{Test: &Test{Key: "older_than"}}), "if.older_than", "more than nothing"},
		"age of a body":       {cond(Cond{Test: &Test{Key: "body", Age: 1, Patterns: []Pattern{{Glob, "x"}}}}), "if.body", "have an age"},
		"not a size":          {cond(Cond{Test: &Test{Key: "size", Size: SizeTest{"<", 1}, No: true}}), "if.size", "can be no"},
		"spam pattern":        {cond(where("spam", Glob, "x")), "if.spam", "spam has no patterns"},
		"body exists":         {cond(where("body", Exists, "yes")), "if.body[0]", "every message has a body"},
		"detail of a list":    {cond(where("list_id", Detail, "x")), "if.list_id[0]", "list_id has no address"},
		"local of a subject":  {cond(where("subject", Local, "x")), "if.subject[0]", "subject has no address"},
		"drop and target":     {to("r").at("home").drop(), "then", "drop and target"},
		"skip and to":         {to("r").rcpt("a@x.example").skip(), "then", "skip and to"},
		"skip and keep":       {to("r").keep(0).skip(), "then.keep", "never deleted"},
		"no targets":          {Rule{Name: "r", Then: Then{Targets: []string{}}}, "then.target", "the list is empty"},
		"target twice":        {to("r").at("a", "a"), "then.target[1]", "there twice"},
		"no recipients":       {Rule{Name: "r", Then: Then{To: []string{}}}, "then.to", "the list is empty"},
		"recipient":           {to("r").rcpt("a@x.example", "Jane <j@x.example>"), "then.to[1]", "is no address"},
		"recipient as a hook": {to("r").rcpt("a@x.example>\r\nRCPT TO:<b@x.example"), "then.to[0]", "is no address"},
		"negative keep":       {Rule{Name: "r", Then: Then{Keep: &Keep{For: -1}}}, "then.keep", "less than no time"},
		"drop and skip":       {to("r").drop().skip(), "then", "drop and skip"},
		"drop and folder":     {to("r", "A").drop(), "then", "drop and folder"},
		"skip and flags":      {to("r").flags("seen").skip(), "then", "skip and flags"},
		"drop and continue":   {to("r").drop().on(), "continue", "drop ends the rules"},
		"no folders":          {Rule{Name: "r", Then: Then{Folders: []string{}}}, "then.folder", "the list is empty"},
		"empty folder":        {to("r", "A", ""), "then.folder[1]", "a level is empty"},
		"flag empty":          {to("r").flags("seen", ""), "then.flags[1]", "1 to 100"},
		"flag with blank":     {to("r").flags("a b"), "then.flags[0]", `"a b" has a character`},
		"flag with CRLF":      {to("r").flags("a\r\nb"), "then.flags[0]", `"a\r\nb" has a character`},
		"flag 8-bit":          {to("r").flags("wörk"), "then.flags[0]", "does not allow"},
		"flag backslash":      {to("r").flags(`\Seen`), "then.flags[0]", "without the backslash"},
		"flag deleted":        {to("r").flags("Deleted"), "then.flags[0]", "marks the copy for removal"},
		"flag recent":         {to("r").flags(`\Recent`), "then.flags[0]", "by the server alone"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, err := Compile([]Rule{to("ok", "OK"), tt.rule})
			if set != nil {
				t.Error("a set came with the error")
			}
			var all interface{ Unwrap() []error }
			if !errors.As(err, &all) || len(all.Unwrap()) != 1 {
				t.Fatalf("err = %v, want exactly one", err)
			}
			var got *RuleError
			if !errors.As(err, &got) || got.Rule != 1 || got.Name != tt.rule.Name || got.Path != tt.path || !strings.Contains(got.Text, tt.text) {
				t.Errorf("err = %+v, want path %q, text %q", got, tt.path, tt.text)
			}
		})
	}
}

func TestCompile_reportsAll(t *testing.T) {
	bad := where("form", Glob, "x")
	_, err := Compile([]Rule{
		{Name: "a", If: &Cond{All: []Cond{bad, where("subject", Regex, "(")}}, Then: Then{Folders: []string{"A//B"}}},
		{Name: "a"},
	})
	want := "rule 1 \"a\": if.all[0].form: there is no key \"form\"\n" +
		"rule 1 \"a\": if.all[1].subject[0]: regex: missing closing ): \"(\"\n" +
		"rule 1 \"a\": then.folder[0]: folder \"A//B\": a level is empty\n" +
		"rule 2 \"a\": name: rule 1 has the name \"a\" already"
	if err == nil || err.Error() != want {
		t.Errorf("err = %v\nwant %v", err, want)
	}
}

func TestCompile_flags(t *testing.T) {
	set := mustCompile(t, to("a").flags("seen", "Seen", "$Forwarded", "NonJunk"))
	got := set.Decide(&Message{}).Deliver[0].Dest.Flags
	if want := []string{"seen", "$Forwarded", "NonJunk"}; !cmp.Equal(got, want) {
		t.Errorf("flags = %q, want %q", got, want)
	}
}
