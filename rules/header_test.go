package rules

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fields lists all fields of a header as "name=value", values folded.
func fields(h *Header) []string {
	var all []string
	for i, f := range h.fields {
		all = append(all, string(h.raw[f.name:f.colon])+"="+string(h.value(i)))
	}
	return all
}

func TestParseHeader(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"empty":                    {"", nil},
		"body only":                {"\r\nSubject: x\r\n", nil},
		"header only":              {"A: 1\r\nB: 2", []string{"A= 1", "B= 2"}},
		"ends at the empty line":   {"A: 1\r\n\r\nB: 2\r\n", []string{"A= 1"}},
		"bare LF":                  {"A: 1\nB: 2\n\nC: 3\n", []string{"A= 1", "B= 2"}},
		"CRCRLF":                   {"A: 1\r\r\nB: 2\r\r\n\r\r\nC: 3", []string{"A= 1", "B= 2"}},
		"bare CR is data":          {"A: 1\rB: 2\r\n", []string{"A= 1\rB: 2"}},
		"NUL is data":              {"A: 1\x002\r\n", []string{"A= 1\x002"}},
		"8-bit is data":            {"A: \xe4\xff\r\n", []string{"A= \xe4\xff"}},
		"folded":                   {"A: 1\r\n 2\r\n\t3\r\nB: 4\r\n", []string{"A= 1\r\n 2\r\n\t3", "B= 4"}},
		"fold of blanks only":      {"A: 1\r\n \r\nB: 2\r\n", []string{"A= 1\r\n ", "B= 2"}},
		"folded first line":        {" x: 0\r\nA: 1\r\n", []string{"A= 1"}},
		"BOM":                      {"\xef\xbb\xbfA: 1\r\n", []string{"A= 1"}},
		"mbox From":                {"From jane@isp.example Mon Nov 21 23:55:02 2026\r\nA: 1\r\n", []string{"A= 1"}},
		"mbox >From":               {">From jane Mon Nov 21 23:55:02 2026\nA: 1\n", []string{"A= 1"}},
		"BOM, then mbox From":      {"\xef\xbb\xbfFrom j Mon Nov 21 23:55:02 2026\nA: 1\n", []string{"A= 1"}},
		"From field":               {"From: a\r\nFrom : b\r\n", []string{"From= a", "From= b"}},
		"no colon":                 {"A: 1\r\nnothing\r\nB: 2\r\n", []string{"A= 1", "B= 2"}},
		"fold after a bad line":    {"A: 1\r\nnothing\r\n more\r\nB: 2\r\n", []string{"A= 1", "B= 2"}},
		"no name":                  {": 1\r\n : 2\r\nB: 2\r\n", []string{"B= 2"}},
		"blank in the name":        {"Hello there: 1\r\nB: 2\r\n", []string{"B= 2"}},
		"8-bit name":               {"S\xc3\xbcbject: 1\r\nB: 2\r\n", []string{"B= 2"}},
		"empty value":              {"A:\r\nB: \r\n", []string{"A=", "B= "}},
		"colons in the value":      {"A: b: c\r\n", []string{"A= b: c"}},
		"tab before the colon":     {"A\t: 1\r\n", []string{"A= 1"}},
		"order and doubles remain": {"B: 1\r\na: 2\r\nb: 3\r\n", []string{"B= 1", "a= 2", "b= 3"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, fields(ParseHeader([]byte(tt.in)))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestHeader_lookup(t *testing.T) {
	h := ParseHeader([]byte("Received: one\r\nX-Empty:\r\nsubject:  two \r\nRECEIVED: three\r\n"))
	if got := h.Values("received"); !cmp.Equal(got, [][]byte{[]byte(" one"), []byte(" three")}) {
		t.Errorf("Values = %q", got)
	}
	if got := h.Raw("Received"); string(got) != " one" {
		t.Errorf("Raw = %q, want the first", got)
	}
	if got := h.Raw("X-Empty"); got == nil || len(got) != 0 {
		t.Errorf("Raw of an empty field = %#v, want empty and not nil", got)
	}
	if got := h.Raw("Receive"); got != nil {
		t.Errorf("Raw of a prefix of a name = %q", got)
	}
	if got := h.Raw(""); got != nil {
		t.Errorf(`Raw("") = %q`, got)
	}
	if got := h.Text("Subject"); got != "two" {
		t.Errorf("Text = %q", got)
	}
	values := h.Values("Received")
	_ = append(values[0], "overwritten"...)
	if got := h.Text("X-Empty"); got != "" {
		t.Errorf("appending to a value changed the header: %q", got)
	}
}

func TestHeader_nil(t *testing.T) {
	var h *Header
	id, name := h.ListID()
	if h.Raw("A") != nil || h.Values("A") != nil || h.Text("A") != "" || h.Addresses("From") != nil ||
		h.MessageID() != "" || id != "" || name != "" || h.ReturnPath() != "" || !h.Date().IsZero() || !h.Received().IsZero() {
		t.Error("a nil header is not empty")
	}
}

func TestParseHeader_caps(t *testing.T) {
	many := ParseHeader([]byte(strings.Repeat("A: 1\r\n", 50_000)))
	if got := len(many.fields); got != maxFields {
		t.Errorf("%d fields of 50,000, want %d", got, maxFields)
	}
	long := ParseHeader([]byte("A: " + strings.Repeat("x", 300<<10) + "\r\nB: 2\r\n"))
	if got := len(long.Raw("A")); got != maxHeader-len("A:") {
		t.Errorf("%d octets of a long field", got)
	}
	if long.Raw("B") != nil {
		t.Error("a field beyond 256 KiB was seen")
	}
	if got := len(long.Text("A")); got > maxText {
		t.Errorf("text of %d octets", got)
	}
}

// TestHeader_hostile has headers that cost quadratic time where a parser looks
// again at what it has seen. Each takes a millisecond or two; the bound leaves
// room for a slow machine under the race detector.
func TestHeader_hostile(t *testing.T) {
	parts := []string{
		"=?", "=?utf-8?q?", "=?utf-8?q?=?=", "=?a?b?x", "=?a?q??= ", "=?x?b?====?=", "=??", "?=", "=?utf-8?x?a?=",
		"(", ")", "(a", `"`, `\"`, "<", ">", "@", "a@b,", "<a@b>,", ":", ";", "[", "]", ",", " @ ", `"(<[`, "\\", "a b ",
		"..", "\xff", "\xcc\x80", "1 ", "+1 ", "Mon, ", ":1", "-", "1:1:1 ",
	}
	for _, part := range parts {
		value := strings.Repeat(part, (1<<20)/len(part))
		var b bytes.Buffer
		for _, name := range []string{"Date", "Received", "From", "Subject", "List-Id", "Message-ID", "Return-Path"} {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value[:30<<10])
		}
		b.WriteString("To: " + value)
		start := time.Now()
		useAll(ParseHeader(b.Bytes()))
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("1 MB of %q took %v", part, took)
		}
	}
}

// useAll asks a header everything.
func useAll(h *Header) {
	for i := range h.fields {
		name := string(h.raw[h.fields[i].name:h.fields[i].colon])
		h.Values(name)
		if i < 40 {
			h.Text(name)
		}
	}
	for _, name := range []string{"From", "To", "Cc"} {
		h.Addresses(name)
	}
	h.Date()
	h.Received()
	h.MessageID()
	h.ListID()
	h.ReturnPath()
}

func TestHeader_Text(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"plain":                  {" Sunday? ", "Sunday?"},
		"folded with a blank":    {"a\r\n b", "a b"},
		"folded with a tab":      {"a\r\n\tb", "a b"},
		"folded, blanks around":  {"a  \r\n \t b", "a b"},
		"folded by bare LF":      {"a\n b", "a b"},
		"control characters":     {"a\x1b]0;x\x07b\x00", "a\x1b]0;x\x07b\x00"},
		"Q":                      {"=?utf-8?Q?Caf=C3=A9_=3F?=", "Café ?"},
		"B":                      {"=?UTF-8?B?Q2Fmw6k=?=", "Café"},
		"B unpadded":             {"=?UTF-8?B?Q2Fmw6k?=", "Café"},
		"B padded too much":      {"=?UTF-8?B?Q2Fmw6k==?=", "Café"},
		"B broken":               {"=?UTF-8?B?Q2!?= x", "=?UTF-8?B?Q2!?= x"},
		"latin-1":                {"=?iso-8859-1?q?Gr=FC=DFe?=", "Grüße"},
		"windows-1252":           {"=?Windows-1252?Q?=80_5?=", "€ 5"},
		"koi8-r":                 {"=?koi8-r?B?8NLJ18XU?=", "Привет"},
		"shift_jis":              {"=?shift_jis?B?k/qWew==?=", "日本"},
		"iso-2022-jp":            {"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"},
		"gb2312":                 {"=?gb2312?B?1tDOxA==?=", "中文"},
		"language":               {"=?utf-8*en?q?a?=", "a"},
		"unknown charset":        {"=?klingon?q?Gr=FC=DFe?=", "Grüße"},
		"lying charset":          {"=?utf-8?q?Gr=FC=DFe?=", "Grüße"},
		"two words":              {"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"},
		"two words, folded":      {"=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"},
		"two charsets":           {"=?utf-8?q?=C3=A9?= =?iso-8859-1?q?=E9?=", "éé"},
		"character split in two": {"=?utf-8?q?caf=C3?= =?utf-8?q?=A9?=", "café"},
		"split, base64":          {"=?utf-8?B?w4TDliDD?= =?utf-8?B?nCDDnyDi?= =?utf-8?B?gqw=?=", "ÄÖ Ü ß €"},
		"text and word":          {"Re: =?utf-8?q?a?= b", "Re: a b"},
		"word inside a word":     {"x=?utf-8?q?a?=y", "xay"},
		"blank in a word":        {"=?utf-8?q?a b?=", "a b"},
		"question mark in Q":     {"=?utf-8?q?Really??=", "Really?"},
		"bad hex":                {"=?utf-8?q?50=_off=ZZ=2?=", "50= off=ZZ=2"},
		"empty word":             {"=?utf-8?q??=x", "x"},
		"no end":                 {"=?utf-8?q?abc", "=?utf-8?q?abc"},
		"no encoding":            {"=?utf-8?abc?= x", "=?utf-8?abc?= x"},
		"unknown encoding":       {"=?utf-8?x?abc?= =?utf-8?q?a?=", "=?utf-8?x?abc?= a"},
		"false start":            {"=?=?utf-8?q?a?=", "=?a"},
		"raw UTF-8":              {"Grüße", "Grüße"},
		"raw latin-1":            {"Gr\xfc\xdfe \x80", "Grüße €"},
		"raw and a word":         {"\xfc =?utf-8?q?a?= \xfc", "ü a ü"},
		"newline in a word":      {"=?utf-8?q?a=0D=0Ab?=", "a\r\nb"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := ParseHeader([]byte("Subject: " + tt.in + "\r\n\r\n"))
			if got := h.Text("Subject"); got != tt.want {
				t.Errorf("Text = %q, want %q", got, tt.want)
			}
		})
	}
}
