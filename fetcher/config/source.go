package config

import (
	"cmp"
	"regexp"
	"slices"
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
	masks  map[int][]span // by line, from 1
	cache  map[int][]rune // lines as they are shown
}

// span is a range of characters in a line, from 0, end not included.
type span struct{ from, to int }

const (
	lineEnd  = 1 << 30 // a span to the end of its line
	longLine = 4 << 10 // octets; a secret hides all of a longer line, or finding each costs squared time
)

func newSource(name string, data []byte) *source {
	return &source{
		name:   name,
		lines:  lineBreak.Split(string(data), -1),
		hidden: map[*yaml.Node]bool{},
		masks:  map[int][]span{},
		cache:  map[int][]rune{},
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
	// secretWords are in the names of keys that hold secrets.
	secretWords = []string{"pass", "pwd", "pword", "secret", "token", "basic_auth"}
	// secretText finds a secret inside other text: "password:x", as it comes out
	// when the blank is forgotten, and user:password@ in a URL.
	secretText = regexp.MustCompile(`(?i)['"]?\w*(pass|pwd|pword|secret|token|basic_auth)\w*['"]?\s*[:=]\s*|://\S*@`)
	// anyAddress finds an address of which more than the host is given, which may
	// be all that somebody needs to send notifications, in text that is not parsed.
	anyAddress = regexp.MustCompile(`(?i)https?://[^\s/]+/`)
	// onlyVariable is what is no secret itself.
	onlyVariable = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}$`)
)

// isSecretKey reports whether what stands under key must not be shown. It is
// generous: a misspelt "pasword" is an unknown key, and its line is shown.
func isSecretKey(key string) bool {
	if strings.HasSuffix(key, "_file") {
		return false
	}
	key = strings.ToLower(key)
	return key == "pw" || distance(key, "url") <= 1 || hasSecretWord(key) || distance(key, "password") <= 3
}

func hasSecretWord(lower string) bool {
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(lower, w) })
}

// findSecret returns where in text the key of a secret, or a URL with a user,
// begins and where the secret begins; nil if there is none.
func findSecret(text string) []int {
	if !strings.Contains(text, "://") && !hasSecretWord(strings.ToLower(text)) {
		return nil // most text, and searching costs
	}
	return secretText.FindStringIndex(text)
}

// findLoosely is findSecret for text of which nobody knows what is below which
// key: addresses count as secrets from the path on.
func findLoosely(text string) []int {
	at := findSecret(text)
	if strings.Contains(text, "://") {
		if u := anyAddress.FindStringIndex(text); u != nil && (at == nil || u[0] < at[0] && !strings.Contains(text[u[0]:u[1]], "@")) {
			return u // else the secret begins before its end
		}
	}
	return at
}

// hideSecrets masks every scalar below a key that looks like a secret's, and
// every scalar that looks as if it held one.
func (s *source) hideSecrets(doc *yaml.Node) {
	var starts []*yaml.Node
	addresses := false // below notify they are secrets, whatever the key
	var walk func(n *yaml.Node, secret bool)
	walk = func(n *yaml.Node, secret bool) {
		starts = append(starts, n)
		switch n.Kind {
		case yaml.ScalarNode:
			if (secret || findSecret(n.Value) != nil || addresses && strings.Contains(n.Value, "://")) && !onlyVariable.MatchString(n.Value) {
				s.hidden[n] = true
			}
		case yaml.AliasNode:
			if secret && n.Alias.Kind == yaml.ScalarNode {
				s.hidden[n.Alias] = true
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				outer := addresses
				walk(n.Content[i], false)
				addresses = addresses || strings.HasPrefix(n.Content[i].Value, "notif")
				walk(n.Content[i+1], secret || isSecretKey(n.Content[i].Value))
				addresses = outer
			}
		default:
			for _, c := range n.Content {
				walk(c, secret)
			}
		}
	}
	walk(doc, false)
	slices.SortStableFunc(starts, func(a, b *yaml.Node) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	for i, n := range starts {
		if !s.hidden[n] {
			continue
		}
		line, col := len(s.lines)+1, 1
		for _, next := range starts[i+1:] {
			if next.Line > n.Line || next.Column > n.Column {
				line, col = next.Line, next.Column
				break
			}
		}
		s.mask(n, line, col)
	}
	s.maskComments()
}

// quoted is a scalar in quotes that ends on its line.
var quoted = regexp.MustCompile(`^("([^"\\]|\\.)*"|'([^']|'')*')`)

// mask hides scalar n, which ends before the place of the next node. One that
// stands on one line is masked exactly, so that carets behind it stay right.
func (s *source) mask(n *yaml.Node, line, col int) {
	if len(s.line(n.Line)) > longLine {
		s.masks[n.Line] = []span{{0, lineEnd}}
		return
	}
	from := n.Column - 1
	rest := tail(s.line(n.Line), from)
	exact := quoted.FindString(rest)
	if n.Style == 0 && strings.HasPrefix(rest, n.Value) {
		exact = n.Value
	}
	if exact != "" {
		s.masks[n.Line] = append(s.masks[n.Line], span{from, from + utf8.RuneCountInString(exact)})
		return
	}
	for l := n.Line; l <= line && l <= len(s.lines); l++ {
		m := span{indent(s.line(l)), lineEnd}
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
		if at := findLoosely(text[hash:]); at != nil {
			from := hash + at[1]
			if strings.HasPrefix(text[hash+at[0]:], "://") {
				from = hash + at[0] // the secret stands before the @
			}
			s.masks[i+1] = append(s.masks[i+1], span{utf8.RuneCountInString(text[:from]), lineEnd})
		}
	}
}

// maskUnparsed hides what may be a secret in a file without a syntax tree: all
// of a line after the key, and the lines indented below it.
func (s *source) maskUnparsed() {
	deeper := -1 // mask lines indented by more than this
	for i, text := range s.lines {
		if deeper >= 0 && (indent(text) > deeper || strings.TrimSpace(text) == "") {
			s.masks[i+1] = []span{{indent(text), lineEnd}}
			continue
		}
		deeper = -1
		if at := findLoosely(text); at != nil && !onlyVariable.MatchString(strings.TrimSpace(text[at[1]:])) {
			deeper = utf8.RuneCountInString(text[:at[0]])
			from := utf8.RuneCountInString(text[:at[1]])
			if strings.HasPrefix(text[at[0]:], "://") {
				from = deeper
			}
			s.masks[i+1] = []span{{from, lineEnd}}
		}
	}
}

// indent counts the blanks and tabs that a line begins with.
func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

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
	runes := s.shown(e.Line)
	caret := min(s.moved(e.Line, e.Column-1), len(runes))
	e.Width = max(1, min(e.Width, len(runes)-caret))
	from := 0
	if caret+e.Width > excerptWidth {
		from = max(0, caret-excerptWidth/2)
	}
	if e.Line > 1 {
		e.Excerpt = append(e.Excerpt, Line{e.Line - 1, window(s.shown(e.Line-1), 0)})
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

// shown returns a line with its secrets masked and made printable. All masks
// must be known.
func (s *source) shown(line int) []rune {
	if runes, ok := s.cache[line]; ok {
		return runes
	}
	runes := []rune(s.line(line))
	var b strings.Builder
	at := 0
	for _, m := range s.merged(line, len(runes)) {
		b.WriteString(string(runes[at:m.from]))
		b.WriteString(maskText)
		at = m.to
	}
	b.WriteString(string(runes[at:]))
	shown := []rune(printable(b.String()))
	s.cache[line] = shown
	return shown
}

// moved returns where the character at col of a line stands when it is shown.
func (s *source) moved(line, col int) int {
	shift := 0
	for _, m := range s.merged(line, lineEnd) {
		switch {
		case col >= m.to:
			shift += len(maskText) - (m.to - m.from)
		case col > m.from:
			return m.from + shift
		}
	}
	return col + shift
}

// merged returns the masks of a line of n characters, in order and apart.
func (s *source) merged(line, n int) []span {
	masks := s.masks[line]
	slices.SortFunc(masks, func(a, b span) int { return a.from - b.from })
	var apart []span
	at := 0
	for _, m := range masks {
		if m.from, m.to = max(m.from, at), min(m.to, n); m.from < m.to {
			apart = append(apart, m)
			at = m.to
		}
	}
	return apart
}
