package rules

import "slices"

// Spares reports whether the header of a message of that account alone may be
// enough to drop or skip it, so that asking before the download can pay.
func (s *Set) Spares(account string) bool {
	if s == nil {
		return false
	}
	return slices.ContainsFunc(s.rules, func(r rule) bool {
		mine := r.Accounts == nil || slices.Contains(r.Accounts, account)
		return mine && r.action() != Deliver && r.cond.headerTells(true)
	})
}

// headerTells reports whether the condition can come out as want without a body.
func (n *node) headerTells(want bool) bool {
	tells := func(kid node) bool { return kid.headerTells(want) }
	switch {
	case n.op == opTest:
		return !n.test.body
	case n.op == opNot:
		return n.kids[0].headerTells(!want)
	case (n.op == opAll) == want: // all of them must
		return !slices.ContainsFunc(n.kids, func(kid node) bool { return !kid.headerTells(want) })
	default: // one of them is enough
		return slices.ContainsFunc(n.kids, tells)
	}
}

// Keeps reports whether a rule says that messages go from the maildrop when
// they have an age.
func (s *Set) Keeps() bool {
	return s != nil && slices.ContainsFunc(s.rules, func(r rule) bool { return r.Then.Keep != nil && r.Then.Keep.For > 0 })
}
