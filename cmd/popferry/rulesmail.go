package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"regexp"

	"popferry/rules"
	"popferry/targets/endpoint"
)

// mailMax is how much of one message in a file is read. Rules look at less.
const mailMax = 64 << 20

// source is a file with messages: one, or an mbox with several.
type source struct {
	name string
	r    *bufio.Reader
	f    io.Closer // nil for standard input
	mbox bool
}

// openMail opens a file with messages; - is standard input.
func (a *app) openMail(path string) (*source, error) {
	s := &source{name: path}
	if path == "-" {
		s.r = bufio.NewReader(a.stdin)
	} else {
		f, err := os.Open(path)
		if err != nil {
			return nil, noFile(err)
		}
		s.f, s.r = f, bufio.NewReader(f)
	}
	head, err := s.r.Peek(len("From "))
	if err != nil && !errors.Is(err, io.EOF) {
		s.close()
		return nil, noFile(err)
	}
	s.mbox = bytes.Equal(head, []byte("From "))
	return s, nil
}

// noFile is a file that cannot be read: a slip on the command line.
func noFile(err error) error {
	return &usageError{text: plain(err), hint: "Name a message (.eml), an mbox, or - for standard input."}
}

func (s *source) close() {
	if s.f != nil {
		s.f.Close()
	}
}

// messages are the messages of the file, one after the other. An error is the
// last.
func (s *source) messages() iter.Seq2[*rules.Message, error] {
	if s.mbox {
		return s.mboxMessages
	}
	return func(yield func(*rules.Message, error) bool) {
		octets, err := io.ReadAll(io.LimitReader(s.r, mailMax))
		if err != nil {
			yield(nil, noFile(err))
			return
		}
		m := rules.ReadMessage(octets)
		rest, err := io.Copy(io.Discard, s.r)
		m.Size += rest
		if err != nil {
			yield(nil, noFile(err))
			return
		}
		yield(m, nil)
	}
}

// fromLine is what separates messages: sender, and a date with a time of day.
var fromLine = regexp.MustCompile(`^From \S+ .*\d:\d\d`)

// mboxMessages splits an mbox at its "From " lines after an empty line; ">From "
// and its like lose one ">" (mboxrd).
func (s *source) mboxMessages(yield func(*rules.Message, error) bool) {
	var buf bytes.Buffer
	extra := int64(0) // octets beyond mailMax
	message := func() *rules.Message {
		octets := bytes.Clone(buf.Bytes())
		for _, end := range []string{"\n", "\r\n"} { // the empty line before the next "From " is the mbox's
			if bytes.HasSuffix(octets, []byte(end+end)) {
				octets = octets[:len(octets)-len(end)]
			}
		}
		m := rules.ReadMessage(octets)
		m.Size += extra
		buf.Reset()
		extra = 0
		return m
	}
	begun, empty, start := false, true, true // start: at the start of a line
	separator := false                       // in a "From " line
	for {
		part, err := s.r.ReadSlice('\n')
		if start {
			separator = !begun || empty && fromLine.Match(part)
			if separator && begun && !yield(message(), nil) {
				return
			}
			begun = true
			if quoted := bytes.TrimLeft(part, ">"); len(quoted) < len(part) && bytes.HasPrefix(quoted, []byte("From ")) {
				part = part[1:]
			}
			empty = len(bytes.TrimRight(part, "\r\n")) == 0
		}
		switch {
		case separator:
		case buf.Len()+len(part) > mailMax:
			extra += int64(len(part))
		default:
			buf.Write(part)
		}
		start = err == nil
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			yield(message(), nil)
			return
		default:
			yield(nil, noFile(err))
			return
		}
	}
}

// only returns message n of the file, or without a number the only one it has.
func (s *source) only(n int) (*rules.Message, error) {
	count := 0
	var first *rules.Message
	for m, err := range s.messages() {
		switch count++; {
		case err != nil:
			return nil, err
		case count == n:
			return m, nil
		case count == 1:
			first = m
		case n == 0:
			name := endpoint.Printable(s.name, 200)
			return nil, &usageError{text: name + " has several messages", hint: "Name one by its number: " + name + "#1"}
		}
	}
	if n == 0 && first != nil {
		return first, nil
	}
	return nil, usagef("%s has no message %d", endpoint.Printable(s.name, 200), max(n, 1))
}
