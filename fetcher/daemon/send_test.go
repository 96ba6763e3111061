package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

var sample = &Notice{
	Event: "failure", Time: time.Date(2026, 11, 21, 23, 55, 2, 0, time.UTC), Title: "popferry: isp-to-gmail fails: Größe", Text: "two\nlines\n",
	Problems: []item{{
		Job: "isp-to-gmail", Account: "isp", Failures: 3, Since: time.Date(2026, 11, 21, 23, 45, 0, 0, time.UTC),
		Problem: Problem{Exit: 77, Code: "login-refused", Head: "login refused by pop.isp.example", Lines: []string{"Fix it."}},
	}},
}

func notifyTo(kind, url string) *place {
	return &place{Notify: &config.Notify{Type: kind, URL: endpoint.SecretValue(url)}, name: "notify 1 (" + kind + ")"}
}

// What goes over the wire, to a real server.
func TestSend_requests(t *testing.T) {
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		lines := []string{r.Method + " " + r.URL.String()}
		for _, k := range []string{"Authorization", "Content-Type", "Priority", "Tags", "Title", "User-Agent"} {
			if v := r.Header.Get(k); v != "" {
				lines = append(lines, k+": "+v)
			}
		}
		got = append(got, strings.Join(lines, "\n")+"\n\n"+string(b))
	}))
	defer srv.Close()
	n := &Notifier{}
	withUser := strings.Replace(srv.URL, "http://", "http://jane:pw@", 1)
	for _, err := range []error{
		n.send(t.Context(), notifyTo("ntfy", withUser+"/topic?x=1"), sample, httpTries),
		n.send(t.Context(), notifyTo("webhook", srv.URL+"/a/b/"), sample, httpTries),
		n.post(t.Context(), notifyTo("healthchecks", srv.URL+"/ping/check?create=1"), ping("/77", rid("j", "a", "p"), "text"), 1),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"POST /topic?x=1\nAuthorization: Basic amFuZTpwdw==\nContent-Type: text/plain; charset=utf-8\nPriority: high\nTags: warning\nTitle: =?utf-8?b?cG9wZmVycnk6IGlzcC10by1nbWFpbCBmYWlsczogR3LDtsOfZQ==?=\nUser-Agent: popferry\n\ntwo\nlines\n",
		"POST /a/b\nContent-Type: application/json\nUser-Agent: popferry\n\n" +
			`{"event":"failure","time":"2026-11-21T23:55:02Z","title":"popferry: isp-to-gmail fails: Größe","text":"two\nlines\n","problems":[{"job":"isp-to-gmail","account":"isp","failures":3,"since":"2026-11-21T23:45:00Z","exit":77,"code":"login-refused","head":"login refused by pop.isp.example","lines":["Fix it."]}]}`,
		"POST /ping/check/77?create=1&rid=" + rid("j", "a", "p") + "\nContent-Type: text/plain; charset=utf-8\nUser-Agent: popferry\n\ntext",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever goes wrong, nothing of the address but its host is in the error.
func TestSend_hidden(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		http.Error(w, "no "+r.URL.String()+" for "+user+" "+pass+"\x1b[2J", http.StatusForbidden)
	}))
	defer echo.Close()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect to another host was followed") }))
	defer elsewhere.Close()
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer redirect.Close()
	becomesGet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/other", http.StatusFound)
	}))
	defer becomesGet.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	secure.StartTLS()
	defer secure.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	path := "/c4nary-topic/more?token=c4nary-token"
	var wg sync.WaitGroup
	for name, tt := range map[string]struct{ url, want string }{
		"forbidden":  {strings.Replace(echo.URL, "://", "://c4nary-user:c4nary-pw@", 1) + path, " said: 403 Forbidden no *** for *** ***\\x1b[2J"},
		"redirect":   {redirect.URL + path, " said: 307 Temporary Redirect"},
		"to a GET":   {becomesGet.URL + path, " said: 302 Found"},
		"untrusted":  {secure.URL + path, "certificate"},
		"refused":    {"http://" + l.Addr().String() + path, "connection refused"},
		"no url":     {"c4nary", "the url is none: it must begin with https:// and a host"},
		"odd url":    {"https://x/%zz-c4nary", "the url is none: it must begin with https:// and a host"},
		"other kind": {"ftp://x/c4nary", "the url is none: it must begin with https:// and a host"},
	} {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // less than the first pause
			defer cancel()
			err := (&Notifier{}).send(ctx, notifyTo("ntfy", tt.url), sample, httpTries)
			if err == nil || strings.Contains(err.Error(), "c4nary") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	missing := &place{Notify: &config.Notify{Type: "ntfy", URL: endpoint.SecretFile("/nonexistent").Named("url")}}
	if err := (&Notifier{}).send(t.Context(), missing, sample, httpTries); err == nil || !strings.HasPrefix(err.Error(), "url_file: open /nonexistent") {
		t.Error(err)
	}
}

// A redirect within the same host that keeps the message is followed.
func TestSend_sameHost(t *testing.T) {
	got := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusPermanentRedirect)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = r.URL.Path + " " + string(b)
	}))
	defer srv.Close()
	if err := (&Notifier{}).send(t.Context(), notifyTo("ntfy", srv.URL+"/old"), sample, httpTries); err != nil || got != "/new two\nlines\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSend_tries(t *testing.T) {
	for name, tt := range map[string]struct {
		status []int // of each try; 0 breaks the connection
		after  string
		tries  int
		took   time.Duration
		ok     bool
	}{
		"at once":          {[]int{200}, "", 1, 0, true},
		"second":           {[]int{503, 204}, "", 2, 2 * time.Second, true},
		"third":            {[]int{0, 429, 200}, "", 3, 10 * time.Second, true},
		"never":            {[]int{500, 500, 500, 200}, "", 3, 10 * time.Second, false},
		"no use":           {[]int{404, 200}, "", 1, 0, false},
		"it says when":     {[]int{429, 200}, "20", 2, 20 * time.Second, true},
		"it says too late": {[]int{429, 200}, "3600", 1, httpBudget, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				o := &otherSide{fail: func(req *http.Request) (*http.Response, error) {
					tries++
					if tt.status[tries-1] == 0 {
						return nil, errors.New("broken")
					}
					resp := answer(req, tt.status[tries-1], "")
					resp.Header.Set("Retry-After", tt.after)
					return resp, nil
				}}
				start := time.Now()
				err := (&Notifier{HTTP: o}).send(t.Context(), notifyTo("webhook", secretURL), sample, httpTries)
				if took := time.Since(start); tries != tt.tries || took != tt.took || (err == nil) != tt.ok {
					t.Errorf("%d tries in %s: %v", tries, took, err)
				}
			})
		})
	}
}

func commandPlace(argv ...string) *place {
	return &place{Notify: &config.Notify{Type: "command", Command: argv}, name: "notify 1 (command)"}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	n := &Notifier{Env: func(name string) (string, bool) {
		v, ok := map[string]string{"PATH": os.Getenv("PATH"), "ISP_PASSWORD": "c4nary", "TZ": "UTC", "POPFERRY_STATE": "/x"}[name]
		return v, ok
	}}
	script := `cat >"$0/stdin"; env | sort >"$0/env"`
	if err := n.send(t.Context(), commandPlace("sh", "-c", script, dir), sample, httpTries); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "stdin")); string(b) != sample.Text || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for line := range strings.Lines(string(b)) {
		if name, _, _ := strings.Cut(line, "="); !slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_", "PATH"}, name) { // the shell's
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff([]string{
		"POPFERRY_ACCOUNT=isp", "POPFERRY_CODE=login-refused", "POPFERRY_EVENT=failure", "POPFERRY_EXIT=77", "POPFERRY_JOB=isp-to-gmail",
		"POPFERRY_TITLE=popferry: isp-to-gmail fails: Größe", "TZ=UTC",
	}, ours); diff != "" {
		t.Error(diff)
	}
	for argv, want := range map[string]string{
		"echo hello; echo 'no such topic' >&2; exit 3": `command "sh": exit status 3; it said: hello\nno such topic`,
		"head -c 100000 /dev/zero; exit 1":             `command "sh": exit status 1; it said: \x00`,
	} {
		if err := n.send(t.Context(), commandPlace("sh", "-c", argv), sample, httpTries); err == nil || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 4000 {
			t.Errorf("%s: %v", argv, err)
		}
	}
	if err := n.send(t.Context(), commandPlace("/nonexistent"), sample, httpTries); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	if err := n.send(t.Context(), commandPlace("true"), &Notice{Text: strings.Repeat("x", 1<<20)}, 1); err != nil {
		t.Errorf("a command that does not read its input: %v", err)
	}
}

// A command that does not end is killed with all it has started.
func TestCommand_killed(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "alive")
	script := `mkfifo "$0"; (exec sleep 100 >"$0") & wait`
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&Notifier{Env: os.LookupEnv}).send(ctx, commandPlace("sh", "-c", script, fifo), sample, httpTries)
	}()
	var f *os.File
	for f == nil {
		var err error
		if f, err = os.Open(fifo); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	defer f.Close()
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	if _, err := io.ReadAll(f); err != nil { // ends when the grandchild does
		t.Error(err)
	}
}
