package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestSystemd(t *testing.T) {
	names := []string{filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		names = append(names, fmt.Sprintf("@popferry-test-%d", os.Getpid()))
	}
	for _, name := range names {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		next := func() string {
			b := make([]byte, 4096)
			if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			return string(b[:n])
		}
		s := FromEnvironment(environment("NOTIFY_SOCKET", name, "WATCHDOG_USEC", "2000", "WATCHDOG_PID", "7"), 7, nil)
		for _, tt := range []struct {
			send func()
			want string
		}{
			{func() { s.Ready("All 3 jobs\nare fine.") }, `^READY=1\nSTATUS=All 3 jobs are fine\.$`},
			{func() { s.Status(strings.Repeat("x", 10_000)) }, `^STATUS=x{497}…$`},
			{s.Reloading, `^RELOADING=1\nMONOTONIC_USEC=\d+$`},
			{s.Stopping, `^STOPPING=1\nSTATUS=finishing what is in hand$`},
		} {
			tt.send()
			if got := next(); !regexp.MustCompile(tt.want).MatchString(got) {
				t.Errorf("%s: %q is not %s", name, got, tt.want)
			}
		}
		if before := monotonic(); runtime.GOOS == "linux" && (before <= 0 || monotonic() < before) {
			t.Errorf("the clock shows %s", before)
		}
		// The watchdog hears nothing while the scheduler is stuck.
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		ended := make(chan struct{})
		go func() {
			s.Watch(ctx, func() bool { return asked.Add(1) == 3 })
			close(ended)
		}()
		if got := next(); got != "WATCHDOG=1" || asked.Load() < 3 {
			t.Errorf("%q after %d questions", got, asked.Load())
		}
		cancel()
		<-ended
		s.Status("end")
		if got := next(); got != "STATUS=end" {
			t.Errorf("a watchdog was fed that should not be: %q", got)
		}
	}
}

func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestFromEnvironment(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		none bool
		want time.Duration
	}{
		{nil, true, 0},
		{[]string{"NOTIFY_SOCKET", "vsock:2:1"}, true, 0},
		{[]string{"NOTIFY_SOCKET", "/nowhere"}, false, 0},
		{[]string{"NOTIFY_SOCKET", "/nowhere", "WATCHDOG_USEC", "60000000"}, false, time.Minute},
		{[]string{"NOTIFY_SOCKET", "/nowhere", "WATCHDOG_USEC", "60000000", "WATCHDOG_PID", "8"}, false, 0},
		{[]string{"NOTIFY_SOCKET", "/nowhere", "WATCHDOG_USEC", "-1"}, false, 0},
		{[]string{"NOTIFY_SOCKET", "/nowhere", "WATCHDOG_USEC", "9223372036854775807"}, false, 0},
	} {
		s := FromEnvironment(environment(tt.env...), 7, nil)
		if (s == nil) != tt.none || s != nil && s.watchdog != tt.want {
			t.Errorf("%v: %+v", tt.env, s)
		}
		s.Ready("") // nobody listens
		s.Reloading()
		if s == nil {
			s.Watch(t.Context(), nil)
		}
	}
}
