package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/targets"
)

const (
	inspectFirst = 2 * time.Minute // after the start: first of all, mail
	inspectEvery = 24 * time.Hour
)

// inspector asks the targets once a day what would go wrong there, such as a
// mailbox that is nearly full. What already goes wrong the passes tell.
type inspector struct {
	app *app

	mu     sync.Mutex
	config *config.Config
	found  []daemon.Problem
}

// inspect lets d tell what targets say, until what it returns is called.
func (a *app) inspect(ctx context.Context, d *daemon.Daemon) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	i := &inspector{app: a, config: d.Config}
	others, reloaded := d.Attention, d.Reloaded
	d.Attention = func(c *config.Config) []daemon.Problem {
		i.mu.Lock()
		found := slices.Clone(i.found)
		i.mu.Unlock()
		if others != nil {
			found = append(found, others(c)...)
		}
		return found
	}
	d.Reloaded = func(c *config.Config) {
		if reloaded != nil {
			reloaded(c)
		}
		i.mu.Lock()
		i.config = c
		i.mu.Unlock()
	}
	var wg sync.WaitGroup
	wg.Go(func() { i.run(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// run looks once a day.
func (i *inspector) run(ctx context.Context) {
	timer := time.NewTimer(inspectFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		i.look(ctx)
		timer.Reset(inspectEvery)
	}
}

// look asks every target of the configuration, on connections of its own, so
// that no delivery waits for it.
func (i *inspector) look(ctx context.Context) {
	i.mu.Lock()
	c := i.config
	i.mu.Unlock()
	opened, err := c.Open(i.app.log)
	if err != nil {
		return // as at the start, where it was said
	}
	var found []daemon.Problem
	for _, name := range sorted(c.Targets) {
		t := opened[name]
		tctx, cancel := context.WithTimeout(ctx, checkTime)
		fs, err := t.Check(tctx)
		cancel()
		t.Close()
		if err == nil {
			found = append(found, warnings(name, fs)...)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.found = found
}

// warnings are what a target warns of and did not always.
func warnings(name string, fs []targets.Finding) (found []daemon.Problem) {
	for _, f := range fs {
		if f.Level == "warn" && f.Code != "" {
			found = append(found, daemon.Problem{Code: "target-" + f.Code, Head: name + " " + f.Text, Lines: hint(f.Hint)})
		}
	}
	return found
}
