package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"popferry/rules"
)

// YAML is the rules as a part of popferry.yaml, with remarks on what was not
// carried over.
func (r *Result) YAML() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Converted from %s. Folder INBOX is the inbox: of a target with another\n# folder: of its own, write that.\n", r.from)
	if r.Rules() == 0 {
		b.WriteString("rules: []\n")
	} else {
		b.WriteString("rules:\n")
	}
	for _, e := range r.entries {
		for _, text := range e.remarks {
			b.WriteString("  # " + text + "\n")
		}
		if e.when != nil {
			e.write(&b)
		}
	}
	return []byte(b.String())
}

// write writes one rule.
func (e *entry) write(b *strings.Builder) {
	b.WriteString("  - name: " + scalar(e.name))
	if e.line > 0 {
		fmt.Fprintf(b, " # line %d", e.line)
	}
	b.WriteString("\n")
	if text := mapping(e.when); text != "" {
		b.WriteString("    if: " + text + "\n")
	}
	b.WriteString("    then: " + e.then() + "\n")
	if e.more {
		b.WriteString("    continue: true\n")
	}
}

func (e *entry) then() string {
	if e.drop {
		return "{ drop: yes }"
	}
	var keys []string
	if len(e.redirect) > 0 {
		keys = append(keys, "target: "+scalar(e.target), "to: "+words(e.redirect))
	}
	if len(e.folders) > 0 {
		escaped := make([]string, len(e.folders))
		for i, f := range e.folders {
			escaped[i] = escapeDollar(f)
		}
		keys = append(keys, "folder: "+words(escaped))
	}
	if len(e.flags) > 0 {
		escaped := make([]string, len(e.flags))
		for i, f := range e.flags {
			escaped[i] = escapeVariable(f)
		}
		keys = append(keys, "flags: "+list(escaped))
	}
	return "{ " + strings.Join(keys, ", ") + " }"
}

// escapeDollar is s as a folder template, where $ begins a field.
func escapeDollar(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// escapeVariable is s as a value, where only ${ and $$ have a meaning.
func escapeVariable(s string) string {
	if strings.Contains(s, "$$") || strings.Contains(s, "${") {
		return escapeDollar(s)
	}
	return s
}

// mapping is a condition as the value of if; "" if it always holds.
func mapping(c *cond) string {
	switch c.op {
	case opAll:
		if len(c.kids) == 0 {
			return ""
		}
		return together(c.kids)
	case opAny:
		if len(c.kids) == 0 {
			return "{ any: [] }" // never written: what cannot match is no rule
		}
		if t := oneTest(c); t != nil {
			key, value := pair(t)
			return "{ " + key + ": " + value + " }"
		}
		return "{ any: " + elements(c.kids) + " }"
	case opNot:
		return "{ not: " + mapping(c.kids[0]) + " }"
	default:
		key, value := pair(c.test)
		return "{ " + key + ": " + value + " }"
	}
}

// oneTest is the test that an any is if all of its members look at one value; nil
// if they do not.
func oneTest(c *cond) *rules.Test {
	var all rules.Test
	for i, k := range c.kids {
		switch {
		case k.op != opTest || len(k.test.Patterns) == 0:
			return nil
		case i == 0:
			all = *k.test
			all.Patterns = slices.Clone(all.Patterns)
		case k.test.Key != all.Key || k.test.Name != all.Name:
			return nil
		default:
			all.Patterns = append(all.Patterns, k.test.Patterns...)
		}
	}
	return &all
}

// together is several conditions as one mapping, if no key is there twice. What
// must not hold is gathered under one not.
func together(kids []*cond) string {
	var keys, values []string
	var nots []*cond
	var headers []*rules.Test
	twice := false
	add := func(key, value string) {
		twice = twice || slices.Contains(keys, key)
		keys, values = append(keys, key), append(values, value)
	}
	names := map[string]bool{}
	for _, k := range kids {
		t := k.test
		if k.op == opAny {
			t = oneTest(k)
		}
		switch {
		case k.op == opNot:
			nots = append(nots, k.kids[0])
		case t != nil && t.Key == "header":
			twice = twice || names[strings.ToLower(t.Name)]
			names[strings.ToLower(t.Name)] = true
			headers = append(headers, t)
		case t != nil:
			add(pair(t))
		case k.op == opAny:
			add("any", elements(k.kids))
		default:
			twice = true // never there: an all has no alls
		}
	}
	if len(headers) > 0 {
		var fields []string
		for _, h := range headers {
			fields = append(fields, scalar(h.Name)+": "+patterns(h.Patterns))
		}
		add("header", "{ "+strings.Join(fields, ", ")+" }")
	}
	switch {
	case len(nots) == 1:
		add("not", mapping(nots[0]))
	case len(nots) > 1:
		add("not", mapping(&cond{op: opAny, kids: nots}))
	}
	if twice {
		return "{ all: " + elements(kids) + " }"
	}
	for i := range keys {
		keys[i] += ": " + values[i]
	}
	return "{ " + strings.Join(keys, ", ") + " }"
}

// elements is a list of conditions.
func elements(kids []*cond) string {
	out := make([]string, len(kids))
	for i, k := range kids {
		out[i] = mapping(k)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// pair is the key and value of a test.
func pair(t *rules.Test) (key, value string) {
	switch t.Key {
	case "size":
		return t.Key, scalar(t.Size.Op + size(t.Size.N))
	case "header":
		return t.Key, "{ " + scalar(t.Name) + ": " + patterns(t.Patterns) + " }"
	case "has_attachment":
		return t.Key, "yes"
	}
	return t.Key, patterns(t.Patterns)
}

// size writes a size with a unit where it comes out even.
func size(n int64) string {
	for _, unit := range []struct {
		name  string
		shift int
	}{{"G", 30}, {"M", 20}, {"K", 10}} {
		if n != 0 && n%(1<<unit.shift) == 0 {
			return strconv.FormatInt(n>>unit.shift, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// patterns writes patterns; those of one kind together.
func patterns(ps []rules.Pattern) string {
	ps = slices.Clone(ps)
	slices.SortStableFunc(ps, func(a, b rules.Pattern) int { return int(a.Kind - b.Kind) })
	var out []string
	for i := 0; i < len(ps); {
		end := i + 1
		for end < len(ps) && ps[end].Kind == ps[i].Kind {
			end++
		}
		texts := make([]string, 0, end-i)
		for _, p := range ps[i:end] {
			texts = append(texts, p.Text)
		}
		switch {
		case ps[i].Kind == rules.Glob:
			for _, t := range texts {
				out = append(out, scalar(t))
			}
		case len(texts) == 1 && ps[i].Kind == rules.Exists:
			out = append(out, "{ exists: "+texts[0]+" }")
		default:
			out = append(out, "{ "+ps[i].Kind.String()+": "+words(texts)+" }")
		}
		i = end
	}
	if len(out) == 1 {
		return out[0]
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// words is one value, or a list of them.
func words(values []string) string {
	if len(values) == 1 {
		return scalar(values[0])
	}
	return list(values)
}

func list(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = scalar(v)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// plainText needs no quotes in a YAML flow collection, and is no boolean,
// number or null there.
var (
	plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./@-]*( [A-Za-z0-9_./@-]+)*$`)
	yamlWord  = regexp.MustCompile(`(?i)^(y|n|yes|no|true|false|on|off|null)$`)
)

// scalar writes a value so that it is read as this text.
func scalar(s string) string {
	switch {
	case plainText.MatchString(s) && !yamlWord.MatchString(s):
		return s
	case strings.ContainsAny(s, `\"`) && !strings.ContainsFunc(s, unprintable):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case !unprintable(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == '\ufeff' }

// printable makes one line of s that a terminal and a YAML comment can hold.
func printable(s string) string {
	const most = 300
	n := 0
	return strings.Map(func(r rune) rune {
		if n++; n > most {
			return -1
		}
		if unprintable(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
