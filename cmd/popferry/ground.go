package main

import (
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
)

// temporaryUsage is what --allow-temporary-state says of itself.
const temporaryUsage = "go on where the state will be lost with the container"

// lasting refuses a state that will be gone with the container, unless the
// command line allows it, and warns of one that is in memory.
func (a *app) lasting(c *config.Config) error { return a.lastingAt(a.statePath(c)) }

func (a *app) lastingAt(path string) error {
	if a.temporary {
		return nil
	}
	g := a.machine.Ground(path)
	if err := g.Err(); err != nil {
		return err
	}
	if w := g.Warning(); w != "" {
		a.log.Warn(w)
	}
	return nil
}

// doubtful is what the status page should say of where the state lies.
func (a *app) doubtful(c *config.Config) []daemon.Problem {
	g := a.machine.Ground(a.statePath(c))
	if err := g.Err(); err != nil {
		p := explain(err, where{})
		return []daemon.Problem{{Exit: p.exit, Code: p.code, Head: p.head, Lines: p.lines}}
	}
	if w := g.Warning(); w != "" {
		return []daemon.Problem{{Code: "state-in-memory", Head: w}}
	}
	return nil
}
