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
	"sync"
	"syscall"
	_ "time/tzdata" // times of day need zones, and a scratch image has none

	_ "golang.org/x/crypto/x509roots/fallback" // nor has it roots to check certificates with
)

func main() {
	e := &environment{held: map[string]string{}}
	os.Exit(run(interruptible(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, e.lookup, e.withhold))
}

// environment is the process's, without the variables that are withheld from
// the commands it starts: password commands and whatever these start.
type environment struct {
	mu   sync.Mutex
	held map[string]string
}

func (e *environment) lookup(name string) (string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := e.held[name]; ok {
		return v, true
	}
	return os.LookupEnv(name)
}

func (e *environment) withhold(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := os.LookupEnv(name); ok {
		e.held[name] = v
		_ = os.Unsetenv(name) // it was set, so its name is one
	}
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
// interrupted as its cause. env looks up an environment variable; withhold keeps
// one from commands that are started, and may be nil.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool), withhold func(string)) int {
	a := newApp(stdin, stdout, stderr, env)
	a.withhold = withhold
	return a.main(ctx, args)
}
