package rules

import "bytes"

// What is looked at of a header. Fields beyond these limits are as good as
// absent; the message is delivered all the same.
const (
	maxHeader  = 256 << 10
	maxFields  = 2000
	maxText    = 8 << 10 // of one field, to be decoded
	maxAddress = 4 << 10 // of one field, to be parsed as addresses
)

// Header is the header of a message as it was received. It is immutable, so
// it may be used by several goroutines, and keeps a reference to the octets it
// was parsed from: they must not change. Values are decoded anew on every call;
// a caller that needs one twice keeps it.
//
// A nil *Header is an empty header.
type Header struct {
	raw    []byte
	fields []field
	few    [32]field // what fields lie in unless there are more
}

// field tells where in Header.raw a field lies.
type field struct {
	name, colon, value, end int32 // raw[name:colon] is the name, raw[value:end] the folded value
}

// ParseHeader finds the fields of the header that b begins with; a body may
// follow. It never fails: what cannot be a field is passed over (an mbox "From "
// line, lines without colon, a continuation of nothing), a byte order mark is
// skipped, lines end in LF, CRLF or CRCRLF. The header ends at the first empty
// line, with b, or at 256 KiB or 2,000 fields.
func ParseHeader(b []byte) *Header {
	h := new(Header)
	h.Parse(b)
	return h
}

// Parse is ParseHeader into a Header that is part of something else. Nobody may
// be using it.
func (h *Header) Parse(b []byte) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if len(b) > maxHeader {
		b = b[:maxHeader]
	}
	h.raw, h.fields = b, h.few[:0]
	inField := false // the line before was a field, so a continuation is part of it
	for pos := 0; pos < len(b); {
		next := len(b)
		if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		end := next
		for end > pos && (b[end-1] == '\n' || b[end-1] == '\r') {
			end--
		}
		switch {
		case end == pos:
			return
		case b[pos] == ' ' || b[pos] == '\t':
			if inField {
				h.fields[len(h.fields)-1].end = int32(end)
			}
		default:
			var f field
			if f, inField = parseField(b, pos, end); inField {
				if len(h.fields) == maxFields {
					return
				}
				h.fields = append(h.fields, f)
			}
		}
		pos = next
	}
}

// parseField looks at the first line of a field, b[pos:end]. Names are those of
// RFC 5322 §2.2; blanks before the colon are allowed as in §4.5.
func parseField(b []byte, pos, end int) (field, bool) {
	i := bytes.IndexByte(b[pos:end], ':')
	if i <= 0 {
		return field{}, false
	}
	colon := pos + i
	name := colon
	for name > pos && (b[name-1] == ' ' || b[name-1] == '\t') {
		name--
	}
	if name == pos {
		return field{}, false
	}
	for _, c := range b[pos:name] {
		if c <= ' ' || c >= 0x7f {
			return field{}, false
		}
	}
	return field{int32(pos), int32(name), int32(colon + 1), int32(end)}, true
}

// Values returns the raw values of all fields of that name in any case, from
// top to bottom: what follows the colon, with line breaks and blanks as
// received, without the last line's end. The slices are the Header's own.
func (h *Header) Values(name string) [][]byte {
	var values [][]byte
	for i := h.next(name, 0); i >= 0; i = h.next(name, i+1) {
		values = append(values, h.value(i))
	}
	return values
}

// Raw returns the raw value of the first field of that name, nil if there is
// none. It is never nil for a field that is there, though it may be empty.
func (h *Header) Raw(name string) []byte {
	if i := h.next(name, 0); i >= 0 {
		return h.value(i)
	}
	return nil
}

// Text returns the first field of that name as readable text: unfolded, encoded
// words (RFC 2047) and raw 8-bit text decoded to UTF-8, blanks at both ends
// removed; "" if there is none. Control characters are kept.
func (h *Header) Text(name string) string {
	return decodeText(h.Raw(name))
}

func (h *Header) value(i int) []byte {
	f := h.fields[i]
	return h.raw[f.value:f.end:f.end]
}

// next returns the index of the first field called name at or after i, -1 if
// there is none.
func (h *Header) next(name string, i int) int {
	if h == nil || name == "" {
		return -1
	}
	first := lower(name[0])
	for ; i < len(h.fields); i++ {
		f := &h.fields[i]
		if int(f.colon-f.name) == len(name) && lower(h.raw[f.name]) == first &&
			equalName(h.raw[f.name:f.colon], name) {
			return i
		}
	}
	return -1
}

func equalName(b []byte, name string) bool {
	for i, c := range b {
		if lower(c) != lower(name[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
