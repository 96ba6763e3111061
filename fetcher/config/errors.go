package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one thing wrong with the configuration, and where. Everything in it
// is safe to print: secrets are masked, control characters replaced, and
// values that came from the environment are shown as they are written in the
// file (${NAME}), never as what they stand for.
type Error struct {
	File   string // as it was given; "" if no file is to blame
	Line   int    // from 1; 0 if the file as a whole is meant
	Column int    // from 1, in characters; 0 if the line as a whole is meant
	Code   string // stable, for scripts: "config-unknown-key"
	Text   string // what is wrong, one line, lower case, no full stop

	Excerpt []Line // the line and the one before it; nil without Line
	Caret   int    // offset in the last excerpt line, in characters
	Width   int    // length of the caret
	Suggest string // stands beside the caret; "" for none
	Hint    string // what to do next; lines divided by \n, "" for none
}

// Line is a line of the file, made fit to print.
type Line struct {
	Number int
	Text   string
}

// Error is the headline: place and text on one line.
func (e *Error) Error() string {
	switch {
	case e.File == "":
		return e.Text
	case e.Line == 0:
		return e.File + ": " + e.Text
	case e.Column == 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
	default:
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
	}
}

// codeColumn is where the code stands, unless the headline is longer.
const codeColumn = 76

// Render writes e as a block of at most eight lines: the headline with the code
// at the right, two lines of the file, a caret with the suggestion, the hint.
func (e *Error) Render(w io.Writer, color bool) error {
	paint := func(code, s string) string {
		if !color || s == "" {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	var b strings.Builder
	head := e.Error()
	pad := max(2, codeColumn-utf8.RuneCountInString(head))
	fmt.Fprintf(&b, "%s%s%s\n", paint("1", head), strings.Repeat(" ", pad), paint("2", "["+e.Code+"]"))
	for _, l := range e.Excerpt {
		fmt.Fprintf(&b, "%s %s\n", paint("2", fmt.Sprintf("%4d |", l.Number)), l.Text)
	}
	if len(e.Excerpt) > 0 {
		mark := strings.Repeat("^", max(1, e.Width))
		fmt.Fprintf(&b, "%s %s%s", paint("2", "     |"), strings.Repeat(" ", e.Caret), paint("31;1", mark))
		if e.Suggest != "" {
			b.WriteString(" " + e.Suggest)
		}
		b.WriteByte('\n')
	}
	if e.Hint != "" {
		for l := range strings.SplitSeq(e.Hint, "\n") {
			b.WriteString("   " + l + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Errors are all the things wrong with one file, by line and column. It is the
// type of every error of Load and Parse, and never empty there.
type Errors []*Error

// Error has one line for each error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As reach the single errors.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// Render writes the block of each error.
func (es Errors) Render(w io.Writer, color bool) error {
	for _, e := range es {
		if err := e.Render(w, color); err != nil {
			return err
		}
	}
	return nil
}

// byPlace puts errors into the order in which they are met when reading.
func byPlace(es []*Error) {
	slices.SortStableFunc(es, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// printable makes text from the file safe for a terminal: what does not print
// (control characters, bidirectional overrides) becomes one stand-in, a tab an
// arrow, so that every character keeps its column.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return '→'
		case !unicode.IsPrint(r):
			return utf8.RuneError
		default:
			return r
		}
	}, s)
}
