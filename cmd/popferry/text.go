package main

import (
	"errors"
	"log/slog"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// textView prints a summary of each pass for people, and a log line of each
// elsewhere; with -v, also a line for each message.
type textView struct {
	*app
	config *config.Config
	human  bool
	first  string // --first-run
	bar    *bar   // nil for none

	// Where there is no bar, a long run says now and then how far it is.
	progress *progress
	every    time.Duration
	told     time.Time
}

func (v *textView) event(e fetcher.Event) {
	if v.bar != nil {
		v.bar.event(e)
	} else {
		v.tell(e)
	}
	switch e.Kind {
	case fetcher.PassStart, fetcher.Listed, fetcher.Planned:
	case fetcher.Waiting:
		if v.bar == nil { // which shows it
			v.waitingLine(e)
		}
	case fetcher.PassEnd:
		switch {
		case v.human && v.level <= slog.LevelInfo:
			v.summary(e)
		default:
			v.passLine(e)
		}
	default:
		if v.verbose {
			v.messageLine(e)
		}
	}
}

// tell logs how far the run is, if it was not told for a while.
func (v *textView) tell(e fetcher.Event) {
	if v.progress == nil {
		v.progress = newProgress()
	}
	v.progress.event(e)
	switch {
	case v.told.IsZero():
		v.told = e.Time
	case e.Kind != fetcher.PassEnd && e.Time.Sub(v.told) >= v.every:
		v.told = e.Time
		done, of := sum(v.progress.done), sum(v.progress.of)
		v.log.Info("progress", "job", e.Job, "account", e.Account, "pass", e.Pass,
			"new", of.messages, "delivered", v.progress.delivered, "failed", v.progress.failed, "bytes", done.octets)
	}
}

func (v *textView) close() {
	if v.bar != nil {
		v.bar.stop()
	}
}

// passLine is the one line of a pass in a log.
func (v *textView) passLine(e fetcher.Event) {
	r := e.Report
	args := []any{
		"job", r.Job, "account", r.Account, "pass", r.Pass,
		"new", r.New, "delivered", fresh(r), "duplicate", r.Duplicate, "failed", r.Failed, "held", r.Held,
		"bytes", r.Bytes, "deleted", r.Deleted, "took", r.Took,
	}
	for _, c := range []struct {
		key string
		n   int
	}{{"skipped", r.Skipped}, {"dropped", r.Dropped}, {"marked", r.Marked}, {"recovered", r.Recovered}} {
		if c.n > 0 {
			args = append(args, c.key, c.n)
		}
	}
	if e.Err != nil {
		args = append(args, "err", e.Err)
	}
	v.log.Info("pass", args...)
}

// waitingLine says what an account waits for.
func (v *textView) waitingLine(e fetcher.Event) {
	v.log.Info("waiting", "job", e.Job, "account", e.Account, "until", e.Until.Format(time.RFC3339), "err", waitsFor(e))
}

// waitsFor is the reason of a Waiting event in a few words, escaped.
func waitsFor(e fetcher.Event) string {
	text := e.Reason
	if text == "" && e.Err != nil {
		text = e.Err.Error()
	}
	if u, ok := errors.AsType[*targets.UsedUp](e.Err); ok {
		text = u.Rate.Text + " is used up" // the time is said beside it
	}
	return endpoint.Printable(text, 500)
}

// messageLine is the one line of a message and destination in a log.
func (v *textView) messageLine(e fetcher.Event) {
	args := []any{"job", e.Job, "account", e.Account, "pass", e.Pass, "uidl", e.UIDL, "size", e.Octets}
	for _, f := range []struct{ key, value string }{
		{"msgid", e.MessageID}, {"rule", e.Rule}, {"target", e.Target}, {"folder", e.Folder}, {"reply", e.Reason},
	} {
		if f.value != "" {
			args = append(args, f.key, f.value)
		}
	}
	if e.Err != nil {
		args = append(args, "err", e.Err)
	}
	switch e.Kind {
	case fetcher.Delivered:
		v.log.Info("delivered", args...)
	case fetcher.Duplicate:
		v.log.Info("duplicate", args...)
	case fetcher.Skipped:
		v.log.Info("skipped", args...)
	case fetcher.Dropped:
		v.log.Info("dropped", args...)
	case fetcher.Deleted:
		v.log.Info("deleted", args...)
	case fetcher.Held:
		v.log.Warn("held", args...)
	default:
		v.log.Warn("failed", args...)
	}
}

// fresh is how many messages were delivered that were not there before.
func fresh(r *fetcher.Report) int { return max(0, r.Delivered-r.Duplicate) }
