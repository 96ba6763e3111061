package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"popferry/rules"
)

// mailOf reads messages from standard input.
func mailOf(t *testing.T, text string) []*rules.Message {
	t.Helper()
	s, err := newApp(strings.NewReader(text), new(bytes.Buffer), new(bytes.Buffer), anything).openMail("-")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var list []*rules.Message
	for m, err := range s.messages() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

func TestOpenMail(t *testing.T) {
	const sep = "From a@b Mon Mar  2 09:00:00 2026\n"
	long := strings.Repeat("x", 10_000) // longer than a reader's buffer
	for name, tc := range map[string]struct {
		text string
		want []string // subject and body
	}{
		"message":                  {"Subject: a\n\nFrom x Mon 09:00\n\n>From y\n", []string{"a|From x Mon 09:00\n\n>From y\n"}},
		"nothing":                  {"", []string{"|"}},
		"mbox":                     {sep + "Subject: a\n\none\n\n" + sep + "Subject: b\n\ntwo\n", []string{"a|one\n", "b|two\n"}},
		"CRLF":                     {strings.ReplaceAll(sep+"Subject: a\n\none\n\n"+sep+"Subject: b\n\ntwo\n", "\n", "\r\n"), []string{"a|one\r\n", "b|two\r\n"}},
		"quoted":                   {sep + "Subject: a\n\n>From here\n>>From there\n> From\n", []string{"a|From here\n>From there\n> From\n"}},
		"From without a date":      {sep + "Subject: a\n\nFrom the start\n", []string{"a|From the start\n"}},
		"From in the middle":       {sep + "Subject: a\n\none\n" + sep, []string{"a|one\n" + sep}},
		"empty messages":           {sep + "\n" + sep + "\n" + sep, []string{"|", "|", "|"}},
		"separator, no line end":   {strings.TrimSpace(sep), []string{"|"}},
		"long lines":               {sep + "Subject: a\n\n" + long + "\n>From\n\n" + sep + "X: " + long + "\nSubject: b\n\n", []string{"a|" + long + "\n>From\n", "b|"}},
		"a separator that is long": {strings.TrimSpace(sep) + long + "\nSubject: a\n\n", []string{"a|"}},
	} {
		var got []string
		for _, m := range mailOf(t, tc.text) {
			got = append(got, m.Header.Text("Subject")+"|"+string(m.Body()))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %.200q, want %.200q", name, got, tc.want)
		}
	}
}

// What is beyond the limit is not kept, but counts.
func TestOpenMail_large(t *testing.T) {
	body := strings.Repeat("0123456789abcde\n", mailMax>>4+1000)
	for _, text := range []string{"Subject: a\n\n" + body, "From a Mon 09:00\nSubject: a\n\n" + body} {
		list := mailOf(t, text)
		if len(list) != 1 || list[0].Size < int64(len(body)) || int64(len(list[0].Body())) > mailMax || list[0].Header.Text("Subject") != "a" {
			t.Errorf("%d messages, the first %d octets", len(list), list[0].Size)
		}
	}
}

// An mbox that was written by quoting gives its messages back.
func FuzzOpenMail(f *testing.F) {
	f.Add("Subject: a\n\nFrom b Mon 09:00\n>From c\n", "x\n\n\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\r") {
			return
		}
		var mbox strings.Builder
		var want []string
		for _, body := range []string{a, b} {
			body = strings.TrimRight(body, "\n") + "\n"
			m := "Subject: x\n\n" + body
			mbox.WriteString("From x@y Mon Mar  2 09:00:00 2026\n")
			for line := range strings.Lines(m) {
				if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") {
					line = ">" + line
				}
				mbox.WriteString(line)
			}
			mbox.WriteString("\n")
			want = append(want, body)
		}
		var got []string
		for _, m := range mailOf(t, mbox.String()) {
			got = append(got, string(m.Body()))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q from %q", got, mbox.String())
		}
	})
}

func TestReference(t *testing.T) {
	for text, want := range map[string]string{
		"isp#2": "isp 2", "a#b.eml": "a#b.eml 0", "a#b#12": "a#b 12", "x.eml": "x.eml 0", "x#0": "x#0 0", "x#-1": "x#-1 0", "#3": " 3", "": " 0", "x#99999999999999999999": "x#99999999999999999999 0",
	} {
		name, n := reference(text)
		if got := fmt.Sprint(name, " ", n); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
