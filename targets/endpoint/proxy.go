package endpoint

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// dialTCP connects to the server, through the proxy if there is one, from the
// configured address if there is one. Where a name has addresses of both
// families they are raced (RFC 8305), as net.Dialer does.
func (s *Server) dialTCP(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{}
	if s.SourceIP != "" {
		a, err := netip.ParseAddr(s.SourceIP)
		if err != nil {
			return nil, err
		}
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	if s.Proxy.IsZero() {
		return d.DialContext(ctx, "tcp", s.Addr())
	}
	text, err := s.Proxy.Reveal(ctx)
	if err != nil {
		return nil, &proxyError{"the proxy's address: " + err.Error()}
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, &proxyError{"the proxy's address cannot be read"} // err would show a password in it
	}
	nc, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, &proxyError{"the proxy at " + Printable(u.Host, 100) + ": " + plainNetError(err)}
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	ask := s.connect
	if u.Scheme == "socks5" {
		ask = s.socks5
	}
	through, err := ask(nc, u)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &proxyError{"the proxy at " + Printable(u.Host, 100) + ": " + err.Error()}
	}
	return through, nil
}

// proxyError is trouble with a proxy, in words for people.
type proxyError struct{ text string }

func (e *proxyError) Error() string { return e.text }

// connect asks an HTTP proxy for a tunnel (RFC 9110 §9.3.6).
func (s *Server) connect(nc net.Conn, u *url.URL) (net.Conn, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", s.Addr(), s.Addr())
	if u.User != nil {
		password, _ := u.User.Password()
		fmt.Fprintf(&b, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	if _, err := io.WriteString(nc, b.String()+"\r\n"); err != nil {
		return nil, err
	}
	// A server that speaks first may have been faster than we read.
	br := bufio.NewReader(io.LimitReader(nc, 64<<10))
	r, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, errors.New("it does not answer as an HTTP proxy does")
	}
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it says %s", Printable(r.Status, 200))
	}
	if n := br.Buffered(); n > 0 {
		early, _ := br.Peek(n)
		return &earlyConn{nc, early}, nil
	}
	return nc, nil
}

// earlyConn is a connection of which some octets were read already.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// socksReplies are the words for what a SOCKS server answers (RFC 1928 §6).
var socksReplies = []string{
	"", "it has a failure", "its rules do not allow that", "the network cannot be reached from there", "the host cannot be reached from there",
	"connection refused", "the way is too long", "it cannot do that", "it does not know that kind of address",
}

// socks5 asks a SOCKS proxy for a connection (RFC 1928). It looks the name up
// itself: who uses one often cannot.
func (s *Server) socks5(nc net.Conn, u *url.URL) (net.Conn, error) {
	methods := []byte{5, 1, 0}
	if u.User != nil {
		methods = []byte{5, 2, 0, 2}
	}
	if _, err := nc.Write(methods); err != nil {
		return nil, err
	}
	var chosen [2]byte
	if _, err := io.ReadFull(nc, chosen[:]); err != nil || chosen[0] != 5 {
		return nil, errors.New("it does not answer as a SOCKS proxy does")
	}
	switch {
	case chosen[1] == 2 && u.User != nil:
		if err := socksLogin(nc, u.User); err != nil {
			return nil, err
		}
	case chosen[1] != 0:
		return nil, errors.New("it wants a login that popferry has not got: socks5://USER:PASSWORD@HOST:PORT")
	}
	request := []byte{5, 1, 0}
	if a, err := netip.ParseAddr(s.Host); err == nil {
		kind := byte(1)
		if a = a.Unmap(); a.Is6() {
			kind = 4
		}
		request = append(append(request, kind), a.AsSlice()...)
	} else {
		if len(s.Host) > 255 {
			return nil, errors.New("the name of the server is too long for it")
		}
		request = append(append(request, 3, byte(len(s.Host))), s.Host...)
	}
	request = append(request, byte(s.Port>>8), byte(s.Port))
	if _, err := nc.Write(request); err != nil {
		return nil, err
	}
	if err := socksReply(nc); err != nil {
		return nil, err
	}
	return nc, nil
}

// socksLogin is RFC 1929.
func socksLogin(nc net.Conn, who *url.Userinfo) error {
	password, _ := who.Password()
	if len(who.Username()) > 255 || len(password) > 255 {
		return errors.New("user or password is too long for it")
	}
	m := append([]byte{1, byte(len(who.Username()))}, who.Username()...)
	m = append(append(m, byte(len(password))), password...)
	if _, err := nc.Write(m); err != nil {
		return err
	}
	var status [2]byte
	if _, err := io.ReadFull(nc, status[:]); err != nil || status[1] != 0 {
		return errors.New("it refuses user and password")
	}
	return nil
}

// socksReply reads no octet more than the reply has: the next one is the mail
// server's.
func socksReply(nc net.Conn) error {
	var head [4]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil || head[0] != 5 {
		return errors.New("it does not answer as a SOCKS proxy does")
	}
	if code := int(head[1]); code != 0 {
		if code < len(socksReplies) {
			return errors.New(socksReplies[code])
		}
		return errors.New("it refuses, with code " + strconv.Itoa(code))
	}
	rest := map[byte]int{1: 4 + 2, 4: 16 + 2}[head[3]]
	if head[3] == 3 {
		var n [1]byte
		if _, err := io.ReadFull(nc, n[:]); err != nil {
			return err
		}
		rest = int(n[0]) + 2
	}
	if rest == 0 {
		return errors.New("it does not answer as a SOCKS proxy does")
	}
	_, err := io.CopyN(io.Discard, nc, int64(rest))
	return err
}
