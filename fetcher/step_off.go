//go:build !steps

package fetcher

import "popferry/fetcher/state"

// step marks a place between two effects. It is for tests that kill the program
// there (see step_on.go); here it is nothing.
func step(string) {}

// beforePut and afterPut are the steps around a transaction.
func beforePut([]state.Change) {}
func afterPut([]state.Change)  {}
