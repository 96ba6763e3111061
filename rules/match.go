package rules

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// node is a compiled Cond.
type node struct {
	op   operator
	kids []node
	test *test
}

type operator int

const (
	opTest operator = iota
	opAll
	opAny
	opNot
)

// test is a compiled Test.
type test struct {
	source *Test
	slot   int // of view.slots; not for size
	any    []pattern
	size   SizeTest
}

// pattern is a compiled Pattern.
type pattern struct {
	source  *Pattern
	folded  string // Is, Contains, Domain
	mailbox bool   // Domain: of an address, not of a list
	glob    glob
	re      *regexp.Regexp
	yes     bool // Exists
}

// source is one value that tests look at: a key, and for "header" the name of
// the field.
type source struct{ key, name string }

// view is one message as the rules see it during one walk. It decodes a value
// when the first test asks for it and keeps it for the others.
type view struct {
	m        *Message
	sources  []source
	slots    []value // parallel to sources
	captures []string

	explain bool    // somebody wants an explanation
	checks  []Check // then, of the current rule
	negated bool    // under an odd number of nots
}

// value is what a source has to say about a message.
type value struct {
	ready   bool
	present bool     // there is such a field, whatever is in it
	texts   []string // several for several fields or addresses
	folded  []string // texts, for comparing without case
}

func (v *view) value(slot int) *value {
	val := &v.slots[slot]
	if !val.ready {
		val.ready = true
		val.read(v.m, v.sources[slot])
	}
	return val
}

func (val *value) read(m *Message, s source) {
	field := fieldOf(s)
	if s.key == "account" {
		val.present, val.texts = true, []string{m.Account}
	} else {
		val.present = m.Header.Raw(field) != nil
	}
	if !val.present {
		return
	}
	switch s.key {
	case "from", "to", "cc":
		for _, a := range m.Header.Addresses(field) {
			val.texts = append(val.texts, a.Addr())
		}
	case "subject":
		val.texts = []string{m.Header.Text(field)}
	case "header":
		for _, raw := range m.Header.Values(field) {
			val.texts = append(val.texts, decodeText(raw))
		}
	case "list_id":
		if id, _ := m.Header.ListID(); id != "" {
			val.texts = []string{id}
		}
	}
	val.folded = make([]string, len(val.texts))
	for i, t := range val.texts {
		val.folded[i] = fold(t)
	}
}

// fieldOf names the header field a source is about; "" if it is about none.
func fieldOf(s source) string {
	switch s.key {
	case "header":
		return s.name
	case "from":
		return "From"
	case "to":
		return "To"
	case "cc":
		return "Cc"
	case "subject":
		return "Subject"
	case "list_id":
		return "List-Id"
	default:
		return ""
	}
}

// holds evaluates a condition from left to right and stops as soon as the
// outcome is known. Captures of a part that does not hold are forgotten.
func (v *view) holds(n *node) bool {
	before := v.captures
	ok := n.op == opAll
	switch n.op {
	case opTest:
		ok = v.passes(n.test)
	case opNot:
		v.negated = !v.negated
		ok = !v.holds(&n.kids[0])
		v.negated = !v.negated
		v.captures = before
	case opAll, opAny:
		for i := range n.kids {
			if ok = v.holds(&n.kids[i]); ok == (n.op == opAny) {
				break
			}
		}
	}
	if !ok {
		v.captures = before
	}
	return ok
}

func (v *view) passes(t *test) bool {
	if t.source.Key == "size" {
		ok := t.size.holds(v.m.Size)
		v.note(Check{Test: t.source, Size: v.m.Size, Present: true, Holds: ok})
		return ok
	}
	val := v.value(t.slot)
	for i := range t.any {
		p := &t.any[i]
		if p.source.Kind == Exists {
			if p.yes == val.present {
				v.note(Check{Test: t.source, Present: val.present, Values: val.texts, Pattern: p.source, Holds: true})
				return true
			}
			continue
		}
		for j := range val.texts {
			if v.matches(p, val.texts[j], val.folded[j]) {
				v.note(Check{Test: t.source, Present: true, Values: val.texts[j : j+1], Pattern: p.source, Holds: true})
				return true
			}
		}
	}
	v.note(Check{Test: t.source, Present: val.present, Values: val.texts})
	return false
}

func (v *view) note(c Check) {
	if v.explain {
		c.Negated = v.negated
		v.checks = append(v.checks, c)
	}
}

func (v *view) matches(p *pattern, text, folded string) bool {
	switch p.source.Kind {
	case Glob:
		return p.glob.match(folded)
	case Is:
		return folded == p.folded
	case Contains:
		return strings.Contains(folded, p.folded)
	case Domain:
		at := strings.LastIndexByte(folded, '@')
		if at < 0 && p.mailbox {
			return false // a local part alone
		}
		domain := strings.TrimSuffix(folded[at+1:], ".")
		rest, ok := strings.CutSuffix(domain, p.folded)
		return ok && (rest == "" || rest[len(rest)-1] == '.')
	case Regex:
		if p.re.NumSubexp() == 0 {
			return p.re.MatchString(text)
		}
		if groups := p.re.FindStringSubmatch(text); groups != nil {
			v.captures = groups
			return true
		}
	case Exists: // not about a text
	}
	return false
}

func (s SizeTest) holds(n int64) bool {
	switch s.Op {
	case "<":
		return n < s.N
	case "<=":
		return n <= s.N
	case ">":
		return n > s.N
	case ">=":
		return n >= s.N
	default:
		return false
	}
}

// glob is a pattern split at its stars. All literal parts between two stars are
// taken at their leftmost place, which is never wrong, so there is no
// backtracking into an earlier part.
type glob struct {
	parts []string // folded, with "?" for any rune
}

func compileGlob(text string) glob {
	return glob{parts: strings.Split(fold(text), "*")}
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
