package convert_test

import (
	"encoding/xml"
	"strings"
	"testing"

	"popferry/rules/convert"
)

// gmailFeed is a file as Gmail exports it; each filter is names and values.
func gmailFeed(filters ...[]string) string {
	var b strings.Builder
	b.WriteString("<?xml version='1.0' encoding='UTF-8'?>\n" +
		"<feed xmlns='http://www.w3.org/2005/Atom' xmlns:apps='http://schemas.google.com/apps/2006'>\n" +
		"\t<title>Mail Filters</title>\n\t<author>\n\t\t<name>Jane</name>\n\t</author>\n")
	for _, f := range filters {
		b.WriteString("\t<entry>\n\t\t<category term='filter'></category>\n\t\t<title>Mail Filter</title>\n\t\t<content></content>\n")
		for i := 0; i+1 < len(f); i += 2 {
			b.WriteString("\t\t<apps:property name='")
			_ = xml.EscapeText(&b, []byte(f[i]))
			b.WriteString("' value='")
			_ = xml.EscapeText(&b, []byte(f[i+1]))
			b.WriteString("'/>\n")
		}
		b.WriteString("\t</entry>\n")
	}
	return b.String() + "</feed>\n"
}

// Filters apply all; labels are folders; what is not archived is in the inbox.
func TestGmail_meaning(t *testing.T) {
	messages := map[string]string{"plain": plain, "invoice": invoice, "spam": spam, "list": list, "large": large}
	size := []string{"sizeOperator", "s_sl", "sizeUnit", "s_smb"} // is in every export
	for _, tc := range []struct {
		name    string
		filters [][]string
		want    map[string]string
	}{
		{
			"label",
			[][]string{append([]string{"from", "invoice@acme.example", "label", "Finance/Invoices"}, size...)},
			map[string]string{"invoice": "Finance/Invoices, INBOX"},
		},
		{
			"label and archive",
			[][]string{{"subject", "generics", "label", "Go", "shouldArchive", "true", "shouldMarkAsRead", "true"}},
			map[string]string{"list": "Go seen"},
		},
		{"two filters", [][]string{
			{"from", "acme.example", "label", "Acme"},
			{"subject", "Rechnung", "label", "Invoices", "shouldArchive", "true", "shouldStar", "true"},
			{"from", "rita", "label", "Family"},
		}, map[string]string{"invoice": "Acme flagged, Invoices flagged", "plain": "Family, INBOX"}},
		{"flag alone", [][]string{{"from", "*@family.example", "shouldStar", "true"}}, map[string]string{"plain": "INBOX flagged"}},
		{"flag beside an archive", [][]string{
			{"from", "Rita OR Acme", "shouldStar", "true"},
			{"subject", "4711", "label", "Invoices", "shouldArchive", "true"},
		}, map[string]string{"plain": "INBOX flagged", "invoice": "Invoices flagged"}},
		{
			"any of braces",
			[][]string{{"from", "{rita@family.example gopher@go.example}", "label", "Friends", "shouldArchive", "true"}},
			map[string]string{"plain": "Friends", "list": "Friends"},
		},
		{"phrase and words", [][]string{
			{"subject", `"won a"`, "label", "Phrase", "shouldArchive", "true"},
			{"subject", "generics go", "label", "Words", "shouldArchive", "true"},
			{"subject", "generic", "label", "Never", "shouldArchive", "true"},
		}, map[string]string{"spam": "Phrase", "list": "Words"}},
		{
			"size",
			[][]string{{"size", "2", "sizeOperator", "s_sl", "sizeUnit", "s_skb", "label", "Large", "shouldArchive", "true"}},
			map[string]string{"large": "Large"},
		},
		{
			"word anywhere",
			[][]string{{"hasTheWord", "hello from:rita", "label", "x", "shouldArchive", "true"}, {"hasTheWord", `"world peace"`, "label", "Never"}},
			map[string]string{"plain": "x"},
		},
		{
			"attachment",
			[][]string{{"hasAttachment", "true", "label", "Never"}, {"hasTheWord", "-has:attachment from:rita", "label", "x", "shouldArchive", "true"}},
			map[string]string{"plain": "x"},
		},
		{
			"list operator",
			[][]string{{"hasTheWord", "list:(<golang-nuts.googlegroups.com>)", "label", "Go", "shouldArchive", "true"}},
			map[string]string{"list": "Go"},
		},
		{
			"operators",
			[][]string{{"hasTheWord", "(from:rita OR subject:(files)) -cc:bob larger:50", "label", "x", "shouldArchive", "true"}},
			map[string]string{"plain": "x", "large": "x"},
		},
		{
			"without",
			[][]string{{"from", "example", "doesNotHaveTheWord", "{from:rita from:acme list:golang-nuts@googlegroups.com}", "label", "x", "shouldArchive", "true"}},
			map[string]string{"spam": "x", "large": "x"},
		},
		{"archive and trash", [][]string{
			{"from", "acme", "shouldArchive", "true"}, {"from", "spam.example", "shouldTrash", "true"},
		}, map[string]string{"invoice": "Archive", "spam": "Trash"}},
		{"never spam", [][]string{{"from", "rita", "shouldNeverSpam", "true"}}, nil},
	} {
		r, err := convert.Gmail([]byte(gmailFeed(tc.filters...)), convert.Options{})
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

// What is not sure is left out, and said with its line.
func TestGmail_notes(t *testing.T) {
	for value, want := range map[string]string{
		"a b OR c":           "a search with OR and words beside it, without parentheses",
		"inv*ice":            `search for "inv*ice", which has a wildcard`,
		"is:unread":          `search for "is:unread" is not known here`,
		"{a b":               "a search with a bracket that is not closed",
		"a)":                 `search "a)" has a bracket that closes nothing`,
		`"a`:                 "a search with a quote that is not closed",
		"a OR":               "a search with nothing in it",
		"OR a":               "a search with an OR between nothing",
		"-":                  "a search with a - before nothing",
		"from:":              `operator "from:" without a value`,
		"!!":                 `search for "!!", which has no word in it`,
		"list:go":            `search for the list "go"`,
		"larger:much":        `search for "larger:much" is not known here`,
		"()":                 "a search with nothing in it",
		"from:(subject:x)":   `an operator in a search for addresses: "subject:x"`,
		"from:a@b@c.example": `search for the address "a@b@c.example"`,
	} {
		r, err := convert.Gmail([]byte(gmailFeed([]string{"subject", value, "label", "x"})), convert.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Notes) != 1 || r.Notes[0].Text != want+"; this filter is left out" || r.Notes[0].Line != 11 || !r.Lost() || r.Rules() != 0 {
			t.Errorf("%s: %v, %d rules", value, r.Notes, r.Rules())
		}
	}
}

func TestGmail_properties(t *testing.T) {
	r, err := convert.Gmail([]byte(gmailFeed(
		[]string{"from", "a@b.example", "shouldAlwaysMarkAsImportant", "true", "label", "x"},
		[]string{"from", "c@b.example", "forwardTo", "jane@isp.example"},
		[]string{"label", "all"},
		[]string{"from", "d@b.example", "label", "a//b"},
		[]string{"from", "e@b.example", "size", "x", "sizeOperator", "s_sl", "sizeUnit", "s_smb", "label", "x"},
		[]string{"doesNotHaveTheWord", "subject:a subject:b", "label", "x"},
	)), convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range r.Notes {
		got = append(got, n.Text)
	}
	want := []string{
		"shouldAlwaysMarkAsImportant has no meaning here; it is left out",
		"forwarding to jane@isp.example needs a target of type smtp or lmtp; it is left out",
		"a filter without criteria is left out",
		`label "a//b": folder "a//b": a level is empty; it is left out`,
		`size "x" with operator "s_sl" and unit "s_smb"; this filter is left out`,
		`doesNotHaveTheWord "subject:a subject:b": is it all of the words or any; this filter is left out`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("notes:\n%s", strings.Join(got, "\n"))
	}
}

func TestGmail_errors(t *testing.T) {
	for feed, want := range map[string]string{
		"<feed>":                         "line 1, column 1: not XML: unexpected EOF",
		"<html></html>":                  "not a list of filters that Gmail exported: it has no Atom feed",
		"hello":                          "not a list of filters that Gmail exported: it has no Atom feed",
		"\n<feed>\n<a\x01b/></feed>":     "line 3, column 1: not XML: expected attribute name in element",
		strings.Repeat("<feed>", 100):    "line 1, column 193: nested too deeply",
		strings.Repeat("x", 1<<20+1):     "larger than 1 MiB, so it cannot be a list of filters",
		"<feed>&lol;</feed>":             "line 1, column 1: not XML: invalid character entity &lol;",
		"<!DOCTYPE x [<!ENTITY l 'l'>]>": "not a list of filters that Gmail exported: it has no Atom feed",
	} {
		if _, err := convert.Gmail([]byte(feed), convert.Options{}); err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", feed, err, want)
		}
	}
}
