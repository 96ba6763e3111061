package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/rules/convert"
	"popferry/targets/endpoint"
	"popferry/targets/smtp"
)

const rulesConvertLong = `Turns a Sieve script, or the filters that Gmail exports (mailFilters.xml), into
rules: for popferry.yaml, on standard output. What cannot be carried over is named
with its line, on standard error and in a comment; then the command ends with 1.

redirect and forwarding go to the target of type smtp or lmtp, if the configuration
has just one, or to that of --smtp.`

func (a *app) rulesConvertCommand() *cobra.Command {
	var from string
	var o convert.Options
	cmd := &cobra.Command{
		Use: "convert FILE", Short: "rules from a Sieve script or Gmail's filters", Long: rulesConvertLong,
		Example: "  popferry rules convert .dovecot.sieve > rules.yaml\n  popferry rules convert mailFilters.xml",
		Args:    wantArgs("file", 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "sieve", "gmail"}, from) {
				return &usageError{text: fmt.Sprintf("--from cannot be %q", endpoint.Printable(from, 40)), hint: "It is sieve or gmail."}
			}
			if !slices.Contains([]string{"", "/", "."}, o.Separator) {
				return &usageError{text: fmt.Sprintf("--separator cannot be %q", endpoint.Printable(o.Separator, 40)), hint: "It is / or a dot."}
			}
			if o.SMTP == "" {
				o.SMTP = a.relay()
			}
			return a.convert(args[0], from, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "`WHAT` the file is: sieve or gmail (default: by its look)")
	f.StringVar(&o.SMTP, "smtp", "", "`TARGET` of type smtp or lmtp that redirected messages go to")
	f.StringVar(&o.Separator, "separator", "", "`CHARACTER` between the levels of a folder in the script, / or . (default: by its look)")
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions([]string{"sieve", "gmail"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("smtp", a.names(func(c *config.Config) []string { return sorted(c.Targets) }))
	return cmd
}

// relay is the one target of type smtp or lmtp; "" if there is none, or no
// configuration yet, or a choice.
func (a *app) relay() string {
	c, err := a.load()
	if err != nil {
		return ""
	}
	var names []string
	for _, name := range sorted(c.Targets) {
		if _, ok := c.Targets[name].Config.(*smtp.Config); ok {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return ""
	}
	return names[0]
}

// convert prints the rules that a file stands for.
func (a *app) convert(path, from string, o convert.Options) error {
	data, err := a.readInput(path)
	if err != nil {
		return err
	}
	if from == "" {
		from = convert.Guess(data)
	}
	read := convert.Sieve
	if from == "gmail" {
		read = convert.Gmail
	}
	r, err := read(data, o)
	if e, ok := errors.AsType[*convert.Error](err); ok {
		head := endpoint.Printable(path, 200)
		if e.Line > 0 {
			head += fmt.Sprintf(":%d:%d", e.Line, e.Column)
		}
		return a.cannotRead(head+": "+e.Text, from)
	}
	if err != nil {
		return err
	}
	lost := 0
	for _, n := range r.Notes {
		if n.Lost {
			lost++
		}
		a.stderr.printf("%s:%d: %s\n", endpoint.Printable(path, 200), n.Line, n.Text)
	}
	a.stdout.print(string(r.YAML()))
	if lost > 0 {
		return exit{code: exitSome, reason: count(lost, "construct") + " not carried over, as said above and in comments"}
	}
	return nil
}

// cannotRead reports a file that is not what it should be.
func (a *app) cannotRead(head, from string) error {
	what := map[string]string{"sieve": "It was read as a Sieve script.", "gmail": "It was read as filters that Gmail exported."}[from]
	a.report(&problem{exit: exitConfig, code: from + "-syntax", head: head, lines: []string{what + "  --from says otherwise."}})
	return exit{code: exitConfig, reason: "the file cannot be converted"}
}

// readInput reads a file; - is standard input. What is too large to be a filter
// is cut, and so refused.
func (a *app) readInput(path string) ([]byte, error) {
	const most = 2 << 20
	r := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, &usageError{text: plain(err), hint: "Name a Sieve script or mailFilters.xml, or - for standard input."}
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return nil, &usageError{text: plain(err)}
	}
	return data, nil
}
