package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// parallelPasses bounds the accounts that are read at the same time. They mostly
// wait for servers, and share one budget of memory.
const parallelPasses = 32

// runOptions are the flags of run.
type runOptions struct {
	dryRun, json, newState, progress bool
	limit                            int
	firstRun, metricsFile            string
	asks                             <-chan os.Signal // for progress
}

const runLong = `One pass over the accounts of the jobs that are named, or of all jobs: what is
new is fetched, goes where the rules say, and is remembered. Messages are deleted
from the maildrop only as keep: says, and only after every target has them.

SIGUSR1 asks how far it is. It ends with 0 when all is well, also when nothing was
new.`

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "run [JOB…]", Short: "one pass, then exit", Long: runLong,
		ValidArgsFunction: a.names(jobNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.asks = asked()
			if o.limit < 0 || cmd.Flags().Changed("limit") && o.limit == 0 {
				return usagef("--limit must be 1 or more")
			}
			if _, err := config.ParseFirstRun(cmp.Or(o.firstRun, "all"), time.UTC); err != nil {
				return &usageError{text: fmt.Sprintf("--first-run cannot be %q", endpoint.Printable(o.firstRun, 40)), hint: "It is all, new, or since: and a day: since:2026-01-31"}
			}
			if o.dryRun && o.newState {
				return usagef("--new-state has no meaning with --dry-run, which changes nothing")
			}
			if o.dryRun && o.metricsFile != "" {
				return usagef("--metrics-file has no meaning with --dry-run, which changes nothing")
			}
			if !cmd.Flags().Changed("progress") {
				o.progress = a.stderr.tty && !a.stderr.dumb && !o.json && !o.dryRun
			}
			if o.json {
				a.ended = (&jsonView{w: a.stdout}).exit
			}
			c, err := a.load()
			if err != nil {
				return err
			}
			a.warn(c)
			return a.runJobs(cmd.Context(), c, args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would happen to every message; change nothing anywhere")
	f.IntVar(&o.limit, "limit", 0, "fetch at most `N` messages from each account")
	f.BoolVar(&o.json, "json", false, "print a JSON object a line")
	f.BoolVar(&o.newState, "new-state", false, "start anew where the state is missing or damaged; messages already in a target are recognised by Message-ID")
	f.BoolVar(&a.temporary, "allow-temporary-state", false, temporaryUsage)
	f.StringVar(&o.firstRun, "first-run", "", "`WHICH` messages count where nothing is known of an account yet: all, new or since:DATE")
	f.BoolVar(&o.progress, "progress", false, "show progress: a bar on a terminal (there it is the default), else a log line every 5 seconds")
	f.StringVar(&o.metricsFile, "metrics-file", "", "write metrics to `FILE` for node_exporter; its name ends in .prom")
	return cmd
}

func jobNames(c *config.Config) []string {
	names := make([]string, len(c.Jobs))
	for i, j := range c.Jobs {
		names[i] = j.Name
	}
	return names
}

// runJobs runs one pass over every account of the named jobs, or of all.
func (a *app) runJobs(ctx context.Context, c *config.Config, names []string, o runOptions) (err error) {
	jobs, err := choose(c, names)
	if err != nil {
		return err
	}
	if a.level <= slog.LevelInfo && a.logFormat == "auto" {
		defer context.AfterFunc(ctx, func() {
			a.stderr.print("interrupted: finishing what is in hand; once more stops at once\n")
		})()
	}
	f := &fetcher.Fetcher{Log: a.log, DryRun: o.dryRun, Rates: c.Rates(), Spool: filepath.Join(filepath.Dir(a.statePath(c)), "spool")}
	if !o.dryRun {
		if err := a.lasting(c); err != nil {
			return err
		}
	}
	if f.State, err = a.openState(ctx, c, o); err != nil {
		return err
	}
	if f.State != nil {
		defer func() { err = a.closeState(f.State, err) }()
	}
	rememberLogins(c, f.State, o.dryRun)
	if f.Targets, err = c.Open(a.log); err != nil {
		return err
	}
	defer func() {
		for _, t := range f.Targets {
			t.Close()
		}
	}()
	before, err := sentBefore(ctx, c, f.State, time.Now())
	if err != nil {
		return err
	}
	r := &runner{app: a, config: c, tally: newTally(c), view: a.viewFor(c, o, before), history: &daemon.Recorder{Config: c, Explain: explained}}
	defer r.view.close()
	f.Event = r.event
	if !o.dryRun {
		f.Record = r.history.Record
		defer a.notifying(c, r)()
	}
	if o.metricsFile != "" {
		defer a.measure(ctx, c, f, o.metricsFile)()
	}
	r.passes(ctx, f, jobs, o)
	r.view.close()
	e := r.tally.end(ctx, a)
	if e.code == exitOK {
		return nil
	}
	return e
}

// choose returns the named jobs in the order of the file.
func choose(c *config.Config, names []string) ([]*config.Job, error) {
	for _, n := range names {
		if !slices.Contains(jobNames(c), n) {
			return nil, &usageError{
				text: fmt.Sprintf("there is no job %q", endpoint.Printable(n, 60)),
				hint: "Jobs in " + c.File + ": " + strings.Join(jobNames(c), ", "),
			}
		}
	}
	if len(names) == 0 {
		return c.Jobs, nil
	}
	return slices.DeleteFunc(slices.Clone(c.Jobs), func(j *config.Job) bool { return !slices.Contains(names, j.Name) }), nil
}

// openState opens the state; for a dry run only to read it, or not at all where
// there is none.
func (a *app) openState(ctx context.Context, c *config.Config, o runOptions) (*state.Store, error) {
	path := a.statePath(c)
	if o.dryRun {
		return view(ctx, path)
	}
	return state.Open(ctx, path, state.Options{New: o.newState, Log: a.log})
}

// applied is the account as the flags want it.
func (o runOptions) applied(a *fetcher.Account, loc *time.Location) *fetcher.Account {
	changed := *a
	if o.limit > 0 && (a.Limits.Messages == 0 || o.limit < a.Limits.Messages) {
		changed.Limits.Messages = o.limit
	}
	if first, err := config.ParseFirstRun(o.firstRun, loc); err == nil {
		changed.FirstRun = first
	}
	return &changed
}

// runner is one run of jobs.
type runner struct {
	*app
	config *config.Config
	tally  *tally
	view   runView

	history *daemon.Recorder
	begins  func(fetcher.Event) // tells that passes begin; nil for nobody
}

// runView shows a run. Its methods are called one at a time.
type runView interface {
	event(e fetcher.Event)
	close() // the last event was; may be called again
}

func (r *runner) event(e fetcher.Event) {
	r.tally.event(e)
	r.history.Event(e)
	if r.begins != nil {
		r.begins(e)
	}
	r.view.event(e)
	if r.watch != nil {
		r.watch(e)
	}
}

// passes runs the passes, a few accounts at a time, and waits for all of them.
func (r *runner) passes(ctx context.Context, f *fetcher.Fetcher, jobs []*config.Job, o runOptions) {
	var wg sync.WaitGroup
	var bug atomic.Pointer[crash]
	room := make(chan struct{}, parallelPasses)
	for _, j := range jobs {
		for _, account := range j.Accounts {
			account := o.applied(account, r.config.Location)
			room <- struct{}{}
			if ctx.Err() != nil {
				<-room
				continue
			}
			wg.Go(func() {
				defer func() {
					if r := recover(); r != nil {
						bug.Store(&crash{r, debug.Stack()})
					}
					<-room
				}()
				_, err := f.Pass(ctx, &j.Job, account)
				r.tally.pass(ctx, account, err)
			})
		}
	}
	wg.Wait()
	if b := bug.Load(); b != nil {
		panic(b) // the others have ended in order; run reports it
	}
}

// viewFor chooses how a run is shown.
func (a *app) viewFor(c *config.Config, o runOptions, before map[string][]state.Sent) runView {
	shown := viewOptions{progress: o.progress, summaries: true, first: o.firstRun, asks: o.asks, before: before}
	switch {
	case o.json:
		return newJSONView(a, c, shown)
	case o.dryRun:
		return &planView{app: a, config: c, first: o.firstRun}
	}
	return newTextView(a, c, shown)
}
