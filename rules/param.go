package rules

import (
	"bytes"
	"net/url"
	"strings"
)

// param is one parameter of a MIME field.
type param struct {
	name  string // in lower case, as written: "filename*0*"
	value []byte
}

// paramList are the parameters of a MIME field, in order.
type paramList []param

// maxParams is how many parameters of a field are looked at.
const maxParams = 50

// parseParams reads a field such as Content-Type (RFC 2045 §5.1): a value, in
// lower case, and parameters. What is written badly is read as it seems meant:
// blanks in values without quotes, quotes without end, no value at all.
func parseParams(raw []byte) (value string, params paramList) {
	head, rest := cutParam(unfold(clip(raw)))
	value = strings.ToLower(string(paramValue(head)))
	for len(rest) > 0 && len(params) < maxParams {
		head, rest = cutParam(rest)
		name, val, found := bytes.Cut(head, []byte("="))
		if !found {
			continue
		}
		params = append(params, param{strings.ToLower(string(bytes.TrimSpace(name))), paramValue(val)})
	}
	return value, params
}

// cutParam cuts b at the first semicolon that is not in quotes.
func cutParam(b []byte) (head, rest []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// paramValue is a value without its quotes, or without a comment behind it.
func paramValue(b []byte) []byte {
	b = bytes.TrimSpace(b)
	inner, quoted := bytes.CutPrefix(b, []byte(`"`))
	if !quoted {
		b, _, _ = bytes.Cut(b, []byte("("))
		return bytes.TrimSpace(b)
	}
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '\\':
			i++
		case '"':
			return unescape(inner[:i])
		}
	}
	return unescape(inner)
}

// octets returns a parameter as it is, without its quotes.
func (l paramList) octets(name string) []byte {
	for _, p := range l {
		if p.name == name {
			return p.value
		}
	}
	return nil
}

// get returns a parameter as text; "" if there is none. One in pieces or with a
// charset (RFC 2231) is put together; pieces must be in order.
func (l paramList) get(name string) string {
	var pieces strings.Builder
	for _, p := range l {
		rest, ok := strings.CutPrefix(p.name, name)
		switch {
		case !ok:
		case rest == "":
			return decodeText(p.value)
		case rest[0] != '*':
		case strings.HasSuffix(rest, "*"):
			pieces.WriteString(extended(string(p.value)))
		default:
			pieces.Write(p.value)
		}
	}
	return toUTF8([]byte(pieces.String()))
}

// extended decodes charset'language'percent-encoded, or a later piece of it
// without the first two.
func extended(s string) string {
	charset := ""
	if parts := strings.SplitN(s, "'", 3); len(parts) == 3 {
		charset, s = parts[0], parts[2]
	}
	octets, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return fromCharset(charset, []byte(octets))
}
