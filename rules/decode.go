package rules

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// decodeText makes readable text of a raw field value. Only its first maxText
// octets count. It is linear in them: mime.WordDecoder.DecodeHeader is not
// (GO-2026-5038), and gives up a whole value for one bad word.
func decodeText(raw []byte) string {
	if len(raw) > maxText {
		raw = raw[:maxText]
	}
	return decodeWords(unfold(raw))
}

// unfold joins the lines of a value: a line break and the blanks around it
// become one blank, whether the sender folded with a blank or a tab. Blanks at
// both ends go.
func unfold(raw []byte) []byte {
	raw = bytes.Trim(raw, " \t\r\n")
	if bytes.IndexByte(raw, '\n') < 0 {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\n')
		if i < 0 {
			out = append(out, raw...)
			break
		}
		out = append(bytes.TrimRight(append(out, raw[:i]...), " \t\r"), ' ')
		raw = bytes.TrimLeft(raw[i+1:], " \t\r\n")
	}
	return out
}

// decodeWords decodes the encoded words of an unfolded value (RFC 2047) and
// turns everything else into UTF-8. Blanks between two encoded words are no
// part of the text (§6.2). What is no proper encoded word stays as it is.
func decodeWords(b []byte) string {
	// No word ends behind the last "?=". Without this bound every false start
	// would be searched for its end up to the end of the value.
	last := bytes.LastIndex(b, []byte("?="))
	if last < 0 {
		return toUTF8(b)
	}
	words, rest := b[:last+2], b[last+2:]
	var out strings.Builder
	out.Grow(len(b))
	var run wordRun
	for {
		i := bytes.Index(words, []byte("=?"))
		if i < 0 {
			break
		}
		charset, octets, n, ok := parseWord(words[i:])
		if !ok {
			run.flush(&out)
			out.WriteString(toUTF8(words[:i+n]))
		} else {
			if between := words[:i]; !run.open || len(bytes.TrimLeft(between, " \t")) > 0 {
				run.flush(&out)
				out.WriteString(toUTF8(between))
			}
			run.add(&out, charset, octets)
		}
		words = words[i+n:]
	}
	run.flush(&out)
	out.WriteString(toUTF8(words))
	out.WriteString(toUTF8(rest))
	return out.String()
}

// wordRun gathers the octets of adjacent encoded words in one charset, because
// many senders split a multi-byte character between two words.
type wordRun struct {
	open    bool
	charset string
	octets  []byte
}

func (r *wordRun) add(out *strings.Builder, charset string, octets []byte) {
	if r.open && !strings.EqualFold(r.charset, charset) {
		r.flush(out)
	}
	r.open, r.charset = true, charset
	r.octets = append(r.octets, octets...)
}

func (r *wordRun) flush(out *strings.Builder) {
	if r.open {
		out.WriteString(fromCharset(r.charset, r.octets))
	}
	r.open, r.octets = false, r.octets[:0]
}

// parseWord reads the encoded word that b, which begins with "=?", begins with.
// n is how much of b is done with, whether it was one or not. Text may hold
// blanks and question marks, which RFC 2047 §2 forbids and senders write.
func parseWord(b []byte) (charset string, octets []byte, n int, ok bool) {
	const start, maxCharset = len("=?"), 64
	rest := b[start:]
	i := bytes.IndexByte(rest[:min(len(rest), maxCharset)], '?')
	if i <= 0 || len(rest) < i+3 || rest[i+2] != '?' {
		return "", nil, start, false
	}
	encoding, text := lower(rest[i+1]), rest[i+3:]
	if encoding != 'q' && encoding != 'b' {
		return "", nil, start, false
	}
	end := bytes.Index(text, []byte("?="))
	if end < 0 {
		return "", nil, start, false
	}
	n = start + i + 3 + end + 2
	if encoding == 'q' {
		octets, ok = decodeQ(text[:end]), true
	} else {
		octets, ok = decodeB(text[:end])
	}
	charset, _, _ = strings.Cut(string(rest[:i]), "*") // RFC 2231 §5: charset*language
	return charset, octets, n, ok
}

// decodeQ decodes the Q encoding (RFC 2047 §4.2); a "=" without two hexadecimal
// digits stands for itself.
func decodeQ(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '_':
			c = ' '
		case c == '=' && i+2 < len(text):
			var octet [1]byte
			if _, err := hex.Decode(octet[:], text[i+1:i+3]); err == nil {
				c = octet[0]
				i += 2
			}
		}
		out = append(out, c)
	}
	return out
}

// decodeB decodes the B encoding (RFC 2047 §4.1) with blanks in it and without
// its padding, as some senders write it.
func decodeB(text []byte) ([]byte, bool) {
	clean := make([]byte, 0, len(text))
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '=' {
			clean = append(clean, c)
		}
	}
	n, err := base64.RawStdEncoding.Decode(clean, clean)
	return clean[:n], err == nil
}

// fromCharset decodes octets; an unknown charset is treated as raw 8-bit text.
func fromCharset(name string, octets []byte) string {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "us-ascii", "ascii", "unknown-8bit", "x-unknown":
		return toUTF8(octets)
	}
	r, err := charset.Reader(name, bytes.NewReader(octets))
	if err != nil {
		return toUTF8(octets)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return toUTF8(octets)
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}

// toUTF8 keeps UTF-8 and reads everything else as windows-1252, which raw 8-bit
// headers in the West mostly are; as a superset of it, ISO 8859-1 as well.
func toUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	out.Grow(len(b) + len(b)/4)
	for _, c := range b {
		switch {
		case 0x80 <= c && c < 0xa0:
			out.WriteRune(windows1252[c-0x80])
		default:
			out.WriteRune(rune(c))
		}
	}
	return out.String()
}

// windows1252 is what the octets 0x80 to 0x9f stand for; five stand for nothing.
var windows1252 = [32]rune{
	'€', '\uFFFD', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\uFFFD', 'Ž', '\uFFFD',
	'\uFFFD', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\uFFFD', 'ž', 'Ÿ',
}
