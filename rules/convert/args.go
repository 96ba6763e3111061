package convert

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// args are the arguments of a command or test: its options with their values,
// and what stands behind them.
type args struct {
	name   string
	line   int
	tags   []string
	values map[string][]string // of options that have one
	rest   [][]string          // strings and lists; nil for a number
	number int64
}

// withValue are options that the string or list behind them belongs to.
var withValue = []string{"comparator", "flags", "specialuse", "content", "value", "count"}

// arguments sorts the arguments of n. Strings with variables are unsure.
func (s *sieve) arguments(n *node) (*args, error) {
	a := &args{name: n.name, line: n.line, values: map[string][]string{}}
	for i := 0; i < len(n.args); i++ {
		arg := &n.args[i]
		switch {
		case arg.tag != "":
			a.tags = append(a.tags, arg.tag)
			if !slices.Contains(withValue, arg.tag) || i+1 == len(n.args) {
				continue
			}
			if next := &n.args[i+1]; next.tag == "" {
				a.values[arg.tag] = next.strings
				i++
			}
		case arg.isNum:
			a.number = arg.number
			a.rest = append(a.rest, nil)
		default:
			a.rest = append(a.rest, arg.strings)
		}
	}
	for _, list := range append(slices.Clone(a.rest), a.values["flags"]) {
		for i, text := range list {
			decoded, ok := s.decode(text)
			if !ok {
				return a, unsuref(n.line, "%s with a variable in %s", n.name, strconv.Quote(text))
			}
			list[i] = decoded
		}
	}
	return a, nil
}

// decode resolves ${hex:…} and ${unicode:…} (RFC 5228 §2.4.2.4). It reports
// false for what is, or may be, a variable (RFC 5229).
func (s *sieve) decode(text string) (string, bool) {
	if !s.extensions["encoded-character"] && !s.extensions["variables"] {
		return text, true
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), true
		}
		body, rest, closed := strings.Cut(after, "}")
		decoded, ok := "", false
		if s.extensions["encoded-character"] && closed {
			decoded, ok = encoded(body)
		}
		switch {
		case ok:
			out.WriteString(decoded)
			text = rest
		case s.extensions["variables"]:
			return "", false
		default:
			out.WriteString("${")
			text = after
		}
	}
}

// encoded is what stands between ${ and } of an encoded character.
func encoded(body string) (string, bool) {
	name, list, ok := strings.Cut(body, ":")
	bits := map[string]int{"hex": 8, "unicode": 32}[strings.ToLower(name)]
	numbers := strings.Fields(list)
	if !ok || bits == 0 || len(numbers) == 0 {
		return "", false
	}
	var out []byte
	for _, text := range numbers {
		n, err := strconv.ParseUint(text, 16, bits)
		switch {
		case err != nil:
			return "", false
		case bits == 8:
			out = append(out, byte(n))
		case n > utf8.MaxRune || !utf8.ValidRune(rune(n)):
			return "", false
		default:
			out = utf8.AppendRune(out, rune(n))
		}
	}
	return string(out), utf8.Valid(out)
}

func (a *args) has(tag string) bool { return slices.Contains(a.tags, tag) }

// known refuses options that are not among those named.
func (a *args) known(tags ...string) error {
	for _, t := range a.tags {
		if !slices.Contains(tags, t) {
			return unsuref(a.line, "%s with :%s", a.name, t)
		}
	}
	return nil
}

// strings are all strings behind the options.
func (a *args) strings() []string { return slices.Concat(a.rest...) }

// one is the only string behind the options.
func (a *args) one(what string) (string, error) {
	if len(a.rest) != 1 || len(a.rest[0]) != 1 {
		return "", unsuref(a.line, "%s without %s", a.name, what)
	}
	return a.rest[0][0], nil
}

// pair are the names and keys of a test that compares.
func (a *args) pair() (names, keys []string, err error) {
	if len(a.rest) != 2 || a.rest[0] == nil || a.rest[1] == nil {
		return nil, nil, unsuref(a.line, "%s without names and values", a.name)
	}
	return a.rest[0], a.rest[1], nil
}
