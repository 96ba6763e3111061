package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

const stateCheckLong = `Reads the whole state and looks for damage and contradictions. It works at any time,
also beside a run, and changes nothing.

The state remembers the latest time it has seen, so that a clock that goes back does
not delete mail. Where a wrong clock has moved that time into the future, nothing is
deleted by age until then. --reset-clock sets it to what the clock says now.`

func (a *app) stateCheckCommand() *cobra.Command {
	var reset, dryRun, asJSON bool
	cmd := &cobra.Command{
		Use: "check", Short: "is the state sound?", Long: stateCheckLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dryRun && !reset {
				return usagef("--dry-run has a meaning with --reset-clock only: nothing else is changed")
			}
			do := func(m *memory) error { return m.check(cmd.Context(), time.Now(), reset, dryRun, asJSON) }
			if reset {
				return a.decide(cmd.Context(), decision{dryRun: dryRun}, do)
			}
			return a.remember(cmd.Context(), do)
		},
	}
	cmd.Flags().BoolVar(&reset, "reset-clock", false, "set the latest time seen back to now")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --reset-clock: say what would change, and change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// jsonChecked is the line of a check.
type jsonChecked struct {
	Type       string   `json:"type"`
	File       string   `json:"file"`
	Accounts   int      `json:"accounts"`
	Messages   int      `json:"messages"`
	Gone       int      `json:"gone"`
	Deliveries int      `json:"deliveries"`
	Clock      string   `json:"clock"`
	Findings   []string `json:"findings"`
}

// clockSlack is how far clocks may differ without a word.
const clockSlack = 5 * time.Minute

func (m *memory) check(ctx context.Context, now time.Time, reset, dryRun, asJSON bool) error {
	if m.store == nil {
		return nil
	}
	c, err := m.store.Check(ctx)
	if err != nil {
		return err
	}
	path := endpoint.Printable(m.store.Path(), 200)
	for i, f := range c.Findings {
		c.Findings[i] = endpoint.Printable(f, 500)
	}
	ahead := c.Clock.Sub(now) > clockSlack
	if asJSON {
		m.stdout.json(jsonChecked{
			"state", m.store.Path(), c.Accounts, c.Messages, c.Gone, c.Deliveries, stamp(c.Clock), append([]string{}, c.Findings...),
		})
	} else {
		m.stdout.printf("%s   %s, %s and %s of mail that is gone, with %s\n", path, count(c.Accounts, "account"), count(c.Messages, "message"),
			count(c.Gone, "tombstone"), count(c.Deliveries, "record")+" of copies")
		for _, f := range c.Findings {
			m.stdout.print(m.stdout.paint(red, "  FAIL   ") + f + "\n")
		}
		m.clock(c.Clock, now, ahead)
	}
	if reset && ahead && len(c.Findings) == 0 {
		if err := m.resetClock(ctx, c.Clock, now, dryRun); err != nil {
			return err
		}
	} else if reset && !ahead {
		m.stdout.print("the clock is not ahead: there is nothing to reset\n")
	}
	if len(c.Findings) == 0 {
		return nil
	}
	m.report(&problem{
		exit: exitState, code: "state-damaged", head: filepath.Base(m.store.Path()) + " is not sound, see above",
		lines: []string{
			"Nothing was changed. Restore a copy of " + path + ", or start anew:",
			"popferry run --new-state   (messages already in the target are recognised by Message-ID)",
		},
	})
	return exit{code: exitState}
}

// clock says what is odd about the high-water clock.
func (m *memory) clock(high, now time.Time, ahead bool) {
	if !ahead {
		return
	}
	m.stdout.print(m.stdout.paint(yellow, "  warn   ") + fmt.Sprintf("the latest time seen is %s, %s: nothing is deleted by age until then\n",
		high.Local().Format("2006-01-02 15:04"), humanize.RelTime(high, now, "ago", "from now")))
	m.stdout.print("         → If this machine's clock is right:  popferry state check --reset-clock\n")
}

func (m *memory) resetClock(ctx context.Context, from, now time.Time, dryRun bool) error {
	verb := "is now"
	if dryRun {
		verb = "would be"
	} else if err := m.store.Put(ctx, state.SetClock{Now: now}); err != nil {
		return err
	}
	m.stdout.printf("the latest time seen %s %s; it was %s\n", verb, now.Local().Format("2006-01-02 15:04"), from.Local().Format("2006-01-02 15:04"))
	return nil
}
