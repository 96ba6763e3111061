package imap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// read takes the server's responses apart until the connection ends. Then it
// ends every command that has no answer.
func (c *conn) read() {
	_, err := io.WriteString(c.pw, "* PREAUTH [CAPABILITY "+c.caps.forClient()+"] ready\r\n")
	for err == nil {
		err = c.response()
	}
	c.fail(err)
	close(c.gone)
	c.pw.CloseWithError(io.ErrUnexpectedEOF)
	<-c.client.Closed()

	c.mu.Lock()
	left := make([]*command, 0, len(c.pending))
	for _, cmd := range c.pending {
		left = append(left, cmd)
	}
	clear(c.pending)
	err = c.err
	c.mu.Unlock()
	for _, cmd := range left {
		c.settle(cmd, func() { cmd.answered, cmd.err = true, err })
	}
	c.lost(c)
}

// response reads one response and hands it on.
func (c *conn) response() error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	if c.got != nil {
		c.got(string(line))
	}
	switch line[0] {
	case '*':
		return c.untagged(line)
	case '+':
		select {
		case c.goAhead <- struct{}{}:
			return nil
		default:
			return errors.New("the server asks for data that was not announced")
		}
	case ownTag:
		return c.tagged(line)
	case '\r':
		return errors.New("the server sent an empty line")
	case 'T':
		c.mu.Lock()
		known := c.foreign > 0
		if known {
			c.foreign--
			c.restLocked()
		}
		c.box = box{}
		c.heard = time.Now()
		c.mu.Unlock()
		if !known {
			return unexpected(line)
		}
		_, err := c.pw.Write(line)
		return err
	}
	return unexpected(line)
}

func unexpected(line []byte) error {
	return fmt.Errorf("the server is out of step, it said %q", printable(string(bytes.TrimRight(line, "\r\n"))))
}

// tagged takes the reply to one of our commands.
func (c *conn) tagged(line []byte) error {
	word, rest, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), space)
	tag, err := strconv.ParseUint(string(word[1:]), 10, 64)
	if err != nil {
		return unexpected(line)
	}
	r, ok := parseReply(rest)
	if !ok {
		return unexpected(line)
	}
	c.mu.Lock()
	cmd := c.pending[tag]
	if cmd == nil {
		c.mu.Unlock()
		return unexpected(line)
	}
	delete(c.pending, tag)
	c.restLocked()
	c.heard = time.Now()
	c.mu.Unlock()
	if cmd.opens() && r.status == "OK" {
		cmd.box = c.box
	}
	c.box = box{}
	c.settle(cmd, func() { cmd.answered, cmd.reply = true, r })
	if cmd.early != nil {
		close(cmd.early)
	}
	return nil
}

// settle changes cmd under the lock and, when it is answered and nothing of it
// will be written any more, reports it as over. Both are needed: a server may
// refuse a literal it has not read to its end, and until the engine stops
// writing it still reads the messages.
func (c *conn) settle(cmd *command, change func()) {
	c.mu.Lock()
	change()
	over := cmd.answered && cmd.released && !cmd.over
	cmd.over = cmd.over || over
	c.mu.Unlock()
	if !over {
		return
	}
	c.done(cmd)
	if cmd.ended != nil {
		close(cmd.ended)
	}
}

// untagged takes a response that answers no command, or not yet.
func (c *conn) untagged(line []byte) error {
	kind, num := kindOf(line)
	switch kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return c.status(kind, line)
	}
	if kind == "EXISTS" && num {
		c.box.exists = numberOf(line)
	}
	c.mu.Lock()
	pass := c.foreign > 0 && wanted(kind, num, c.select_) && (kind != "FETCH" || hasBody(line))
	c.mu.Unlock()
	to := io.Discard
	var v *view
	switch {
	case pass:
		to = c.pw
	case kind == "FETCH" && num:
		if v = c.view.Load(); v != nil {
			v.buf.Reset()
			to = &v.buf
		}
	}
	size := int64(0)
	for {
		if depth(line) > maxDepth {
			return errors.New("the server nests lists too deeply")
		}
		n, literal, err := literalOf(line)
		if err != nil {
			return err
		}
		if _, err := to.Write(line); err != nil {
			return err
		}
		if !literal {
			v.take()
			return nil
		}
		if size += n; size > c.literals.Load() {
			return fmt.Errorf("the server announces %d octets, more than was asked for", n)
		}
		if _, err := io.CopyN(to, c.br, n); err != nil {
			return noEOF(err)
		}
		if line, err = c.readLine(); err != nil {
			return err
		}
		if size += int64(len(line)); size > c.literals.Load()+maxLine {
			return errors.New("a response without end")
		}
	}
}

// status takes "* OK …" and its like. Their text may end in what looks like a
// literal and is none. Only what a folder selection needs reaches go-imap.
func (c *conn) status(kind string, line []byte) error {
	rest := bytes.TrimRight(line[1:], "\r\n")
	r, ok := parseReply(bytes.TrimLeft(rest, " "))
	if !ok {
		return nil
	}
	number := func() uint32 {
		v, err := strconv.ParseUint(r.arg, 10, 32)
		if err != nil { // v may be the largest there is, and a mark must not be too large
			return 0
		}
		return uint32(v)
	}
	switch {
	case kind == "BYE" || r.code == "ALERT":
		c.mu.Lock()
		c.bye = r.String()
		c.mu.Unlock()
	case r.code == "UIDVALIDITY":
		c.box.validity = number()
	case r.code == "UIDNEXT":
		c.box.next = number()
	default:
		return nil
	}
	c.mu.Lock()
	pass := c.select_ && c.foreign > 0 && kind == "OK" && number() != 0
	c.mu.Unlock()
	if pass {
		_, err := fmt.Fprintf(c.pw, "* OK [%s %d] selected\r\n", r.code, number())
		return err
	}
	return nil
}

// wanted tells whether go-imap is given responses of a kind.
func wanted(kind string, num, selecting bool) bool {
	switch kind {
	case "FETCH":
		return num && selecting
	case "EXISTS":
		return num && selecting
	case "SEARCH", "ESEARCH":
		return !num && selecting
	case "LIST", "STATUS", "NAMESPACE", "QUOTA", "QUOTAROOT", "MYRIGHTS":
		return !num
	}
	return false
}

// numberOf returns the number that a response begins with: "* 23 EXISTS".
func numberOf(line []byte) uint32 {
	word, _, _ := bytes.Cut(bytes.TrimLeft(line[1:], " "), space)
	n, err := strconv.ParseUint(string(word), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// hasBody tells whether a FETCH response has what we ask for. go-imap takes the
// first response about a message for the answer, and that may be new flags.
func hasBody(line []byte) bool {
	return bytes.Contains(line, bodyItem) || bytes.Contains(bytes.ToUpper(line), bodyItem)
}

var bodyItem = []byte("BODY[")

// readLine returns the next line with its end, valid until the next call.
func (c *conn) readLine() ([]byte, error) {
	c.line = c.line[:0]
	for {
		part, err := c.br.ReadSlice('\n')
		if err == nil && len(c.line) == 0 {
			if len(part) < 2 || part[len(part)-2] != '\r' {
				return nil, unexpected(part)
			}
			return part, nil
		}
		if len(c.line)+len(part) > maxLine {
			return nil, errors.New("the server sends a line without end")
		}
		c.line = append(c.line, part...)
		if err == nil {
			if !bytes.HasSuffix(c.line, crlf) {
				return nil, unexpected(c.line[:min(64, len(c.line))])
			}
			return c.line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, noEOF(err)
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	return err
}

var errClosed = errors.New("the server closed the connection")
