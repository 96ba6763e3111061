package main

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
)

const verifyLong = `Compares every message on the maildrop of a job's accounts with what lies in the
targets that should have it, each with a copy of its own: the one that was recorded,
else one with its Message-ID and size, else one with its contents. What is not in its
folder is looked for in all others. --deep compares the contents of all.

What is missing (-), different (*) or unreadable (!) is listed, and the exit code is 1.
Nothing is changed, not even a flag. It works at any time, also beside serve, and
without a state: where nothing is recorded of a message, the rules say where it belongs.

--from and --to name the two mailboxes themselves, by their names in the configuration
or by addresses, which need none; passwords are asked for. Where a migration of the
same two has recorded what it did, that is used.`

const verifyExample = `  popferry verify isp-to-home
  popferry verify --from isp --to home --folder Old
  popferry verify --from pop3s://jane@pop.isp.example --to imaps://jane@imap.home.example/INBOX`

func (a *app) verifyCommand() *cobra.Command {
	var deep, asJSON bool
	var e ends
	cmd := &cobra.Command{
		Use: "verify [JOB…]", Short: "is every message of the accounts in the targets?", Long: verifyLong, Example: verifyExample,
		ValidArgsFunction: a.names(jobNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON {
				a.ended = (&jsonView{w: a.stdout}).exit
			}
			if e.given() {
				if len(args) > 0 {
					return &usageError{text: "a job has its own accounts and targets", hint: "Name the job, or --from and --to."}
				}
				c, err := a.move(cmd.Context(), &e)
				if err != nil {
					return err
				}
				return a.verifyJobs(cmd.Context(), c, c.Jobs, deep, asJSON)
			}
			c, err := a.load()
			if err != nil {
				return err
			}
			jobs, err := choose(c, args)
			if err != nil {
				return err
			}
			return a.verifyJobs(cmd.Context(), c, jobs, deep, asJSON)
		},
	}
	e.flags(cmd)
	cmd.Flags().BoolVar(&deep, "deep", false, "compare the contents of every message")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}

// verifyJobs verifies every account of the jobs, one after the other. They have
// one state in common.
func (a *app) verifyJobs(ctx context.Context, c *config.Config, jobs []*config.Job, deep, asJSON bool) (err error) {
	f := &fetcher.Fetcher{Log: a.log, DryRun: true}
	if f.State, err = view(ctx, cmp.Or(a.flags.state, jobs[0].State, c.State)); err != nil {
		return err
	}
	if f.State != nil {
		defer f.State.Close()
	}
	if f.Targets, err = c.Open(a.log); err != nil {
		return err
	}
	defer func() {
		for _, t := range f.Targets {
			t.Close()
		}
	}()
	ended := exit{}
	for _, j := range jobs {
		for _, account := range j.Accounts {
			e := a.verifyAccount(ctx, f, c, j, account, deep, asJSON)
			if worse(e.code, ended.code) != ended.code {
				ended = e
			}
			if ctx.Err() != nil {
				return e
			}
		}
	}
	if ended.code == exitOK {
		return nil
	}
	return ended
}

// verifyAccount verifies one account and prints what was found.
func (a *app) verifyAccount(ctx context.Context, f *fetcher.Fetcher, c *config.Config, j *config.Job, account *fetcher.Account, deep, asJSON bool) exit {
	proof, err := f.Verify(ctx, &j.Job, account, fetcher.VerifyOptions{Deep: deep})
	if err == nil {
		if asJSON {
			a.stdout.jsonProof(&proof)
		} else {
			a.proven(&proof, deep)
		}
		return verdict(&proof)
	}
	if e, stopped := interruption(ctx); stopped {
		return e
	}
	p := explainMove(c, account, err)
	if p.exit == exitSome { // that would say that messages are missing
		p.exit = exitUnreachable
	}
	a.report(p)
	return exit{code: p.exit}
}

// explainMove puts an error into words that may be the maildrop's or a target's.
func explainMove(c *config.Config, account *fetcher.Account, err error) *problem {
	at := where{account: account}
	if te, ok := errors.AsType[*fetcher.TargetError](err); ok {
		at.target = te.Target
		if target := c.Targets[te.Target]; target != nil {
			at.server = target.Server
		}
	}
	p := explain(err, at)
	if c.File == "" {
		for i, l := range p.lines {
			p.lines[i] = inAddresses.Replace(l)
		}
	}
	return p
}

// inAddresses puts hints about a configuration into the words of addresses.
var inAddresses = strings.NewReplacer(
	"110 with tls: starttls", "110 with pop3+starttls://", "143 with tls: starttls", "143 with imap+starttls://",
	"tls: starttls", "pop3+starttls:// or imap+starttls://", "tls: implicit", "pop3s:// or imaps://", "tls: none, written out,", "+plain://",
	"spelling of host:", "spelling of the host",
)
