package convert_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"popferry/fetcher/config"
	"popferry/rules"
	"popferry/rules/convert"
)

// surroundings are what converted rules need to be a configuration.
const surroundings = `accounts: {isp: {host: pop.isp.example, user: jane, password: x}}
targets: {home: {host: imap.home.example, user: jane, password: x}}
jobs: [{from: isp, to: home}]
state: /nowhere/popferry.db
`

// compiled is what a configuration makes of the converted rules.
func compiled(t interface{ Fatalf(string, ...any) }, yaml string) *rules.Set {
	c, err := config.Parse("popferry.yaml", []byte(surroundings+yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	return c.Rules
}

// outcome is where a message goes: folders with their flags, "dropped" for
// nowhere. The target's own folder is INBOX.
func outcome(set *rules.Set, message string) string {
	_, body, _ := strings.Cut(message, "\r\n\r\n")
	m := &rules.Message{
		Account: "isp", Header: rules.ParseHeader([]byte(message)), Size: int64(len(message)),
		Body: func() []byte { return []byte(body) },
	}
	d := set.Decide(m)
	places := map[string][]string{}
	for _, del := range d.Deliver {
		folder := del.Dest.Folder
		if folder == "" {
			folder = "INBOX"
		}
		places[folder] = append(places[folder], del.Dest.Flags...)
	}
	if d.Action == rules.Skip {
		return "skipped"
	}
	return show(places)
}

// show writes folders with their flags in one order.
func show(places map[string][]string) string {
	if len(places) == 0 {
		return "dropped"
	}
	var parts []string
	for _, folder := range slices.Sorted(maps.Keys(places)) {
		text := folder
		flags := slices.Clone(places[folder])
		slices.Sort(flags)
		for _, f := range slices.Compact(flags) {
			text += " " + f
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// mail is a message with these header fields.
func mail(fields ...string) string {
	return strings.Join(append(fields, "", "hello", ""), "\r\n")
}

var (
	plain   = mail("From: Rita <rita@family.example>", "To: jane@isp.example", "Subject: Sunday?", "Reply-To: R <r@family.example>")
	invoice = mail("From: Acme <invoice@acme.example>", "To: jane+shop@isp.example", "Subject: =?utf-8?q?Rechnung_4711?=", "X-Spam-Flag: NO", "Return-Path: <bounce@acme.example>")
	spam    = mail("From: x@spam.example", "To: jane@isp.example", "Subject: You WON a *prize*", "X-Spam-Flag: YES", "X-Spam-Flag: maybe")
	list    = mail("From: gopher@go.example", "To: golang-nuts@googlegroups.com", "Cc: Bob <bob@isp.example>", "Subject: [go] generics", "List-Id: Go <golang-nuts.googlegroups.com>", "X-Empty:")
	large   = mail("From: a@files.example", "To: jane@isp.example", "Subject: files", "X-Fill: "+strings.Repeat("x", 3000))
)

// Each script does with each message what RFC 5228 says it does; the outcome was
// worked out by hand.
func TestSieve_meaning(t *testing.T) {
	messages := map[string]string{"plain": plain, "invoice": invoice, "spam": spam, "list": list, "large": large}
	for _, tc := range []struct {
		name, script string
		want         map[string]string // by message; INBOX where there is none
	}{
		{"nothing", ``, nil},
		{
			"chain", `require "fileinto";
			if header :contains "subject" "rechnung" { fileinto "Finance/Invoices"; }
			elsif exists "List-Id" { fileinto "Lists"; }
			elsif header :is "X-Spam-Flag" "yes" { discard; }`,
			map[string]string{"invoice": "Finance/Invoices", "list": "Lists", "spam": "dropped"},
		},
		{
			"else", `if header :matches "subject" "*?*unday*" { keep; } else { fileinto "Rest"; }`,
			map[string]string{"invoice": "Rest", "spam": "Rest", "list": "Rest", "large": "Rest"},
		},
		{
			"two ifs give two copies", `
			if header :is "X-Spam-Flag" "NO" { fileinto "Checked"; }
			if address :domain "from" "acme.example" { fileinto "Acme"; }
			if size :over 2K { fileinto "Large"; }`,
			map[string]string{"invoice": "Acme, Checked", "large": "Large"},
		},
		{
			"elsif that does not stop", `
			if address :is "from" "invoice@acme.example" { fileinto "A"; }
			elsif header :contains "to" "jane" { fileinto "B"; }
			if header :contains "subject" ["4711", "files"] { fileinto "C"; }`,
			map[string]string{"invoice": "A, C", "plain": "B", "spam": "B", "large": "B, C"},
		},
		{
			"stop", `
			if header :is "X-Spam-Flag" "NO" { fileinto "A"; stop; }
			if header :contains "to" "jane" { fileinto "B"; }`,
			map[string]string{"invoice": "A", "plain": "B", "spam": "B", "large": "B"},
		},
		{
			"stop that keeps", `if exists "List-Id" { stop; } fileinto "B";`,
			map[string]string{"plain": "B", "invoice": "B", "spam": "B", "large": "B"},
		},
		{
			"stop after a copy somewhere above", `
			if header :contains "to" "jane" { fileinto "A"; }
			if size :over 1K { stop; }
			if not exists "X-Spam-Flag" { fileinto "C"; }`,
			map[string]string{"plain": "A, C", "invoice": "A", "spam": "A", "list": "C", "large": "A"},
		},
		{
			"copy keeps", `require ["copy", "fileinto"];
			if exists "X-Spam-Flag" { fileinto :copy "Archive"; }
			if header :is "X-Spam-Flag" "YES" { fileinto "Spam"; }`,
			map[string]string{"invoice": "Archive, INBOX", "spam": "Archive, Spam"},
		},
		{
			"discard cancels the implicit keep only", `
			if exists "X-Spam-Flag" { discard; }
			if header :contains "subject" "rechnung" { fileinto "Invoices"; }`,
			map[string]string{"invoice": "Invoices", "spam": "dropped"},
		},
		{"discard and keep", `if exists "List-Id" { discard; keep; }`, nil},
		{
			"nested", `
			if header :contains "to" "jane" {
				if exists "X-Spam-Flag" { if not header :is "x-spam-flag" "no" { discard; stop; } }
				fileinto "Jane";
			} else { fileinto "Others"; }`,
			map[string]string{"plain": "Jane", "invoice": "Jane", "spam": "dropped", "list": "Others", "large": "Jane"},
		},
		{
			"flags", `require "imap4flags";
			if exists "List-Id" { addflag "\\Seen"; }
			if header :contains "subject" "generics" { addflag ["\\Flagged", "$Go"]; fileinto "Go"; removeflag "\\Seen"; keep; }
			elsif exists "X-Spam-Flag" { setflag "Junk"; fileinto :flags "\\Seen \\Answered" "Spam"; }`,
			map[string]string{"list": "Go $Go flagged seen, INBOX $Go flagged", "invoice": "Spam answered seen", "spam": "Spam answered seen"},
		},
		{
			"flags of what is kept", `if header :contains "from" "rita" { addflag "\\Flagged"; } if exists "List-Id" { addflag "\\Seen"; discard; }`,
			map[string]string{"plain": "INBOX flagged", "list": "dropped"},
		},
		{
			"wildcards and octets", `
			if header :matches "subject" "*\\**" { fileinto "Star"; }
			elsif header :comparator "i;octet" :contains "subject" "Rech" { fileinto "Upper"; }
			elsif header :comparator "i;octet" :contains "subject" "GEN" { fileinto "Never"; }`,
			map[string]string{"spam": "Star", "invoice": "Upper"},
		},
		{
			"regex", `require "regex";
			if header :regex "subject" "^rechnung [[:digit:]]{4}$" { fileinto "Number"; }
			elsif header :regex :comparator "i;octet" "subject" "[\]Y]ou" { fileinto "You"; }`,
			map[string]string{"invoice": "Number", "spam": "You"},
		},
		{
			"parts of addresses", `require "subaddress";
			if address :detail "to" "shop" { fileinto "Shop"; }
			elsif address :user :contains "to" "olang" { fileinto "Go"; }
			elsif address :localpart :matches ["from", "cc"] "r?ta" { fileinto "Rita"; }
			elsif address :domain :contains "from" "spam" { fileinto "Spam"; }`,
			map[string]string{"invoice": "Shop", "list": "Go", "plain": "Rita", "spam": "Spam"},
		},
		{
			"envelope and body", `require ["envelope", "body"];
			if envelope :is "to" "bob@isp.example" { fileinto "Bob"; }
			elsif envelope :domain "from" "acme.example" { fileinto "Acme"; }
			elsif envelope :all :contains "from" "" { fileinto "Never"; }
			elsif allof (body :contains "HELLO", address "reply-to" "r@family.example") { fileinto "Hello"; }
			elsif address :localpart :contains ["sender", "bcc"] ["x", "y"] { fileinto "Never"; }`,
			map[string]string{"list": "Bob", "invoice": "Acme", "plain": "Hello"},
		},
		{
			"exists and empty", `
			if exists ["X-Empty", "Cc"] { fileinto "Both"; }
			if header :is "X-Empty" "" { fileinto "Empty"; }
			if header :contains "Cc" "" { fileinto "Cc"; }
			if not exists ["From", "X-Spam-Flag"] { fileinto "Not both"; }`,
			map[string]string{"list": "Both, Cc, Empty, Not both", "plain": "Not both", "large": "Not both"},
		},
		{
			"anyof, allof, not, constants", `
			if anyof (allof (exists "Cc", false), not exists "From", header :is "subject" ["Sunday?", "files"]) { fileinto "A"; }
			elsif not anyof (exists "X-Spam-Flag", size :under 1) { fileinto "B"; }
			elsif true { keep; }
			else { discard; }`,
			map[string]string{"plain": "A", "large": "A", "list": "B"},
		},
		{
			"text and comments", "/* a\n comment */ if header :is \"subject\" text: # the text\r\nSunday?\r\n.\r\n{ fileinto \"T\"; } # end",
			nil,
		}, // the text has a line break at its end, a Subject has none
		{
			"quoted", `if header :is "subject" "Sun\day?" { fileinto "a \"b\" c"; }`,
			map[string]string{"plain": `a "b" c`},
		},
		{
			"dollars", `require "imap4flags"; if exists "Cc" { fileinto :flags "$$x" "US$ ${x}"; }`,
			map[string]string{"list": `US$ ${x} $$x`},
		},
		{
			"encoded", `require "encoded-character"; if header :contains "subject" "${hex: 53 75}nday${unicode:3f}" { fileinto "${nothing}"; }`,
			map[string]string{"plain": "${nothing}"},
		},
		{
			"separator", `if exists "Cc" { fileinto "INBOX.Lists.Go"; } else { fileinto "INBOX"; }`,
			map[string]string{"list": "INBOX/Lists/Go"},
		},
	} {
		r, err := convert.Sieve([]byte(tc.script), convert.Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if r.Lost() {
			t.Errorf("%s: %v", tc.name, r.Notes)
		}
		set := compiled(t, string(r.YAML()))
		for name, m := range messages {
			want := tc.want[name]
			if want == "" {
				want = "INBOX"
			}
			if got := outcome(set, m); got != want {
				t.Errorf("%s, %s: %s, want %s\n%s", tc.name, name, got, want, r.YAML())
			}
		}
	}
}

func ExampleSieve() {
	r, err := convert.Sieve([]byte(`require ["fileinto", "vnd.example"];
if header :contains "subject" "invoice" { fileinto "Invoices"; stop; }
if wonder "about" { discard; }
`), convert.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(r.YAML()))
	// Output:
	// # Converted from a Sieve script. Folder INBOX is the inbox: of a target with another
	// # folder: of its own, write that.
	// rules:
	//   - name: invoices # line 2
	//     if: { subject: { contains: invoice } }
	//     then: { folder: Invoices }
	//   # line 3: test "wonder" is not known here; this if is left out
}
