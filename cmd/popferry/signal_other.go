//go:build !unix

package main

import "os"

// asked is a signal that there is not here.
func asked() <-chan os.Signal { return nil }

// orders are signals that there are not here.
func orders() (reload, now <-chan os.Signal, stop func()) { return nil, nil, func() {} }
