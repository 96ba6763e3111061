package rules

import (
	"strings"
	"testing"
)

func TestHeader_MessageID(t *testing.T) {
	tests := map[string]string{
		"<a@b>":                              "<a@b>",
		"  <a@b> (comment)":                  "<a@b>",
		"\r\n <a@b>":                         "<a@b>",
		"<a@\r\n\tb>":                        "<a@b>",
		"<a b@c>":                            "<ab@c>",
		"<a@b> <c@d>":                        "<a@b>",
		"<ä@b>":                              "<ä@b>",
		"<no-at>":                            "<no-at>",
		"a@b":                                "",
		"<>":                                 "",
		"< >":                                "",
		"<a@b":                               "",
		"":                                   "",
		"<a\x00@b>":                          "",
		"<a\x1b@b>":                          "",
		"<\xff@b>":                           "",
		"<" + strings.Repeat("a", 999) + ">": "",
	}
	for in, want := range tests {
		h := ParseHeader([]byte("Message-Id: " + in + "\r\nMessage-ID: <second@x>\r\n"))
		if got := h.MessageID(); got != want {
			t.Errorf("MessageID of %.40q = %q, want %q", in, got, want)
		}
	}
	if got := ParseHeader([]byte("Subject: <a@b>\r\n")).MessageID(); got != "" {
		t.Errorf("MessageID without the field = %q", got)
	}
}

func TestHeader_ListID(t *testing.T) {
	tests := map[string][2]string{
		"<golang-nuts.googlegroups.com>":                            {"golang-nuts.googlegroups.com", "golang-nuts"},
		"Irish Linux Users' Group <ilug.linux.ie>":                  {"ilug.linux.ie", "ilug"},
		"\"e100/e1000\\(e\\)\r\n <fake>\"\r\n <e1000-devel.sf.net>": {"e1000-devel.sf.net", "e1000-devel"},
		"=?utf-8?q?L=C3=A4den?= <laden.isp.example>":                {"laden.isp.example", "laden"},
		"<procmail.lists.RWTH-Aachen.DE>":                           {"procmail.lists.rwth-aachen.de", "procmail"},
		"pray4-team.strategicnetwork.org":                           {"pray4-team.strategicnetwork.org", "pray4-team"},
		"testlist <testlist@listi.example.org>":                     {"testlist@listi.example.org", "testlist"},
		"<plain>":                                                   {"plain", "plain"},
		"< spaced.x >":                                              {"spaced.x", "spaced"},
		"<open.x":                                                   {"open.x", "open"},
		"<>":                                                        {"", ""},
		"":                                                          {"", ""},
		"only a sentence":                                           {"", ""},
	}
	for in, want := range tests {
		id, name := ParseHeader([]byte("List-ID: " + in + "\r\n")).ListID()
		if id != want[0] || name != want[1] {
			t.Errorf("ListID of %q = %q, %q, want %q", in, id, name, want)
		}
	}
}
