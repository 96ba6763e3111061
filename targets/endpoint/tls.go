package endpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
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
				Stage: "tls", Code: CodeCAFile, Addr: s.Addr(), Err: err,
				Text: fmt.Sprintf("ca_file cannot be read: %v", err), Hint: "It must be a PEM file that popferry's user may read.",
			}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &Error{
				Stage: "tls", Code: CodeCAFile, Addr: s.Addr(),
				Text: fmt.Sprintf("ca_file %q has no certificate in it", s.CAFile), Hint: "It must hold certificates in PEM form (-----BEGIN CERTIFICATE-----).",
			}
		}
	}
	if s.ClientCert != "" {
		// Read anew for each connection: such certificates are short-lived.
		own, err := tls.LoadX509KeyPair(s.ClientCert, s.ClientKey)
		if err != nil {
			return nil, &Error{
				Stage: "tls", Code: CodeClientCert, Addr: s.Addr(), Err: err,
				Text: fmt.Sprintf("client_cert and client_key cannot be used: %v", err), Hint: "Both must be PEM files that popferry's user may read, and belong together.",
			}
		}
		cfg.Certificates = []tls.Certificate{own}
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

// The codes of files that a connection needs and that cannot be used.
const (
	CodeCAFile     = "ca-file"
	CodeClientCert = "client-cert"
)

// tlsError puts the ways a handshake fails into words that name the way out.
func (s *Server) tlsError(err error) error {
	e := &Error{Stage: "tls", Code: "tls-failed", Addr: s.Addr(), Err: err}
	var record tls.RecordHeaderError
	switch leaf := leafOf(err); {
	case leaf != nil:
		s.certError(e, leaf)
	case errors.As(err, &record):
		e.Code, e.Text = "tls-not-spoken", "the server does not speak TLS on this port"
		e.Hint = "Use the TLS port (POP3 995, IMAP 993, SMTP 465), or tls: starttls on this one."
	case errors.Is(err, context.Canceled):
		e.Text = "interrupted during the TLS handshake"
	case errors.Is(err, context.DeadlineExceeded), IsTimeout(err):
		e.Text = fmt.Sprintf("the TLS handshake did not end within %s", dialTimeout)
		e.Hint = "Check the port: a server that expects STARTTLS there never answers (tls: starttls)."
	case strings.Contains(err.Error(), "protocol version"):
		// The server's alert and our own error both say it so.
		e.Code, e.Text = "tls-too-old", "the server does not speak TLS 1.2 or newer"
		e.Hint = "Older versions can be read and changed on the way, so popferry does not speak them.\nAsk the provider for another host name or port; many keep old ones for old programs."
	default:
		e.Text = "TLS handshake: " + Printable(plainNetError(err), maxWords)
		e.Hint = "popferry speaks TLS 1.2 and 1.3 only."
	}
	return e
}

// leafOf returns the server's certificate if that is why a handshake failed.
func leafOf(err error) *x509.Certificate {
	if pin, ok := errors.AsType[*pinError](err); ok {
		return pin.leaf
	}
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(v.UnverifiedCertificates) > 0 {
		return v.UnverifiedCertificates[0]
	}
	return nil
}

// certError says what is wrong with a certificate, what it is, and which line of
// the configuration would accept it.
func (s *Server) certError(e *Error, leaf *x509.Certificate) {
	accept := "Accept exactly this certificate:  tls_fingerprint: " + FingerprintOf(leaf)
	var (
		pin     *pinError
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
	)
	switch {
	case errors.As(e.Err, &pin):
		e.Code, e.Text = "tls-fingerprint", "the certificate is not the one in tls_fingerprint"
		accept = "If it was renewed on purpose:  tls_fingerprint: " + FingerprintOf(leaf)
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired:
		e.Code = "tls-expired"
		old := invalid.Cert
		what := "the certificate"
		if !old.Equal(leaf) {
			what = "a certificate of an authority, " + name(old.Subject) + ","
		}
		e.Text = what + " ended on " + old.NotAfter.UTC().Format(time.DateOnly)
		if time.Now().Before(old.NotBefore) {
			e.Text = what + " is not valid before " + old.NotBefore.UTC().Format(time.DateOnly)
		}
	case errors.As(e.Err, &host):
		e.Code = "tls-wrong-host"
		e.Text = fmt.Sprintf("the certificate is not for %q but for %s", host.Host, namesOf(leaf))
		accept = "Use a host that it is for, or say which one it should be:  tls_server_name: " + firstName(leaf)
	case errors.As(e.Err, new(x509.UnknownAuthorityError)):
		e.Code, e.Text = "tls-untrusted", "the certificate is signed by an authority that this machine does not trust"
		if bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
			e.Text = "the certificate is signed by itself, so nobody vouches for it"
		}
		accept = "Trust its authority:  ca_file: FILE\n" + accept
	default:
		e.Code, e.Text = "tls-untrusted", "the certificate cannot be trusted: "+Printable(plainNetError(e.Err), maxWords)
	}
	e.Hint = strings.Join([]string{
		"Certificate: " + name(leaf.Subject) + ", issued by " + name(leaf.Issuer),
		"valid from " + leaf.NotBefore.UTC().Format(time.DateOnly) + " to " + leaf.NotAfter.UTC().Format(time.DateOnly) + ", " + FingerprintOf(leaf),
		accept,
	}, "\n")
}

// name writes the name of a subject or issuer, which anybody may have chosen.
func name(n pkix.Name) string {
	if s := Printable(n.String(), 120); s != "" {
		return s
	}
	return "nobody"
}

// namesOf lists what a certificate is for.
func namesOf(c *x509.Certificate) string {
	list := c.DNSNames
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	if len(list) == 0 {
		return "no host at all"
	}
	more := ""
	if n := len(list) - 4; n > 0 {
		list, more = list[:4], fmt.Sprintf(" and %d more", n)
	}
	return Printable(strings.Join(list, ", "), 200) + more
}

// firstName is a name to check a certificate by, where it has one.
func firstName(c *x509.Certificate) string {
	for _, n := range c.DNSNames {
		if !strings.Contains(n, "*") {
			return Printable(n, 200)
		}
	}
	return "NAME"
}

// FingerprintOf is how a certificate is written in tls_fingerprint.
func FingerprintOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// NoTLS is the error of a server that does not do STARTTLS or STLS, which may be
// somebody in between who took the offer away. reply is what it said; port is
// where such servers speak TLS from the first octet.
func (s *Server) NoTLS(verb, reply string, port int) *Error {
	e := &Error{
		Stage: "tls", Code: "starttls-refused", Addr: s.Addr(), Text: "the server does not offer " + verb,
		Hint: fmt.Sprintf("Use tls: implicit (port %d) if the server has it. Nothing was sent in clear.", port),
	}
	if reply != "" {
		e.Text = "the server refuses " + verb + ": " + Printable(reply, maxWords)
	}
	return e
}

// SentAhead is the error of octets that came in clear after a server agreed to
// TLS. Whoever sits on the line may have written them, to be read as if they
// came through TLS.
func (s *Server) SentAhead(verb string) *Error {
	return &Error{
		Stage: "tls", Code: "tls-injected", Addr: s.Addr(), Text: "something was sent in clear after the server agreed to " + verb,
		Hint: "Somebody may be in between. popferry gave up before it said who you are.\nIf this comes again, use tls: implicit, which cannot be tampered with like that.",
	}
}

// Preauth is the error of an IMAP server that says, before TLS, that it knows us
// already: there is no STARTTLS after that (RFC 9051 §6.2.1).
func (s *Server) Preauth() *Error {
	return &Error{
		Stage: "tls", Code: "tls-preauth", Addr: s.Addr(), Text: "the server says that it knows us already, before TLS (PREAUTH)",
		Hint: "Somebody may be in between. popferry gave up before it said who you are.\nUse tls: implicit, which cannot be tampered with like that.",
	}
}
