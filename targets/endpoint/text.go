package endpoint

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable makes one line of printable text of octets that came from a server
// or from mail: control, format and invalid octets show as escapes, so that
// nothing can move a terminal's cursor or forge a log line. Octets beyond max
// are left out and show as "…".
func Printable(s string, max int) string {
	if len(s) <= max && clean(s) {
		return s
	}
	cut := len(s) > max
	if cut {
		for max > 0 && !utf8.RuneStart(s[max]) {
			max--
		}
		s = s[:max]
	}
	s = strconv.Quote(s)
	s = strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`)
	if cut {
		s += "…"
	}
	return s
}

// clean reports whether nothing in s needs an escape, which is nearly always so.
func clean(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}
