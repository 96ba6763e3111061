package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/state"
)

// TestMain is also the program that tests start and kill: a daemon for the
// configuration that childConfig names, whose jobs run as often as childEvery
// says, which no configuration may ask for.
func TestMain(m *testing.M) {
	if path := os.Getenv(childConfig); path != "" {
		os.Exit(child(path))
	}
	flag.Parse()
	goleak.VerifyTestMain(m)
}

const (
	childConfig = "POPFERRY_TEST_CONFIG"
	childEvery  = "POPFERRY_TEST_EVERY"
)

func child(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := serveChild(ctx, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveChild(ctx context.Context, path string) (err error) {
	c, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return err
	}
	every, err := time.ParseDuration(os.Getenv(childEvery))
	if err != nil {
		return err
	}
	for _, j := range c.Jobs {
		j.Every, j.Jitter = every, every/10
	}
	s, err := state.Open(ctx, c.State, state.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	d := &daemon.Daemon{
		Config: c, State: s, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Explain: func(_ *config.Config, e fetcher.Event) daemon.Problem {
			p := daemon.Problem{Exit: 69, Code: "network", Head: e.Err.Error()}
			if errors.Is(e.Err, context.Canceled) {
				p.Exit = 143
			}
			return p
		},
		Started: func() { fmt.Println("started") },
	}
	return d.Serve(ctx)
}

// process is a daemon in a process of its own.
type process struct {
	t     testing.TB
	dir   string
	every time.Duration
	cmd   *exec.Cmd

	mu  sync.Mutex
	err bytes.Buffer
}

// newProcess writes a configuration; the daemon is not started yet.
func newProcess(t testing.TB, every time.Duration, yaml string) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir(), every: every}
	if err := os.WriteFile(filepath.Join(p.dir, "popferry.yaml"), []byte("state: state/popferry.db\n"+yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the daemon said:\n%s", p.said())
		}
	})
	return p
}

func (p *process) state() string { return filepath.Join(p.dir, "state", "popferry.db") }

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err.Write(b)
}

// said is the end of what the daemon wrote.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.err.String()
	return s[max(0, len(s)-8000):]
}

// start starts the daemon, and returns when its schedule stands.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childConfig+"="+filepath.Join(p.dir, "popferry.yaml"), childEvery+"="+p.every.String())
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	line := make([]byte, len("started\n"))
	if _, err := out.Read(line); err != nil || !strings.HasPrefix(string(line), "started") {
		p.t.Fatalf("the daemon did not start: %q, %v\n%s", line, err, p.said())
	}
}

// kill ends the daemon without a word.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
	p.cmd = nil
}

// stop asks the daemon to end, and demands that it does so well within 30 s.
func (p *process) stop() (took time.Duration) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	late := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	err := p.cmd.Wait()
	p.cmd = nil
	if !late.Stop() || err != nil {
		p.t.Fatalf("after SIGTERM: %v in %v", err, time.Since(began))
	}
	return time.Since(began)
}

// until waits until what is so, and reports whether it came in time.
func until(within time.Duration, so func() bool) bool {
	give := time.After(within)
	for !so() {
		select {
		case <-give:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true
}
