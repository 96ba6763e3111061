package convert

import (
	"strings"
	"unicode/utf8"
)

// node is a command or a test: a name, arguments, tests and a block (RFC 5228
// §8.2).
type node struct {
	name     string
	line     int
	args     []argument
	tests    []*node
	block    []*node
	hasBlock bool
	remark   string // the comment above a command
}

// argument is a tag, a number, or a string or list of them.
type argument struct {
	tag     string // without the colon; "" for others
	number  int64
	isNum   bool
	strings []string
}

// Limits of a script. RFC 5228 §2.10.7 asks for 15 levels at least.
const (
	maxNesting = 32
	maxNodes   = 20_000 // commands, tests, and strings in lists
)

// parser reads a script into nodes.
type parser struct {
	lexer
	tok   token
	nodes int
}

// parseSieve reads a whole script.
func parseSieve(data []byte) ([]*node, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	switch {
	case len(data) > maxInput:
		return nil, &Error{Text: "larger than 1 MiB, so it cannot be a filter"}
	case !utf8.ValidString(text):
		return nil, &Error{Text: "not UTF-8 text"}
	}
	p := &parser{lexer: lexer{in: text, place: place{line: 1}}}
	if err := p.step(); err != nil {
		return nil, err
	}
	commands, err := p.commands(0)
	if err == nil && p.tok.kind != tokenEnd {
		err = p.wrong("a command")
	}
	if err != nil {
		return nil, err
	}
	return commands, nil
}

// step reads the next token.
func (p *parser) step() *Error {
	var err *Error
	p.tok, err = p.next()
	return err
}

// wrong says what should have stood where the last token does.
func (p *parser) wrong(want string) *Error {
	return p.errorAt(p.tok.at, "%s stands where %s should", p.tok, want)
}

func (p *parser) isMark(mark string) bool { return p.tok.kind == tokenMark && p.tok.text == mark }

// commands reads commands up to something else.
func (p *parser) commands(depth int) ([]*node, *Error) {
	var list []*node
	for p.tok.kind == tokenName {
		remark := p.remark
		p.remark = ""
		n, err := p.node(depth)
		if err != nil {
			return nil, err
		}
		n.remark = remark
		switch {
		case p.isMark(";"):
		case p.isMark("{"):
			if err := p.step(); err != nil {
				return nil, err
			}
			if n.block, err = p.commands(depth + 1); err != nil {
				return nil, err
			}
			n.hasBlock = true
			if !p.isMark("}") {
				return nil, p.wrong(`a command or "}"`)
			}
		default:
			return nil, p.wrong(`";" or "{"`)
		}
		if err := p.step(); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// node reads a name, arguments and tests.
func (p *parser) node(depth int) (*node, *Error) {
	if p.nodes++; p.nodes > maxNodes || depth > maxNesting {
		return nil, p.errorAt(p.tok.at, "the script is too large or nested too deeply")
	}
	n := &node{name: p.tok.text, line: p.tok.at.line}
	if err := p.step(); err != nil {
		return nil, err
	}
	for {
		arg, ok, err := p.argument()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		n.args = append(n.args, arg)
	}
	switch {
	case p.tok.kind == tokenName:
		test, err := p.node(depth + 1)
		if err != nil {
			return nil, err
		}
		n.tests = []*node{test}
	case p.isMark("("):
		for more := true; more; more = p.isMark(",") {
			if err := p.step(); err != nil {
				return nil, err
			}
			if p.tok.kind != tokenName {
				return nil, p.wrong("a test")
			}
			test, err := p.node(depth + 1)
			if err != nil {
				return nil, err
			}
			n.tests = append(n.tests, test)
		}
		if !p.isMark(")") {
			return nil, p.wrong(`"," or ")"`)
		}
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// argument reads one argument; false if there is none.
func (p *parser) argument() (arg argument, ok bool, err *Error) {
	switch {
	case p.tok.kind == tokenTag:
		arg.tag = p.tok.text
	case p.tok.kind == tokenNumber:
		arg.isNum, arg.number = true, p.tok.n
	case p.tok.kind == tokenString:
		arg.strings = []string{p.tok.text}
	case p.isMark("["):
		for more := true; more; more = p.isMark(",") {
			if err := p.step(); err != nil {
				return arg, false, err
			}
			if p.tok.kind != tokenString {
				return arg, false, p.wrong("a string")
			}
			if p.nodes++; p.nodes > maxNodes {
				return arg, false, p.errorAt(p.tok.at, "the script is too large")
			}
			arg.strings = append(arg.strings, p.tok.text)
			if err := p.step(); err != nil {
				return arg, false, err
			}
		}
		if !p.isMark("]") {
			return arg, false, p.wrong(`"," or "]"`)
		}
	default:
		return arg, false, nil
	}
	return arg, true, p.step()
}
