package main

import (
	"fmt"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/dustin/go-humanize"

	"popferry/fetcher"
)

// bar is the progress of a whole run: all accounts together, by octets.
type bar struct {
	pb       *pb.ProgressBar
	name     string
	jobs     map[string]bool
	messages int // done
	of       int
	failed   int
	seen     map[string]bool // messages counted: one may have several copies
}

const barTemplate pb.ProgressBarTemplate = `{{string . "name"}}   {{bar . "" "━" "╸" "─" ""}}  {{string . "count"}}   {{counters .}}   {{speed . "%s/s" "…"}}   {{rtime . "ETA %s" "%s" "…"}}{{string . "failed"}}`

func newBar(s *stream) *bar {
	p := barTemplate.New(0)
	p.Set(pb.Bytes, true).Set(pb.SIBytesPrefix, true).Set(pb.Terminal, true).Set(pb.CleanOnFinish, true)
	p.SetWidth(min(s.width(), 120)).SetRefreshRate(200 * time.Millisecond).SetWriter(barWriter{s})
	return &bar{pb: p, jobs: map[string]bool{}, seen: map[string]bool{}}
}

func (b *bar) event(e fetcher.Event) {
	switch e.Kind {
	case fetcher.PassStart:
		b.jobs[e.Job] = true
		b.name = e.Job
		if len(b.jobs) > 1 {
			b.name = count(len(b.jobs), "job")
		}
		b.pb.Set("name", b.name)
	case fetcher.Listed:
		if e.Total.New == 0 {
			return
		}
		b.of += e.Total.New
		b.pb.AddTotal(e.Total.NewBytes)
		b.count()
		if !b.pb.IsStarted() {
			b.pb.Start()
		}
	case fetcher.Failed, fetcher.Held:
		b.failed++
		b.pb.Set("failed", fmt.Sprintf("   failed %d", b.failed))
		b.one(e)
	case fetcher.Delivered, fetcher.Duplicate, fetcher.Dropped:
		b.one(e)
	}
}

// one counts a message.
func (b *bar) one(e fetcher.Event) {
	key := e.Account + "/" + e.UIDL
	if b.seen[key] {
		return
	}
	b.seen[key] = true
	b.messages++
	b.pb.Add64(e.Octets)
	b.count()
}

func (b *bar) count() {
	b.pb.Set("count", humanize.Comma(int64(b.messages))+"/"+humanize.Comma(int64(b.of)))
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
