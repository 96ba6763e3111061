package daemon_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/daemon"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/targets/targetstest"
)

var (
	loadAccounts = flag.Int("accounts", 30, "how many accounts TestLoad has")
	loadEvery    = flag.Duration("every", time.Second, "how often each of them is fetched from")
	loadFor      = flag.Duration("for", 3*time.Second, "for how long")
)

// Many accounts on one daemon: none misses a pass, connections are bounded. It
// prints what that costs.
func TestLoad(t *testing.T) {
	pop := maildroptest.New("u0", "pw")
	var now, most, total atomic.Int64
	pop.Hook = func(_ int, cmd string) maildroptest.Action {
		switch cmd {
		case "GREETING":
			total.Add(1)
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		case "QUIT":
			now.Add(-1)
		}
		return maildroptest.Action{}
	}
	box := &targetstest.IMAP{User: "jane", Password: "pw"}
	var yaml, names strings.Builder
	for i := range *loadAccounts {
		user := fmt.Sprint("u", i)
		pop.AddUser(user, "pw")
		for k := range 3 {
			pop.Add(user, fmt.Sprint("id", k), letter(10*i+k))
		}
		fmt.Fprintf(&names, "%s, ", user)
	}
	if err := errors.Join(pop.Start(), box.Start()); err != nil {
		t.Fatal(err)
	}
	defer pop.Close()
	defer box.Close()
	yaml.WriteString("accounts:\n")
	for i := range *loadAccounts {
		fmt.Fprintf(&yaml, "  u%d: {host: 127.0.0.1, port: %d, tls: none, user: u%d, password: pw}\n", i, pop.Port(), i)
	}
	fmt.Fprintf(&yaml, "targets:\n  home: {host: 127.0.0.1, port: %d, tls: none, user: jane, password: pw}\njobs:\n  - {name: all, from: [%s], to: home, every: 10s}\n",
		box.Port(), strings.TrimSuffix(names.String(), ", "))
	p := newProcess(t, *loadEvery, yaml.String())
	p.start()
	began := time.Now()
	<-time.After(*loadFor)
	asked := time.Now()
	st, err := daemon.Ask(t.Context(), p.state())
	if err != nil {
		t.Fatal(err)
	}
	answered := time.Since(asked)
	memory := peak(t, p.cmd.Process.Pid)
	ran := time.Since(began)
	cmd := p.cmd
	p.stop()
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()

	// The first pass comes at once; the grid begins up to a jitter later.
	least := int((ran - *loadEvery/10 - 500*time.Millisecond) / *loadEvery)
	passes := passCount(t, p.state(), *loadAccounts, least)
	if got := len(box.Messages("INBOX")); got != 3**loadAccounts {
		t.Errorf("%d messages are delivered, want %d", got, 3**loadAccounts)
	}
	if n := most.Load(); n > int64(*loadAccounts) {
		t.Errorf("%d POP3 connections at a time", n)
	}
	if n := box.Count(""); n > 4 {
		t.Errorf("%d IMAP connections", n)
	}
	if len(st.Accounts) != *loadAccounts || !st.OK {
		t.Errorf("the status has %d accounts: %s", len(st.Accounts), st.Summary)
	}
	t.Logf("%d accounts every %v for %v: %d passes (at least %d each), %d POP3 connections, %d at a time at most, %d IMAP connections, CPU %v (%.1f %% of one), %s; status in %v",
		*loadAccounts, *loadEvery, ran.Round(time.Second), passes, least, total.Load(), most.Load(), box.Count(""),
		cpu.Round(10*time.Millisecond), 100*cpu.Seconds()/ran.Seconds(), memory, answered.Round(time.Millisecond))
}

// passCount counts the passes in the history, and demands so many of each
// account, all of them well.
func passCount(t *testing.T, path string, accounts, least int) (n int) {
	t.Helper()
	s, err := state.View(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range accounts {
		name := fmt.Sprint("u", i)
		passes, err := s.Passes(context.Background(), name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(passes) < least {
			t.Errorf("%d passes over %s, want %d", len(passes), name, least)
		}
		for _, p := range passes {
			if p.Exit != 0 && p.Exit != 143 {
				t.Errorf("a pass over %s ended with %d: %s", name, p.Exit, p.Head)
			}
		}
		n += len(passes)
	}
	return n
}

// peak is the memory that a process had at most.
func peak(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "memory not known here"
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return "resident " + strings.TrimSpace(rest) + " at most"
		}
	}
	return "memory not known"
}
