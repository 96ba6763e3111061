package smtp

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"popferry/targets"
)

// maxReceived is how many Received fields a message may have. Nobody's mail
// takes more than a dozen hops; one that runs in a circle gains some with every
// round.
const maxReceived = 30

// trace is the field that is put before a message (RFC 5321 §3.7.2: a gateway
// into SMTP adds one and alters none). It counts with the others, here and at
// every server, so that a circle has an end. No signature covers it.
//
// It names the maildrop's host, which is in the next line for whoever reads
// headers anyway, and no user.
func trace(m *targets.Message, helo string, now time.Time) string {
	from := m.Host
	if !isDomain(from) {
		from = "unknown"
	}
	return fmt.Sprintf("Received: from %s\r\n\tby %s (popferry) with POP3;\r\n\t%s\r\n",
		from, helo, now.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

var receivedName = []byte("received")

// countReceived counts Received fields at the beginning of a message. New ones
// are put before the others, so the first part of a long header is enough.
func countReceived(p []byte) (n int) {
	for len(p) > 0 && p[0] != '\n' && !bytes.HasPrefix(p, []byte("\r\n")) {
		name, _, ok := bytes.Cut(p[:min(len(p), len(receivedName)+8)], []byte(":"))
		if ok && bytes.EqualFold(bytes.TrimRight(name, " \t"), receivedName) {
			n++
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return n
		}
		p = p[i+1:]
	}
	return n
}

// heloName is how the client names itself (RFC 5321 §4.1.3): as configured, as
// the machine is called, or by its address where that is no domain name.
func heloName(configured, host, addr string) string {
	switch {
	case configured != "":
		return configured
	case strings.Contains(host, ".") && isDomain(host) && isASCII(host):
		return host
	case strings.Contains(addr, ":"):
		return "[IPv6:" + addr + "]"
	}
	return "[" + addr + "]"
}
