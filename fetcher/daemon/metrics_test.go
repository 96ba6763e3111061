package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"popferry/fetcher"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// TestMetrics_golden pins all names, labels and helps: dashboards and alerts rest
// on them.
func TestMetrics_golden(t *testing.T) {
	m := NewMetrics("1.4.0", sampleFailing)
	for _, e := range []fetcher.Event{
		{Kind: fetcher.PassStart, Job: "work", Account: "sales"},
		{Kind: fetcher.Delivered, Job: "work", Account: "sales"},
		{Kind: fetcher.Delivered, Job: "work", Account: "sales"},
		{Kind: fetcher.Duplicate, Job: "work", Account: "sales"},
		{Kind: fetcher.Held, Job: "work", Account: "sales", Err: &targets.Error{Fault: targets.Refused, Op: `APPEND to "INBOX"`, Reply: "NO"}},
		{Kind: fetcher.Deleted, Job: "work", Account: "sales"},
		{Kind: fetcher.PassEnd, Job: "work", Account: "sales", Report: &fetcher.Report{Bytes: 4096}},
		{Kind: fetcher.PassEnd, Job: "isp-to-gmail", Account: "isp", Report: &fetcher.Report{}, Err: fmt.Errorf("pass: %w", &maildrop.Error{Kind: maildrop.LoginRefused, Op: "PASS"})},
	} {
		m.Observe(e)
	}
	path := filepath.Join(t.TempDir(), "popferry.prom")
	if err := m.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/metrics.prom"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("node_exporter could not read it: %v %v", info.Mode(), err)
	}
}

func TestMetrics_lint(t *testing.T) {
	m := NewMetrics("1.4.0", sampleFailing)
	m.Observe(fetcher.Event{Kind: fetcher.PassEnd, Job: "work", Report: &fetcher.Report{}, Err: errors.New("x")})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Jobs and accounts come and go with the configuration, and their series with
// them, so that a year of reloads leaves nothing behind.
func TestMetrics_bounded(t *testing.T) {
	name := "job-0"
	m := NewMetrics("1.4.0", func() Status {
		return Status{Jobs: []JobStatus{{Name: name}}, Accounts: []AccountStatus{{Name: name, Job: name}}}
	})
	var first int
	for i := range 50 {
		name = fmt.Sprintf("job-%d", i)
		m.Observe(fetcher.Event{Kind: fetcher.Delivered, Job: name, Account: name})
		m.Observe(fetcher.Event{Kind: fetcher.Deleted, Job: name, Account: name})
		m.Observe(fetcher.Event{Kind: fetcher.Failed, Job: name, Account: name, Err: errors.New("x")})
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range families {
			n += len(f.GetMetric())
		}
		if i == 0 {
			first = n
		} else if n != first {
			t.Fatalf("%d series after %d reloads, %d before", n, i, first)
		}
	}
}

// A run that cron starts goes on counting where the last one ended.
func TestMetrics_resume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.prom")
	delivered := fetcher.Event{Kind: fetcher.Delivered, Job: "work", Account: "sales"}
	failed := fetcher.Event{Kind: fetcher.Failed, Job: "work", Account: "sales", Err: &targets.Error{Fault: targets.Down, Op: "MAIL"}}
	alien := fetcher.Event{Kind: fetcher.Delivered, Job: "removed", Account: "removed"}
	deleted := fetcher.Event{Kind: fetcher.Deleted, Job: "work", Account: "sales"}
	for run := 1; run <= 3; run++ {
		m := NewMetrics("1.4.0", sampleFine)
		if err := m.Resume(path); err != nil {
			t.Fatal(err)
		}
		for _, e := range []fetcher.Event{delivered, delivered, delivered, failed, deleted, alien} {
			m.Observe(e)
		}
		if err := m.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			got  float64
			want int
		}{
			{testutil.ToFloat64(m.messages.WithLabelValues("work", "delivered")), 3 * run},
			{testutil.ToFloat64(m.messages.WithLabelValues("work", "failed")), run},
			{testutil.ToFloat64(m.errors.WithLabelValues("work", "deliver", "temporary")), run},
			{testutil.ToFloat64(m.deletions.WithLabelValues("sales")), run},
			{testutil.ToFloat64(m.messages.WithLabelValues("removed", "delivered")), 1},
		} {
			if c.got != float64(c.want) {
				t.Errorf("run %d: %v, not %d", run, c.got, c.want)
			}
		}
	}
	for name, text := range map[string]string{"broken": "popferry_messages_total{job=", "other": "# TYPE popferry_bytes_total gauge\npopferry_bytes_total{job=\"work\"} 7\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		m := NewMetrics("1.4.0", sampleFine)
		if err := m.Resume(path); (err != nil) != (name == "broken") {
			t.Errorf("%s: %v", name, err)
		}
		if got := testutil.ToFloat64(m.bytes.WithLabelValues("work")); got != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Whoever reads the file sees a whole one, and nothing is left beside it.
func TestMetrics_writeFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "popferry.prom")
	m := NewMetrics("1.4.0", sampleFine)
	if err := m.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for range 100 {
			if err := m.WriteFile(path); err != nil {
				t.Error(err)
			}
		}
	})
	for ended := false; !ended; {
		if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
			t.Errorf("%v: %d octets, not %d", err, len(got), len(want))
		}
		select {
		case <-stop:
			ended = true
		default:
		}
	}
	wg.Wait()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
	if err := m.WriteFile(filepath.Join(dir, "nowhere", "x.prom")); err == nil || !strings.HasPrefix(err.Error(), "metrics file ") {
		t.Errorf("%v", err)
	}
}

// The file is there at once, is kept fresh, and shows the end; what cannot be
// written is said once.
func TestMetrics_keepFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sub", "popferry.prom")
		m := NewMetrics("1.4.0", sampleFine)
		var b strings.Builder
		log := slog.New(slog.NewTextHandler(&b, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 10*fileEvery+1)
		defer cancel()
		m.KeepFile(ctx, path, log)
		if n := strings.Count(b.String(), "the metrics are not written"); n != 1 {
			t.Errorf("said %d times:\n%s", n, b.String())
		}
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		m.Observe(fetcher.Event{Kind: fetcher.Delivered, Job: "work"})
		m.KeepFile(done, path, log)
		if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), `popferry_messages_total{job="work",result="delivered"} 1`) {
			t.Errorf("%v: %s", err, got)
		}
	})
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		err          error
		stage, class string
	}{
		{nil, "", ""},
		{context.Canceled, "", ""},
		{fetcher.ErrBusy, "", ""},
		{&endpoint.Error{Stage: "connect", Code: "server-unreachable"}, "connect", temporary},
		{&endpoint.Error{Stage: "connect", Code: "host-unknown"}, "connect", permanent},
		{&endpoint.Error{Stage: "tls", Code: "tls-expired"}, "tls", permanent},
		{&endpoint.Error{Stage: "tls", Code: "tls-failed"}, "tls", temporary},
		{&endpoint.Error{Stage: "auth", Code: "password-unavailable"}, "auth", permanent},
		{&targets.Error{Fault: targets.Down, Op: "login", Err: &endpoint.Error{Stage: "connect"}}, "connect", temporary},
		{&maildrop.Error{Kind: maildrop.LoginRefused, Op: "PASS"}, "auth", permanent},
		{&maildrop.Error{Kind: maildrop.Unavailable, Code: maildrop.InUse, Op: "PASS"}, "auth", temporary},
		{&maildrop.Error{Kind: maildrop.Unavailable, Op: "greeting"}, "connect", temporary},
		{&maildrop.Error{Kind: maildrop.Lost, Op: "UIDL"}, "list", temporary},
		{&maildrop.Error{Kind: maildrop.Lost, Op: "RETR 5"}, "fetch", temporary},
		{&maildrop.Error{Kind: maildrop.Refused, Op: "RETR 5"}, "fetch", permanent},
		{&maildrop.Error{Kind: maildrop.Botched, Op: "STLS"}, "tls", permanent},
		{&targets.Error{Fault: targets.Refused, Op: "DATA"}, "deliver", permanent},
		{&targets.Error{Fault: targets.Transient, Op: "DATA"}, "deliver", temporary},
		{&targets.Error{Fault: targets.Down, Op: "login", Reply: "NO [AUTHENTICATIONFAILED]"}, "auth", permanent},
		{&state.Error{Code: state.CodeLocked}, "state", temporary},
		{&state.Error{Code: state.CodeDamaged}, "state", permanent},
		{errors.New("what is this?"), "fetch", temporary},
	} {
		stage, class := classify(tt.err)
		if stage != tt.stage || class != tt.class {
			t.Errorf("%v: %s %s, not %s %s", tt.err, stage, class, tt.stage, tt.class)
		}
	}
}

func TestMetrics_unknownIsLeftOut(t *testing.T) {
	m := NewMetrics("1.4.0", func() Status { return Status{Jobs: []JobStatus{{Name: "new"}}} })
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, no := range []string{"popferry_job_last_success_timestamp_seconds", "popferry_job_last_run_timestamp_seconds", "popferry_job_interval_seconds"} {
		if slices.Contains(names, no) {
			t.Errorf("%s is there", no)
		}
	}
}
