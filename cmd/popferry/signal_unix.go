//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// asked returns what asks how far a command is: SIGUSR1, which would end it
// otherwise. It stays so to the end of the process: whoever asks too late gets no
// answer, and does no harm.
func asked() <-chan os.Signal {
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	return usr1
}

// orders returns what SIGHUP and SIGUSR1 ask of a process that serves, until stop.
func orders() (reload, now <-chan os.Signal, stop func()) {
	// One that comes while the last is being obeyed is kept, more are the same.
	hup, usr1 := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	signal.Notify(usr1, syscall.SIGUSR1)
	return hup, usr1, func() {
		signal.Stop(hup)
		signal.Stop(usr1)
	}
}
