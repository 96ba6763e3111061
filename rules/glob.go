package rules

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// glob is a pattern split at its stars. All literal parts between two stars are
// taken at their leftmost place, which is never wrong, so there is no
// backtracking into an earlier part.
type glob struct {
	parts  []string // folded, with "?" for any rune
	single bool     // there is a "?"
}

func compileGlob(text string) glob {
	return glob{parts: strings.Split(fold(text), "*"), single: strings.Contains(text, "?")}
}

// match compares the whole of s, which is folded.
func (g glob) match(s string) bool {
	first := g.parts[0]
	n, ok := prefixLen(s, first)
	if len(g.parts) == 1 {
		return ok && n == len(s)
	}
	if !ok {
		return false
	}
	s = s[n:]
	last := g.parts[len(g.parts)-1]
	for _, part := range g.parts[1 : len(g.parts)-1] {
		if n = indexEnd(s, part); n < 0 {
			return false
		}
		s = s[n:]
	}
	start := suffixStart(s, last)
	if start < 0 {
		return false
	}
	_, ok = prefixLen(s[start:], last)
	return ok
}

// prefixLen matches the beginning of s with a part and returns how much of s
// that took.
func prefixLen(s, part string) (int, bool) {
	if strings.IndexByte(part, '?') < 0 {
		return len(part), strings.HasPrefix(s, part)
	}
	rest := s
	for _, want := range part {
		got, n := utf8.DecodeRuneInString(rest)
		if n == 0 || want != '?' && got != want {
			return 0, false
		}
		rest = rest[n:]
	}
	return len(s) - len(rest), true
}

// indexEnd returns where the leftmost match of part in s ends, -1 without one.
func indexEnd(s, part string) int {
	if strings.IndexByte(part, '?') < 0 {
		if i := strings.Index(s, part); i >= 0 {
			return i + len(part)
		}
		return -1
	}
	for i := 0; i < len(s); {
		if n, ok := prefixLen(s[i:], part); ok {
			return i + n
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		i += n
	}
	return -1
}

// suffixStart returns where the end of s that is as long as part, in runes,
// begins; -1 if s is shorter.
func suffixStart(s, part string) int {
	start := len(s)
	for range utf8.RuneCountInString(part) {
		if start == 0 {
			return -1
		}
		_, n := utf8.DecodeLastRuneInString(s[:start])
		start -= n
	}
	return start
}

// fold maps every rune to one representative of those that differ in case only
// (unicode.SimpleFold), so that equal folded strings are equal without case.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		if 'A' <= least && least <= 'Z' { // the Kelvin sign, the long s
			least += 'a' - 'A'
		}
		return least
	}, s)
}
