package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/state"
)

// The socket lies beside the state, is nobody else's, and tells what the daemon
// tells itself, also deep down where its path fits into no address. A dead one is
// replaced, anything else is not.
func TestControl(t *testing.T) {
	for _, tc := range []struct {
		name, dir string
		before    func(path string) error
		listens   bool
	}{
		{"short", "d", func(string) error { return nil }, true},
		{"long", strings.Repeat("long/", 30), func(string) error { return nil }, true},
		{"dead socket", "d", func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		}, true},
		{"a file", "d", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			dir, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			dir = filepath.Join(dir, tc.dir)
			path := filepath.Join(dir, "popferry.db")
			w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 1h}\n"))
			if err := w.State.Close(); err != nil {
				t.Fatal(err)
			}
			if w.State, err = state.Open(t.Context(), path, state.Options{}); err != nil {
				t.Fatal(err)
			}
			if err := tc.before("d/popferry.db.sock"); err != nil {
				t.Fatal(err)
			}
			w.Socket = ""
			if _, err := Ask(t.Context(), path); !errors.Is(err, ErrNotServing) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("before: %v", err)
			}
			done := make(chan struct{}, 1)
			w.PassDone = append(w.PassDone, func(Pass) { done <- struct{}{} })
			w.serve(time.Minute, func() {
				<-done
				if !tc.listens {
					if _, err := Ask(t.Context(), path); !errors.Is(err, ErrNotServing) {
						t.Errorf("asked a file: %v", err)
					}
					return
				}
				st, err := Ask(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				if !st.Serving || st.Version != "test" || len(st.Jobs) != 1 || st.Jobs[0].Next.IsZero() || len(st.Jobs[0].Passes) != 1 {
					t.Errorf("the status is %+v", st)
				}
				if err := AskHealth(t.Context(), path); err != nil {
					t.Error(err)
				}
				fi, err := os.Lstat(SocketPath(path))
				if err != nil {
					t.Fatal(err)
				}
				if fi.Mode() != os.ModeSocket|0o600 {
					t.Errorf("the socket has mode %v", fi.Mode())
				}
			})
			if _, err := os.Lstat(SocketPath(path)); errors.Is(err, os.ErrNotExist) != tc.listens {
				t.Errorf("after: %v", err)
			}
			if got := strings.Contains(w.log(), "no control socket"); got == tc.listens {
				t.Errorf("the log says\n%s", w.log())
			}
			if err := AskHealth(t.Context(), path); !errors.Is(err, ErrNotServing) {
				t.Errorf("after: %v", err)
			}
		})
	}
}

// Whoever asks nonsense, or nothing, gets no answer and disturbs nobody.
func TestControl_nonsense(t *testing.T) {
	w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 1h}\n"))
	w.Socket = ""
	path := w.State.Path()
	started := make(chan struct{})
	w.Started = func() { close(started) }
	w.serve(time.Minute, func() {
		<-started
		for _, word := range []string{"delete everything\n", strings.Repeat("x", 1000), "\n"} {
			conn, err := net.Dial("unix", SocketPath(path))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte(word))
			if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("%q was answered", word)
			}
			conn.Close()
		}
		if err := AskHealth(t.Context(), path); err != nil {
			t.Error(err)
		}
	})
}

func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC)
	from := now.Add(-16 * time.Minute)
	refused := &Problem{Exit: 77, Code: "login-refused", Head: "login refused by pop.isp.example"}
	lost := &Problem{Exit: 69, Code: "connection-lost", Head: "pop.isp.example:995: the connection was lost"}
	held := &Problem{Exit: 1, Code: "messages-held", Head: "2 messages are held"}
	for _, tc := range []struct {
		name     string
		accounts []AccountStatus // of jobs by their name
		jobs     int
		serving  bool
		want     string
	}{
		{"fine", []AccountStatus{{Job: "0", Next: now.Add(3 * time.Minute)}}, 3, true, "All 3 jobs are fine. Next pass in 3 min."},
		{"one", []AccountStatus{{Job: "0", Next: now.Add(40 * time.Second)}}, 1, true, "The job is fine. Next pass in 40 s."},
		{"running", []AccountStatus{{Job: "0", Running: true}}, 1, true, "The job is fine. A pass is under way."},
		{"due", []AccountStatus{{Job: "0", Next: now}}, 1, true, "The job is fine. Next pass now."},
		{"not serving", nil, 2, false, "All 2 jobs are fine. Nothing is scheduled: popferry serve does not run."},
		{"by hand", nil, 2, true, "All 2 jobs are fine. All run by hand only."},
		{"an accident", []AccountStatus{{Job: "0", Failures: 2, LastSuccess: from, FailingFrom: from, Problem: lost, Next: now.Add(time.Hour * 40)}}, 1, true, "The job is fine. Next pass in 2 days."},
		{"no accident", []AccountStatus{{Job: "0", Failures: 3, FailingFrom: from, Problem: lost}}, 1, true, "The job needs you: pop.isp.example:995: the connection was lost since 09:14 (3 tries)."},
		{"never worked", []AccountStatus{{Job: "0", Failures: 1, FailingFrom: from, Problem: lost}}, 1, true, "The job needs you: pop.isp.example:995: the connection was lost since 09:14 (1 try)."},
		{"refused", []AccountStatus{{Job: "1", Failures: 1, FailingFrom: from, Problem: refused}}, 3, true, "1 of 3 jobs needs you: login refused by pop.isp.example since 09:14 (1 try)."},
		{"held", []AccountStatus{{Job: "1", Problem: held}}, 3, true, "1 of 3 jobs needs you: 2 messages are held."},
		{
			"the worst of a job",
			[]AccountStatus{{Job: "1", Problem: held}, {Job: "1", Failures: 6, FailingFrom: now.Add(-48 * time.Hour), Problem: refused}},
			3, true,
			"1 of 3 jobs needs you: login refused by pop.isp.example since Nov 20 09:30 (6 tries).",
		},
		{
			"several",
			[]AccountStatus{{Job: "0", Problem: held}, {Job: "1", Problem: held}, {Job: "2", Problem: held}},
			3, true,
			"3 of 3 jobs need you: 2 messages are held; 2 messages are held; and 1 more.",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st := Status{Time: now, Serving: tc.serving, Accounts: tc.accounts}
			for i := range tc.jobs {
				st.Jobs = append(st.Jobs, JobStatus{Name: string(rune('0' + i))})
			}
			st.judge()
			if diff := cmp.Diff(tc.want, st.Summary); diff != "" {
				t.Error(diff)
			}
			if fine := strings.Contains(tc.want, "fine"); st.OK != fine {
				t.Errorf("ok is %v", st.OK)
			}
		})
	}
}
