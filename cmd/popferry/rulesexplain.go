package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/rules"
	"popferry/targets/endpoint"
)

const rulesExplainLong = `Every rule in order, why it matches a message or does not, and where the message
goes. The message is in a FILE (.eml, an mbox with FILE#N for its N-th message, or
- for standard input), or it is number N on the maildrop of an ACCOUNT: then its
header is read, and the rest only if a rule asks for it, both by TOP, which servers
do not take for fetching. Nothing is changed.`

func (a *app) rulesExplainCommand() *cobra.Command {
	var from origin
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain FILE|ACCOUNT#N", Short: "why a message goes where it goes", Long: rulesExplainLong,
		Example: "  popferry rules explain invoice.eml\n  popferry rules explain isp#1284",
		Args:    wantArgs("message", 1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			list, _ := a.names(accountNames)(cmd, args, word)
			for i := range list {
				list[i] += "#"
			}
			return list, cobra.ShellCompDirectiveNoSpace // and files
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			x := &explanation{app: a, json: asJSON}
			if name, n := reference(args[0]); n > 0 && c.Accounts[name] != nil {
				from.account = name
				if x.route, err = from.route(c); err == nil {
					err = x.live(cmd.Context(), n)
				}
				return err
			}
			if x.route, err = from.route(c); err != nil {
				return err
			}
			return x.file(args[0], c)
		},
	}
	from.flags(a, cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// explanation tells what the rules do with one message.
type explanation struct {
	*app
	*route
	json bool
}

// file explains a message in a file.
func (x *explanation) file(ref string, c *config.Config) error {
	path, n := ref, 0
	if name, number := reference(ref); number > 0 {
		if _, err := os.Stat(ref); err != nil {
			path, n = name, number
		}
	}
	if _, err := os.Stat(path); err != nil && path != "-" {
		return &usageError{
			text: "there is no file " + endpoint.Printable(path, 200),
			hint: "Name a file, or a message on a maildrop by its number: " + accountNames(c)[0] + "#1",
		}
	}
	s, err := x.openMail(path)
	if err != nil {
		return err
	}
	defer s.close()
	m, err := s.only(n)
	if err != nil {
		return err
	}
	m.Account, m.Now = x.account.Name, time.Now()
	x.explain(m)
	return nil
}

// live explains message n on the maildrop.
func (x *explanation) live(ctx context.Context, n int) error {
	f := &fetcher.Fetcher{Log: x.log}
	err := f.Peek(ctx, x.account, n, func(m *rules.Message) bool {
		if m.Body == nil && x.job.Rules.Decide(m).Action == rules.NeedBody {
			return true
		}
		x.explain(m)
		return false
	})
	if errors.Is(err, fetcher.ErrNoTOP) {
		a := x.account
		x.report(&problem{
			exit: exitUnreachable, code: "no-top", head: a.Maildrop.Addr() + ": " + err.Error(),
			lines: hint("Save the message from a mail program and explain the file: popferry rules explain FILE --account " + a.Name),
		})
		return exit{code: exitUnreachable, reason: "the message cannot be read"}
	}
	if none, ok := errors.AsType[*fetcher.NoMessageError](err); ok {
		return usagef("%s", none)
	}
	return x.unreachable(ctx, x.account, err)
}

// unreachable reports why an account could not be read.
func (a *app) unreachable(ctx context.Context, account *fetcher.Account, err error) error {
	if e, stopped := interruption(ctx); stopped {
		return e
	}
	if err == nil {
		return nil
	}
	p := explain(err, where{account: account})
	a.report(p)
	return exit{code: p.exit}
}

// explain prints what the rules say about m.
func (x *explanation) explain(m *rules.Message) {
	names := x.job.Rules.Names()
	width := 16
	for _, n := range names {
		width = max(width, cells(n))
	}
	var steps []rules.Step
	d := x.job.Rules.Explain(m, func(s rules.Step) { steps = append(steps, s) })
	for _, s := range steps {
		if x.json {
			x.stdout.json(jsonStepOf(s))
			continue
		}
		mark := map[rules.Verdict]string{
			rules.Matched: x.stdout.paint(green, "✓"), rules.OtherAccount: "–", rules.Undecided: x.stdout.paint(yellow, "?"),
		}[s.Verdict]
		if mark == "" {
			mark = "✗"
		}
		x.rule(mark, s.Rule, width, x.lines(s))
	}
	for _, name := range names[len(steps):] {
		last := steps[len(steps)-1].Rule
		if x.json {
			x.stdout.json(jsonStep{Type: "rule", Rule: name, Verdict: "not asked", Checks: []jsonCheck{}, Lines: []string{"rule " + last + " was the last"}})
			continue
		}
		x.rule("·", name, width, []string{"not asked: rule " + last + " was the last"})
	}
	x.result(d)
}

// lines tell a step; with -v, every test that was made.
func (x *explanation) lines(s rules.Step) []string {
	lines := s.Lines()
	if !x.verbose || len(s.Checks) == 0 {
		return lines
	}
	var all []string
	for _, c := range s.Checks {
		all = append(all, c.String())
	}
	if s.Verdict == rules.Matched {
		all = append(all, lines[len(lines)-1])
	}
	return all
}

// rule prints the lines of one rule.
func (x *explanation) rule(mark, name string, width int, lines []string) {
	for _, l := range lines {
		x.stdout.print(strings.TrimRight(mark+" "+name+strings.Repeat(" ", width-cells(name)+1)+l, " ") + "\n")
		mark, name = " ", ""
	}
}

// result prints what becomes of the message.
func (x *explanation) result(d rules.Decision) {
	places := x.places(d)
	if x.json {
		x.stdout.json(jsonResult{"result", x.account.Name, x.job.Name, d.Action.String(), append([]string{}, d.Matched...), places, keepOf(d)})
		return
	}
	head := "Result: "
	if text := fate(d.Action); text != "" {
		x.stdout.print(head + text + "\n")
	}
	for _, p := range places {
		x.stdout.print(head + p.String() + "\n")
		head = "        "
	}
	if d.Keep != nil {
		x.stdout.printf("        keep: %s\n", d.Keep)
	}
}

func keepOf(d rules.Decision) string {
	if d.Keep == nil {
		return ""
	}
	return d.Keep.String()
}

// The lines of an explanation: one of each rule, one of the result.
type (
	jsonStep struct {
		Type     string      `json:"type"`
		Rule     string      `json:"rule"`
		Verdict  string      `json:"verdict"` // matched, failed, other account, undecided, not asked
		Checks   []jsonCheck `json:"checks"`
		Lines    []string    `json:"lines"` // as people are told
		Continue bool        `json:"continue"`
	}
	jsonCheck struct {
		Key     string `json:"key"`
		Name    string `json:"name,omitempty"` // of the header field
		Holds   bool   `json:"holds"`
		Negated bool   `json:"negated"`
		Text    string `json:"text"`
	}
	jsonResult struct {
		Type       string   `json:"type"`
		Account    string   `json:"account"`
		Job        string   `json:"job"`
		Action     string   `json:"action"`
		Matched    []string `json:"matched"`
		Deliveries []place  `json:"deliveries"`
		Keep       string   `json:"keep"`
	}
)

func jsonStepOf(s rules.Step) jsonStep {
	line := jsonStep{Type: "rule", Rule: s.Rule, Verdict: s.Verdict.String(), Checks: []jsonCheck{}, Lines: s.Lines(), Continue: s.Continue}
	for _, c := range s.Checks {
		line.Checks = append(line.Checks, jsonCheck{c.Test.Key, c.Test.Name, c.Holds, c.Negated, c.String()})
	}
	return line
}
