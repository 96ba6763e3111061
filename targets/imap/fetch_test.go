package imap

import (
	"strings"
	"testing"

	"popferry/rules"
	"popferry/targets"
)

// FuzzMessageID: what a server shows of a Message-ID is read as the same id that
// was read in the message itself, or a copy would not be recognised.
func FuzzMessageID(f *testing.F) {
	for _, s := range []string{
		"<a@b>", " <a@b> ", "\r\n <a@b>", "<a\r\n\t@b>", "x <a@b> y", "<a@b", "a@b", "<>", "", "<a@b>\r\nMessage-ID: <c@d>",
		"\r\nMessage-ID: <c@d>", "<a\x00b>", "<a\x7fb>", "<\xff>", "<a\vb>", "<a\u00a0b>", "<a b>", "<a\rb>",
		"<" + strings.Repeat("x", 996) + ">", "<" + strings.Repeat("x", 997) + ">", "=?utf-8?q?<a@b>?=", "<<a@b>>", "><a@b>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		header := []byte("Message-ID:" + value + "\r\n\r\n")
		if strings.Contains(strings.ReplaceAll(value, "\r\nMessage-ID:", ""), "\n") && !onlyFolds(value) {
			return // other fields, which no server shows
		}
		if got, want := targets.MessageIDOf(header), rules.ParseHeader(header).MessageID(); got != want {
			t.Errorf("%q: %q, and the rules say %q", header, got, want)
		}
	})
}

// onlyFolds tells whether every line end of value is followed by a blank or by
// another Message-ID.
func onlyFolds(value string) bool {
	for rest := value; ; {
		_, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return true
		}
		if !strings.HasPrefix(after, " ") && !strings.HasPrefix(after, "\t") && !strings.HasPrefix(after, "Message-ID:") {
			return false
		}
		rest = after
	}
}
