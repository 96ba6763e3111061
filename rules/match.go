package rules

import (
	"regexp"
	"strings"
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

// truth is what is known of a condition: unknown is one that depends on a body
// that was not read yet.
type truth int8

const (
	no truth = iota
	yes
	unknown
)

func truthOf(ok bool) truth {
	if ok {
		return yes
	}
	return no
}

func (t truth) not() truth {
	switch t {
	case no:
		return yes
	case yes:
		return no
	default:
		return unknown
	}
}

// holds evaluates a condition from left to right and stops as soon as the
// outcome is known. Captures of a part that does not hold are forgotten.
func (v *view) holds(n *node) truth {
	before := v.captures
	var ok truth
	switch n.op {
	case opTest:
		ok = v.passes(n.test)
	case opNot:
		v.negated = !v.negated
		ok = v.holds(&n.kids[0]).not()
		v.negated = !v.negated
		v.captures = before
	case opAll:
		ok = v.all(n.kids)
	case opAny:
		ok = v.any(n.kids)
	}
	if ok != yes {
		v.captures = before
	}
	return ok
}

// all is no if one of kids is, though another is unknown: a body does not change
// that.
func (v *view) all(kids []node) truth {
	all := yes
	for i := range kids {
		switch v.holds(&kids[i]) {
		case no:
			return no
		case unknown:
			all = unknown
		case yes:
		}
	}
	return all
}

// any is unknown from the first of kids that is: it may hold, and then its
// captures count and not those of a later one.
func (v *view) any(kids []node) truth {
	for i := range kids {
		if one := v.holds(&kids[i]); one != no {
			return one
		}
	}
	return no
}

// test is a compiled Test.
type test struct {
	source *Test
	body   bool // it cannot be made on a header
	slot   int  // of view.slots; of keys with patterns
	any    []pattern
}

// pattern is a compiled Pattern.
type pattern struct {
	source  *Pattern
	folded  string // Is, Contains, Domain; of a Regex what every match holds
	mailbox bool   // Domain: of an address, not of a list
	glob    glob   // Glob, Local, Detail
	re      *regexp.Regexp
	yes     bool // Exists
}

// passes evaluates one test.
func (v *view) passes(t *test) truth {
	if t.body && v.m.Body == nil {
		v.note(Check{Test: t.source, Present: true, Unread: true})
		return unknown
	}
	if t.any != nil {
		return v.patterns(t)
	}
	c := Check{Test: t.source, Present: true}
	switch t.source.Key {
	case "size":
		c.Size = v.m.Size
		c.Holds = t.source.Size.holds(c.Size)
	case "date", "older_than", "newer_than":
		v.dated(&c)
	case "spam":
		c.Values = v.m.Header.spamMarks()
		c.Holds = (len(c.Values) > 0) != t.source.No
	case "has_attachment":
		c.Values = v.content().attachments()
		c.Holds = (len(c.Values) > 0) != t.source.No
	}
	v.note(c)
	return truthOf(c.Holds)
}

// patterns looks for the first pattern that one of the values matches.
func (v *view) patterns(t *test) truth {
	val := v.value(t.slot)
	for i := range t.any {
		p := &t.any[i]
		if p.source.Kind == Exists {
			if p.yes == val.present {
				v.note(Check{Test: t.source, Present: val.present, Values: val.texts, Pattern: p.source, Holds: true})
				return yes
			}
			continue
		}
		for j := range val.texts {
			if v.matches(p, val.texts[j], val.folded[j]) {
				v.note(Check{Test: t.source, Present: true, Values: val.texts[j : j+1], Pattern: p.source, Holds: true})
				return yes
			}
		}
	}
	if v.explain {
		v.note(Check{Test: t.source, Present: val.present, Values: val.texts})
	}
	return no
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
	case Local:
		return p.glob.match(localPart(folded))
	case Detail:
		_, detail, ok := strings.Cut(localPart(folded), "+")
		return ok && p.glob.match(detail)
	case Regex:
		if !strings.Contains(folded, p.folded) {
			return false
		}
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

// localPart is what stands before the @ of an address, all of it if there is
// none.
func localPart(addr string) string {
	if at := strings.LastIndexByte(addr, '@'); at >= 0 {
		return addr[:at]
	}
	return addr
}

func (s SizeTest) holds(n int64) bool { return compares(s.Op, n, s.N) }

// dated evaluates the tests that ask when a message was sent.
func (v *view) dated(c *Check) {
	t := v.when()
	if t.IsZero() {
		c.Present = false
		return
	}
	c.Values = []string{t.Format(dayFormat)}
	switch age := v.m.Now.Sub(t); {
	case c.Test.Key == "date":
		day := c.Test.Date.Day
		c.Holds = compares(c.Test.Date.Op, c.Values[0][:len(day)], day)
	case v.m.Now.IsZero():
	case c.Test.Key == "older_than":
		c.Age, c.Holds = age, age > c.Test.Age
	default:
		c.Age, c.Holds = age, age < c.Test.Age
	}
}

// dayFormat is that of the days which are compared: as texts, they are in the
// order of time.
const dayFormat = "2006-01-02"

// compares evaluates a op b.
func compares[T int64 | string](op string, a, b T) bool {
	switch op {
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	case ">=":
		return a >= b
	case "=":
		return a == b
	default:
		return false
	}
}
