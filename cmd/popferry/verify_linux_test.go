package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

var (
	verifyFlag = flag.Int("verify", 1000, "how many messages TestVerify_large has")
	rttFlag    = flag.Duration("verify-rtt", 0, "how far away the servers of TestVerify_large are")
)

// TestVerify_large verifies a whole maildrop in every way, with one message
// removed and one altered: both are named. It tells what that took and checks
// that the memory does not grow with the messages: 100,000 of them
// (-verify 100000) must do with 128 MB.
func TestVerify_large(t *testing.T) {
	if testing.Short() {
		t.Skip("moves much mail")
	}
	s := dovecot.Start(t)
	n := *verifyFlag
	for i := 0; i < n; i += 1000 {
		for j, m := range corpus.Small(uint64(i), min(1000, n-i)) {
			// Dovecot would else read every message for its size, each time.
			name := fmt.Sprintf("%d.M%06dP1.test,S=%d,W=%d:2,", 1_700_000_000+i, j, len(m.Raw), len(m.Raw))
			write(t, filepath.Join(s.Maildir("jane"), "cur", name), string(m.Raw))
		}
	}
	s.Adopt("jane")
	var far []*targetstest.Proxy
	dir := t.TempDir()
	file := filepath.Join(dir, "popferry.yaml")
	write(t, file, fmt.Sprintf(`accounts:
  isp: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw, keep: forever, timeout: 10m}
targets:
  home: {host: 127.0.0.1, port: %d, tls: none, user: target, password: pw, timeout: 10m}
jobs: [{from: isp, to: home}]
state: state/popferry.db
`, proxied(t, s.POP3, &far), proxied(t, s.IMAP, &far)))
	popferry := func(code int, args ...string) string {
		t.Helper()
		start := time.Now()
		cmd := exec.Command("popferry", append(args, "--config", file)...)
		cmd.Env = append(os.Environ(), "TERM=dumb")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("popferry %v: exit code %d\n%.3000s", args, got, out)
		}
		kib := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
		t.Logf("popferry %v: %d messages, %s, at most %d MB", args[:min(2, len(args))], n, time.Since(start).Round(10*time.Millisecond), kib>>10)
		if args[0] == "verify" && n >= 100_000 && kib > 128<<10 {
			t.Errorf("popferry %v took %d MB", args, kib>>10)
		}
		return string(out)
	}
	popferry(0, "run")
	if *rttFlag > 0 { // the pass was near
		for _, p := range far {
			p.Delay = *rttFlag / 2
		}
	}
	for _, args := range [][]string{{"verify"}, {"verify", "--deep"}, {"verify", "--state", filepath.Join(dir, "none.db")}} {
		matches(t, popferry(0, args...), `✓ All [\d,]+ messages on isp are in home \(`)
	}
	// Without having all of it here: a child's peak counts that of its parent.
	removed, altered := fmt.Sprint(n/3), fmt.Sprint(n/2)
	text := s.Doveadm("fetch", "-u", "target", "text", "mailbox", "INBOX", "uid", altered)
	text, ok := strings.CutPrefix(text, "text:\n")
	if !ok {
		t.Fatalf("%.100q", text)
	}
	s.Doveadm("expunge", "-u", "target", "mailbox", "INBOX", "uid", removed+","+altered)
	s.Put("target", "INBOX", []byte(text+"one line more\n"))
	for _, args := range [][]string{{"verify"}, {"verify", "--deep"}, {"verify", "--state", filepath.Join(dir, "none.db")}} {
		out := popferry(1, args...)
		matches(t, out, `(?m)^- +\S+ `)
		matches(t, out, `(?m)^\* +\S+ `)
		matches(t, out, "exit 1: 1 message is missing, 1 message is different")
	}
}

// proxied returns a port that leads to port; its proxy is added to far.
func proxied(t *testing.T, port int, far *[]*targetstest.Proxy) int {
	p := &targetstest.Proxy{Server: fmt.Sprintf("127.0.0.1:%d", port)}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	*far = append(*far, p)
	return p.Port()
}
