package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// Systemd is the service manager that started this process with Type=notify
// (sd_notify(3)). On nil and where nobody listens all methods do nothing, so
// that they need not be asked for; they are safe for concurrent use.
type Systemd struct {
	addr     net.UnixAddr
	watchdog time.Duration // WatchdogSec; 0 if there is none for this process
	log      *slog.Logger
}

// FromEnvironment returns who is to be notified by the variables of the process
// pid; nil for nobody.
func FromEnvironment(env func(string) (string, bool), pid int, log *slog.Logger) *Systemd {
	path, _ := env("NOTIFY_SOCKET")
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") { // @ is an abstract socket; net knows it
		return nil
	}
	s := &Systemd{addr: net.UnixAddr{Name: path, Net: "unixgram"}, log: log}
	if of, _ := env("WATCHDOG_PID"); of == "" || of == strconv.Itoa(pid) {
		usec, _ := env("WATCHDOG_USEC")
		if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && n < 1<<50 {
			s.watchdog = time.Duration(n) * time.Microsecond
		}
	}
	return s
}

// Ready tells that serving has begun, or goes on after Reloading, with a
// sentence for systemctl status.
func (s *Systemd) Ready(sentence string) { s.send("READY=1\nSTATUS=" + oneLine(sentence)) }

// Reloading tells that the configuration is being read anew; Ready must follow
// (Type=notify-reload wants the time, too).
func (s *Systemd) Reloading() {
	s.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic().Microseconds()))
}

// Stopping tells that the end has begun.
func (s *Systemd) Stopping() { s.send("STOPPING=1\nSTATUS=finishing what is in hand") }

// Status changes the sentence for systemctl status.
func (s *Systemd) Status(sentence string) { s.send("STATUS=" + oneLine(sentence)) }

// Watch tells twice in every WatchdogSec that all is well, as long as alive says
// so, until ctx ends. Without watchdog it returns at once.
func (s *Systemd) Watch(ctx context.Context, alive func() bool) {
	if s == nil || s.watchdog == 0 {
		return
	}
	tick := time.NewTicker(s.watchdog / 2)
	defer tick.Stop()
	for {
		if alive() {
			s.send("WATCHDOG=1")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func oneLine(s string) string { return shorten(strings.ReplaceAll(s, "\n", " "), 500) }

// send writes one datagram. That nobody listens is no reason to stop, nor to
// say more than once a message.
func (s *Systemd) send(text string) {
	if s == nil {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &s.addr)
	if err == nil {
		_, err = conn.Write([]byte(text))
		conn.Close()
	}
	if err != nil && s.log != nil {
		s.log.Debug("NOTIFY_SOCKET", "err", err)
	}
}
