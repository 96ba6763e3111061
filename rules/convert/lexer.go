package convert

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is the kind of a token (RFC 5228 §8.1).
type kind int

const (
	tokenEnd kind = iota
	tokenName
	tokenTag    // ":is"; text without the colon
	tokenNumber // n
	tokenString
	tokenMark // one of ; , ( ) [ ] { }
)

// token is one word of a script.
type token struct {
	kind kind
	text string // of a name or tag in lower case
	n    int64
	at   place
}

// place is where in a script something stands. A column is counted only when an
// error asks for it.
type place struct{ line, start, pos int }

// String is the token as an error shows it.
func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the script"
	case tokenTag:
		return ":" + printable(t.text)
	case tokenString:
		return "a string"
	case tokenNumber:
		return strconv.FormatInt(t.n, 10)
	}
	return strconv.Quote(printable(t.text))
}

// lexer takes a script apart. remark is the comment that stands last before the
// token read last: managing programs keep the names of rules there.
type lexer struct {
	in string
	place
	remark string
}

func (l *lexer) errorf(format string, args ...any) *Error { return l.errorAt(l.place, format, args...) }

func (l *lexer) errorAt(at place, format string, args ...any) *Error {
	column := utf8.RuneCountInString(l.in[at.start:at.pos]) + 1
	return &Error{Line: at.line, Column: column, Text: fmt.Sprintf(format, args...)}
}

// advance moves n octets on and counts lines.
func (l *lexer) advance(n int) {
	for _, c := range []byte(l.in[l.pos : l.pos+n]) {
		l.pos++
		if c == '\n' {
			l.line++
			l.start = l.pos
		}
	}
}

// next returns the next token.
func (l *lexer) next() (token, *Error) {
	if err := l.blank(); err != nil {
		return token{}, err
	}
	t := token{at: l.place}
	if l.pos == len(l.in) {
		return t, nil
	}
	switch c := l.in[l.pos]; {
	case c == '"':
		text, err := l.quoted()
		t.kind, t.text = tokenString, text
		return t, err
	case c == ':' || isLetter(c):
		t.kind = tokenName
		if c == ':' {
			t.kind = tokenTag
			l.advance(1)
		}
		if t.text = strings.ToLower(l.word()); t.text == "" || isDigit(t.text[0]) {
			return t, l.errorAt(t.at, "a colon without the name of an option")
		}
		if t.kind == tokenName && t.text == "text" && strings.HasPrefix(l.in[l.pos:], ":") {
			text, err := l.multiline(t.at)
			t.kind, t.text = tokenString, text
			return t, err
		}
		return t, nil
	case isDigit(c):
		n, err := l.number(t.at)
		t.kind, t.n = tokenNumber, n
		return t, err
	case strings.IndexByte(";,()[]{}", c) >= 0:
		t.kind, t.text = tokenMark, string(c)
		l.advance(1)
		return t, nil
	}
	r, _ := utf8.DecodeRuneInString(l.in[l.pos:])
	return t, l.errorf("%s cannot stand here", strconv.Quote(printable(string(r))))
}

// blank passes over white space and comments.
func (l *lexer) blank() *Error {
	for l.pos < len(l.in) {
		rest := l.in[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.advance(1)
		case rest[0] == '#':
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			l.remark = strings.TrimSpace(rest[1:end])
			l.advance(end)
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return l.errorf("a comment begins here and has no */")
			}
			l.advance(end + 4)
		default:
			return nil
		}
	}
	return nil
}

// word takes an identifier.
func (l *lexer) word() string {
	i := l.pos
	for i < len(l.in) && (isLetter(l.in[i]) || isDigit(l.in[i])) {
		i++
	}
	text := l.in[l.pos:i]
	l.pos = i
	return text
}

// number takes a number with its quantifier, a power of 1024.
func (l *lexer) number(at place) (int64, *Error) {
	text := l.word()
	shift := 0
	if i := strings.IndexByte("kmg", text[len(text)-1]|0x20); i >= 0 {
		text, shift = text[:len(text)-1], 10*(i+1)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, l.errorAt(at, "%s is no number", strconv.Quote(printable(text)))
	}
	return n << shift, nil
}

// quoted takes a string; a backslash quotes the character behind it.
func (l *lexer) quoted() (string, *Error) {
	var b strings.Builder
	for i := l.pos + 1; i < len(l.in); i++ {
		switch l.in[i] {
		case '"':
			l.advance(i + 1 - l.pos)
			return b.String(), nil
		case '\\':
			if i++; i < len(l.in) {
				b.WriteByte(l.in[i])
			}
		case '\r': // line ends are LF here
			if i+1 == len(l.in) || l.in[i+1] != '\n' {
				b.WriteByte('\r')
			}
		default:
			b.WriteByte(l.in[i])
		}
	}
	return "", l.errorf("a string begins here and is not closed")
}

// multiline takes what follows text, up to a line with a dot; dots at the start
// of a line are doubled in it.
func (l *lexer) multiline(open place) (string, *Error) {
	l.advance(1)
	for l.pos < len(l.in) && l.in[l.pos] != '\n' {
		if l.in[l.pos] == '#' {
			l.advance(len(l.in[l.pos:]) - len(strings.TrimLeft(l.in[l.pos:], "#")))
			if end := strings.IndexByte(l.in[l.pos:], '\n'); end >= 0 {
				l.advance(end)
			} else {
				l.advance(len(l.in) - l.pos)
			}
			break
		}
		if strings.IndexByte(" \t\r", l.in[l.pos]) < 0 {
			return "", l.errorf("the text begins on the line below")
		}
		l.advance(1)
	}
	var b strings.Builder
	for l.pos < len(l.in) {
		l.advance(1) // the line break before
		end := strings.IndexByte(l.in[l.pos:], '\n')
		if end < 0 {
			end = len(l.in) - l.pos
		}
		line := strings.TrimSuffix(l.in[l.pos:l.pos+end], "\r")
		l.advance(end)
		if line == "." {
			return b.String(), nil
		}
		if strings.HasPrefix(line, "..") {
			line = line[1:]
		}
		b.WriteString(line + "\n")
	}
	return "", l.errorAt(open, "text: begins here and has no line with a dot")
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
