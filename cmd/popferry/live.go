package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/maildrop"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// live logs in everywhere, one after the other, and reads the state.
func (c *check) live(ctx context.Context, names []string) {
	want := func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	for _, name := range sorted(c.config.Accounts) {
		if want(name) && ctx.Err() == nil {
			a := c.config.Accounts[name]
			c.found(subject{"account", name, a.Maildrop.Addr()}, c.account(ctx, a)...)
		}
	}
	for _, name := range sorted(c.config.Targets) {
		if want(name) && ctx.Err() == nil {
			t := c.config.Targets[name]
			c.found(subject{"target", name, t.Place()}, c.target(ctx, t)...)
		}
	}
	if len(names) == 0 && ctx.Err() == nil {
		path := c.statePath(c.config)
		c.found(subject{"state", "state", path}, append(c.ground(path), c.state(ctx, path))...)
	}
}

// fail makes a finding of an error.
func (c *check) fail(err error, at where) targets.Finding {
	p := explain(err, at)
	c.code = worse(c.code, p.exit)
	return targets.Finding{Level: "fail", Text: p.head, Hint: strings.Join(p.lines, "\n")}
}

// account logs in and reads the listing. QUIT deletes nothing: nothing was
// marked.
func (c *check) account(ctx context.Context, a *fetcher.Account) []targets.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	start := time.Now()
	conn, err := maildrop.Dial(ctx, &a.Maildrop, c.log)
	if err != nil {
		return []targets.Finding{c.fail(err, where{account: a})}
	}
	defer conn.Close()
	c.worked = append(c.worked, a.Maildrop.Login())
	took := time.Since(start)
	list, err := conn.List(ctx)
	if err != nil {
		return []targets.Finding{c.fail(err, where{account: a})}
	}
	caps := conn.Caps()
	if err := conn.Quit(ctx); err != nil {
		c.log.Debug("QUIT", "account", a.Name, "err", err)
	}
	facts := conn.Facts()
	fs := append(c.reach(ctx, &a.Maildrop.Server, &facts), targets.Finding{Level: "ok", Text: fmt.Sprintf("login ok in %s (%s) · %s, %s · UIDL %s · TOP %s · PIPELINING %s",
		roughly(took), facts.Login(), count(list.Messages, "message"), octets(list.Octets), yes(!list.NoUIDL), yes(caps.TOP), yes(caps.Pipelining))})
	for _, w := range list.Warnings {
		fs = append(fs, targets.Finding{Level: "warn", Text: w})
	}
	if list.NoUIDL {
		c.code = worse(c.code, exitConfig)
		fs = append(fs, targets.Finding{Level: "fail", Text: "the server has no UIDL, so popferry could not remember what it fetched"})
	}
	if caps.Expires {
		fs = append(fs, targets.Finding{Level: "warn", Text: fmt.Sprintf("EXPIRE %d: the server itself deletes messages after %s", caps.Expire, count(caps.Expire, "day"))})
	}
	if caps.LoginDelay > 0 {
		fs = append(fs, targets.Finding{Level: "ok", Text: fmt.Sprintf("LOGIN-DELAY %d: the server wants %s between two logins", int(caps.LoginDelay.Seconds()), caps.LoginDelay)})
	}
	return fs
}

// reach says how an account's server was reached.
func (c *check) reach(ctx context.Context, s *endpoint.Server, f *endpoint.Facts) []targets.Finding {
	text, soon := f.Link(time.Now())
	if _, err := netip.ParseAddr(s.Host); err != nil && s.Proxy.IsZero() {
		if addrs, err := net.DefaultResolver.LookupHost(ctx, s.Host); err == nil {
			text = fmt.Sprintf("dns %d · %s", len(addrs), text)
		}
	}
	if soon {
		return []targets.Finding{{Level: "warn", Text: text, Hint: "The certificate ends soon; if it is not renewed by then, nothing is fetched."}}
	}
	return []targets.Finding{{Level: "ok", Text: text}}
}

// target asks the target to look at itself.
func (c *check) target(ctx context.Context, t *config.Target) []targets.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	at := where{target: t.Name, server: t.Server}
	opened, err := t.Config.Open(t.Name, c.log)
	if err != nil {
		return []targets.Finding{c.fail(err, at)}
	}
	defer opened.Close()
	fs, err := opened.Check(ctx)
	if err != nil {
		return append(fs, c.fail(err, at))
	}
	if t.Server != nil && !slices.ContainsFunc(fs, func(f targets.Finding) bool { return f.Level == "fail" }) {
		c.worked = append(c.worked, t.Server.Login())
	}
	for i, f := range fs {
		switch {
		case f.Level == "fail" && f.Err != nil:
			fs[i] = c.fail(f.Err, at)
		case f.Level == "fail":
			c.code = worse(c.code, exitConfig)
		}
	}
	return fs
}

// ground says what is wrong with the place where the state lies.
func (c *check) ground(path string) []targets.Finding {
	g := c.machine.Ground(path)
	if err := g.Err(); err != nil {
		return []targets.Finding{c.fail(err, where{})}
	}
	if w := g.Warning(); w != "" {
		return []targets.Finding{{Level: "warn", Text: w}}
	}
	return nil
}

func (c *check) state(ctx context.Context, path string) targets.Finding {
	s, err := view(ctx, path)
	if err != nil {
		return c.fail(err, where{})
	}
	if s == nil {
		text := "not there yet; the first run makes it"
		if on := c.machine.Ground(path).String(); on != "" {
			text = on + ", " + text
		}
		return targets.Finding{Level: "ok", Text: text}
	}
	defer s.Close()
	accounts, err := s.Accounts(ctx)
	if err != nil {
		return c.fail(err, where{})
	}
	known, held := 0, 0
	for _, a := range accounts {
		known, held = known+a.Known, held+a.Held
	}
	text := "ok · "
	if on := c.machine.Ground(path).String(); on != "" {
		text += on + " · "
	}
	f := targets.Finding{Level: "ok", Text: text + count(known, "message") + " known"}
	if held > 0 {
		f = targets.Finding{Level: "warn", Text: fmt.Sprintf("%s known, %s held", count(known, "message"), humanize.Comma(int64(held))), Hint: "popferry held list"}
	}
	return f
}
