package main

import (
	"context"
	"errors"
	"fmt"

	"popferry/fetcher/daemon"
)

// Exit codes. Scripts, cron and systemd rely on them; they never change their
// meaning.
const (
	exitOK          = 0   // finished; nothing new is fine, too
	exitSome        = 1   // finished, but some messages failed or are held
	exitUsage       = 64  // wrong command line
	exitUnreachable = 69  // a server could not be reached
	exitBug         = 70  // a bug in popferry
	exitState       = 74  // local disk or state
	exitLater       = 75  // try later: locked, [IN-USE], LOGIN-DELAY
	exitLogin       = 77  // login refused
	exitConfig      = 78  // configuration error
	exitInt         = 130 // interrupted by SIGINT
	exitTerm        = 143 // interrupted by SIGTERM
)

// worse returns the more serious of two exit codes.
func worse(a, b int) int { return daemon.Worse(a, b) }

// reasons are what the last line says of a code when nothing better is known.
var reasons = map[int]string{
	exitSome:        "some messages failed or are held",
	exitUsage:       "wrong command line",
	exitUnreachable: "a server could not be reached",
	exitBug:         "a bug in popferry",
	exitState:       "the state or the disk cannot be used",
	exitLater:       "try again later",
	exitLogin:       "login refused",
	exitConfig:      "configuration error",
	exitInt:         "interrupted; it is safe to start again",
	exitTerm:        "interrupted; it is safe to start again",
}

// exit ends a command whose problems have been printed. It is an error so that
// commands can return it.
type exit struct {
	code   int
	reason string // for the last line; "" is the code's own
}

func (e exit) Error() string {
	reason := e.reason
	if reason == "" {
		reason = reasons[e.code]
	}
	return fmt.Sprintf("exit %d: %s", e.code, reason)
}

// usageError is a command line that makes no sense.
type usageError struct {
	text string
	hint string
}

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// asExit returns the exit in err.
func asExit(err error) (exit, bool) {
	var e exit
	return e, errors.As(err, &e)
}

// codeOf returns the code that err would end with; it may be nil.
func codeOf(err error) int {
	if e, ok := asExit(err); ok || err == nil {
		return e.code
	}
	return explain(err, where{}).exit
}

// interruption returns the exit that ctx ended with, if a signal ended it.
func interruption(ctx context.Context) (exit, bool) {
	var i interrupted
	if !errors.As(context.Cause(ctx), &i) {
		return exit{}, false
	}
	return exit{code: 128 + int(i.sig)}, true
}
