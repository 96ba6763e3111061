// Command popferry fetches mail from POP3 maildrops, decides by rules where it
// goes, and delivers it to IMAP folders: once, without losing any.
//
// This package is flags, signals, environment, exit codes and the terminal. It
// moves no mail: every command loads the configuration, calls the engine
// (package fetcher) and prints.
//
// # What goes where
//
// Data goes to standard output, problems, the log and the progress bar to
// standard error, so that a pipe sees data only. Sentences begin with a small
// letter and have no full stop, except hints, which are whole sentences. What
// came from a server or from mail is escaped before it is printed.
//
// # Exit codes
//
// The codes are those of sysexits.h where one fits (exit.go). Nothing new is a
// success. Of several jobs the most serious code wins.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // times of day need zones, and a scratch image has none

	_ "golang.org/x/crypto/x509roots/fallback" // nor has it roots to check certificates with
)

func main() {
	os.Exit(run(interruptible(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// interrupted is why the context ended: a signal.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string {
	if i.sig == syscall.SIGTERM {
		return "interrupted by SIGTERM"
	}
	return "interrupted by SIGINT"
}

// interruptible returns a context that the first SIGINT or SIGTERM ends, so
// that messages in hand are finished. A second one ends the process at once,
// which is safe as a kill is safe.
func interruptible() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		first, _ := (<-signals).(syscall.Signal)
		cancel(interrupted{first})
		second, _ := (<-signals).(syscall.Signal)
		os.Exit(128 + int(second))
	}()
	return ctx
}

// run is the whole program: it returns the exit code. ctx ends with an
// interrupted as its cause. env looks up an environment variable.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	return newApp(stdin, stdout, stderr, env).main(ctx, args)
}
