package main

import (
	"context"
	"os"
	"sync"
	"time"

	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
)

// tellEvery is how often systemd and whoever is to be notified hear how things
// are, besides of what happens.
const tellEvery = 15 * time.Second

// attach tells systemd and whoever is to be notified how d is doing, until the
// function that it returns is called, after d has ended. It is to be called
// before d serves.
func (a *app) attach(ctx context.Context, c *config.Config, d *daemon.Daemon) (detach func()) {
	ctx, cancel := context.WithCancel(ctx)
	n, end := a.notifier(c)
	d.Watch = append(d.Watch, begins(n))
	d.PassDone = append(d.PassDone, n.PassDone)
	d.Reloaded = after(d.Reloaded, n.Use)
	ground := a.doubtful(c)
	others := d.Attention
	d.Attention = func(c *config.Config) []daemon.Problem {
		if others == nil {
			return ground
		}
		return append(others(c), ground...)
	}

	a.systemd = daemon.FromEnvironment(a.env, os.Getpid(), a.log)
	stopping := context.AfterFunc(ctx, a.systemd.Stopping)
	var wg sync.WaitGroup
	started := d.Started
	d.Started = func() {
		if started != nil {
			started()
		}
		a.systemd.Ready(d.Status().Summary)
		wg.Go(func() { a.systemd.Watch(ctx, func() bool { return d.Stuck() == nil }) })
		wg.Go(func() { a.tell(ctx, d, n) })
	}
	return func() {
		stopping()
		cancel()
		wg.Wait()
		end()
	}
}

// tell tells how d is doing, now and then, until ctx ends.
func (a *app) tell(ctx context.Context, d *daemon.Daemon, n *daemon.Notifier) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	said := ""
	for {
		st := d.Status()
		n.Attention(st.Attention)
		if st.Summary != said {
			a.systemd.Status(st.Summary)
			said = st.Summary
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// after returns a function that calls both, where the first one may be nil.
func after(first, second func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		if first != nil {
			first(c)
		}
		second(c)
	}
}
