package endpoint

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzScram: whatever a server says, it is not believed unless it knows the
// password, and what it gets is well formed.
func FuzzScram(f *testing.F) {
	f.Add("r=abcdef,s=QSXCR+Q6sek8bf92,i=4096", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "")
	f.Add("e=unsupported-channel-binding-type", "", "")
	f.Add("r=abcdef,s=QSXCR+Q6sek8bf92,i=4096,m=x", "e=other", "e=again")
	f.Fuzz(func(t *testing.T, first, last, more string) {
		if strings.Contains(first, "i=") && !strings.Contains(first, "i=4096") {
			return // hashing takes time
		}
		x, err := newExchange(ScramSHA1, "user", "pencil", link{gs2: "y,,"})
		if err != nil {
			t.Fatal(err)
		}
		x.(*scram).nonce = "abc"
		if _, ir, err := x.Start(); err != nil || string(ir) != "y,,n=user,r=abc" {
			t.Fatalf("%q, %v", ir, err)
		}
		for _, c := range []string{first, last, more} {
			answer, err := x.Next([]byte(c))
			if err != nil {
				break
			}
			if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("c=eSws,r=abc")) {
				t.Errorf("%q is answered with %q", c, answer)
			}
		}
		if x.Done() == nil {
			t.Errorf("%q, %q, %q are believed", first, last, more)
		}
	})
}

// FuzzPasted: only an address with our state in it gives a code.
func FuzzPasted(f *testing.F) {
	f.Add("http://127.0.0.1:1/?state=right&code=x")
	f.Add("?state=right&error=access_denied")
	f.Add("code=x")
	f.Fuzz(func(t *testing.T, text string) {
		v := &visit{state: "right"}
		a, err := v.pasted(text)
		if err != nil {
			return
		}
		u, perr := url.Parse(strings.TrimSpace(text))
		if perr != nil || u.Query().Get("state") != "right" || a.code == "" && a.refusal == "" {
			t.Errorf("%q gives %+v", text, a)
		}
	})
}

// FuzzProxy: whatever a proxy answers, dialling ends, and not in a panic.
func FuzzProxy(f *testing.F) {
	f.Add([]byte("\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00+OK"), true)
	f.Add([]byte("\x05\x02\x01\x00\x05\x00\x00\x03\x02ab\x00\x00"), true)
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n+OK hi\r\n"), false)
	f.Add([]byte("HTTP/1.1 407 No\r\nContent-Length: 9999999999\r\n\r\n"), false)
	u, err := url.Parse("socks5://jane:pw@proxy.example:1080")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte, socks bool) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			defer theirs.Close()
			go func() { // whatever we say is read
				b := make([]byte, 4096)
				for {
					if _, err := theirs.Read(b); err != nil {
						return
					}
				}
			}()
			theirs.SetWriteDeadline(time.Now().Add(time.Second))
			theirs.Write(answer)
		}()
		ours.SetDeadline(time.Now().Add(time.Second))
		s := &Server{Host: "mail.example", Port: 110}
		ask := s.connect
		if socks {
			ask = s.socks5
		}
		nc, err := ask(ours, u)
		if (nc == nil) == (err == nil) || errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, %v", nc, err)
		}
	})
}
