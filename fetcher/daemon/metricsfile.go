package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// fileEvery is how often KeepFile writes. Prometheus usually looks every minute
// or less.
const fileEvery = 15 * time.Second

// WriteFile writes the metrics to a file for node_exporter's textfile collector,
// which wants its name to end in .prom. It is replaced as a whole; everybody may
// read it.
func (m *Metrics) WriteFile(path string) error {
	err := prometheus.WriteToTextfile(path, m.registry)
	var (
		pe *fs.PathError
		le *os.LinkError
	)
	switch { // the file that was not made has another name each time
	case err == nil:
		return nil
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return fmt.Errorf("metrics file %s: %w", path, err)
}

// KeepFile writes the file now, every few seconds, and at last when ctx ends. A
// failure is logged when it is another one than before.
func (m *Metrics) KeepFile(ctx context.Context, path string, log *slog.Logger) {
	tick := time.NewTicker(fileEvery)
	defer tick.Stop()
	said := ""
	for last := false; ; {
		text := ""
		if err := m.WriteFile(path); err != nil {
			text = err.Error()
			if text != said {
				log.Error("the metrics are not written", "err", err)
			}
		}
		said = text
		if last {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			last = true
		}
	}
}

// Resume lets the counters go on where a file that WriteFile has written ends.
// popferry run starts from nothing each time, and Prometheus would take three
// new messages after three others for none at all. A file that is missing is no
// error; one that is not ours is, and changes nothing.
func (m *Metrics) Resume(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("metrics file: %w", err)
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(f)
	if err != nil {
		return fmt.Errorf("metrics file %s: %w", path, err)
	}
	s := m.status()
	m.settle(&s)
	for name, counter := range map[string]*prometheus.CounterVec{
		"popferry_messages_total": m.messages, "popferry_bytes_total": m.bytes,
		"popferry_deletions_total": m.deletions, "popferry_errors_total": m.errors,
	} {
		m.resume(families[name], counter)
	}
	return nil
}

// resume adds what a file says of one counter.
func (m *Metrics) resume(f *dto.MetricFamily, counter *prometheus.CounterVec) {
	for _, metric := range f.GetMetric() {
		labels := prometheus.Labels{}
		for _, l := range metric.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if job, ok := labels["job"]; ok && !slices.Contains(m.jobs, job) {
			continue
		}
		if account, ok := labels["account"]; ok && !slices.Contains(m.accounts, account) {
			continue
		}
		c, err := counter.GetMetricWith(labels)
		if value := metric.GetCounter().GetValue(); err == nil && value > 0 {
			c.Add(value)
		}
	}
}
