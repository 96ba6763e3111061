package daemon

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPage_browser looks at the page with a real browser: it asks for nothing
// but the page, complains of nothing, fits on small screens, and what can be
// clicked leads where it says. It takes a quarter of a minute, most of it the
// browser's; where there is none it is skipped.
func TestPage_browser(t *testing.T) {
	b := startBrowser(t)
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	noticed(t, b)
	for _, name := range []string{"fine", "failing", "empty", "first", "watch", "nothing"} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			srv := httptest.NewServer(NewHandler(HTTPOptions{Status: samples[name], Location: zone, Metrics: NewMetrics("1.4.0", samples[name])}))
			defer srv.Close()
			for _, s := range []struct {
				suffix        string
				width, height int
				dark          bool
			}{{"", 1180, 700, false}, {"-dark", 1180, 700, true}, {"-360", 360, 700, false}, {"-360-dark", 360, 700, true}} {
				b.screen(s.width, s.height, s.dark)
				events := b.open(srv.URL + "/")
				for _, u := range requests(t, events) {
					if u != srv.URL+"/" && !strings.HasPrefix(u, "data:") {
						t.Errorf("asks for %s", u)
					}
				}
				for _, c := range complaints(events) {
					t.Error(c)
				}
				if wide := b.eval(`document.documentElement.scrollWidth`); wide != b.eval(`innerWidth`) {
					t.Errorf("%d wide: the page is %s wide", s.width, wide)
				}
				b.shoot(name + s.suffix)
			}
		})
	}
	b.t = t
	clicks(t, b, zone)
}

// noticed shows that the test would notice: a script, a picture from elsewhere
// and a style of its own are forbidden by what the page is sent with, and without
// that they are seen.
func noticed(t *testing.T, b *browser) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/guarded" {
			w.Header().Set("Content-Security-Policy", contentPolicy)
		}
		io.WriteString(w, `<!doctype html><title>x</title><p style="color:red">x<script>nowhere()</script><img src="http://127.0.0.1:9/p.gif">`)
	}))
	defer srv.Close()
	events := b.open(srv.URL + "/guarded")
	if n := len(complaints(events)); n < 3 {
		t.Errorf("%d complaints about three faults", n)
	}
	events = b.open(srv.URL + "/open")
	if len(complaints(events)) == 0 || !slices.Contains(requests(t, events), "http://127.0.0.1:9/p.gif") {
		t.Errorf("not noticed: %v %v", complaints(events), requests(t, events))
	}
}

// clicks does what people do.
func clicks(t *testing.T, b *browser, zone *time.Location) {
	srv := httptest.NewServer(NewHandler(HTTPOptions{Status: sampleFailing, Location: zone, Metrics: NewMetrics("1.4.0", sampleFailing)}))
	defer srv.Close()
	b.screen(360, 700, false)
	b.open(srv.URL + "/")
	if open := b.eval(`document.querySelectorAll("details[open]").length`); open != "0" {
		t.Errorf("%s errors are unfolded", open)
	}
	b.eval(`document.querySelector("details summary").click()`)
	if text := b.eval(`document.querySelector("details[open]").innerText`); !strings.Contains(text, "The server said: -ERR [AUTH]") || !strings.Contains(text, "login-refused") {
		t.Errorf("unfolded: %q", text)
	}
	b.shoot("failing-360-unfolded")
	// The refresh is one that the browser understands.
	if refresh := b.eval(`document.querySelector("meta[http-equiv=refresh]").content`); refresh != "5" {
		t.Errorf("reloads after %q", refresh)
	}
	for _, l := range []struct{ text, path, phrase string }{
		{"hold still", "/?still", "reload by itself"},
		{"as JSON", "/api/status", `"login-refused"`},
		{"metrics", "/metrics", "popferry_job_up"},
	} {
		b.open(srv.URL + "/")
		b.seen = nil
		b.eval(`[...document.links].find(a => a.innerText == "` + l.text + `").click()`)
		events := b.loaded()
		if at := b.eval(`location.href`); at != srv.URL+l.path {
			t.Errorf("%s leads to %s", l.text, at)
		}
		if text := b.eval(`document.body.innerText`); !strings.Contains(text, l.phrase) {
			t.Errorf("%s does not show %q", l.text, l.phrase)
		}
		for _, c := range complaints(events) {
			t.Error(c)
		}
		for _, u := range requests(t, events) {
			if !strings.HasPrefix(u, srv.URL) && !strings.HasPrefix(u, "data:") {
				t.Errorf("asks for %s", u)
			}
		}
	}
	// What a screen reader is told of a chart, and of the table.
	b.open(srv.URL + "/")
	b.call("Accessibility.enable", nil, nil)
	var tree struct {
		Nodes []struct {
			Role struct{ Value string }
			Name struct{ Value any }
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	roles, names := map[string]int{}, map[string]bool{}
	for _, n := range tree.Nodes {
		roles[n.Role.Value]++
		if name, ok := n.Name.Value.(string); ok && (n.Role.Value == "image" || n.Role.Value == "img") {
			names[name] = true
		}
	}
	if roles["table"] != 3 || roles["columnheader"]+roles["row"] == 0 || roles["rowheader"] < 3 || len(names) < 3 {
		t.Errorf("a screen reader finds %v, pictures %v", roles, names)
	}
	for name := range names {
		if !strings.HasPrefix(name, "last ") {
			t.Errorf("a picture is called %q", name)
		}
	}
}
