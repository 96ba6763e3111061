package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/rules"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/maildir"
	"popferry/targets/smtp"
)

const rulesLong = `What the rules of the configuration do with messages, told before any mail moves.
Nothing is delivered, deleted or remembered by any of these.`

func (a *app) rulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rules", Short: "try, test and convert rules", Args: noArgs, Long: rulesLong,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.rulesExplainCommand(), a.rulesTestCommand(), a.rulesPreviewCommand(), a.rulesConvertCommand())
	return cmd
}

// origin says which way messages are to come, by flags.
type origin struct{ account, job string }

// flags adds --account and --job to cmd.
func (o *origin) flags(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.account, "account", "", "`NAME` of the account that the messages come from")
	cmd.Flags().StringVar(&o.job, "job", "", "`NAME` of the job that takes them")
	_ = cmd.RegisterFlagCompletionFunc("account", a.names(accountNames))
	_ = cmd.RegisterFlagCompletionFunc("job", a.names(jobNames))
}

// route is how messages of an account go: the rules and targets of its job.
type route struct {
	config  *config.Config
	account *fetcher.Account
	job     *config.Job
}

// route finds the account and its job. What the configuration leaves no choice
// about need not be named.
func (o origin) route(c *config.Config) (*route, error) {
	jobs, err := choose(c, named(o.job))
	if err != nil {
		return nil, err
	}
	if o.account != "" && c.Accounts[o.account] == nil {
		return nil, noAccount(c, o.account)
	}
	var ways []*route
	for _, j := range jobs {
		for _, account := range j.Accounts {
			if o.account == "" || account.Name == o.account {
				ways = append(ways, &route{c, account, j})
			}
		}
	}
	switch {
	case len(ways) == 0:
		return nil, usagef("no job takes messages from account %s", o.account)
	case len(ways) > 1:
		return nil, &usageError{text: "from which account do the messages come?", hint: "Name it: --account " + strings.Join(accountNames(c), ", or --account ")}
	}
	return ways[0], nil
}

// named is a list of one name, or of none.
func named(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// place is a copy of a message that would be made.
type place struct {
	Target string   `json:"target"`
	Folder string   `json:"folder"` // "" of a target that has recipients instead
	Flags  []string `json:"flags"`
	To     []string `json:"to"`
	Rule   string   `json:"rule"` // "" is the default
}

// places are the copies that d asks for, with the targets' own folders and
// recipients filled in.
func (r *route) places(d rules.Decision) []place {
	list := []place{}
	for _, del := range d.For(r.job.Targets) {
		p := place{Target: del.Target, Rule: del.Rule, Flags: []string{}, To: []string{}}
		switch c := r.config.Targets[del.Target].Config.(type) {
		case *smtp.Config: // knows no folders, and takes a message once for each recipient
			own := del.Dest.Rcpt
			if len(own) == 0 {
				own = c.Recipients
			}
			for _, rcpt := range own {
				if !slices.ContainsFunc(list, func(o place) bool { return o.Target == p.Target && containsFold(o.To, rcpt) }) {
					p.To = append(p.To, rcpt)
				}
			}
			if len(p.To) == 0 {
				continue
			}
		case *maildir.Config:
			p.Folder, p.Flags = cmp.Or(del.Dest.Folder, c.Folder), append(p.Flags, del.Dest.Flags...)
		case *imap.Config:
			p.Folder, p.Flags = cmp.Or(del.Dest.Folder, c.Folder), append(p.Flags, del.Dest.Flags...)
		}
		list = append(list, p)
	}
	return list
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(o string) bool { return strings.EqualFold(o, s) })
}

// String is the copy as it is shown to people.
func (p place) String() string {
	text := p.Target
	if p.Folder != "" {
		text += " / " + endpoint.Printable(p.Folder, 600)
	}
	if len(p.To) > 0 {
		text += "   to: " + endpoint.Printable(strings.Join(p.To, ", "), 300)
	}
	if len(p.Flags) > 0 {
		text += "   flags: " + rules.ShowFlags(p.Flags)
	}
	return text
}

// fate says what becomes of a message that is not delivered.
func fate(action rules.Action) string {
	switch action {
	case rules.Drop:
		return "dropped: never delivered, but remembered"
	case rules.Skip:
		return "left on the maildrop, and looked at again by the next run"
	case rules.NeedBody:
		return "it depends on the body, which was not read"
	}
	return ""
}

// reference takes FILE#N or ACCOUNT#N apart; n is 0 if it has no number.
func reference(text string) (name string, n int) {
	i := strings.LastIndexByte(text, '#')
	if i < 0 {
		return text, 0
	}
	if n, err := strconv.Atoi(text[i+1:]); err == nil && n > 0 {
		return text[:i], n
	}
	return text, 0
}

// wantArgs checks that there is an argument, and at most most of them; any
// number if most is negative.
func wantArgs(what string, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 || slices.Contains(args, "") {
			return &usageError{text: "which " + what + "?", hint: "See: " + cmd.CommandPath() + " --help"}
		}
		if most < 0 {
			return nil
		}
		return maxArgs(most)(cmd, args)
	}
}
