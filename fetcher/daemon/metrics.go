package daemon

import (
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"popferry/fetcher"
)

// Metrics counts what passes do and shows it, with the Status, to Prometheus.
// Its labels are names from the configuration and words from fixed lists, so
// their number is bounded; what is no longer configured goes.
//
// Prometheus has a label job of its own: scrape with honor_labels: true, or ours
// are called exported_job.
//
// It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry // what is ours
	process  *prometheus.Registry // what every Go program has
	status   func() Status

	mu        sync.Mutex // while jobs come and go
	messages  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	deletions *prometheus.CounterVec
	errors    *prometheus.CounterVec
	jobs      []string
	accounts  []string
}

// results are what can become of a message, as popferry run --json calls it.
var results = []fetcher.Kind{fetcher.Delivered, fetcher.Duplicate, fetcher.Skipped, fetcher.Dropped, fetcher.Held, fetcher.Failed}

// gauges are asked of the Status whenever somebody looks, so they survive a
// restart as far as it does.
var (
	jobUp       = desc("job_up", "1 if the job's last passes over all its accounts went well, else 0.", "job")
	jobSuccess  = desc("job_last_success_timestamp_seconds", "When all of the job's accounts had last gone well.", "job")
	jobRun      = desc("job_last_run_timestamp_seconds", "When the job's newest pass began.", "job")
	jobTook     = desc("job_last_run_duration_seconds", "How long the job's newest pass took.", "job")
	jobInterval = desc("job_interval_seconds", "The longest time the job's schedule lets pass between two runs.", "job")
	jobHeld     = desc("held_messages", "Messages that wait for a person.", "job")
	onServer    = desc("account_messages", "Messages on the maildrop at the last listing.", "account")
	onServerB   = desc("account_bytes", "Octets on the maildrop at the last listing.", "account")
	tokenEnds   = desc("token_expiry_timestamp_seconds", "When the account's sign-in ends.", "account")
	certEnds    = desc("tls_cert_not_after_timestamp_seconds", "When the certificate of the server ends.", "host")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("popferry_"+name, help, labels, nil)
}

// NewMetrics returns metrics of what status says and of the events that Observe
// is given.
func NewMetrics(version string, status func() Status) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "popferry", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewPedanticRegistry(), process: prometheus.NewRegistry(), status: status,
		messages:  counter("messages_total", "What became of messages, once for each place they go to.", "job", "result"),
		bytes:     counter("bytes_total", "Octets of messages fetched.", "job"),
		deletions: counter("deletions_total", "Messages deleted from the maildrop.", "account"),
		errors:    counter("errors_total", "What went wrong, of passes and of single messages.", "job", "stage", "class"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "popferry", Name: "build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(build, collector{m})
	m.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, m.process}, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Observe counts an event.
func (m *Metrics) Observe(e fetcher.Event) {
	switch {
	case slices.Contains(results, e.Kind):
		m.messages.WithLabelValues(e.Job, e.Kind.String()).Inc()
	case e.Kind == fetcher.Deleted:
		m.deletions.WithLabelValues(e.Account).Inc()
	case e.Kind == fetcher.PassEnd && e.Report != nil:
		m.bytes.WithLabelValues(e.Job).Add(float64(e.Report.Bytes))
	}
	if stage, class := classify(e.Err); stage != "" {
		m.errors.WithLabelValues(e.Job, stage, class).Inc()
	}
}

// collector is the Metrics as the library wants them.
type collector struct{ *Metrics }

func (c collector) counters() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{c.messages, c.bytes, c.deletions, c.errors}
}

// Describe is part of prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobUp, jobSuccess, jobRun, jobTook, jobInterval, jobHeld, onServer, onServerB, tokenEnds, certEnds} {
		ch <- d
	}
	for _, v := range c.counters() {
		v.Describe(ch)
	}
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	c.settle(&s)
	for _, v := range c.counters() {
		v.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, value float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, label)
	}
	for i := range s.Jobs {
		collectJob(&s.Jobs[i], gauge)
	}
	held := map[string]int{}
	for _, a := range s.Accounts {
		held[a.Job] += a.HeldMessages
		gauge(onServer, float64(a.Messages), a.Name)
		gauge(onServerB, float64(a.Bytes), a.Name)
		if !a.TokenEnds.IsZero() {
			gauge(tokenEnds, float64(a.TokenEnds.Unix()), a.Name)
		}
	}
	for _, j := range s.Jobs {
		gauge(jobHeld, float64(held[j.Name]), j.Name)
	}
	for _, cert := range s.Certificates {
		gauge(certEnds, float64(cert.NotAfter.Unix()), cert.Host)
	}
}

// collectJob gives what is known of a job; what is not known is left out.
func collectJob(j *JobStatus, gauge func(d *prometheus.Desc, value float64, label string)) {
	gauge(jobUp, float64(number(j.OK)), j.Name)
	if !j.LastSuccess.IsZero() {
		gauge(jobSuccess, float64(j.LastSuccess.UnixMilli())/1000, j.Name)
	}
	if n := len(j.Passes); n > 0 {
		last := &j.Passes[n-1]
		gauge(jobRun, float64(last.Start.UnixMilli())/1000, j.Name)
		gauge(jobTook, last.Took.Seconds(), j.Name)
	}
	if j.Interval > 0 {
		gauge(jobInterval, j.Interval.Seconds(), j.Name)
	}
}

// settle begins the counters of what is new at 0, so that the first event counts
// as a rise, and ends those of what is no longer there.
func (m *Metrics) settle(s *Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var jobs, accounts []string
	for _, j := range s.Jobs {
		jobs = append(jobs, j.Name)
		m.bytes.WithLabelValues(j.Name)
		for _, r := range results {
			m.messages.WithLabelValues(j.Name, r.String())
		}
	}
	for _, a := range s.Accounts {
		accounts = append(accounts, a.Name)
		m.deletions.WithLabelValues(a.Name)
	}
	for _, name := range gone(m.jobs, jobs) {
		for _, v := range []*prometheus.CounterVec{m.messages, m.bytes, m.errors} {
			v.DeletePartialMatch(prometheus.Labels{"job": name})
		}
	}
	for _, name := range gone(m.accounts, accounts) {
		m.deletions.DeleteLabelValues(name)
	}
	m.jobs, m.accounts = jobs, accounts
}

// gone returns what is in before and not in now.
func gone(before, now []string) []string {
	there := make(map[string]bool, len(now))
	for _, name := range now {
		there[name] = true
	}
	return slices.DeleteFunc(slices.Clone(before), func(name string) bool { return there[name] })
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
