package smtp_test

import (
	"crypto/tls"
	"path/filepath"
	"testing"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/smtp"
	"popferry/targets/targetstest"
	"popferry/testdata/process"
)

func TestTarget_Certificate(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := process.WriteCert(cert, key); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []endpoint.TLS{endpoint.Implicit, endpoint.StartTLS, endpoint.Plain} {
		s := &targetstest.SMTP{}
		if how != endpoint.Plain {
			s.TLS, s.StartTLS = &tls.Config{Certificates: []tls.Certificate{pair}}, how == endpoint.StartTLS
		}
		start(t, s)
		tg := open(t, config(s, func(c *smtp.Config) { c.TLS, c.CAFile = how, cert }))
		ct := tg.(targets.Certified)
		if ct.Certificate() != nil {
			t.Errorf("%v: a certificate before a login", how)
		}
		if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{}); err != nil {
			t.Fatal(err)
		}
		switch leaf := ct.Certificate(); {
		case how == endpoint.Plain && leaf != nil:
			t.Error("a certificate without TLS")
		case how != endpoint.Plain && (leaf == nil || !leaf.NotAfter.Equal(pair.Leaf.NotAfter)):
			t.Errorf("%v: %v", how, leaf)
		}
	}
}
