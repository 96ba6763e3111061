package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/state"
)

const serveLong = `Runs the jobs as every: and cron: say, until SIGTERM or SIGINT: then messages in
hand are finished, which takes 20 seconds at most, and it ends with 0. A second
signal ends it at once, which is safe as a kill is safe.

SIGHUP reads the configuration again; one with errors is refused, and the old one
stays. SIGUSR1 runs every job now. popferry status shows how it goes.`

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "run on schedule", Long: serveLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			a.warn(c)
			return a.serve(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.http, "http", "", "status page on `ADDRESS:PORT`, instead of http: listen")
	f.StringVar(&o.metricsFile, "metrics-file", "", "write metrics to `FILE` for node_exporter; its name ends in .prom")
	f.BoolVar(&a.temporary, "allow-temporary-state", false, temporaryUsage)
	return cmd
}

// serve runs jobs until ctx ends.
func (a *app) serve(ctx context.Context, c *config.Config, o serveOptions) (err error) {
	if !scheduled(c) {
		a.log.Warn("no job has every: or cron:, so nothing runs but on SIGUSR1")
	}
	if err := a.lasting(c); err != nil {
		return err
	}
	ln, password, err := a.listen(ctx, c, o)
	if err != nil {
		return err
	}
	if ln != nil {
		defer ln.Close()
	}
	store, err := state.Open(ctx, a.statePath(c), state.Options{Log: a.log})
	if err != nil {
		return err
	}
	defer func() { err = a.closeState(store, err) }()
	d := a.daemon(c, store)
	a.show(ctx, d, ln, password, o)
	defer a.inspect(ctx, d)()
	defer a.attach(ctx, c, d)()
	defer a.obey(ctx, d)()
	defer context.AfterFunc(ctx, func() { a.log.Info("stopping: finishing what is in hand; once more stops at once") })()
	if err := d.Serve(ctx); err != nil {
		return err
	}
	a.log.Info("stopped")
	return nil
}

// daemon is the daemon for a configuration, with the log attached.
func (a *app) daemon(c *config.Config, store *state.Store) *daemon.Daemon {
	ready := func(c *config.Config) {
		c.State = a.statePath(c)
		rememberLogins(c, store, false)
	}
	ready(c)
	d := &daemon.Daemon{
		Config: c, State: store, Log: a.log, Version: version(), Explain: explained,
		Load: func() (*config.Config, error) {
			c, err := a.read()
			if err == nil {
				ready(c)
			}
			return c, err
		},
	}
	d.Started = func() {
		a.log.Info(fmt.Sprintf("serving %s over %s", count(len(c.Jobs), "job"), count(len(c.Accounts), "account")))
	}
	v := &serveView{textView: &textView{app: a, config: c}, last: map[string]string{}}
	d.Watch = append(d.Watch, v.event)
	d.PassDone = append(d.PassDone, v.done)
	return d
}

func scheduled(c *config.Config) bool {
	for _, j := range c.Jobs {
		if j.Every > 0 || j.Cron != "" {
			return true
		}
	}
	return false
}

// obey does what signals ask, until the function that it returns is called.
func (a *app) obey(ctx context.Context, d *daemon.Daemon) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	reload, now, end := orders()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-reload:
				a.systemd.Reloading()
				_ = d.Reload() // it has logged what is wrong
				a.systemd.Ready(d.Status().Summary)
			case <-now:
				a.log.Info("SIGUSR1: every job runs now")
				d.RunNow()
			}
		}
	})
	return func() {
		end()
		cancel()
		wg.Wait()
	}
}

// serveView logs a line for each pass, one for each message where that was asked
// for, and what goes wrong when it begins and when it ends: a server that is away
// for a day is one problem.
type serveView struct {
	*textView
	last map[string]string // by account, what was wrong with the last pass
}

func (v *serveView) event(e fetcher.Event) {
	switch e.Kind {
	case fetcher.PassStart, fetcher.Listed, fetcher.Planned, fetcher.Comparing, fetcher.Compared:
	case fetcher.Waiting:
		v.waitingLine(e)
	case fetcher.PassEnd:
		v.passLine(e)
	default:
		if v.verbose {
			v.messageLine(e)
		}
	}
}

func (v *serveView) done(p daemon.Pass) {
	now := ""
	level := slog.LevelError
	switch {
	case p.Exit == exitInt || p.Exit == exitTerm:
		return
	case p.Problem != nil:
		now = p.Problem.Code + "\x00" + p.Problem.Head
	}
	before := v.last[p.Account]
	v.last[p.Account] = now
	args := []any{"job", p.Job, "account", p.Account, "pass", p.ID}
	switch {
	case now == "" && before != "":
		v.log.Info("all is well again", args...)
		return
	case now == "":
		return
	case now == before:
		level = slog.LevelDebug
	case cmp.Or(p.Exit, exitSome) == exitSome:
		level = slog.LevelWarn
	}
	v.log.Log(context.Background(), level, "problem",
		append(args, "fault", p.Problem.Code, "err", strings.Join(append([]string{p.Problem.Head}, p.Problem.Lines...), " / "))...)
}
