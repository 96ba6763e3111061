package main

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// viewOptions say how passes are shown.
type viewOptions struct {
	progress  bool                    // a bar on a terminal, a log line every 5 seconds elsewhere, or lines of JSON
	summaries bool                    // tell how each pass went; not for jsonView, which tells all
	first     string                  // --first-run, for the summaries
	asks      <-chan os.Signal        // each asks for the progress now; nil for nobody
	before    map[string][]state.Sent // see sentBefore; may be nil
	accounts  int                     // see progress.all
	expect    map[string]amount       // see progress.expect; may be nil
}

// textView shows passes to people, and in logs: how far all of them together
// are, and, if wanted, how each went. With -v, also a line for each message.
type textView struct {
	*app
	viewOptions
	config *config.Config
	human  bool

	sums *progress    // nil for none
	loud *slog.Logger // answers, whatever the level of the log
	bar  *bar         // nil for none
	stop func()
}

// newTextView returns a view of one command, whatever passes it runs, and begins
// to show progress. It is to be closed.
func newTextView(a *app, c *config.Config, o viewOptions) *textView {
	v := &textView{app: a, viewOptions: o, config: c, human: a.human || a.stdout.tty, sums: newProgress(c, o.before)}
	v.sums.all, v.sums.expect = o.accounts, o.expect
	asked := *a
	asked.level = min(a.level, slog.LevelInfo)
	v.loud = asked.logger()
	terminal := a.stderr.tty && !a.stderr.dumb
	switch {
	case o.progress && terminal && a.level <= slog.LevelInfo:
		v.bar = newBar(a.stderr, v.sums)
		v.stop = beat(200*time.Millisecond, v.bar.draw, o.asks, v.answer)
	case o.progress && !terminal:
		v.stop = beat(5*time.Second, v.tell, o.asks, v.answer)
	default:
		v.stop = beat(time.Minute, v.tell, o.asks, v.answer)
	}
	return v
}

func (v *textView) event(e fetcher.Event) {
	if v.sums != nil {
		v.sums.event(e)
	}
	switch e.Kind {
	case fetcher.PassStart, fetcher.Listed, fetcher.Planned, fetcher.Comparing, fetcher.Compared:
	case fetcher.Waiting:
		if v.bar == nil { // which shows it
			v.waitingLine(e)
		}
	case fetcher.PassEnd:
		switch {
		case !v.summaries:
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

// tell logs how far all is.
func (v *textView) tell(now time.Time) {
	v.log.Info("progress", v.sums.figures(now).attrs()...)
}

// answer tells who asked how far all is, and what each account does.
func (v *textView) answer() {
	now := time.Now()
	f := v.sums.figures(now)
	if v.stderr.tty && !v.stderr.dumb {
		v.stderr.print(f.sentence(now) + "\n")
		return
	}
	args := f.attrs()
	if under := f.accounts(now); under != "" {
		args = append(args, "accounts", under)
	}
	v.loud.Info("progress", args...)
}

// close ends the showing of progress. It may be called again.
func (v *textView) close() {
	v.stop()
	if v.bar != nil {
		v.bar.erase()
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
