package rules

import (
	"math/bits"
	"strings"
)

// Most rules of a long list are about one sender, list or recipient, and none of
// them about the message at hand. Such rules are found by what the message has,
// in a few look-ups, instead of being tried one by one.

// indexFrom is how many rules a list must have for that to pay.
const indexFrom = 16

// class is a way in which a pattern can be looked up by a value.
type class int

const (
	wholeClass  class = iota // the whole value
	atClass                  // what stands behind its last @
	domainClass              // that, or a domain above it
	localClass               // what stands before it
	startClass               // what stands before the first @
	detailClass              // what stands between the first + of that and the @
	classes
)

// index finds rules by values. It is immutable.
type index struct {
	slots [][classes]map[string][]int32 // parallel to sources: key → ids of rules
	ids   int                           // rules that were compiled together
}

// maxIndexed is how many sources the index knows: their slots are bits of
// entry.need. Rules about others are tried one by one.
const maxIndexed = 64

// buildIndex gives each rule that can be looked up the tests of which one must
// hold.
func (s *Set) buildIndex() {
	if len(s.rules) < indexFrom {
		return
	}
	s.index = &index{slots: make([][classes]map[string][]int32, len(s.sources)), ids: len(s.rules)}
	s.entries = make([]entry, len(s.rules))
	for i := range s.rules {
		s.entries[i].id = i
		for _, t := range s.rules[i].cond.need() {
			s.entries[i].need |= 1 << t.slot
			for j := range t.any {
				key, c, _ := t.any[j].key()
				s.index.add(t.slot, c, key, int32(i)) //nolint:gosec // no list is so long
			}
		}
	}
}

func (x *index) add(slot int, c class, key string, rule int32) {
	m := x.slots[slot][c]
	if m == nil {
		m = map[string][]int32{}
		x.slots[slot][c] = m
	}
	m[key] = append(m[key], rule)
}

// need returns tests of which at least one holds whenever the condition does,
// and which can all be looked up; nil if there are none such.
func (n *node) need() []*test {
	switch n.op {
	case opTest:
		if n.test.lookedUp() {
			return []*test{n.test}
		}
	case opAll:
		for i := range n.kids {
			if need := n.kids[i].need(); need != nil {
				return need
			}
		}
	case opAny:
		var all []*test
		for i := range n.kids {
			need := n.kids[i].need()
			if need == nil {
				return nil
			}
			all = append(all, need...)
		}
		return all
	case opNot:
	}
	return nil
}

// lookedUp reports whether all patterns of a test have keys.
func (t *test) lookedUp() bool {
	if len(t.any) == 0 || t.body || t.slot >= maxIndexed {
		return false
	}
	for i := range t.any {
		if _, _, ok := t.any[i].key(); !ok {
			return false
		}
	}
	return true
}

// key is what a pattern is found by.
func (p *pattern) key() (string, class, bool) {
	switch p.source.Kind {
	case Is:
		return p.folded, wholeClass, true
	case Domain:
		return p.folded, domainClass, true
	case Glob:
		parts := p.glob.parts
		switch {
		case p.glob.single: // has a "?"
		case len(parts) == 1:
			return parts[0], wholeClass, true
		case len(parts) == 2 && parts[0] == "" && strings.LastIndexByte(parts[1], '@') == 0:
			return parts[1][1:], atClass, true
		case len(parts) == 2 && parts[0] != "" && parts[1] == "" && strings.IndexByte(parts[0], '@') == len(parts[0])-1:
			return strings.TrimSuffix(parts[0], "@"), startClass, true
		}
	case Local:
		if len(p.glob.parts) == 1 && !p.glob.single {
			return p.glob.parts[0], localClass, true
		}
	case Detail:
		if len(p.glob.parts) == 1 && !p.glob.single {
			return p.glob.parts[0], detailClass, true
		}
	case Contains, Regex, Exists:
	}
	return "", 0, false
}

// excluded reports whether a rule certainly does not match.
func (v *view) excluded(e entry) bool {
	for need := e.need &^ v.looked; need != 0; need &= need - 1 {
		v.findRules(bits.TrailingZeros64(need))
	}
	return e.need != 0 && !v.found[e.id]
}

// findRules marks the rules that a value of a source may be about.
func (v *view) findRules(slot int) {
	v.looked |= 1 << slot
	if v.found == nil {
		v.found = make([]bool, v.index.ids)
	}
	val := v.value(slot)
	maps := &v.index.slots[slot]
	mark := func(c class, key string) {
		for _, id := range maps[c][key] {
			v.found[id] = true
		}
	}
	for _, text := range val.folded {
		mark(wholeClass, text)
		local := localPart(text)
		mark(localClass, local)
		if _, detail, ok := strings.Cut(local, "+"); ok {
			mark(detailClass, detail)
		}
		domain := text
		if at := strings.LastIndexByte(text, '@'); at >= 0 {
			domain = text[at+1:]
			mark(atClass, domain)
			mark(startClass, text[:strings.IndexByte(text, '@')])
		}
		if maps[domainClass] == nil {
			continue
		}
		domain = strings.TrimSuffix(domain, ".")
		mark(domainClass, domain)
		for i := range len(domain) {
			if domain[i] == '.' {
				mark(domainClass, domain[i+1:])
			}
		}
	}
}
