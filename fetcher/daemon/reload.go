package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets"
)

var errStopping = errors.New("it stops just now, and takes no other configuration")

// replace puts c in force.
func (d *Daemon) replace(c *config.Config) error {
	d.mu.Lock()
	old := d.gen
	d.mu.Unlock()
	opened, err := d.reopen(old, c)
	if err != nil {
		return err
	}
	g := &generation{config: c, loaded: d.now(), targets: opened, fetcher: old.fetcher.With(opened, c.Rates())}
	if c.State != old.config.State {
		d.log().Warn(fmt.Sprintf("state: %s stays in use; another place for it needs a restart", filepath.Base(d.State.Path())))
	}
	if !d.adopt(g) {
		return errStopping
	}
	for _, w := range append(c.Warnings, c.Check()...) {
		d.log().Warn("configuration", "err", w)
	}
	if c.Log != old.config.Log {
		d.log().Warn("log: stays as it was; another level or format needs a restart")
	}
	d.log().Info(fmt.Sprintf("the configuration was read again: %d jobs, %d accounts", len(c.Jobs), len(c.Accounts)))
	if d.Reloaded != nil {
		d.Reloaded(c)
	}
	return nil
}

// reopen opens the targets of c, but those that are as they were: their
// connections go on being used, and bounded.
func (d *Daemon) reopen(old *generation, c *config.Config) (map[string]targets.Target, error) {
	opened := make(map[string]targets.Target, len(c.Targets))
	for name, t := range c.Targets {
		if was := old.config.Targets[name]; was != nil && reflect.DeepEqual(was.Config, t.Config) {
			opened[name] = old.targets[name]
			continue
		}
		o, err := t.Config.Open(name, d.log())
		if err != nil {
			for name, o := range opened {
				if o != old.targets[name] {
					o.Close()
				}
			}
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		opened[name] = o
	}
	return opened, nil
}

// adopt puts a generation in force: accounts that are new start, those that are
// gone stop after the pass that is under way. It does nothing if the daemon is
// about to end.
func (d *Daemon) adopt(g *generation) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.gen
	if d.ended {
		for name, t := range g.targets {
			if old.targets[name] != t {
				t.Close()
			}
		}
		return false
	}
	d.gen, d.refused = g, nil
	d.cache.forget()
	for name, t := range old.targets {
		if g.targets[name] != t {
			d.retire(t)
		}
	}
	there := map[string]bool{}
	for _, j := range g.config.Jobs {
		for _, a := range j.Accounts {
			there[a.Name] = true
			d.assign(g, j, a)
		}
	}
	for name, u := range d.units {
		if !there[name] {
			u.gone = true
			u.poke()
			delete(d.units, name)
		}
	}
	return true
}

// assign gives an account its job. d.mu is held.
func (d *Daemon) assign(g *generation, j *config.Job, a *fetcher.Account) {
	u := d.units[a.Name]
	if u == nil {
		u = newUnit(a.Name)
		u.job, u.account, u.gen = j, a, g
		d.schedule(u)
		d.units[a.Name] = u
		d.start(u)
		return
	}
	was, account := u.job, u.account
	u.job, u.account, u.gen = j, a, g
	if !reflect.DeepEqual(account, a) {
		u.failures, u.note = 0, ""
	}
	if was.Every != j.Every || was.Cron != j.Cron || was.Jitter != j.Jitter || was.Location().String() != j.Location().String() {
		d.reschedule(u, d.now())
		u.poke()
	}
}

// retire closes a target as soon as no pass uses it. d.mu is held.
func (d *Daemon) retire(t targets.Target) {
	if d.users[t] > 0 {
		d.retired[t] = true
		return
	}
	d.hangUp(t)
}

// hangUp closes a target without making anybody wait for its server. d.mu is held.
func (d *Daemon) hangUp(t targets.Target) {
	if d.ended {
		t.Close()
		return
	}
	d.running.Go(func() { t.Close() })
}

// use counts a pass that uses the targets of g, until release. d.mu is held.
func (d *Daemon) use(g *generation) {
	for _, t := range g.targets {
		d.users[t]++
	}
}

func (d *Daemon) release(g *generation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range g.targets {
		if d.users[t]--; d.users[t] > 0 {
			continue
		}
		delete(d.users, t)
		if d.retired[t] {
			delete(d.retired, t)
			d.hangUp(t)
		}
	}
}
