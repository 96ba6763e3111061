package daemon

import "slices"

// Exit codes of passes: those that popferry run would end with. They never change
// their meaning.
const (
	exitOK    = 0
	exitSome  = 1  // some messages failed or are held
	exitBug   = 70 // a bug in popferry
	exitLater = 75 // the server wants to be asked later
	exitLogin = 77 // login refused
	exitInt   = 130
	exitTerm  = 143
)

// bySeverity lists exit codes, the most serious first. An interruption explains
// all that is less serious than a bug.
var bySeverity = []int{exitBug, exitTerm, exitInt, 64, 78, exitLogin, 74, 69, exitLater, exitSome, exitOK}

// Worse returns the more serious of two exit codes: what several passes end with
// together.
func Worse(a, b int) int {
	if slices.Index(bySeverity, a) < slices.Index(bySeverity, b) {
		return a
	}
	return b
}

// ExitCodes lists all exit codes, the most serious first.
func ExitCodes() []int { return slices.Clone(bySeverity) }
