package dovecot_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"popferry/testdata/dovecot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// retrieve logs in to POP3 and returns message n, still dot-stuffed.
func retrieve(t *testing.T, conn net.Conn, user string, n int) string {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "USER %s\r\nPASS %s\r\nRETR %d\r\nQUIT\r\n", user, dovecot.Password, n)
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	replies := strings.SplitN(string(all), "\r\n", 5)
	if len(replies) < 5 || !strings.HasPrefix(replies[3], "+OK") {
		t.Fatalf("%q", all)
	}
	body, _, _ := strings.Cut(replies[4], "\r\n.\r\n")
	return body + "\r\n"
}

func roots(t *testing.T, s *dovecot.Server) *tls.Config {
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool()}
	c.RootCAs.AppendCertsFromPEM(pem)
	return c
}

func TestServer(t *testing.T) {
	s := dovecot.Start(t)
	s.Put("jane", "INBOX", []byte("A: 1\r\n\r\nx\r\n"), []byte("B: 2\n\ny\x00z"), nil)
	s.Put("Jane", "Lists/go", []byte("C: 3\n\n"))

	t.Run("plain", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.Addr(s.POP3))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := retrieve(t, conn, "jane", 1), "A: 1\r\n\r\nx\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		conn, err := tls.Dial("tcp", s.Addr(s.POP3S), roots(t, s))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := retrieve(t, conn, "jane", 2), "B: 2\r\n\r\ny\x00z\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("IMAP", func(t *testing.T) {
		for folder, want := range map[string]int{"INBOX": 3, "Lists/go": 1} {
			if got := s.Count("jane", folder); got != want {
				t.Errorf("%s: %d messages, want %d", folder, got, want)
			}
		}
		if got := fmt.Sprint(s.Folders("jane")); got != "[INBOX Lists Lists/go]" {
			t.Errorf("folders %s", got)
		}
		got := s.Messages("jane", "INBOX")
		if len(got) != 3 || got[0].UID != 1 || string(got[1].Raw) != "B: 2\r\n\r\ny\x80z" || len(got[2].Raw) != 0 {
			t.Errorf("%q", fmt.Sprint(got))
		}
		if got := fmt.Sprint(s.Subscribed("jane")); got != "[]" {
			t.Errorf("subscribed to %s", got)
		}
	})
	t.Run("crash", func(t *testing.T) {
		ports := []int{s.POP3, s.POP3S, s.IMAP, s.IMAPS}
		conn, err := net.Dial("tcp", s.Addr(s.IMAP))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		text := textproto.NewReader(bufio.NewReader(conn))
		fmt.Fprintf(conn, "a LOGIN jane pw\r\n")
		for {
			line, err := text.ReadLine()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "a OK") {
				break
			}
		}
		s.Kill()
		if line, err := text.ReadLine(); err == nil {
			t.Errorf("the session survives: %q", line)
		}
		for _, p := range ports {
			if c, err := net.Dial("tcp", s.Addr(p)); err == nil {
				c.Close()
				t.Errorf("port %d still answers", p)
			}
		}
		s.Restart()
		if got := s.Count("jane", "INBOX"); got != 3 {
			t.Errorf("%d messages after the restart, want 3", got)
		}
	})
	t.Run("doveadm", func(t *testing.T) {
		s.Doveadm("mailbox", "rename", "-u", "jane", "Lists/go", "Old")
		if got := fmt.Sprint(s.Folders("jane")); got != "[INBOX Lists Old]" {
			t.Errorf("folders %s", got)
		}
	})
	if log := s.Log(); strings.Contains(log, "Error:") || strings.Contains(log, "Fatal:") {
		t.Error(log)
	}
}

// Every option takes, and Dovecot has no complaint about it.
func TestOptions(t *testing.T) {
	tell := func(t *testing.T, s *dovecot.Server, commands ...string) string {
		conn, err := net.Dial("tcp", s.Addr(s.IMAP))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "a LOGIN jane pw\r\n")
		// The login process takes no more than a few commands ahead.
		r, seen := bufio.NewReader(conn), ""
		for line := ""; !strings.HasPrefix(line, "a "); seen += line {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(conn, "%s\r\n", strings.Join(append(commands, "z LOGOUT"), "\r\n"))
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return seen + string(rest)
	}
	big := "b APPEND INBOX {2000+}\r\n" + strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		option   dovecot.Option
		commands []string
		want     []string
		not      []string
	}{
		"Quota":        {dovecot.Quota("*:storage=1K"), []string{big}, []string{"b NO [OVERQUOTA]"}, nil},
		"MaxMailSize":  {dovecot.MaxMailSize("1K"), []string{big}, []string{"b NO [LIMIT]"}, nil},
		"both":         {dovecot.MaxMailSize("1M") + "\n" + dovecot.Quota("*:storage=1K"), []string{big}, []string{"b NO [OVERQUOTA]"}, nil},
		"Hide":         {dovecot.Hide("LITERAL+", "MULTIAPPEND"), []string{"b CAPABILITY"}, []string{"UIDPLUS", "b OK"}, []string{"LITERAL+", "MULTIAPPEND"}},
		"none":         {"", []string{"b CAPABILITY", `c LIST "" ""`}, []string{"LITERAL+", "MULTIAPPEND", `"/"`}, nil},
		"DotSeparator": {dovecot.DotSeparator, []string{`b LIST "" ""`}, []string{`"."`}, nil},
		"Courier":      {dovecot.Courier, []string{"b NAMESPACE"}, []string{`(("INBOX." "."))`}, nil},
		"Fsync":        {dovecot.Fsync, nil, []string{"a OK"}, nil},
		"UIDLFormat":   {dovecot.UIDLFormat("%g"), nil, []string{"a OK"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := dovecot.Start(t, c.option)
			got := tell(t, s, c.commands...)
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in %q", w, got)
				}
			}
			for _, w := range c.not {
				if strings.Contains(got, w) {
					t.Errorf("%q in %q", w, got)
				}
			}
			if log := s.Log(); strings.Contains(log, "Error:") || strings.Contains(log, "Fatal:") {
				t.Error(log)
			}
		})
	}
}
