package convert

import (
	"slices"
	"strconv"
	"strings"

	"popferry/rules"
)

// cond is a condition. Equal ones are one pointer: an algebra makes each once,
// so that a chain of a thousand elsifs can be compared branch by branch.
type cond struct {
	id   int
	op   op
	kids []*cond     // of all, any and not
	test *rules.Test // of a test
	size int         // tests in it
}

type op byte

const (
	opTest op = iota
	opAll
	opAny
	opNot
)

// maxSize bounds the tests of one condition, and with its nesting what a small
// script can grow to.
const maxSize = 2000

// algebra makes conditions and simplifies them as it goes. What grows beyond
// maxSize becomes the condition that never holds, and is remembered as overflow.
type algebra struct {
	known    map[string]*cond
	yes, no  *cond
	overflow bool
	work     int // conditions looked at so far
}

// maxWork bounds the time a hostile script can take.
const maxWork = 2_000_000

func newAlgebra() *algebra {
	a := &algebra{known: map[string]*cond{}}
	a.yes = a.intern("&", &cond{op: opAll})
	a.no = a.intern("|", &cond{op: opAny})
	return a
}

// intern returns the condition that has key, which is c if there was none.
func (a *algebra) intern(key string, c *cond) *cond {
	if have := a.known[key]; have != nil {
		return have
	}
	c.id = len(a.known)
	a.known[key] = c
	return c
}

// of is the condition of a test.
func (a *algebra) of(t rules.Test) *cond {
	var key strings.Builder
	key.WriteString(strconv.Quote(t.Key) + strconv.Quote(t.Name) + t.Size.Op + strconv.FormatInt(t.Size.N, 10))
	for _, p := range t.Patterns {
		key.WriteString(p.Kind.String() + strconv.Quote(p.Text))
	}
	return a.intern("t"+key.String(), &cond{op: opTest, test: &t, size: 1})
}

// join makes an all or any of kids, which are simplified and more than one.
func (a *algebra) join(o op, kids []*cond) *cond {
	var key strings.Builder
	key.WriteString(map[op]string{opAll: "&", opAny: "|"}[o])
	size := 0
	for _, k := range kids {
		key.WriteString(" " + strconv.Itoa(k.id))
		size += k.size
	}
	if size > maxSize {
		a.overflow = true
		return a.no
	}
	return a.intern(key.String(), &cond{op: o, kids: kids, size: size})
}

// not is the opposite of c. That of an any is an all of opposites, so that each
// of them can be compared with others.
func (a *algebra) not(c *cond) *cond {
	switch {
	case c == a.yes:
		return a.no
	case c == a.no:
		return a.yes
	case c.op == opNot:
		return c.kids[0]
	case c.op == opAny:
		all := make([]*cond, len(c.kids))
		for i, k := range c.kids {
			all[i] = a.not(k)
		}
		return a.and(all...)
	}
	return a.intern("!"+strconv.Itoa(c.id), &cond{op: opNot, kids: []*cond{c}, size: c.size})
}

// and is all of cs.
func (a *algebra) and(cs ...*cond) *cond {
	var parts []*cond
	for _, c := range cs {
		parts = append(parts, a.parts(c)...)
	}
	has := make(map[*cond]bool, len(parts))
	for _, p := range parts {
		has[p] = true
	}
	var kept []*cond
	for _, p := range parts {
		switch p = a.given(p, has); {
		case p == a.no || has[a.not(p)]:
			return a.no
		case p != a.yes:
			for _, q := range a.parts(p) {
				if !slices.Contains(kept, q) {
					kept = append(kept, q)
				}
			}
		}
		a.work += len(kept)
	}
	if a.work > maxWork {
		a.overflow = true
		return a.no
	}
	switch len(kept) {
	case 0:
		return a.yes
	case 1:
		return kept[0]
	}
	return a.join(opAll, kept)
}

// parts are the conditions that must all hold for c.
func (a *algebra) parts(c *cond) []*cond {
	if c.op == opAll {
		return c.kids
	}
	return []*cond{c}
}

// given is p where all of has hold: an any that has one of them always holds,
// and of its other members only those remain that can hold.
func (a *algebra) given(p *cond, has map[*cond]bool) *cond {
	if a.work > maxWork {
		return p
	}
	switch p.op {
	case opAny:
		a.work += len(p.kids)
		var left []*cond
		for _, k := range p.kids {
			if a.all(k, has) {
				return a.yes
			}
			if !slices.ContainsFunc(a.parts(k), func(q *cond) bool { return has[a.not(q)] }) {
				left = append(left, k)
			}
		}
		return a.or(left...)
	case opNot: // of an all: one of its members must not hold
		if p.kids[0].op == opAll {
			a.work += len(p.kids[0].kids)
			var left []*cond
			for _, k := range p.kids[0].kids {
				if has[a.not(k)] {
					return a.yes
				}
				if !has[k] {
					left = append(left, k)
				}
			}
			return a.not(a.and(left...))
		}
	}
	return p
}

// all reports whether c holds where all of has do.
func (a *algebra) all(c *cond, has map[*cond]bool) bool {
	for _, p := range a.parts(c) {
		if !has[p] {
			return false
		}
	}
	return true
}

// implies reports whether b can be seen to hold wherever c does.
func (a *algebra) implies(c, b *cond) bool {
	return c == a.no || a.and(c, b) == c
}

// or is any of cs.
func (a *algebra) or(cs ...*cond) *cond {
	var kept []*cond
	for _, c := range cs {
		kids := []*cond{c}
		if c.op == opAny {
			kids = c.kids
		}
		for _, k := range kids {
			switch {
			case k == a.yes:
				return a.yes
			case slices.Contains(kept, a.not(k)):
				return a.yes
			case k != a.no && !slices.Contains(kept, k):
				kept = append(kept, k)
			}
		}
		if a.work += len(kept); a.work > maxWork {
			a.overflow = true
			return a.no
		}
	}
	switch len(kept) {
	case 0:
		return a.no
	case 1:
		return kept[0]
	}
	return a.join(opAny, kept)
}
