package main

import (
	"context"
	"errors"

	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// rememberLogins makes refused logins last in the state, from which a later
// process knows when to try again. With readOnly nothing is written there.
func rememberLogins(c *config.Config, s *state.Store, readOnly bool) {
	if s != nil {
		rememberLoginsIn(c, func(string) *state.Store { return s }, readOnly)
	}
}

// rememberLoginsIn is rememberLogins where each login has a state of its own. of
// returns nil for one that has none, which is not remembered.
func rememberLoginsIn(c *config.Config, of func(login string) *state.Store, readOnly bool) {
	c.Logins.Load = func(ctx context.Context, login string) (endpoint.Refusals, error) {
		s := of(login)
		if s == nil {
			return endpoint.Refusals{}, nil
		}
		r, err := s.Refused(ctx, login)
		return endpoint.Refusals{Count: r.Count, Last: r.Last, Salt: r.Salt, Tag: r.Tag}, err
	}
	if readOnly {
		return
	}
	c.Logins.Save = func(ctx context.Context, login string, r endpoint.Refusals) error {
		s := of(login)
		if s == nil {
			return nil
		}
		if r.Count == 0 {
			return s.Put(ctx, state.LoginAccepted{Login: login})
		}
		return s.Put(ctx, state.LoginRefused{Login: login, Count: r.Count, Last: r.Last, Salt: r.Salt, Tag: r.Tag})
	}
}

// forgetRefusals ends the waiting of logins that have just worked. Where another
// process has the state, that one finds out in its own time.
func (c *check) forgetRefusals(ctx context.Context) {
	path := c.statePath(c.config)
	seen, err := view(ctx, path)
	if err != nil || seen == nil {
		return
	}
	var gone []state.Change
	for _, login := range c.worked {
		if r, err := seen.Refused(ctx, login); err == nil && r.Count > 0 {
			gone = append(gone, state.LoginAccepted{Login: login})
		}
	}
	seen.Close()
	if len(gone) == 0 {
		return
	}
	s, err := state.Open(ctx, path, state.Options{Log: c.log})
	if err != nil {
		c.log.Warn("a login that waits because it was refused works again, but that cannot be noted now; if popferry serve runs, SIGUSR1 has it try at once", "err", err)
		return
	}
	if err := errors.Join(s.Put(ctx, gone...), s.Close()); err != nil {
		c.log.Warn("state", "err", err)
	}
}
