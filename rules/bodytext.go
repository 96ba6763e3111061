package rules

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"strings"
)

// decodeBase64 decodes the base64 transfer encoding (RFC 2045 §6.8) up to its
// padding or room octets. What is not of its alphabet is passed over.
func decodeBase64(in []byte, room int) []byte {
	clean := make([]byte, 0, min(len(in), room/3*4+4))
	for _, c := range in {
		if c == '=' || len(clean) == cap(clean) {
			break
		}
		if isAlphanumeric(c) || c == '+' || c == '/' {
			clean = append(clean, c)
		}
	}
	if len(clean)%4 == 1 { // no octet has so few bits
		clean = clean[:len(clean)-1]
	}
	n, err := base64.RawStdEncoding.Decode(clean, clean)
	if err != nil {
		return clean[:0]
	}
	return clean[:n]
}

// decodeQuoted decodes quoted-printable (RFC 2045 §6.7) up to room octets; a "="
// that begins nothing stands for itself.
func decodeQuoted(in []byte, room int) []byte {
	out := make([]byte, 0, min(len(in), room))
	for len(in) > 0 && len(out) < room {
		i := bytes.IndexByte(in, '=')
		if i < 0 {
			return append(out, in...)
		}
		out = append(out, in[:i]...)
		in = in[i+1:]
		var octet [1]byte
		if len(in) >= 2 {
			if _, err := hex.Decode(octet[:], in[:2]); err == nil {
				out, in = append(out, octet[0]), in[2:]
				continue
			}
		}
		// A soft line break, perhaps with blanks that were added on the way.
		blanks := len(in) - len(bytes.TrimLeft(in, " \t\r"))
		if blanks < len(in) && in[blanks] == '\n' {
			in = in[blanks+1:]
		} else {
			out = append(out, '=')
		}
	}
	return out
}

// inlineTags are HTML elements that do not part the words around them.
var inlineTags = map[string]bool{
	"a": true, "abbr": true, "b": true, "big": true, "code": true, "em": true, "font": true, "i": true, "ins": true, "mark": true,
	"s": true, "small": true, "span": true, "strong": true, "sub": true, "sup": true, "tt": true, "u": true, "wbr": true,
}

// htmlText is what a person reads of HTML, roughly: without tags, comments,
// scripts and styles, each run of blanks one blank.
func htmlText(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		if rest, ok := strings.CutPrefix(s, "<!--"); ok {
			_, s, _ = strings.Cut(rest, "-->")
			continue
		}
		if len(s) < 2 || !isTagStart(s[1]) {
			b.WriteByte('<') // less than
			s = s[1:]
			continue
		}
		end := strings.IndexByte(s, '>')
		if end < 0 {
			break // the rest has no tags
		}
		tag := strings.ToLower(tagName(s[1:end]))
		s = s[end+1:]
		switch {
		case tag == "script", tag == "style":
			s = behind(s, "</"+tag)
		case !inlineTags[strings.TrimPrefix(tag, "/")]:
			b.WriteByte(' ')
		}
	}
	b.WriteString(s)
	return strings.Join(strings.Fields(html.UnescapeString(b.String())), " ")
}

func isTagStart(c byte) bool {
	return isAlphanumeric(c) && !isDigit(c) || c == '/' || c == '!' || c == '?'
}

// tagName is the name a tag begins with, with its slash.
func tagName(s string) string {
	n := 0
	for n < len(s) && (isAlphanumeric(s[n]) || n == 0 && s[n] == '/') {
		n++
	}
	return s[:n]
}

// behind is what follows the end tag that begins with end, in any case; nothing
// if there is none.
func behind(s, end string) string {
	for {
		i := strings.Index(s, "</")
		if i < 0 {
			return ""
		}
		s = s[i:]
		if len(s) >= len(end) && strings.EqualFold(s[:len(end)], end) {
			return s
		}
		s = s[2:]
	}
}
