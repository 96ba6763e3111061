package rules

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeader_Addresses(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []Address
	}{
		"bare":                    {"jane@isp.example", []Address{{"", "jane", "isp.example"}}},
		"angle":                   {"<jane@isp.example>", []Address{{"", "jane", "isp.example"}}},
		"name":                    {"Jane Doe <jane@isp.example>", []Address{{"Jane Doe", "jane", "isp.example"}}},
		"quoted name":             {`"Doe, Jane \"JD\"" <jane@isp.example>`, []Address{{`Doe, Jane "JD"`, "jane", "isp.example"}}},
		"name without blank":      {"Jane<jane@isp.example>", []Address{{"Jane", "jane", "isp.example"}}},
		"comment as name":         {"jane@isp.example (Jane Doe)", []Address{{"Jane Doe", "jane", "isp.example"}}},
		"comment inside":          {"jane(work)@isp.example", []Address{{"work", "jane", "isp.example"}}},
		"nested comment":          {"(a (b) c) <jane@isp.example>", []Address{{"a (b) c", "jane", "isp.example"}}},
		"several":                 {"a@b, Jane <c@d>,e@f", []Address{{"", "a", "b"}, {"Jane", "c", "d"}, {"", "e", "f"}}},
		"semicolons":              {"a@b; c@d;", []Address{{"", "a", "b"}, {"", "c", "d"}}},
		"no comma":                {"<a@b> <c@d>", []Address{{"", "a", "b"}, {"", "c", "d"}}},
		"group":                   {"Friends: a@b, Jane <c@d>; e@f", []Address{{"", "a", "b"}, {"Jane", "c", "d"}, {"", "e", "f"}}},
		"empty group":             {"undisclosed-recipients:;", nil},
		"quoted local part":       {`"john doe"@isp.example`, []Address{{"", "john doe", "isp.example"}}},
		"quoted local, angle":     {`J <"john > doe"@isp.example>`, []Address{{"J", "john > doe", "isp.example"}}},
		"at in local part":        {`"a@b"@isp.example`, []Address{{"", "a@b", "isp.example"}}},
		"blanks around the at":    {"Jane jane @ isp.example", []Address{{"", "jane", "isp.example"}}},
		"domain literal":          {"jane@[IPv6:::1]", []Address{{"", "jane", "[IPv6:::1]"}}},
		"bracketed name":          {"[List] Jane <a@b>", []Address{{"[List] Jane", "a", "b"}}},
		"source route":            {"<@x,@y:jane@isp.example>", []Address{{"", "jane", "isp.example"}}},
		"broken neighbours":       {"Foo Bar, <a@b>, @@", []Address{{"", "a", "b"}}},
		"name with an at":         {"jane@old.example <jane@isp.example>", []Address{{"jane@old.example", "jane", "isp.example"}}},
		"unquoted comma":          {"Doe, Jane <a@b>", []Address{{"", "Doe", ""}, {"Jane", "a", "b"}}},
		"unquoted name, no angle": {"Jane Doe jane@isp.example", []Address{{"", "jane", "isp.example"}}},
		"no closing angle":        {"Jane <jane@isp.example", []Address{{"", "jane", "isp.example"}}},
		"no opening angle":        {"jane@isp.example>", []Address{{"", "jane", "isp.example"}}},
		"two opening angles":      {"Jane <<jane@isp.example>", []Address{{"Jane", "jane", "isp.example"}}},
		"no closing quote":        {`"Jane <jane@isp.example>`, []Address{{"Jane", "jane", "isp.example"}}},
		"no closing comment":      {"Jane (x <jane@isp.example>", []Address{{"Jane (x", "jane", "isp.example"}}},
		"mailto":                  {"<mailto:jane@isp.example>", []Address{{"", "jane", "isp.example"}}},
		"local user":              {"root", []Address{{"", "root", ""}}},
		"bounce":                  {"Mail Delivery System <MAILER-DAEMON>", []Address{{"Mail Delivery System", "MAILER-DAEMON", ""}}},
		"null path":               {"<>", nil},
		"nothing":                 {" , ;; ", nil},
		"phrase only":             {"Jane Doe", nil},
		"at only":                 {"@isp.example, jane@", []Address{{"", "jane", ""}}},
		"encoded name":            {"=?utf-8?q?J=C3=A4n?= <a@b>", []Address{{"Jän", "a", "b"}}},
		"encoded in quotes":       {`"=?utf-8?q?J=C3=A4n?=" <a@b>`, []Address{{"Jän", "a", "b"}}},
		"encoded word split":      {"=?utf-8?q?Doe,_Jane?= <a@b>", []Address{{"_Jane?=", "a", "b"}}},
		"raw 8-bit name":          {"J\xe4n <a@b>", []Address{{"Jän", "a", "b"}}},
		"raw UTF-8 address":       {"jän@bücher.example", []Address{{"", "jän", "bücher.example"}}},
		"folded":                  {"Jane\r\n Doe\r\n\t<jane@isp.example>,\r\n a@b", []Address{{"Jane Doe", "jane", "isp.example"}, {"", "a", "b"}}},
		"control characters":      {"\x1b[31mJane <ja\x00ne@b>", []Address{{"\x1b[31mJane", "ja\x00ne", "b"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ParseHeader([]byte("From: " + tt.in + "\r\n")).Addresses("From")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestHeader_Addresses_severalFields(t *testing.T) {
	h := ParseHeader([]byte("To: a@b\r\nX: y\r\nTo: c@d\r\n"))
	want := []Address{{"", "a", "b"}, {"", "c", "d"}}
	if diff := cmp.Diff(want, h.Addresses("to")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Half an address at the cap would be an address that nobody wrote.
func TestHeader_Addresses_capped(t *testing.T) {
	h := ParseHeader([]byte("To: " + strings.Repeat("jane@isp.example, ", 1000)))
	list := h.Addresses("To")
	if n := len(list); n < 200 || n > maxAddress/len("jane@isp.example, ") {
		t.Errorf("%d addresses in 4 KiB", n)
	}
	for _, a := range list {
		if a.Addr() != "jane@isp.example" {
			t.Fatalf("address %q", a.Addr())
		}
	}
	comments := ParseHeader([]byte("From: " + strings.Repeat("(", 1<<20) + " jane@isp.example"))
	if list := comments.Addresses("From"); list != nil {
		t.Errorf("addresses behind 1 MB of comments: %v", list)
	}
}

func TestHeader_ReturnPath(t *testing.T) {
	tests := map[string]string{
		"<jane@isp.example>":                    "jane@isp.example",
		" <jane@isp.example> \r\n":              "jane@isp.example",
		"<jane+x=y@isp.example>":                "jane+x=y@isp.example",
		`<"john doe"@isp.example>`:              `"john doe"@isp.example`,
		`<"a\"b"@isp.example>`:                  `"a\"b"@isp.example`,
		"<jane@[192.0.2.1]>":                    "jane@[192.0.2.1]",
		"<jane@[IPv6:2001:db8::1]>":             "jane@[IPv6:2001:db8::1]",
		"<jän@bücher.example>":                  "jän@bücher.example",
		"<>":                                    "",
		"":                                      "",
		"jane@isp.example":                      "",
		"<jane>":                                "",
		"<@isp.example>":                        "",
		"<jane@>":                               "",
		"<a> SIZE=1":                            "",
		"<a@b> SIZE=1":                          "",
		"<a@b SIZE=1>":                          "",
		"<a@b>\r\n RCPT TO:<c@d>":               "",
		"<a\rb@c>":                              "",
		"<a\x00b@c>":                            "",
		`<"a"b"@c>`:                             "",
		`<"a\"@c>`:                              "",
		"<\"a\x1bb\"@c>":                        "",
		"<a@b@c>":                               "",
		"<a..b@c>":                              "",
		"<a@c..d>":                              "",
		"<a@[192.0.2.1>":                        "",
		"<a@[x> y]>":                            "",
		"<@x:a@b>":                              "",
		"<\xff@b>":                              "",
		"<" + strings.Repeat("a", 5000) + "@b>": "",
	}
	for in, want := range tests {
		if got := ParseHeader([]byte("Return-Path: " + in)).ReturnPath(); got != want {
			t.Errorf("ReturnPath of %.60q = %q, want %q", in, got, want)
		}
	}
}
