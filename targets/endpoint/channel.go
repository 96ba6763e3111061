package endpoint

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// link is what a mechanism may have to know of the connection that it is used
// on. The zero link is one without TLS.
type link struct {
	host     string
	port     int
	gs2      string // how SCRAM begins (RFC 5802 §7): "n,,", "y,,", "p=tls-exporter,,"
	bound    []byte // after "p=", what both ends know of their TLS connection
	fallback func() // has the next link bound in another way; nil where there is none
}

// link says what mech is to know. Where SCRAM is used without channel binding
// over TLS, it says "y": we could, and you did not offer it. A server that did
// offer it knows then that somebody has cut its offer.
func (c *Conn) link(mech string, offered []string) (link, error) {
	l := link{host: c.srv.Host, port: c.srv.Port, gs2: "n,,"}
	tc, ok := c.conn().(*tls.Conn)
	switch {
	case !ok:
		return l, nil
	case !strings.HasSuffix(mech, "-PLUS"):
		if !offers(offered, mech+"-PLUS") {
			l.gs2 = "y,,"
		}
		return l, nil
	}
	state := tc.ConnectionState()
	kind, data, err := binding(&state, c.byCertificate)
	if err != nil {
		return l, fmt.Errorf("%s: %w", mech, err)
	}
	l.gs2, l.bound = "p="+kind+",,", data
	if !c.byCertificate {
		l.fallback = func() { c.byCertificate = true }
	}
	return l, nil
}

// binding returns the channel binding of a TLS connection: tls-exporter (RFC
// 9266) with TLS 1.3, for which tls-unique is not defined, tls-unique (RFC 5929)
// below, and tls-server-end-point where only that will do.
func binding(s *tls.ConnectionState, byCertificate bool) (kind string, data []byte, err error) {
	switch {
	case byCertificate:
	case s.Version >= tls.VersionTLS13:
		data, err = s.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		return "tls-exporter", data, err
	case len(s.TLSUnique) > 0:
		return "tls-unique", s.TLSUnique, nil
	}
	data, err = endPoint(s.PeerCertificates[0])
	return "tls-server-end-point", data, err
}

// endPoint hashes a certificate with the hash of its signature, or with SHA-256
// if that is weaker (RFC 5929 §4.1).
func endPoint(cert *x509.Certificate) ([]byte, error) {
	h := crypto.SHA256
	switch cert.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h = crypto.SHA512
	case x509.PureEd25519:
		return nil, errors.New("no channel binding is defined for a certificate signed with Ed25519")
	}
	sum := h.New()
	sum.Write(cert.Raw)
	return sum.Sum(nil), nil
}
