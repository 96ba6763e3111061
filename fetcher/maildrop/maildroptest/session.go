package maildroptest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// session is one connection.
type session struct {
	s         *Server
	n         int
	nc        net.Conn
	br        *bufio.Reader
	bw        *bufio.Writer
	came      time.Time // when the commands now in br arrived
	act       Action    // for the command at hand
	secure    bool
	timestamp string
	user      string
	messages  []Message // nil before login
	in        bool
	deleted   []bool
}

func (s *Server) serve(nc net.Conn, n int) {
	e := &session{s: s, n: n, nc: nc, timestamp: fmt.Sprintf("<%d.%d@maildroptest>", n, time.Now().UnixNano())}
	defer func() {
		if e.in {
			s.release(e.user)
		}
		e.nc.Close()
		s.mu.Lock()
		delete(s.conns, nc)
		s.left.Broadcast()
		s.mu.Unlock()
	}()
	if s.TLS == Implicit {
		e.handshake()
	}
	e.br, e.bw = bufio.NewReader(arrivals{e}), bufio.NewWriterSize(e.nc, 32<<10)
	e.came = time.Now()
	for cmd := "GREETING"; ; {
		if cmd != "GREETING" {
			s.note(n, masked(cmd))
		}
		if !e.answer(cmd) {
			return
		}
		var err error
		if cmd, err = e.line(); err != nil {
			return
		}
	}
}

// arrivals is the connection, with the time of the last read.
type arrivals struct{ e *session }

func (a arrivals) Read(p []byte) (int, error) {
	if err := a.e.bw.Flush(); err != nil {
		return 0, err
	}
	n, err := a.e.nc.Read(p)
	a.e.came = time.Now()
	return n, err
}

func (e *session) line() (string, error) {
	line, err := e.br.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (e *session) handshake() {
	e.nc = tls.Server(e.nc, &tls.Config{Certificates: []tls.Certificate{e.s.cert}, MinVersion: tls.VersionTLS12, MaxVersion: e.s.MaxTLS})
	e.secure = true
}

// masked hides what must not be logged.
func masked(cmd string) string {
	f := strings.Fields(cmd)
	if len(f) == 0 {
		return cmd
	}
	switch strings.ToUpper(f[0]) {
	case "PASS":
		return "PASS ***"
	case "APOP":
		return "APOP ***"
	case "AUTH":
		if len(f) > 2 {
			return f[0] + " " + f[1] + " ***"
		}
	}
	return cmd
}

// answer replies to one command and reports whether the session goes on.
func (e *session) answer(cmd string) bool {
	e.act = Action{}
	if e.s.Hook != nil {
		e.act = e.s.Hook(e.n, cmd)
	}
	if wait := time.Until(e.came.Add(e.s.Latency)) + e.act.Delay; wait > 0 {
		if e.bw.Flush() != nil {
			return false
		}
		select {
		case <-time.After(wait):
		case <-e.s.closed:
			return false
		}
	}
	if e.act.Then != nil {
		defer e.act.Then()
	}
	if e.act.Cut == Stay && e.act.Stream == nil && e.act.Before == "" && e.act.After == "" && e.act.Reply == "" {
		return e.obey(cmd, e.bw)
	}
	w := &limited{w: e.bw, left: -1}
	if e.act.Cut != Stay {
		w.left = e.act.At
	}
	io.WriteString(w, e.act.Before)
	more := true
	if e.act.Reply != "" {
		io.WriteString(w, e.act.Reply)
	} else {
		more = e.obey(cmd, w)
	}
	io.WriteString(w, e.act.After)
	if e.act.Stream != nil {
		if _, err := io.Copy(flushing{w, e.bw}, e.act.Stream); err != nil {
			return false
		}
	}
	if e.act.Cut != Stay {
		if e.bw.Flush() == nil {
			cut(e.nc, e.act.Cut)
		}
		return false
	}
	return more && e.bw.Flush() == nil
}

// flushing sends what is written at once.
type flushing struct {
	w  io.Writer
	bw *bufio.Writer
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.bw.Flush()
	}
	return n, err
}

// obey does what a good server does.
func (e *session) obey(cmd string, w io.Writer) bool {
	verb, arg, _ := strings.Cut(cmd, " ")
	verb = strings.ToUpper(verb)
	switch verb {
	case "GREETING":
		if e.s.Greeting != "" {
			ok(w, "%s", e.s.Greeting)
		} else {
			ok(w, "ready %s", e.timestamp)
		}
		return true
	case "CAPA":
		e.capa(w)
		return true
	case "QUIT":
		e.quit(w)
		return false
	}
	if !e.in {
		return e.authorize(verb, arg, w)
	}
	e.transact(verb, arg, w)
	return true
}

func ok(w io.Writer, format string, a ...any) {
	fmt.Fprintf(w, "+OK "+format+"\r\n", a...)
}

func no(w io.Writer, format string, a ...any) {
	fmt.Fprintf(w, "-ERR "+format+"\r\n", a...)
}

func (e *session) caps() []string {
	if e.s.Caps != nil {
		return e.s.Caps
	}
	return DefaultCaps
}

// has reports whether the server has a capability; one that does not speak of
// them has all.
func (e *session) has(name string) bool {
	if e.s.NoCAPA {
		return true
	}
	for _, c := range e.caps() {
		if strings.EqualFold(strings.Fields(c + " x")[0], name) {
			return true
		}
	}
	return false
}

func (e *session) capa(w io.Writer) {
	if e.s.NoCAPA {
		no(w, "unknown command")
		return
	}
	ok(w, "capabilities follow")
	for _, c := range e.caps() {
		fmt.Fprintf(w, "%s\r\n", c)
	}
	if e.s.TLS == STLS && !e.secure {
		fmt.Fprint(w, "STLS\r\n")
	}
	if m := e.mechanisms(); len(m) > 0 {
		fmt.Fprintf(w, "SASL %s\r\n", strings.Join(m, " "))
	}
	fmt.Fprint(w, ".\r\n")
}

func (e *session) quit(w io.Writer) {
	if e.in && !e.act.NoCommit {
		var gone []Message
		for i, m := range e.messages {
			if e.deleted[i] {
				gone = append(gone, m)
			}
		}
		e.s.expunge(e.user, gone)
	}
	ok(w, "bye")
	_ = e.bw.Flush()
}

// transact is the TRANSACTION state of RFC 1939 §5.
func (e *session) transact(verb, arg string, w io.Writer) {
	switch verb {
	case "STAT":
		n, octets := 0, 0
		for i, m := range e.messages {
			if !e.deleted[i] {
				n, octets = n+1, octets+len(m.Body)
			}
		}
		ok(w, "%d %d", n, octets)
	case "LIST":
		e.list(w, arg, func(m Message) string {
			if m.Size != "" {
				return m.Size
			}
			return strconv.Itoa(len(m.Body))
		})
	case "UIDL":
		if !e.has("UIDL") {
			no(w, "unknown command")
			return
		}
		e.list(w, arg, func(m Message) string { return m.UIDL })
	case "RETR", "TOP":
		e.retrieve(verb, arg, w)
	case "DELE":
		if i, _ := e.message(arg, w); i >= 0 {
			e.deleted[i] = true
			ok(w, "marked")
		}
	case "RSET":
		clear(e.deleted)
		ok(w, "unmarked")
	case "NOOP":
		ok(w, "")
	default:
		no(w, "unknown command")
	}
}

// list does LIST and UIDL, of all messages or one.
func (e *session) list(w io.Writer, arg string, say func(Message) string) {
	if arg != "" {
		if i, m := e.message(arg, w); i >= 0 {
			ok(w, "%d %s", i+1, say(m))
		}
		return
	}
	ok(w, "listing follows")
	for i, m := range e.messages {
		if !e.deleted[i] {
			fmt.Fprintf(w, "%d %s\r\n", i+1, say(m))
		}
	}
	fmt.Fprint(w, ".\r\n")
}

// message finds the message that arg begins with. If there is none it says so
// and returns -1.
func (e *session) message(arg string, w io.Writer) (int, Message) {
	num, _, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(num)
	if err != nil || n < 1 || n > len(e.messages) || e.deleted[n-1] {
		no(w, "no such message")
		return -1, Message{}
	}
	return n - 1, e.messages[n-1]
}

func (e *session) retrieve(verb, arg string, w io.Writer) {
	i, m := e.message(arg, w)
	if i < 0 {
		return
	}
	body := m.Body
	if verb == "TOP" {
		_, count, _ := strings.Cut(arg, " ")
		lines, err := strconv.Atoi(count)
		if !e.has("TOP") || err != nil {
			no(w, "unknown command")
			return
		}
		body = top(body, lines)
	}
	if !e.s.exists(e.user, m) {
		no(w, "message %d is expunged", i+1)
		return
	}
	ok(w, "%d octets", len(m.Body))
	if _, err := Stuff(w, body); err == nil && verb == "RETR" {
		e.s.consume(e.user, m)
	}
}

// top returns the header of a message, the blank line and so many lines more.
func top(body []byte, lines int) []byte {
	header, rest, found := bytes.Cut(body, []byte("\r\n\r\n"))
	if !found {
		return body
	}
	n := len(header) + 4
	for ; lines > 0 && len(rest) > 0; lines-- {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			i = len(rest) - 1
		}
		n, rest = n+i+1, rest[i+1:]
	}
	return body[:n]
}

// Stuff writes a body as RFC 1939 §3 wants it: one more dot before a dot that
// begins a line, a CRLF at the end if there is none, and the final dot. A line
// is what ends in CRLF.
func Stuff(w io.Writer, body []byte) (int, error) {
	n := 0
	put := func(b []byte) error {
		k, err := w.Write(b)
		n += k
		return err
	}
	if len(body) > 0 && body[0] == '.' {
		if err := put([]byte(".")); err != nil {
			return n, err
		}
	}
	rest := body
	for {
		i := bytes.Index(rest, []byte("\r\n."))
		if i < 0 {
			break
		}
		if err := put(rest[:i+3]); err != nil {
			return n, err
		}
		if err := put([]byte(".")); err != nil {
			return n, err
		}
		rest = rest[i+3:]
	}
	if err := put(rest); err != nil {
		return n, err
	}
	end := ".\r\n"
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
		end = "\r\n.\r\n"
	}
	return n, put([]byte(end))
}
