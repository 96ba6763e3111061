// Package maildroptest is to POP3 what net/http/httptest is to HTTP: a server on
// the loopback that tests, and the demo, can fill with mail and make misbehave.
//
//	s := maildroptest.New("jane", "secret")
//	s.Add("jane", "uidl-1", []byte("Subject: hi\r\n\r\nhello\r\n"))
//	if err := s.Start(); err != nil {
//		t.Fatal(err)
//	}
//	defer s.Close()
//
// Left alone it is a good server: RFC 1939, CAPA with PIPELINING, STLS, and
// every way to log in that popferry speaks. A Hook sees each command before it
// is answered and says what goes wrong. The deletions of a session take effect
// at QUIT and not before.
package maildroptest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// TLS says how connections are encrypted.
type TLS int

const (
	None     TLS = iota // not at all; STLS is not offered
	Implicit            // from the first octet
	STLS                // when the client asks
)

// Message is one message of a maildrop.
type Message struct {
	UIDL string // raw octets, sent as they are
	Body []byte // with CRLF line ends; not to be changed afterwards
	Size string // what LIST says instead of the number of octets; "" is the truth

	id int // tells apart what is equal otherwise; 0 is a new message
	// read says that a server which Consumes does not show it any more.
	read bool
}

// DefaultCaps are the CAPA lines of a Server whose Caps is nil. "SASL" and
// "STLS" are added as they apply.
var DefaultCaps = []string{"TOP", "UIDL", "USER", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "IMPLEMENTATION maildroptest"}

// DefaultSASL are the mechanisms of a Server whose SASL is nil.
var DefaultSASL = []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"}

// Server is a POP3 server. Set its exported fields before Start; everything
// else may be done at any time by any goroutine.
type Server struct {
	TLS       TLS
	Greeting  string        // after "+OK "; "" has a timestamp for APOP
	NoCAPA    bool          // CAPA is an unknown command
	Caps      []string      // lines of CAPA; nil is DefaultCaps. UIDL and TOP work only if named, or with NoCAPA
	SASL      []string      // mechanisms; nil is DefaultSASL, empty is none
	Bindings  []string      // kinds of channel binding for SCRAM-…-PLUS, which SASL must name
	Exclusive bool          // a maildrop that is being read is [IN-USE]
	Latency   time.Duration // between the arrival of a command and its reply
	Consumes  bool          // what RETR has sent is in no later session, though not deleted
	Page      int           // a session sees only so many, from the oldest on; 0 is all
	// Token tells whether a token is good for a user, for XOAUTH2 and OAUTHBEARER,
	// which SASL must name. nil takes none.
	Token  func(user, token string) bool
	MaxTLS uint16 // newest version of TLS; 0 is all
	// Hook is called before a command is answered, with the number of the
	// session (from 1) and the command as it came; for the greeting with
	// "GREETING". It may call the Server's methods. nil is a good server.
	Hook func(session int, cmd string) Action

	ln    net.Listener
	cert  tls.Certificate
	caPEM []byte
	wg    sync.WaitGroup

	mu       sync.Mutex
	users    map[string]*maildrop
	log      []string
	sessions int
	ids      int
	conns    map[net.Conn]bool
	left     *sync.Cond // a client has gone
	closed   chan struct{}
}

type maildrop struct {
	password string
	messages []Message
	busy     int // sessions
}

// New returns a server that knows one user. It does no I/O.
func New(user, password string) *Server {
	s := &Server{users: make(map[string]*maildrop), conns: make(map[net.Conn]bool), closed: make(chan struct{})}
	s.left = sync.NewCond(&s.mu)
	s.AddUser(user, password)
	return s
}

// AddUser adds a user with an empty maildrop, or changes a password.
func (s *Server) AddUser(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user] == nil {
		s.users[user] = &maildrop{}
	}
	s.users[user].password = password
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func (s *Server) Start() error {
	var err error
	if s.TLS != None {
		if s.cert, s.caPEM, err = selfSigned(); err != nil {
			return err
		}
	}
	if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	s.wg.Go(func() {
		for {
			nc, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			select {
			case <-s.closed:
				nc.Close()
			default:
				s.sessions++
				s.conns[nc] = true
				n := s.sessions
				s.wg.Go(func() { s.serve(nc, n) })
			}
			s.mu.Unlock()
		}
	})
	return nil
}

// Close stops the server, hangs up on every client, and waits until nothing of
// it runs any more. It is to be called once.
func (s *Server) Close() {
	s.mu.Lock()
	close(s.closed)
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	if s.ln != nil {
		s.ln.Close()
	}
	s.wg.Wait()
}

// Host returns the address the server listens on.
func (s *Server) Host() string { return "127.0.0.1" }

// Port returns the port the server listens on.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// CAPEM returns the certificate that clients have to trust, in PEM. It is good
// for 127.0.0.1 and localhost.
func (s *Server) CAPEM() []byte { return s.caPEM }

// Fingerprint returns the SHA-256 of the certificate.
func (s *Server) Fingerprint() []byte { return fingerprint(s.cert) }

// Add puts a message at the end of a maildrop. Sessions that are open do not
// see it.
func (s *Server) Add(user, uidl string, body []byte) {
	s.AddMessage(user, Message{UIDL: uidl, Body: body})
}

// AddMessage is Add for a message whose listing lies.
func (s *Server) AddMessage(user string, m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user].messages = append(s.users[user].messages, s.numbered(m))
}

// Remove takes the first message with that UIDL out of a maildrop, as another
// client would. RETR of it becomes -ERR even in sessions that are open. It
// reports whether there was one.
func (s *Server) Remove(user, uidl string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.users[user]
	i := slices.IndexFunc(d.messages, func(m Message) bool { return m.UIDL == uidl })
	if i >= 0 {
		d.messages = slices.Delete(slices.Clone(d.messages), i, i+1)
	}
	return i >= 0
}

// SetMessages replaces a maildrop. A Message that Messages returned stays the
// same message, whatever was changed in it.
func (s *Server) SetMessages(user string, ms []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i] = s.numbered(ms[i])
	}
	s.users[user].messages = ms
}

func (s *Server) numbered(m Message) Message {
	if m.id == 0 {
		s.ids++
		m.id = s.ids
	}
	return m
}

// Messages returns what is in a maildrop.
func (s *Server) Messages(user string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users[user].messages)
}

// Sessions returns how many connections have been made.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Quiet waits until no client is connected: whatever the last ones sent has
// taken effect.
func (s *Server) Quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 {
		s.left.Wait()
	}
}

// Log returns every command seen so far, in order, as "1: RETR 5": the session,
// then the line, with what is secret in it as "***".
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *Server) note(session int, cmd string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%d: %s", session, cmd))
}

// password returns a user's password.
func (s *Server) password(user string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.users[user]
	if d == nil {
		return "", false
	}
	return d.password, true
}

var errInUse = errors.New("[IN-USE] the maildrop is being read by another session")

// open returns what a session sees of a maildrop.
func (s *Server) open(user string) ([]Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.users[user]
	if s.Exclusive && d.busy > 0 {
		return nil, errInUse
	}
	d.busy++
	seen := slices.DeleteFunc(slices.Clone(d.messages), func(m Message) bool { return m.read })
	if s.Page > 0 && len(seen) > s.Page {
		seen = seen[:s.Page]
	}
	return seen, nil
}

func (s *Server) release(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user].busy--
}

// exists reports whether a message that a session saw is still there.
func (s *Server) exists(user string, m Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.users[user].messages, func(o Message) bool { return o.id == m.id })
}

// consume hides a message from later sessions, if the server does such a thing.
func (s *Server) consume(user string, m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Consumes {
		return
	}
	ms := slices.Clone(s.users[user].messages)
	for i := range ms {
		ms[i].read = ms[i].read || ms[i].id == m.id
	}
	s.users[user].messages = ms
}

// expunge removes messages that a session saw and deleted.
func (s *Server) expunge(user string, deleted []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.users[user]
	gone := make(map[int]bool, len(deleted))
	for _, m := range deleted {
		gone[m.id] = true
	}
	d.messages = slices.DeleteFunc(slices.Clone(d.messages), func(m Message) bool { return gone[m.id] })
}
