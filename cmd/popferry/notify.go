package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/targets/endpoint"
)

const notifyTestLong = `Sends a test to everybody who stands under notify in the configuration, and says
how that went. A check of Healthchecks does not change by it. It ends with 1 if
somebody could not be told.`

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "notify", Short: "who is told when something fails", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "test", Short: "send everybody a test", Long: notifyTestLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			a.warn(c)
			return a.notifyTest(cmd.Context(), c)
		},
	})
	return cmd
}

// notifyTest prints a line for everybody.
func (a *app) notifyTest(ctx context.Context, c *config.Config) error {
	if len(c.Notify) == 0 {
		return &config.Error{
			Code: "notify-nobody", Text: "nobody is to be notified: " + c.File + " has no notify",
			Hint: "For example:\nnotify:\n  - type: ntfy\n    url: https://ntfy.sh/a-topic-that-nobody-guesses",
		}
	}
	n := &daemon.Notifier{Env: a.env}
	n.Use(c)
	failed := 0
	n.Test(ctx, func(name string, err error) {
		mark := a.stdout.paint(green, "ok  ")
		text := name
		if err != nil {
			failed++
			mark, text = a.stdout.paint(red, "FAIL"), name+"   "+endpoint.Printable(err.Error(), 300)
		}
		a.stdout.printf("%s  %s\n", mark, text)
	})
	if e, stopped := interruption(ctx); stopped {
		return e
	}
	if failed > 0 {
		return exit{code: exitSome, reason: fmt.Sprintf("%d of %d could not be told", failed, len(c.Notify))}
	}
	return nil
}

// notifier returns what tells people of passes, and how to end it: it then sends
// what is left, which takes ten seconds at most.
func (a *app) notifier(c *config.Config) (n *daemon.Notifier, end func()) {
	n = &daemon.Notifier{File: a.statePath(c) + ".notified", Log: a.log, Env: a.env}
	n.Use(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	return n, func() {
		cancel()
		<-done
	}
}

// begins lets n know of passes that begin.
func begins(n *daemon.Notifier) func(fetcher.Event) {
	return func(e fetcher.Event) {
		if e.Kind == fetcher.PassStart {
			n.PassStart(e.Job, e.Account, e.Pass)
		}
	}
}

// notifying tells people of the passes of a run until the function that it
// returns is called.
func (a *app) notifying(c *config.Config, r *runner) (end func()) {
	if len(c.Notify) == 0 {
		return func() {}
	}
	n, end := a.notifier(c)
	r.begins, r.history.Done = begins(n), n.PassDone
	n.Attention(a.doubtful(c))
	return end
}
