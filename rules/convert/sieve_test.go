package convert_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/rules/convert"
)

// What cannot be carried over is named with its line, and what remains does not
// depend on it.
func TestSieve_notes(t *testing.T) {
	for _, tc := range []struct {
		script string
		note   string // with its line; "" for none
		lost   bool
		rules  int
	}{
		{"\nif virustest :value \"ge\" \"4\" { discard; } elsif true { keep; }", "2: test \"virustest\" is not known here; this if is left out, and the elsif and else that go with it", true, 0},
		{"if anyof (true,\n not envelope \"auth\" \"x\") { discard; }", "2: envelope part \"auth\" is not known here; this if is left out", true, 0},
		{"if exists \"a\" {\nvacation :days 7 \"gone\"; fileinto \"x\"; }", "2: vacation sends mail, which popferry does not; left out", true, 1},
		{"redirect \"a@b.example\";", "1: redirect to a@b.example needs a target of type smtp or lmtp; left out", true, 0},
		{"set \"a\" \"b\";", "1: \"set\" is not known here; left out", true, 0},
		{"require \"variables\"; if exists \"a\" { fileinto \"x/${1}\"; }", "1: fileinto with a variable in \"x/${1}\"; left out", true, 1},
		{"if header :count \"gt\" \"x\" \"1\" { keep; }", "1: header with :count; this if is left out", true, 0},
		{"if header :comparator \"i;ascii-numeric\" \"x\" \"1\" { keep; }", "1: comparator \"i;ascii-numeric\" is not known here; this if is left out", true, 0},
		{"if header :regex \"x\" \"\\\\<a\" { keep; }", "1: the expression \"\\\\<a\" has an escape that programs read in different ways; this if is left out", true, 0},
		{"if header :regex \"x\" \"(a\" { keep; }", "1: the expression \"(a\" has no meaning in RE2; this if is left out", true, 0},
		{"if header :regex \"x\" \"[[.a.]]\" { keep; }", "1: the expression \"[[.a.]]\" has a collating element; this if is left out", true, 0},
		{"if address :regex :domain \"from\" \"x\" { keep; }", "1: the expression \"x\" cannot be used for a part of an address; this if is left out", true, 0},
		{"if address :domain \"from\" \"a@b\" { keep; }", "1: domain \"a@b\" has an @; this if is left out", true, 0},
		{"if address \"resent-to\" \"a@b\" { keep; }", "1: addresses of the header field \"resent-to\" cannot be looked at; this if is left out", true, 0},
		{"if header \"a b\" \"c\" { keep; }", "1: \"a b\" cannot be the name of a header field; this if is left out", true, 0},
		{"if body :raw :contains \"x\" { keep; }", "1: body with :raw; this if is left out", true, 0},
		{"fileinto \"a/b/c/d/e/f\";", "1: fileinto: folder \"a/b/c/d/e/f\" has 6 levels; 5 are allowed; left out", true, 0},
		{"fileinto :specialuse \"\\\\Junk\" \"Spam\";", "1: :specialuse is left out; Spam is the folder", true, 1},
		{"addflag \"\\\\Deleted\"; keep;", "1: flag \\Deleted is left out: no message can be delivered with it", true, 1},
		{"addflag \"v\" \"x\"; keep;", "1: addflag of a variable; left out", true, 1},
		{"else { keep; }", "1: else without an if before it; left out", true, 0},
		{"if true true { keep; }", "1: true with something behind it; this if is left out", true, 0},
		{"if size { keep; }", "1: size without a limit; this if is left out", true, 0},
		{"if { keep; }", "1: if without a test and a block; this if is left out", true, 0},
		{"if " + strings.Repeat("allof(exists \"a\", anyof(exists \"b\", ", 7) + "true" + strings.Repeat("))", 7) + " { fileinto \"x\"; }", "", false, 1},
		{"fileinto \"a.b\";", "1: the dot in folder a.b is taken for a part of its name; if it separates levels, convert with --separator .", false, 1},
		{"if envelope \"to\" \"a@b\" { discard; }", "1: the envelope's recipient is looked for in To, Cc, Bcc, Delivered-To and the like", false, 1},
	} {
		r, err := convert.Sieve([]byte(tc.script), convert.Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.script, err)
			continue
		}
		var got []string
		for _, n := range r.Notes {
			got = append(got, strings.TrimPrefix(strings.Join([]string{itoa(n.Line), n.Text}, ": "), ""))
		}
		if strings.Join(got, "\n") != tc.note || r.Lost() != tc.lost || r.Rules() != tc.rules {
			t.Errorf("%s\n got %q, lost %v, %d rules\nwant %q, lost %v, %d rules", tc.script, got, r.Lost(), r.Rules(), tc.note, tc.lost, tc.rules)
		}
		if tc.note != "" && !strings.Contains(string(r.YAML()), "  # line "+tc.note+"\n") {
			t.Errorf("%s: no remark in\n%s", tc.script, r.YAML())
		}
		compiled(t, string(r.YAML()))
	}
}

func itoa(n int) string { return string(rune('0' + n)) }

func TestSieve_errors(t *testing.T) {
	for script, want := range map[string]string{
		"if true { keep }":               `line 1, column 16: "}" stands where ";" or "{" should`,
		"if true {\n keep;":              `line 2, column 7: the end of the script stands where a command or "}" should`,
		"keep;\n é":                      `line 2, column 2: "é" cannot stand here`,
		"fileinto \"é\" \"":              "line 1, column 14: a string begins here and is not closed",
		"if anyof (true \"a\" {}":        `line 1, column 20: "{" stands where "," or ")" should`,
		"if anyof (\"a\") {}":            "line 1, column 11: a string stands where a test should",
		"if header [\"a\" 1] \"b\" {}":   `line 1, column 16: 1 stands where "," or "]" should`,
		"if header [:is] \"b\" {}":       "line 1, column 12: :is stands where a string should",
		"keep; }":                        `line 1, column 7: "}" stands where a command should`,
		"/* x":                           "line 1, column 1: a comment begins here and has no */",
		"keep :;":                        "line 1, column 6: a colon without the name of an option",
		"keep text: x\n.\n;":             "line 1, column 12: the text begins on the line below",
		"keep text:\nx\n":                "line 1, column 6: text: begins here and has no line with a dot",
		"if size :over 12345678901234G{": `line 1, column 15: "12345678901234" is no number`,
	} {
		if _, err := convert.Sieve([]byte(script), convert.Options{}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", script, err, want)
		}
	}
}

// The names that webmail programs give rules are kept; a target that sends mail
// takes what is redirected; levels are separated as asked for.
func TestSieve_output(t *testing.T) {
	const script = `require ["fileinto", "copy"];
# rule:[Newsletter & Co.]
if anyof (header :contains "from" "news", not header :contains ["to", "cc"] ["jane@isp.example", "j@isp.example"])
{
	redirect :copy "archive@isp.example";
	fileinto "INBOX.News";
}
# rule:[Mum]
elsif allof (address :is "from" "mum@family.example", size :over 100K)
{
	fileinto "yes.Family 'A'";
	fileinto "Second";
	stop;
}
# rule:[off]
if false { discard; }
keep;
`
	r, err := convert.Sieve([]byte(script), convert.Options{SMTP: "relay", Separator: "."})
	if err != nil {
		t.Fatal(err)
	}
	want := `# Converted from a Sieve script. Folder INBOX is the inbox: of a target with another
# folder: of its own, write that.
rules:
  - name: newsletter-co # line 5
    if: { any: [{ header: { from: { contains: news } } }, { not: { any: [{ header: { to: { contains: [jane@isp.example, j@isp.example] } } }, { header: { cc: { contains: [jane@isp.example, j@isp.example] } } }] } }] }
    then: { target: relay, to: archive@isp.example }
    continue: true
  - name: newsletter-co-2 # line 6
    if: { any: [{ header: { from: { contains: news } } }, { not: { any: [{ header: { to: { contains: [jane@isp.example, j@isp.example] } } }, { header: { cc: { contains: [jane@isp.example, j@isp.example] } } }] } }] }
    then: { folder: INBOX/News }
    continue: true
  - name: mum # line 11
    if: { from: { is: mum@family.example }, size: ">100K", not: { any: [{ header: { from: { contains: news } } }, { not: { any: [{ header: { to: { contains: [jane@isp.example, j@isp.example] } } }, { header: { cc: { contains: [jane@isp.example, j@isp.example] } } }] } }] } }
    then: { folder: ["yes/Family 'A'", Second] }
  - name: inbox # line 17
    then: { folder: INBOX }
`
	if diff := cmp.Diff(want, string(r.YAML())); diff != "" {
		t.Error(diff)
	}
}
