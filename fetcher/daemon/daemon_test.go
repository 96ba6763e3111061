package daemon

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

var update = flag.Bool("update", false, "write golden files")

// parse reads a configuration of accounts by name; jobs is the list of jobs.
func parse(t testing.TB, zone, jobs string) *config.Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "timezone: %s\nstate: /nowhere/popferry.db\naccounts:\n", zone)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		if strings.Contains(jobs, "from: "+name+",") || strings.Contains(jobs, "from: ["+name) || strings.Contains(jobs, ", "+name+",") || strings.Contains(jobs, ", "+name+"]") {
			fmt.Fprintf(&b, "  %s: {host: pop.example, user: %s, password: x}\n", name, name)
		}
	}
	b.WriteString("targets:\n  home: {host: imap.example, user: jane, password: y}\njobs:\n" + jobs)
	c, err := config.Parse("popferry.yaml", []byte(b.String()), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is a daemon whose passes are the test's own.
type world struct {
	*Daemon
	t   testing.TB
	mu  sync.Mutex
	out bytes.Buffer // its log
	// pass is called for each pass; nil does nothing.
	pass   func(ctx context.Context, j *config.Job, a *fetcher.Account) (fetcher.Report, error)
	starts []start
	passes []Pass
}

type start struct {
	at      time.Time
	account string
}

// Write takes a line of the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

func (w *world) log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// newWorld is a daemon that is not serving yet. It must be made where it runs.
func newWorld(t testing.TB, c *config.Config) *world {
	t.Helper()
	s, err := state.Open(context.Background(), filepath.Join(t.TempDir(), "popferry.db"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.Daemon = &Daemon{
		Config: c, State: s, Version: "test", Socket: "-",
		Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Explain: func(_ *config.Config, e fetcher.Event) Problem {
			p := Problem{Exit: 69, Code: "network", Head: e.Err.Error()}
			var ee *endpoint.Error
			switch {
			case errors.As(e.Err, new(*Crash)):
				p.Exit, p.Code = exitBug, "bug"
			case errors.Is(e.Err, context.Canceled):
				p.Exit, p.Code = exitTerm, "interrupted"
			case errors.As(e.Err, &ee) && ee.Stage == "auth":
				p.Exit, p.Code = exitLogin, ee.Code
			}
			return p
		},
		Jitter: func(time.Duration) time.Duration { return 0 },
	}
	w.PassDone = append(w.PassDone, func(p Pass) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.passes = append(w.passes, p)
	})
	w.run = func(ctx context.Context, _ *generation, j *config.Job, a *fetcher.Account) (fetcher.Report, error) {
		began := time.Now()
		w.mu.Lock()
		w.starts = append(w.starts, start{began, a.Name})
		w.mu.Unlock()
		var rep fetcher.Report
		var err error
		if w.pass != nil {
			rep, err = w.pass(ctx, j, a)
		}
		rep.Job, rep.Account, rep.Pass, rep.Start, rep.Took = j.Name, a.Name, "p", began, time.Since(began)
		if perr := w.State.Put(context.Background(), w.recorder.Record(rep, err)); perr != nil {
			w.t.Error(perr)
		}
		return rep, err
	}
	return w
}

// serve runs the daemon for so long, or until stop.
func (w *world) serve(d time.Duration, meanwhile func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer time.AfterFunc(d, cancel).Stop()
	var wg sync.WaitGroup
	if meanwhile != nil {
		wg.Go(func() { meanwhile(); cancel() })
	}
	if err := w.Serve(ctx); err != nil {
		w.t.Error(err)
	}
	wg.Wait()
	if err := w.State.Close(); err != nil {
		w.t.Error(err)
	}
}

// at returns when the passes over an account began, as durations since began.
func (w *world) at(account string, began time.Time) (out []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.starts {
		if s.account == account {
			out = append(out, s.at.Sub(began))
		}
	}
	return out
}

// elapse lets simulated time go by.
func elapse(d time.Duration) { <-time.After(d) }

func until(t time.Time) { elapse(time.Until(t)) }

// A day of every kind of schedule, over changes of the clocks: every run of it.
func TestServe_day(t *testing.T) {
	var got strings.Builder
	for _, day := range []struct{ zone, date string }{
		{"Europe/Berlin", "2026-03-29"},
		{"Europe/Berlin", "2026-10-25"},
		{"Australia/Lord_Howe", "2026-10-04"},
		{"Australia/Lord_Howe", "2026-04-05"},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := parse(t, day.zone, `
  - {name: nightly, from: a, to: home, cron: "30 2 * * *", on_start: no}
  - {name: half-hourly, from: b, to: home, cron: "*/30 1-3 * * *", on_start: no}
  - {name: gap, from: c, to: home, cron: "15 2 * * *", on_start: no}
  - {name: weekly, from: d, to: home, cron: "@weekly", on_start: no}
  - {name: interval, from: e, to: home, every: 5h}
  - {name: by-hand, from: f, to: home}
`)
			loc, err := time.LoadLocation(day.zone)
			if err != nil {
				t.Fatal(err)
			}
			midnight, err := time.ParseInLocation(time.DateOnly, day.date, loc)
			if err != nil {
				t.Fatal(err)
			}
			until(midnight.Add(-time.Minute))
			w := newWorld(t, c)
			w.serve(24*time.Hour, nil)
			fmt.Fprintf(&got, "%s, 24 hours from %s\n", day.zone, midnight.Add(-time.Minute).Format("2006-01-02 15:04 -0700"))
			for _, j := range c.Jobs {
				for _, s := range w.starts {
					if s.account == j.Accounts[0].Name {
						fmt.Fprintf(&got, "  %-12s %s\n", j.Name, s.at.In(loc).Format("15:04:05 -0700"))
					}
				}
			}
		})
	}
	golden(t, "day.txt", got.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o750), os.WriteFile(path, []byte(got), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// Every account is late by a delay of its own, and always the same, so that its
// passes are as far apart as its job says. What runs at the start does not wait.
func TestServe_jitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 10m, jitter: 1m}\n  - {from: b, to: home, cron: \"*/10 * * * *\"}\n"))
		var most []time.Duration
		w.Jitter = func(d time.Duration) time.Duration {
			most = append(most, d)
			return 20 * time.Second
		}
		until(time.Now().Truncate(time.Hour).Add(time.Hour - 10*time.Second))
		began := time.Now()
		w.serve(25*time.Minute, nil)
		s := func(n int) time.Duration { return time.Duration(n) * time.Second }
		if got, want := w.at("a", began), []time.Duration{0, s(620), s(1220)}; !slices.Equal(got, want) {
			t.Errorf("passes over a at %v, want %v", got, want)
		}
		if got, want := w.at("b", began), []time.Duration{0, s(30), s(630), s(1230)}; !slices.Equal(got, want) {
			t.Errorf("passes over b at %v, want %v", got, want)
		}
		if want := []time.Duration{time.Minute, 30 * time.Second}; !slices.Equal(most, want) {
			t.Errorf("they may be late by %v, want %v", most, want)
		}
	})
}

// A pass that takes longer than its interval is not overtaken by the next, and
// what it missed does not run.
func TestServe_noOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 1m}\n"))
		n := 0
		w.pass = func(context.Context, *config.Job, *fetcher.Account) (rep fetcher.Report, err error) {
			if n++; n == 2 {
				elapse(200 * time.Second)
			}
			return rep, nil
		}
		began := time.Now()
		w.serve(7*time.Minute+time.Second, nil)
		want := []time.Duration{0, time.Minute, 5 * time.Minute, 6 * time.Minute, 7 * time.Minute}
		if diff := cmp.Diff(want, w.at("a", began)); diff != "" {
			t.Error(diff)
		}
	})
}

// Accounts that hang keep nobody waiting but themselves, even if there are more
// of them than passes may begin at a time.
func TestServe_slowAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: [a, b, c, d, e], to: home, every: 1m}\n  - {from: f, to: home, every: 1m, on_start: no}\n"))
		w.Parallel = 2
		w.pass = func(ctx context.Context, _ *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
			if a.Name != "f" {
				<-ctx.Done()
				return rep, ctx.Err()
			}
			return rep, nil
		}
		began := time.Now()
		w.serve(5*time.Minute+time.Second, nil)
		want := []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute}
		if diff := cmp.Diff(want, w.at("f", began)); diff != "" {
			t.Error(diff)
		}
		if got := len(w.starts) - len(want); got != 5 {
			t.Errorf("%d of 5 slow accounts began", got)
		}
	})
}

func TestServe_panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 1m}\n"))
		n := 0
		w.pass = func(context.Context, *config.Job, *fetcher.Account) (fetcher.Report, error) {
			if n++; n == 1 {
				panic(&fetcher.Panic{Value: "ouch"})
			}
			return fetcher.Report{}, nil
		}
		began := time.Now()
		w.serve(time.Minute+time.Second, func() {
			elapse(time.Second)
			synctest.Wait()
			st := w.Status()
			if st.OK || len(st.Errors) != 1 || st.Errors[0].Code != "bug" || st.Errors[0].Head != "ouch" || st.Errors[0].Account != "a" {
				t.Errorf("after the panic: ok %v, errors %+v", st.OK, st.Errors)
			}
			elapse(time.Minute)
			synctest.Wait()
			if st := w.Status(); !st.OK {
				t.Errorf("after the next pass: %s", st.Summary)
			}
		})
		if got := w.at("a", began); !slices.Equal(got, []time.Duration{0, time.Minute}) {
			t.Errorf("passes at %v", got)
		}
	})
}

// Passes that fail become rarer, and are as often as before after one that does
// not.
func TestServe_backOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 5m}\n"))
		n := 0
		w.pass = func(context.Context, *config.Job, *fetcher.Account) (rep fetcher.Report, err error) {
			if n++; n <= 6 {
				return rep, &maildrop.Error{Kind: maildrop.Lost, Op: "STAT"}
			}
			return rep, nil
		}
		began := time.Now()
		w.serve(3*time.Hour-time.Second, nil)
		var got []int
		for _, at := range w.at("a", began) {
			got = append(got, int(at.Minutes()))
		}
		if want := []int{0, 5, 15, 35, 65, 95, 125, 130, 135, 140, 145, 150, 155, 160, 165, 170, 175}; !slices.Equal(got, want) {
			t.Errorf("passes at minutes\n%v, want\n%v", got, want)
		}
	})
}

func TestPause(t *testing.T) {
	for _, tc := range []struct {
		interval time.Duration
		want     []time.Duration // after 1, 2, … failures
	}{
		{5 * time.Minute, []time.Duration{0, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, 30 * time.Minute}},
		{2 * time.Second, []time.Duration{0, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, 32 * time.Second}},
		{24 * time.Hour, []time.Duration{0, 24 * time.Hour, 24 * time.Hour}},
		{0, []time.Duration{0, 0, 0}},
	} {
		for i, want := range tc.want {
			if got := pause(tc.interval, i+1); got != want {
				t.Errorf("pause(%v, %d) = %v, want %v", tc.interval, i+1, got, want)
			}
		}
		if got := pause(tc.interval, 1<<30); got != tc.want[len(tc.want)-1] {
			t.Errorf("pause(%v, many) = %v", tc.interval, got)
		}
	}
}

// What servers ask for comes before the schedule, within bounds.
func TestServe_wishes(t *testing.T) {
	for _, tc := range []struct {
		name, job string
		rep       fetcher.Report
		err       error
		want      []time.Duration
	}{
		{
			"CAPA", "every: 1m",
			fetcher.Report{LoginDelay: 150 * time.Second},
			nil,
			[]time.Duration{0, 3 * time.Minute, 6 * time.Minute, 9 * time.Minute},
		},
		{
			"as long as the interval", "every: 5m",
			fetcher.Report{LoginDelay: 5 * time.Minute},
			nil,
			[]time.Duration{0, 10 * time.Minute},
		},
		{
			"the error", "every: 1m",
			fetcher.Report{},
			&maildrop.Error{Kind: maildrop.Unavailable, Code: maildrop.LoginDelay, After: 4 * time.Minute},
			[]time.Duration{0, 4 * time.Minute, 8 * time.Minute},
		},
		{
			"of days", "every: 1m",
			fetcher.Report{LoginDelay: 1 << 60},
			nil,
			[]time.Duration{0},
		},
		{
			"cron", `cron: "* * * * *", on_start: no`,
			fetcher.Report{LoginDelay: 150 * time.Second},
			nil,
			[]time.Duration{time.Minute, 4 * time.Minute, 7 * time.Minute, 10 * time.Minute},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, "+tc.job+"}\n"))
				w.pass = func(context.Context, *config.Job, *fetcher.Account) (fetcher.Report, error) {
					rep := tc.rep
					rep.LoggedIn = time.Now()
					return rep, tc.err
				}
				began := time.Now()
				w.serve(10*time.Minute+time.Second, nil)
				if diff := cmp.Diff(tc.want, w.at("a", began)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A target that asks to be left alone is, an hour at most.
func TestServe_targetsWish(t *testing.T) {
	for _, tc := range []struct{ after, want time.Duration }{{10 * time.Minute, 10 * time.Minute}, {48 * time.Hour, time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, parse(t, "UTC", "  - {from: a, to: home, every: 1m}\n"))
			w.pass = func(_ context.Context, j *config.Job, a *fetcher.Account) (rep fetcher.Report, err error) {
				w.event(fetcher.Event{
					Kind: fetcher.Failed, Job: j.Name, Account: a.Name, Target: "home",
					Err: &targets.Error{Fault: targets.Down, Op: "APPEND", Reply: "NO [LIMIT]", After: tc.after},
				})
				rep.New, rep.Failed = 1, 1
				return rep, nil
			}
			began := time.Now()
			w.serve(tc.want+time.Second, nil)
			if got := w.at("a", began); !slices.Equal(got, []time.Duration{0, tc.want}) {
				t.Errorf("passes at %v, want 0 and %v", got, tc.want)
			}
		})
	}
}
