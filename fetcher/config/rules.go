package config

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/rules"
)

// ruleDraft is a rule while it is read, with the places of what the compiler
// may complain about.
type ruleDraft struct {
	rules.Rule
	node, name *yaml.Node
	broken     bool                        // has an error, so the compiler sees less than is there
	places     map[string]*yaml.Node       // "then.folder[1]"
	tests      map[*rules.Test]*testPlaces // below if
	targets    []ref
}

// testPlaces are the places of a test and of each of its patterns.
type testPlaces struct {
	node     *yaml.Node
	patterns []*yaml.Node
}

func ruleKeys() section[ruleDraft] {
	return section[ruleDraft]{keys: []key[ruleDraft]{
		{"name", "", "Name of the rule, unique.", func(d *decoder, v value, r *ruleDraft) {
			r.Name, r.name = d.text(v), v.Node
			if r.Name != "" {
				d.name(v.Node, "a rule", r.Name)
			}
		}},
		{"accounts", "all", "Accounts whose messages the rule is for.", func(d *decoder, v value, r *ruleDraft) {
			r.Accounts = []string{}
			r.places["accounts"] = v.Node
			for _, e := range d.list(v) {
				if s := d.text(e); s != "" {
					r.Accounts = append(r.Accounts, s)
					d.accountRefs = append(d.accountRefs, ref{e, s})
				}
			}
		}},
		{"if", "always", "What must hold; of several keys all, of a list any.", func(d *decoder, v value, r *ruleDraft) {
			r.If = d.cond(v, r, 1)
		}},
		{"then", "", "What becomes of a message that matches.", func(d *decoder, v value, r *ruleDraft) {
			r.places["then"] = v.Node
			thenKeys().read(d, v.Node, "then of "+v.where, r)
			if v.Kind == yaml.MappingNode && len(v.Content) == 0 {
				d.fail(v.Node, "config-no-value", "then of %s is empty", v.where).
					Hint = "For the target's own folder write  then: {folder: INBOX}"
			}
		}},
		{"continue", "no", "yes goes on to the rules below; their deliveries are added.", func(d *decoder, v value, r *ruleDraft) {
			r.Continue = d.yes(v)
			r.places["continue"] = v.Node
		}},
	}}
}

func thenKeys() section[ruleDraft] {
	return section[ruleDraft]{
		keys: []key[ruleDraft]{
			{
				"folder", "the target's", "Folder, or a list for several copies; / separates levels, ${list_id} and the like are filled in.",
				func(d *decoder, v value, r *ruleDraft) {
					r.Then.Folders = []string{}
					r.places["then.folder"] = v.Node
					for _, e := range d.list(v) {
						if s := d.template(e); s != "" {
							r.places[index("then.folder", len(r.Then.Folders))] = e.Node
							r.Then.Folders = append(r.Then.Folders, s)
						}
					}
				},
			},
			{
				"target", "every target of the job", "Target, or a list; also one that the job does not deliver to otherwise.",
				func(d *decoder, v value, r *ruleDraft) {
					r.Then.Targets = []string{}
					r.places["then.target"] = v.Node
					for _, ref := range d.refs(v) {
						r.places[index("then.target", len(r.Then.Targets))] = ref.Node
						r.Then.Targets = append(r.Then.Targets, ref.name)
						r.targets = append(r.targets, ref)
					}
				},
			},
			{
				"to", "the target's", "Recipient at SMTP and LMTP targets, or a list.",
				func(d *decoder, v value, r *ruleDraft) {
					r.Then.To = []string{}
					r.places["then.to"] = v.Node
					for _, e := range d.list(v) {
						if s := d.text(e); s != "" {
							r.places[index("then.to", len(r.Then.To))] = e.Node
							r.Then.To = append(r.Then.To, s)
						}
					}
				},
			},
			{
				"flags", "none", "Flags of the message: seen, flagged, answered, draft, keywords.",
				func(d *decoder, v value, r *ruleDraft) { r.Then.Flags = d.flags(v) },
			},
			{
				"keep", "the account's", "What stays on the server after safe delivery, or a drop: forever, or for how long since popferry first saw it.",
				func(d *decoder, v value, r *ruleDraft) { r.Then.Keep = d.ruleKeep(v, r) },
			},
			{
				"drop", "no", "yes never delivers the message, and remembers it.",
				func(d *decoder, v value, r *ruleDraft) { r.Then.Drop = d.yes(v) },
			},
			{
				"skip", "no", "yes leaves the message alone and looks at it again next time.",
				func(d *decoder, v value, r *ruleDraft) { r.Then.Skip = d.yes(v) },
			},
		},
	}
}

// ruleKeep reads forever or a duration. Limits of the maildrop as a whole are the
// account's alone.
func (d *decoder) ruleKeep(v value, r *ruleDraft) *rules.Keep {
	r.places["then.keep"] = v.Node
	if v.Kind == yaml.MappingNode {
		d.fail(v.Node, "config-keep", "keep in %s must be forever or a duration; days, newest and until_full are for accounts", v.where)
		return nil
	}
	k := d.keep(v)
	return &rules.Keep{Forever: k.Forever, For: k.For}
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// isTemplateField tells the fields of a folder template, which are filled in
// for each message, from variables of the environment, which are filled in here.
func isTemplateField(name string) bool {
	return digits.MatchString(name) || slices.Contains(rules.Fields(), name)
}

// template reads a folder with ${field}s.
func (d *decoder) template(v value) string {
	if !d.isScalar(v) {
		return ""
	}
	s, ok := d.expand(v, isTemplateField)
	if !ok {
		return ""
	}
	return d.checkText(v, s)
}

var flagText = regexp.MustCompile(`^[A-Za-z0-9$!#&'+,./:;<=>?@^_|~` + "`" + `-]+$`)

// flags reads flags and keywords (RFC 9051 §2.3.2). \Recent is the server's, and
// a message delivered as \Deleted is lost at the next EXPUNGE.
func (d *decoder) flags(v value) []string {
	var flags []string
	for _, e := range d.list(v) {
		s := d.text(e)
		switch bare := strings.TrimPrefix(s, `\`); {
		case s == "":
		case bare != s:
			d.fail(e.Node, "config-flag", "flags in %s are written without backslash, not %s", e.where, d.show(e.Node)).
				Suggest = "write " + strconv.Quote(strings.ToLower(strings.TrimPrefix(e.Value, `\`)))
		case strings.EqualFold(s, "recent"), strings.EqualFold(s, "deleted"):
			d.fail(e.Node, "config-flag", "%s in %s is a flag that no message can be delivered with", d.show(e.Node), e.where)
		case !flagText.MatchString(s):
			d.fail(e.Node, "config-flag", "%s in %s cannot be a flag", d.show(e.Node), e.where).
				Hint = "seen, flagged, answered, draft, or a keyword of letters, digits and - _ $."
		case slices.ContainsFunc(flags, func(f string) bool { return strings.EqualFold(f, s) }):
			d.fail(e.Node, "config-duplicate-value", "flag %s in %s is there twice", d.show(e.Node), e.where)
		default:
			flags = append(flags, s)
		}
	}
	return flags
}

// rules reads the list of rules and compiles it.
func (d *decoder) rules(v value) *rules.Set {
	if v.Kind != yaml.SequenceNode {
		d.fail(v.Node, "config-wrong-type", "rules must be a list, not %s", kindOf(v.Node)).
			Hint = `Begin every rule with "- name:".`
		return nil
	}
	var drafts []*ruleDraft
	d.ruleNames = map[string]*yaml.Node{}
	for i, e := range d.list(value{Node: v.Node, key: "rules", where: "the file"}) {
		r := d.rule(e.Node, i+1)
		if first := d.ruleNames[r.Name]; first != nil {
			d.fail(r.name, "config-duplicate-name", "rule %s is there twice, first on line %d", d.show(r.name), first.Line)
		} else if r.Name != "" {
			d.ruleNames[r.Name] = r.name
		}
		drafts = append(drafts, r)
	}
	if d.exhausted() {
		return nil
	}
	d.checkReach(drafts)
	d.drafts = drafts
	return d.compile(drafts)
}

// rule reads one entry of rules.
func (d *decoder) rule(n *yaml.Node, number int) *ruleDraft {
	r := &ruleDraft{node: n, name: n, places: map[string]*yaml.Node{}, tests: map[*rules.Test]*testPlaces{}}
	where := "rule " + strconv.Itoa(number)
	if name := lookup(n, "name"); name != nil && name.Kind == yaml.ScalarNode && nameText.MatchString(name.Value) {
		where = "rule " + d.show(name)
	}
	errs := len(d.errs)
	f := ruleKeys().read(d, n, where, r)
	for _, k := range []string{"name", "then"} {
		if n.Kind == yaml.MappingNode && !f.has(k) {
			d.fail(n, "config-missing-key", "%s has no %s", where, k)
		}
	}
	r.broken = len(d.errs) > errs
	return r
}

// checkReach warns of rules that stand below one which always matches.
func (d *decoder) checkReach(rs []*ruleDraft) {
	for i, r := range rs[:max(0, len(rs)-1)] {
		if r.If == nil && r.Accounts == nil && !r.Continue && !r.broken {
			d.warn(r.name, "config-unreachable-rule", "rule %s always matches, so the rules below it are never looked at", d.show(r.name)).
				Hint = "Give it an if, put it last, or add continue: yes. Next below: " + d.show(rs[i+1].name)
			return
		}
	}
}

// compile hands the rules to package rules and points at what it refuses. What
// was refused here already is not said twice.
func (d *decoder) compile(drafts []*ruleDraft) *rules.Set {
	rs := make([]rules.Rule, len(drafts))
	for i, r := range drafts {
		rs[i] = r.Rule
	}
	set, err := rules.Compile(rs)
	for _, err := range each(err) {
		var re *rules.RuleError
		if !errors.As(err, &re) || re.Rule < 0 || re.Rule >= len(drafts) {
			d.whole("config-rule", printable(err.Error()), "")
			continue
		}
		r := drafts[re.Rule]
		if r.broken && strings.HasPrefix(re.Path, "then.folder") {
			continue // ${1} may mean a regex that is not there because of its error
		}
		if n := r.place(re.Path); !d.blamed(n) {
			d.fail(n, "config-rule", "%s: %s", d.showRule(r), printable(d.unexpand(re.Text)))
		}
	}
	return set
}

// unexpand takes the values of variables out of a text of the compiler, which
// sees folders as they become.
func (d *decoder) unexpand(text string) string {
	for _, v := range d.expanded {
		text = strings.ReplaceAll(text, v, "${…}")
	}
	return text
}

// blamed reports whether there is an error at n already.
func (d *decoder) blamed(n *yaml.Node) bool {
	return slices.ContainsFunc(d.errs, func(e *Error) bool { return e.Line == n.Line && e.Column == n.Column })
}

func (d *decoder) showRule(r *ruleDraft) string {
	if r.name == r.node {
		return "a rule"
	}
	return "rule " + d.show(r.name)
}

// each takes joined errors apart.
func each(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, each(e)...)
		}
		return all
	default:
		return []error{err}
	}
}

// place returns the node that a path of the compiler means, or the nearest one
// around it.
func (r *ruleDraft) place(path string) *yaml.Node {
	if cond, ok := strings.CutPrefix(path, "if"); ok {
		if n := r.testPlace(r.If, cond); n != nil {
			return n
		}
	}
	for ; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if n := r.places[path]; n != nil {
			return n
		}
	}
	return r.name
}

var (
	branch  = regexp.MustCompile(`^\.(all|any)\[([0-9]+)\]`)
	element = regexp.MustCompile(`\[([0-9]+)\]$`)
)

// testPlace follows a path ("all[1].subject[0]") down from c to a test.
func (r *ruleDraft) testPlace(c *rules.Cond, path string) *yaml.Node {
	for c != nil && c.Test == nil {
		m := branch.FindStringSubmatch(path)
		if m == nil {
			rest, ok := strings.CutPrefix(path, ".not")
			if !ok {
				return nil
			}
			c, path = c.Not, rest
			continue
		}
		list := c.All
		if m[1] == "any" {
			list = c.Any
		}
		i, err := strconv.Atoi(m[2])
		if err != nil || i >= len(list) {
			return nil
		}
		c, path = &list[i], path[len(m[0]):]
	}
	if c == nil || r.tests[c.Test] == nil {
		return nil
	}
	at := r.tests[c.Test]
	if m := element.FindStringSubmatch(path); m != nil {
		if i, err := strconv.Atoi(m[1]); err == nil && i < len(at.patterns) {
			return at.patterns[i]
		}
	}
	return at.node
}
