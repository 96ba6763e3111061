package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"popferry/testdata/dovecot"
)

// tool is a program that fetches mail from a Dovecot, in a directory of its own.
type tool struct {
	name  string
	rc    string // $PORT, $DIR
	args  []string
	state string // the file it leaves, below the directory
	uidl  dovecot.Option
}

// Dovecot's own UIDLs have no blank; where one has, fetchmail keeps what stands
// before it, and fdm gives up.
var tools = []tool{
	{
		name: "fetchmail", uidl: dovecot.UIDLFormat("%08Xu %08Xv"), state: ".fetchids",
		rc: `poll 127.0.0.1 proto pop3 port $PORT uidl auth password
 user jane password pw keep mda "cat >/dev/null"
 user joe password pw keep mda "cat >/dev/null"
`,
		args: []string{"-f", "$DIR/rc", "--sslproto", "", "--nodetach", "-i", "$DIR/.fetchids", "--pidfile", "$DIR/pid"},
	},
	{
		name: "getmail", uidl: dovecot.UIDLFormat("%08Xv/%08Xu"), state: "oldmail-127.0.0.1-$PORT-jane",
		rc: `[retriever]
type=SimplePOP3Retriever
server=127.0.0.1
port=$PORT
username=jane
password=pw
[destination]
type=MDA_external
path=/bin/sh
arguments=("-c","cat >/dev/null")
allow_root_commands=true
[options]
read_all=false
delete=false
`,
		args: []string{"--getmaildir", "$DIR", "--rcfile", "rc"},
	},
	{
		name: "mpop", uidl: dovecot.UIDLFormat("%08Xu %08Xv"), state: "uidls",
		rc: `account a
host 127.0.0.1
port $PORT
tls off
user jane
password pw
auth plain
keep on
delivery mda "cat >/dev/null"
uidls_file $DIR/uidls
account b : a
user joe
`,
		args: []string{"-C", "$DIR/rc", "-a"},
	},
	{
		name: "fdm", uidl: dovecot.UIDLFormat("%08Xu%08Xv"), state: "cache",
		rc: `account "a" pop3 server "127.0.0.1" port $PORT user "jane" pass "pw" new-only cache "$DIR/cache" no-apop
action "k" keep
match all action "k"
`,
		args: []string{"-f", "$DIR/rc", "-u", "root", "fetch"},
	},
}

// TestImport_realTools lets the real programs fetch from a Dovecot and goes on
// where they ended: nothing is fetched twice, nothing is left out, and not even
// keep: 0d deletes what they have fetched.
func TestImport_realTools(t *testing.T) {
	for _, tl := range tools {
		t.Run(tl.name, func(t *testing.T) {
			exe, err := exec.LookPath(tl.name)
			if err != nil {
				t.Skipf("%s is not installed (Debian: fetchmail getmail6 mpop fdm)", tl.name)
			}
			s := dovecot.Start(t, tl.uidl)
			for i := range 7 {
				s.Put("jane", "INBOX", toolMail("jane", i))
				s.Put("joe", "INBOX", toolMail("joe", i), toolMail("joe", 10+i)) // Dovecot counts for each: their UIDLs are alike
			}
			dir := t.TempDir()
			// fdm fetches as a user of its own.
			if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777)); err != nil {
				t.Fatal(err)
			}
			fill := strings.NewReplacer("$PORT", fmt.Sprint(s.POP3), "$DIR", dir).Replace
			write(t, filepath.Join(dir, "rc"), fill(tl.rc))
			args := make([]string, len(tl.args))
			for i, a := range tl.args {
				args[i] = fill(a)
			}
			cmd := exec.Command(exe, args...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "FETCHMAILHOME="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", tl.name, err, out)
			}
			write(t, filepath.Join(dir, "popferry.yaml"), fmt.Sprintf(`accounts:
  isp: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw, keep: 0d}
targets:
  home: {host: 127.0.0.1, port: %d, tls: none, user: target, password: pw}
jobs: [{from: isp, to: home}]
state: state/popferry.db
`, s.POP3, s.IMAP))
			popferry := func(want int, args ...string) string {
				t.Helper()
				var out, errs bytes.Buffer
				code := run(t.Context(), append(args, "--config", filepath.Join(dir, "popferry.yaml")), nil, &out, &errs, os.LookupEnv, nil)
				if code != want {
					t.Fatalf("popferry %s: exit code %d\n%s%s", args, code, out.String(), errs.String())
				}
				return out.String() + errs.String()
			}
			file := filepath.Join(dir, fill(tl.state))
			const all = "7 of 7 ids match messages on the server. They w(ill|ould) not be fetched again.\n"
			matches(t, popferry(0, "state", "import", "isp", "--from", tl.name, file, "--dry-run"), all)
			matches(t, popferry(0, "state", "import", "isp", "--from", tl.name, file), all)
			matches(t, popferry(0, "state", "import", "isp", "--from", tl.name, file), all+"7 were remembered already\n")
			for _, other := range tools {
				if other.name != tl.name {
					matches(t, popferry(64, "state", "import", "isp", "--from", other.name, file), "not what "+other.name+" writes")
				}
			}
			matches(t, popferry(0, "run"), "new=0 delivered=0")
			for i := range 10 {
				s.Put("jane", "INBOX", toolMail("jane", 100+i))
			}
			matches(t, popferry(0, "run"), "new=10 delivered=10 .*deleted=10")
			if n := s.Count("target", "INBOX"); n != 10 {
				t.Errorf("%d messages in the target, want 10", n)
			}
			if n := s.Count("jane", "INBOX"); n != 7 {
				t.Errorf("%d messages on the maildrop, want the 7 that %s fetched", n, tl.name)
			}
		})
	}
}

func toolMail(user string, i int) []byte {
	return fmt.Appendf(nil, "From: Rita <rita@example.org>\nTo: %s@isp.example\nMessage-ID: <%s%d@example.org>\nSubject: message %d\n\nhello\n", user, user, i, i)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func matches(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Fatalf("no %q in:\n%s", pattern, text)
	}
}
