// Package dovecot runs a real Dovecot for tests: POP3, POP3S, IMAP and IMAPS on
// free loopback ports, STLS and STARTTLS on the plain ones, mail in Maildirs.
//
//	s := dovecot.Start(t, dovecot.LockSession)
//	s.Put("jane", "INBOX", raw)
//	conn := dial(s.Addr(s.POP3S), s.CAFile, "jane", dovecot.Password)
//	…
//	got := s.Messages("jane", "INBOX")
//
// Every user name exists and has the password "pw"; tests that share a server
// keep apart by using different names. The server belongs to the test that
// started it and is gone, with its mail, when that test ends.
//
// Where Dovecot is not installed, or the test does not run as root (Dovecot
// changes users), Start skips the test and says so; with
// POPFERRY_REQUIRE_SERVERS=1 it fails it instead.
package dovecot

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/testdata/process"
)

// Password is every user's.
const Password = "pw"

// Server is a running Dovecot. Its methods fail the test that started it; they
// are safe for concurrent use, except that Kill and Restart must not overlap
// anything.
type Server struct {
	Host                     string // "127.0.0.1"
	POP3, POP3S, IMAP, IMAPS int    // ports
	LMTP                     int    // port, with the option WithLMTP
	CAFile                   string // PEM; valid for "localhost" and 127.0.0.1

	t        testing.TB
	dir      string // short: a socket's path may have 107 octets
	uid, gid int    // own the mail
	master   *process.Process

	mu  sync.Mutex // guards log and put
	log bytes.Buffer
	put int // messages put so far, names the next
}

// Start runs a server until the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	if why := unusable(); why != "" {
		if os.Getenv("POPFERRY_REQUIRE_SERVERS") == "1" {
			t.Fatalf("dovecot: %s", why)
		}
		t.Skipf("dovecot: %s", why)
	}
	s := &Server{Host: "127.0.0.1", t: t}
	s.check(s.makeDirs())
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	s.check(process.WriteCert(s.CAFile, s.path("key.pem")))
	t.Cleanup(s.Kill) // ending in order takes a second

	// A port that was free a moment ago can be taken when Dovecot binds it.
	for try := 1; ; try++ {
		s.check(s.choosePorts())
		s.check(os.WriteFile(s.path("dovecot.conf"), s.conf(options), 0o644))
		s.check(os.WriteFile(s.path("oauth2.conf"), oauthConf(options), 0o644))
		err := s.start()
		if err == nil {
			return s
		}
		if try == 5 || !strings.Contains(s.Log(), "Address already in use") {
			t.Fatalf("dovecot: %v\n%s", err, s.Log())
		}
	}
}

// unusable says why no server can run here, "" if one can.
func unusable() string {
	if _, err := exec.LookPath("dovecot"); err != nil {
		return "not installed (Debian: dovecot-pop3d dovecot-imapd dovecot-lmtpd)"
	}
	if os.Geteuid() != 0 {
		return "needs root"
	}
	return ""
}

// Addr returns the address of one of the server's ports.
func (s *Server) Addr(port int) string {
	return net.JoinHostPort(s.Host, strconv.Itoa(port))
}

// Kill ends all of the server's processes at once, as a crash would. Mail that
// was stored stays.
func (s *Server) Kill() {
	if s.master != nil {
		s.master.Kill()
		s.master = nil
		s.ungreet()
	}
}

// Restart stops the server, if it runs, and starts it with the same ports,
// options and mail.
func (s *Server) Restart() {
	s.t.Helper()
	s.stop()
	if err := s.start(); err != nil {
		s.t.Fatalf("dovecot: %v\n%s", err, s.Log())
	}
}

// Log returns what the server has logged so far. A login is logged a moment
// after the client learns of it.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Doveadm runs a doveadm command on the server's mail and returns its output:
//
//	s.Doveadm("mailbox", "rename", "-u", "jane", "Lists", "Old")
func (s *Server) Doveadm(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("doveadm", append([]string{"-c", s.path("dovecot.conf")}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("doveadm %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func (s *Server) start() error {
	// A killed master leaves its pid behind; some later process may have it.
	if err := os.Remove(s.path("run/master.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := process.Start(w, "dovecot", "-F", "-c", s.path("dovecot.conf"))
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	up := make(chan bool, 1)
	p.Logged.Go(func() { s.readLog(r, up) })
	if !<-up {
		p.Kill()
		return errors.New("did not come up")
	}
	s.master = p
	return s.greet()
}

// greet waits for the login processes, which start with the first connection.
// Until they know the authentication process, IMAP greets twice.
func (s *Server) greet() error {
	for port, greeting := range map[int]string{s.POP3: "+OK", s.IMAP: "* OK [CAPABILITY "} {
		conn, err := net.Dial("tcp", s.Addr(port))
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		for r := bufio.NewReader(conn); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return fmt.Errorf("greeting: %w", err)
			}
			if strings.HasPrefix(line, greeting) {
				break
			}
		}
	}
	return nil
}

// started is logged once all ports are bound.
const started = " starting up for "

// readLog collects the log until every process of the server has ended, and
// reports whether the server came up.
func (s *Server) readLog(r *os.File, up chan<- bool) {
	defer r.Close()
	var line []byte // of the start-up, until it is complete
	buf := make([]byte, 4096)
	for waiting := true; ; {
		n, err := r.Read(buf)
		s.mu.Lock()
		s.log.Write(buf[:n])
		s.mu.Unlock()
		if waiting {
			line = append(line, buf[:n]...)
			if ok := bytes.Contains(line, []byte(started)); ok || err != nil {
				up <- ok
				waiting = false
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.t.Errorf("dovecot: reading the log: %v", err)
			}
			return
		}
	}
}

func (s *Server) stop() {
	if s.master != nil {
		s.master.Stop()
		s.master = nil
		s.ungreet()
	}
}

// ungreet waits until nobody listens any more: not only the master does, and
// those it started die in their own time. A connection that is still taken ends
// with the last of them.
func (s *Server) ungreet() {
	for _, port := range []int{s.POP3, s.POP3S, s.IMAP, s.IMAPS} {
		for {
			conn, err := net.Dial("tcp", s.Addr(port))
			if err != nil {
				break
			}
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			_, err = io.Copy(io.Discard, conn)
			conn.Close()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.t.Errorf("dovecot: port %d outlives the server", port)
				return
			}
		}
	}
}

func (s *Server) makeDirs() (err error) {
	// Not t.TempDir: the name of the test would be in the path.
	if s.dir, err = os.MkdirTemp("/tmp", "dv"); err != nil {
		return err
	}
	s.CAFile = s.path("cert.pem")
	owner, err := user.Lookup("mail") // every Debian has it
	if err != nil {
		return err
	}
	var errUID, errGID error
	s.uid, errUID = strconv.Atoi(owner.Uid)
	s.gid, errGID = strconv.Atoi(owner.Gid)
	return cmp.Or(errUID, errGID,
		os.Chmod(s.dir, 0o755),
		os.Mkdir(s.path("run"), 0o755),
		os.Mkdir(s.path("mail"), 0o700),
		os.Chown(s.path("mail"), s.uid, s.gid))
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("dovecot: %v", err)
	}
}
