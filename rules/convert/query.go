package convert

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"popferry/rules"
)

// query is the condition of a search as Gmail has them: words that must all be
// there, OR, { } for any, ( ) for groups, - for not, "…" for phrases, and
// operators such as from:. field is where words without operator are looked for;
// "" is anywhere. What is not sure is refused: an OR beside words that are not
// in parentheses, wildcards, operators that are not known.
func (g *gmail) query(text, field string, line int) (*cond, error) {
	q := &query{builder: g.builder, in: text, line: line}
	c, err := q.terms(field, 0, 0)
	if err != nil {
		return nil, err
	}
	if q.in != "" {
		return nil, unsuref(line, "search %q has a bracket that closes nothing", text)
	}
	if c.depth() > maxDepth {
		return nil, unsuref(line, "search %q is nested too deeply", text)
	}
	return c, nil
}

// sequence reports whether a search is several terms side by side, without OR.
func (g *gmail) sequence(text string) bool {
	scratch := &query{builder: newBuilder(Options{}), in: text}
	_, err := scratch.terms("", 0, 0)
	return err == nil && scratch.side > 1
}

// query is a search being read.
type query struct {
	*builder
	in   string
	line int
	side int // terms that stand side by side at the top
}

func (q *query) unsuref(format string, args ...any) error {
	return unsuref(q.line, format, args...)
}

// terms reads terms up to the bracket that closes them; 0 for the end.
func (q *query) terms(field string, closing byte, depth int) (*cond, error) {
	if depth > maxNesting {
		return nil, q.unsuref("a search that is nested too deeply")
	}
	var list []*cond
	ors, sides := 0, 0
	pending := false // an OR stands before the next term
	for {
		q.in = strings.TrimLeftFunc(q.in, unicode.IsSpace)
		if q.in == "" || q.in[0] == ')' || q.in[0] == '}' {
			break
		}
		if word, rest := q.peek(); word == "OR" || word == "AND" {
			if len(list) == 0 || pending {
				return nil, q.unsuref("a search with an %s between nothing", word)
			}
			q.in, pending = rest, word == "OR"
			if pending {
				ors++
			}
			continue
		}
		c, err := q.term(field, depth)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 && !pending {
			sides++
		}
		list, pending = append(list, c), false
	}
	switch {
	case closing != 0 && (q.in == "" || q.in[0] != closing):
		return nil, q.unsuref("a search with a bracket that is not closed")
	case len(list) == 0 || pending:
		return nil, q.unsuref("a search with nothing in it")
	case ors > 0 && sides > 0 && closing != '}':
		return nil, q.unsuref("a search with OR and words beside it, without parentheses")
	}
	if closing != 0 {
		q.in = q.in[1:]
	} else if ors == 0 {
		q.side = sides + 1
	}
	if closing == '}' || ors > 0 {
		return q.or(list...), nil
	}
	return q.and(list...), nil
}

// peek is the next word, up to a blank or bracket, and what follows it.
func (q *query) peek() (word, rest string) {
	i := strings.IndexFunc(q.in, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`(){}"`, r) })
	if i < 0 {
		i = len(q.in)
	}
	return q.in[:i], q.in[i:]
}

// term reads one term.
func (q *query) term(field string, depth int) (*cond, error) {
	switch q.in[0] {
	case '-':
		q.in = q.in[1:]
		if q.in == "" || unicode.IsSpace(rune(q.in[0])) {
			return nil, q.unsuref("a search with a - before nothing")
		}
		c, err := q.term(field, depth+1)
		if err != nil {
			return nil, err
		}
		return q.not(c), nil
	case '(':
		q.in = q.in[1:]
		return q.terms(field, ')', depth+1)
	case '{':
		q.in = q.in[1:]
		return q.terms(field, '}', depth+1)
	case '"':
		text, rest, closed := strings.Cut(q.in[1:], `"`)
		if !closed {
			return nil, q.unsuref("a search with a quote that is not closed")
		}
		q.in = rest
		return q.word(field, text)
	}
	word, rest := q.peek()
	q.in = rest
	op, value, ok := strings.Cut(word, ":")
	if !ok {
		return q.word(field, word)
	}
	if field != "" && field != "subject" {
		return nil, q.unsuref("an operator in a search for addresses: %q", word)
	}
	if value == "" && (rest == "" || !strings.ContainsRune(`({"`, rune(rest[0]))) {
		return nil, q.unsuref("operator %q without a value", word)
	}
	switch op = strings.ToLower(op); op {
	case "from", "to", "cc", "bcc", "subject", "list", "deliveredto":
		if value == "" {
			return q.term(op, depth+1)
		}
		return q.word(op, value)
	}
	return q.property(op, value)
}

// property is an operator that is not about words.
func (q *query) property(op, value string) (*cond, error) {
	switch {
	case op == "has" && value == "attachment":
		return q.of(rules.Test{Key: "has_attachment"}), nil
	case op == "larger" || op == "size" || op == "smaller":
		m := querySize.FindStringSubmatch(value)
		if m == nil {
			break
		}
		n, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil {
			break
		}
		compare := ">"
		if op == "smaller" {
			compare = "<"
		}
		n <<= map[string]int{"": 0, "k": 10, "m": 20}[strings.ToLower(m[2])]
		return q.of(rules.Test{Key: "size", Size: rules.SizeTest{Op: compare, N: n}}), nil
	case op == "rfc822msgid" && value != "":
		id := strings.Trim(value, "<>")
		return q.checked(rules.Test{Key: "header", Name: "Message-ID", Patterns: []rules.Pattern{{Kind: rules.Is, Text: "<" + id + ">"}}}, q.line)
	}
	return nil, q.unsuref("search for %q is not known here", op+":"+value)
}

var querySize = regexp.MustCompile(`^([0-9]+)([kKmM]?)[bB]?$`)

// word is the condition that a word or phrase is in a field.
func (q *query) word(field, text string) (*cond, error) {
	text = strings.TrimSpace(text)
	switch {
	case field == "list":
		return q.list(text)
	case field != "" && field != "subject":
		return q.address(field, text)
	case strings.Contains(text, "*"):
		return nil, q.unsuref("search for %q, which has a wildcard", text)
	}
	pattern, ok := wordPattern(text)
	if !ok {
		return nil, q.unsuref("search for %q, which has no word in it", text)
	}
	subject, err := q.checked(rules.Test{Key: "subject", Patterns: []rules.Pattern{pattern}}, q.line)
	if field == "subject" || err != nil {
		return subject, err
	}
	body, err := q.checked(rules.Test{Key: "body", Patterns: []rules.Pattern{pattern}}, q.line)
	if err != nil {
		return nil, err
	}
	return q.or(subject, q.fields(pattern, "From", "To", "Cc"), body), nil
}

// fields is a pattern in any of the header fields.
func (q *query) fields(p rules.Pattern, names ...string) *cond {
	any := make([]*cond, len(names))
	for i, n := range names {
		any[i] = q.of(rules.Test{Key: "header", Name: n, Patterns: []rules.Pattern{p}})
	}
	return q.or(any...)
}

var (
	mailAddress = regexp.MustCompile(`^[^\s@"(),:;<>\[\]\\]*@[A-Za-z0-9.-]+$`)
	domainText  = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
)

// address is a search in an address field: an address, a domain, or words of a
// name.
func (q *query) address(field, text string) (*cond, error) {
	key, names := field, []string{map[string]string{"from": "From", "cc": "Cc", "bcc": "Bcc", "deliveredto": "Delivered-To"}[field]}
	switch field {
	case "to":
		key, names = "recipient", []string{"To", "Cc", "Bcc"}
	case "deliveredto":
		key = "recipient"
	}
	local, domain, at := strings.Cut(text, "@")
	test := rules.Test{Key: key}
	switch {
	case at && (local == "" || local == "*") && domainText.MatchString(domain):
		test.Patterns = []rules.Pattern{{Kind: rules.Domain, Text: domain}}
	case at && (domain == "" || domain == "*") && local != "" && !strings.ContainsAny(local, `*?\`):
		test.Patterns = []rules.Pattern{{Kind: rules.Glob, Text: local + "@*"}}
	case at && mailAddress.MatchString(text) && !strings.ContainsAny(text, "*?"):
		test.Patterns = []rules.Pattern{{Kind: rules.Is, Text: text}}
	case !at && domainText.MatchString(text): // or a local part with a dot
		test.Patterns = []rules.Pattern{{Kind: rules.Domain, Text: text}, {Kind: rules.Glob, Text: text + "@*"}}
	case at || strings.Contains(text, "*") || strings.ContainsAny(text, ",;<>"):
		return nil, q.unsuref("search for the address %q", text)
	default:
		pattern, ok := wordPattern(text)
		if !ok {
			return nil, q.unsuref("search for %q, which has no word in it", text)
		}
		return q.fields(pattern, names...), nil
	}
	return q.checked(test, q.line)
}

// list is a search for a mailing list: its identifier, or its address.
func (q *query) list(text string) (*cond, error) {
	id := strings.ReplaceAll(strings.Trim(text, "<>"), "@", ".")
	if !domainText.MatchString(id) {
		return nil, q.unsuref("search for the list %q", text)
	}
	return q.checked(rules.Test{Key: "list_id", Patterns: []rules.Pattern{{Kind: rules.Domain, Text: id}}}, q.line)
}

// wordPattern finds the words of text one after the other, whole. It reports
// false if there are none.
func wordPattern(text string) (rules.Pattern, bool) {
	words := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) })
	if len(words) == 0 {
		return rules.Pattern{}, false
	}
	body := strings.Join(words, `[^\pL\pN]+`)
	first, _ := utf8.DecodeRuneInString(body)
	last, _ := utf8.DecodeLastRuneInString(body)
	before, after := `\b`, `\b`
	if first >= utf8.RuneSelf { // \b knows ASCII only
		before = `(?:^|[^\pL\pN])`
	}
	if last >= utf8.RuneSelf {
		after = `(?:$|[^\pL\pN])`
	}
	return rules.Pattern{Kind: rules.Regex, Text: "(?i)" + before + body + after}, true
}
