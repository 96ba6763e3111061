package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/rules"
	"popferry/targets"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

var migrateKills = flag.Int("migrate-kills", 2, "how often each move of TestMigrate_dovecot is killed while it copies")

// home is an empty home directory, and a Dovecot that it trusts. There is no
// configuration.
type home struct {
	t      *testing.T
	dir    string
	server *dovecot.Server
}

func newHome(t *testing.T, options ...dovecot.Option) *home {
	if testing.Short() {
		t.Skip("runs the program and moves much mail")
	}
	h := &home{t: t, dir: t.TempDir(), server: dovecot.Start(t, options...)}
	write(t, h.path("pw"), dovecot.Password+"\n")
	return h
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// pop3 and imap are addresses of users.
func (h *home) pop3(user string) string {
	return fmt.Sprintf("pop3s://%s@localhost:%d", user, h.server.POP3S)
}

func (h *home) imap(user string) string {
	return fmt.Sprintf("imaps://%s@localhost:%d/INBOX", user, h.server.IMAPS)
}

// ends are the flags for one move.
func (h *home) ends(from, to string) []string {
	return []string{"--from", h.pop3(from), "--to", h.imap(to), "--from-password-file", h.path("pw"), "--to-password-file", h.path("pw")}
}

// command is the program as it is called here. Nothing but SSL_CERT_FILE has it
// trust the server.
func (h *home) command(args ...string) *exec.Cmd {
	cmd := exec.Command("popferry", args...)
	cmd.Dir = h.dir
	cmd.Env = []string{"HOME=" + h.dir, "PATH=" + os.Getenv("PATH"), "SSL_CERT_FILE=" + h.server.CAFile, "TERM=dumb", "TZ=UTC"}
	return cmd
}

// popferry runs the program to its end, checks its exit code, and returns what it
// prints.
func (h *home) popferry(code int, args ...string) (stdout, stderr string) {
	h.t.Helper()
	cmd := h.command(args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	began := time.Now()
	err := cmd.Run()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	h.t.Logf("popferry %s … %s: %s", args[0], args[len(args)-1], time.Since(began).Round(10*time.Millisecond))
	if got := cmd.ProcessState.ExitCode(); got != code {
		h.t.Fatalf("popferry %s: exit code %d, want %d\n%.3000s\n%.3000s", strings.Join(args, " "), got, code, &out, &problems)
	}
	return out.String(), problems.String()
}

// interrupted runs the program until the nth line that it prints and that has
// what in it, sends it a signal then, and returns all that it prints, and how long
// it took to end.
func (h *home) interrupted(sig syscall.Signal, n int, what string, args ...string) (stdout, stderr string, took time.Duration) {
	h.t.Helper()
	cmd := h.command(args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	var all strings.Builder
	began := time.Now()
	var sent time.Time
	for lines := bufio.NewScanner(io.TeeReader(pipe, &all)); lines.Scan(); {
		if strings.Contains(lines.Text(), what) {
			if n--; n == 0 {
				sent = time.Now()
				_ = cmd.Process.Signal(sig) // one that has ended is noticed below
			}
		}
	}
	_ = cmd.Wait() // its state says it
	took = time.Since(sent)
	h.t.Logf("popferry %s … %s: %s after %s and %d lines", args[0], args[len(args)-1], sig, sent.Sub(began).Round(10*time.Millisecond), strings.Count(all.String(), what))
	got := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case n > 0:
		h.t.Fatalf("it ended %d lines early: %v\n%s", n, got, &problems)
	case sig == syscall.SIGKILL && !got.Signaled():
		h.t.Fatalf("it ended before it was killed, with %d\n%s", got.ExitStatus(), &problems)
	case sig == syscall.SIGINT && got.ExitStatus() != exitInt:
		h.t.Fatalf("after SIGINT it ended with %d\n%.3000s\n%s", got.ExitStatus(), &all, &problems)
	}
	return all.String(), problems.String(), took
}

// allMail is all mail there is: real, generated, nasty and large.
func allMail(t *testing.T) (mail [][]byte) {
	files, err := filepath.Glob("../../../shared/mail/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Run("real mail", func(t *testing.T) { t.Skip("../shared/mail is not there: only generated messages are moved") })
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		mail = append(mail, raw)
	}
	for _, m := range slices.Concat(corpus.Nasty(), corpus.Varied(), corpus.Small(1, 100)) {
		// Dovecot 2.3 does not stuff a dot that begins a message, so it ends the
		// reply to this one where it begins.
		if string(m.Raw) != ".\r\n" {
			mail = append(mail, m.Raw)
		}
	}
	large, err := io.ReadAll(corpus.Large(10 << 20))
	if err != nil {
		t.Fatal(err)
	}
	return append(mail, large)
}

// same checks that a user has these messages and no others, each as often.
func (h *home) same(user string, mail [][]byte) {
	h.t.Helper()
	balance := map[targets.Hash]int{}
	for _, raw := range mail {
		balance[hashed(raw)]--
	}
	stored := h.server.Messages(user, "INBOX")
	for _, m := range stored {
		balance[hashed(m.Raw)]++
	}
	lost, extra := 0, 0
	for _, n := range balance {
		lost, extra = lost+max(0, -n), extra+max(0, n)
	}
	if lost+extra > 0 {
		h.t.Errorf("%s: %d messages of %d; %d are missing, %d are too many", user, len(stored), len(mail), lost, extra)
	}
}

func hashed(raw []byte) targets.Hash {
	hash, _, _ := targets.CanonOf(bytes.NewReader(raw))
	return hash
}

// dated checks that INTERNALDATE is when a message was received, as its headers
// have it.
func (h *home) dated(user string) {
	h.t.Helper()
	first, sure := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), 0
	for _, m := range h.server.Messages(user, "INBOX") {
		head, _, _ := bytes.Cut(m.Raw, []byte("\r\n\r\n"))
		header := rules.ParseHeader(head)
		want := header.Received()
		if want.IsZero() {
			want = header.Date()
		}
		if want.Before(first) || want.After(time.Now()) { // no server stores that
			continue
		}
		if sure++; !m.InternalDate.Equal(want.Truncate(time.Second)) {
			h.t.Errorf("UID %d: INTERNALDATE %s, want %s", m.UID, m.InternalDate, want)
		}
	}
	if sure == 0 {
		h.t.Error("no message has a date")
	}
}

// extract returns the first submatch in what was printed.
func extract(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %q in:\n%.3000s", pattern, text)
	}
	return m[len(m)-1]
}

// TestMigrate_dovecot moves all mail there is, of two users side by side, over
// TLS and without a configuration. Each move is interrupted, and killed again and
// again: nothing is lost, and nothing comes twice.
func TestMigrate_dovecot(t *testing.T) {
	h := newHome(t)
	t.Parallel()
	mail := allMail(t)
	const users = 2
	for i := range users {
		var part [][]byte
		for j := i; j < len(mail); j += users {
			part = append(part, mail[j])
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			h := h.in(t)
			h.killed(i, part)
			h.doubted(i)
		})
	}
}

// in is the same home in a subtest.
func (h *home) in(t *testing.T) *home {
	c := *h
	c.t = t
	return &c
}

// killed migrates a user's mail with calls that do not come to their end, but the
// last one.
func (h *home) killed(user int, mail [][]byte) {
	const message, copied = `{"type":"message"`, `{"type":"job_end"`
	src, dst := fmt.Sprint("src", user), fmt.Sprint("dst", user)
	mail = append(mail, letter("removed later", "as it was"), letter("altered later", "as it was"))
	h.server.Put(src, "INBOX", mail...)
	ends := h.ends(src, dst)
	migrate := append([]string{"migrate", "--yes"}, ends...)
	script := append(slices.Clone(migrate), "--json")

	for i := range *migrateKills {
		h.interrupted(syscall.SIGKILL, 1+(user+i)%3*len(mail)/(*migrateKills+1)/6, message, script...)
	}
	// What it has in hand may be all that is left of small messages, so this is last.
	stdout, _, took := h.interrupted(syscall.SIGINT, 1, message, script...)
	if took > 20*time.Second {
		h.t.Errorf("after SIGINT it took %s to end", took)
	}
	matches(h.t, stdout, `"type":"migrated".*"code":130,"result":"stopped"`)
	matches(h.t, stdout, `\{"type":"exit","code":130,"reason":"interrupted; it is safe to start again"\}\n$`)
	h.interrupted(syscall.SIGKILL, 1, copied, append(script, "--verify", "deep")...)

	stdout, _ = h.popferry(exitOK, migrate...)
	n := humanize.Comma(int64(len(mail)))
	matches(h.t, stdout, `^✓ .*moved before`)
	matches(h.t, stdout, `\n  Checked: all `+n+` are in `+dst+`@localhost:\d+ \(`)
	matches(h.t, stdout, `\n  Mail is still on localhost\. To delete it there, add --keep 0d to the command\.\n$`)
	stdout, _ = h.popferry(exitOK, append([]string{"verify", "--deep"}, ends...)...)
	matches(h.t, stdout, `^✓ All `+n+` messages on `+src+`@localhost:\d+ are in `+dst+`@localhost:\d+ \(.*contents compared\)\.\n$`)
	h.same(dst, mail)
	h.same(src, mail)
	h.dated(dst)
}

// letter is a message with a subject of its own.
func letter(subject, body string) []byte {
	return fmt.Appendf(nil, "From: rita@example.org\r\nDate: Tue, 03 Nov 2026 09:00:00 +0000\r\nMessage-ID: <%s@example.org>\r\nSubject: %s\r\n\r\n%s\r\n",
		strings.ReplaceAll(subject, " ", "-"), subject, body)
}

// spoil removes a letter from a mailbox, and puts another one, with the same
// Message-ID, in the place of a second.
func (h *home) spoil(user, removed, altered string) {
	for _, subject := range []string{removed, altered} {
		h.server.Doveadm("expunge", "-u", user, "mailbox", "INBOX", "subject", subject)
	}
	h.server.Put(user, "INBOX", letter(altered, "as it was, and what somebody has added"))
}

// doubted removes a message from the target and alters another: both are named.
func (h *home) doubted(user int) {
	const removed, altered = "removed later", "altered later"
	ends := h.ends(fmt.Sprint("src", user), fmt.Sprint("dst", user))
	h.spoil(fmt.Sprint("dst", user), removed, altered)
	stdout, stderr := h.popferry(exitSome, append([]string{"verify", "--deep"}, ends...)...)
	matches(h.t, stdout, `(?m)^- +\S+ +Nov  3 +rita@example\.org +`+removed+` +→ INBOX`)
	matches(h.t, stdout, `(?m)^\* +\S+ +Nov  3 +rita@example\.org +`+altered+` +→ INBOX +170 octets there, 141 here\n`)
	matches(h.t, stderr, `exit 1: 1 message is missing, 1 message is different`)
	stdout, _ = h.popferry(exitSome, append([]string{"verify", "--deep", "--json"}, ends...)...)
	for subject, result := range map[string]string{removed: "missing", altered: "different"} {
		matches(h.t, stdout, `"type":"doubt",.*"uidl":"[^"]+",.*"result":"`+result+`",.*"date":"2026-11-03T09:00:00Z","from":"rita@example\.org","subject":"`+subject+`"`)
	}
}

// TestMigrate_deletes has migrate delete what it has compared, and only then. What
// somebody has removed from the target or altered there is copied once more after
// the command that migrate itself tells.
func TestMigrate_deletes(t *testing.T) {
	h := newHome(t)
	t.Parallel()
	var mail [][]byte
	for _, m := range corpus.Small(2, 30) {
		mail = append(mail, m.Raw)
	}
	mail = append(mail, letter("removed", "as it was"), letter("altered", "as it was"))
	h.server.Put("src", "INBOX", mail...)
	migrate := append([]string{"migrate", "--yes"}, h.ends("src", "dst")...)
	h.popferry(exitOK, migrate...)
	h.spoil("dst", "removed", "altered")

	migrate = append(migrate, "--keep", "0d")
	stdout, stderr := h.popferry(exitSome, migrate...)
	matches(t, stdout, `(?m)^  Nothing was deleted, because both sides are not the same\.$`)
	matches(t, stderr, `exit 1: 1 message is missing, 1 message is different`)
	h.same("src", mail)

	way := extract(t, stdout, `^ +popferry (state forget .*)$`)
	stdout, _ = h.popferry(exitOK, strings.Fields(way)...)
	matches(t, stdout, `^2 messages will be fetched again\n`)
	stdout, _ = h.popferry(exitOK, migrate...)
	matches(t, stdout, `^✓ 2 copied, 30 moved before, 32 deleted on the maildrop, `)
	matches(t, stdout, `\n  Checked: all 32 are in dst@localhost:\d+ \(32 by UID\)\.\n$`)
	h.same("src", nil)
	h.same("dst", append(mail, letter("altered", "as it was, and what somebody has added")))
}
