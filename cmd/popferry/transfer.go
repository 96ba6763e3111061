package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

func (a *app) stateExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export [ACCOUNT]", Short: "write all that is remembered, as JSON lines",
		Long: "Writes all that is remembered to standard output, a JSON object a line. It can be read\nin again with popferry state import. It works at any time, also beside a run.",
		Args: maxArgs(1), ValidArgsFunction: a.names(accountNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.remember(cmd.Context(), func(m *memory) error {
				if m.store == nil {
					return nil
				}
				var sources []string
				if len(args) > 0 {
					if _, err := m.account(args[0]); err != nil {
						return err
					}
					for _, s := range m.accounts {
						if s.Name == args[0] {
							sources = append(sources, s.Source)
						}
					}
				}
				return m.store.Export(cmd.Context(), m.stdout, sources...)
			})
		},
	}
}

const importLong = `Reads what popferry state export wrote, or a list of UIDLs, one a line, or JSON lines
that have at least a "uidl" each. FILE may be - for standard input. What is known
already stays as it is.

A message without deliveries is never fetched, and never deleted from the maildrop.
Until the next run is done, what it fetches is compared with what lies in the target:
mail that was delivered after the export was written does not come twice.

With --from FILE is what another program remembers: the .fetchids of fetchmail, an
oldmail-SERVER-PORT-USER of getmail, the uidls_file of mpop, the cache of a pop3 account
of fdm. Its ids are compared with what lies on the maildrop now, and the messages that
they stand for are remembered.

first_run has no effect on an account of which something was imported.`

func (a *app) stateImportCommand() *cobra.Command {
	var dryRun, newState bool
	var from foreign
	cmd := &cobra.Command{
		Use: "import [ACCOUNT] FILE", Short: "read an export, a list of UIDLs, or what another program remembers", Long: importLong,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{text: "which file?", hint: "See: popferry state import --help"}
			}
			return maxArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun && newState {
				return usagef("--new-state has no meaning with --dry-run, which changes nothing")
			}
			if cmd.Flags().Changed("from") && from.program != fromExport {
				return a.importForeign(cmd.Context(), args, from, decision{dryRun: dryRun, newState: newState, create: true})
			}
			if from.owner != "" {
				return usagef("--of has a meaning with --from fetchmail, getmail or mpop only")
			}
			file := args[len(args)-1]
			e, err := a.readExport(file)
			if err != nil {
				return err
			}
			return a.decide(cmd.Context(), decision{dryRun: dryRun, newState: newState, create: true}, func(m *memory) error {
				account := ""
				if len(args) == 2 {
					account = args[0]
				}
				return m.adopt(cmd.Context(), e, account, file, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change, and change nothing")
	cmd.Flags().BoolVar(&newState, "new-state", false, "start anew where the state is missing or damaged")
	cmd.Flags().StringVar(&from.program, "from", fromExport, "`PROGRAM` that wrote the file: fetchmail, getmail, mpop, fdm, or jsonl for an export or a list")
	cmd.Flags().StringVar(&from.owner, "of", "", "`USER@HOST` that the file names the account by, where the configuration has another name for it")
	return cmd
}

// input opens a file, or standard input for "-".
func (a *app) input(file string) (io.ReadCloser, error) {
	switch {
	case file != "-":
		return os.Open(file)
	case a.stdin == nil:
		return io.NopCloser(strings.NewReader("")), nil
	}
	return io.NopCloser(a.stdin), nil
}

// readExport reads a file, or standard input.
func (a *app) readExport(file string) (*state.Exported, error) {
	in, err := a.input(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	e, err := state.ReadExport(in)
	var pe *fs.PathError
	if err == nil || errors.As(err, &pe) || errors.Is(err, io.ErrUnexpectedEOF) {
		return e, err
	}
	return nil, &usageError{
		text: endpoint.Printable(file, 100) + ": " + plain(err),
		hint: "Nothing was imported. It must be an export, or a list of UIDLs, one a line.",
	}
}

// adopt imports what a file holds.
func (m *memory) adopt(ctx context.Context, e *state.Exported, account, file string, dryRun bool) error {
	accounts, err := m.choose(e, account, file)
	if err != nil {
		return err
	}
	var changes []state.Change
	if !e.Clock.IsZero() {
		changes = append(changes, state.Clock{Now: e.Clock})
	}
	var text strings.Builder
	for _, x := range accounts {
		known, err := m.known(ctx, x.Source)
		if err != nil {
			return err
		}
		missing := known.Missing(x.Records)
		changes = append(changes, state.Imported{Account: &state.Account{Source: x.Source, Name: x.Name}, Records: missing, At: time.Now()})
		text.WriteString(imported(x, missing, dryRun))
	}
	if len(accounts) == 0 {
		text.WriteString("there is nothing in it\n")
	}
	if !dryRun {
		if err := m.store.Put(ctx, changes...); err != nil {
			return err
		}
	}
	m.stdout.print(text.String())
	return nil
}

// imported says what becomes of an account's records.
func imported(x state.ExportedAccount, missing []state.Record, dryRun bool) string {
	marked := 0
	for _, r := range missing {
		if r.Status == state.StatusMarked {
			marked++
		}
	}
	verb := "imported"
	if dryRun {
		verb = "would be imported"
	}
	text := fmt.Sprintf("%s: %s %s", endpoint.Printable(x.Name, 60), count(len(missing), "message"), verb)
	if marked > 0 {
		text += fmt.Sprintf(", %s without deliveries: never fetched, never deleted", humanize.Comma(int64(marked)))
	}
	if n := len(x.Records) - len(missing); n > 0 {
		text += fmt.Sprintf("; %s known already", wereOrWas(n))
	}
	return text + "\n"
}

// choose returns the accounts of a file to import, with source and name. With a
// name it is the one account of that name, or the only one there is.
func (m *memory) choose(e *state.Exported, name, file string) ([]state.ExportedAccount, error) {
	file = endpoint.Printable(file, 100)
	if name == "" {
		for i := range e.Accounts {
			x := &e.Accounts[i]
			if x.Source == "" {
				return nil, &usageError{text: file + " does not say of which account it is", hint: "popferry state import ACCOUNT " + file}
			}
			for _, n := range m.configuredNames() {
				if m.source(n) == x.Source {
					x.Name = n
				}
			}
		}
		return e.Accounts, nil
	}
	source := m.source(name)
	if source == "" {
		s, err := m.account(name)
		if err != nil {
			_, err = m.configured(name)
			return nil, err
		}
		source = s.Source
	}
	var fits []state.ExportedAccount
	for _, x := range e.Accounts {
		if len(e.Accounts) == 1 || x.Source == source {
			x.Source, x.Name = source, name
			fits = append(fits, x)
		}
	}
	if len(fits) == 0 && len(e.Accounts) > 0 {
		return nil, &usageError{
			text: fmt.Sprintf("%s holds %s, but not the maildrop of %s", file, count(len(e.Accounts), "account"), name),
			hint: "Leave the account out to import all of them.",
		}
	}
	return fits, nil
}

func (m *memory) configuredNames() []string {
	if m.config == nil {
		return nil
	}
	return sorted(m.config.Accounts)
}
