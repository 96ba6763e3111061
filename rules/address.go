package rules

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Address is one mailbox of an address field (RFC 5322 §3.4), as far as it can
// be made out. Its parts keep control characters.
type Address struct {
	Name   string // display name, decoded; without one, the comment behind the address; may be ""
	Local  string // without quotes, case kept
	Domain string // case kept; "" if the sender gave none ("root", "MAILER-DAEMON")
}

// Addr joins local part and domain, for comparing and showing. It quotes
// nothing and so is not fit for an SMTP envelope.
func (a Address) Addr() string {
	if a.Domain == "" {
		return a.Local
	}
	return a.Local + "@" + a.Domain
}

// Addresses returns the mailboxes in all fields of that name, in order. Groups
// are opened and comments left out; what cannot be an address is passed over,
// so one broken entry costs only itself. Of each field 4 KiB are looked at.
func (h *Header) Addresses(name string) []Address {
	var list []Address
	for i := h.next(name, 0); i >= 0; i = h.next(name, i+1) {
		list = parseAddresses(list, h.value(i))
	}
	return list
}

// ReturnPath returns the addr-spec in the topmost Return-Path field, as it was
// written. It is "" for the empty path <> and for anything that is not safe to
// put between angle brackets in an SMTP command (RFC 5321 §4.1.2).
func (h *Header) ReturnPath() string {
	raw := bytes.Trim(h.Raw("Return-Path"), " \t\r\n")
	if len(raw) < 2 || raw[0] != '<' || raw[len(raw)-1] != '>' {
		return ""
	}
	path := string(raw[1 : len(raw)-1])
	if !isMailbox(path) {
		return ""
	}
	return path
}

// isMailbox reports whether s is a mailbox with a domain that can stand between
// the angle brackets of an SMTP command.
func isMailbox(s string) bool {
	const maxPath = 64 + 1 + 255 // RFC 5321 §4.5.3.1
	at := strings.LastIndexByte(s, '@')
	return len(s) <= maxPath && at > 0 && utf8.ValidString(s) && isLocalPart(s[:at]) && isDomain(s[at+1:])
}

// isLocalPart reports whether s is a Dot-string or a Quoted-string; UTF-8 is
// allowed (RFC 6531 §3.3).
func isLocalPart(s string) bool {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		escaped := false
		for _, c := range []byte(s[1 : len(s)-1]) {
			if c < ' ' || c == 0x7f || c == '"' && !escaped {
				return false
			}
			escaped = c == '\\' && !escaped
		}
		return !escaped
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return r < 0x80 && !isAtext(byte(r)) }) {
			return false
		}
	}
	return true
}

// isAtext is RFC 5322 §3.2.3.
func isAtext(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isDomain(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && !strings.ContainsFunc(inner, func(r rune) bool {
			return r >= 0x80 || !isAlphanumeric(byte(r)) && r != '.' && r != ':'
		})
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool {
			return r < 0x80 && !isAlphanumeric(byte(r)) && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}

// parseAddresses appends the mailboxes in one raw field value to list.
func parseAddresses(list []Address, raw []byte) []Address {
	if len(raw) > maxAddress {
		// Half an address is another address, so the last one goes.
		raw = raw[:maxAddress]
		raw = raw[:bytes.LastIndexByte(raw, ',')+1]
	}
	p := addressParser{in: unfold(raw), list: list}
	p.parse()
	return p.list
}

// addressParser reads the entries of an address field one after another. Each
// octet is looked at a bounded number of times: a quote, comment or literal
// without an end is looked for once, then its opening octet is plain text.
type addressParser struct {
	in   []byte
	list []Address

	phrase  []byte // the current entry outside angle brackets: display name or bare address
	token   int    // where in phrase the last token begins
	at      int    // where in phrase the last token's @ is; -1 if it has none
	space   bool   // a blank comes before the next octet of phrase
	quoted  bool   // phrase holds a quoted string
	spec    [3]int // token, @ and end of the last token that had an @
	comment []byte // the last one
	done    bool   // the current entry had its angle brackets

	noEnd [256]bool // closing octets known not to come any more
}

func (p *addressParser) parse() {
	p.reset()
	for len(p.in) > 0 {
		c := p.in[0]
		p.in = p.in[1:]
		switch c {
		case ' ', '\t', '\r', '\n', 0:
			p.space = true
		case ',', ';':
			p.flush()
		case ':':
			p.reset() // so far it was the name of a group
		case '(':
			if inner, ok := p.upTo(')'); ok {
				p.comment, p.space = inner, true
			} else {
				p.text(c)
			}
		case '"':
			if inner, ok := p.upTo('"'); ok {
				p.quoted = true
				for _, c := range unescape(inner) {
					p.quotedText(c)
				}
			}
		case '[':
			p.text(c)
			if inner, ok := p.upTo(']'); ok {
				for _, c := range inner {
					p.text(c)
				}
				p.text(']')
			}
		case '<':
			if inner, ok := p.upTo('>'); ok {
				p.angle(inner)
			}
		case '>':
			p.space = true // closes nothing
		case '@':
			p.atSign()
		default:
			p.text(c)
		}
	}
	p.flush()
}

// upTo takes what stands before the octet that closes a quote, comment, literal
// or angle address, and that octet. A backslash hides the octet behind it;
// comments nest (RFC 5322 §3.2.2); < > may hold a quoted >.
func (p *addressParser) upTo(end byte) ([]byte, bool) {
	if p.noEnd[end] {
		return nil, false
	}
	depth, inQuote := 1, false
	for i := 0; i < len(p.in); i++ {
		switch c := p.in[i]; {
		case c == '\\':
			i++
		case c == '"' && end == '>':
			inQuote = !inQuote
		case inQuote:
		case c == end:
			if depth--; depth == 0 {
				inner := p.in[:i]
				p.in = p.in[i+1:]
				return inner, true
			}
		case c == '(' && end == ')':
			depth++
		}
	}
	p.noEnd[end] = true
	return nil, false
}

// text adds an octet outside quotes.
func (p *addressParser) text(c byte) {
	if p.space && len(p.phrase) > 0 {
		p.phrase = append(p.phrase, ' ')
		if p.phrase[len(p.phrase)-2] != '@' { // "jane @ isp.example" is one token
			p.endToken()
		}
	}
	p.space = false
	p.phrase = append(p.phrase, c)
}

// quotedText adds an octet of a quoted string; a blank in it ends no token.
func (p *addressParser) quotedText(c byte) {
	if c == ' ' && !p.space {
		p.phrase = append(p.phrase, c)
		return
	}
	p.text(c)
}

func (p *addressParser) atSign() {
	if p.space && len(p.phrase) > 0 {
		p.phrase = append(p.phrase, ' ')
	}
	p.space = false
	p.at = len(p.phrase)
	p.phrase = append(p.phrase, '@')
}

func (p *addressParser) endToken() {
	if p.at >= 0 {
		p.spec = [3]int{p.token, p.at, len(p.phrase)}
	}
	p.token, p.at = len(p.phrase), -1
}

// angle takes the address between < and >, and the phrase before as its name.
func (p *addressParser) angle(inner []byte) {
	name := p.phrase
	if len(bytes.TrimSpace(name)) == 0 {
		name = p.comment
	}
	p.add(name, splitSpec(inner))
	p.reset()
	p.done = true
}

// flush ends the current entry. Without angle brackets it is an address if a
// token has an @, or if it is a single word.
func (p *addressParser) flush() {
	p.endToken()
	switch spec := p.spec; {
	case p.done:
	case spec[1] >= 0:
		p.add(p.comment, Address{
			Local:  string(bytes.TrimSpace(p.phrase[spec[0]:spec[1]])),
			Domain: string(bytes.TrimSpace(p.phrase[spec[1]+1 : spec[2]])),
		})
	case !p.quoted && isWord(p.phrase):
		p.list = append(p.list, Address{Name: decodeText(p.comment), Local: toUTF8(p.phrase)})
	}
	p.reset()
}

func (p *addressParser) add(name []byte, a Address) {
	// An @ in the domain comes from a quoted string that is glued to it.
	if a.Local == "" || strings.HasSuffix(a.Local, "@") || strings.Contains(a.Domain, "@") {
		return
	}
	a.Name = decodeText(name)
	a.Local, a.Domain = toUTF8([]byte(a.Local)), toUTF8([]byte(a.Domain))
	p.list = append(p.list, a)
}

func (p *addressParser) reset() {
	p.phrase, p.comment = p.phrase[:0], nil
	p.token, p.at, p.spec = 0, -1, [3]int{0, -1, 0}
	p.space, p.quoted, p.done = false, false, false
}

// isWord reports whether b may be a local part that stands alone.
func isWord(b []byte) bool {
	for _, c := range b {
		if !isAtext(c) && c != '.' && c < 0x80 {
			return false
		}
	}
	return len(b) > 0 && !bytes.HasPrefix(b, []byte("=?"))
}

// splitSpec reads what stands between < and >: an addr-spec, perhaps behind a
// source route (RFC 5322 §4.4), a second < or "mailto:".
func splitSpec(b []byte) Address {
	b = bytes.TrimSpace(b[bytes.LastIndexByte(b, '<')+1:])
	if len(b) > 0 && b[0] == '@' {
		b = b[bytes.IndexByte(b, ':')+1:]
	}
	b = bytes.TrimPrefix(b, []byte("mailto:"))
	local, domain := b, []byte(nil)
	if at := bytes.LastIndexByte(b, '@'); at >= 0 {
		local, domain = bytes.TrimSpace(b[:at]), bytes.TrimSpace(b[at+1:])
	}
	if n := len(local); n >= 2 && local[0] == '"' && local[n-1] == '"' {
		local = unescape(local[1 : n-1])
	}
	return Address{Local: string(local), Domain: string(domain)}
}

// unescape takes the backslashes out of quoted pairs (RFC 5322 §3.2.1).
func unescape(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}
