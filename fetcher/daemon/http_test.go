package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// get asks a handler as somebody on this machine would.
func get(t *testing.T, h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:8093"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler_routes(t *testing.T) {
	sick := errors.New("the schedule is stuck")
	for _, tt := range []struct {
		path   string
		o      HTTPOptions
		code   int
		kind   string
		phrase string
	}{
		{"/", HTTPOptions{}, 200, "text/html; charset=utf-8", "All 3 jobs are fine."},
		{"/api/status", HTTPOptions{}, 200, "application/json; charset=utf-8", `"isp-to-gmail"`},
		{"/metrics", HTTPOptions{}, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", `popferry_job_up{job="work"} 1`},
		{"/healthz", HTTPOptions{}, 200, "text/plain; charset=utf-8", "ok\n"},
		{"/readyz", HTTPOptions{}, 200, "text/plain; charset=utf-8", "ok\n"},
		{"/healthz", HTTPOptions{Healthy: func() error { return sick }}, 503, "text/plain; charset=utf-8", "the schedule is stuck\n"},
		{"/readyz", HTTPOptions{Healthy: func() error { return sick }}, 200, "text/plain; charset=utf-8", "ok\n"},
		{"/readyz", HTTPOptions{Ready: func() error { return sick }}, 503, "text/plain; charset=utf-8", "the schedule is stuck\n"},
		{"/favicon.ico", HTTPOptions{}, 404, "text/plain; charset=utf-8", ""},
		{"/api/", HTTPOptions{}, 404, "text/plain; charset=utf-8", ""},
	} {
		tt.o.Status = sampleFine
		tt.o.Metrics = NewMetrics("1.4.0", sampleFine)
		w := get(t, NewHandler(tt.o), tt.path)
		if w.Code != tt.code || w.Header().Get("Content-Type") != tt.kind || !strings.Contains(w.Body.String(), tt.phrase) {
			t.Errorf("%s: %d %s\n%s", tt.path, w.Code, w.Header().Get("Content-Type"), w.Body.String())
		}
	}
	if w := get(t, NewHandler(HTTPOptions{Status: sampleFine}), "/metrics"); w.Code != 404 {
		t.Errorf("metrics that are off: %d", w.Code)
	}
}

// Nothing can be changed, and nothing may be loaded from elsewhere or put into a
// frame, whatever the answer is.
func TestHandler_readOnly(t *testing.T) {
	h := NewHandler(HTTPOptions{Status: sampleFine, Metrics: NewMetrics("1.4.0", sampleFine)})
	for _, path := range []string{"/", "/api/status", "/metrics", "/healthz", "/readyz", "/nowhere"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
			w := get(t, h, path, func(r *http.Request) { r.Method = method })
			if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		for _, method := range []string{"GET", "HEAD"} {
			w := get(t, h, path, func(r *http.Request) { r.Method = method })
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
				"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Content-Security-Policy": contentPolicy,
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s %s: %s is %q", method, path, name, got)
				}
			}
		}
	}
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(contentPolicy, want) {
			t.Errorf("%q is not in %q", want, contentPolicy)
		}
	}
	if strings.Contains(contentPolicy, "unsafe") || strings.Contains(contentPolicy, "script") || strings.Contains(contentPolicy, "http") {
		t.Errorf("%q", contentPolicy)
	}
}

func TestHandler_password(t *testing.T) {
	h := NewHandler(HTTPOptions{Status: sampleFine, Metrics: NewMetrics("1.4.0", sampleFine), User: "jane", Password: "geheim: ü"})
	for _, path := range []string{"/", "/?still", "/api/status", "/metrics"} {
		for _, tt := range []struct {
			user, password string
			code           int
		}{
			{"jane", "geheim: ü", 200},
			{"jane", "geheim: u", 401},
			{"Jane", "geheim: ü", 401},
			{"", "", 401},
			{"jane", "", 401},
			{"", "jane:geheim: ü", 401},
		} {
			w := get(t, h, path, func(r *http.Request) { r.SetBasicAuth(tt.user, tt.password) })
			if w.Code != tt.code {
				t.Errorf("%s as %q with %q: %d", path, tt.user, tt.password, w.Code)
			}
			if tt.code == 401 && (w.Header().Get("WWW-Authenticate") != `Basic realm="popferry", charset="UTF-8"` || strings.Contains(w.Body.String(), "isp")) {
				t.Errorf("%s: %v %s", path, w.Header(), w.Body.String())
			}
		}
		if w := get(t, h, path); w.Code != 401 {
			t.Errorf("%s as nobody: %d", path, w.Code)
		}
		if w := get(t, h, path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }); w.Code != 401 {
			t.Errorf("%s with a token: %d", path, w.Code)
		}
		// Behind a password the page may have any name.
		if w := get(t, h, path, func(r *http.Request) { r.Host = "mail.home.example"; r.SetBasicAuth("jane", "geheim: ü") }); w.Code != 200 {
			t.Errorf("%s under a name: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if w := get(t, h, path); w.Code != 200 {
			t.Errorf("%s as nobody: %d", path, w.Code)
		}
	}
}

// A page from elsewhere must not read this one by giving its own name the address
// 127.0.0.1.
func TestHandler_rebinding(t *testing.T) {
	h := NewHandler(HTTPOptions{Status: sampleFine, Metrics: NewMetrics("1.4.0", sampleFine)})
	for host, code := range map[string]int{
		"127.0.0.1:8093": 200, "127.0.0.1": 200, "[::1]:8093": 200, "[::1]": 200, "localhost:8093": 200, "LOCALHOST": 200,
		"evil.example:8093": 403, "evil.example": 403, "": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "localhost:8093:1": 403,
	} {
		for _, path := range []string{"/", "/api/status", "/metrics", "/healthz"} {
			if w := get(t, h, path, func(r *http.Request) { r.Host = host }); w.Code != code {
				t.Errorf("%s on %q: %d", path, host, w.Code)
			}
		}
	}
}

// The JSON is for scripts: fields are only ever added.
func TestHandler_api(t *testing.T) {
	s := sampleFailing()
	for i := range s.Jobs {
		s.Jobs[i].Passes = s.Jobs[i].Passes[len(s.Jobs[i].Passes)-2:]
	}
	body := get(t, NewHandler(HTTPOptions{Status: func() Status { return s }}), "/api/status").Body.Bytes()
	const file = "testdata/status.json"
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(body)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var empty struct{ Jobs, Accounts, Attention, Held, Errors []any }
	body = get(t, NewHandler(HTTPOptions{Status: func() Status { return Status{} }}), "/api/status").Body.Bytes()
	if err := json.Unmarshal(body, &empty); err != nil || strings.Contains(string(body), "null") {
		t.Errorf("%v: %s", err, body)
	}
}

func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		addr      string
		everybody bool
		text      string // "" if it works
		later     bool
	}{
		{"127.0.0.1:0", false, "", false},
		{"localhost:0", false, "", false},
		{"127.0.0.1:0", true, "", false},
		{taken.Addr().String(), false, "another program listens there", true},
		{"192.0.2.1:8093", true, "this machine does not have that address", true},
		{"0.0.0.0:0", false, "everybody who reaches this address could read the status page", false},
		{":0", false, "everybody who reaches this address could read the status page", false},
	} {
		ln, err := Listen(t.Context(), tt.addr, tt.everybody)
		if err == nil {
			ln.Close()
		}
		var le *ListenError
		switch {
		case tt.text == "" && err != nil, tt.text != "" && err == nil:
			t.Errorf("%s: %v", tt.addr, err)
		case tt.text == "":
		case !errors.As(err, &le) || le.Text != tt.text || le.Later != tt.later || le.Hint == "" || le.Addr != tt.addr:
			t.Errorf("%s: %+v", tt.addr, err)
		}
	}
}

// What is under way when the end comes is finished, and nothing goes on after it.
func TestServeHTTP(t *testing.T) {
	defer goleak.VerifyNone(t)
	ln, err := Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	asked, go1 := make(chan struct{}), make(chan struct{})
	status := func() Status {
		close(asked)
		<-go1
		return sampleFine()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var serveErr error
	wg.Go(func() {
		serveErr = ServeHTTP(ctx, ln, NewHandler(HTTPOptions{Status: status}), slog.New(slog.DiscardHandler))
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	var body []byte
	var code int
	wg.Go(func() {
		res, err := client.Get("http://" + ln.Addr().String() + "/api/status")
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		code = res.StatusCode
		body, _ = io.ReadAll(res.Body)
	})
	<-asked
	cancel()
	close(go1)
	wg.Wait()
	if serveErr != nil || code != 200 || !strings.Contains(string(body), "isp-to-gmail") {
		t.Errorf("%v, %d, %d octets", serveErr, code, len(body))
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// A listener that breaks is an error, and leaves nothing behind.
func TestServeHTTP_broken(t *testing.T) {
	defer goleak.VerifyNone(t)
	ln, err := Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := ServeHTTP(t.Context(), ln, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error")
	}
}
