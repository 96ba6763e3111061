package endpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"
)

// Secure reports whether the connection is encrypted.
func (c *Conn) Secure() bool {
	_, ok := c.conn().(*tls.Conn)
	return ok
}

// StartTLS does the TLS handshake on the connection. The caller makes sure that
// nothing the server sent before it is left in a buffer of its own (such octets
// were sent in clear by anybody, RFC 9051 §11.1). Errors are *Error.
func (c *Conn) StartTLS(ctx context.Context) error {
	cfg, err := c.srv.tlsConfig()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw := c.conn()
	// The deadline of the last read in clear would cut the handshake short.
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return c.srv.tlsError(err)
	}
	tc := tls.Client(raw, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return c.srv.tlsError(err)
	}
	c.mu.Lock()
	c.nc = tc
	c.mu.Unlock()
	return nil
}

// Certificate returns the server's leaf certificate, nil without TLS.
func (c *Conn) Certificate() *x509.Certificate {
	tc, ok := c.conn().(*tls.Conn)
	if !ok {
		return nil
	}
	return tc.ConnectionState().PeerCertificates[0]
}

func (s *Server) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if cfg.ServerName == "" {
		cfg.ServerName = s.Host
	}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, &Error{
				Stage: "tls", Code: "ca-file", Addr: s.Addr(), Err: err,
				Text: fmt.Sprintf("ca_file cannot be read: %v", err), Hint: "It must be a PEM file that popferry's user may read.",
			}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &Error{
				Stage: "tls", Code: "ca-file", Addr: s.Addr(),
				Text: fmt.Sprintf("ca_file %q has no certificate in it", s.CAFile), Hint: "It must hold certificates in PEM form (-----BEGIN CERTIFICATE-----).",
			}
		}
	}
	if s.Fingerprint != nil {
		// The pin replaces the chain: a self-signed certificate is fine if it is
		// exactly this one.
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
			if !bytes.Equal(sum[:], s.Fingerprint) {
				return &pinError{leaf: cs.PeerCertificates[0]}
			}
			return nil
		}
	}
	return cfg, nil
}

type pinError struct{ leaf *x509.Certificate }

func (e *pinError) Error() string { return "certificate does not have the configured fingerprint" }

// tlsError puts the ways a handshake fails into words that name the way out.
func (s *Server) tlsError(err error) error {
	e := &Error{Stage: "tls", Code: "tls-failed", Addr: s.Addr(), Err: err}
	var (
		pin     *pinError
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &pin):
		e.Code, e.Text = "tls-fingerprint", "the certificate is not the one in tls_fingerprint"
		e.Hint = "If the server's certificate was renewed on purpose: tls_fingerprint: " + FingerprintOf(pin.leaf)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Code = "tls-expired"
		e.Text = "the certificate ended on " + invalid.Cert.NotAfter.UTC().Format(time.DateOnly)
		if time.Now().Before(invalid.Cert.NotBefore) {
			e.Text = "the certificate is not valid before " + invalid.Cert.NotBefore.UTC().Format(time.DateOnly)
		}
		e.Hint = "Accept exactly this certificate:  tls_fingerprint: " + FingerprintOf(invalid.Cert)
	case errors.As(err, &host):
		e.Code, e.Text = "tls-wrong-host", Printable(host.Error(), maxWords) // it names what the certificate has
		e.Hint = "Use a host name that the certificate has, or set tls_server_name to the one it should have."
	case errors.As(err, &unknown):
		e.Code, e.Text = "tls-untrusted", "the certificate is signed by an authority that this machine does not trust"
		if unknown.Cert != nil {
			e.Hint = "Give its authority as ca_file: FILE, or accept exactly this certificate:  tls_fingerprint: " + FingerprintOf(unknown.Cert)
		}
	case errors.As(err, &record):
		e.Code, e.Text = "tls-not-spoken", "the server does not speak TLS on this port"
		e.Hint = "Use the TLS port (POP3 995, IMAP 993), or tls: starttls on this one."
	case errors.Is(err, context.Canceled):
		e.Text = "interrupted during the TLS handshake"
	case errors.Is(err, context.DeadlineExceeded), IsTimeout(err):
		e.Text = fmt.Sprintf("the TLS handshake did not end within %s", dialTimeout)
		e.Hint = "Check the port: a server that expects STARTTLS there never answers (tls: starttls)."
	default:
		e.Text = "TLS handshake: " + plainNetError(err)
		e.Hint = "popferry speaks TLS 1.2 and 1.3 only."
	}
	return e
}

// FingerprintOf is how a certificate is written in tls_fingerprint.
func FingerprintOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
