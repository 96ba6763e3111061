package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

// secretURL is an address that must not be seen anywhere.
const secretURL = "https://user:c4nary-pw@push.example/c4nary-topic?key=c4nary-key"

// post is what the other side got.
type post struct {
	at     time.Duration // since the test began
	url    string
	header http.Header
	body   string
}

// otherSide answers requests without a network. It is safe for concurrent use.
type otherSide struct {
	begin time.Time
	mu    sync.Mutex
	got   []post
	fail  func(*http.Request) (*http.Response, error) // nil, or returns nil twice, to answer 200
}

func (o *otherSide) RoundTrip(req *http.Request) (*http.Response, error) {
	body := []byte{}
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	o.mu.Lock()
	fail := o.fail
	o.mu.Unlock()
	if fail != nil {
		if resp, err := fail(req); resp != nil || err != nil {
			return resp, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, post{time.Since(o.begin), req.URL.String(), req.Header, string(body)})
	return answer(req, 200, "ok"), nil
}

func answer(req *http.Request, status int, body string) *http.Response {
	return &http.Response{Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Request: req, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// taken returns what came since the last call.
func (o *otherSide) taken() []post {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.got
	o.got = nil
	return got
}

// scene is a Notifier under way, in a bubble where time is not real.
type scene struct {
	t    *testing.T
	n    *Notifier
	o    *otherSide
	log  *bytes.Buffer
	stop func()
	pass int
}

// begin starts a Notifier for accounts a0, a1, … of jobs j0, j1, …
func begin(t *testing.T, file string, list ...*config.Notify) *scene {
	s := &scene{t: t, o: &otherSide{begin: time.Now()}, log: new(bytes.Buffer)}
	s.n = &Notifier{File: file, HTTP: s.o, Log: slog.New(slog.NewTextHandler(s.log, nil))}
	s.n.Use(someConfig(600, list...))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.n.Run(ctx); close(done) }()
	s.stop = func() { cancel(); <-done }
	return s
}

func someConfig(accounts int, list ...*config.Notify) *config.Config {
	c := &config.Config{Location: time.UTC, Accounts: map[string]*fetcher.Account{}, Notify: list}
	for i := range accounts {
		c.Accounts[fmt.Sprintf("a%d", i)] = &fetcher.Account{}
	}
	return c
}

func webhook(after int, on ...string) *config.Notify {
	if on == nil {
		on = []string{"failure", "recovery", "attention"}
	}
	return &config.Notify{Type: "webhook", URL: endpoint.SecretValue(secretURL), On: on, After: after}
}

// ends ends a pass of account number i.
func (s *scene) ends(i, exit int) {
	s.pass++
	p := Pass{ID: fmt.Sprintf("p%d", s.pass), Job: fmt.Sprintf("j%d", i), Account: fmt.Sprintf("a%d", i), Start: time.Now(), Exit: exit}
	if exit != 0 {
		p.Problem = &Problem{Exit: exit, Code: fmt.Sprintf("code-%d", exit), Head: fmt.Sprintf("trouble %d", exit), Lines: []string{"Do something."}}
	}
	s.n.PassStart(p.Job, p.Account, p.ID)
	s.n.PassDone(p)
}

// later lets time pass.
func (s *scene) later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// told checks which events came, in which order: "failure a0 a1".
func (s *scene) told(want ...string) []Notice {
	s.t.Helper()
	var got []string
	var notices []Notice
	for _, p := range s.o.taken() {
		var n Notice
		if err := json.Unmarshal([]byte(p.body), &n); err != nil {
			s.t.Fatal(err)
		}
		notices = append(notices, n)
		line := n.Event
		for _, it := range n.Problems {
			line += " " + it.Account + it.Code
		}
		got = append(got, line)
	}
	slices.Sort(got) // places do not wait for each other
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("told (-want +got):\n%s", diff)
	}
	return notices
}

func TestNotifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "", webhook(3))
		// A failure is told after three passes in a row, once; and once that it is over.
		for range 2 {
			s.ends(0, 69)
			s.later(time.Hour)
		}
		s.told()
		for range 5 {
			s.ends(0, 77)
			s.later(time.Hour)
		}
		n := s.told("failure a0code-77")[0]
		if n.Problems[0].Failures != 3 || !strings.Contains(n.Text, "3 passes in a row failed, since 2000-01-01 00:00 UTC") ||
			!strings.Contains(n.Text, "trouble 77  [code-77]\n   Do something.\n") || n.Title != "popferry: j0 fails: trouble 77" {
			t.Errorf("%+v", n)
		}
		s.ends(0, 0)
		s.ends(0, 0)
		s.later(time.Hour)
		s.told("recovery a0")
		// It begins again to count, and what interrupts counts for nothing.
		s.ends(0, 1)
		s.ends(0, 143)
		s.ends(0, 1)
		s.later(time.Hour)
		s.ends(0, 0)
		s.later(time.Hour)
		s.told()
		s.stop()
		if s.log.Len() > 0 {
			t.Error(s.log)
		}
	})
}

// Five hundred accounts that fail are one message, those that follow another,
// and no place gets two a minute.
func TestNotifier_flood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "", webhook(1))
		for i := range 500 {
			s.ends(i, 69)
			s.later(10 * time.Millisecond)
		}
		s.later(6 * time.Second)
		got := s.o.taken()
		if len(got) != 1 || got[0].at != settling {
			t.Fatalf("%d messages, the first after %s", len(got), got[0].at)
		}
		var n Notice
		if err := json.Unmarshal([]byte(got[0].body), &n); err != nil {
			t.Fatal(err)
		}
		if n.Title != "popferry: 500 accounts fail" || len(n.Problems) != 500 || strings.Count(n.Text, "\n") > 15 || !strings.Contains(n.Text, "… and 490 more") {
			t.Errorf("%s\n%s", n.Title, n.Text)
		}
		s.ends(500, 69)
		s.ends(501, 77)
		for i := range 500 {
			s.ends(i, 0)
			s.later(100 * time.Millisecond)
		}
		s.later(30 * time.Second)
		got = s.o.taken()
		if len(got) != 2 || got[0].at != settling+betweenTwo {
			t.Fatalf("%d messages, at %v", len(got), got[0].at)
		}
		s.later(time.Hour)
		s.stop()
		s.told()
	})
}

// A restart repeats nothing, neither in the middle of counting nor after.
func TestNotifier_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "popferry.db.notified")
		quota := Problem{Code: "quota", Head: "home is 91 % full"}
		run := func(exit int, attention []Problem, want ...string) {
			t.Helper()
			s := begin(t, file, webhook(2), webhook(4, "recovery"))
			s.n.Attention(attention)
			s.ends(0, exit)
			s.stop()
			s.told(want...)
			if s.log.Len() > 0 {
				t.Error(s.log)
			}
			<-time.After(time.Hour)
		}
		run(0, []Problem{quota}, "attention quota")
		run(69, []Problem{quota})
		quota.Head = "home is 93 % full"
		run(69, []Problem{quota}, "failure a0code-69")
		run(69, []Problem{quota, {Code: "certificate", Head: "pop.example: the certificate ends on 2026-12-01"}}, "attention certificate")
		run(69, nil)
		run(69, []Problem{quota})
		run(0, nil, "recovery a0", "recovery a0") // of the second place, which wants only that
		run(0, nil)
		<-time.After(2 * attentionLasts)
		run(0, []Problem{quota}, "attention quota") // news again
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info, err)
		}
		if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, []byte("c4nary")) {
			t.Errorf("%s (%v)", b, err)
		}
		if left, err := filepath.Glob(file + ".*"); len(left) > 0 || err != nil {
			t.Error(left, err)
		}
	})
}

// A place that cannot be reached is told later what still holds; the log says it
// once, without its address.
func TestNotifier_unreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "", webhook(1))
		tries := 0
		s.o.fail = func(req *http.Request) (*http.Response, error) {
			tries++
			return nil, errors.New("dial tcp: no route to " + req.URL.String())
		}
		s.ends(0, 69)
		s.ends(1, 69)
		s.later(2 * time.Minute)
		if tries != 2*httpTries {
			t.Errorf("%d tries", tries)
		}
		s.ends(1, 0)
		s.later(24 * time.Hour)
		if tries > 100 {
			t.Errorf("%d tries in a day", tries)
		}
		s.o.mu.Lock()
		s.o.fail = nil
		s.o.mu.Unlock()
		s.later(lastTry + time.Minute)
		s.told("failure a0code-69")
		s.later(time.Hour)
		s.stop()
		s.told()
		if text := s.log.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "c4nary") ||
			!strings.Contains(text, `level=WARN msg="cannot notify, and will try again" target="notify 1 (webhook)" err="dial tcp: no route to ***"`) {
			t.Error(text)
		}
	})
}

// One that never answers holds up nothing: not a pass, not another place, and
// the end no longer than ten seconds.
func TestNotifier_hangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := webhook(1)
		hanging.URL = endpoint.SecretValue("https://hanging.example/c4nary")
		s := begin(t, "", hanging, webhook(1))
		s.o.fail = func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "hanging.example" {
				return nil, nil
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		start := time.Now()
		s.ends(0, 69)
		if took := time.Since(start); took != 0 {
			t.Errorf("a pass waited for %s", took)
		}
		s.later(time.Minute)
		s.told("failure a0code-69")
		s.ends(1, 69)
		start = time.Now()
		s.stop()
		if took := time.Since(start); took > drainTime {
			t.Errorf("it took %s to end", took)
		}
		s.told("failure a1code-69")
		if text := s.log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "hanging.example did not answer within 10s") {
			t.Error(text)
		}
	})
}

// Reloading changes who is told, and drops who is not read any more.
func TestNotifier_reload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "")
		s.ends(0, 69)
		s.ends(7, 69)
		s.later(time.Minute)
		s.told()
		s.n.Use(someConfig(5, webhook(1), &config.Notify{Type: "webhook", URL: endpoint.SecretValue(secretURL), On: []string{"failure"}, After: 1, Jobs: []string{"j1"}}))
		s.ends(1, 69)
		s.later(time.Minute)
		s.told("failure a0code-69 a1code-69", "failure a1code-69")
		s.stop()
	})
}

// A file that is none of ours is said once, and replaced.
func TestNotifier_damaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for name, write := range map[string]func(string) error{
			"damaged": func(path string) error { return os.WriteFile(path, []byte(`{"format":1,`), 0o600) },
			"version": func(path string) error { return os.WriteFile(path, []byte(`{"format":99}`), 0o600) },
			"regular": func(path string) error { return os.Symlink("/dev/zero", path) },
		} {
			file := filepath.Join(dir, name)
			if err := write(file); err != nil {
				t.Fatal(err)
			}
			s := begin(t, file, webhook(1))
			s.ends(0, 69)
			s.stop()
			s.told("failure a0code-69")
			if text := s.log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "what was notified before is not known") || !strings.Contains(text, name) {
				t.Errorf("%s: %s", name, text)
			}
			again := begin(t, file, webhook(1))
			again.ends(0, 69)
			again.stop()
			again.told()
			if again.log.Len() > 0 {
				t.Error(again.log)
			}
		}
	})
}

// FuzzMemory: whatever is in the file, nothing panics, and one can go on.
func FuzzMemory(f *testing.F) {
	for _, s := range []string{
		`{"format":1,"accounts":{"a0":{"job":"j0","last":"2026-01-01T00:00:00Z","failures":3,"problem":{"exit":1,"code":"x","head":"y"}}},"told":{"notify 1 (webhook)":{"failing":{"a0":"2026-01-01T00:00:00Z"}}}}`,
		`{"format":1,"accounts":{"a0":null},"told":{"notify 1 (webhook)":null}}`, `{"format":2}`, `[]`, ``, `null`, "\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &Notifier{HTTP: &otherSide{}}
		n.Use(someConfig(3, webhook(1)))
		if m, err := restore(b); err == nil {
			maps.Copy(n.memory.Accounts, m.Accounts)
			maps.Copy(n.memory.Told, m.Told)
		}
		n.PassDone(Pass{Job: "j1", Account: "a1", Exit: 69, Start: time.Now()})
		n.difference(t.Context(), n.places[0])
		n.PassDone(Pass{Job: "j1", Account: "a1", Start: time.Now()})
		n.difference(t.Context(), n.places[0])
		if told := n.memory.of("notify 1 (webhook)"); told.Failing["a1"] != (time.Time{}) {
			t.Errorf("still told to fail: %+v", told)
		}
	})
}
