package convert

import (
	"regexp"
	"slices"
	"strings"

	"popferry/rules"
)

// matching is how a test compares: a match type and a comparator.
type matching struct {
	kind  string // "is", "contains", "matches" or "regex"
	exact bool   // i;octet: letters are compared with their case
	line  int
	name  string // of the test
}

// matchOf reads match type and comparator; more are other options of the test.
func matchOf(a *args, more ...string) (matching, error) {
	kinds := []string{"is", "contains", "matches", "regex"}
	if err := a.known(slices.Concat(kinds, []string{"comparator"}, more)...); err != nil {
		return matching{}, err
	}
	m := matching{kind: "is", line: a.line, name: a.name}
	for _, k := range kinds {
		if a.has(k) {
			m.kind = k
		}
	}
	if c := a.values["comparator"]; len(c) == 1 {
		switch strings.ToLower(c[0]) {
		case "i;octet":
			m.exact = true
		case "i;ascii-casemap", "i;unicode-casemap", "en;ascii-casemap":
		default:
			return m, unsuref(a.line, "comparator %q is not known here", c[0])
		}
	}
	return m, nil
}

// part is the part of an address that is compared, or for Return-Path, which
// has its address in angle brackets, "path " and the part.
type part string

const (
	whole      part = ""
	localPart  part = "localpart"
	domainPart part = "domain"
	userPart   part = "user"
	detailPart part = "detail"
)

// frames are where in an address a part stands, as an expression around it. A
// domain has no "@", a local part may have one.
var frames = map[part][2]string{
	whole:      {`^`, `$`},
	localPart:  {`^`, `@[^@]*$`},
	domainPart: {`@`, `$`},
	userPart:   {`^`, `(\+.*)?@[^@]*$`},
	detailPart: {`^[^+@]*\+`, `@[^@]*$`},
}

// patterns are what keys mean for a part.
func (m matching) patterns(keys []string, p part) ([]rules.Pattern, error) {
	list := make([]rules.Pattern, 0, len(keys))
	for _, key := range keys {
		pattern, err := m.pattern(key, p)
		if err != nil {
			return nil, err
		}
		list = append(list, pattern)
	}
	return list, nil
}

func (m matching) pattern(key string, p part) (rules.Pattern, error) {
	literal := !strings.ContainsAny(key, `*?\`)
	switch {
	case p == domainPart && strings.Contains(key, "@"):
		return rules.Pattern{}, unsuref(m.line, "domain %q has an @", key)
	case m.kind == "regex":
		return m.regex(key, p)
	case key == "" && m.kind == "contains" && p == whole:
		return present, nil
	case m.exact || key == "" || strings.HasPrefix(string(p), "path "):
	case p == whole && m.kind == "is":
		return rules.Pattern{Kind: rules.Is, Text: key}, nil
	case p == whole && m.kind == "contains":
		return rules.Pattern{Kind: rules.Contains, Text: key}, nil
	case p == whole && !strings.Contains(key, `\`):
		return rules.Pattern{Kind: rules.Glob, Text: key}, nil
	case (p == localPart || p == detailPart) && (literal || m.kind == "matches" && !strings.Contains(key, `\`)):
		kind := rules.Local
		if p == detailPart {
			kind = rules.Detail
		}
		if m.kind == "contains" {
			key = "*" + key + "*"
		}
		return rules.Pattern{Kind: kind, Text: key}, nil
	case p == domainPart && m.kind == "is" && literal:
		return rules.Pattern{Kind: rules.Glob, Text: "*@" + key}, nil
	}
	return m.framed(key, p)
}

// framed is an expression that compares a part with a key.
func (m matching) framed(key string, p part) (rules.Pattern, error) {
	any, one := `.*`, `.`
	if p == domainPart || p == "path "+domainPart {
		any, one = `[^@]*`, `[^@]`
	}
	body := regexp.QuoteMeta(key)
	switch m.kind {
	case "contains":
		body = any + body + any
	case "matches":
		body = wildcards(key, any, one)
	}
	return m.expression(body, p), nil
}

// expression frames what a part must look like.
func (m matching) expression(body string, p part) rules.Pattern {
	inner, path := strings.CutPrefix(string(p), "path ")
	frame := frames[part(inner)]
	if path {
		frame[0] = strings.Replace(frame[0], `^`, `^<`, 1)
		frame[1] = strings.Replace(frame[1], `$`, `>$`, 1)
	}
	flags := "(?is)"
	if m.exact {
		flags = "(?s)"
	}
	return rules.Pattern{Kind: rules.Regex, Text: flags + frame[0] + body + frame[1]}
}

// wildcards is a key of :matches as an expression; any stands for a "*", one for
// a "?".
func wildcards(key, any, one string) string {
	var b strings.Builder
	escaped := false
	for _, r := range key {
		switch {
		case escaped:
			b.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '*':
			b.WriteString(any)
		case r == '?':
			b.WriteString(one)
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if escaped {
		b.WriteString(`\\`)
	}
	return b.String()
}

// regex is the POSIX expression of draft-ietf-sieve-regex, which RE2 reads alike
// but for what is refused here.
func (m matching) regex(key string, p part) (rules.Pattern, error) {
	text, why := posix(key)
	if why == "" && p != whole {
		why = "cannot be used for a part of an address"
	}
	if why == "" {
		if _, err := regexp.Compile(text); err != nil {
			why = "has no meaning in RE2"
		}
	}
	if why != "" {
		return rules.Pattern{}, unsuref(m.line, "the expression %q %s", key, why)
	}
	if !m.exact {
		text = "(?i)" + text
	}
	return rules.Pattern{Kind: rules.Regex, Text: text}, nil
}

// posix turns a POSIX expression into one of RE2: in brackets a backslash is
// itself. It says why not, where programs differ.
func posix(key string) (text, why string) {
	var b strings.Builder
	brackets := false
	for i := 0; i < len(key); i++ {
		c := key[i]
		switch {
		case brackets && c == '\\':
			b.WriteString(`\\`)
			continue
		case brackets && c == '[' && i+1 < len(key) && strings.IndexByte(":.=", key[i+1]) >= 0:
			end := strings.Index(key[i+2:], key[i+1:i+2]+"]")
			if key[i+1] != ':' || end < 0 {
				return "", "has a collating element"
			}
			b.WriteString(key[i : i+2+end+2])
			i += 2 + end + 1
			continue
		case brackets && c == '[':
			b.WriteString(`\[`)
			continue
		case brackets && c == ']':
			brackets = false
		case c == '[' && !brackets:
			brackets = true
			b.WriteByte('[')
			for _, first := range []string{"^", "]"} {
				if strings.HasPrefix(key[i+1:], first) {
					i++
					b.WriteString(map[string]string{"^": "^", "]": `\]`}[first])
				}
			}
			continue
		case c == '\\' && i+1 < len(key):
			i++
			if next := key[i]; isLetter(next) && strings.IndexByte("wWsSdDbB", next) < 0 || isDigit(next) || strings.IndexByte("<>`'", next) >= 0 {
				return "", "has an escape that programs read in different ways"
			}
			b.WriteByte('\\')
			c = key[i]
		case c == '(' && strings.HasPrefix(key[i:], "(?"):
			return "", "has a group that POSIX does not know"
		}
		b.WriteByte(c)
	}
	return b.String(), ""
}
