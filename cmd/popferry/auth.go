package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

const authLong = `Signs in by OAuth to accounts and targets that have oauth: in place of a
password. That is done once; the tokens lie beside the state, for popferry alone,
and renew themselves.`

const authLoginLong = `Signs in to the account or target of that name: with a code that is entered on
any device where the provider can do that for mail, else with a browser. That may
run on another machine; the address it ends at is pasted here then.`

func (a *app) authCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "auth", Short: "sign in by OAuth", Long: authLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	names := a.names(signInNames)
	cmd.AddCommand(
		&cobra.Command{
			Use: "login NAME", Short: "sign in, once", Long: authLoginLong, ValidArgsFunction: names,
			RunE: func(cmd *cobra.Command, args []string) error {
				c, list, err := a.signIns(args, 1)
				if err != nil {
					return err
				}
				return a.authLogin(cmd.Context(), c, list)
			},
		},
		&cobra.Command{
			Use: "status [NAME]", Short: "who is signed in?", ValidArgsFunction: names,
			Long: "Shows what is stored of each sign-in. No provider is asked: popferry check does that.",
			RunE: func(_ *cobra.Command, args []string) error {
				_, list, err := a.signIns(args, 0)
				if err != nil {
					return err
				}
				return a.authStatus(list)
			},
		},
		&cobra.Command{
			Use: "logout NAME", Short: "forget a sign-in", ValidArgsFunction: names,
			Long: "Forgets the tokens here. To end the sign-in at the provider as well, use its own\nsecurity page.",
			RunE: func(_ *cobra.Command, args []string) error {
				_, list, err := a.signIns(args, 1)
				if err != nil {
					return err
				}
				return a.authLogout(list)
			},
		},
	)
	return cmd
}

func signInNames(c *config.Config) []string {
	var names []string
	for _, o := range c.SignIns("") {
		if !slices.Contains(names, o.Name) {
			names = append(names, o.Name)
		}
	}
	slices.Sort(names)
	return names
}

// signIns loads the configuration and returns the sign-ins that args name, of
// which there must be at least so many; without any, all.
func (a *app) signIns(args []string, least int) (*config.Config, []*endpoint.OAuth, error) {
	if len(args) > 1 {
		return nil, nil, usagef("%q is one argument too many", endpoint.Printable(args[1], 40))
	}
	c, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	names := signInNames(c)
	there := "Accounts and targets with oauth: " + strings.Join(names, ", ")
	if len(names) == 0 {
		there = "No account or target has oauth: in " + c.File
	}
	switch {
	case len(args) < least:
		return nil, nil, &usageError{text: "which account or target?", hint: there}
	case len(args) == 0:
		return c, c.SignIns(""), nil
	case !slices.Contains(names, args[0]):
		return nil, nil, &usageError{text: fmt.Sprintf("%q has no sign-in", endpoint.Printable(args[0], 60)), hint: there}
	}
	return c, c.SignIns(args[0]), nil
}

// authLogin signs in, and tries the login that it is for.
func (a *app) authLogin(ctx context.Context, c *config.Config, list []*endpoint.OAuth) error {
	for _, o := range list {
		var err error
		if o.DeviceURL != "" {
			err = a.byCode(ctx, o)
		} else {
			err = a.byBrowser(ctx, o)
		}
		if e, stopped := interruption(ctx); stopped {
			return e
		}
		if err != nil {
			return err
		}
		a.stdout.printf("Signed in as %s. The tokens are in %s (0600).\n", endpoint.Printable(o.User, 100), o.File)
		if ends := o.Status().Ends; !ends.IsZero() {
			a.stdout.printf("The provider ends this sign-in on %s. (Google does that after 7 days while an OAuth client is in \"Testing\": publish it.)\n", ends.Local().Format(time.DateOnly))
		}
	}
	ck := &check{app: a, config: c}
	ck.live(ctx, []string{list[0].Name})
	ck.forgetRefusals(ctx)
	return ck.end(ctx)
}

func (a *app) byCode(ctx context.Context, o *endpoint.OAuth) error {
	return o.Device(ctx, func(uri, code string) {
		a.stdout.printf("1. Open %s on any device      2. Enter the code  %s\nWaiting …\n", uri, a.stdout.paint(bold, code))
	})
}

func (a *app) byBrowser(ctx context.Context, o *endpoint.OAuth) error {
	ctx, cancel := context.WithTimeout(ctx, browserTime)
	defer cancel()
	pasted := make(chan string)
	if a.stdin != nil {
		go func() { // ends with standard input, or with the process
			defer close(pasted)
			for in := bufio.NewScanner(a.stdin); in.Scan(); {
				select {
				case pasted <- in.Text():
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return o.Browser(ctx, func(address string) {
		a.stdout.printf("Open this address on any computer:\n%s\n\nIf the page then cannot reach 127.0.0.1, copy the whole address from the browser's bar and paste it here:\n", address)
	}, pasted, func(err error) { a.stdout.printf("No: %v. Once more:\n", err) })
}

// browserTime is how long a person may take.
const browserTime = 15 * time.Minute

func (a *app) authStatus(list []*endpoint.OAuth) error {
	if len(list) == 0 {
		a.stdout.print("No account or target has oauth: in the configuration.\n")
	}
	code := exitOK
	for _, o := range list {
		s := o.Status()
		name := fmt.Sprintf("%-12s %s   ", a.stdout.paint(bold, o.Name), endpoint.Printable(o.User, 100))
		if s.Err != nil {
			p := explain(s.Err, where{})
			code = worse(code, p.exit)
			a.stdout.printf("%s%s\n", name, strings.TrimPrefix(p.head, o.Name+": "))
			for _, l := range p.lines {
				a.stdout.printf("             → %s\n", l)
			}
			continue
		}
		token := "the token is renewed at the next login"
		if left := time.Until(s.Expiry); left > 0 {
			token = "the token is good for " + roughly(left)
		}
		if !s.Ends.IsZero() {
			token += " · the provider ends the sign-in on " + s.Ends.Local().Format(time.DateOnly)
		}
		a.stdout.printf("%ssigned in since %s · %s\n", name, s.Since.Local().Format(time.DateOnly), token)
	}
	if code == exitOK {
		return nil
	}
	return exit{code: code, reason: "sign-in needed"}
}

func (a *app) authLogout(list []*endpoint.OAuth) error {
	for _, o := range list {
		was, err := o.Logout()
		switch {
		case err != nil:
			return err
		case was:
			a.stdout.printf("%s: the sign-in as %s is forgotten.\n", o.Name, endpoint.Printable(o.User, 100))
		default:
			a.stdout.printf("%s: nobody was signed in.\n", o.Name)
		}
	}
	return nil
}
