package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of what a rule may hold. They keep a slip in a configuration from
// making every message slow.
const (
	maxPattern  = 1 << 10 // octets
	maxProgram  = 10_000  // instructions of a compiled regex; a typical one has 50
	maxCondTree = 32      // levels of any, all and not
)

// RuleError is one thing wrong with one rule.
type RuleError struct {
	Rule int    // index in the list given to Compile
	Name string // of the rule; may be ""
	// Path says where in the Rule: the keys of a configuration, joined by
	// dots, with indices. "name", "accounts[1]", "continue", "then",
	// "then.folder[0]", "then.flags[2]". A condition is "if", inside it
	// ".all[2]", ".any[0]", ".not", and a test is its key, then the index of
	// the pattern: "if.all[1].subject[0]", "if.not.header.X-Spam-Flag[0]",
	// "if.size". A Cond that is an All has its own level, also if it stands
	// for several keys of one mapping.
	Path string
	Text string // what is wrong, without the place
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %d %q: %s: %s", e.Rule+1, e.Name, e.Path, e.Text)
}

// Compile checks rs and makes them ready for use. It keeps nothing of rs that
// a caller could change. All errors are reported at once, in the order of the
// rules: what is returned joins *RuleErrors and has Unwrap() []error.
func Compile(rs []Rule) (*Set, error) {
	c := compiler{set: &Set{}, names: map[string]int{}}
	for i := range rs {
		c.rule(i, &rs[i])
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	c.set.buildIndex()
	return c.set, nil
}

// compiler compiles rules one after another and gathers what is wrong.
type compiler struct {
	set   *Set
	names map[string]int // name → index of the rule
	errs  []error

	index  int // the rule being compiled
	name   string
	groups int // most groups of its regexes
}

func (c *compiler) errorf(path, format string, args ...any) {
	c.errs = append(c.errs, &RuleError{Rule: c.index, Name: c.name, Path: path, Text: fmt.Sprintf(format, args...)})
}

func (c *compiler) rule(i int, r *Rule) {
	c.index, c.name, c.groups = i, r.Name, 0
	first, taken := c.names[r.Name]
	switch {
	case r.Name == "":
		c.errorf("name", "a rule needs a name")
	case taken:
		c.errorf("name", "rule %d has the name %q already", first+1, r.Name)
	case !utf8.ValidString(r.Name) || strings.ContainsFunc(r.Name, isInvisible):
		c.errorf("name", "%q has control characters", r.Name)
	default:
		c.names[r.Name] = i
	}
	if r.Accounts != nil && len(r.Accounts) == 0 {
		c.errorf("accounts", "the list is empty, so the rule never matches")
	}
	compiled := rule{Rule: *r, cond: node{op: opAll}}
	compiled.Accounts = slices.Clone(r.Accounts)
	compiled.If, compiled.Then.Folders = nil, nil // cond and folders stand for them
	compiled.Then.Flags = c.flags(r.Then.Flags)
	compiled.Then.Targets, compiled.Then.To = slices.Clone(r.Then.Targets), slices.Clone(r.Then.To)
	if r.Then.Keep != nil {
		compiled.Then.Keep = new(*r.Then.Keep)
	}
	if r.If != nil {
		compiled.cond = c.cond("if", r.If, 0)
	}
	c.then(r)
	c.recipients(r.Then.To)
	for j, text := range r.Then.Folders { // after the condition, which counts the groups
		t, err := parseTemplate(text, c.groups)
		if err != nil {
			c.errorf(fmt.Sprintf("then.folder[%d]", j), "%v", err)
		}
		compiled.folders = append(compiled.folders, t)
	}
	c.set.rules = append(c.set.rules, compiled)
}

// then refuses actions that contradict each other.
func (c *compiler) then(r *Rule) {
	t := &r.Then
	action := "drop"
	if t.Skip {
		action = "skip"
	}
	switch {
	case !t.Drop && !t.Skip:
	case t.Drop && t.Skip:
		c.errorf("then", "drop and skip exclude each other")
	case len(t.Folders) > 0:
		c.errorf("then", "%s and folder exclude each other", action)
	case len(t.Targets) > 0:
		c.errorf("then", "%s and target exclude each other", action)
	case len(t.To) > 0:
		c.errorf("then", "%s and to exclude each other", action)
	case len(t.Flags) > 0:
		c.errorf("then", "%s and flags exclude each other", action)
	case t.Skip && t.Keep != nil:
		c.errorf("then.keep", "a message that is skipped is never deleted, so there is nothing to keep it for")
	case r.Continue:
		c.errorf("continue", "%s ends the rules, so there is nothing to continue with", action)
	}
	for _, list := range []struct {
		key  string
		list []string
	}{{"folder", t.Folders}, {"target", t.Targets}, {"to", t.To}} {
		if list.list != nil && len(list.list) == 0 {
			c.errorf("then."+list.key, "the list is empty")
		}
	}
	if t.Keep != nil && t.Keep.For < 0 {
		c.errorf("then.keep", "a message cannot be kept for less than no time")
	}
	for i, name := range t.Targets {
		if name == "" || slices.Contains(t.Targets[:i], name) {
			c.errorf(fmt.Sprintf("then.target[%d]", i), "%q is empty or there twice", name)
		}
	}
}

// recipients refuses what cannot be the recipient in an SMTP command (RFC 5321
// §4.1.2).
func (c *compiler) recipients(to []string) {
	for i, r := range to {
		if !isMailbox(r) {
			c.errorf(fmt.Sprintf("then.to[%d]", i), "%q is no address; write it bare, as in jane@example.com", r)
		}
	}
}

// flags checks flags and drops doubles.
func (c *compiler) flags(flags []string) []string {
	for i, f := range flags {
		if err := checkFlag(f); err != nil {
			c.errorf(fmt.Sprintf("then.flags[%d]", i), "%v", err)
		}
	}
	return unite(nil, flags)
}

// checkFlag accepts a system flag without its backslash, or a keyword: an atom
// of RFC 9051 §9.
func checkFlag(f string) error {
	const maxFlag = 100
	bare := strings.TrimPrefix(f, `\`)
	switch {
	case f == "" || len(f) > maxFlag:
		return fmt.Errorf("a flag has 1 to %d characters", maxFlag)
	case strings.EqualFold(bare, "deleted"):
		return fmt.Errorf("flag %q marks the copy for removal at the target", f)
	case strings.EqualFold(bare, "recent"):
		return fmt.Errorf("flag %q is set by the server alone", f)
	case bare != f:
		return fmt.Errorf("flag %q: write it without the backslash", f)
	case strings.ContainsFunc(f, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r) }):
		return fmt.Errorf("flag %q has a character that IMAP does not allow in one", f)
	}
	return nil
}

func (c *compiler) cond(path string, cond *Cond, depth int) node {
	set := 0
	for _, is := range [...]bool{cond.All != nil, cond.Any != nil, cond.Not != nil, cond.Test != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		c.errorf(path, "a condition is one of all, any, not and a test; this is %d of them", set)
	case depth > maxCondTree:
		c.errorf(path, "conditions are nested more than %d deep", maxCondTree)
	case cond.All != nil:
		return c.list(opAll, path+".all", cond.All, depth)
	case cond.Any != nil:
		return c.list(opAny, path+".any", cond.Any, depth)
	case cond.Not != nil:
		groups := c.groups
		kid := c.cond(path+".not", cond.Not, depth+1)
		c.groups = groups // what must not match has nothing to capture
		return node{op: opNot, kids: []node{kid}}
	default:
		return node{op: opTest, test: c.test(path, cond.Test)}
	}
	return node{}
}

func (c *compiler) list(op operator, path string, conds []Cond, depth int) node {
	n := node{op: op}
	for i := range conds {
		n.kids = append(n.kids, c.cond(fmt.Sprintf("%s[%d]", path, i), &conds[i], depth+1))
	}
	return n
}

// keys are what a test may look at; those that are true have patterns.
var keys = map[string]bool{
	"from": true, "to": true, "cc": true, "bcc": true, "reply_to": true, "sender": true, "recipient": true,
	"subject": true, "list_id": true, "header": true, "body": true, "account": true,
	"size": false, "date": false, "older_than": false, "newer_than": false, "has_attachment": false, "spam": false,
}

func (c *compiler) test(path string, source *Test) *test {
	own := *source
	own.Patterns = slices.Clone(source.Patterns)
	t := &test{source: &own, body: needsBody(source.Key)}
	path += "." + source.Key
	patterned, ok := keys[source.Key]
	if !ok {
		c.errorf(path, "there is no key %q", source.Key)
		return t
	}
	if source.Key == "header" {
		path += "." + source.Name
		if source.Name == "" || strings.ContainsFunc(source.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			c.errorf(path, "%q cannot be the name of a header field", source.Name)
		}
	}
	c.foreign(path, source, patterned)
	if !patterned {
		c.comparison(path, source)
		return t
	}
	t.slot = c.slot(source)
	if len(source.Patterns) == 0 {
		c.errorf(path, "there is no pattern")
	}
	for i := range own.Patterns {
		t.any = append(t.any, c.pattern(fmt.Sprintf("%s[%d]", path, i), source.Key, &own.Patterns[i]))
	}
	return t
}

// foreign refuses what belongs to tests of other keys: it would be ignored.
func (c *compiler) foreign(path string, t *Test, patterned bool) {
	aged := t.Key == "older_than" || t.Key == "newer_than"
	for _, f := range []struct {
		wrong bool
		text  string
	}{
		{t.Name != "" && t.Key != "header", "only a header test names a field"},
		{len(t.Patterns) > 0 && !patterned, t.Key + " has no patterns"},
		{t.Size != SizeTest{} && t.Key != "size", "only a size test compares sizes"},
		{t.Date != DateTest{} && t.Key != "date", "only a date test compares days"},
		{t.Age != 0 && !aged, "only older_than and newer_than have an age"},
		{t.No && t.Key != "has_attachment" && t.Key != "spam", "only has_attachment and spam can be no"},
	} {
		if f.wrong {
			c.errorf(path, "%s", f.text)
		}
	}
}

// comparison checks a test without patterns.
func (c *compiler) comparison(path string, t *Test) {
	switch t.Key {
	case "size":
		if !slices.Contains([]string{"<", "<=", ">", ">="}, t.Size.Op) {
			c.errorf(path, "%q does not compare sizes; <, <=, > and >= do", t.Size.Op)
		}
		if t.Size.N < 0 {
			c.errorf(path, "a size is not negative")
		}
	case "date":
		if !slices.Contains([]string{"=", "<", "<=", ">", ">="}, t.Date.Op) {
			c.errorf(path, "%q does not compare days; =, <, <=, > and >= do", t.Date.Op)
		}
		if _, err := parseDay(t.Date.Day); err != nil {
			c.errorf(path, "%v", err)
		}
	case "older_than", "newer_than":
		if t.Age <= 0 {
			c.errorf(path, "an age is more than nothing")
		}
	}
}

// parseDay reads a day, a month or a year.
func parseDay(s string) (time.Time, error) {
	for _, layout := range []string{dayFormat, "2006-01", "2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no day; write 2026-11-21, 2026-11 or 2026", s)
}

// slot returns the index of the value that a test looks at; tests of one value
// share it.
func (c *compiler) slot(t *Test) int {
	s := sourceOf(t)
	if i := slices.Index(c.set.sources, s); i >= 0 {
		return i
	}
	c.set.sources = append(c.set.sources, s)
	return len(c.set.sources) - 1
}

func sourceOf(t *Test) source {
	return source{t.Key, strings.ToLower(t.Name)}
}
