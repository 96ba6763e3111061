//go:build unix

package state

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPut measures one message's way through the state: routed and intent
// in one Put, delivered in another; every worker waits for its commits.
func BenchmarkPut(b *testing.B) {
	for _, workers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("%dwriters", workers), func(b *testing.B) {
			s := open(b, Options{})
			_, ms := list(b, s, b.N)
			work := make(chan *Message)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime()
			for range workers {
				wg.Go(func() {
					for m := range work {
						mustPut(b, s, routed(m, 1), intent(m, 0))
						mustPut(b, s, delivered(m, 0, uint32(m.ID)))
					}
				})
			}
			for _, m := range ms {
				work <- m
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// cpuTime is what this process has used of all processors: on a busy machine
// the clock on the wall says little.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkListed100k measures the first listing of a large maildrop.
func BenchmarkListed100k(b *testing.B) {
	for b.Loop() {
		s := open(b, Options{})
		list(b, s, 100_000)
	}
}

// BenchmarkKnown100k measures what a pass over a large maildrop begins with, and
// the heap it keeps.
func BenchmarkKnown100k(b *testing.B) {
	s := open(b, Options{})
	_, ms := list(b, s, 100_000)
	for len(ms) > 0 {
		var ch []Change
		for _, m := range ms[:1000] {
			ch = append(ch, routed(m, 1), intent(m, 0), delivered(m, 0, uint32(m.ID)))
		}
		mustPut(b, s, ch...)
		ms = ms[1000:]
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	k := known(b, s)
	runtime.GC()
	runtime.ReadMemStats(&after)
	n, cpu := 0, cpuTime()
	for b.Loop() {
		known(b, s)
		n++
	}
	b.ReportMetric(float64((cpuTime()-cpu).Milliseconds())/float64(n), "cpu-ms/op")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
	runtime.KeepAlive(k)
}
