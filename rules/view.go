package rules

import (
	"slices"
	"strings"
	"time"
)

// source is one value that tests look at: a key, and for "header" the name of
// the field.
type source struct{ key, name string }

// view is one message as the rules see it during one walk. It decodes a value
// when the first test asks for it and keeps it for the others.
type view struct {
	m        *Message
	sources  []source
	slots    []value // parallel to sources
	body     *content
	date     *time.Time
	captures []string

	index  *index // nil: all rules are tried
	looked uint64 // slots that were looked up in it
	found  []bool // by id: rules in the index that may match

	explain bool    // somebody wants an explanation
	checks  []Check // then, of the current rule
	negated bool    // under an odd number of nots
}

// value is what a source has to say about a message.
type value struct {
	ready   bool
	present bool     // there is such a field, whatever is in it
	texts   []string // several for several fields, addresses or parts
	folded  []string // texts, for comparing without case
}

func (v *view) value(slot int) *value {
	val := &v.slots[slot]
	if !val.ready {
		val.ready = true
		v.read(val, v.sources[slot])
		val.folded = make([]string, len(val.texts))
		for i, t := range val.texts {
			val.folded[i] = fold(t)
		}
	}
	return val
}

func (v *view) read(val *value, s source) {
	h := v.m.Header
	switch s.key {
	case "account":
		val.present, val.texts = true, []string{v.m.Account}
		return
	case "body":
		val.present, val.texts = true, v.content().texts()
		return
	}
	names := fieldsOf(s)
	val.present = slices.ContainsFunc(names, func(name string) bool { return h.Raw(name) != nil })
	if !val.present {
		return
	}
	switch s.key {
	case "subject":
		val.texts = []string{h.Text("Subject")}
	case "header":
		for _, raw := range h.Values(s.name) {
			val.texts = append(val.texts, decodeText(raw))
		}
	case "list_id":
		if id, _ := h.ListID(); id != "" {
			val.texts = []string{id}
		}
	default:
		for _, name := range names {
			for _, a := range h.Addresses(name) {
				val.texts = append(val.texts, a.Addr())
			}
		}
	}
}

// addressFields are the keys that look at addresses, and where these stand.
var addressFields = map[string][]string{
	"from": {"From"}, "to": {"To"}, "cc": {"Cc"}, "bcc": {"Bcc"}, "reply_to": {"Reply-To"}, "sender": {"Sender"},
	// Whom the message came for. The last three are written by servers on the
	// way and name those whom no other field does.
	"recipient": {"To", "Cc", "Bcc", "Delivered-To", "X-Original-To", "Envelope-To"},
}

// fieldsOf names the header fields a source is about.
func fieldsOf(s source) []string {
	switch s.key {
	case "header":
		return []string{s.name}
	case "subject":
		return []string{"Subject"}
	case "list_id":
		return []string{"List-Id"}
	default:
		return addressFields[s.key]
	}
}

// needsBody reports whether a test of this key cannot be made on a header.
func needsBody(key string) bool { return key == "body" || key == "has_attachment" }

// content is what the body holds; it is read only once.
func (v *view) content() *content {
	if v.body == nil {
		v.body = readContent(v.m.Header, v.m.Body())
	}
	return v.body
}

// when is the time a message was sent, as far as that can be true; zero if
// nobody knows.
func (v *view) when() time.Time {
	if v.date == nil {
		t := v.m.Header.when()
		v.date = &t
	}
	return *v.date
}

func (h *Header) when() time.Time {
	t, received := h.Date(), h.Received()
	if !t.IsZero() && t.Year() >= 1970 && (received.IsZero() || !t.After(received.Add(24*time.Hour))) {
		return t
	}
	if received.Year() >= 1970 {
		return received
	}
	return time.Time{}
}

// spamFields are what filters on the way write their verdict into.
var spamFields = []string{"X-Spam-Flag", "X-Spam-Status", "X-Spam"}

// spamMarks are the fields that call the message spam: "X-Spam-Flag: YES".
func (h *Header) spamMarks() []string {
	var marks []string
	for _, name := range spamFields {
		for _, raw := range h.Values(name) {
			text := decodeText(raw)
			word, _, _ := strings.Cut(text, " ")
			switch strings.ToLower(strings.TrimRight(word, ",;")) {
			case "yes", "true", "spam":
				marks = append(marks, name+": "+text)
			}
		}
	}
	return marks
}
