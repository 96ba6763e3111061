package endpoint

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a Conn and the server at its other end.
func pipe(timeout time.Duration) (*Conn, net.Conn) {
	ours, theirs := net.Pipe()
	return newConn(ours, &Server{Timeout: timeout}), theirs
}

// Only progress renews the time allowed: neither an octet now and then nor a
// caller that is slow to read counts.
func TestConn_progress(t *testing.T) {
	for _, tt := range []struct {
		name  string
		piece int
		every time.Duration
		want  time.Duration // when the reader gives up; 0 is never
	}{
		{"silence", 0, time.Hour, time.Minute},
		{"an octet now and then", 1, 29 * time.Second, time.Minute},
		{"4 KiB within the time", 4 << 10, 29 * time.Second, 0},
		{"1 KiB and then not 4 within the time", 1 << 10, 29 * time.Second, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, server := pipe(time.Minute)
			begin := time.Now()
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				defer server.Close()
				for time.Since(begin) < 10*time.Minute {
					time.Sleep(tt.every) //nolint:forbidigo // the bubble's clock
					if _, err := server.Write(make([]byte, tt.piece)); err != nil {
						return
					}
				}
			})
			_, err := io.Copy(io.Discard, c)
			took := time.Since(begin)
			c.Close()
			switch {
			case tt.want == 0 && err != nil:
				t.Errorf("%s: %v after %s", tt.name, err, took)
			case tt.want > 0 && (!IsTimeout(err) || took != tt.want):
				t.Errorf("%s: %v after %s, want %s", tt.name, err, took, tt.want)
			}
		})
	}
}

func TestConn_replyRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := pipe(time.Minute)
		defer c.Close()
		go func() {
			defer server.Close()
			for range 20 {
				time.Sleep(50 * time.Second) //nolint:forbidigo // the bubble's clock
				io.WriteString(server, "+OK\r\n")
			}
		}()
		for range 20 {
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			c.Progress()
		}
	})
}

func TestConn_idle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := pipe(time.Minute)
		defer server.Close()
		c.Idle(true)
		read := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		select {
		case err := <-read:
			t.Fatalf("gave up while nothing was awaited: %v", err)
		default:
		}
		begin := time.Now()
		c.Idle(false)
		if err := <-read; !IsTimeout(err) || time.Since(begin) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestConn_allow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := pipe(time.Second)
		defer server.Close()
		c.Allow(time.Minute)
		begin := time.Now()
		if _, err := c.Read(make([]byte, 1)); !IsTimeout(err) || time.Since(begin) != time.Minute || c.Timeout() != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// A peer that stops reading is given up, however large what is written.
func TestConn_writeStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := pipe(time.Minute)
		defer server.Close()
		begin := time.Now()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { // takes one chunk every 50 s, three times
			for range 3 {
				time.Sleep(50 * time.Second) //nolint:forbidigo // the bubble's clock
				io.ReadFull(server, make([]byte, writeChunk))
			}
		})
		n, err := c.Write(make([]byte, 10*writeChunk))
		if took := time.Since(begin); !IsTimeout(err) || n != 3*writeChunk || took != 210*time.Second {
			t.Errorf("%d octets, %v after %s", n, err, took)
		}
	})
}

func TestConn_closeOn(t *testing.T) {
	c, server := pipe(time.Minute)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	stop := c.CloseOn(ctx)
	cancel()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if stop() {
		t.Error("stop claims that it was in time")
	}
}

// certificate makes one; change may spoil it.
func certificate(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"mail.example"},
		IsCA: true, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve does something with each connection until the test ends.
func serve(t *testing.T, do func(net.Conn)) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			do(nc)
			nc.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return &Server{Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port}
}

func pemFile(t *testing.T, c tls.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func sumOf(c tls.Certificate) []byte {
	sum := sha256.Sum256(c.Certificate[0])
	return sum[:]
}

func TestDial_tls(t *testing.T) {
	good := certificate(t, nil)
	expired := certificate(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	early := certificate(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	})
	elsewhere := certificate(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"mail.example"} })
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		cert   tls.Certificate
		max    uint16
		change func(*Server)
		code   string // "" connects
	}{
		{"ca_file", good, 0, func(s *Server) { s.CAFile = pemFile(t, good) }, ""},
		{"fingerprint", good, 0, func(s *Server) { s.Fingerprint = sumOf(good) }, ""},
		{"fingerprint of an expired one", expired, 0, func(s *Server) { s.Fingerprint = sumOf(expired) }, ""},
		{"server name", elsewhere, 0, func(s *Server) { s.CAFile, s.ServerName = pemFile(t, elsewhere), "mail.example" }, ""},
		{"TLS 1.2", good, tls.VersionTLS12, func(s *Server) { s.CAFile = pemFile(t, good) }, ""},
		{"TLS 1.1", good, tls.VersionTLS11, func(s *Server) { s.CAFile = pemFile(t, good) }, "tls-too-old"},
		{"self-signed", good, 0, nil, "tls-untrusted"},
		{"another fingerprint", good, 0, func(s *Server) { s.Fingerprint = sumOf(elsewhere) }, "tls-fingerprint"},
		{"a fingerprint beats ca_file", good, 0, func(s *Server) { s.CAFile, s.Fingerprint = pemFile(t, good), sumOf(elsewhere) }, "tls-fingerprint"},
		{"expired", expired, 0, func(s *Server) { s.CAFile = pemFile(t, expired) }, "tls-expired"},
		{"not valid yet", early, 0, func(s *Server) { s.CAFile = pemFile(t, early) }, "tls-expired"},
		{"another host", elsewhere, 0, func(s *Server) { s.CAFile = pemFile(t, elsewhere) }, "tls-wrong-host"},
		{"ca_file missing", good, 0, func(s *Server) { s.CAFile = "/nonexistent" }, "ca-file"},
		{"client_cert missing", good, 0, func(s *Server) { s.ClientCert, s.ClientKey = "/nonexistent", "/nonexistent" }, "client-cert"},
		{"ca_file garbage", good, 0, func(s *Server) { s.CAFile = garbage }, "ca-file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(nc net.Conn) {
				tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{tt.cert}, MinVersion: tls.VersionTLS10, MaxVersion: tt.max})
				_ = tc.Handshake()
				io.Copy(io.Discard, tc)
			})
			if tt.change != nil {
				tt.change(s)
			}
			c, err := s.Dial(t.Context())
			if err == nil {
				if tt.code != "" || !c.Secure() || c.Certificate() == nil {
					t.Errorf("connected, secure %t", c.Secure())
				}
				c.Close()
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code || e.Stage != "tls" || e.Hint == "" {
				t.Errorf("%+v, want %s", err, tt.code)
			}
		})
	}
}

// chain makes a certificate signed by an intermediate authority and returns it
// with that, and the root.
func chain(t *testing.T) (server tls.Certificate, root *x509.Certificate) {
	t.Helper()
	sign := func(c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	authority := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true}
	}
	root, rootKey := sign(authority("root"), nil, nil)
	middle, middleKey := sign(authority("middle"), root, rootKey)
	leaf, key := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, middle, middleKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, middle.Raw}, PrivateKey: key}, root
}

// The line to write names the server's own certificate, whichever of its chain
// was found wanting.
func TestDial_untrustedChain(t *testing.T) {
	cert, root := chain(t)
	s := serve(t, func(nc net.Conn) {
		tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
		_ = tc.Handshake()
		io.Copy(io.Discard, tc)
	})
	_, err := s.Dial(t.Context())
	e, ok := errors.AsType[*Error](err)
	leaf, _ := x509.ParseCertificate(cert.Certificate[0])
	if !ok || e.Code != "tls-untrusted" || !strings.Contains(e.Hint, "tls_fingerprint: "+FingerprintOf(leaf)) ||
		!strings.Contains(e.Hint, "Certificate: CN=leaf, issued by CN=middle") {
		t.Errorf("%+v", err)
	}
	s.Fingerprint = sumOf(cert)
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.Fingerprint, s.CAFile = nil, pemFile(t, tls.Certificate{Certificate: [][]byte{root.Raw}})
	if c, err = s.Dial(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A server that wants to know who we are is shown a certificate.
func TestDial_clientCert(t *testing.T) {
	cert, ours := certificate(t, nil), certificate(t, func(c *x509.Certificate) { c.Subject.CommonName = "jane" })
	shown := make(chan string, 1)
	s := serve(t, func(nc net.Conn) {
		tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
		if tc.Handshake() == nil {
			shown <- tc.ConnectionState().PeerCertificates[0].Subject.CommonName
		}
		io.Copy(io.Discard, tc)
	})
	key, err := x509.MarshalPKCS8PrivateKey(ours.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.CAFile, s.ClientCert, s.ClientKey = pemFile(t, cert), pemFile(t, ours), keyFile
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-shown; got != "jane" {
		t.Errorf("shown %q", got)
	}
}

func TestDial_noTLS(t *testing.T) {
	s := serve(t, func(nc net.Conn) { io.WriteString(nc, "+OK POP3 in clear\r\n") })
	_, err := s.Dial(t.Context())
	var e *Error
	if !errors.As(err, &e) || e.Code != "tls-not-spoken" {
		t.Errorf("%+v", err)
	}
	s.TLS = Plain
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Secure() || c.Certificate() != nil {
		t.Error("passes for encrypted")
	}
}

// A peer that never answers the handshake is left when ctx ends.
func TestDial_cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1)) // the ClientHello has come
		cancel()
		io.Copy(io.Discard, nc)
	})
	_, err := s.Dial(ctx)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Text, "interrupted") {
		t.Errorf("%+v", err)
	}
}

func TestDial_unreachable(t *testing.T) {
	s := serve(t, func(net.Conn) {})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	_, err = s.Dial(t.Context())
	var e *Error
	if !errors.As(err, &e) || e.Code != "server-unreachable" || e.Text != "connection refused" {
		t.Errorf("%+v", err)
	}
}

// The deadline of the last read in clear must not end the handshake, nor live on
// after it.
func TestStartTLS_deadline(t *testing.T) {
	cert := certificate(t, nil)
	s := serve(t, func(nc net.Conn) {
		io.WriteString(nc, "+")
		nc.Read(make([]byte, 1))
		time.Sleep(150 * time.Millisecond) //nolint:forbidigo // longer than the client's timeout
		tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
		io.WriteString(tc, "secret")
		io.Copy(io.Discard, tc)
	})
	s.TLS, s.CAFile, s.Timeout = StartTLS, pemFile(t, cert), 100*time.Millisecond
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "!"); err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
}
