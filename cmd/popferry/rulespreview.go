package main

import (
	"context"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher"
)

const rulesPreviewLong = `Where the newest messages on the maildrop of an account would go. Only headers are
read (TOP); where a rule asks for the body, that is said. Nothing is changed, not
even the state, and what is known already is shown too: that is run --dry-run's.`

func (a *app) rulesPreviewCommand() *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "preview ACCOUNT", Short: "where the newest messages would go", Long: rulesPreviewLong,
		Args: wantArgs("account", 1), ValidArgsFunction: a.names(accountNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usagef("--limit must be 1 or more")
			}
			c, err := a.load()
			if err != nil {
				return err
			}
			r, err := origin{account: args[0]}.route(c)
			if err != nil {
				return err
			}
			return (&preview{app: a, route: r, json: asJSON}).run(cmd.Context(), limit)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "look at the newest `N` messages")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// preview shows where messages on a maildrop would go.
type preview struct {
	*app
	*route
	json  bool
	total fetcher.Totals
	rows  [][]string
}

func (p *preview) run(ctx context.Context, limit int) error {
	f := &fetcher.Fetcher{Log: p.log, DryRun: true, Event: p.event}
	var err error
	if f.Targets, err = p.config.Open(p.log); err != nil {
		return err
	}
	defer func() {
		for _, t := range f.Targets {
			t.Close()
		}
	}()
	if err := p.unreachable(ctx, p.account, f.Preview(ctx, &p.job.Job, p.account, limit)); err != nil || p.json {
		return err
	}
	if len(p.rows) > 0 {
		table(p.stdout, append([][]string{{"UIDL", "DATE", "SIZE", "FROM", "SUBJECT", "→ FOLDER", "RULE"}}, p.rows...), 32)
	}
	p.stdout.printf("%s shown of %s on the maildrop\n", humanize.Comma(int64(p.total.New)), humanize.Comma(int64(p.total.Messages)))
	return nil
}

func (p *preview) event(e fetcher.Event) {
	switch {
	case e.Kind == fetcher.Listed:
		p.total = e.Total
	case p.json:
		(&jsonView{w: p.stdout}).message(e)
	default:
		p.rows = append(p.rows, planRow(e, len(p.config.Targets) > 1))
	}
}
