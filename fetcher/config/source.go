package config

import (
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// source is the text of a file, for excerpts. Secrets in it are masked before
// anything of it is shown.
type source struct {
	name   string
	lines  []string
	hidden map[*yaml.Node]bool
	masks  map[int][]span // by line, from 1; in order, not overlapping
}

// span is a range of characters in a line, from 0, end not included.
type span struct{ from, to int }

const lineEnd = 1 << 30 // a span to the end of its line

func newSource(name string, data []byte) *source {
	return &source{
		name:   name,
		lines:  lineBreak.Split(string(data), -1),
		hidden: map[*yaml.Node]bool{},
		masks:  map[int][]span{},
	}
}

// lineBreak ends lines where YAML 1.1 does, so that line numbers agree with
// the parser's: LF, CRLF, CR, NEL, LS and PS.
var lineBreak = regexp.MustCompile(`\r\n|[\n\r\x{85}\x{2028}\x{2029}]`)

// line returns line n as it is in the file; "" if there is none.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

var (
	// secretName finds keys that may hold a secret, in whatever spelling.
	secretName = regexp.MustCompile(`(?i)pass|pwd|pword|secret|token|^pw$`)
	// secretText finds a secret inside other text: "password:x", as it comes out
	// when the blank is forgotten, and user:password@ in a URL.
	secretText = regexp.MustCompile(`(?i)['"]?\w*(pass|pwd|pword|secret|token)\w*['"]?\s*[:=]|://\S*@`)
)

// isSecretKey reports whether what stands under key must not be shown. It is
// generous: a misspelt "pasword" is an unknown key, and its line is shown.
func isSecretKey(key string) bool {
	if strings.HasSuffix(key, "_file") {
		return false
	}
	return secretName.MatchString(key) || distance(strings.ToLower(key), "password") <= 3
}

// hideSecrets masks every scalar below a key that looks like a secret's, and
// every scalar that looks as if it held one.
func (s *source) hideSecrets(doc *yaml.Node) {
	var starts []*yaml.Node
	var walk func(n *yaml.Node, secret bool)
	walk = func(n *yaml.Node, secret bool) {
		starts = append(starts, n)
		switch n.Kind {
		case yaml.ScalarNode:
			if secret || secretText.MatchString(n.Value) {
				s.hidden[n] = true
			}
		case yaml.AliasNode:
			if secret && n.Alias.Kind == yaml.ScalarNode {
				s.hidden[n.Alias] = true
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i], false)
				walk(n.Content[i+1], secret || isSecretKey(n.Content[i].Value))
			}
		default:
			for _, c := range n.Content {
				walk(c, secret)
			}
		}
	}
	walk(doc, false)
	sort.SliceStable(starts, func(i, j int) bool { return before(starts[i], starts[j]) })
	for i, n := range starts {
		if !s.hidden[n] {
			continue
		}
		line, col := len(s.lines)+1, 1
		for _, next := range starts[i+1:] {
			if before(n, next) {
				line, col = next.Line, next.Column
				break
			}
		}
		s.mask(n, line, col)
	}
	s.maskComments()
}

func before(a, b *yaml.Node) bool {
	return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
}

// mask hides scalar n, which ends before the place of the next node. A plain
// one on one line is masked exactly, so that carets behind it stay right.
func (s *source) mask(n *yaml.Node, line, col int) {
	from := n.Column - 1
	if rest := tail(s.line(n.Line), from); n.Style == 0 && strings.HasPrefix(rest, n.Value) {
		s.masks[n.Line] = append(s.masks[n.Line], span{from, from + utf8.RuneCountInString(n.Value)})
		return
	}
	for l := n.Line; l <= line && l <= len(s.lines); l++ {
		m := span{0, lineEnd}
		if l == n.Line {
			m.from = from
		}
		if l == line {
			m.to = col - 1
		}
		if m.from < m.to {
			s.masks[l] = append(s.masks[l], m)
		}
	}
}

// maskComments hides passwords that were commented out.
func (s *source) maskComments() {
	for i, text := range s.lines {
		hash := strings.IndexByte(text, '#')
		if hash < 0 {
			continue
		}
		if at := secretText.FindStringIndex(text[hash:]); at != nil {
			s.masks[i+1] = append(s.masks[i+1], span{utf8.RuneCountInString(text[:hash+at[1]]), lineEnd})
		}
	}
}

// maskUnparsed hides what may be a secret in a file without a syntax tree: all
// of a line after the key, and the lines indented below it.
func (s *source) maskUnparsed() {
	deeper := -1 // mask lines indented by more than this
	for i, text := range s.lines {
		indent := utf8.RuneCountInString(text) - utf8.RuneCountInString(strings.TrimLeft(text, " \t"))
		if deeper >= 0 && (indent > deeper || strings.TrimSpace(text) == "") {
			s.masks[i+1] = []span{{0, lineEnd}}
			continue
		}
		deeper = -1
		if at := secretText.FindStringIndex(text); at != nil {
			deeper = utf8.RuneCountInString(text[:at[0]])
			from := utf8.RuneCountInString(text[:at[1]])
			if strings.HasPrefix(text[at[0]:], "://") {
				from = deeper
			}
			s.masks[i+1] = []span{{from, lineEnd}}
		}
	}
}

// tail returns s without its first n characters.
func tail(s string, n int) string {
	for ; n > 0 && s != ""; n-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return s
}

const (
	excerptWidth = 100 // characters of a line that are shown
	maskText     = "***"
)

// place fills in the excerpt of e, which says where it is and how wide.
func (s *source) place(e *Error) {
	if e.Line < 1 || e.Line > len(s.lines) {
		return
	}
	text, caret := s.shown(e.Line, e.Column-1)
	runes := []rune(text)
	caret = min(caret, len(runes))
	e.Width = max(1, min(e.Width, len(runes)-caret))
	from := 0
	if caret+e.Width > excerptWidth {
		from = max(0, caret-excerptWidth/2)
	}
	if e.Line > 1 {
		prev, _ := s.shown(e.Line-1, 0)
		e.Excerpt = append(e.Excerpt, Line{e.Line - 1, window([]rune(prev), from)})
	}
	e.Excerpt = append(e.Excerpt, Line{e.Line, window(runes, from)})
	e.Caret = caret - from
	e.Width = max(1, min(e.Width, excerptWidth-e.Caret))
}

// window cuts the part of a line that is shown; what is cut leaves an ellipsis.
func window(line []rune, from int) string {
	part := line[min(from, len(line)):]
	if len(part) > excerptWidth {
		part = append(append([]rune(nil), part[:excerptWidth-1]...), '…')
	}
	if from > 0 && len(part) > 0 {
		part = append([]rune{'…'}, part[1:]...)
	}
	return strings.TrimRight(string(part), " ")
}

// shown returns a line with its secrets masked and made printable, and where
// the character at col has gone.
func (s *source) shown(line, col int) (string, int) {
	runes := []rune(s.line(line))
	masks := s.masks[line]
	sort.Slice(masks, func(i, j int) bool { return masks[i].from < masks[j].from })
	var b strings.Builder
	at, moved := 0, col
	for _, m := range masks {
		m.from, m.to = min(max(m.from, at), len(runes)), min(m.to, len(runes))
		if m.to <= m.from {
			continue
		}
		b.WriteString(string(runes[at:m.from]))
		b.WriteString(maskText)
		switch {
		case col >= m.to:
			moved += len(maskText) - (m.to - m.from)
		case col > m.from:
			moved -= col - m.from
		}
		at = m.to
	}
	b.WriteString(string(runes[at:]))
	return printable(b.String()), moved
}
