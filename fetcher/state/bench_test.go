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
			putAll(b, s, ms, workers)
		})
	}
}

// BenchmarkPut_million is BenchmarkPut where a million messages are known and
// delivered: the trees are deeper, and what is written lies at their ends.
func BenchmarkPut_million(b *testing.B) {
	s := millionKnown(b)
	accounts := 0
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprintf("%dwriters", workers), func(b *testing.B) {
			accounts++
			ms := make([]*Message, b.N)
			for i := range ms {
				ms[i] = &Message{UIDL: fmt.Sprintf("u%d", i), Size: int64(100 + i)}
			}
			a := &Account{Source: fmt.Sprintf("%s%d", source, accounts), Name: "isp"}
			mustPut(b, s, Listed{Account: a, New: ms, Count: b.N, At: t0})
			putAll(b, s, ms, workers)
		})
	}
}

// millionKnown is a state with a million messages delivered. They are not Put:
// that would take longer than what is to be measured.
func millionKnown(b *testing.B) *Store {
	s := open(b, Options{})
	list(b, s, 1)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	c, err := openConn(s.path, "rw", "synchronous=OFF")
	if err != nil {
		b.Fatal(err)
	}
	const series = `WITH RECURSIVE n(i) AS (VALUES (2) UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) `
	err = c.script(`BEGIN; ` + series + `
		INSERT INTO message (id, account, uidl, gen, size, first_seen, status, hash, canon_size, stable, body, msgid, octets)
		SELECT i, 1, CAST('000000000000' || i AS BLOB), 0, 4000, 1700000000000, 2, randomblob(32), 4000, randomblob(32), randomblob(32),
		'<' || i || '.known@example.org>', 4000 FROM n; ` + series + `
		INSERT INTO delivery (message, n, target, folder, rcpt, flags, rule, status, attempts, box, uidvalidity, uidnext, uid, reply, at)
		SELECT i, 0, 'home', 'Lists/go', '', '', '', 3, 1, 'Lists.go', 7, i, i, 'OK [APPENDUID 7 1] Append completed.', 1700000000000 FROM n; COMMIT`)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.close(); err != nil {
		b.Fatal(err)
	}
	return reopen(b, s.path)
}

// putAll brings b.N messages through the state, several at a time, and measures
// that alone.
func putAll(b *testing.B, s *Store, ms []*Message, workers int) {
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
