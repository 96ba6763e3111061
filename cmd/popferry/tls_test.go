package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/maildrop"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/smtp"
)

// certFor makes a certificate signed by itself for a name, good for some years.
func certFor(t *testing.T, name string, from, to int) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Example Mail"}},
		NotBefore: time.Date(from, 1, 2, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(to, 1, 2, 0, 0, 0, 0, time.UTC),
		DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
	}
	if name == "127.0.0.1" {
		c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// told answers lines from a script, one each; "" is not answered. What it was
// told is in the returned function, which waits for the end.
func told(t *testing.T, wrap func(net.Conn) net.Conn, greeting string, replies ...string) (port int, lines func() string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	said := make(chan string, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			said <- ""
			return
		}
		defer nc.Close()
		nc = wrap(nc)
		if greeting != "" {
			io.WriteString(nc, greeting+"\r\n")
		}
		var all strings.Builder
		in := bufio.NewScanner(nc)
		for _, r := range replies {
			if !in.Scan() {
				break
			}
			fmt.Fprintln(&all, in.Text())
			tag, _, _ := strings.Cut(in.Text(), " ")
			io.WriteString(nc, strings.ReplaceAll(r, "TAG", tag)+"\r\n")
		}
		rest, _ := io.ReadAll(nc)
		said <- all.String() + string(rest)
	}()
	return ln.Addr().(*net.TCPAddr).Port, func() string { return <-said }
}

func plainly(nc net.Conn) net.Conn { return nc }

func inTLS(c tls.Certificate, most uint16) func(net.Conn) net.Conn {
	return func(nc net.Conn) net.Conn {
		return tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS10, MaxVersion: most})
	}
}

// refusal is what a user reads who wants to reach a server that way.
func refusal(t *testing.T, protocol string, s endpoint.Server) string {
	t.Helper()
	s.Host, s.User, s.Password, s.Timeout = "127.0.0.1", "jane", endpoint.SecretValue(canary), 5*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, _, stderr := testApp(t)
	var err error
	at := where{target: "home", server: &s}
	switch protocol {
	case "pop3":
		_, err = maildrop.Dial(ctx, &maildrop.Config{Server: s}, nil)
		at = where{account: &fetcher.Account{Name: "isp", Maildrop: maildrop.Config{Server: s}}}
	default:
		var c targets.Config = imap.Config{Server: s}
		if protocol == "smtp" {
			c = smtp.Config{Server: s}
		}
		tg, openErr := c.Open("home", a.log)
		if openErr != nil {
			t.Fatal(openErr)
		}
		defer tg.Close()
		fs, checkErr := tg.Check(ctx)
		if checkErr != nil || len(fs) != 1 || fs[0].Err == nil {
			t.Fatalf("%s: %v, %v", protocol, fs, checkErr)
		}
		err = fs[0].Err
	}
	if err == nil {
		t.Fatalf("%s: it went through", protocol)
	}
	explain(err, at).render(a.stderr)
	return strings.ReplaceAll(stderr.String(), fmt.Sprint(s.Port), "995")
}

// TestTLS_refused: whatever is wrong with a connection, nobody's password goes
// over it, and the user reads what is wrong and which line would accept it.
func TestTLS_refused(t *testing.T) {
	good, elsewhere := certFor(t, "127.0.0.1", 2020, 2099), certFor(t, "mail.elsewhere.example", 2020, 2099)
	expired := certFor(t, "127.0.0.1", 2019, 2021)
	file := filepath.Join(t.TempDir(), "ca.pem")
	var ca bytes.Buffer
	for _, c := range []tls.Certificate{elsewhere, expired} {
		if err := pem.Encode(&ca, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, ca.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, c := range []struct {
		name, protocol string
		server         endpoint.Server
		cert           tls.Certificate // nil: in clear
		most           uint16
		script         []string
	}{
		{"wrong host", "pop3", endpoint.Server{CAFile: file}, elsewhere, 0, nil},
		{"expired", "imap", endpoint.Server{CAFile: file}, expired, 0, nil},
		{"signed by itself", "smtp", endpoint.Server{}, good, 0, nil},
		{"another fingerprint", "pop3", endpoint.Server{Fingerprint: make([]byte, 32)}, good, 0, nil},
		{"TLS 1.0", "pop3", endpoint.Server{}, good, tls.VersionTLS10, nil},
		{"no TLS", "imap", endpoint.Server{}, tls.Certificate{}, 0, []string{"* OK IMAP4rev1 ready"}},
		{"STLS stripped", "pop3", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"+OK hi", "-ERR unknown command"}},
		{"STARTTLS stripped", "imap", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi"}},
		{"STARTTLS stripped", "smtp", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"220 hi", "250-hi\r\n250 AUTH PLAIN"}},
		{"STARTTLS refused", "imap", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi", "TAG NO [REFERRAL imap://evil.example/] go there"}},
		{"injected", "pop3", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"+OK hi", "+OK begin\r\n+OK logged in"}},
		{"injected", "imap", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi", "TAG OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN"}},
		{"injected", "smtp", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"220 hi", "250-hi\r\n250 STARTTLS", "220 begin\r\n250 AUTH PLAIN"}},
		{"PREAUTH", "imap", endpoint.Server{TLS: endpoint.StartTLS}, tls.Certificate{}, 0, []string{"* PREAUTH [CAPABILITY IMAP4rev1] welcome"}},
		{"ca_file is missing", "pop3", endpoint.Server{CAFile: "/nonexistent"}, good, 0, nil},
	} {
		wrap := plainly
		if c.cert.Certificate != nil {
			wrap = inTLS(c.cert, c.most)
		}
		greeting, rest := "", c.script
		if len(rest) > 0 {
			greeting, rest = rest[0], rest[1:]
		}
		port, lines := told(t, wrap, greeting, rest...)
		c.server.Port = port
		text := refusal(t, c.protocol, c.server)
		if c.cert.Certificate != nil {
			leaf, err := x509.ParseCertificate(c.cert.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			text = strings.ReplaceAll(text, endpoint.FingerprintOf(leaf), "sha256:9f86d0")
		}
		fmt.Fprintf(&got, "-- %s, %s --\n%s", c.name, c.protocol, text)
		if c.server.CAFile == "/nonexistent" {
			continue // nobody was called
		}
		said := lines()
		for _, word := range []string{"AUTH", "LOGIN", "PASS", "USER", canary} {
			if strings.Contains(said, word) {
				t.Errorf("%s, %s: it said %q", c.name, c.protocol, said)
			}
		}
	}
	golden := filepath.Join("..", "..", "testdata", "tls", "refused.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("-%s +now; -update writes it:\n%s", golden, diff)
	}
}
