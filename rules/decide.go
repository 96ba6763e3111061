package rules

import (
	"slices"
	"strings"
)

// Set is a compiled list of rules. It is immutable and safe for concurrent use.
// A nil *Set has no rules.
type Set struct {
	rules   []rule
	sources []source
}

// rule is a compiled Rule.
type rule struct {
	Rule
	cond    node
	folders []*template
}

// Names returns the names of the rules, in order.
func (s *Set) Names() []string {
	if s == nil {
		return nil
	}
	names := make([]string, len(s.rules))
	for i := range s.rules {
		names[i] = s.rules[i].Name
	}
	return names
}

// Only returns the set of those rules that are named, in the order of s, not of
// names. Names that s does not have are passed over; without names the result
// has no rules.
func (s *Set) Only(names ...string) *Set {
	if s == nil {
		return nil
	}
	only := &Set{sources: s.sources}
	for _, r := range s.rules {
		if slices.Contains(names, r.Name) {
			only.rules = append(only.rules, r)
		}
	}
	return only
}

// Decide says what becomes of m.
func (s *Set) Decide(m *Message) Decision { return s.walk(m, nil) }

// Explain is Decide, and tells see about every rule it looks at, in order.
// Rules behind the one that ended the walk are not looked at.
func (s *Set) Explain(m *Message, see func(Step)) Decision { return s.walk(m, see) }

// walk is the one place where rules are applied: an explanation that went
// another way than the decision would be a lie.
func (s *Set) walk(m *Message, see func(Step)) Decision {
	var d Decision
	if s == nil || len(s.rules) == 0 {
		d.Deliver = []Delivery{{}}
		return d
	}
	v := view{m: m, sources: s.sources, slots: make([]value, len(s.sources)), explain: see != nil}
	for i := range s.rules {
		r := &s.rules[i]
		step := Step{Rule: r.Name, Accounts: r.Accounts}
		v.captures, v.checks = nil, nil
		switch {
		case r.Accounts != nil && !slices.Contains(r.Accounts, m.Account):
			step.Verdict = OtherAccount
		case v.holds(&r.cond):
			step.Verdict = Matched
			d.Matched = append(d.Matched, r.Name)
			step.Action, step.Deliver = r.apply(&d, &v)
			step.Continue = r.Continue
		default:
			step.Verdict = Failed
		}
		if see != nil {
			step.Checks = v.checks
			see(step)
		}
		if step.Verdict == Matched && !r.Continue {
			break
		}
	}
	if d.Action == Deliver && len(d.Deliver) == 0 {
		d.Deliver = []Delivery{{}}
	}
	return d
}

// apply adds to d what r wants done and returns that.
func (r *rule) apply(d *Decision, v *view) (Action, []Delivery) {
	switch {
	case r.Then.Skip:
		d.Action, d.Deliver = Skip, nil
		return Skip, nil
	case r.Then.Drop:
		if len(d.Deliver) == 0 {
			d.Action = Drop
		}
		return Drop, nil
	}
	var folders []string
	for _, t := range r.folders {
		folders = append(folders, t.expand(v))
	}
	if folders == nil {
		folders = []string{""}
	}
	wanted := make([]Delivery, len(folders))
	for i, f := range folders {
		wanted[i] = Delivery{Dest: Dest{Folder: f, Flags: slices.Clone(r.Then.Flags)}, Rule: r.Name}
		d.add(wanted[i])
	}
	return Deliver, wanted
}

// add adds a delivery, or its flags to the one that goes to the same place.
func (d *Decision) add(w Delivery) {
	for i := range d.Deliver {
		have := &d.Deliver[i]
		if have.Target == w.Target && have.Dest.Folder == w.Dest.Folder {
			have.Dest.Flags = unite(have.Dest.Flags, w.Dest.Flags)
			return
		}
	}
	d.Deliver = append(d.Deliver, w)
}

// unite appends those of more to flags that are not there yet; flags have no
// case (RFC 9051 §2.3.2).
func unite(flags, more []string) []string {
	for _, f := range more {
		if !slices.ContainsFunc(flags, func(have string) bool { return strings.EqualFold(have, f) }) {
			flags = append(slices.Clip(flags), f)
		}
	}
	return flags
}
