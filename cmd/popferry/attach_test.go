//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
)

// lookout is output that is waited for.
type lookout struct {
	word string
	seen chan struct{} // closed when the word was written

	mu  sync.Mutex
	b   bytes.Buffer
	was bool
}

func (l *lookout) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	if !l.was && strings.Contains(l.b.String(), l.word) {
		l.was = true
		close(l.seen)
	}
	return len(p), nil
}

func (l *lookout) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve tells systemd when it is ready and when it stops, and people what went
// wrong in between, before it ends.
func TestServe_attached(t *testing.T) {
	pop := maildroptest.New("jane", "another")
	if err := pop.Start(); err != nil {
		t.Fatal(err)
	}
	defer pop.Close()
	told := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		told <- string(b)
	}))
	defer hook.Close()
	dir := t.TempDir()
	socket := filepath.Join(dir, "systemd")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "60000000", "HOME": dir, "POP3_PORT": strconv.Itoa(pop.Port()), "PASSWORD": canary, "HOOK": hook.URL + "/" + canary}
	path := filepath.Join(dir, "popferry.yaml")
	if err := os.WriteFile(path, []byte(`state: popferry.db
accounts: {isp: {host: 127.0.0.1, port: "${POP3_PORT}", tls: none, user: jane, password: "${PASSWORD}"}}
targets: {home: {type: maildir, path: mail}}
jobs: [{from: isp, to: home, every: 1h}]
notify: [{type: webhook, url: "${HOOK}", after: 1}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &lookout{word: "login-refused", seen: make(chan struct{})}
	a := newApp(nil, out, out, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	a.machine.Root = nowhere
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- a.main(ctx, []string{"--config", path, "serve"}) }()
	// systemd hears of readiness, of the watchdog, and of the job that fails.
	var got []string
	hear := func(until string) {
		b := make([]byte, 4096)
		for {
			if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(b)
			if err != nil {
				t.Fatalf("%v after %q", err, got)
			}
			if got = append(got, string(b[:n])); strings.HasPrefix(string(b[:n]), until) {
				return
			}
		}
	}
	hear("READY=1\nSTATUS=")
	if !slices.Contains(got, "WATCHDOG=1") {
		hear("WATCHDOG=1")
	}
	<-out.seen
	stop(interrupted{syscall.SIGTERM})
	hear("STOPPING=1\n")
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d\n%s", code, out.String())
	}
	select {
	case text := <-told:
		if !strings.Contains(text, `"event":"failure"`) || !strings.Contains(text, `"code":"login-refused"`) {
			t.Error(text)
		}
	default:
		t.Errorf("nobody was told\n%s", out.String())
	}
	if strings.Contains(out.String(), canary) {
		t.Error(out.String())
	}
}
