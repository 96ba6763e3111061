package targetstest

import (
	"net"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

// Memory is go-imap's own server with one account in memory: a second opinion
// on the protocol, and what a demonstration delivers to. It has LITERAL+ and
// UIDPLUS but no MULTIAPPEND.
type Memory struct {
	User, Password string // "" are User and Password of this package
	Plus           bool   // offers LITERAL+; else LITERAL- only

	ln     net.Listener
	server *imapserver.Server
	wg     sync.WaitGroup
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func (m *Memory) Start() error {
	if m.User == "" {
		m.User = User
	}
	if m.Password == "" {
		m.Password = Password
	}
	account := imapmemserver.NewUser(m.User, m.Password)
	if err := account.Create("INBOX", nil); err != nil {
		return err
	}
	backend := imapmemserver.New()
	backend.AddUser(account)
	caps := imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapNamespace: {}}
	if m.Plus {
		caps[imap.CapLiteralPlus] = struct{}{}
	}
	m.server = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return backend.NewSession(), nil, nil
		},
		Caps:         caps,
		InsecureAuth: true, // it is only ever on loopback
		Logger:       silent{},
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.ln = ln
	m.wg.Go(func() { m.server.Serve(ln) })
	return nil
}

// Port is where it listens.
func (m *Memory) Port() int { return m.ln.Addr().(*net.TCPAddr).Port }

// Addr is where it listens, host:port.
func (m *Memory) Addr() string { return m.ln.Addr().String() }

// Close ends the server and hangs up on everybody.
func (m *Memory) Close() error {
	err := m.server.Close()
	m.wg.Wait()
	return err
}

// silent is a logger for a server whose clients hang up as they like.
type silent struct{}

func (silent) Printf(string, ...any) {}
