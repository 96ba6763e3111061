// Package postfix runs a real Postfix for tests: SMTP with STARTTLS, and SMTP in
// TLS, on free loopback ports, with its own configuration and queue, and mail in
// Maildirs.
//
//	s := postfix.Start(t, postfix.AuthAt(socket))
//	deliver(s.Addr(s.SMTP), s.CAFile, "jane@home.example")
//	got := s.Messages("jane", 1)
//
// It knows jane and john at home.example, and nobody else. The server belongs to the
// test that started it and is gone, with its mail, when that test ends.
//
// Where Postfix is not installed, or the test does not run as root, Start skips
// the test and says so; with POPFERRY_REQUIRE_SERVERS=1 it fails it instead.
package postfix

import (
	"bytes"
	"cmp"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"popferry/testdata/process"
)

// Server is a running Postfix. Its methods fail the test that started it.
type Server struct {
	Host        string // "127.0.0.1"
	SMTP, SMTPS int    // ports
	CAFile      string // PEM; valid for "localhost" and 127.0.0.1

	t        testing.TB
	dir      string
	uid, gid int // own the mail
	master   *process.Process

	mu   sync.Mutex
	log  bytes.Buffer
	more *sync.Cond // the log has grown, or ended
	over bool
}

// Option is lines of main.cf, added to its end.
type Option string

// AuthAt demands a login of everybody; a Dovecot answers for it at the socket.
func AuthAt(path string) Option {
	return Option("smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = " + path +
		"\nsmtpd_tls_auth_only = yes\nsmtpd_client_restrictions = permit_sasl_authenticated, reject")
}

// Start runs a server until the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	if why := unusable(); why != "" {
		if os.Getenv("POPFERRY_REQUIRE_SERVERS") == "1" {
			t.Fatalf("postfix: %s", why)
		}
		t.Skipf("postfix: %s", why)
	}
	s := &Server{Host: "127.0.0.1", t: t}
	s.more = sync.NewCond(&s.mu)
	s.check(s.makeDirs())
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	s.check(process.WriteCert(s.CAFile, s.path("key.pem")))
	// A port that was free a moment ago can be taken when Postfix binds it.
	for try := 1; ; try++ {
		s.check(s.configure(options))
		err := s.start()
		if err == nil {
			break
		}
		if try == 5 || !strings.Contains(s.Log(), "Address already in use") {
			t.Fatalf("postfix: %v\n%s", err, s.Log())
		}
	}
	t.Cleanup(s.master.Kill)
	return s
}

const master = "/usr/lib/postfix/sbin/master"

// unusable says why no server can run here, "" if one can.
func unusable() string {
	if _, err := os.Stat(master); err != nil {
		return "not installed (Debian: postfix)"
	}
	if os.Geteuid() != 0 {
		return "needs root"
	}
	return ""
}

// Addr returns the address of one of the server's ports.
func (s *Server) Addr(port int) string { return net.JoinHostPort(s.Host, strconv.Itoa(port)) }

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Messages waits until n copies were delivered in all, or given up, and returns
// those of a user, just as they are stored.
func (s *Server) Messages(user string, n int) [][]byte {
	s.t.Helper()
	s.mu.Lock()
	for strings.Count(s.log.String(), " status=") < n && !s.over {
		s.more.Wait()
	}
	s.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(s.dir, "mail", user, "new", "*"))
	s.check(err)
	var list [][]byte
	for _, f := range files {
		raw, err := os.ReadFile(f)
		s.check(err)
		list = append(list, raw)
	}
	return list
}

func (s *Server) start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := process.Start(w, master, "-c", s.path("etc"), "-d")
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	s.mu.Lock()
	s.log.Reset()
	s.over = false
	s.mu.Unlock()
	p.Logged.Go(func() { s.readLog(r) })
	s.mu.Lock()
	for !strings.Contains(s.log.String(), "daemon started") && !s.over {
		s.more.Wait()
	}
	over := s.over
	s.mu.Unlock()
	if over {
		p.Kill()
		return fmt.Errorf("did not come up")
	}
	s.master = p
	return nil
}

// readLog collects the log until every process of the server has ended.
func (s *Server) readLog(r *os.File) {
	defer r.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		s.mu.Lock()
		s.log.Write(buf[:n])
		s.over = err != nil
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *Server) makeDirs() (err error) {
	// Not t.TempDir: others than root must get through it.
	if s.dir, err = os.MkdirTemp("/tmp", "pfx"); err != nil {
		return err
	}
	s.CAFile = s.path("cert.pem")
	owner, err := user.Lookup("mail") // every Debian has it
	if err != nil {
		return err
	}
	daemon, err := user.Lookup("postfix")
	if err != nil {
		return err
	}
	var errs [4]error
	var uid, gid int
	s.uid, errs[0] = strconv.Atoi(owner.Uid)
	s.gid, errs[1] = strconv.Atoi(owner.Gid)
	uid, errs[2] = strconv.Atoi(daemon.Uid)
	gid, errs[3] = strconv.Atoi(daemon.Gid)
	if err := cmp.Or(cmp.Or(errs[:]...), os.Chmod(s.dir, 0o755)); err != nil {
		return err
	}
	for _, d := range []string{"etc", "queue", "data", "mail"} {
		if err := os.Mkdir(s.path(d), 0o755); err != nil {
			return err
		}
	}
	// What "postfix check" makes, in three seconds.
	for _, d := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private", "public", "saved", "trace"} {
		d = filepath.Join(s.path("queue"), d)
		if err := cmp.Or(os.Mkdir(d, 0o700), os.Chown(d, uid, gid)); err != nil {
			return err
		}
	}
	return cmp.Or(os.Mkdir(s.path("queue/pid"), 0o755), os.Chown(s.path("mail"), s.uid, s.gid), os.Chown(s.path("data"), uid, gid))
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("postfix: %v", err)
	}
}

// configure picks ports and writes main.cf and master.cf.
func (s *Server) configure(options []Option) error {
	for _, port := range []*int{&s.SMTP, &s.SMTPS} {
		for {
			*port = 10000 + mathrand.IntN(20000)
			l, err := net.Listen("tcp", s.Addr(*port))
			if err == nil {
				l.Close()
				break
			}
		}
	}
	var main strings.Builder
	strings.NewReplacer("$DIR", s.dir, "$UID", strconv.Itoa(s.uid), "$GID", strconv.Itoa(s.gid)).WriteString(&main, mainCF)
	for _, o := range options {
		main.WriteString(string(o) + "\n")
	}
	services := fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n127.0.0.1:%d inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n%s", s.SMTP, s.SMTPS, masterCF)
	return cmp.Or(
		os.WriteFile(s.path("etc/main.cf"), []byte(main.String()), 0o644),
		os.WriteFile(s.path("etc/users"), []byte("jane@home.example jane/\njohn@home.example john/\n"), 0o644),
		os.WriteFile(s.path("etc/master.cf"), []byte(services), 0o644),
	)
}

// mainCF keeps mail as it comes: no address is completed, no line cut, no header
// too large.
const mainCF = `compatibility_level = 3.6
queue_directory = $DIR/queue
data_directory = $DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
myhostname = mail.home.example
myorigin = home.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_header_rewrite_clients =
relay_domains =
virtual_mailbox_domains = home.example
virtual_mailbox_base = $DIR/mail
virtual_mailbox_maps = texthash:$DIR/etc/users
virtual_uid_maps = static:$UID
virtual_gid_maps = static:$GID
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = 60000000
header_size_limit = 10000000
message_drop_headers =
smtpd_tls_cert_file = $DIR/cert.pem
smtpd_tls_key_file = $DIR/key.pem
smtpd_tls_security_level = may
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_recipient_restrictions = reject_unlisted_recipient, reject_unauth_destination
biff = no
`

const masterCF = `pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
