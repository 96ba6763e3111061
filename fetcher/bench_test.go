//go:build unix

package fetcher_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"popferry/targets/endpoint"
)

// BenchmarkDovecot is a first pass over a maildrop, from Dovecot to Dovecot
// without TLS, from opening the state to closing it: all of it that is ours is
// in the figures a message, but nothing of what Dovecot uses.
func BenchmarkDovecot(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b)
			r.account.Maildrop.Port, r.account.Maildrop.TLS = r.server.POP3, endpoint.Plain
			r.imap.Port, r.imap.TLS = r.server.IMAP, endpoint.Plain
			for i := range n {
				r.server.Put("src", "INBOX", letterOf(i))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cpu, i := cpuTime(), 0
			for b.Loop() {
				i++
				r.db = filepath.Join(b.TempDir(), "popferry.db")
				r.imap.User = fmt.Sprintf("dst%d", i)
				if got := r.pass(); got.Delivered != n {
					b.Fatalf("%+v", got)
				}
			}
			runtime.ReadMemStats(&after)
			messages := float64(i) * float64(n)
			b.ReportMetric(messages/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/messages, "cpu-µs/msg")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/messages, "allocs/msg")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// letterOf is an ordinary letter of some 4 KB.
func letterOf(i int) []byte {
	var s strings.Builder
	fmt.Fprintf(&s, "Return-Path: <ann%d@example.org>\r\n", i)
	for hop := range 4 {
		fmt.Fprintf(&s, "Received: from relay%d.example.org (relay%d.example.org [192.0.2.%d])\r\n\tby mx%d.example.net with ESMTPS id %08x\r\n\tfor <jane@isp.example>; Sun, 1 Mar 2026 10:%02d:%02d +0100\r\n", hop, hop, i%250, hop, i, i/60%60, i%60)
	}
	fmt.Fprintf(&s, "DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=mail; h=from:to:subject;\r\n\tbh=%s;\r\n\tb=%s\r\n", strings.Repeat("x", 43), strings.Repeat("y", 300))
	fmt.Fprintf(&s, "From: \"Ann Other\" <ann%d@example.org>\r\nTo: jane@isp.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe_%d?=\r\n", i%100, i)
	fmt.Fprintf(&s, "Date: Sun, 1 Mar 2026 10:%02d:%02d +0100\r\nMessage-ID: <%d.bench@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", i/60%60, i%60, i)
	for line := range 35 {
		fmt.Fprintf(&s, "%d.%d The quick brown fox jumps over the lazy dog, and back over it once more.\r\n", i, line)
	}
	return []byte(s.String())
}

// cpuTime is what this process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
