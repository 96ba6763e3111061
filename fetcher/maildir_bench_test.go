//go:build unix

package fetcher_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"popferry/targets/endpoint"
)

// BenchmarkMaildir is a first pass from Dovecot into a Maildir, on the disk that
// has the temporary directory, with every fsync.
func BenchmarkMaildir(b *testing.B) {
	const n = 1000
	r := newRig(b)
	r.account.Maildrop.Port, r.account.Maildrop.TLS = r.server.POP3, endpoint.Plain
	for i := range n {
		r.server.Put("src", "INBOX", letterOf(i))
	}
	cpu, i := cpuTime(), 0
	for b.Loop() {
		i++
		r.db = filepath.Join(b.TempDir(), "popferry.db")
		r.maildir = r.server.Maildir(fmt.Sprintf("dst%d", i))
		if got := r.pass(); got.Delivered != n {
			b.Fatalf("%+v", got)
		}
	}
	messages := float64(i) * n
	b.ReportMetric(messages/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/messages, "cpu-µs/msg")
	b.ReportMetric(0, "ns/op")
}
