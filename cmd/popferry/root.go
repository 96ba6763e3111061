package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// app is what commands share: the streams, the environment, the global flags.
type app struct {
	stdin  io.Reader
	stdout *stream
	stderr *stream
	env    func(string) (string, bool)

	withhold func(name string) // see run

	flags struct {
		config, state    string
		quiet            bool
		verbose          int
		logFormat, color string
	}
	level     slog.Level // of what is logged
	verbose   bool       // a line for each message
	logFormat string     // auto, text or json
	log       *slog.Logger
	temporary bool                // a state that will be lost with the container is fine
	machine   state.Machine       // where this process runs
	systemd   *daemon.Systemd     // who is told how serve is doing; nil for nobody
	human     bool                // summaries for people, whatever standard output is
	ended     func(exit)          // told how the command ends; nil for nobody
	watch     func(fetcher.Event) // sees every event of a run; nil for nobody
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) *app {
	both := new(screen)
	a := &app{stdin: stdin, stdout: newStream(stdout, both), stderr: newStream(stderr, both), env: env, logFormat: "auto", machine: state.Machine{Env: env}}
	a.log = a.logger()
	return a
}

// main runs the command that args name and returns the exit code, whatever
// happens.
func (a *app) main(ctx context.Context, args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			code = a.crashed(r, debug.Stack())
		}
	}()
	return a.run(ctx, args)
}

// run runs the command that args name and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && a.stdout.err != nil {
		err = fmt.Errorf("standard output: %w", a.stdout.err)
	}
	return a.end(err)
}

// end prints what is left to print of err and returns the exit code.
func (a *app) end(err error) int {
	var bad config.Errors
	e, printed := asExit(err)
	switch {
	case err == nil, printed:
	case errors.As(err, &bad):
		e = a.misconfigured(bad)
	default:
		p := explain(err, where{})
		a.report(p)
		e = exit{code: p.exit}
	}
	if a.ended != nil {
		a.ended(e)
	}
	if e.code != exitOK {
		a.last(e)
	}
	return e.code
}

// crash is a panic on its way from the goroutine where it happened.
type crash struct {
	value any
	stack []byte
}

// crashed reports a panic in plain words. The trace goes with -vv only: users
// cannot read it.
func (a *app) crashed(r any, stack []byte) int {
	if c, ok := r.(*crash); ok {
		r, stack = c.value, c.stack
	}
	if p, ok := r.(*fetcher.Panic); ok {
		r, stack = p.Value, p.Stack
	}
	a.report(&problem{
		exit: exitBug, code: "bug",
		head:  "popferry has a bug and had to stop: " + endpoint.Printable(fmt.Sprint(r), 200),
		lines: bugLines,
	})
	if a.level <= slog.LevelDebug {
		a.stderr.print(string(stack))
	}
	a.last(exit{code: exitBug})
	return exitBug
}

var bugLines = []string{
	"No mail is lost by that: what was not confirmed is still on the maildrop.",
	"Please report it with the output of: popferry -vv …, and of: popferry version",
}

const rootLong = `popferry fetches mail from POP3 maildrops, decides by rules where it goes, and
delivers it to IMAP folders: once, without losing any.

It reads popferry.yaml: from --config, $POPFERRY_CONFIG, the current directory,
$XDG_CONFIG_HOME/popferry, /config or /etc/popferry.`

const rootExample = `  popferry demo               see it work, with a mail provider of its own
  popferry check              is the configuration right, do the logins work?
  popferry run --dry-run      what would happen to every message
  popferry run                one pass over all accounts
  popferry serve              run on schedule, for good
  popferry migrate            move a whole account, once, and compare both sides
  popferry status             how it goes`

// root is the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "popferry", Short: "moves mail from POP3 to IMAP, once and without losing any",
		Long: rootLong, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			err := &usageError{text: fmt.Sprintf("there is no command %q", endpoint.Printable(args[0], 40))}
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				err.hint = fmt.Sprintf("Did you mean %q?", s[0])
			}
			return err
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.settle() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{text: endpoint.Printable(err.Error(), 200), hint: "See: " + cmd.CommandPath() + " --help"}
	})
	f := root.PersistentFlags()
	f.StringVarP(&a.flags.config, "config", "c", "", "configuration `FILE`")
	f.StringVar(&a.flags.state, "state", "", "state `FILE`, instead of the configuration's")
	f.BoolVarP(&a.flags.quiet, "quiet", "q", false, "print problems only")
	f.CountVarP(&a.flags.verbose, "verbose", "v", "a line for each message; -vv for debugging")
	f.StringVar(&a.flags.logFormat, "log-format", "", "`FORMAT` of log lines: auto, text or json (default auto)")
	f.StringVar(&a.flags.color, "color", "auto", "`WHEN` to use colours: auto, always or never")
	root.AddCommand(a.runCommand(), a.verifyCommand(), a.serveCommand(), a.statusCommand(), a.healthcheckCommand(), a.checkCommand(), a.authCommand(), a.rulesCommand(), a.heldCommand(), a.stateCommand(), a.migrateCommand(), a.notifyCommand(), a.configCommand(), a.demoCommand(), a.versionCommand())
	return root
}

// settle makes of the global flags what they stand for.
func (a *app) settle() error {
	if !slices.Contains([]string{"auto", "always", "never"}, a.flags.color) {
		return usagef("--color must be auto, always or never, not %q", a.flags.color)
	}
	if !slices.Contains([]string{"", "auto", "text", "json"}, a.flags.logFormat) {
		return usagef("--log-format must be auto, text or json, not %q", a.flags.logFormat)
	}
	if a.flags.quiet && a.flags.verbose > 0 {
		return usagef("-q and -v exclude each other")
	}
	noColor, _ := a.env("NO_COLOR")
	term, _ := a.env("TERM")
	for _, s := range []*stream{a.stdout, a.stderr} {
		s.dumb = term == "dumb"
		s.color = a.flags.color == "always" || a.flags.color == "auto" && s.tty && !s.dumb && noColor == ""
	}
	switch {
	case a.flags.quiet:
		a.level = slog.LevelWarn
	case a.flags.verbose > 1:
		a.level = slog.LevelDebug
	}
	a.verbose = a.flags.verbose > 0
	a.logFormat = cmp.Or(a.flags.logFormat, "auto")
	a.log = a.logger()
	return nil
}

// noArgs and maxArgs check positional arguments in our words.
func noArgs(cmd *cobra.Command, args []string) error { return maxArgs(0)(cmd, args) }

func maxArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return &usageError{
			text: fmt.Sprintf("%q is one argument too many", endpoint.Printable(args[n], 40)),
			hint: "See: " + cmd.CommandPath() + " --help",
		}
	}
}
