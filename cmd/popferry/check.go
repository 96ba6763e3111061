package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// checkTime bounds the live test of one account or target.
const checkTime = 2 * time.Minute

const checkLong = `Reads the configuration and reports everything that is wrong with it at once.
Then logs in to every account and target that is named, or to all, and says what
it finds there. Nothing is fetched, stored or deleted. --offline only reads.`

func (a *app) checkCommand() *cobra.Command {
	var offline, asJSON bool
	cmd := &cobra.Command{
		Use: "check [NAME…]", Short: "is the configuration right, do the logins work?", Long: checkLong,
		ValidArgsFunction: a.names(func(c *config.Config) []string { return append(sorted(c.Accounts), sorted(c.Targets)...) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			for _, n := range args {
				if c.Accounts[n] == nil && c.Targets[n] == nil {
					return &usageError{
						text: fmt.Sprintf("there is no account or target %q", endpoint.Printable(n, 60)),
						hint: "There are " + strings.Join(append(sorted(c.Accounts), sorted(c.Targets)...), ", "),
					}
				}
			}
			ck := &check{app: a, config: c, json: asJSON}
			ck.offline()
			if !offline {
				ck.live(cmd.Context(), args)
				ck.forgetRefusals(cmd.Context())
			}
			return ck.end(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "check the configuration only")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// check is one check of a configuration and the servers in it.
type check struct {
	*app
	config   *config.Config
	json     bool
	code     int
	warnings int
	problems int
	worked   []string // logins that did, as Server.Login calls them
}

// subject is what a line of a check is about.
type subject struct{ kind, name, addr string }

// jsonFinding is the line of one finding.
type jsonFinding struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Address string `json:"address"`
	Level   string `json:"level"`
	Text    string `json:"text"`
	Hint    string `json:"hint"`
}

// found prints findings about one subject.
func (c *check) found(about subject, fs ...targets.Finding) {
	for _, f := range fs {
		switch f.Level {
		case "warn":
			c.warnings++
		case "fail":
			c.problems++
		}
		if c.json {
			c.stdout.json(jsonFinding{about.kind, about.name, about.addr, f.Level, f.Text, f.Hint})
		}
	}
	if c.json {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %s\n", c.stdout.paint(bold, about.name), about.addr)
	for _, f := range fs {
		mark := map[string]string{"warn": c.stdout.paint(yellow, "  warn   "), "fail": c.stdout.paint(red, "  FAIL   ")}[f.Level]
		if mark == "" {
			mark = "         "
		}
		b.WriteString(mark + endpoint.Printable(f.Text, 500) + "\n")
		for _, h := range hint(f.Hint) {
			b.WriteString("         → " + endpoint.Printable(h, 500) + "\n")
		}
	}
	c.stdout.print(b.String())
}

// offline tells what the configuration says.
func (c *check) offline() {
	cfg := c.config
	fs := []targets.Finding{{Level: "ok", Text: fmt.Sprintf("ok · %s, %s, %s, %s", count(len(cfg.Accounts), "account"),
		count(len(cfg.Targets), "target"), count(len(cfg.Rules.Names()), "rule"), count(len(cfg.Jobs), "job"))}}
	now := time.Now()
	for _, j := range cfg.Jobs {
		if next := j.Next(now); !next.IsZero() {
			when := j.Cron
			if j.Every > 0 {
				when = "every " + j.Every.String()
			}
			fs = append(fs, targets.Finding{Level: "ok", Text: fmt.Sprintf("%s is due %s, next %s", j.Name, when, next.In(cfg.Location).Format("2006-01-02 15:04 MST"))})
		}
	}
	for _, w := range append(slices.Clone(cfg.Warnings), cfg.Check()...) {
		fs = append(fs, targets.Finding{Level: "warn", Text: w.Error(), Hint: w.Hint})
	}
	c.found(subject{"config", "config", cfg.File}, fs...)
}

// end says how many problems there were.
func (c *check) end(ctx context.Context) error {
	if e, stopped := interruption(ctx); stopped {
		return e
	}
	if !c.json && c.problems+c.warnings > 0 {
		c.stdout.printf("\n%s, %s.\n", count(c.problems, "problem"), count(c.warnings, "warning"))
	}
	if c.problems == 0 {
		return nil
	}
	return exit{code: c.code}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
