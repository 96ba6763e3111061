package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

const demoLong = `Starts a POP3 server with some thirty messages and an IMAP server, both in this
process and on loopback, writes a configuration for them into a temporary
directory, and runs popferry on it twice. Nothing of it stays behind.

--break shows how a fault is met. The first pass has it, the second has not; then
every message is accounted for.
`

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	var broken string
	cmd := &cobra.Command{
		Use: "demo", Short: "see it work, with a mail provider of its own", Args: noArgs,
		Long: demoLong + faultList(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.flags.config != "" || a.flags.state != "" {
				return usagef("demo brings a configuration and a state of its own: leave --config and --state out")
			}
			d := &demo{app: a, seen: map[string]int{}}
			if broken != "" {
				if d.fault = faultNamed(broken); d.fault == nil {
					return &usageError{text: fmt.Sprintf("--break cannot be %q", endpoint.Printable(broken, 40)), hint: "It is one of " + strings.Join(faultNames(), ", ") + "."}
				}
			}
			defer d.stop()
			if err := d.start(); err != nil {
				return err
			}
			return d.show(cmd.Context(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-running", false, "leave the servers up until Ctrl-C, to play with")
	cmd.Flags().StringVar(&broken, "break", "", "the `FAULT` to show: "+strings.Join(faultNames(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("break", cobra.FixedCompletions(faultNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// show is what the user sees.
func (d *demo) show(ctx context.Context, keep bool) error {
	d.stdout.printf("A provider with %s (POP3, port %d), a mailbox (IMAP, port %d), and\n%s:\n\n",
		count(len(d.mail), "message"), d.pop.Port(), d.box.Port(), d.path)
	for line := range strings.Lines(d.configuration()) {
		d.stdout.print("    " + line)
	}
	d.stdout.print("\n")
	d.breakNow()
	code := d.popferry(ctx, "run")
	if e, stopped := interruption(ctx); stopped {
		return e
	}
	if d.fault != nil {
		d.repair(code)
	} else {
		d.stdout.print("\nWhat went where, and why:\n")
		d.places()
	}
	d.stdout.print("\nOnce more:\n")
	again := d.popferry(ctx, "run")
	if e, stopped := interruption(ctx); stopped {
		return e
	}
	d.stdout.print("\n")
	if err := d.account(); err != nil {
		return err
	}
	if again != exitOK {
		return exit{code: exitBug, reason: "the second pass should have ended with 0"}
	}
	if keep {
		d.wait(ctx)
	}
	return nil
}

// popferry runs a command just as the shell would.
func (d *demo) popferry(ctx context.Context, args ...string) int {
	d.stdout.print("$ popferry " + strings.Join(args, " ") + "\n")
	global := []string{"--config", d.path, "--color", d.flags.color}
	if d.flags.quiet {
		global = append(global, "--quiet")
	}
	for range d.flags.verbose {
		global = append(global, "--verbose")
	}
	if d.flags.logFormat != "" {
		global = append(global, "--log-format", d.flags.logFormat)
	}
	sub := newApp(d.stdin, d.stdout.w, d.stderr.w, d.env)
	sub.human, sub.watch, sub.temporary = true, d.watch, true
	return sub.run(ctx, append(global, args...))
}

func (d *demo) watch(e fetcher.Event) { d.events = append(d.events, e) }

// places prints a line for each message of the passes so far.
func (d *demo) places() {
	rows := [][]string{{"FROM", "SUBJECT", "→ FOLDER", "RULE"}}
	slices.SortStableFunc(d.events, func(a, b fetcher.Event) int { return strings.Compare(a.UIDL, b.UIDL) })
	for _, e := range d.events {
		folder := "→ " + endpoint.Printable(e.Folder, 60)
		switch e.Kind {
		case fetcher.Dropped:
			folder = "(dropped)"
		case fetcher.Delivered, fetcher.Duplicate:
		default:
			continue
		}
		rule := e.Rule
		if rule == "" {
			rule = "(default)"
		}
		from, subject := endpoint.Printable(e.From(), 60), endpoint.Printable(e.Subject(), 80)
		if from+subject == "" {
			from, subject = "–", "–"
		}
		rows = append(rows, []string{from, subject, folder, rule})
	}
	table(d.stdout, rows, 34)
}

// wait leaves the servers up until the user has had enough.
func (d *demo) wait(ctx context.Context) {
	d.stdout.printf(`The servers stay up until Ctrl-C. From another terminal:

  popferry -c %[1]s run              one more pass
  popferry -c %[1]s run --dry-run    what it would do
  popferry -c %[1]s check            the servers
  popferry -c %[1]s state list       what is remembered
  popferry -c %[1]s state show isp   of each message
  cp some.eml %[2]s/    new mail: the next run fetches it
  curl -u %[3]s:%[4]s imap://%[5]s/  the mailbox's folders

`, d.path, filepath.Join(d.dir, "new"), demoUser, demoPassword, d.box.Addr())
	<-ctx.Done()
}
