// Package process is what those share that run real servers for tests: a group
// of processes that does not outlive the test, and a certificate for it.
package process
