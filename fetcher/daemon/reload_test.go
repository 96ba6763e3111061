package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// A bad configuration changes nothing and is named with its places; a good one
// takes effect, but for passes under way.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {name: one, from: [a, b], to: home, every: 10m}\n"))
		release := make(chan struct{})
		ended := ""
		w.pass = func(_ context.Context, j *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
			if a.Name == "a" && j.Name == "one" {
				<-release
				ended = j.Name
			}
			return rep, nil
		}
		next := parse(t, "UTC", "  - {name: two, from: a, to: home, every: 1m}\n  - {name: new, from: c, to: home, every: 3m}\n")
		bad := config.Errors{
			{File: "popferry.yaml", Line: 4, Column: 5, Code: "config-unknown-key", Text: `unknown key "kep"`},
			{File: "popferry.yaml", Line: 9, Column: 1, Code: "config-missing-key", Text: "no host"},
		}
		w.Load = func() (*config.Config, error) { return nil, bad }
		var reloaded []*config.Config
		w.Reloaded = func(c *config.Config) { reloaded = append(reloaded, c) }
		began := time.Now()
		w.serve(15*time.Minute, func() {
			elapse(30 * time.Second)
			if err := w.Reload(); !errors.Is(err, error(bad)) && err.Error() != bad.Error() {
				t.Errorf("reload of a bad configuration: %v", err)
			}
			for _, want := range []string{"popferry.yaml:4:5: unknown key", "popferry.yaml:9:1: no host", "the new configuration is refused", "stays in force"} {
				if !strings.Contains(strings.ReplaceAll(w.log(), `\"`, `"`), want) {
					t.Errorf("the log does not say %q:\n%s", want, w.log())
				}
			}
			if st := w.Status(); len(st.Jobs) != 1 || st.Jobs[0].Name != "one" {
				t.Errorf("after a bad reload the jobs are %+v", st.Jobs)
			}
			if st := w.Status(); len(st.Attention) != 1 || st.Attention[0].Code != "config-refused" || len(st.Attention[0].Lines) != 2 {
				t.Errorf("after a bad reload there is %+v to look at", st.Attention)
			}
			elapse(30 * time.Second)
			w.Load = func() (*config.Config, error) { return next, nil }
			if err := w.Reload(); err != nil {
				t.Error(err)
			}
			if st := w.Status(); len(st.Attention) > 0 || len(st.Jobs) != 2 || st.Jobs[0].Name != "two" || !st.Jobs[0].Running {
				t.Errorf("after the reload the jobs are %+v", st.Jobs)
			}
			elapse(90 * time.Second)
			close(release)
			elapse(3 * time.Minute)
		})
		if len(reloaded) != 1 || reloaded[0] != next {
			t.Errorf("Reloaded was called %d times", len(reloaded))
		}
		if ended != "one" {
			t.Errorf("the pass under way ended with job %q", ended)
		}
		m := func(n float64) time.Duration { return time.Duration(n * float64(time.Minute)) }
		for account, want := range map[string][]time.Duration{
			"a": {0, m(3), m(4), m(5)}, // its first pass ends at 2.5
			"b": {0},
			"c": {m(1), m(4)},
		} {
			if got := w.at(account, began); !slices.Equal(got, want) {
				t.Errorf("passes over %s at %v, want %v", account, got, want)
			}
		}
	})
}

// Another place for the state needs a restart, and the log says so.
func TestReload_state(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := parse(t, "UTC", "  - {from: a, to: home, every: 10m}\n")
		w := newWorld(t, c)
		w.Load = func() (*config.Config, error) {
			other := *c
			other.State = "/elsewhere/popferry.db"
			return &other, nil
		}
		w.serve(time.Minute, func() {
			elapse(time.Second)
			if err := w.Reload(); err != nil {
				t.Error(err)
			}
		})
		if !strings.Contains(w.log(), "needs a restart") {
			t.Errorf("the log says\n%s", w.log())
		}
	})
}

// RunNow runs everything once, by hand only or not, also what runs just then; the
// schedule goes on from there.
func TestRunNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", `
  - {from: a, to: home, every: 10m}
  - {from: b, to: home}
  - {from: c, to: home, cron: "30 * * * *", on_start: no}
  - {from: d, to: home, every: 10m}
`))
		w.pass = func(_ context.Context, _ *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
			if a.Name == "d" {
				elapse(5 * time.Minute)
			}
			return rep, nil
		}
		began := time.Now()
		w.serve(31*time.Minute, func() {
			elapse(4 * time.Minute)
			w.RunNow()
			elapse(26*time.Minute + time.Second)
		})
		for account, want := range map[string][]int{"a": {0, 4, 14, 24}, "b": {4}, "c": {4, 30}, "d": {0, 5, 15, 25}} {
			var got []int
			for _, at := range w.at(account, began) {
				got = append(got, int(at.Minutes()))
			}
			if !slices.Equal(got, want) {
				t.Errorf("passes over %s at minutes %v, want %v", account, got, want)
			}
		}
	})
}

// After three refused logins nobody tries again for an hour, until the password
// changes or somebody asks for it.
func TestServe_loginRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := filepath.Join(t.TempDir(), "password")
		write := func(text string) {
			if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("wrong\n")
		c, err := config.Parse("popferry.yaml", []byte(`accounts: {a: {host: pop.example, user: a, password_file: `+secret+`}}
targets: {home: {host: imap.example, user: jane, password: y}}
state: /nowhere/popferry.db
jobs: [{from: a, to: home, every: 1m}]
`), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, c)
		var logins atomic.Int32
		w.pass = func(ctx context.Context, _ *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
			s := &a.Maildrop.Server
			p, err := s.Secret(ctx)
			if err != nil {
				return rep, err
			}
			logins.Add(1)
			if p == "right" {
				s.Judged(ctx, p, nil)
				return rep, nil
			}
			e := &endpoint.Error{Stage: "auth", Code: endpoint.CodeLoginRefused, Addr: s.Addr()}
			s.Judged(ctx, p, e)
			return rep, e
		}
		want := func(n int32, when string) {
			t.Helper()
			if got := logins.Load(); got != n {
				t.Errorf("%d logins %s, want %d", got, when, n)
			}
		}
		w.serve(3*time.Hour, func() {
			elapse(time.Hour)
			want(3, "in an hour")
			if a := w.Status().Accounts[0]; !a.Paused || a.Problem == nil {
				t.Errorf("paused %v, problem %+v", a.Paused, a.Problem)
			}
			if err := w.Health(); !errors.Is(err, ErrUnhealthy) || !strings.Contains(err.Error(), "had no success") {
				t.Errorf("health: %v", err)
			}
			w.RunNow()
			elapse(10 * time.Second)
			want(4, "after RunNow")
			elapse(31 * time.Minute)
			want(4, "while it waits")
			write("right\n")
			elapse(31 * time.Minute)
			if st := w.Status(); !st.OK || st.Accounts[0].Paused {
				t.Errorf("with the right password: %s", st.Summary)
			}
			if err := w.Health(); err != nil {
				t.Error(err)
			}
		})
	})
}

// A machine that sleeps, or whose clock is set, runs what it missed once.
func TestServe_clockIsSet(t *testing.T) {
	for name, tc := range map[string]struct {
		job  string
		leap time.Duration
		most int // passes in the hour after it
		wait time.Duration
	}{
		"ahead, every":     {"every: 10m", 8 * time.Hour, 7, 2 * time.Minute},
		"ahead, cron":      {`cron: "0 * * * *"`, 8 * time.Hour, 2, 2 * time.Minute},
		"back, every":      {"every: 10m", -240 * time.Hour, 7, 12 * time.Minute},
		"back, daily cron": {`cron: "0 0 * * *", on_start: no`, -240 * time.Hour, 1, 25 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, "+tc.job+"}\n"))
				leap := make(chan time.Duration, 1)
				leap <- 0
				w.Now = func() time.Time {
					d := <-leap
					leap <- d
					return time.Now().Round(0).Add(d)
				}
				w.serve(100*time.Hour, func() {
					elapse(25 * time.Minute)
					before := len(w.at("a", time.Time{}))
					<-leap
					leap <- tc.leap
					elapse(tc.wait)
					if got := len(w.at("a", time.Time{})) - before; got != 1 {
						t.Errorf("%d passes within %v after the clock was set", got, tc.wait)
					}
					elapse(time.Hour - min(tc.wait, time.Hour))
					if got := len(w.at("a", time.Time{})) - before; got > tc.most {
						t.Errorf("%d passes in the hour after it", got)
					}
				})
			})
		})
	}
}

// Serve ends when what is in hand has ended, and starts nothing more.
func TestServe_drain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: [a, b], to: home, every: 1m}\n"))
		w.pass = func(ctx context.Context, _ *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
			if a.Name == "b" {
				return rep, nil
			}
			<-ctx.Done()
			elapse(15 * time.Second) // what is in hand
			return rep, ctx.Err()
		}
		began := time.Now()
		w.serve(time.Minute-time.Second, nil)
		if took := time.Since(began); took != 74*time.Second {
			t.Errorf("it took %v to end", took)
		}
		if got := w.passes[len(w.passes)-1]; got.Exit != exitTerm || got.Account != "a" {
			t.Errorf("the interrupted pass is %+v", got)
		}
		if len(w.starts) != 2 {
			t.Errorf("%d passes began", len(w.starts))
		}
	})
}

// A state that has failed ends the daemon: only a new process can tell what is on
// the disk.
func TestServe_deadState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: [a, b], to: home, every: 1m}\n"))
		dead := fmt.Errorf("disk on fire: %w", state.ErrDead)
		w.pass = func(_ context.Context, _ *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
			if a.Name == "b" {
				return rep, dead
			}
			return rep, nil
		}
		if err := w.Serve(t.Context()); !errors.Is(err, dead) {
			t.Errorf("Serve: %v", err)
		}
		if err := w.State.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A job is late after three of its intervals, whatever is between them.
func TestHealth(t *testing.T) {
	for _, tc := range []struct {
		job  string
		well time.Duration // after its last success, on a Saturday at 00:00
		sick time.Duration
	}{
		{"every: 1h", 3 * time.Hour, 3*time.Hour + 2*time.Minute},
		{`cron: "*/5 9-17 * * 1-5"`, 57*time.Hour + 10*time.Minute, 57*time.Hour + 12*time.Minute}, // from Monday at nine
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, "+tc.job+"}\n"))
			n := 0
			w.pass = func(context.Context, *config.Job, *fetcher.Account) (rep fetcher.Report, err error) {
				if n++; n > 1 {
					return rep, &maildrop.Error{Kind: maildrop.Lost, Op: "STAT"}
				}
				return rep, nil
			}
			began := time.Now() // a Saturday
			w.serve(100*time.Hour, func() {
				elapse(tc.well - time.Since(began))
				if err := w.Health(); err != nil {
					t.Errorf("%s after %v: %v", tc.job, tc.well, err)
				}
				elapse(tc.sick - time.Since(began))
				if err := w.Health(); !errors.Is(err, ErrUnhealthy) {
					t.Errorf("%s after %v: %v", tc.job, tc.sick, err)
				}
			})
		})
	}
}

func TestNote(t *testing.T) {
	for _, tc := range []struct {
		rep  fetcher.Report
		step time.Duration
		want string
	}{
		{fetcher.Report{}, time.Hour, ""},
		{fetcher.Report{LoginDelay: 5 * time.Minute}, time.Hour, "the server wants 5m0s between logins (LOGIN-DELAY)"},
		{fetcher.Report{Expires: true, ExpireDays: 7}, time.Hour, "the server itself deletes mail after 7 days (EXPIRE)"},
		{fetcher.Report{Expires: true}, time.Hour, "the server deletes mail as soon as it was read (EXPIRE 0)"},
		{fetcher.Report{Expires: true, ExpireDays: 1}, 24 * time.Hour, "the server itself deletes mail after 24 h (EXPIRE): the job should run more often"},
		{fetcher.Report{Warnings: []string{"two messages have one UIDL\x1b"}}, time.Hour, `two messages have one UIDL\x1b`},
	} {
		if got := noteOf(&tc.rep, tc.step); got != tc.want {
			t.Errorf("note %q, want %q", got, tc.want)
		}
	}
}
