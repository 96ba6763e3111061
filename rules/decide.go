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
	index   *index // nil if the list is short
	entries []entry
}

// entry is what the index needs of a rule, parallel to Set.rules and apart from
// it because all entries are read for every message.
type entry struct {
	need uint64 // a bit for each slot the rule is looked up by; 0 if it is not
	id   int    // in the list that was compiled
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
	only := &Set{sources: s.sources, index: s.index}
	for i, r := range s.rules {
		if slices.Contains(names, r.Name) {
			only.rules = append(only.rules, r)
			if s.index != nil {
				only.entries = append(only.entries, s.entries[i])
			}
		}
	}
	return only
}

// Targets returns the names of the targets that rules deliver to, sorted, each
// once.
func (s *Set) Targets() []string {
	if s == nil {
		return nil
	}
	var names []string
	for i := range s.rules {
		names = append(names, s.rules[i].Then.Targets...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Decide says what becomes of m.
func (s *Set) Decide(m *Message) Decision { return s.walk(m, nil) }

// Explain is Decide, and tells see about every rule it looks at, in order.
// Rules behind the one that ended the walk are not looked at.
func (s *Set) Explain(m *Message, see func(Step)) Decision { return s.walk(m, see) }

// walk is the one place where rules are applied: an explanation that went
// another way than the decision would be a lie.
func (s *Set) walk(m *Message, see func(Step)) Decision {
	var d draft
	if s != nil && len(s.rules) > 0 {
		v := view{m: m, sources: s.sources, slots: make([]value, len(s.sources)), explain: see != nil}
		if see == nil { // who wants to know why must look at every rule
			v.index = s.index
		}
		for i := range s.rules {
			if v.index != nil && v.excluded(s.entries[i]) {
				continue
			}
			r := &s.rules[i]
			verdict := v.try(r)
			var asked []Delivery
			switch verdict {
			case Matched:
				asked = d.apply(r, &v)
			case Undecided:
				d.Decision = Decision{Matched: d.Matched, Action: NeedBody}
			case Failed, OtherAccount:
			}
			if see != nil {
				see(v.step(r, verdict, asked))
			}
			if verdict == Undecided || verdict == Matched && !r.Continue {
				break
			}
		}
	}
	return d.finish()
}

// try asks whether r matches.
func (v *view) try(r *rule) Verdict {
	v.captures, v.checks = nil, nil
	if r.Accounts != nil && !slices.Contains(r.Accounts, v.m.Account) {
		return OtherAccount
	}
	switch v.holds(&r.cond) {
	case yes:
		return Matched
	case unknown:
		return Undecided
	default:
		return Failed
	}
}

// step tells what came of r.
func (v *view) step(r *rule, verdict Verdict, asked []Delivery) Step {
	s := Step{Rule: r.Name, Verdict: verdict, Accounts: r.Accounts, Checks: v.checks}
	if verdict == Matched {
		s.Action, s.Deliver, s.Flags, s.Keep, s.Continue = r.action(), asked, r.Then.Flags, r.Then.Keep, r.Continue
	}
	return s
}

// action is what the rule wants done.
func (r *rule) action() Action {
	switch {
	case r.Then.Skip:
		return Skip
	case r.Then.Drop:
		return Drop
	default:
		return Deliver
	}
}

// places reports whether the rule says where to deliver.
func (r *rule) places() bool { return r.folders != nil || r.Then.Targets != nil || r.Then.To != nil }

// draft is a decision while rules still add to it.
type draft struct {
	Decision
	flags []string // of rules that named no place, for what is delivered below them
}

// apply adds what r wants done, and returns the deliveries it asked for.
func (d *draft) apply(r *rule, v *view) []Delivery {
	d.Matched = append(d.Matched, r.Name)
	if k := r.Then.Keep; k != nil {
		longest := *k
		if d.Keep != nil {
			longest = k.longer(*d.Keep)
		}
		d.Keep = &longest
	}
	switch {
	case r.Then.Skip:
		d.Action, d.Deliver, d.Keep = Skip, nil, nil
		return nil
	case r.Then.Drop:
		if len(d.Deliver) == 0 {
			d.Action = Drop
		}
		return nil
	case r.Continue && !r.places():
		d.flags = unite(d.flags, r.Then.Flags)
		return nil
	}
	asked := r.deliveries(v)
	for _, w := range asked {
		w.Dest.Flags = unite(slices.Clone(w.Dest.Flags), d.flags)
		w.Dest.Rcpt = slices.Clone(w.Dest.Rcpt)
		d.Deliver = merged(d.Deliver, w)
	}
	return asked
}

// deliveries are the copies that r asks for: each folder at each target.
func (r *rule) deliveries(v *view) []Delivery {
	targets := r.Then.Targets
	if targets == nil {
		targets = []string{""}
	}
	var all []Delivery
	for _, t := range targets {
		w := Delivery{Target: t, Rule: r.Name}
		if r.folders == nil {
			all = append(all, w)
		}
		for _, f := range r.folders {
			w.Dest.Folder, w.Derived = f.expand(v), f.literal == ""
			all = append(all, w)
		}
	}
	for i := range all {
		all[i].Dest.Flags, all[i].Dest.Rcpt = slices.Clone(r.Then.Flags), slices.Clone(r.Then.To)
	}
	return all
}

// merged adds a delivery to list, or its flags and recipients to the one that
// goes to the same place. w becomes list's.
func merged(list []Delivery, w Delivery) []Delivery {
	for i := range list {
		have := &list[i]
		if have.Target == w.Target && have.Dest.Folder == w.Dest.Folder && (have.Dest.Rcpt == nil) == (w.Dest.Rcpt == nil) {
			have.Dest.Flags = unite(have.Dest.Flags, w.Dest.Flags)
			have.Dest.Rcpt = unite(have.Dest.Rcpt, w.Dest.Rcpt)
			have.Derived = have.Derived && w.Derived
			return list
		}
	}
	return append(list, w)
}

// finish adds the implicit keep where no rule named a place.
func (d *draft) finish() Decision {
	if d.Action == Deliver && len(d.Deliver) == 0 {
		d.Deliver = []Delivery{{Dest: Dest{Flags: d.flags}}}
	}
	return d.Decision
}

// unite appends those of more to list that are not there yet. Flags have no case
// (RFC 9051 §2.3.2), and no mail system that is in use tells recipients apart by
// it.
func unite(list, more []string) []string {
	for _, s := range more {
		if !slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, s) }) {
			list = append(slices.Clip(list), s)
		}
	}
	return list
}

// For returns the deliveries of d with those to every target written out as one
// for each of targets. Of two to one folder of one target one is left.
func (d Decision) For(targets []string) []Delivery { return d.Append(nil, targets) }

// Append is For into an empty list.
func (d Decision) Append(list []Delivery, targets []string) []Delivery {
	for _, w := range d.Deliver {
		if w.Target != "" {
			list = merged(list, w.toTarget(w.Target))
			continue
		}
		for _, name := range targets {
			list = merged(list, w.toTarget(name))
		}
	}
	return list
}

// toTarget is a delivery to one target that shares nothing with w.
func (w Delivery) toTarget(target string) Delivery {
	w.Target = target
	w.Dest.Flags, w.Dest.Rcpt = slices.Clone(w.Dest.Flags), slices.Clone(w.Dest.Rcpt)
	return w
}
