package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

// ends are the flags that name a mailbox to read and one to write.
type ends struct {
	from, to side
	folder   string
}

// side is the flags of one end.
type side struct{ mailbox, file, command string }

// flags adds the flags to a command.
func (e *ends) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&e.from.mailbox, "from", "", "the `MAILDROP` to read: an account, pop3s://USER@HOST, or an address at a known provider")
	f.StringVar(&e.to.mailbox, "to", "", "the `MAILBOX` to compare or fill: a target, imaps://USER@HOST/FOLDER, maildir:PATH, or an address at a known provider")
	f.StringVar(&e.folder, "folder", "", "`NAME` of the folder there, instead of the target's own")
	f.StringVar(&e.from.file, "from-password-file", "", "`FILE` whose first line is the password of --from")
	f.StringVar(&e.from.command, "from-password-command", "", "`COMMAND` for sh -c that prints the password of --from")
	f.StringVar(&e.to.file, "to-password-file", "", "`FILE` whose first line is the password of --to")
	f.StringVar(&e.to.command, "to-password-command", "", "`COMMAND` for sh -c that prints the password of --to")
}

// given reports whether any of the flags was.
func (e *ends) given() bool { return *e != ends{} }

// parse reads one end. Its errors name the flag.
func (s *side) parse(flag string) (config.End, error) {
	if s.mailbox == "" {
		return config.End{}, &usageError{text: "--" + flag + " is missing", hint: "Both --from and --to are needed."}
	}
	e, err := config.ParseEnd(s.mailbox, flag == "from")
	if ce, ok := errors.AsType[*config.Error](err); ok {
		return e, &usageError{text: "--" + flag + ": " + ce.Text, hint: ce.Hint}
	}
	given := "file"
	if s.command != "" {
		given = "command"
	}
	switch {
	case s.file == "" && s.command == "":
	case s.file != "" && s.command != "":
		return e, usagef("--%s-password-file and --%[1]s-password-command exclude each other", flag)
	case e.Name != "":
		return e, &usageError{
			text: fmt.Sprintf("the password of %s is in the configuration", e.Name),
			hint: "Leave out --" + flag + "-password-" + given + ".",
		}
	case e.Login() == "":
		return e, usagef("%s needs no password", endpoint.Printable(e.String(), 100))
	case s.file != "":
		e.Password = endpoint.SecretFile(s.file)
	default:
		e.Password = endpoint.SecretCommand("sh", "-c", s.command)
	}
	return e, nil
}

// move makes a configuration of the one move that the flags name. It reads the
// configuration file where one of them is a name, and asks for passwords that
// are missing.
func (a *app) move(ctx context.Context, e *ends) (*config.Config, error) {
	from, err := e.from.parse("from")
	if err != nil {
		return nil, err
	}
	to, err := e.to.parse("to")
	if err != nil {
		return nil, err
	}
	c, err := a.fileFor(from, to)
	if err != nil {
		return nil, err
	}
	made, err := a.moves(ctx, c, []config.Move{{From: from, To: to, Folder: e.folder}})
	if errs, ok := errors.AsType[config.Errors](err); ok && errs[0].Code != "config-no-state" { // that one is the machine's
		return nil, a.misused(errs)
	}
	return made, err
}

// fileFor reads the configuration if an end is a name in one, or somebody asked
// for it; else, and where there is none, it is nil.
func (a *app) fileFor(all ...config.End) (*config.Config, error) {
	if a.flags.config == "" {
		if !slices.ContainsFunc(all, func(e config.End) bool { return e.Name != "" }) {
			return nil, nil //nolint:nilnil // none is needed
		}
		if _, err := a.find(); err != nil {
			return nil, nil //nolint:nilerr,nilnil // Moves says of each name that there is none
		}
	}
	return a.load()
}

// misused prints what is wrong with a move that the command line describes.
func (a *app) misused(errs config.Errors) error {
	for _, e := range errs {
		a.report(&problem{exit: exitUsage, code: e.Code, head: e.Error(), lines: hint(e.Hint)})
	}
	return exit{code: exitUsage}
}

// moves makes a configuration of moves, as config.Moves does, after it has asked
// for the passwords that are missing, each login once.
func (a *app) moves(ctx context.Context, c *config.Config, moves []config.Move) (*config.Config, error) {
	made, err := config.Moves(c, moves, a.env) // nobody types passwords for what cannot be
	if err != nil {
		return nil, err
	}
	asked, err := a.askPasswords(ctx, moves)
	if err != nil || !asked {
		return made, err
	}
	return config.Moves(c, moves, a.env)
}

// askPasswords fills in the passwords that are missing, and reports whether any
// was. What another end with the same login has is not asked for.
func (a *app) askPasswords(ctx context.Context, moves []config.Move) (asked bool, err error) {
	have := map[string]endpoint.Secret{}
	for i := range moves {
		for _, e := range []*config.End{&moves[i].From, &moves[i].To} {
			if !e.Password.IsZero() {
				have[e.Login()] = e.Password
			}
		}
	}
	told := map[string]bool{}
	fill := func(e *config.End, hint string) error {
		login := e.Login()
		if login == "" || !e.Password.IsZero() {
			return nil
		}
		if _, known := have[login]; !known {
			s, err := a.askPassword(ctx, e, told, hint)
			if err != nil {
				return err
			}
			have[login] = s
		}
		e.Password, asked = have[login], true
		return nil
	}
	for i := range moves {
		m := &moves[i]
		from, to := "Use --from-password-file FILE or --from-password-command COMMAND.", "Use --to-password-file FILE or --to-password-command COMMAND."
		if at := m.Place(); at != "" {
			from, to = at+": add a column from_password_file or from_password_command.", at+": add a column to_password_file or to_password_command."
		}
		if err := fill(&m.From, from); err != nil {
			return false, err
		}
		if err := fill(&m.To, to); err != nil {
			return false, err
		}
	}
	return asked, nil
}

// askPassword asks for one password on the terminal. told are the hints that were
// given; hint says what else can be done.
func (a *app) askPassword(ctx context.Context, e *config.End, told map[string]bool, hint string) (endpoint.Secret, error) {
	tty, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		return endpoint.Secret{}, &usageError{
			text: "there is no password for " + endpoint.Printable(e.Login(), 100) + ", and no terminal to ask for it", hint: hint,
		}
	}
	if about := e.LoginHint(); about != "" && !told[about] {
		a.stderr.print(about + "\n")
		told[about] = true
	}
	for range 2 {
		a.stderr.print("Password for " + endpoint.Printable(e.Login(), 100) + ": ")
		typed, err := readHidden(ctx, tty)
		a.stderr.print("\n")
		if err != nil {
			return endpoint.Secret{}, err
		}
		if typed != "" {
			return endpoint.SecretValue(typed), nil
		}
	}
	return endpoint.Secret{}, usagef("no password was typed for %s", endpoint.Printable(e.Login(), 100))
}

// readHidden reads a line that is not shown while it is typed. If ctx ends, the
// terminal shows again what is typed, and the error is the exit.
func readHidden(ctx context.Context, tty *os.File) (string, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	begun := make(chan struct{})
	// Nothing ends a read from a terminal: after an interrupt it is left behind, and
	// the process ends.
	go func() {
		close(begun)
		text, err := term.ReadPassword(fd)
		typed <- line{text, err}
	}()
	<-begun
	select {
	case l := <-typed:
		if l.err != nil {
			return "", &usageError{text: "no password was typed: " + plain(l.err)}
		}
		return strings.TrimRight(string(l.text), "\r\n"), nil
	case <-ctx.Done():
		if err := term.Restore(fd, before); err != nil {
			return "", fmt.Errorf("terminal: %w", err)
		}
		if e, ok := interruption(ctx); ok {
			return "", e
		}
		return "", context.Cause(ctx)
	}
}
