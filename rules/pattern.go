package rules

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

func (c *compiler) pattern(path, key string, source *Pattern) pattern {
	p := pattern{source: source}
	switch text := source.Text; {
	case len(text) > maxPattern:
		c.errorf(path, "the pattern is longer than %d octets", maxPattern)
		return p
	case !utf8.ValidString(text):
		c.errorf(path, "the pattern is not UTF-8")
		return p
	}
	var err error
	switch source.Kind {
	case Glob:
		p.glob = compileGlob(source.Text)
	case Local, Detail:
		if p.glob = compileGlob(source.Text); addressFields[key] == nil {
			err = fmt.Errorf("%s has no address", key)
		}
	case Is:
		p.folded = fold(source.Text)
	case Contains:
		if p.folded = fold(source.Text); p.folded == "" {
			err = errors.New("every text contains an empty one; {exists: yes} asks for that")
		}
	case Regex:
		if p.re, p.folded, err = compileRegex(source.Text); err == nil {
			c.groups = max(c.groups, p.re.NumSubexp())
		}
	case Domain:
		p.mailbox = key != "list_id"
		p.folded, err = compileDomain(key, source.Text)
	case Exists:
		p.yes = source.Text == "yes"
		switch {
		case !p.yes && source.Text != "no":
			err = fmt.Errorf("exists is yes or no, not %q", source.Text)
		case key == "account", key == "body":
			err = fmt.Errorf("every message has %s %s", map[string]string{"account": "an", "body": "a"}[key], key)
		}
	default:
		err = fmt.Errorf("there is no pattern of kind %d", source.Kind)
	}
	if err != nil {
		c.errorf(path, "%v", err)
	}
	return p
}

// compileRegex refuses what would be slow on every message: RE2 is linear in
// the text, but in the size of the program too, and (x{100}){10} is a short
// way to write a large one.
//
// literal is text that stands, case aside, in everything the expression matches:
// to look for it first is a hundred times as fast.
func compileRegex(text string) (re *regexp.Regexp, literal string, err error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, "", regexError(err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, "", regexError(err)
	}
	if len(program.Inst) > maxProgram {
		return nil, "", fmt.Errorf("the regex %q becomes a program of %d steps; %d are allowed", text, len(program.Inst), maxProgram)
	}
	re, err = regexp.Compile(text)
	if err != nil {
		return nil, "", regexError(err)
	}
	return re, required(parsed.Simplify()), nil
}

// required returns the longest literal that each match of re holds, folded; "" if
// none is found.
func required(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		return fold(string(re.Rune))
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		longest := ""
		for _, sub := range re.Sub {
			if s := required(sub); len(s) > len(longest) {
				longest = s
			}
		}
		return longest
	}
	return ""
}

// regexError drops the words that every error of package regexp begins with.
func regexError(err error) error {
	if bad, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("regex: %s: %q", bad.Code, bad.Expr)
	}
	return err
}

func compileDomain(key, text string) (string, error) {
	if addressFields[key] == nil && key != "list_id" {
		return "", fmt.Errorf("%s has no domain", key)
	}
	if text == "" || strings.ContainsAny(text, "@*? \t") || strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") {
		return "", fmt.Errorf("%q is no domain; write it bare, as in example.com, which covers all below it", text)
	}
	return fold(text), nil
}
