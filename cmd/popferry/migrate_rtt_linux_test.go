package main

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

var migrateRTT = flag.Int("migrate-rtt", 200, "how many messages TestMigrate_rtt has; from 10,000 on times are compared")

// TestMigrate_rtt moves many small messages between servers that are far away, by
// run and by migrate. With 10,000 of them (-migrate-rtt 10000) migrate may take a
// tenth longer than run does, which has the same to do.
func TestMigrate_rtt(t *testing.T) {
	h := newHome(t)
	const rtt = 80 * time.Millisecond
	n := *migrateRTT
	measured := n >= 10_000
	if !measured {
		t.Parallel()
	}
	for i := 0; i < n; i += 1000 {
		for j, m := range corpus.Small(uint64(i), min(1000, n-i)) {
			// Dovecot would else read every message for its size, each time.
			name := fmt.Sprintf("%d.M%06dP1.test,S=%d,W=%d:2,", 1_700_000_000+i, j, len(m.Raw), len(m.Raw))
			write(t, filepath.Join(h.server.Maildir("src"), "cur", name), string(m.Raw))
		}
	}
	h.server.Adopt("src")
	far := map[int]int{}
	for _, port := range []int{h.server.POP3S, h.server.IMAPS} {
		p := &targetstest.Proxy{Server: h.server.Addr(port), Delay: rtt / 2}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		far[port] = p.Port()
	}
	timed := func(cmd *exec.Cmd) time.Duration {
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%.3000s", cmd.Args, err, out)
		}
		return time.Since(began)
	}
	took := map[string][]time.Duration{}
	rounds, ways := 1, []string{"no", "yes"}
	if measured {
		rounds, ways = 3, []string{"run", "no", "yes", "deep"}
	}
	for i := range rounds {
		for _, way := range ways {
			user := fmt.Sprint(way, i)
			cmd := h.command("migrate", "--from", fmt.Sprintf("pop3s://src@localhost:%d", far[h.server.POP3S]), "--to", fmt.Sprintf("imaps://%s@localhost:%d", user, far[h.server.IMAPS]),
				"--from-password-file", h.path("pw"), "--to-password-file", h.path("pw"), "--yes", "--verify", way)
			if way == "run" {
				file := h.path(user + ".yaml")
				write(t, file, fmt.Sprintf(`accounts:
  isp: {host: localhost, port: %d, tls: implicit, user: src, password: %s, keep: forever}
targets:
  home: {host: localhost, port: %d, tls: implicit, user: %s, password: %[2]s}
jobs: [{from: isp, to: home}]
state: %[5]s.db
`, far[h.server.POP3S], dovecot.Password, far[h.server.IMAPS], user, h.path(user)))
				cmd = h.command("run", "--config", file)
			}
			took[way] = append(took[way], timed(cmd))
			if got := h.server.Count(user, "INBOX"); got != n {
				t.Fatalf("%s: %d messages have come of %d", way, got, n)
			}
		}
	}
	if !measured {
		return
	}
	median := func(way string) time.Duration {
		list := slices.Sorted(slices.Values(took[way]))
		return list[len(list)/2].Round(10 * time.Millisecond)
	}
	t.Logf("%d messages, RTT %s: run %s; migrate %s, compared %s, deep %s", n, rtt, median("run"), median("no"), median("yes"), median("deep"))
	if median("no") > median("run")*11/10 {
		t.Errorf("migrate takes %s, run %s; all times: %v", median("no"), median("run"), took)
	}
}
