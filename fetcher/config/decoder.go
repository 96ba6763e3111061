package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"popferry/targets/endpoint"
)

const (
	maxErrors = 100    // are reported; more help nobody
	maxValues = 50_000 // are read, so that aliases of aliases end
	maxDepth  = 16     // of any, all and not
	showRunes = 60     // of a value are quoted in an error
)

// decoder reads one file. It collects errors instead of stopping at the first.
type decoder struct {
	src    *source
	dir    string // of the file; relative paths are relative to it
	env    func(string) (string, bool)
	made   bool // what is read was made of addresses; passwords come later
	errs   []*Error
	warns  []*Error
	values int // read so far
	more   int // errors that were not kept

	inline      []value               // passwords written in the file itself
	files       []mentioned           // other files that are named
	ruleNames   map[string]*yaml.Node // all rules by name
	drafts      []*ruleDraft          // all rules
	accountRefs []ref                 // accounts that rules mention
	expanded    []string              // values of variables in folder templates
	logins      *endpoint.Breaker
	oauths      []signIn
	secretVars  []string // variables that secrets are taken from
}

// value is a node with the key it stands under, for the words of an error.
type value struct {
	*yaml.Node
	key   string // "host"; in lists "from[2]" is never shown, "from" is
	where string // `account "isp"`
}

// at reports an error at a place. What it returns may be given a hint.
func (d *decoder) at(line, col, width int, code, format string, args ...any) *Error {
	e := &Error{File: d.src.name, Line: line, Column: col, Width: width, Code: code, Text: fmt.Sprintf(format, args...)}
	if len(d.errs) >= maxErrors {
		d.more++
		return e
	}
	d.errs = append(d.errs, e)
	return e
}

// fail reports an error at n.
func (d *decoder) fail(n *yaml.Node, code, format string, args ...any) *Error {
	return d.at(n.Line, n.Column, d.width(n), code, format, args...)
}

// warn reports at n what is allowed and probably not meant.
func (d *decoder) warn(n *yaml.Node, code, format string, args ...any) *Error {
	e := &Error{File: d.src.name, Line: n.Line, Column: n.Column, Width: d.width(n), Code: code, Text: fmt.Sprintf(format, args...)}
	if len(d.warns) < maxErrors {
		d.warns = append(d.warns, e)
	}
	return e
}

// whole reports an error of the file as a whole.
func (d *decoder) whole(code, text, hint string) {
	d.errs = append(d.errs, &Error{File: d.src.name, Code: code, Text: text, Hint: hint})
}

// width is how much of n's line a caret marks.
func (d *decoder) width(n *yaml.Node) int {
	if n.Kind != yaml.ScalarNode {
		return 1
	}
	if d.src.hidden[n] {
		return len(maskText)
	}
	w := utf8.RuneCountInString(n.Value)
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		w += 2
	}
	return max(1, w)
}

// show quotes the text of n as the file has it, never what a variable in it
// stands for, and nothing of a secret.
func (d *decoder) show(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return kindOf(n)
	}
	if d.src.hidden[n] {
		return strconv.Quote(maskText)
	}
	return shorten(n.Value)
}

// shorten quotes text from the file.
func shorten(s string) string {
	if utf8.RuneCountInString(s) > showRunes {
		s = string([]rune(s)[:showRunes-1]) + "…"
	}
	if quoted := `"` + s + `"`; printable(quoted) == quoted && strings.Count(quoted, `"`) == 2 {
		return quoted // a backslash reads as it is written
	}
	return strconv.Quote(s)
}

// kindOf says in plain words what stands at n.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a group of keys"
	default:
		return "a single value"
	}
}

// follow returns what an alias stands for, and n itself else. It counts values
// and reports false when there are too many.
func (d *decoder) follow(n *yaml.Node) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.values++
	if d.values == maxValues {
		// Not by fail: it is the one that explains why much else was not looked at.
		d.errs = append(d.errs, &Error{
			File: d.src.name, Line: n.Line, Column: n.Column, Width: d.width(n), Code: "config-too-complex",
			Text: fmt.Sprintf("more than %d values", maxValues),
			Hint: "Aliases of lists of aliases grow fast; write out what is meant.",
		})
	}
	return n, !d.exhausted()
}

// exhausted reports whether there were too many values to go on.
func (d *decoder) exhausted() bool { return d.values >= maxValues }

// pairs calls visit for every key of mapping n, in order. It reports keys that
// are no text, merge keys and keys without a value, and leaves them out;
// duplicates are reported at the second.
func (d *decoder) pairs(n *yaml.Node, where string, visit func(key, val *yaml.Node)) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		val, ok := d.follow(n.Content[i+1])
		if !ok {
			return
		}
		switch first := seen[key.Value]; {
		case key.Tag == "!!merge":
			d.fail(key, "config-merge-key", "merge keys (<<) are not supported").
				Hint = "Write the keys out. An alias (*name) may stand for a whole value."
			continue
		case key.Kind != yaml.ScalarNode || isNull(key) || key.Value == "":
			d.fail(key, "config-wrong-type", "a key in %s must be a word, not %s", where, d.showKind(key))
			continue
		case first != nil:
			d.fail(key, "config-duplicate-key", "key %s in %s is there twice, first on line %d", d.show(key), where, first.Line).
				Hint = "Remove one of the two."
			continue
		}
		seen[key.Value] = key
		if d.tagged(key) || d.tagged(val) {
			continue
		}
		if isNull(val) {
			d.fail(key, "config-no-value", "key %s in %s has no value", d.show(key), where).
				Hint = "Give it one, or remove the line. If the value begins with #, put it in quotes."
			continue
		}
		visit(key, val)
	}
}

// showKind is show, with a word for what is empty.
func (d *decoder) showKind(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Value == "" || isNull(n) {
		return "nothing"
	}
	return d.show(n)
}

// tagged reports an explicit tag (!!str, !secret). None has a meaning here.
func (d *decoder) tagged(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return false
	}
	d.fail(n, "config-tag", "a value begins with ! (a YAML tag), which has no meaning here").
		Hint = "Put the value in quotes if the ! belongs to it."
	return true
}

// key is a key that is accepted: its name, its default and meaning in words,
// and how its value is read. The tables of keys are the one place that knows
// which keys there are.
type key[T any] struct {
	name string
	def  string // "" if there is none, or if it is required
	doc  string
	read func(d *decoder, v value, t *T)
}

// section is the keys of one kind of mapping.
type section[T any] struct {
	keys  []key[T]
	alien func(name string) string // which other kinds of the same thing have that key: "smtp or lmtp"; "" if none
}

// fields are the keys that were there, by name, with their values, good or not.
type fields map[string]value

// has reports whether one of the keys was there.
func (f fields) has(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { _, ok := f[n]; return ok })
}

// or is the value of the key, or if it was not there, n.
func (f fields) or(name string, n *yaml.Node) *yaml.Node {
	if v, ok := f[name]; ok {
		return v.Node
	}
	return n
}

// read fills t from mapping n and returns which keys were there.
func (s section[T]) read(d *decoder, n *yaml.Node, where string, t *T) fields {
	got := fields{}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "config-wrong-type", "%s must be a group of keys, not %s", where, d.show(n)).
			Hint = "Keys allowed here: " + s.allowed()
		return got
	}
	d.pairs(n, where, func(k, val *yaml.Node) {
		for _, known := range s.keys {
			if known.name == k.Value {
				v := value{Node: val, key: k.Value, where: where}
				got[k.Value] = v
				known.read(d, v, t)
				return
			}
		}
		s.unknown(d, k, where)
	})
	// A value that was reported as broken is not missing as well.
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; !got.has(k.Value) {
			got[k.Value] = value{Node: n.Content[i+1], key: k.Value, where: where}
		}
	}
	return got
}

// unknown reports a key that is not in the table.
func (s section[T]) unknown(d *decoder, k *yaml.Node, where string) {
	if s.alien != nil {
		if kinds := s.alien(k.Value); kinds != "" {
			d.fail(k, "config-unknown-key", "key %q in %s is only for targets of type %s", k.Value, where, kinds).
				Hint = "Keys allowed here: " + s.allowed()
			return
		}
	}
	e := d.fail(k, "config-unknown-key", "unknown key %s in %s", d.show(k), where)
	e.Hint = "Keys allowed here: " + s.allowed()
	if len(d.errs) < maxErrors {
		e.Suggest = didYouMean(k.Value, s.names())
	}
}

func (s section[T]) names() []string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.name
	}
	return names
}

// allowed lists the keys, as many as fit on a line.
func (s section[T]) allowed() string {
	const room = 68 // leaves 90 columns for the line
	names := s.names()
	if all := strings.Join(names, ", "); len(all) <= room {
		return all
	}
	var b strings.Builder
	for _, n := range names {
		if b.Len()+len(n)+3 > room {
			break
		}
		b.WriteString(n + ", ")
	}
	return b.String() + "…"
}
