package main

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

// migrateOptions are the flags of migrate.
type migrateOptions struct {
	ends     ends
	accounts string // a table of moves
	parallel int
	report   string

	dryRun, yes, json, progress, newState bool

	keep, since, rate, verify string
	patience                  time.Duration
	asks                      <-chan os.Signal // for progress
}

// What --verify may say.
const (
	verifyYes  = "yes"
	verifyDeep = "deep"
	verifyNo   = "no"
)

const migrateLong = `Moves all that lies on a maildrop to a target: shows what there is to do, asks,
copies it, and compares both sides in the end. --from and --to are names of the
configuration, or addresses, and then no configuration is needed:

  popferry migrate --from pop3s://jane@pop.isp.example --to imaps://jane@imap.home.example

Passwords are asked for, or come from files or commands. Interrupted or killed, the
same command goes on where it ended, and nothing comes twice. It paces itself by --rate
and by what the servers say, and waits for servers in trouble.

Nothing is deleted unless --keep says so, and then only what was compared.

--accounts is a table of many accounts, a CSV file with the columns from and to, and
if wanted folder, from_password_file, from_password_command, to_password_file,
to_password_command.`

func (a *app) migrateCommand() *cobra.Command {
	var o migrateOptions
	cmd := &cobra.Command{
		Use: "migrate", Short: "move whole accounts, and compare both sides", Long: migrateLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd.Flags().Changed, a); err != nil {
				return err
			}
			if !cmd.Flags().Changed("progress") {
				o.progress = a.stderr.tty && !a.stderr.dumb && !o.json
			}
			if o.json {
				a.ended = (&jsonView{w: a.stdout}).exit
			}
			o.asks = asked()
			return a.migrate(cmd.Context(), o)
		},
	}
	o.ends.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.accounts, "accounts", "", "`FILE` with a table of accounts to move, in place of --from and --to")
	f.IntVar(&o.parallel, "parallel", 8, "move `N` accounts at a time")
	f.StringVar(&o.report, "report", "", "write what became of each account to `FILE`, .csv or .json, and of each message beside it")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what there is to do, and change nothing anywhere")
	f.BoolVarP(&o.yes, "yes", "y", false, "begin without asking")
	f.StringVar(&o.keep, "keep", "forever", "what `STAYS` on the maildrop: forever, 0d (what was copied and compared is deleted), 30d")
	f.StringVar(&o.since, "since", "", "leave alone what came before `DAY`: 2026-01-31")
	f.StringVar(&o.rate, "rate", "", "how much goes to the target at `MOST`, instead of its own rate: 500M/day, 2M/s, 100/min, or none")
	f.StringVar(&o.verify, "verify", verifyYes, "how to `COMPARE` both sides at the end: yes (Message-IDs and sizes), deep (all contents) or no")
	f.DurationVar(&o.patience, "patience", 10*time.Minute, "give up when nothing has moved for this `TIME`; 0s gives up at once")
	f.BoolVar(&o.json, "json", false, "print a JSON object a line")
	f.BoolVar(&o.progress, "progress", false, "show progress: a bar on a terminal (there it is the default), else a log line every 5 seconds")
	f.BoolVar(&o.newState, "new-state", false, "start anew where the state is missing or damaged; messages already in the target are recognised by Message-ID")
	f.BoolVar(&a.temporary, "allow-temporary-state", false, temporaryUsage)
	return cmd
}

// check refuses flags that make no sense.
func (o *migrateOptions) check(changed func(string) bool, a *app) error {
	switch {
	case o.accounts != "" && o.ends.given():
		return usagef("--accounts has its own columns for what the other flags say: leave out --from, --to, --folder and their passwords")
	case o.accounts == "" && changed("parallel"):
		return usagef("--parallel has a meaning with --accounts only")
	case o.parallel < 1 || o.parallel > 100:
		return usagef("--parallel must be between 1 and 100")
	case !slices.Contains([]string{verifyYes, verifyDeep, verifyNo}, o.verify):
		return usagef("--verify must be yes, deep or no, not %q", endpoint.Printable(o.verify, 40))
	case o.patience < 0 || o.patience > 24*time.Hour:
		return usagef("--patience must be between 0s and 24h")
	case o.dryRun && o.newState:
		return usagef("--new-state has no meaning with --dry-run, which changes nothing")
	case o.dryRun && o.report != "":
		return usagef("--report has no meaning with --dry-run, which changes nothing")
	case !o.dryRun && !o.yes && !interactive(a.stdin):
		return &usageError{text: "there is no terminal to ask whether to begin", hint: "Add --yes to begin without asking, or --dry-run to see what there is to do."}
	}
	if _, err := config.ParseKeep(o.keep); err != nil {
		return usagef("--keep %v", err)
	}
	if _, err := config.ParseRates(cmp.Or(o.rate, "none")); err != nil {
		return usagef("--rate %v", err)
	}
	if _, err := config.ParseFirstRun(o.first(), time.UTC); err != nil {
		return usagef("--since must be a day such as 2026-01-31")
	}
	return checkReport(o.report)
}

// first is what --since says as first_run does.
func (o *migrateOptions) first() string {
	if o.since == "" {
		return "all"
	}
	return "since:" + o.since
}

// migrate does what the command says.
func (a *app) migrate(ctx context.Context, o migrateOptions) error {
	c, err := a.movesOf(ctx, &o)
	if err != nil {
		return err
	}
	o.apply(c)
	if err := o.oneTargetOnly(c); err != nil {
		return err
	}
	a.warn(c)
	if a.level <= slog.LevelInfo && a.logFormat == "auto" {
		defer context.AfterFunc(ctx, func() {
			a.stderr.print("interrupted: finishing what is in hand; once more stops at once\n")
		})()
	}
	if interactive(a.stdin) {
		c.Logins.Forgive() // somebody has just typed it, or sits before it
	}
	m := newMover(a, c, o)
	if o.dryRun || !o.yes {
		if begin, err := m.plan(ctx); err != nil || !begin {
			return err
		}
	}
	return m.run(ctx)
}

// movesOf makes the configuration of what is to be moved.
func (a *app) movesOf(ctx context.Context, o *migrateOptions) (*config.Config, error) {
	if o.accounts == "" {
		return a.move(ctx, &o.ends)
	}
	return a.moveTable(ctx, o.accounts)
}

// apply lets the flags say what they say. What bounds one pass only would have
// passes follow each other for nothing.
func (o *migrateOptions) apply(c *config.Config) {
	keep, _ := config.ParseKeep(o.keep) // check has seen them
	keep.Final = true
	first, _ := config.ParseFirstRun(o.first(), c.Location)
	for _, account := range c.Accounts {
		account.Keep, account.FirstRun = keep, first
		account.Limits.Messages, account.Limits.Bytes = 0, 0
	}
	if o.rate == "" {
		return
	}
	rates, _ := config.ParseRates(o.rate)
	for _, t := range c.Targets {
		t.Rates = rates
	}
}

// oneTargetOnly refuses to delete what a second target still needs: the moves of a
// maildrop know nothing of each other.
func (o *migrateOptions) oneTargetOnly(c *config.Config) error {
	first := map[string]*config.Job{}
	for _, j := range c.Jobs {
		a := j.Accounts[0]
		other := first[a.Source()]
		if first[a.Source()] = j; other == nil {
			continue
		}
		name, to := endpoint.Printable(a.Name, 80), endpoint.Printable(other.Targets[0], 80)+" and to "+endpoint.Printable(j.Targets[0], 80)
		switch {
		case a.Consumes:
			return &usageError{
				text: name + " goes to " + to + ", but its server shows each message only once",
				hint: "Write a configuration with one job that has both targets, and use popferry run.",
			}
		case !a.Keep.Forever:
			return &usageError{
				text: name + " goes to " + to + ": --keep " + o.keep + " would delete what the second has not got",
				hint: "Leave --keep out. When all targets have it, delete with --keep and one of them.",
			}
		}
	}
	return nil
}

// interactive reports whether somebody can answer.
func interactive(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// answered reports whether a person says yes to a question, after which a line is
// read. If ctx ends before, the error is the exit.
func (a *app) answered(ctx context.Context, question string) (bool, error) {
	a.stderr.print(question)
	typed := make(chan string, 1)
	go func() { // left behind by an interrupt: nothing ends a read from a terminal
		line, _ := bufio.NewReader(a.stdin).ReadString('\n')
		typed <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-typed:
		return line == "y" || line == "yes", nil
	case <-ctx.Done():
		a.stderr.print("\n")
		if e, ok := interruption(ctx); ok {
			return false, e
		}
		return false, context.Cause(ctx)
	}
}

// moveTable makes a configuration of a table of moves. It reads the configuration
// file where a name of it is used, and asks for passwords that are missing.
func (a *app) moveTable(ctx context.Context, file string) (*config.Config, error) {
	in, err := a.input(file)
	if err != nil {
		return nil, &usageError{text: "--accounts: " + plain(err)}
	}
	defer in.Close()
	rows, err := config.ReadMoves(file, in)
	if err != nil {
		return nil, err
	}
	moves := make([]config.Move, len(rows))
	ends := make([]config.End, 0, 2*len(rows))
	for i, r := range rows {
		moves[i] = r.Move
		ends = append(ends, r.Move.From, r.Move.To)
	}
	c, err := a.fileFor(ends...)
	if err != nil {
		return nil, err
	}
	return a.moves(ctx, c, moves)
}
