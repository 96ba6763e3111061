package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/targets/endpoint"
)

// beat calls tick at intervals, if every is not 0, and answer each time somebody
// asks, until stop is called, which waits for the last of them. stop may be
// called again.
func beat(every time.Duration, tick func(now time.Time), asks <-chan os.Signal, answer func()) (stop func()) {
	var ticks <-chan time.Time
	if every > 0 {
		ticks = time.Tick(every)
	}
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			case now := <-ticks:
				tick(now)
			case <-asks:
				answer()
			}
		}
	})
	return sync.OnceFunc(func() {
		close(end)
		wg.Wait()
	})
}

// attrs are the figures as a line of the log has them.
func (f figures) attrs() []any {
	args := []any{"job", f.name}
	if f.account != "" {
		args = append(args, "account", f.account)
	}
	args = append(args, "messages", f.done.messages, "of", f.of.messages, "bytes", f.done.octets, "of_bytes", f.of.octets, "rate", f.rate)
	if f.known {
		args = append(args, "left", f.left)
	}
	args = append(args, "duplicate", f.duplicate, "held", f.held, "failed", f.failed)
	if !f.until.IsZero() {
		args = append(args, "until", f.until.Format(time.RFC3339))
	}
	return args
}

// sentence is the figures for a person who asked.
func (f figures) sentence(now time.Time) string {
	var parts []string
	if f.of.messages > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s", humanize.Comma(int64(f.done.messages)), count(f.of.messages, "message")),
			strings.TrimSpace(octetsOf(f.done.octets, f.of.octets)))
	}
	if f.rate > 0 && f.until.IsZero() {
		parts = append(parts, octets(f.rate)+"/s")
	}
	if f.of.messages > f.done.messages && f.known {
		parts = append(parts, eta(f.left)+" left")
	}
	l := f.line(now)
	for _, p := range []string{l.there, l.held, l.failed} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if under := f.accounts(now); under != "" {
		parts = append(parts, under)
	}
	if len(parts) == 0 {
		return "nothing is under way"
	}
	return strings.Join(parts, " · ")
}

// accounts says what each account does that is under way.
func (f figures) accounts(now time.Time) string {
	var all []string
	for _, s := range f.underWay {
		what := "listing"
		switch s.doing {
		case waiting:
			what = "waits until " + clock(s.until, now) + ": " + s.why
		case comparing:
			what = "comparing both sides"
		case moving:
			what = humanize.Comma(int64(s.done.messages)) + "/" + humanize.Comma(int64(s.total().messages))
		}
		all = append(all, endpoint.Printable(s.account, 200)+" "+what)
	}
	return strings.Join(all, ", ")
}
