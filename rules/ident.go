package rules

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// MessageID returns the id of the first Message-ID field with its angle
// brackets, a folded one joined. It is "" if the field is missing or holds
// nothing that identifies: no brackets, nothing between them, control
// characters, more than a line of 998 octets.
func (h *Header) MessageID() string {
	const maxLine = 998 // RFC 5322 §2.1.1
	raw := clip(h.Raw("Message-ID"))
	start := bytes.IndexByte(raw, '<')
	if start < 0 {
		return ""
	}
	end := bytes.IndexByte(raw[start:], '>')
	if end < 0 {
		return ""
	}
	id := raw[start : start+end+1]
	if bytes.ContainsAny(id, " \t\r\n") { // folding
		id = bytes.Join(bytes.FieldsFunc(id, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), nil)
	}
	if bytes.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	if len(id) <= len("<>") || len(id) > maxLine || !utf8.Valid(id) {
		return ""
	}
	return string(id)
}

// ListID returns the list identifier of the List-Id field (RFC 2919 §2),
// without brackets and in lower case, because it compares without case; and the
// name of the list, which is the identifier's first label: "golang-nuts" of
// golang-nuts.googlegroups.com. The phrase before the brackets is a description
// that changes with the owner's mood and is not used. Both are "" if there is
// no such field or it holds no identifier.
func (h *Header) ListID() (id, name string) {
	text := h.Text("List-Id")
	if start := strings.LastIndexByte(text, '<'); start >= 0 {
		text, _, _ = strings.Cut(text[start+1:], ">")
	} else if strings.ContainsRune(text, ' ') {
		return "", "" // a description without an identifier
	}
	id = strings.ToLower(strings.TrimSpace(text))
	// Mailing list managers have been seen to put the list's address here.
	if name = id; strings.ContainsAny(id, ".@") {
		name = id[:strings.IndexAny(id, ".@")]
	}
	return id, name
}
