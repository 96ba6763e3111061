package targetstest

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// DefaultExtensions are what an SMTP offers that names none.
var DefaultExtensions = []string{"PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "AUTH PLAIN LOGIN"}

// SMTP is an SMTP or LMTP server in memory, fast and obedient: it does what its
// fields and its Hook say. The fields must not be changed once it has started.
type SMTP struct {
	LMTP       bool
	Extensions []string // nil is DefaultExtensions
	User       string   // "" is User, Password likewise
	Password   string
	Login      bool        // nothing is taken from who has not logged in
	TLS        *tls.Config // with StartTLS for STARTTLS, else from the first octet
	StartTLS   bool
	// Lenient are further line ends and ends of a message that it knows, as
	// careless servers do: a line of one dot between them.
	Lenient Lenience

	// Hook is asked about every command before it is done. It may be called by
	// several goroutines at once.
	Hook func(SMTPCommand) SMTPAction

	mu     sync.Mutex
	ln     net.Listener
	conns  map[net.Conn]bool
	stored []Envelope
	lines  []string
	counts map[string]int
	open   map[int]bool // connections, by number
	change *sync.Cond   // one has ended
	wg     sync.WaitGroup
	stop   chan struct{}
}

// Lenience is what a server takes for a line end besides CRLF, and what it drops
// before it looks.
type Lenience struct {
	LF, CR bool // bare ones
	NUL    bool // dropped
}

// Envelope is one message that an SMTP has taken, with those it is for.
type Envelope struct {
	From string   // between the angle brackets
	Mail string   // the whole MAIL line
	Rcpt []string // those who were served
	Body []byte   // as it came, dots taken off
}

// SMTPCommand is what a Hook is asked about.
type SMTPCommand struct {
	Verb string // "MAIL"; "" is a new connection, before the greeting; "." the end of a message, in LMTP for each recipient
	N    int    // how many of this verb there were, with this one
	Conn int    // which connection it is, from 1
	Line string // all of it; of "." the recipient
	Body []byte // of "."
}

// SMTPAction says what shall happen instead of what should. The zero SMTPAction
// changes nothing.
type SMTPAction struct {
	Reply  string        // said instead of doing it: "451 4.3.0 later"; after "421 …" the connection ends. At "." the message is stored only if it is 2yz
	Cut    Cut           // closes the connection; CutLiteral in the midst of a text, at DATA
	Octets int           // with CutLiteral: after so many octets of it
	Wait   chan struct{} // nothing happens until this is closed or the server is
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func (s *SMTP) Start() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.ln, s.conns, s.open, s.counts = ln, map[net.Conn]bool{}, map[int]bool{}, map[string]int{}
	s.stop, s.change = make(chan struct{}), sync.NewCond(&s.mu)
	if s.Extensions == nil {
		s.Extensions = DefaultExtensions
	}
	if s.User == "" {
		s.User = User
	}
	if s.Password == "" {
		s.Password = Password
	}
	s.wg.Go(s.accept)
	return nil
}

// Port is where it listens.
func (s *SMTP) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Addr is where it listens, host:port.
func (s *SMTP) Addr() string { return s.ln.Addr().String() }

// Close hangs up on everybody and waits for their goroutines.
func (s *SMTP) Close() error {
	s.mu.Lock()
	close(s.stop)
	err := s.ln.Close()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// Messages returns what was taken so far.
func (s *SMTP) Messages() []Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stored)
}

// Lines returns the commands so far, of all connections.
func (s *SMTP) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// Count returns how many of a verb there were; "" counts connections.
func (s *SMTP) Count(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[verb]
}

// Ended waits until the first n connections have ended. What they had sent has had
// its effect then.
func (s *SMTP) Ended(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i <= n; i++ {
		for s.open[i] {
			s.change.Wait()
		}
	}
}

func (s *SMTP) accept() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.counts[""]++
		n := s.counts[""]
		select {
		case <-s.stop:
			nc.Close()
		default:
		}
		s.conns[nc], s.open[n] = true, true
		s.mu.Unlock()
		s.wg.Go(func() {
			c := &smtpConn{s: s, raw: nc, number: n}
			c.serve()
			nc.Close()
			s.mu.Lock()
			delete(s.conns, nc)
			delete(s.open, n)
			s.change.Broadcast()
			s.mu.Unlock()
		})
	}
}
