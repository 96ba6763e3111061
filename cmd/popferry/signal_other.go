//go:build !unix

package main

import "os"

// orders are signals that there are not here.
func orders() (reload, now <-chan os.Signal, stop func()) { return nil, nil, func() {} }
