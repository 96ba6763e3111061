package imap

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"popferry/targets"
	"popferry/targets/endpoint"
)

const (
	readBuffer     = 32 << 10
	maxLoginLine   = 64 << 10 // tokens in SASL challenges are long
	maxLoginOctets = 1 << 20  // a server that talks without end is given up
)

// connect dials and logs in. Every round trip may cost a tenth of a second, so
// capabilities are taken from where the server volunteers them, and the
// credentials go with the AUTHENTICATE line where they may.
//
// go-imap's own login is not used: it ignores LOGINDISABLED, leaves exchanges
// open, and asks for capabilities behind the caller's back.
func (t *Target) connect(ctx context.Context) (*conn, error) {
	c, err := t.connectOnce(ctx)
	if e, ok := errors.AsType[*endpoint.Error](err); ok && e.Again {
		t.log.Info("the token is not accepted any more, asking for another", "target", t.name, "err", err)
		c, err = t.connectOnce(ctx)
	}
	return c, err
}

func (t *Target) connectOnce(ctx context.Context) (*conn, error) {
	nc, err := t.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	nc.Trace(t.log.With("target", t.name))
	stop := nc.CloseOn(ctx)
	d := &dialogue{nc: nc, br: bufio.NewReaderSize(nc, readBuffer)}
	err = d.login(ctx, &t.cfg.Server)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	t.leaf.Store(nc.Certificate())
	c := newConn(nc, d.br, d.caps)
	c.done, c.lost = t.over, t.connLost
	c.facts = nc.Facts()
	if nc.Tracing() {
		c.sent, c.got = nc.Sent, nc.Got
	}
	c.start(t.wg.Go)
	if err := t.learn(c); err != nil {
		c.fail(err)
		return nil, err
	}
	return c, nil
}

// dialogue is the connection while one command is asked at a time, up to and
// with the login.
type dialogue struct {
	nc     *endpoint.Conn
	br     *bufio.Reader
	tag    int
	caps   caps // nil is not known
	octets int
}

func (d *dialogue) login(ctx context.Context, s *endpoint.Server) error {
	greeting, err := d.greeting()
	if err != nil {
		return err
	}
	if s.TLS == endpoint.StartTLS {
		if greeting.status == "PREAUTH" {
			return s.Preauth()
		}
		if err := d.startTLS(ctx); err != nil {
			return err
		}
	}
	if err := d.needCaps(); err != nil {
		return err
	}
	if greeting.status != "PREAUTH" {
		if err := d.authenticate(ctx, s); err != nil {
			return err
		}
		if err := d.needCaps(); err != nil {
			return err
		}
	}
	if !d.caps["IMAP4REV1"] && !d.caps["IMAP4REV2"] {
		return &targets.Error{Fault: targets.Down, Op: "CAPABILITY", Err: errors.New("the server speaks neither IMAP4rev1 nor IMAP4rev2")}
	}
	if d.br.Buffered() > 0 {
		return &targets.Error{Fault: targets.Down, Op: "login", Err: errors.New("the server says more than it was asked")}
	}
	return nil
}

func (d *dialogue) greeting() (reply, error) {
	line, err := d.line()
	if err != nil {
		return reply{}, &targets.Error{Fault: targets.Down, Op: "greeting", Err: err}
	}
	r, ok := parseReply(bytes.TrimPrefix(line, []byte("* ")))
	if !ok || line[0] != '*' {
		return reply{}, &targets.Error{Fault: targets.Down, Op: "greeting", Reply: printable(string(line)), Err: errors.New("this is no IMAP server")}
	}
	if r.status != "OK" && r.status != "PREAUTH" {
		return reply{}, down("greeting", r)
	}
	d.learn(r)
	return r, nil
}

// startTLS changes to TLS and forgets all that was said before.
func (d *dialogue) startTLS(ctx context.Context) error {
	if err := d.needCaps(); err != nil {
		return err
	}
	if !d.caps["STARTTLS"] {
		return d.nc.Server().NoTLS("STARTTLS", "", 993)
	}
	r, err := d.ask("STARTTLS", "STARTTLS", nil)
	if err != nil {
		return err
	}
	if r.status != "OK" {
		return d.nc.Server().NoTLS("STARTTLS", r.raw(), 993)
	}
	if d.br.Buffered() > 0 {
		return d.nc.Server().SentAhead("STARTTLS")
	}
	if err := d.nc.StartTLS(ctx); err != nil {
		return err
	}
	d.caps = nil
	return nil
}

func (d *dialogue) needCaps() error {
	if d.caps != nil {
		return nil
	}
	r, err := d.ask("CAPABILITY", "CAPABILITY", nil)
	if err != nil {
		return err
	}
	if r.status != "OK" || d.caps == nil {
		return down("CAPABILITY", r)
	}
	return nil
}

// authenticate logs in by the best way both sides know.
func (d *dialogue) authenticate(ctx context.Context, s *endpoint.Server) error {
	var offered []string
	for c := range d.caps {
		if mech, ok := strings.CutPrefix(c, "AUTH="); ok {
			offered = append(offered, mech)
		}
	}
	if !d.caps["LOGINDISABLED"] {
		offered = append(offered, endpoint.UserPass)
	}
	mech, err := s.Mechanism(offered, d.nc.Secure())
	if err != nil {
		return err
	}
	slices.Sort(offered)
	d.nc.Chose(mech, offered)
	password, err := s.Secret(ctx)
	if err != nil {
		return err
	}
	ir := d.caps["SASL-IR"] || d.caps.rev2Only() // the first answer may go with the command (RFC 4959)
	d.caps = nil                                 // they change with the login
	op := fmt.Sprintf("login as %q", s.User)
	var r reply
	told := ""
	if mech == endpoint.UserPass {
		if !plainASCII(s.User) || !plainASCII(password) {
			return &targets.Error{Fault: targets.Down, Op: op, Err: errors.New(
				"the server offers nothing but LOGIN, which cannot carry what is not ASCII")}
		}
		d.nc.Hide(password, quote(password))
		r, err = d.ask(op, "LOGIN "+quote(s.User)+" "+quote(password), nil)
	} else {
		r, told, err = d.sasl(op, mech, password, offered, ir)
	}
	if err != nil {
		return err
	}
	if r.status == "OK" {
		s.Judged(ctx, password, nil)
		return nil
	}
	refused := d.nc.LoginRefused(mech, r.raw(), told)
	if !r.aboutCredentials() {
		refused.Code = endpoint.CodeLoginUnavailable
	}
	s.Judged(ctx, password, refused)
	return &targets.Error{Fault: targets.Down, Op: op, Err: refused}
}

// notCredentials are response codes of servers that cannot say now whether user
// and password are right (RFC 5530).
var notCredentials = []string{"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "THROTTLED"}

// aboutCredentials reports whether a reply to a login is about user and password.
func (r reply) aboutCredentials() bool {
	return r.status == "NO" && !slices.Contains(notCredentials, r.code) &&
		!busyText.MatchString(r.text) && !backOff.MatchString(r.text)
}

// sasl does AUTHENTICATE. told is what the server said about a refusal before
// the reply.
func (d *dialogue) sasl(op, mech, password string, offered []string, ir bool) (r reply, told string, err error) {
	for {
		x, err := d.nc.NewExchange(mech, offered, password)
		if err != nil {
			return reply{}, "", &targets.Error{Fault: targets.Down, Op: op, Err: err}
		}
		if r, err = d.exchange(op, x, ir); err != nil || r.status == "OK" || !x.Again() {
			return r, x.Said(), err
		}
	}
}

// maxIR is the longest line that may carry an initial response: servers have a
// limit, and tokens are long (RFC 7162 §4 asks them for 8,192 octets).
const maxIR = 8000

// exchange is one try.
func (d *dialogue) exchange(op string, x endpoint.Exchange, ir bool) (reply, error) {
	mech, first, err := x.Start()
	if err != nil {
		return reply{}, &targets.Error{Fault: targets.Down, Op: op, Err: err}
	}
	line := "AUTHENTICATE " + mech
	if with := line + " " + encode64(first); first != nil && ir && len(with) <= maxIR {
		line, first = with, nil
	}
	r, err := d.ask(op, line, func(challenge []byte) (string, error) {
		if first != nil {
			answer := first
			first = nil
			return base64.StdEncoding.EncodeToString(answer), nil
		}
		plain, err := base64.StdEncoding.DecodeString(string(challenge))
		if err != nil {
			return "", errors.New("the server's challenge is not base64")
		}
		answer, err := x.Next(plain)
		return base64.StdEncoding.EncodeToString(answer), err
	})
	if err == nil && r.status == "OK" {
		if err := x.Done(); err != nil {
			return reply{}, &targets.Error{Fault: targets.Down, Op: op, Err: err}
		}
	}
	return r, err
}

func encode64(b []byte) string {
	if len(b) == 0 {
		return "=" // RFC 4959 §3: an empty initial response
	}
	return base64.StdEncoding.EncodeToString(b)
}

// ask sends one command and returns its reply. Challenges are answered by
// answer; an error of its ends the dialogue, for there is no way back. What is
// sent never shows in an error.
func (d *dialogue) ask(op, line string, answer func([]byte) (string, error)) (reply, error) {
	fail := func(err error) (reply, error) {
		return reply{}, &targets.Error{Fault: targets.Down, Op: op, Err: err}
	}
	d.tag++
	tag := fmt.Sprintf("L%d", d.tag)
	d.nc.Sent(tag + " " + line)
	if _, err := io.WriteString(d.nc, tag+" "+line+"\r\n"); err != nil {
		return fail(err)
	}
	for {
		got, err := d.line()
		if err != nil {
			return fail(err)
		}
		switch word, rest, _ := bytes.Cut(got, space); {
		case string(word) == tag:
			r, ok := parseReply(rest)
			if !ok {
				return fail(unexpected(got))
			}
			d.nc.Progress()
			if r.status == "OK" {
				d.learn(r)
			}
			return r, nil
		case string(word) == "*":
			if list, ok := cutPrefixFold(rest, "CAPABILITY "); ok {
				d.caps = parseCaps(string(list))
			} else if r, ok := parseReply(rest); ok && r.status == "BYE" {
				return reply{}, down(op, r)
			}
		case string(word) == "+" && answer != nil:
			text, err := answer(rest)
			if err != nil {
				return fail(err)
			}
			d.nc.Sent(text)
			if _, err := io.WriteString(d.nc, text+"\r\n"); err != nil {
				return fail(err)
			}
		default:
			return fail(unexpected(got))
		}
	}
}

// learn takes capabilities that a reply volunteers.
func (d *dialogue) learn(r reply) {
	if r.code == "CAPABILITY" {
		d.caps = parseCaps(r.arg)
	}
}

// line returns the next line without its end, valid until the next call.
func (d *dialogue) line() ([]byte, error) {
	var long []byte
	for {
		part, err := d.br.ReadSlice('\n')
		if d.octets += len(part); d.octets > maxLoginOctets || len(long)+len(part) > maxLoginLine {
			return nil, errors.New("the server talks without end")
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			continue
		}
		if err != nil {
			return nil, noEOF(err)
		}
		if long != nil {
			part = append(long, part...)
		}
		part = bytes.TrimRight(part, "\r\n")
		if len(part) == 0 {
			return nil, errors.New("the server sent an empty line")
		}
		if d.nc.Tracing() {
			d.nc.Got(string(part))
		}
		return part, nil
	}
}

// down is a refusal before or at the login: whatever the words, nothing can be
// delivered now.
func down(op string, r reply) error {
	e := r.error(op)
	e.Fault = targets.Down
	return e
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// quote makes an IMAP quoted string of s, which holds no CR, LF or NUL.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func cutPrefixFold(p []byte, prefix string) ([]byte, bool) {
	if len(p) < len(prefix) || !strings.EqualFold(string(p[:len(prefix)]), prefix) {
		return nil, false
	}
	return p[len(prefix):], true
}

// Certificate is part of targets.Certified.
func (t *Target) Certificate() *x509.Certificate { return t.leaf.Load() }
