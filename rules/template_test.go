package rules

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

const templateMail = "Received: from a by b; Sun, 22 Nov 2026 00:10:00 +0000\r\n" +
	"Date: Sat, 21 Nov 2026 23:55:02 -0500\r\n" +
	"From: Acme <Invoice@Acme.Example>\r\n" +
	"To: Jane+Shop+x@isp.example\r\n" +
	"Subject: [ticket 4711] Order\r\n" +
	"List-Id: The Go list <Golang-Nuts.googlegroups.com>\r\n\r\n"

func expand(t *testing.T, mail, folder string, conds ...Cond) string {
	t.Helper()
	r := to("r", folder)
	if conds != nil {
		r.If = &Cond{All: conds}
	}
	d := mustCompile(t, r).Decide(message(mail))
	if len(d.Matched) != 1 {
		t.Fatal("the rule did not match")
	}
	return d.Deliver[0].Dest.Folder
}

func TestTemplate(t *testing.T) {
	tests := map[string]string{
		"Lists/go":                     "Lists/go",
		"${account}":                   "isp",
		"Lists/${list_id}":             "Lists/golang-nuts.googlegroups.com",
		"Lists/${list_name}":           "Lists/golang-nuts",
		"${from_domain}/${from_local}": "acme.example/invoice",
		"${to_local}":                  "jane+shop+x",
		"${to_detail}":                 "shop+x",
		"A/${year}-${month}/${day}":    "A/2026-11/21",
		"x${account}y${account}z":      "xispyispz",
		"US$$":                         "US$",
		"$${account}":                  "${account}",
		"$$$$":                         "$$",
		"Gr\u0075\u0308n":              "Grün",
		"inbox":                        "INBOX",
	}
	for folder, want := range tests {
		if got := expand(t, templateMail, folder); got != want {
			t.Errorf("%q = %q, want %q", folder, got, want)
		}
	}
}

func TestTemplate_missing(t *testing.T) {
	for _, name := range Fields() {
		want := "_"
		if name == "account" {
			want = "isp"
		}
		if got := expand(t, "", "A/${"+name+"}"); got != "A/"+want {
			t.Errorf("${%s} without a value = %q", name, got)
		}
	}
	if got := expand(t, "To: jane@isp.example\r\n", "${to_detail}"); got != "_" {
		t.Errorf("${to_detail} without a + = %q", got)
	}
}

func TestTemplate_captures(t *testing.T) {
	ticket := where("subject", Regex, `\[ticket (\d+)\] (\w+)`)
	from := where("from", Regex, `(?i)@(\w+)\.`)
	plain := where("subject", Regex, `Order`)
	tests := []struct {
		folder string
		conds  []Cond
		want   string
	}{
		{"T/${1}/${2}", []Cond{ticket}, "T/4711/Order"},
		{"${1}", []Cond{ticket, from}, "Acme"},
		{"${1}-${2}", []Cond{from, ticket}, "4711-Order"},
		{"${1}-${2}", []Cond{ticket, from}, "Acme-_"},
		{"${1}", []Cond{ticket, plain}, "4711"},
		{"${1}", []Cond{{Any: []Cond{from, ticket}}}, "Acme"},
		{"${1}", []Cond{{Any: []Cond{{All: []Cond{ticket, where("to", Is, "x")}}, where("to", Glob, "*")}}}, "_"},
		{"${2}", []Cond{ticket, {Not: &Cond{Not: &from}}}, "Order"},
		{"${1}", []Cond{where("subject", Regex, `(x)?Order`)}, "_"},
		{"${1}", []Cond{where("subject", Regex, `\[(.*)\]`)}, "ticket 4711"},
	}
	for _, tt := range tests {
		if got := expand(t, templateMail, tt.folder, tt.conds...); got != tt.want {
			t.Errorf("%q = %q, want %q", tt.folder, got, tt.want)
		}
	}
	set := mustCompile(t,
		Rule{Name: "a", If: &ticket, Then: Then{Folders: []string{"${1}"}}, Continue: true},
		Rule{Name: "b", If: &Cond{Any: []Cond{where("to", Glob, "*"), ticket}}, Then: Then{Folders: []string{"B${1}"}}},
	)
	if got := set.Decide(message(templateMail)).Deliver[1].Dest.Folder; got != "B_" {
		t.Errorf("a rule got the captures of the one before: %q", got)
	}
}

func TestTemplate_date(t *testing.T) {
	tests := map[string]struct{ mail, want string }{
		"date in its own zone":    {"Date: 31 Dec 2025 23:59:00 -1100\r\nReceived: x; 1 Jan 2026 11:00:00 +0000\r\n", "2025-12-31"},
		"no date":                 {"Received: x; 1 Jan 2026 11:00:00 +0000\r\n", "2026-01-01"},
		"date is garbage":         {"Date: 31 Feb 2025\r\nReceived: x; 1 Jan 2026 11:00:00 +0000\r\n", "2026-01-01"},
		"no received":             {"Date: 31 Dec 2025 23:59:00 +0000\r\n", "2025-12-31"},
		"old mail, forwarded now": {"Date: 31 Dec 1999 23:59:00 +0000\r\nReceived: x; 1 Jan 2026 11:00:00 +0000\r\n", "1999-12-31"},
		"before 1970":             {"Date: 1 Jan 1969 00:00:00 +0000\r\nReceived: x; 1 Jan 2026 11:00:00 +0000\r\n", "2026-01-01"},
		"year 0, nothing else":    {"Date: 1 Jan 0000 00:00:00 +0000\r\n", "_-_-_"},
		"received in 1969":        {"Date: soon\r\nReceived: x; 1 Jan 1969 11:00:00 +0000\r\n", "_-_-_"},
		"from the future":         {"Date: 1 Jan 2038 00:00:00 +0000\r\nReceived: x; 1 Jan 2026 11:00:00 +0000\r\n", "2026-01-01"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := expand(t, tt.mail, "${year}-${month}-${day}"); got != tt.want {
				t.Errorf("= %q, want %q", got, tt.want)
			}
		})
	}
}

// TestTemplate_cleaned has values that would choose a folder for themselves.
func TestTemplate_cleaned(t *testing.T) {
	tests := map[string]string{
		"a/b":                           "a_b",
		"../x":                          "_x",
		"..":                            "_",
		"...":                           "_",
		"a..b":                          "a.b",
		"/abs":                          "_abs",
		"a//b":                          "a__b",
		`a\b`:                           "a_b",
		"~root":                         "root",
		"~.~x":                          "x",
		". .x":                          "x",
		".hidden":                       "hidden",
		"a.b.c":                         "a.b.c",
		"%*":                            "__",
		"&":                             "&",
		"inbox":                         "INBOX",
		" trailing ":                    "trailing",
		"a  b":                          "a b",
		"\u00a0nbsp\u00a0\u3000x":       "nbsp x",
		"\x00NUL\x1b[2J":                "NUL[2J",
		"bidi\u202egpj.exe":             "bidigpj.exe",
		"\u2066x\u2069":                 "x",
		"zero\u200bwidth\ufeff":         "zerowidth",
		"line\u2028sep":                 "line sep",
		"\u200d":                        "_",
		"نمی\u200cخواهم":                "نمی\u200cخواهم",
		"e\u0301":                       "é",
		"\xff":                          "ÿ",
		"$$":                            "$$",
		"${account}":                    "${account}",
		"_":                             "_",
		"":                              "_",
		strings.Repeat("x", 500):        strings.Repeat("x", 120),
		strings.Repeat("ä", 100):        strings.Repeat("ä", 60),
		"a" + strings.Repeat("€", 50):   "a" + strings.Repeat("€", 39),
		strings.Repeat("x", 119) + " y": strings.Repeat("x", 119),
	}
	whole := where("subject", Regex, `(?s)(.*)`)
	for value, want := range tests {
		got := expand(t, "Subject: "+value+"\r\n", "${1}", whole)
		if got != want {
			t.Errorf("value %.40q gives %q, want %q", value, got, want)
		}
	}
}

func TestTemplate_cleanedTogether(t *testing.T) {
	whole := where("subject", Regex, `(?s)(.*)`)
	tests := []struct{ folder, subject, want string }{
		{"${1}${1}", ".", "__"},
		{".${1}", "./x", "._x"},
		{"e${1}", "\u0301x", "éx"},
		{"${1}/${1}", "a/b", "a_b/a_b"},
		{"a-${1}", strings.Repeat("x", 200), "a-" + strings.Repeat("x", 118)},
		{"${1}/x", "inbox", "inbox/x"},
	}
	for _, tt := range tests {
		if got := expand(t, "Subject: "+tt.subject+"\r\n", tt.folder, whole); got != tt.want {
			t.Errorf("%q with %.20q = %q, want %q", tt.folder, tt.subject, got, tt.want)
		}
	}
}

func TestTemplate_errors(t *testing.T) {
	tests := map[string]string{
		"":                       "a level is empty",
		"/A":                     "a level is empty",
		"A/":                     "a level is empty",
		"A//B":                   "a level is empty",
		"a/b/c/d/e/f":            "has 6 levels; 5 are allowed",
		".":                      `"." is no name`,
		"A/..":                   `".." is no name`,
		"A/ B":                   "begins or ends with a blank",
		"A\x1b":                  "invisible characters",
		"A\u202eB":               "invisible characters",
		"A\r\nB":                 "invisible characters",
		"\xff":                   "not UTF-8",
		`A\B`:                    `separated by "/"`,
		"A*":                     "wildcards",
		strings.Repeat("x", 121): "longer than 120 octets",
		"$":                      `write "$$" for a dollar`,
		"a$b":                    `write "$$" for a dollar`,
		"${":                     `has no "}"`,
		"${account":              `has no "}"`,
		"${acc/ount}":            `has no "}"`,
		"${}":                    `no field ""`,
		"${lst_id}":              `no field "lst_id"; there are account, day, from_domain`,
		"${list_id.Foo}":         "no field",
		"${0}":                   "no regex of this rule has a group 0",
		"${1}":                   "no regex of this rule has a group 1",
		"${-1}":                  "no regex of this rule has a group -1",
	}
	for folder, want := range tests {
		if _, err := parseTemplate(folder, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: err = %v, want %q", folder, err, want)
		}
	}
	if _, err := parseTemplate("${2}", 1); err == nil {
		t.Error("${2} of one group is accepted")
	}
	// What must not match captures nothing.
	cond := Cond{Not: new(where("subject", Regex, "(x)"))}
	if _, err := Compile([]Rule{{Name: "r", If: &cond, Then: Then{Folders: []string{"${1}"}}}}); err == nil {
		t.Error("${1} of a regex under not is accepted")
	}
}

func TestFields(t *testing.T) {
	want := []string{"account", "day", "from_domain", "from_local", "list_id", "list_name", "month", "to_detail", "to_local", "year"}
	if got := Fields(); !cmp.Equal(got, want) {
		t.Errorf("Fields = %q", got)
	}
}

// checkFolder holds a folder name made from mail to what the targets rely on.
func checkFolder(t interface{ Errorf(string, ...any) }, folder string, levels int) {
	parts := strings.Split(folder, "/")
	if len(parts) != levels {
		t.Errorf("%q has %d levels, want %d", folder, len(parts), levels)
	}
	for _, p := range parts {
		if p == "" || len(p) > maxLevel || strings.ContainsAny(p, "\\*%\r\n\x00") || strings.TrimSpace(p) != p ||
			strings.Contains(p, "..") || strings.ContainsRune("~.", rune(p[0])) ||
			!utf8.ValidString(p) || !norm.NFC.IsNormalString(p) || strings.ContainsFunc(p, isInvisible) {
			t.Errorf("level %q of %q", p, folder)
		}
	}
}

func TestTemplate_anyValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &view{captures: []string{"", rapid.String().Draw(t, "1"), string(rapid.SliceOf(rapid.Byte()).Draw(t, "2"))}}
		tpl, err := parseTemplate("${1}/${2}/x${1}", 2)
		if err != nil {
			t.Fatal(err)
		}
		checkFolder(t, tpl.expand(v), 3)
	})
}

func FuzzTemplate(f *testing.F) {
	for _, folder := range []string{"Lists/${list_id}", "${1}/${2}$$", "A/${year}-${month}", "${from_domain}${1}", "..", "${"} {
		f.Add(folder, "../x", "From: a@b/c\r\nList-Id: <x/../y>\r\n\r\n")
	}
	f.Fuzz(func(t *testing.T, folder, value, mail string) {
		tpl, err := parseTemplate(folder, 1)
		if err != nil {
			if strings.ContainsFunc(err.Error(), isInvisible) || !utf8.ValidString(err.Error()) {
				t.Errorf("unprintable error %q", err)
			}
			return
		}
		got := tpl.expand(&view{m: message(mail), captures: []string{"", value}})
		if tpl.literal != "" {
			return // the author's own words
		}
		levels := strings.Split(got, "/")
		if len(levels) != len(strings.Split(folder, "/")) {
			t.Errorf("%q became %q", folder, got)
		}
		for _, level := range levels {
			if level == "" || level == "." || level == ".." || len(level) > maxLevel || !utf8.ValidString(level) || strings.ContainsFunc(level, isInvisible) {
				t.Errorf("%q became %q", folder, got)
			}
		}
	})
}
