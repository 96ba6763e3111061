package main

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strconv"
	"sync"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/targets/endpoint"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	http        string // where the status page is, instead of the configuration's listen
	metricsFile string
}

// listen readies the status page, before anything else begins: nobody should
// learn at the first look that it was never there. The listener is nil if there
// is to be no page.
func (a *app) listen(ctx context.Context, c *config.Config, o serveOptions) (ln net.Listener, password string, err error) {
	h := &c.HTTP
	if o.http != "" {
		if h.Listen, err = config.ParseListen(o.http); err != nil {
			return nil, "", &usageError{text: "--http must be an address and a port, not " + strconv.Quote(endpoint.Printable(o.http, 60)), hint: err.Error()}
		}
	}
	if h.Listen == "" {
		return nil, "", nil
	}
	if h.User != "" {
		if password, err = h.Password.Reveal(ctx); err != nil {
			return nil, "", &config.Error{
				File: c.File, Code: "password-unavailable", Text: "the password of basic_auth: " + plain(err),
				Hint: "Check password_file or password_command of http: basic_auth.",
			}
		}
	}
	ln, err = daemon.Listen(ctx, h.Listen, h.User != "")
	return ln, password, err
}

// show gives the daemon its status page and its metrics. They end when it has
// ended, so that the page can be read while messages in hand are finished.
func (a *app) show(ctx context.Context, d *daemon.Daemon, ln net.Listener, password string, o serveOptions) {
	if ln == nil && o.metricsFile == "" {
		return
	}
	m := daemon.NewMetrics(version(), d.Status)
	d.Watch = append(d.Watch, m.Observe)
	end, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	first := d.Started
	d.Started = func() { // only now is there a status to show
		first()
		if o.metricsFile != "" {
			if err := m.Resume(o.metricsFile); err != nil {
				a.log.Warn("the metrics begin anew", "err", err)
			}
			wg.Go(func() { m.KeepFile(end, o.metricsFile, a.log) })
		}
		if ln != nil {
			h := daemon.NewHandler(a.pageOptions(ctx, d, m, password))
			a.log.Info("status page on http://" + ln.Addr().String() + "/")
			wg.Go(func() {
				if err := daemon.ServeHTTP(end, ln, h, a.log); err != nil {
					a.log.Error("the status page has ended", "err", err)
				}
			})
		}
	}
	reloaded := d.Reloaded
	http := d.Config.HTTP
	d.Reloaded = func(c *config.Config) {
		if reloaded != nil {
			reloaded(c)
		}
		if o.http != "" {
			c.HTTP.Listen = http.Listen
		}
		if !reflect.DeepEqual(c.HTTP, http) {
			a.log.Warn("what is new under http: holds from the next start on")
		}
	}
	d.Stopped = func() {
		cancel()
		wg.Wait()
	}
}

func (a *app) pageOptions(ctx context.Context, d *daemon.Daemon, m *daemon.Metrics, password string) daemon.HTTPOptions {
	return daemon.HTTPOptions{
		Status: d.Status, Metrics: m, Location: d.Config.Location, User: d.Config.HTTP.User, Password: password,
		Healthy: func() error {
			if d.Stuck() != nil {
				return errors.New("the schedule is stuck") // without names: everybody can ask
			}
			return nil
		},
		Ready: func() error {
			if ctx.Err() != nil {
				return errors.New("stopping")
			}
			return nil
		},
	}
}

// measure counts what a run does. What it returns writes the metrics, and is to
// be called when all passes have ended and the state is still open.
func (a *app) measure(ctx context.Context, c *config.Config, f *fetcher.Fetcher, path string) (write func()) {
	var seen daemon.Sightings
	m := daemon.NewMetrics(version(), func() daemon.Status {
		st, err := daemon.Build(context.WithoutCancel(ctx), c, f.State, time.Now())
		if err != nil {
			a.log.Warn("the metrics leave out what the state knows", "err", err)
		}
		seen.Add(&st, c, f.Targets)
		return st
	})
	if err := m.Resume(path); err != nil {
		a.log.Warn("the metrics begin anew", "err", err)
	}
	next := f.Event
	f.Event = func(e fetcher.Event) {
		seen.Observe(e)
		m.Observe(e)
		next(e)
	}
	return func() {
		if err := m.WriteFile(path); err != nil {
			a.log.Error("the metrics are not written", "err", err)
		}
	}
}
