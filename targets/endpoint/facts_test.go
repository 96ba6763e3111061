package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestFacts: what a connection shows, and when the end of a certificate is near.
func TestFacts(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		left time.Duration
		soon bool
		want string
	}{
		{100*24*time.Hour + time.Minute, false, " (100 days) · offers PLAIN, \\x1b[31m"},
		{13 * 24 * time.Hour, true, " (12 days) · offers PLAIN, \\x1b[31m"},
	} {
		cert := certificate(t, func(c *x509.Certificate) { c.NotAfter = now.Add(tt.left) })
		s := serve(t, func(nc net.Conn) {
			tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
			_ = tc.Handshake()
			io.Copy(io.Discard, tc)
		})
		s.CAFile = pemFile(t, cert)
		c, err := s.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.Chose(PlainText, []string{"PLAIN", "\x1b[31m"})
		f := c.Facts()
		c.Close()
		text, soon := f.Link(time.Now())
		if soon != tt.soon || !strings.HasSuffix(text, tt.want) || !strings.Contains(text, " ms · TLS 1.3, certificate until ") || f.Login() != "SASL PLAIN" {
			t.Errorf("%q, soon %t, %q", text, soon, f.Login())
		}
	}
	clear := Facts{Mechanism: APOP}
	if text, soon := clear.Link(now); text != "tcp 0 ms · not encrypted" || soon || clear.Login() != "APOP" {
		t.Errorf("%q, %t, %q", text, soon, clear.Login())
	}
}
