package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile is the size of a file that is read at all. The largest sensible one
// is a tenth of it; what is larger is not a configuration.
const maxFile = 1 << 20

// parseTree reads the one YAML document in data. It reports what is wrong with
// the text as a whole, and the first syntax error, and then returns nil.
func (d *decoder) parseTree(data []byte) *yaml.Node {
	if bad := invalidUTF8(data); bad != nil {
		bad.File = d.src.name
		d.src.maskUnparsed()
		d.errs = append(d.errs, bad)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	doc, err := decodeNode(dec)
	if errors.Is(err, io.EOF) || err == nil && isNull(doc.Content[0]) {
		d.whole("config-empty", "the file is empty",
			"The smallest useful file has one account, one target and one job: examples/minimal.yaml")
		return nil
	}
	if err == nil {
		var second *yaml.Node
		second, err = decodeNode(dec)
		if errors.Is(err, io.EOF) {
			d.src.hideSecrets(doc)
			return doc.Content[0]
		}
		if err == nil {
			d.src.maskUnparsed()
			d.at(second.Line, second.Column, 1, "config-documents", "a second document starts here; the file must have only one").
				Hint = `Remove the line "---", or put what follows into a file of its own.`
			return nil
		}
	}
	d.src.maskUnparsed()
	d.syntax(err)
	return nil
}

// decodeNode decodes the next document. The library panics on some broken
// files; they are syntax errors like others.
func decodeNode(dec *yaml.Decoder) (n *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("yaml: cannot be parsed")
		}
	}()
	n = new(yaml.Node)
	if err := dec.Decode(n); err != nil {
		return nil, err
	}
	if len(n.Content) != 1 {
		return nil, io.EOF
	}
	return n, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// invalidUTF8 finds the first octet that is not UTF-8, NULs and the other
// marks of UTF-16 included.
func invalidUTF8(data []byte) *Error {
	at := -1
	for i := 0; i < len(data) && at < 0; {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || r == 0 {
			at = i
		}
		i += size
	}
	if at < 0 {
		return nil
	}
	before := lineBreak.Split(string(data[:at]), -1)
	return &Error{
		Line: len(before), Column: utf8.RuneCountInString(before[len(before)-1]) + 1, Width: 1,
		Code: "config-encoding", Text: fmt.Sprintf("octet 0x%02x is not UTF-8 text", data[at]),
		Hint: "Save the file as UTF-8 (plain ASCII is fine).",
	}
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// syntax reports what the parser says, in plainer words where it is known what
// is usually behind them. Its line may be one off, so only the line is marked.
func (d *decoder) syntax(err error) {
	m := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	line, problem := 1, "cannot be parsed"
	if m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = min(max(n, 1), len(d.src.lines))
		}
		problem = m[2]
	}
	if l := d.firstBroken(); l > 0 {
		line = l
	}
	if col := tabIndent(d.src.line(line)); col > 0 {
		d.at(line, col, 1, "config-tab", "a tab in the indentation; YAML wants blanks").
			Hint = "Replace every tab at the start of a line by two blanks."
		return
	}
	hint := "Usual causes: wrong indentation, a missing blank after a colon, a quote that is not closed."
	switch {
	case strings.HasPrefix(problem, "unknown anchor"):
		// The library quotes the name, which may be a password that begins with *.
		problem = "a value begins with *, which YAML takes for the use of an anchor"
		hint = `Put the value in quotes: "*…"`
		line = d.lineOf(line, "*")
	case strings.Contains(problem, "cannot start any token"):
		problem = "a value begins with a character that has a meaning in YAML (% @ ` or a tab)"
		hint = "Put the value in quotes."
	case strings.Contains(problem, "mapping values are not allowed"):
		problem = "a colon where no key can stand"
		hint = "The line above or below is indented wrongly, or a value with a colon and a blank needs quotes."
	case strings.Contains(problem, "did not find expected key"), strings.Contains(problem, "could not find expected ':'"):
		problem = "a key with a colon after it is missing here, or the indentation is wrong"
	case strings.Contains(problem, "unexpected end of stream"):
		problem = "a quote is opened here and never closed"
	case strings.Contains(problem, "expected ',' or"), strings.Contains(problem, "expected node content"):
		problem = "a [ or { is opened here and not closed, or a comma is missing"
	case strings.Contains(problem, "control characters"):
		problem = "a control character"
		hint = "Remove it, or write it as an escape in double quotes."
	case strings.HasPrefix(problem, "found "), strings.HasPrefix(problem, "did not "), strings.HasPrefix(problem, "could not "),
		strings.HasPrefix(problem, "block "), strings.HasPrefix(problem, "while "), strings.HasPrefix(problem, "exceeded "):
		problem = "not valid YAML: " + printable(problem)
	default: // nothing unknown is repeated, it could quote a secret
		problem = "not valid YAML"
	}
	text := d.src.line(line)
	indent := len(text) - len(strings.TrimLeft(text, " "))
	d.at(line, indent+1, max(1, utf8.RuneCountInString(strings.TrimSpace(text))), "config-syntax", "%s", problem).Hint = hint
}

// tabIndent returns the column of the first tab before a line's first
// character; 0 if there is none.
func tabIndent(line string) int {
	rest := strings.TrimLeft(line, " ")
	if !strings.HasPrefix(rest, "\t") || strings.TrimSpace(rest) == "" {
		return 0
	}
	return len(line) - len(rest) + 1
}

// firstBroken looks for the line from which on the file cannot be parsed: the
// parser names the beginning of the group that the broken line stands in, which
// may be far above. 0 if the file is too large to try.
func (d *decoder) firstBroken() int {
	const (
		lookAhead = 30       // lines of a list or quote that ends further down
		tries     = 120      // parses
		largest   = 64 << 10 // octets
	)
	left := tries
	parses := func(n int) bool {
		left--
		text := strings.Join(d.src.lines[:n], "\n") + "\n"
		dec := yaml.NewDecoder(strings.NewReader(text))
		for {
			if _, err := decodeNode(dec); err != nil {
				return errors.Is(err, io.EOF)
			}
		}
	}
	size := 0
	for _, l := range d.src.lines {
		size += len(l) + 1
	}
	if size > largest {
		return 0
	}
	good, bad := 0, len(d.src.lines)
	for bad-good > 1 && left > 0 {
		if mid := (good + bad) / 2; parses(mid) {
			good = mid
		} else {
			bad = mid
		}
		if bad-good > 1 {
			continue
		}
		// What ends later, a list over several lines, is not broken.
		for n := bad + 1; n <= min(bad+lookAhead, len(d.src.lines)-1) && left > 0; n++ {
			if parses(n) {
				good, bad = n, len(d.src.lines)
				break
			}
		}
	}
	return bad
}

// lineOf returns the first line from line on that holds s; line if there is none.
func (d *decoder) lineOf(line int, s string) int {
	for l := line; l <= len(d.src.lines); l++ {
		if strings.Contains(d.src.line(l), s) {
			return l
		}
	}
	return line
}
