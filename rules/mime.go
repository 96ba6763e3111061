package rules

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// What is looked at of a body.
const (
	maxBody   = 1 << 20   // octets as received
	maxTexts  = 256 << 10 // octets of decoded text
	maxParts  = 500
	maxNested = 10
)

// content is the leaves of the MIME structure of a message.
type content struct{ parts []bodyPart }

// bodyPart is a leaf: a part that holds no others.
type bodyPart struct {
	kind     string // "text/plain", in lower case
	charset  string
	encoding string // of the transfer, in lower case
	attached bool
	name     string // of a file; "" if it has none
	related  bool   // part of a multipart/related, of an HTML text and its pictures
	raw      []byte
}

// readContent finds the parts of a body. It never fails, and is linear in body:
// each octet is looked at once on every level, and there are few levels.
func readContent(h *Header, body []byte) *content {
	c := &content{}
	c.entity(h, body[:min(len(body), maxBody)], entityPlace{implied: "text/plain"})
	return c
}

// entityPlace is where in a message an entity stands.
type entityPlace struct {
	depth   int
	implied string // the type of one that does not say
	related bool
}

// entity takes a message or one of its parts.
func (c *content) entity(h *Header, body []byte, at entityPlace) {
	if at.depth > maxNested || len(c.parts) >= maxParts {
		return
	}
	kind, params := parseParams(h.Raw("Content-Type"))
	if strings.Count(kind, "/") != 1 {
		kind, params = at.implied, nil
	}
	below := entityPlace{depth: at.depth + 1, implied: "text/plain", related: at.related}
	switch {
	case strings.HasPrefix(kind, "multipart/") && len(params.octets("boundary")) > 0:
		if kind == "multipart/digest" {
			below.implied = "message/rfc822"
		}
		below.related = below.related || kind == "multipart/related"
		splitParts(body, params.octets("boundary"), func(part []byte) bool {
			head, rest := splitHeader(part)
			c.entity(ParseHeader(head), rest, below)
			return len(c.parts) < maxParts
		})
		return
	case kind == "message/rfc822", kind == "message/global":
		below.related = false
		if _, attached := fileOf(h, params); !attached {
			head, rest := splitHeader(body)
			c.entity(ParseHeader(head), rest, below)
			return
		}
	}
	p := bodyPart{
		kind: kind, charset: params.get("charset"), related: at.related, raw: body,
		encoding: strings.ToLower(decodeText(h.Raw("Content-Transfer-Encoding"))),
	}
	p.name, p.attached = fileOf(h, params)
	c.parts = append(c.parts, p)
}

// fileOf returns the file name of an entity, and whether it is marked as an
// attachment.
func fileOf(h *Header, params paramList) (name string, attached bool) {
	disposition, more := parseParams(h.Raw("Content-Disposition"))
	return cmp.Or(more.get("filename"), params.get("name")), disposition == "attachment"
}

// texts decodes the text parts that are no attachments.
func (c *content) texts() []string {
	var texts []string
	room := maxTexts
	for i := range c.parts {
		p := &c.parts[i]
		if room > 0 && strings.HasPrefix(p.kind, "text/") && !p.attached {
			text := p.text(room)
			texts = append(texts, text)
			room -= len(text)
		}
	}
	return texts
}

// attachments names the parts that a person would call so.
func (c *content) attachments() []string {
	var names []string
	for i := range c.parts {
		p := &c.parts[i]
		named := p.name != "" && !p.related && !strings.HasPrefix(p.kind, "text/")
		if (p.attached || named) && !slices.Contains(signatureTypes, p.kind) {
			names = append(names, cmp.Or(p.name, p.kind))
		}
	}
	return names
}

// signatureTypes are parts that programs take for themselves.
var signatureTypes = []string{"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}

// text is the part as readable text, of at most room octets.
func (p *bodyPart) text(room int) string {
	octets := p.raw
	switch p.encoding {
	case "base64":
		octets = decodeBase64(octets, room)
	case "quoted-printable":
		octets = decodeQuoted(octets, room)
	}
	text := cutText(fromCharset(p.charset, octets[:min(len(octets), room)]), room)
	if p.kind == "text/html" {
		return htmlText(text)
	}
	return strings.ReplaceAll(text, "\r\n", "\n")
}

// cutText cuts s to at most limit octets, between two characters.
func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// splitHeader separates an entity at its first empty line.
func splitHeader(b []byte) (head, body []byte) {
	for pos := 0; pos < len(b); {
		next := len(b)
		if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		if len(bytes.Trim(b[pos:next], "\r\n")) == 0 {
			return b[:pos], b[next:]
		}
		pos = next
	}
	return b, nil
}

// splitParts calls visit for each part of a multipart body (RFC 2046 §5.1.1)
// until it returns false. The last one may lack its end.
func splitParts(body, boundary []byte, visit func([]byte) bool) {
	dash := slices.Concat([]byte("--"), boundary)
	start := -1 // of the part that is open
	for pos := 0; pos < len(body); {
		i := bytes.Index(body[pos:], dash)
		if i < 0 {
			break
		}
		at := pos + i
		pos = at + len(dash)
		if at > 0 && body[at-1] != '\n' {
			continue // not at the beginning of a line
		}
		line := body[pos:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end+1]
		}
		rest := bytes.TrimRight(line, " \t\r\n")
		closing := string(rest) == "--"
		if len(rest) > 0 && !closing {
			continue // another boundary that begins like this one
		}
		pos += len(line)
		if start >= 0 && !visit(trimEnd(body[start:at])) {
			return
		}
		if start = pos; closing {
			return
		}
	}
	if start >= 0 && start < len(body) {
		visit(body[start:])
	}
}

// trimEnd drops the line end that belongs to the delimiter behind it.
func trimEnd(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}
