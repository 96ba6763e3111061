package main

import (
	"fmt"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/dustin/go-humanize"

	"popferry/fetcher"
)

// amount is messages and octets.
type amount struct {
	messages int
	octets   int64
}

// progress adds up how far a run is: all its accounts together.
type progress struct {
	jobs map[string]bool
	of   map[string]amount // by account: all there is to do
	done map[string]amount // by account
	seen map[string]bool   // messages counted: one may have several copies

	delivered, failed int // messages
}

func newProgress() *progress {
	return &progress{jobs: map[string]bool{}, of: map[string]amount{}, done: map[string]amount{}, seen: map[string]bool{}}
}

func (p *progress) event(e fetcher.Event) {
	switch e.Kind {
	case fetcher.PassStart:
		p.jobs[e.Job] = true
	case fetcher.Listed: // again after every lost connection: the rest is what is new then
		done := p.done[e.Account]
		p.of[e.Account] = amount{done.messages + e.Total.New, done.octets + e.Total.NewBytes}
	case fetcher.Failed, fetcher.Held:
		p.failed++
		p.one(e)
	case fetcher.Delivered, fetcher.Duplicate:
		if p.one(e) {
			p.delivered++
		}
	case fetcher.Dropped:
		p.one(e)
	}
}

// one counts a message, and reports whether this was its first event.
func (p *progress) one(e fetcher.Event) bool {
	key := e.Account + "/" + e.UIDL
	if p.seen[key] {
		return false
	}
	p.seen[key] = true
	done := p.done[e.Account]
	p.done[e.Account] = amount{done.messages + 1, done.octets + e.Octets}
	return true
}

func sum(by map[string]amount) (all amount) {
	for _, a := range by {
		all = amount{all.messages + a.messages, all.octets + a.octets}
	}
	return all
}

// bar draws progress on a terminal.
type bar struct {
	*progress
	pb *pb.ProgressBar
}

const barTemplate pb.ProgressBarTemplate = `{{string . "name"}}   {{bar . " " "━" "╸" "─" " "}}  {{string . "count"}}   {{counters .}}   {{speed . "%s/s" "…"}}   {{rtime . "ETA %s" "%s" "…"}}{{string . "failed"}}`

func newBar(s *stream) *bar {
	p := barTemplate.New(0)
	p.Set(pb.Bytes, true).Set(pb.SIBytesPrefix, true).Set(pb.Terminal, true).Set(pb.CleanOnFinish, true).Set(pb.Color, s.color)
	p.SetWidth(min(s.width(), 120)).SetRefreshRate(200 * time.Millisecond).SetWriter(barWriter{s})
	return &bar{progress: newProgress(), pb: p}
}

func (b *bar) event(e fetcher.Event) {
	b.progress.event(e)
	name := e.Job
	if len(b.jobs) > 1 {
		name = count(len(b.jobs), "job")
	}
	done, of := sum(b.done), sum(b.of)
	b.pb.Set("name", name)
	b.pb.Set("count", humanize.Comma(int64(done.messages))+"/"+humanize.Comma(int64(of.messages)))
	if b.failed > 0 {
		b.pb.Set("failed", fmt.Sprintf("   failed %d", b.failed))
	}
	// LIST is often wrong about sizes, and 101 % helps nobody.
	b.pb.SetTotal(max(of.octets, done.octets)).SetCurrent(done.octets)
	if of.messages > 0 && !b.pb.IsStarted() {
		b.pb.Start()
	}
}

func (b *bar) stop() {
	if b.pb.IsStarted() {
		b.pb.Finish()
	}
}

// barWriter writes the bar over itself.
type barWriter struct{ s *stream }

func (w barWriter) Write(p []byte) (int, error) {
	w.s.screen.mu.Lock()
	defer w.s.screen.mu.Unlock()
	w.s.screen.bar = w.s.w
	return w.s.w.Write(p)
}
