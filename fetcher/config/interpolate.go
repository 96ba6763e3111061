package config

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"popferry/rules"
)

// variable is what may stand between ${ and }: a name, and after it a default
// (:-) or the words of an error (:?). Both count when the variable is unset or
// empty, as in a shell.
var variable = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)(?::([-?])(.*))?$`)

// expand replaces the variables in the text of v: ${V}, ${V:-default},
// ${V:?message}; $$ is a dollar, and any other dollar is itself. It happens
// after the YAML was parsed, so what a variable holds can never become
// structure. It reports every variable that is not set.
//
// ours tells names apart that are not variables but belong to whoever reads the
// text later, a folder template. If it is not nil, those and $$ are kept as
// they are, and a dollar in a variable's value is doubled for that reader.
func (d *decoder) expand(v value, ours func(name string) bool) (string, bool) {
	s, ok := v.Value, true
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			break
		}
		b.WriteString(s[:i])
		at := len(v.Value) - len(s) + i
		switch s = s[i:]; s[1] {
		case '$':
			if b.WriteByte('$'); ours != nil {
				b.WriteByte('$')
			}
			s = s[2:]
		case '{':
			body, rest, closed := strings.Cut(s[2:], "}")
			if !closed {
				d.failIn(v, at, "config-interpolation", "${ is not closed").
					Hint = "Write ${NAME}, or $$ for a dollar."
				return "", false
			}
			s = rest
			if ours != nil && ours(body) {
				b.WriteString("${" + body + "}")
				continue
			}
			text, set := d.variable(v, at, body)
			if ours != nil {
				text = strings.ReplaceAll(text, "$", "$$")
				if text != "" {
					d.expanded = append(d.expanded, text)
				}
			}
			b.WriteString(text)
			ok = ok && set
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
	b.WriteString(s)
	return b.String(), ok
}

// secretKeys are the keys whose values themselves are secrets.
var secretKeys = []string{"password", "client_secret", "proxy"}

// variable returns the value of one variable, which stands at octet at of v.
func (d *decoder) variable(v value, at int, body string) (string, bool) {
	m := variable.FindStringSubmatch(body)
	if m == nil || strings.Contains(body, "${") {
		e := d.failIn(v, at, "config-interpolation", "${…} holds no name of a variable")
		e.Hint = "Write ${NAME}, ${NAME:-default} or ${NAME:?message}, or $$ for a dollar."
		if strings.Contains(body, "${") {
			e.Text = "one ${…} cannot stand inside another"
		}
		return "", false
	}
	name, op, word := m[1], m[2], m[3]
	got, set := d.env(name)
	if set && slices.Contains(secretKeys, v.key) && !slices.Contains(d.secretVars, name) {
		d.secretVars = append(d.secretVars, name)
	}
	switch {
	case set && got != "", set && op == "":
		return got, true
	case op == "-":
		return word, true
	case op == "?":
		d.failIn(v, at, "config-env-unset", "%s is not set: %s", name, strings.Trim(shorten(word), `"`)).
			Hint = "Set it (export " + name + "=…, or environment: in compose)"
		return "", false
	}
	e := d.failIn(v, at, "config-env-unset", "%s is not set", name)
	e.Hint = "Set it (export " + name + "=…, or environment: in compose), or give a default: ${" + name + ":-…}"
	switch {
	case v.key == "password", v.key == "client_secret":
		e.Hint = "Set it (export " + name + "=…, or environment: in compose), or use " + v.key + "_file: FILE"
	case strings.HasPrefix(v.where, "then of "):
		e.Suggest = didYouMean(name, rules.Fields())
		e.Hint = "Fields of the message: " + strings.Join(rules.Fields(), ", ") + "\n" + e.Hint
	case isTemplateField(name):
		e.Hint = "Fields of a message can be used in then.folder of a rule only."
	}
	return "", false
}

// failIn reports an error at octet at of the text of v, or at v when the file
// writes that text in another way (escapes, several lines).
func (d *decoder) failIn(v value, at int, code, format string, args ...any) *Error {
	e := d.fail(v.Node, code, format, args...)
	col := v.Column
	if v.Style != 0 {
		col++ // the quote
	}
	if !d.src.hidden[v.Node] && at < len(v.Value) && strings.HasPrefix(tail(d.src.line(v.Line), col-1), v.Value) {
		e.Column = col + utf8.RuneCountInString(v.Value[:at])
		rest := v.Value[at:]
		if i := strings.IndexByte(rest, '}'); i >= 0 {
			rest = rest[:i+1]
		}
		e.Width = utf8.RuneCountInString(rest)
	}
	return e
}
