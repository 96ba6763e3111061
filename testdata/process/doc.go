// Package process runs a server for tests as a group of processes that does not
// outlive the test.
package process
