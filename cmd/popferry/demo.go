package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/endpoint"
	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
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
			if err := d.start(); err != nil {
				return err
			}
			defer d.stop()
			return d.show(cmd.Context(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-running", false, "leave the servers up until Ctrl-C, to play with")
	cmd.Flags().StringVar(&broken, "break", "", "the `FAULT` to show: "+strings.Join(faultNames(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("break", cobra.FixedCompletions(faultNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

const (
	demoUser     = "jane"
	demoPassword = "demo"
)

// demo is a mail provider, a mailbox, and a configuration that joins them.
type demo struct {
	*app
	fault *fault // nil for none
	dir   string
	path  string // of the configuration
	pop   *maildroptest.Server
	box   mailbox

	mu     sync.Mutex
	mail   []corpus.Message // all that was ever put into the maildrop
	broken bool             // the fault is on
	seen   map[string]int   // POP3 commands, by session and verb
	events []fetcher.Event  // of the passes so far
}

// mailbox is an IMAP server to deliver to.
type mailbox interface {
	Start() error
	Addr() string
	Port() int
	Close() error
}

// start starts the servers and writes the configuration.
func (d *demo) start() (err error) {
	if d.dir, err = os.MkdirTemp("", "popferry-demo-"); err != nil {
		return err
	}
	d.pop = maildroptest.New(demoUser, demoPassword)
	d.pop.Hook = d.popHook
	d.box = &targetstest.Memory{User: demoUser, Password: demoPassword, Plus: true}
	if d.fault != nil && d.fault.imap != nil {
		d.box = &targetstest.IMAP{
			User: demoUser, Password: demoPassword,
			Caps: "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ UIDPLUS NAMESPACE", Hook: d.imapHook,
		}
	}
	if err := d.pop.Start(); err != nil {
		return err
	}
	if err := d.box.Start(); err != nil {
		return err
	}
	for i, m := range corpus.Varied() {
		d.add(fmt.Sprintf("0001a7%02x", i), m)
	}
	d.path = filepath.Join(d.dir, "popferry.yaml")
	if err := os.Mkdir(filepath.Join(d.dir, "new"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(d.path, []byte(d.configuration()), 0o600)
}

func (d *demo) stop() {
	d.pop.Close()
	d.box.Close()
	os.RemoveAll(d.dir)
}

// add puts a message into the maildrop. POP3 sends whole lines only, so what
// does not end in CRLF lies there with one.
func (d *demo) add(uidl string, m corpus.Message) {
	if len(m.Raw) > 0 && !bytes.HasSuffix(m.Raw, []byte("\r\n")) {
		m.Raw = append(bytes.Clone(m.Raw), "\r\n"...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mail = append(d.mail, m)
	d.pop.Add(demoUser, uidl, m.Raw)
}

const demoConfig = `accounts:
  isp:                        # the maildrop
    host: 127.0.0.1
    port: %d
    tls: none                 # only because this never leaves the machine
    user: jane
    password: demo
    keep: forever             # or 0d, 30d: what stays on the server
targets:
  home:                       # where mail goes
    host: 127.0.0.1
    port: %d
    tls: none
    user: jane
    password: demo
rules:                        # top to bottom, the first match wins
  - name: spam
    if: { header: { X-Spam-Flag: "YES" } }
    then: { drop: yes }
  - name: invoices
    if: { subject: { regex: '(?i)\b(invoice|rechnung)\b' } }
    then: { folder: Finance/Invoices, flags: [flagged] }
  - name: lists
    if: { list_id: "*" }
    then: { folder: "Lists/${list_name}" }
  - name: builds
    if: { from: "noreply+ci@*" }
    then: { folder: Builds, flags: [seen] }
jobs:
  - from: isp
    to: home
state: popferry.db
`

func (d *demo) configuration() string {
	text := fmt.Sprintf(demoConfig, d.pop.Port(), d.box.Port())
	if d.fault != nil && d.fault.account != "" {
		text = strings.Replace(text, "    keep: forever", "    "+d.fault.account+"\n    keep: forever", 1)
	}
	return text
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
	sub.human, sub.watch = true, d.watch
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
		from, subject := endpoint.Printable(e.From, 60), endpoint.Printable(e.Subject, 80)
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

// arrivals puts the files in the directory "new" into the maildrop. Files that
// are there already are in it already.
func (d *demo) arrivals() {
	files, _ := filepath.Glob(filepath.Join(d.dir, "new", "*"))
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		d.add(fmt.Sprintf("0001b7%02x", len(d.mail)), corpus.Message{Name: filepath.Base(path), Raw: raw})
		os.Remove(path)
	}
}
