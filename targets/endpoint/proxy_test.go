package endpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// tunnel joins two connections until one ends.
func tunnel(a, b net.Conn) {
	done := make(chan struct{}, 2)
	go func() { io.Copy(a, b); a.Close(); done <- struct{}{} }()
	go func() { io.Copy(b, a); b.Close(); done <- struct{}{} }()
	<-done
	<-done
}

// socksProxy is a server of RFC 1928, which wants a login if user is set. It says
// where it was sent.
func socksProxy(nc net.Conn, user string, to string, sent chan<- string) {
	head := make([]byte, 2)
	io.ReadFull(nc, head)
	methods := make([]byte, head[1])
	io.ReadFull(nc, methods)
	if user != "" {
		if !strings.Contains(string(methods), "\x02") {
			nc.Write([]byte{5, 0xff})
			return
		}
		nc.Write([]byte{5, 2})
		io.ReadFull(nc, head)
		name := make([]byte, head[1]+1)
		io.ReadFull(nc, name)
		password := make([]byte, name[len(name)-1])
		io.ReadFull(nc, password)
		if string(name[:len(name)-1])+":"+string(password) != user {
			nc.Write([]byte{1, 1})
			return
		}
		nc.Write([]byte{1, 0})
	} else {
		nc.Write([]byte{5, 0})
	}
	request := make([]byte, 4)
	io.ReadFull(nc, request)
	n := map[byte]int{1: 4, 4: 16}[request[3]]
	if request[3] == 3 {
		io.ReadFull(nc, head[:1])
		n = int(head[0])
	}
	rest := make([]byte, n+2)
	io.ReadFull(nc, rest)
	host := string(rest[:n])
	if request[3] != 3 {
		host = net.IP(rest[:n]).String()
	}
	sent <- fmt.Sprintf("%s:%d", host, binary.BigEndian.Uint16(rest[n:]))
	there, err := net.Dial("tcp", to)
	if err != nil {
		nc.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	nc.Write([]byte{5, 0, 0, 3, 2, 'a', 'b', 0, 0}) // an address as a name is allowed
	tunnel(nc, there)
}

// httpProxy knows CONNECT.
func httpProxy(nc net.Conn, auth string, to string, sent chan<- string) {
	r, err := http.ReadRequest(bufio.NewReader(nc))
	if err != nil {
		return
	}
	if r.Header.Get("Proxy-Authorization") != auth {
		io.WriteString(nc, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	sent <- r.Host
	there, err := net.Dial("tcp", to)
	if err != nil {
		io.WriteString(nc, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	io.WriteString(nc, "HTTP/1.1 200 Connection established\r\n\r\n")
	tunnel(nc, there)
}

// TestDial_proxy: the server's name is looked up by the proxy, TLS is with the
// server, and no password of a proxy shows.
func TestDial_proxy(t *testing.T) {
	mail := serve(t, func(nc net.Conn) { io.WriteString(nc, "+OK hi\r\n"); io.Copy(io.Discard, nc) })
	const canary = "c4nary-pr0xy"
	for _, tt := range []struct {
		name, user, host string
		to               string
		url              string
		want             string // an error's text
	}{
		{"socks", "", "mail.example", mail.Addr(), "socks5://PROXY", ""},
		{"socks, by address", "", "192.0.2.7", mail.Addr(), "socks5://PROXY", ""},
		{"socks, by IPv6", "", "2001:db8::7", mail.Addr(), "socks5://PROXY", ""},
		{"socks with a login", "jane:" + canary, "mail.example", mail.Addr(), "socks5://jane:" + canary + "@PROXY", ""},
		{"socks, wrong login", "jane:another", "mail.example", mail.Addr(), "socks5://jane:" + canary + "@PROXY", "it refuses user and password"},
		{"socks, no login", "jane:" + canary, "mail.example", mail.Addr(), "socks5://PROXY", "it wants a login that popferry has not got: socks5://USER:PASSWORD@HOST:PORT"},
		{"socks, nobody there", "", "mail.example", "127.0.0.1:1", "socks5://PROXY", "connection refused"},
		{"http", "", "mail.example", mail.Addr(), "http://PROXY", ""},
		{"http with a login", "Basic amFuZTpjNG5hcnktcHIweHk=", "mail.example", mail.Addr(), "http://jane:" + canary + "@PROXY", ""},
		{"http, no login", "Basic x", "mail.example", mail.Addr(), "http://jane:" + canary + "@PROXY", "it says 407 Proxy Authentication Required"},
		{"http, nobody there", "", "mail.example", "127.0.0.1:1", "http://PROXY", "it says 502 Bad Gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := make(chan string, 1)
			proxy := serve(t, func(nc net.Conn) {
				if strings.HasPrefix(tt.url, "http") {
					httpProxy(nc, tt.user, tt.to, sent)
				} else {
					socksProxy(nc, tt.user, tt.to, sent)
				}
			})
			s := &Server{Host: tt.host, Port: 110, TLS: Plain, Proxy: SecretValue(strings.ReplaceAll(tt.url, "PROXY", proxy.Addr()))}
			c, err := s.Dial(t.Context())
			if tt.want != "" {
				e, ok := errors.AsType[*Error](err)
				if !ok || e.Code != "proxy" || e.Text != "the proxy at "+proxy.Addr()+": "+tt.want || strings.Contains(fmt.Sprintf("%+v", e), canary) {
					t.Errorf("%+v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b := make([]byte, 8)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "+OK hi\r\n" {
				t.Errorf("%q, %v", b, err)
			}
			if got := <-sent; got != s.Addr() && got != strings.Trim(strings.ReplaceAll(s.Addr(), "]", ""), "[") {
				t.Errorf("it was sent to %s, want %s", got, s.Addr())
			}
		})
	}
	t.Run("no proxy", func(t *testing.T) {
		for _, answer := range []string{"220 mail.example ESMTP\r\n", ""} {
			p := serve(t, func(nc net.Conn) { io.WriteString(nc, answer) })
			for _, scheme := range []string{"socks5", "http"} {
				s := &Server{Host: "mail.example", Port: 110, TLS: Plain, Proxy: SecretValue(scheme + "://" + p.Addr())}
				_, err := s.Dial(t.Context())
				if e, ok := errors.AsType[*Error](err); !ok || e.Code != "proxy" {
					t.Errorf("%s: %v", scheme, err)
				}
			}
		}
	})
}

// TestDial_source: the server sees the address that was asked for.
func TestDial_source(t *testing.T) {
	from := make(chan string, 1)
	s := serve(t, func(nc net.Conn) { from <- nc.RemoteAddr().(*net.TCPAddr).IP.String() })
	s.TLS, s.SourceIP = Plain, "127.0.0.5"
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Skip("this machine has no second loopback address: ", err)
	}
	c.Close()
	if got := <-from; got != "127.0.0.5" {
		t.Errorf("seen as %s", got)
	}
}
