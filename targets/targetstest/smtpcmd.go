package targetstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
)

// smtpConn is one client.
type smtpConn struct {
	s      *SMTP
	raw    net.Conn
	number int
	br     *bufio.Reader
	bw     *bufio.Writer
	secure bool
	auth   bool

	line string
	act  SMTPAction
	mail *Envelope // the transaction, nil if there is none
}

func (c *smtpConn) wrap(nc net.Conn) {
	c.br, c.bw = bufio.NewReaderSize(nc, 64<<10), bufio.NewWriterSize(nc, 32<<10)
}

func (c *smtpConn) serve() {
	c.wrap(c.raw)
	if c.s.TLS != nil && !c.s.StartTLS {
		c.wrap(tls.Server(c.raw, c.s.TLS))
		c.secure = true
	}
	if c.ask("", c.number, nil) == nil && c.say("220 scripted.example ESMTP") == nil {
		for c.command() == nil {
		}
	}
	c.bw.Flush()
}

// ask consults the hook and does what comes before the command itself.
func (c *smtpConn) ask(verb string, n int, body []byte) error {
	c.act = SMTPAction{}
	if c.s.Hook != nil {
		c.act = c.s.Hook(SMTPCommand{Verb: verb, N: n, Conn: c.number, Line: c.line, Body: body})
	}
	if c.act.Wait != nil {
		c.bw.Flush()
		select {
		case <-c.act.Wait:
		case <-c.s.stop:
			return errHangUp
		}
	}
	if c.act.Cut == CutBefore {
		return errHangUp
	}
	return nil
}

// say sends a reply, or what the Action wants in its place.
func (c *smtpConn) say(reply string) error {
	if c.act.Cut == CutStored {
		return errHangUp
	}
	if c.act.Reply != "" {
		reply = c.act.Reply
	}
	fmt.Fprintf(c.bw, "%s\r\n", reply)
	if c.act.Cut == CutAfter || strings.HasPrefix(reply, "421") {
		return errHangUp
	}
	return nil
}

func (c *smtpConn) command() error {
	if c.br.Buffered() == 0 { // pipelined replies travel together
		if err := c.bw.Flush(); err != nil {
			return err
		}
	}
	line, err := c.br.ReadString('\n')
	if err != nil {
		return err
	}
	c.line = strings.TrimRight(line, "\r\n")
	verb, args, _ := strings.Cut(c.line, " ")
	verb = strings.ToUpper(verb)
	s := c.s
	s.mu.Lock()
	s.counts[verb]++
	n := s.counts[verb]
	s.lines = append(s.lines, c.line)
	s.mu.Unlock()
	if err := c.ask(verb, n, nil); err != nil {
		return err
	}
	if c.act.Reply != "" && verb != "DATA" || c.act.Reply != "" && !strings.HasPrefix(c.act.Reply, "354") {
		return c.say("")
	}
	switch verb {
	case "EHLO", "LHLO":
		return c.hello(verb)
	case "STARTTLS":
		return c.startTLS()
	case "AUTH":
		return c.login(args)
	case "MAIL":
		return c.from()
	case "RCPT":
		return c.to()
	case "DATA":
		return c.data()
	case "RSET":
		c.mail = nil
		return c.say("250 2.0.0 reset")
	case "NOOP":
		return c.say("250 2.0.0 ok")
	case "QUIT":
		_ = c.say("221 2.0.0 bye")
		return errHangUp
	}
	return c.say("500 5.5.1 what is " + verb)
}

func (c *smtpConn) hello(verb string) error {
	c.mail = nil
	if (verb == "LHLO") != c.s.LMTP {
		return c.say("500 5.5.1 not here")
	}
	list := []string{"scripted.example"}
	list = append(list, c.s.Extensions...)
	if c.s.StartTLS && !c.secure {
		list = append(list, "STARTTLS")
	}
	for _, l := range list[:len(list)-1] {
		fmt.Fprintf(c.bw, "250-%s\r\n", l)
	}
	return c.say("250 " + list[len(list)-1])
}

func (c *smtpConn) startTLS() error {
	if !c.s.StartTLS || c.secure {
		return c.say("502 5.5.1 not offered")
	}
	if err := c.say("220 2.0.0 go ahead"); err != nil {
		return err
	}
	if err := c.bw.Flush(); err != nil {
		return err
	}
	c.wrap(tls.Server(c.raw, c.s.TLS))
	c.secure = true
	return nil
}

// login knows PLAIN, with its answer beside the command or asked for.
func (c *smtpConn) login(args string) error {
	mech, answer, _ := strings.Cut(args, " ")
	if !strings.EqualFold(mech, "PLAIN") {
		return c.say("504 5.5.4 not here")
	}
	if answer == "" {
		fmt.Fprintf(c.bw, "334 \r\n")
		if err := c.bw.Flush(); err != nil {
			return err
		}
		line, err := c.br.ReadString('\n')
		if err != nil {
			return err
		}
		answer = strings.TrimRight(line, "\r\n")
	}
	raw, err := base64.StdEncoding.DecodeString(answer)
	if err != nil || string(raw) != "\x00"+c.s.User+"\x00"+c.s.Password {
		return c.say("535 5.7.8 wrong user or password")
	}
	c.auth = true
	return c.say("235 2.7.0 welcome")
}

func (c *smtpConn) from() error {
	path, ok := pathIn(c.line)
	switch {
	case c.s.Login && !c.auth:
		return c.say("530 5.7.0 log in first")
	case c.mail != nil:
		return c.say("503 5.5.1 nested MAIL")
	case !ok:
		return c.say("501 5.1.7 no path")
	}
	c.mail = &Envelope{From: path, Mail: c.line}
	return c.say("250 2.1.0 sender ok")
}

// pathIn returns what stands between the angle brackets of a command.
func pathIn(line string) (string, bool) {
	_, rest, ok := strings.Cut(line, "<")
	path, _, end := strings.Cut(rest, ">")
	return path, ok && end
}

func (c *smtpConn) to() error {
	path, ok := pathIn(c.line)
	switch {
	case c.mail == nil:
		return c.say("503 5.5.1 MAIL first")
	case !ok || path == "":
		return c.say("501 5.1.3 no path")
	}
	c.mail.Rcpt = append(c.mail.Rcpt, path)
	return c.say("250 2.1.5 recipient ok")
}

func (c *smtpConn) data() error {
	switch {
	case c.mail == nil:
		return c.say("503 5.5.1 MAIL first")
	case len(c.mail.Rcpt) == 0 && c.act.Reply == "":
		return c.say("554 5.5.1 no valid recipients")
	}
	act := c.act
	if err := c.say("354 go ahead"); err != nil {
		return err
	}
	if err := c.bw.Flush(); err != nil {
		return err
	}
	if act.Cut == CutLiteral {
		_, _ = io.CopyN(io.Discard, c.br, int64(act.Octets))
		return errHangUp
	}
	body, err := c.text()
	if err != nil {
		return err
	}
	m := *c.mail
	m.Body, c.mail = body, nil
	return c.end(m)
}

// end answers the end of a message, once for each recipient in LMTP, and stores
// it for those for whom it is taken.
func (c *smtpConn) end(m Envelope) error {
	who := [][]string{m.Rcpt}
	if c.s.LMTP {
		who = nil
		for _, r := range m.Rcpt {
			who = append(who, []string{r})
		}
	}
	m.Rcpt = nil
	defer func() {
		if len(m.Rcpt) > 0 {
			c.s.mu.Lock()
			defer c.s.mu.Unlock()
			c.s.stored = append(c.s.stored, m)
		}
	}()
	var replies bytes.Buffer
	for _, list := range who {
		c.s.mu.Lock()
		c.s.counts["."]++
		n := c.s.counts["."]
		c.s.mu.Unlock()
		c.line = strings.Join(list, " ")
		if err := c.ask(".", n, m.Body); err != nil {
			_, _ = replies.WriteTo(c.bw)
			return err
		}
		if c.act.Reply == "" || c.act.Reply[0] == '2' {
			m.Rcpt = append(m.Rcpt, list...)
		}
		before := c.bw
		c.bw = bufio.NewWriter(&replies)
		err := c.say("250 2.0.0 taken")
		c.bw.Flush()
		c.bw = before
		if err != nil {
			_, _ = replies.WriteTo(c.bw)
			return err
		}
	}
	// What is stored is seen before the reply.
	c.s.mu.Lock()
	if len(m.Rcpt) > 0 {
		c.s.stored = append(c.s.stored, m)
	}
	m.Rcpt = nil
	c.s.mu.Unlock()
	_, err := replies.WriteTo(c.bw)
	return err
}

// text reads a message up to the line with nothing but a dot.
func (c *smtpConn) text() ([]byte, error) {
	var body, line []byte
	cr := false
	for {
		b, err := c.br.ReadByte()
		if err != nil {
			return nil, err
		}
		if b == 0 && c.s.Lenient.NUL {
			continue
		}
		line = append(line, b)
		end := 0
		switch {
		case b == '\n' && cr:
			end = 2
		case b == '\n' && c.s.Lenient.LF:
			end = 1
		case b == '\r' && c.s.Lenient.CR:
			if next, err := c.br.Peek(1); err != nil {
				return nil, err
			} else if next[0] != '\n' {
				end = 1
			}
		}
		cr = b == '\r'
		if end == 0 {
			continue
		}
		if line[0] == '.' {
			if len(line) == 1+end {
				return body, nil
			}
			line = line[1:]
		}
		body = append(body, line...)
		line = line[:0]
	}
}
