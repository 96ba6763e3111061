package daemon_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"popferry/fetcher/daemon"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
	"popferry/testdata/dovecot"
)

var (
	long  = flag.Duration("dovecot", 5*time.Second, "how long new mail is watched on Dovecot")
	terms = flag.Int("terms", 8, "how many times a daemon is sent SIGTERM")
)

var subjectLine = regexp.MustCompile(`(?m)^Subject: (m\d+)\r?$`)

// letter is a message that can be told by its subject.
func letter(n int) []byte {
	return fmt.Appendf(nil, "From: a@x.example\r\nTo: jane@isp.example\r\nSubject: m%04d\r\nDate: Sun, 22 Nov 2026 09:00:00 +0000\r\nMessage-ID: <m%d@x.example>\r\n\r\nhello %d\r\n", n, n, n)
}

// tally counts messages by subject.
func tally(bodies [][]byte) map[string]int {
	out := map[string]int{}
	for _, b := range bodies {
		if m := subjectLine.FindSubmatch(b); m != nil {
			out[string(m[1])]++
		}
	}
	return out
}

// New mail is there within an interval, whatever happens to other accounts, and
// neither lost nor doubled when the daemon is killed.
func TestDovecot(t *testing.T) {
	const every, slack = 2 * time.Second, 1500 * time.Millisecond
	s := dovecot.Start(t)
	// One server refuses connections, one hangs, and one alternates: it hangs up,
	// stands still in the middle of a message, refuses the password, is busy.
	odd := maildroptest.New("jane", "pw")
	odd.AddUser("still", "pw")
	odd.Hook = func(session int, cmd string) maildroptest.Action {
		switch {
		case cmd == "GREETING" && session%5 == 1:
			return maildroptest.Action{Cut: maildroptest.FIN}
		case cmd == "RETR 1" && session%5 == 2:
			return maildroptest.Action{At: 40, Cut: maildroptest.Stall}
		case cmd == "STAT" && session%5 == 3:
			return maildroptest.Action{Reply: "-ERR [SYS/TEMP] later\r\n"}
		case cmd == "QUIT" && session%5 == 4:
			return maildroptest.Action{Cut: maildroptest.RST}
		}
		return maildroptest.Action{}
	}
	hangs := maildroptest.New("jane", "pw")
	hangs.Hook = func(int, string) maildroptest.Action { return maildroptest.Action{Cut: maildroptest.Stall} }
	if err := errors.Join(odd.Start(), hangs.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(odd.Close)
	t.Cleanup(hangs.Close)
	for i := range 5 {
		odd.Add("jane", fmt.Sprint("odd", i), letter(9000+i))
	}
	p := newProcess(t, every, fmt.Sprintf(`
accounts:
  good: {host: localhost, port: %d, ca_file: %s, user: src, password: pw, keep: 0d}
  odd: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw, timeout: 1s}
  hangs: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw, timeout: 30s}
  down: {host: 127.0.0.1, port: 1, tls: none, user: jane, password: pw}
targets:
  home: {host: localhost, port: %d, ca_file: %s, user: dst, password: pw}
jobs:
  - {from: [hangs, down, odd, good], to: home, every: 10s}
`, s.POP3S, s.CAFile, odd.Port(), hangs.Port(), s.IMAPS, s.CAFile))

	stored := func() map[string]int {
		var bodies [][]byte
		for _, m := range s.Messages("dst", "INBOX") {
			bodies = append(bodies, m.Raw)
		}
		return tally(bodies)
	}
	n := 0
	send := func() string {
		n++
		s.Put("src", "INBOX", letter(n))
		return fmt.Sprintf("m%04d", n)
	}
	p.start()
	var took []time.Duration
	for end := time.Now().Add(*long); time.Now().Before(end); {
		began, name := time.Now(), send()
		if !until(every+slack, func() bool { return stored()[name] > 0 }) {
			t.Fatalf("%s was not there within %v", name, every+slack)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d messages were there after %v at the median, %v at most", len(took), took[len(took)/2], took[len(took)-1])

	for range 3 + int(*long/(20*time.Second)) { // killed wherever it is
		for range 20 {
			send()
		}
		<-time.After(rand.N(every + 200*time.Millisecond))
		p.kill()
		p.start()
	}
	all := func() bool { return len(s.Messages("src", "INBOX")) == 0 && len(stored()) == n+5 }
	if !until(60*time.Second, all) {
		t.Errorf("%d of %d messages are there, %d left on the maildrop", len(stored()), n+5, len(s.Messages("src", "INBOX")))
	}
	for name, copies := range stored() {
		if copies != 1 {
			t.Errorf("%d copies of %s", copies, name)
		}
	}
	p.stop()
}

// SIGTERM at any moment: it ends well and soon, everything is in one of the two
// places, and in the end everything is there once.
func TestSIGTERM(t *testing.T) {
	const messages = 150
	for i := range *terms {
		pop := maildroptest.New("jane", "pw")
		pop.Latency = time.Millisecond
		for k := range messages {
			pop.Add("jane", fmt.Sprint("u", k), letter(k))
		}
		box := &targetstest.IMAP{User: "jane", Password: "pw"}
		if err := errors.Join(pop.Start(), box.Start()); err != nil {
			t.Fatal(err)
		}
		p := newProcess(t, 500*time.Millisecond, fmt.Sprintf(`
accounts:
  isp: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw, keep: 0d, pipelining: off}
targets:
  home: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw}
jobs:
  - {from: isp, to: home, every: 10s}
`, pop.Port(), box.Port()))
		there := func() (source, target map[string]int) {
			var a, b [][]byte
			for _, m := range pop.Messages("jane") {
				a = append(a, m.Body)
			}
			for _, m := range box.Messages("INBOX") {
				b = append(b, m.Body)
			}
			return tally(a), tally(b)
		}
		p.start()
		<-time.After(rand.N(700 * time.Millisecond))
		took := p.stop()
		source, target := there()
		for k := range messages {
			name := fmt.Sprintf("m%04d", k)
			if source[name]+target[name] == 0 || target[name] > 1 {
				t.Errorf("after SIGTERM %s is %d times on the maildrop and %d times in the mailbox", name, source[name], target[name])
			}
		}
		if _, err := os.Lstat(daemon.SocketPath(p.state())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the control socket: %v", err)
		}
		half := len(target)
		p.start()
		if !until(30*time.Second, func() bool { s, d := there(); return len(s) == 0 && len(d) == messages }) {
			t.Errorf("%d messages are left", len(source))
		}
		p.stop()
		if _, target = there(); len(box.Messages("INBOX")) != messages || len(target) != messages {
			t.Errorf("%d copies of %d messages, want %d", len(box.Messages("INBOX")), len(target), messages)
		}
		t.Logf("%d: ended within %v with %d of %d delivered", i+1, took.Round(time.Millisecond), half, messages)
		pop.Close()
		box.Close()
	}
}
