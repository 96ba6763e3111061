package daemon

import (
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// render is the page of a status.
func render(t *testing.T, s Status, path string) string {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w := get(t, NewHandler(HTTPOptions{Status: func() Status { return s }, Location: zone}), path)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body.String())
	}
	return w.Body.String()
}

func TestPage_says(t *testing.T) {
	for _, tt := range []struct {
		name      string
		has, hasn []string
	}{
		{
			"fine",
			[]string{
				`<title>✓ All 3 jobs are fine. Next pass in 3 min.</title>`, `<h1 class="fine">`, `content="5"`, "running now", "isp → gmail, disk",
				`<time datetime="2026-11-22T15:06:06+01:00" title="Sun 22 Nov 2026, 15:06:06 CET">in 3 min</time>`, "1,284", "412 MB", "first on 22 Nov",
				`aria-label="last 50 passes: `, "57 in 24 h", "/config/popferry.yaml", "times in Europe/Berlin", "LOGIN-DELAY 900",
			},
			[]string{"Attention", "Held messages", "Last errors", "needs you", "never"},
		},
		{
			"failing",
			[]string{
				`<title>✗ 1 of 3 jobs needs you`, `<h1 class="failing">`, "needs you", "The server said: -ERR [AUTH] Username and password not accepted.",
				"6 passes in a row", "6 times since", "popferry auth login office", "Fotos vom Sommerfest", "popferry held retry sales 0001a7f9c2", "2 wait for you",
				"6 failed", ", 1 put off", "somebody else is reading this maildrop", "maildrop-in-use",
			},
			nil,
		},
		{"watch", []string{`<title>! All 3`, `<h1 class="watch">`, "Attention"}, []string{"Held messages"}},
		{"empty", []string{`<h1 class="waiting">`, "no pass yet", `content="30"`}, []string{"never", "failing", "0 B"}},
		{"first", []string{`content="5"`, "running now", "The first pass of 3 jobs is running.", "311"}, []string{"never"}},
		{"nothing", []string{"No job is configured."}, []string{"Accounts"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			html := html.UnescapeString(render(t, samples[tt.name](), "/"))
			_, body, _ := strings.Cut(html, "</style>")
			for _, want := range tt.has {
				if !strings.Contains(html, want) {
					t.Errorf("%q is not there", want)
				}
			}
			for _, no := range tt.hasn {
				if strings.Contains(body, no) {
					t.Errorf("%q is there", no)
				}
			}
		})
	}
}

// What servers and mail say stays text, and the page leads nowhere else.
func TestPage_escapes(t *testing.T) {
	page := render(t, sampleFailing(), "/")
	for _, bad := range []string{"<script", "<img", "onerror", "<form", "<iframe", "<link rel=\"stylesheet", "style=\"", "javascript:"} {
		if strings.Contains(strings.ToLower(page), bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	for _, want := range []string{"&lt;script&gt;alert(", "&lt;img src=https://tracker.example/p.gif&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not there", want)
		}
	}
	for _, tag := range regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1) {
		if strings.Contains(tag, "//") && !strings.HasPrefix(tag, `<link rel="icon" href="data:image/svg`) {
			t.Errorf("leads elsewhere: %s", tag)
		}
	}
	if strings.Contains(pageCSS, "url(") || strings.Contains(pageCSS, "@import") {
		t.Error("the style loads something")
	}
}

// Every element is closed, every label leads to an element, and no id is there
// twice.
func TestPage_wellFormed(t *testing.T) {
	for name, status := range samples {
		d := xml.NewDecoder(strings.NewReader(render(t, status(), "/")))
		d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link"}, xml.HTMLEntity
		ids, labels := map[string]int{}, []string{}
		var open []string
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch e := tok.(type) {
			case xml.StartElement:
				open = append(open, e.Name.Local)
				for _, a := range e.Attr {
					switch a.Name.Local {
					case "id":
						ids[a.Value]++
					case "aria-labelledby":
						labels = append(labels, a.Value)
					}
				}
			case xml.EndElement:
				if len(open) == 0 || open[len(open)-1] != e.Name.Local {
					t.Fatalf("%s: </%s> closes %v", name, e.Name.Local, open)
				}
				open = open[:len(open)-1]
			}
		}
		for id, n := range ids {
			if n != 1 {
				t.Errorf("%s: id %s is there %d times", name, id, n)
			}
		}
		for _, l := range labels {
			if ids[l] != 1 {
				t.Errorf("%s: nothing is called %s", name, l)
			}
		}
	}
}

func TestPage_still(t *testing.T) {
	html := render(t, sampleFine(), "/?still")
	if strings.Contains(html, "http-equiv") || !strings.Contains(html, `<a href="/">reload by itself</a>`) {
		t.Error("it reloads itself")
	}
}

// Five hundred accounts are a page that can still be read and sent.
func TestPage_many(t *testing.T) {
	s := sampleFine()
	job, account := s.Jobs[0], s.Accounts[0]
	s.Jobs, s.Accounts = nil, nil
	for i := range 500 {
		job.Name, account.Name, account.Job = fmt.Sprintf("job-%03d", i), fmt.Sprintf("a%03d", i), fmt.Sprintf("job-%03d", i)
		job.Accounts, job.OK = []string{account.Name}, i != 321
		s.Jobs, s.Accounts = append(s.Jobs, job), append(s.Accounts, account)
	}
	html := render(t, s, "/")
	if len(html) > 3<<20 {
		t.Errorf("%d octets", len(html))
	}
	if !strings.Contains(html, "<summary>all 500</summary>") {
		t.Error("the accounts are not folded away")
	}
	if strings.Index(html, "job-321") > strings.Index(html, "job-000") {
		t.Error("the job that needs somebody does not come first")
	}
}

func TestRelative(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "now", 4 * time.Second: "now", -4 * time.Second: "now", 5 * time.Second: "in 5 s", -59 * time.Second: "59 s ago",
		time.Minute: "in 1 min", -59*time.Minute - 59*time.Second: "59 min ago", time.Hour: "in 1 h", -47 * time.Hour: "47 h ago",
		48 * time.Hour: "in 2 days", -59 * 24 * time.Hour: "59 days ago", -60 * 24 * time.Hour: "23 Sep 2026", 365 * 24 * time.Hour: "22 Nov 2027",
	} {
		if got := relative(sampleNow.Add(d), sampleNow); got != want {
			t.Errorf("%v: %q, not %q", d, got, want)
		}
	}
}

func TestPage_words(t *testing.T) {
	p := &page{}
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 12406: "12,406", 1234567: "1,234,567", -5: "-5", -1000: "-1,000", -100: "-100"} {
		if got := p.Count(n); got != want {
			t.Errorf("Count(%d) is %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0 ms", 999 * time.Millisecond: "999 ms", time.Second: "1.0 s", 9940 * time.Millisecond: "9.9 s", 17 * time.Second: "17 s", 100 * time.Minute: "2 h",
	} {
		if got := p.Took(d); got != want {
			t.Errorf("Took(%v) is %q", d, got)
		}
	}
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 412_000_000: "412 MB",
		3_900_000_000: "3.9 GB", math.MaxInt64: "9223 PB",
	} {
		if got := p.Size(n); got != want {
			t.Errorf("Size(%d) is %q, not %q", n, got, want)
		}
	}
}

// TestPage_contrast demands 4.5:1 of all text (WCAG 2.2, 1.4.3 AA), and 3:1 of
// the bars that mean something (1.4.11), in both schemes.
func TestPage_contrast(t *testing.T) {
	roots := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(pageCSS, 2)
	if len(roots) != 2 {
		t.Fatalf("%d sets of colours", len(roots))
	}
	for i, scheme := range []string{"light", "dark"} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6})`).FindAllStringSubmatch(roots[i][1], -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		check := func(front, back string, least float64) {
			f, ok := colours[front]
			b, ok2 := colours[back]
			if !ok || !ok2 {
				t.Fatalf("%s: no colour %s or %s", scheme, front, back)
			}
			if ratio := (max(f, b) + .05) / (min(f, b) + .05); ratio < least {
				t.Errorf("%s: %s on %s is %.2f:1", scheme, front, back, ratio)
			}
		}
		for _, back := range []string{"paper", "card"} {
			for _, front := range []string{"ink", "soft", "link", "fine", "watch", "failing", "waiting", "running"} {
				check(front, back, 4.5)
			}
		}
		for _, tone := range []string{"fine", "watch", "failing", "waiting", "running"} {
			check(tone, tone+"-bg", 4.5)
		}
		check("ink", "failing-bg", 4.5)
		check("soft", "failing-bg", 4.5)
		check("ink", "waiting-bg", 4.5)
		for _, tone := range []string{"fine", "failing"} {
			check(tone+"-bar", "card", 3)
		}
	}
}

// luminance is that of WCAG, of a colour in hexadecimal digits.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(v uint64) float64 {
		c := float64(v&255) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*part(n>>16) + .7152*part(n>>8) + .0722*part(n)
}

// The chart says in words what it shows, and a failed pass has another shape.
func TestPage_chart(t *testing.T) {
	p := newPage(sampleFailing(), time.UTC)
	c := p.Chart(p.Jobs[0])
	if want := "last 50 passes: "; !strings.HasPrefix(c.Text, want) || !strings.Contains(c.Text, ", 7 failed, last trouble 2 min ago") {
		t.Errorf("%q", c.Text)
	}
	failed := 0
	for _, b := range c.Bars {
		if (b.Tone == "failing") != (b.Dot > 0) {
			t.Errorf("%+v", b)
		}
		if b.Y < 0 || b.Y+b.Height > barHeight || b.X+b.Width > c.Width || b.Height <= 0 {
			t.Errorf("outside: %+v", b)
		}
		if b.Dot > 0 {
			failed++
		}
	}
	if failed != 7 {
		t.Errorf("%d failed", failed)
	}
	many := Pass{Start: sampleNow, Counts: Counts{New: math.MaxInt32}}
	if b := p.bar(0, &many); b.Height != barHeight {
		t.Errorf("%+v", b)
	}
	if c := p.Chart(JobStatus{}); c.Text != "no pass yet" || strings.Count(c.Empty, "M") != barSlots || c.Quiet != "" || c.Bars != nil {
		t.Errorf("%+v", c)
	}
}
