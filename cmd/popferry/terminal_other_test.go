//go:build !linux

package main

import "github.com/rogpeppe/go-internal/testscript"

func hasTerminals() bool { return false }

func cmdTerminal(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Fatalf("no terminal can be had here: put [terminal] before it")
}
