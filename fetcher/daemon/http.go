package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// HTTPOptions says what the status page shows, and to whom.
type HTTPOptions struct {
	// Status is asked at every request; it is called from several goroutines.
	Status func() Status
	// Healthy says why the scheduler is stuck, nil if it goes on. Ready says why
	// no pass would start now: before the first one could, and while everything
	// stops. A nil func stands for one that returns nil. What they say is shown to
	// everybody, so it has no names in it.
	Healthy, Ready func() error
	Metrics        *Metrics       // nil for no /metrics
	Location       *time.Location // of the times of day on the page; nil is UTC
	User, Password string         // both "" if everybody may look, who must then be on this machine
}

// NewHandler returns the status page and what goes with it:
//
//	/            one HTML page, without scripts, that reloads itself
//	/api/status  the same as JSON (Status)
//	/metrics     for Prometheus
//	/healthz     200 while the scheduler goes on, else 503
//	/readyz      200 while passes run on schedule, else 503
//
// All of it can only be read. With User and Password the last two stay open, for
// those who watch over processes. Without, requests must be addressed to this
// machine by number or as localhost: a page from elsewhere could otherwise have
// its own name lead here, and read what it shows (DNS rebinding).
func NewHandler(o HTTPOptions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", probe(o.Healthy))
	mux.HandleFunc("/readyz", probe(o.Ready))
	mux.Handle("/{$}", o.protect(pageHandler(o)))
	mux.Handle("/api/status", o.protect(http.HandlerFunc(o.api)))
	if o.Metrics != nil {
		mux.Handle("/metrics", o.protect(o.Metrics.Handler()))
	}
	return o.guard(mux)
}

// guard is before everything: what is not allowed whatever is asked for, and
// what is said to browsers whatever they get.
func (o HTTPOptions) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "nothing can be changed here", http.StatusMethodNotAllowed)
		case o.User == "" && !addressedHere(r.Host):
			http.Error(w, "This page answers to the address of this machine and to localhost only.\n"+
				"A proxy in front of it must not hand on the name it is asked for, or basic_auth must be set.", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// addressedHere reports whether a Host header names this machine in a way that
// nobody else can arrange.
func addressedHere(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost")
}

// protect asks for user and password, if there are any (RFC 7617).
func (o HTTPOptions) protect(next http.Handler) http.Handler {
	if o.User == "" && o.Password == "" {
		return next
	}
	want := sha256.Sum256([]byte(o.User + ":" + o.Password))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		got := sha256.Sum256([]byte(user + ":" + password)) // of one length, so that the time tells nothing
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="popferry", charset="UTF-8"`)
			http.Error(w, "user and password of http: basic_auth are needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// api writes the status as JSON.
func (o HTTPOptions) api(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(o.Status().whole(), "", "  ")
	if err != nil {
		http.Error(w, "the status cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(append(b, '\n')) // whoever hangs up need not be told
}

// whole has [] in JSON where there is nothing, which readers can count without
// asking for null.
func (st Status) whole() Status {
	st.Jobs, st.Accounts, st.Attention = some(st.Jobs), some(st.Accounts), some(st.Attention)
	st.Held, st.Errors = some(st.Held), some(st.Errors)
	jobs := make([]JobStatus, len(st.Jobs))
	for i, j := range st.Jobs {
		j.Accounts, j.Targets, j.Passes = some(j.Accounts), some(j.Targets), some(j.Passes)
		jobs[i] = j
	}
	st.Jobs = jobs
	return st
}

func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// probe answers those who start processes anew.
func probe(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		text := "ok\n"
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				text = err.Error() + "\n"
			}
		}
		_, _ = io.WriteString(w, text)
	}
}
