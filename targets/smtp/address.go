package smtp

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckAddress tells why s cannot stand between the angle brackets of an SMTP
// command, nil if it can: a Mailbox of RFC 5321 §4.1.2, where UTF-8 is allowed
// (RFC 6531 §3.3). What passes holds no blank outside quotes, no line break and
// no angle bracket, so it cannot be read as a parameter or a second command.
func CheckAddress(s string) error {
	at := strings.LastIndexByte(s, '@')
	switch {
	case at < 0:
		return errors.New("an address needs an @ and a domain")
	case len(s) > maxPath:
		return fmt.Errorf("an address has at most %d octets", maxPath)
	case !utf8.ValidString(s):
		return errors.New("an address is ASCII or UTF-8")
	case !isLocalPart(s[:at]):
		return errors.New("what stands before the @ is no local part")
	case !isDomain(s[at+1:]):
		return errors.New("what stands behind the @ is no domain")
	}
	return nil
}

// maxPath is a local part, an @ and a domain (RFC 5321 §4.5.3.1).
const maxPath = 64 + 1 + 255

func isLocalPart(s string) bool {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return isQuoted(s[1 : len(s)-1])
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, r := range atom {
			if r < utf8.RuneSelf && !isAlphanumeric(r) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) || isOdd(r) {
				return false
			}
		}
	}
	return true
}

// isQuoted is the inside of a Quoted-string. The angle brackets that RFC 5321
// allows there are refused: receivers that look for the first > end the path at
// it.
func isQuoted(s string) bool {
	escaped := false
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '<' || r == '>' || r == '"' && !escaped || isOdd(r) {
			return false
		}
		escaped = r == '\\' && !escaped
	}
	return !escaped
}

func isDomain(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && !strings.ContainsFunc(inner, func(r rune) bool {
			return !isAlphanumeric(r) && r != '.' && r != ':' && r != '-'
		})
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool {
			return r < utf8.RuneSelf && !isAlphanumeric(r) && r != '-' && r != '_' || isOdd(r)
		}) {
			return false
		}
	}
	return true
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// isOdd reports what is control or blank to some reader of UTF-8: C1 controls,
// the line and paragraph separators, the no-break space.
func isOdd(r rune) bool {
	return 0x80 <= r && r <= 0xa0 || r == 0x2028 || r == 0x2029 || r == utf8.RuneError
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
