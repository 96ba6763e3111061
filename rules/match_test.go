package rules

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "anything", true},
		{"a", "a", true},
		{"a", "ab", false},
		{"a", "ba", false},
		{"a*", "ab", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"ab*ba", "aba", false},
		{"*@billing.example.com", "x@billing.example.com", true},
		{"*@billing.example.com", "x@sub.billing.example.com", false},
		{"invoice@*", "Invoice@acme.example", true},
		{"*b*c*", "abbcx", true},
		{"*c*b*", "abbcx", false},
		{"*ab*ab", "abab", true},
		{"*ab*ab", "aab", false},
		{"**", "x", true},
		{"?", "", false},
		{"?", "ä", true},
		{"?", "aa", false},
		{"a?c", "abc", true},
		{"*?", "", false},
		{"*?b?*", "abc", true},
		{"*?b?*", "bc", false},
		{"*a?", "aab", true},
		{"*a?", "ba", false},
		{"[a]", "a", false},
		{"[a]", "[a]", true},
		{"a.c", "abc", false},
		{"GRÜSSE", "grüsse", true},
		{"straße", "STRASSE", false}, // simple folding maps rune to rune
		{"Σ", "ς", true},
		{"k", "\u212a", true}, // Kelvin sign
		{"S", "ſ", true},
		{"I", "ı", false},
	}
	for _, tt := range tests {
		if got := compileGlob(tt.pattern).match(fold(tt.text)); got != tt.want {
			t.Errorf("%q on %q = %v", tt.pattern, tt.text, got)
		}
	}
}

// TestGlob_model compares globs with the regular expression that means the same.
func TestGlob_model(t *testing.T) {
	alphabet := rapid.SampledFrom([]rune("aAbä*?.@"))
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(alphabet, 0, 8, -1).Draw(t, "pattern")
		text := rapid.StringOfN(alphabet, 0, 12, -1).Draw(t, "text")
		quoted := regexp.QuoteMeta(pattern)
		quoted = strings.ReplaceAll(quoted, `\*`, `(?s:.*)`)
		quoted = strings.ReplaceAll(quoted, `\?`, `(?s:.)`)
		want := regexp.MustCompile(`(?i)\A` + quoted + `\z`).MatchString(text)
		if got := compileGlob(pattern).match(fold(text)); got != want {
			t.Fatalf("%q on %q = %v, want %v", pattern, text, got, want)
		}
	})
}

func TestFold_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.StringN(0, 6, -1).Draw(t, "a")
		b := rapid.SampledFrom([]string{strings.ToUpper(a), strings.ToLower(a), a, rapid.StringN(0, 6, -1).Draw(t, "b")}).Draw(t, "other")
		if got, want := fold(a) == fold(b), strings.EqualFold(a, b); got != want {
			t.Fatalf("%q and %q: equal %v, EqualFold %v", a, b, got, want)
		}
		if f := fold(a); fold(f) != f || !utf8.ValidString(f) {
			t.Fatalf("fold(%q) = %q is not its own fold", a, f)
		}
	})
}

func TestGlob_explosive(t *testing.T) {
	g := compileGlob(strings.Repeat("*a?", 300) + "*b")
	text := strings.Repeat("a", maxText)
	start := time.Now()
	for range 10 {
		if g.match(text) {
			t.Fatal("matched")
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// matchTest is a condition on a message, and whether it holds.
const matchMail = "From: \"Acme, Inc.\" <Invoice@Acme.Example>, second@other.example\r\n" +
	"To: jane+shop@isp.example\r\n" +
	"Cc: undisclosed-recipients:;\r\n" +
	"Subject: =?utf-8?q?Rechnung_=C3=84_4711?=\r\n" +
	"X-Tag: one\r\n" +
	"X-Tag: Two\r\n" +
	"X-Empty:\r\n" +
	"List-Id: The Go list <golang-nuts.GoogleGroups.com>\r\n" +
	"\r\n"

func message(header string) *Message {
	return &Message{Account: "isp", Header: ParseHeader([]byte(header)), Size: 2048}
}

// where is a condition of one test with patterns of one kind.
func where(key string, kind Kind, texts ...string) Cond {
	t := &Test{Key: key}
	if name, ok := strings.CutPrefix(key, "header "); ok {
		t.Key, t.Name = "header", name
	}
	for _, text := range texts {
		t.Patterns = append(t.Patterns, Pattern{kind, text})
	}
	return Cond{Test: t}
}

func sized(op string, n int64) Cond {
	return Cond{Test: &Test{Key: "size", Size: SizeTest{op, n}}}
}

func TestConditions(t *testing.T) {
	yes, no := where("from", Glob, "*"), where("from", Glob, "nobody")
	tests := map[string]struct {
		cond Cond
		want bool
	}{
		"glob on an address":           {where("from", Glob, "invoice@*"), true},
		"glob is on the whole address": {where("from", Glob, "invoice"), false},
		"any of the addresses":         {where("from", Glob, "*@other.example"), true},
		"any of the patterns":          {where("from", Glob, "x", "*@acme.example"), true},
		"not on the display name":      {where("from", Contains, "Inc"), false},
		"the name through header":      {where("header From", Contains, "inc."), true},
		"is":                           {where("from", Is, "INVOICE@acme.example"), true},
		"is, a part":                   {where("from", Is, "invoice@acme"), false},
		"contains":                     {where("from", Contains, "@ACME."), true},
		"regex has case":               {where("from", Regex, "invoice"), false},
		"regex without case":           {where("from", Regex, "(?i)^invoice@"), true},
		"domain":                       {where("from", Domain, "acme.EXAMPLE"), true},
		"domain above":                 {where("from", Domain, "example"), true},
		"domain with a like end":       {where("from", Domain, "me.example"), false},
		"domain below":                 {where("from", Domain, "mail.acme.example"), false},
		"domain of a list":             {where("list_id", Domain, "googlegroups.com"), true},
		"to":                           {where("to", Glob, "jane+*@isp.example"), true},
		"cc without an address":        {where("cc", Glob, "*"), false},
		"cc is there, though":          {where("cc", Exists, "yes"), true},
		"subject":                      {where("subject", Glob, "rechnung ä *"), true},
		"subject is whole":             {where("subject", Glob, "rechnung"), false},
		"subject regex":                {where("subject", Regex, `\b4711$`), true},
		"header, first":                {where("header X-Tag", Is, "one"), true},
		"header, second":               {where("header x-tag", Is, "two"), true},
		"header, other":                {where("header X-Tag", Is, "three"), false},
		"header missing":               {where("header X-None", Glob, "*"), false},
		"header empty":                 {where("header X-Empty", Glob, ""), true},
		"exists":                       {where("header X-Empty", Exists, "yes"), true},
		"exists not":                   {where("header X-Empty", Exists, "no"), false},
		"missing":                      {where("header X-None", Exists, "no"), true},
		"missing not":                  {where("header X-None", Exists, "yes"), false},
		"list_id":                      {where("list_id", Is, "golang-nuts.googlegroups.com"), true},
		"list_id is the id":            {where("list_id", Contains, "The Go"), false},
		"account":                      {where("account", Is, "isp"), true},
		"account, other":               {where("account", Glob, "old*"), false},
		"size <":                       {sized("<", 2048), false},
		"size <=":                      {sized("<=", 2048), true},
		"size >":                       {sized(">", 2047), true},
		"size > equal":                 {sized(">", 2048), false},
		"size >=":                      {sized(">=", 2049), false},
		"all":                          {Cond{All: []Cond{yes, yes}}, true},
		"all but one":                  {Cond{All: []Cond{yes, no, yes}}, false},
		"all of nothing":               {Cond{All: []Cond{}}, true},
		"any":                          {Cond{Any: []Cond{no, yes}}, true},
		"any, none":                    {Cond{Any: []Cond{no, no}}, false},
		"any of nothing":               {Cond{Any: []Cond{}}, false},
		"not":                          {Cond{Not: &no}, true},
		"not, twice":                   {Cond{Not: &Cond{Not: &no}}, false},
		"nested":                       {Cond{All: []Cond{{Any: []Cond{no, {Not: &no}}}, yes}}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set := mustCompile(t, Rule{Name: "r", If: &tt.cond, Then: Then{Drop: true}})
			if got := set.Decide(message(matchMail)).Action == Drop; got != tt.want {
				t.Errorf("holds = %v", got)
			}
		})
	}
}

func mustCompile(t testing.TB, rs ...Rule) *Set {
	t.Helper()
	set, err := Compile(rs)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// A domain test is about a domain: a local part alone has none.
func TestConditions_domainOfLocalUser(t *testing.T) {
	cond := where("from", Domain, "root")
	set := mustCompile(t, Rule{Name: "r", If: &cond, Then: Then{Drop: true}})
	if set.Decide(message("From: root\r\n")).Action == Drop {
		t.Error("a local part was taken for a domain")
	}
	if set.Decide(message("From: x@root.\r\n")).Action != Drop {
		t.Error("a domain with its final dot does not match")
	}
}
