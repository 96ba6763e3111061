package targetstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
)

// DefaultCaps are the capabilities of an IMAP that names none.
const DefaultCaps = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ MULTIAPPEND UIDPLUS NAMESPACE QUOTA"

// IMAP is an IMAP4rev1 server in memory, fast and obedient: it does what its
// fields and its Hook say. The fields must not be changed once it has started.
type IMAP struct {
	Caps     string // "" is DefaultCaps; IMAP4rev1 must be among them
	User     string // "" is User, Password likewise
	Password string
	TLS      *tls.Config // with StartTLS for STARTTLS, else from the first octet
	StartTLS bool
	Greeting string                   // instead of "* OK [CAPABILITY …] ready"
	Delim    string                   // between levels; "" is "/"
	Prefix   string                   // personal namespace
	NoDots   bool                     // CREATE of a name with a dot: NO [CANNOT]
	Limit    int64                    // largest message, 0 for none: NO [TOOBIG]
	Reject   func(body []byte) string // words to refuse a message with, "" to take it
	Next     func(next uint32) string // what EXAMINE says UIDNEXT is, "" for nothing; nil is the truth

	// Hook is asked about every command before it is done. It may be called
	// by several goroutines at once.
	Hook func(Command) Action

	mu      sync.Mutex
	ln      net.Listener
	conns   map[net.Conn]bool
	folders map[string]*imapFolder
	subs    map[string]bool
	counts  map[string]int
	nextVal uint32
	wg      sync.WaitGroup
	ended   int
	change  *sync.Cond    // a connection has ended
	stop    chan struct{} // closed by Close
}

// Command is what a Hook is asked about.
type Command struct {
	Verb   string // "APPEND", "UID FETCH", …; "" is a new connection, before the greeting
	N      int    // how many of this verb there were, with this one
	Folder string // decoded no further than its quotes
	Line   string // all of it up to the first literal
}

// Action says what shall happen instead of what should. The zero Action changes
// nothing.
type Action struct {
	Untagged  []string      // lines to send first, without CRLF
	Reply     string        // "NO [OVERQUOTA] full": said instead of doing it; "BYE bye": said, and the connection closed
	Early     bool          // Reply is said before an APPEND's literals are read
	Cut       Cut           // closes the connection
	Octets    int64         // with CutLiteral: after so many octets of the first literal
	Late      chan struct{} // an APPEND is stored only when this is closed; the connection is cut at once
	AppendUID string        // in place of the true "validity uids"; "none" leaves it out
	Wait      chan struct{} // nothing happens until this is closed or the server is
}

// Cut is a place to close a connection.
type Cut int

// Where a connection can be closed.
const (
	NoCut      Cut = iota
	CutBefore      // when the command's line was read
	CutLiteral     // within a literal
	CutStored      // when it is done, before the reply
	CutAfter       // after the reply
)

type imapFolder struct {
	validity, next uint32
	messages       []Stored
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func (s *IMAP) Start() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.ln, s.conns, s.counts, s.subs = ln, map[net.Conn]bool{}, map[string]int{}, map[string]bool{}
	s.folders, s.nextVal = map[string]*imapFolder{}, 1000
	s.stop, s.change = make(chan struct{}), sync.NewCond(&s.mu)
	s.makeLocked("INBOX")
	s.wg.Go(s.accept)
	return nil
}

// Port is where it listens.
func (s *IMAP) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Addr is where it listens, host:port.
func (s *IMAP) Addr() string { return s.ln.Addr().String() }

// Close hangs up on everybody and waits for their goroutines.
func (s *IMAP) Close() error {
	s.mu.Lock()
	close(s.stop)
	s.mu.Unlock()
	err := s.ln.Close()
	s.Drop()
	s.wg.Wait()
	return err
}

// Drop hangs up on everybody.
func (s *IMAP) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *IMAP) makeLocked(name string) *imapFolder {
	s.nextVal++
	f := &imapFolder{validity: s.nextVal, next: 1}
	s.folders[name] = f
	return f
}

func (f *imapFolder) add(m Stored) uint32 {
	m.UID = f.next
	f.next++
	f.messages = append(f.messages, m)
	return m.UID
}

func (s *IMAP) accept() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		select {
		case <-s.stop:
			nc.Close()
		default:
		}
		s.conns[nc] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			c := &imapConn{s: s, raw: nc}
			c.serve()
			nc.Close()
			s.mu.Lock()
			delete(s.conns, nc)
			s.ended++
			s.change.Broadcast()
			s.mu.Unlock()
		})
	}
}

func (s *IMAP) caps(secure bool) string {
	list := s.Caps
	if list == "" {
		list = DefaultCaps
	}
	if s.StartTLS && !secure {
		list += " STARTTLS LOGINDISABLED"
	}
	return list
}

func (s *IMAP) has(capability string) bool {
	return slices.Contains(strings.Fields(s.caps(true)), capability)
}

// errHangUp ends a connection as an Action asked.
var errHangUp = errors.New("hang up")

// imapConn is one client.
type imapConn struct {
	s      *IMAP
	raw    net.Conn
	nc     net.Conn
	br     *bufio.Reader
	bw     *bufio.Writer
	secure bool
	auth   bool
	box    *imapFolder

	tag  string
	act  Action
	line string
}

func (c *imapConn) wrap(nc net.Conn) {
	c.nc, c.br, c.bw = nc, bufio.NewReaderSize(nc, 64<<10), bufio.NewWriterSize(nc, 32<<10)
}

func (c *imapConn) serve() {
	c.wrap(c.raw)
	if c.s.TLS != nil && !c.s.StartTLS {
		c.wrap(tls.Server(c.raw, c.s.TLS))
		c.secure = true
	}
	greeting := c.s.Greeting
	if greeting == "" {
		greeting = "* OK [CAPABILITY " + c.s.caps(c.secure) + "] ready"
	}
	c.auth = strings.HasPrefix(greeting, "* PREAUTH")
	if c.ask("", "") != nil {
		return
	}
	if c.act.Reply != "" {
		greeting = "* " + c.act.Reply
	}
	fmt.Fprintf(c.bw, "%s\r\n", greeting)
	for c.command() == nil {
	}
	c.bw.Flush()
}

// ask consults the hook and does what comes before the command itself.
func (c *imapConn) ask(verb, folder string) error {
	s := c.s
	s.mu.Lock()
	s.counts[verb]++
	n := s.counts[verb]
	s.mu.Unlock()
	c.act = Action{}
	if s.Hook != nil {
		c.act = s.Hook(Command{Verb: verb, N: n, Folder: folder, Line: c.line})
	}
	if c.act.Wait != nil {
		c.bw.Flush()
		select {
		case <-c.act.Wait:
		case <-s.stop:
			return errHangUp
		}
	}
	for _, l := range c.act.Untagged {
		fmt.Fprintf(c.bw, "%s\r\n", l)
	}
	if c.act.Cut == CutBefore {
		return errHangUp
	}
	return nil
}

func (c *imapConn) command() error {
	if c.br.Buffered() == 0 { // pipelined replies travel together
		if err := c.bw.Flush(); err != nil {
			return err
		}
	}
	line, err := c.br.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimRight(line, "\r\n")
	tag, rest, ok := strings.Cut(line, " ")
	if !ok {
		fmt.Fprintf(c.bw, "* BAD no command\r\n")
		return nil
	}
	verb, args, _ := strings.Cut(rest, " ")
	verb = strings.ToUpper(verb)
	if verb == "UID" {
		var sub string
		sub, args, _ = strings.Cut(args, " ")
		verb += " " + strings.ToUpper(sub)
	}
	c.tag, c.line = tag, line
	a := newArgs(args)
	folder := ""
	if takesFolder[verb] {
		folder = a.astring()
		if strings.EqualFold(folder, "INBOX") {
			folder = "INBOX"
		}
	}
	if err := c.ask(verb, folder); err != nil {
		return err
	}
	if verb == "APPEND" {
		err = c.append(folder, a)
	} else {
		err = c.simple(verb, folder, a)
	}
	if err == nil && c.act.Cut == CutAfter {
		err = errHangUp
	}
	return err
}

var takesFolder = map[string]bool{
	"APPEND": true, "SELECT": true, "EXAMINE": true, "CREATE": true, "SUBSCRIBE": true,
	"STATUS": true, "GETQUOTAROOT": true, "DELETE": true,
}

// say sends the tagged reply, or what the Action wants in its place.
func (c *imapConn) say(reply string) error {
	if c.act.Cut == CutStored {
		return errHangUp
	}
	if c.act.Reply != "" {
		reply = c.act.Reply
	}
	if strings.HasPrefix(reply, "BYE") {
		fmt.Fprintf(c.bw, "* %s\r\n", reply)
		return errHangUp
	}
	_, err := fmt.Fprintf(c.bw, "%s %s\r\n", c.tag, reply)
	return err
}

// headerOf returns the part of a message up to and with the empty line.
func headerOf(body []byte) []byte {
	if i := bytes.Index(body, []byte("\r\n\r\n")); i >= 0 {
		return body[:i+4]
	}
	return body
}
