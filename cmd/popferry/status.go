package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
)

// redraw is how often status --watch looks.
const redraw = 2 * time.Second

const statusLong = `How the jobs are doing: what the last passes did, when the next ones are, what lies
on the servers, and what needs you. It works at any time; what runs now and what
comes next is known while popferry serve runs.`

func (a *app) statusCommand() *cobra.Command {
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "how the jobs are doing", Long: statusLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := &statusView{app: a, json: asJSON}
			if watch {
				return s.watch(cmd.Context())
			}
			st, err := s.look(cmd.Context())
			if err != nil {
				return err
			}
			s.stdout.print(s.text(st))
			return nil
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it anew every two seconds; on no terminal when something has changed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func (a *app) healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "does popferry serve run, and run well? (exit code 0 or 1)", Args: noArgs,
		Long: `Asks the popferry serve that has the same state. It ends with 1 if there is none,
if its schedule is stuck, or if a job had no success for three of its intervals.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, path, err := a.whose()
			if err != nil {
				return err
			}
			if err := daemon.AskHealth(cmd.Context(), path); err != nil {
				return exit{code: exitSome, reason: plainReason(err)}
			}
			return nil
		},
	}
}

// plainReason is why a daemon is not well, without what the system calls it.
func plainReason(err error) string {
	if errors.Is(err, daemon.ErrNotServing) {
		return daemon.ErrNotServing.Error()
	}
	return plain(err)
}

// statusView prints the status.
type statusView struct {
	*app
	json bool
}

// look asks the daemon, or where there is none reads what it would know.
func (s *statusView) look(ctx context.Context) (daemon.Status, error) {
	c, path, err := s.whose()
	if err != nil {
		return daemon.Status{}, err
	}
	st, err := daemon.Ask(ctx, path)
	if err == nil || ctx.Err() != nil {
		return st, err
	}
	if !errors.Is(err, daemon.ErrNotServing) {
		s.log.Warn("popferry serve runs and does not answer; this is what it has written", "err", err)
	}
	if c == nil {
		_, err := s.load() // says what is wrong with it
		return daemon.Status{}, err
	}
	store, err := view(ctx, path)
	if err != nil {
		return daemon.Status{}, err
	}
	if store != nil {
		defer store.Close()
	}
	if st, err = daemon.Build(ctx, c, store, time.Now()); err == nil {
		st.Version = version()
	}
	return st, err
}

// whose finds out where the state lies whose daemon is meant. With --state that is
// known even if the configuration cannot be read, and is nil then.
func (a *app) whose() (c *config.Config, path string, err error) {
	c, err = a.load()
	switch {
	case err == nil:
		return c, a.statePath(c), nil
	case a.flags.state != "":
		return nil, a.flags.state, nil
	}
	return nil, "", err
}

// watch prints the status again and again, until ctx ends.
func (s *statusView) watch(ctx context.Context) error {
	live := s.stdout.tty && !s.stdout.dumb && !s.json
	if live {
		s.stdout.print("\x1b[?1049h\x1b[?25l")
		defer s.stdout.print("\x1b[?25h\x1b[?1049l")
	}
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	before := ""
	for {
		st, err := s.look(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case live:
			s.stdout.print(s.frame(s.text(st)))
		default:
			if now := s.text(still(st)); now != before {
				before = now
				s.stdout.print(s.text(st))
			}
		}
		select {
		case <-ctx.Done():
			e, _ := interruption(ctx)
			return e
		case <-tick.C:
		}
	}
}

// still is st without what changes by itself.
func still(st daemon.Status) daemon.Status {
	st.Time, st.Summary = time.Time{}, ""
	st.Jobs, st.Accounts = slices.Clone(st.Jobs), slices.Clone(st.Accounts)
	for i := range st.Jobs {
		st.Jobs[i].Next = time.Time{}
	}
	for i := range st.Accounts {
		st.Accounts[i].Next = time.Time{}
	}
	return st
}

// frame is text over what was on the screen before. It is written at once, and
// every line takes away what is behind it, so nothing flickers.
func (s *statusView) frame(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if rows := s.stdout.height(); rows > 0 && len(lines) > rows {
		lines = append(lines[:max(0, rows-1)], "…")
	}
	return "\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J"
}

// height is how many lines the terminal has; 0 if that is not known.
func (s *stream) height() int {
	if f, ok := s.w.(interface{ Fd() uintptr }); ok {
		if _, h, err := term.GetSize(int(f.Fd())); err == nil {
			return h
		}
	}
	return 0
}

// jsonStatus is the status with its type.
type jsonStatus struct {
	Type string `json:"type"`
	daemon.Status
}

func (s *statusView) text(st daemon.Status) string {
	if s.json {
		return jsonLine(jsonStatus{"status", st})
	}
	p := &statusPage{stream: s.stdout, st: &st, now: st.Time, width: min(s.stdout.width(), 100)}
	if p.now.IsZero() {
		p.now = time.Unix(0, 0)
	}
	return p.whole()
}

// in says when something is: "in 3 min", "now".
func in(t, now time.Time) string {
	if !t.After(now.Add(time.Second)) {
		return "now"
	}
	return "in " + brief(t.Sub(now))
}

// since says how long something is ago: "3 min ago", "never".
func since(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case now.Sub(t) < time.Second:
		return "just now"
	}
	return brief(now.Sub(t)) + " ago"
}

// brief is a duration in a few characters: "40 s", "3 min", "2 h", "5 d".
func brief(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return humanize.Comma(int64(d.Round(time.Second)/time.Second)) + " s"
	case d < 100*time.Minute:
		return humanize.Comma(int64(d.Round(time.Minute)/time.Minute)) + " min"
	case d < 48*time.Hour:
		return humanize.Comma(int64(d.Round(time.Hour)/time.Hour)) + " h"
	}
	return humanize.Comma(int64(d/(24*time.Hour))) + " d"
}
