package config

import (
	"cmp"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"popferry/rules"
)

// condDraft is a condition while it is read.
type condDraft struct {
	conds []rules.Cond
	rule  *ruleDraft
	depth int
}

func condKeys() section[condDraft] {
	test := func(d *decoder, v value, c *condDraft) {
		c.add(d, v, rules.Test{Key: v.key})
	}
	return section[condDraft]{
		keys: []key[condDraft]{
			{"from", "", "An address in From.", test},
			{"to", "", "An address in To.", test},
			{"cc", "", "An address in Cc.", test},
			{"bcc", "", "An address in Bcc.", test},
			{"reply_to", "", "An address in Reply-To.", test},
			{"sender", "", "The address in Sender.", test},
			{"recipient", "", "An address in To, Cc, Bcc, Delivered-To, X-Original-To or Envelope-To.", test},
			{"subject", "", "The decoded Subject.", test},
			{"header", "", "Any header field by its name: {X-Spam-Flag: \"YES*\"}.", readHeader},
			{"list_id", "", "What List-Id has between < and >.", test},
			{"body", "", "A decoded text part of the body; then the whole message is read before it is decided.", test},
			{"size", "", "Size in octets: \"<5M\", \">=500K\".", readSize},
			{"date", "", "Day of the message: \"2026-11-21\", \"2026-11\", \"<2026\", \">=2026-11-21\".", readDate},
			{"older_than", "", "Age of the message, by its date: 30d.", readAge},
			{"newer_than", "", "Likewise: 12h.", readAge},
			{"has_attachment", "", "yes: a file is attached; no: none is. The whole message is read before it is decided.", readYesNo},
			{"spam", "", "yes: X-Spam-Flag, X-Spam-Status or X-Spam says so; no: none does.", readYesNo},
			{"account", "", "Name of the account the message comes from.", test},
			{"any", "", "A list of conditions of which one must hold.", func(d *decoder, v value, c *condDraft) {
				if any := d.conds(v, c); len(any) > 0 {
					c.conds = append(c.conds, rules.Cond{Any: any})
				}
			}},
			{"all", "", "A list of conditions which all must hold.", func(d *decoder, v value, c *condDraft) {
				if all := d.conds(v, c); len(all) > 0 {
					c.conds = append(c.conds, rules.Cond{All: all})
				}
			}},
			{"not", "", "A condition that must not hold.", func(d *decoder, v value, c *condDraft) {
				if not := d.cond(v, c.rule, c.depth+1); not != nil {
					c.conds = append(c.conds, rules.Cond{Not: not})
				}
			}},
		},
	}
}

// add adds a test with the patterns in v. Without a good one there is no test.
func (c *condDraft) add(d *decoder, v value, t rules.Test) {
	at := &testPlaces{node: v.Node}
	t.Patterns, at.patterns = d.patterns(v)
	if len(t.Patterns) > 0 {
		c.conds = append(c.conds, rules.Cond{Test: &t})
		c.rule.tests[&t] = at
	}
}

// cond reads a mapping of conditions that must all hold; nil after an error.
func (d *decoder) cond(v value, r *ruleDraft, depth int) *rules.Cond {
	where := strings.TrimPrefix(v.where, "if of ")
	if depth > maxDepth {
		d.fail(v.Node, "config-too-complex", "the conditions of %s are nested more than %d deep", where, maxDepth)
		return nil
	}
	if v.Kind != yaml.MappingNode || len(v.Content) == 0 {
		e := d.fail(v.Node, "config-wrong-type", "%s in %s must be a group of conditions, not %s", v.key, where, kindOf(v.Node))
		e.Hint = `For example:  if: {from: "*@billing.example.com"}`
		if v.Kind == yaml.SequenceNode {
			e.Hint = "If one of several conditions is enough, put the list under any:"
		} else if v.Kind == yaml.MappingNode {
			e.Text = v.key + " in " + where + " is empty"
			e.Hint = "Remove it, and the rule always matches."
		}
		return nil
	}
	c := condDraft{rule: r, depth: depth}
	condKeys().read(d, v.Node, "if of "+where, &c)
	switch len(c.conds) {
	case 0:
		return nil
	case 1:
		return &c.conds[0]
	default:
		return &rules.Cond{All: c.conds}
	}
}

// conds reads a list of conditions.
func (d *decoder) conds(v value, c *condDraft) []rules.Cond {
	if v.Kind != yaml.SequenceNode || len(v.Content) == 0 {
		d.fail(v.Node, "config-wrong-type", "%s in %s must be a list of conditions", v.key, v.where).
			Hint = "For example:  any: [{from: \"*@a.example\"}, {list_id: \"*\"}]"
		return nil
	}
	var conds []rules.Cond
	for _, e := range d.list(v) {
		if one := d.cond(e, c.rule, c.depth+1); one != nil {
			conds = append(conds, *one)
		}
	}
	return conds
}

// readHeader reads {Name: pattern}; several names must all match.
func readHeader(d *decoder, v value, c *condDraft) {
	if v.Kind != yaml.MappingNode || len(v.Content) == 0 {
		d.fail(v.Node, "config-wrong-type", "header in %s must name header fields, not %s", v.where, kindOf(v.Node)).
			Hint = `For example:  header: {X-Spam-Flag: "YES*"}`
		return
	}
	d.pairs(v.Node, "header of "+v.where, func(k, val *yaml.Node) {
		c.add(d, value{Node: val, key: "header " + d.show(k), where: v.where}, rules.Test{Key: "header", Name: k.Value})
	})
}

var comparison = regexp.MustCompile(`^\s*(<=|>=|<|>)\s*(\S+)\s*$`)

func readSize(d *decoder, v value, c *condDraft) {
	if !d.isScalar(v) {
		return
	}
	m := comparison.FindStringSubmatch(v.Value)
	if m == nil {
		e := d.fail(v.Node, "config-size", "size in %s must be a comparison, not %s", v.where, d.show(v.Node))
		e.Hint = `For example:  size: "<5M"   or   size: ">=500K"`
		if _, ok := parseSize(v.Value); ok {
			e.Suggest = "less than or more than?"
		}
		return
	}
	n, ok := parseSize(m[2])
	if !ok {
		d.badSize(v, v.Value)
		return
	}
	c.addTest(v, rules.Test{Key: "size", Size: rules.SizeTest{Op: m[1], N: n}})
}

// addTest adds a test that has no patterns.
func (c *condDraft) addTest(v value, t rules.Test) {
	c.conds = append(c.conds, rules.Cond{Test: &t})
	c.rule.tests[&t] = &testPlaces{node: v.Node}
}

var dayText = regexp.MustCompile(`^\s*(<=|>=|<|>|=)?\s*([0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?)\s*$`)

func readDate(d *decoder, v value, c *condDraft) {
	if !d.isScalar(v) {
		return
	}
	m := dayText.FindStringSubmatch(v.Value)
	if m == nil {
		d.fail(v.Node, "config-date", "date in %s must be a day, a month or a year, not %s", v.where, d.show(v.Node)).
			Hint = `For example:  date: "2026-11-21"   date: "2026-11"   date: "<2026"   date: ">=2026-11-21"`
		return
	}
	c.addTest(v, rules.Test{Key: "date", Date: rules.DateTest{Op: cmp.Or(m[1], "="), Day: m[2]}})
}

func readAge(d *decoder, v value, c *condDraft) {
	if age := d.duration(v, time.Second, longest); age > 0 {
		c.addTest(v, rules.Test{Key: v.key, Age: age})
	}
}

func readYesNo(d *decoder, v value, c *condDraft) {
	errs := len(d.errs)
	if is := d.yes(v); len(d.errs) == errs {
		c.addTest(v, rules.Test{Key: v.key, No: !is})
	}
}

var patternKinds = []struct {
	name string
	kind rules.Kind
}{
	{"is", rules.Is},
	{"contains", rules.Contains},
	{"glob", rules.Glob},
	{"regex", rules.Regex},
	{"domain", rules.Domain},
	{"exists", rules.Exists},
	{"local", rules.Local},
	{"detail", rules.Detail},
}

// patterns reads a pattern or a list of them, and their places. A plain string
// is a glob. The text is taken as it is written: $ has its own meaning there.
func (d *decoder) patterns(v value) ([]rules.Pattern, []*yaml.Node) {
	if v.Kind == yaml.SequenceNode && len(v.Content) == 0 {
		d.fail(v.Node, "config-no-value", "%s in %s is an empty list, which nothing matches", v.key, v.where)
	}
	var ps []rules.Pattern
	var nodes []*yaml.Node
	add := func(e value, kind rules.Kind) {
		if p, ok := d.pattern(e, kind); ok {
			ps, nodes = append(ps, p), append(nodes, e.Node)
		}
	}
	for _, e := range d.list(v) {
		if e.Kind == yaml.MappingNode {
			d.explicit(e, add)
		} else {
			add(e, rules.Glob)
		}
	}
	return ps, nodes
}

// explicit reads {regex: x} and its like; the text may be a list.
func (d *decoder) explicit(v value, add func(value, rules.Kind)) {
	kinds := make([]string, len(patternKinds))
	for i, k := range patternKinds {
		kinds[i] = k.name
	}
	if len(v.Content) != 2 {
		d.fail(v.Node, "config-pattern", "a pattern for %s in %s has exactly one of %s", v.key, v.where, strings.Join(kinds, ", ")).
			Hint = "Several patterns are a list: [{domain: a.example}, {contains: b}]"
		return
	}
	d.pairs(v.Node, "a pattern for "+v.key+" in "+v.where, func(k, val *yaml.Node) {
		for _, known := range patternKinds {
			if known.name == k.Value {
				for _, e := range d.list(value{Node: val, key: v.key, where: v.where}) {
					add(e, known.kind)
				}
				return
			}
		}
		e := d.fail(k, "config-unknown-key", "unknown kind of pattern %s for %s in %s", d.show(k), v.key, v.where)
		e.Suggest = didYouMean(k.Value, kinds)
		e.Hint = "Kinds: " + strings.Join(kinds, ", ") + `; a plain string is a glob ("*" and "?")`
	})
}

func (d *decoder) pattern(v value, kind rules.Kind) (rules.Pattern, bool) {
	if !d.isScalar(v) {
		return rules.Pattern{}, false
	}
	text := v.Value
	if kind == rules.Exists {
		text = "no"
		if d.yes(v) {
			text = "yes"
		}
	}
	if text == "" {
		d.fail(v.Node, "config-no-value", "a pattern for %s in %s is empty", v.key, v.where).
			Hint = "To find messages without the field:  {exists: no}"
		return rules.Pattern{}, false
	}
	return rules.Pattern{Kind: kind, Text: text}, true
}
