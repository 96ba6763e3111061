package maildrop

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"popferry/targets/endpoint"
)

// maxAuthLine is the longest AUTH that may carry an initial response
// (RFC 5034 §4).
const maxAuthLine = 255

// login logs in by the best way open.
func (c *Conn) login(ctx context.Context, password, timestamp string) error {
	offered := c.caps.logins(timestamp != "")
	mech, err := c.cfg.Mechanism(offered, c.nc.Secure())
	if err != nil {
		return err
	}
	c.nc.Chose(mech, offered)
	user := c.cfg.User
	op, told := mech, ""
	switch mech {
	case endpoint.UserPass:
		op, err = "PASS", c.userPass(ctx, user, password)
	case endpoint.APOP:
		digest := md5.Sum([]byte(timestamp + password))
		if err = c.sendSecret(ctx, "APOP "+user+" "+hex.EncodeToString(digest[:]), "APOP ***"); err == nil {
			err = c.reply(ctx, "APOP")
		}
	default:
		op = "AUTH " + mech
		told, err = c.auth(ctx, mech, password)
	}
	if err == nil || !Usable(err) {
		return err
	}
	refused := loginError(fmt.Sprintf("%s for %s", op, endpoint.Printable(user, 80)), c.lc.last.text, &c.caps)
	if refused.Kind == LoginRefused {
		refused.Login = c.nc.LoginRefused(mech, "-ERR "+string(c.lc.last.text), told)
		c.cfg.Judged(ctx, password, refused.Login)
	}
	refused.Reply = errReply(c.said())
	if told != "" {
		refused.Err = errors.New(told)
	}
	return refused
}

// userPass does USER and PASS. Both go in one segment where that is allowed: a
// server that does not know the user refuses PASS as well.
func (c *Conn) userPass(ctx context.Context, user, password string) error {
	ahead := c.caps.Pipelining && c.pipelining()
	if err := c.send(ctx, "USER "+user); err != nil {
		return err
	}
	if !ahead {
		if err := c.reply(ctx, "USER"); err != nil {
			return err
		}
	}
	if err := c.sendSecret(ctx, "PASS "+password, "PASS ***"); err != nil {
		return err
	}
	if ahead {
		if err := c.reply(ctx, "USER"); !Usable(err) {
			return err
		}
	}
	return c.reply(ctx, "PASS")
}

// auth does RFC 5034. The error of -ERR is Refused; told is what the server said
// about it before.
func (c *Conn) auth(ctx context.Context, mech, password string) (told string, err error) {
	for {
		x, err := c.nc.NewExchange(mech, c.caps.SASL, password)
		if err != nil {
			return "", c.fail(ctx, "AUTH "+mech, err)
		}
		if err = c.exchange(ctx, mech, x); err == nil || !Usable(err) || !x.Again() {
			return words([]byte(c.nc.Mask(x.Said()))), err
		}
	}
}

// exchange is one try.
func (c *Conn) exchange(ctx context.Context, mech string, x endpoint.Exchange) error {
	_, initial, err := x.Start()
	if err != nil {
		return c.fail(ctx, "AUTH "+mech, err)
	}
	line, held := "AUTH "+mech, initial
	if initial != nil {
		token := base64.StdEncoding.EncodeToString(initial)
		if with := line + " " + token; len(with)+2 <= maxAuthLine {
			line, held = with, nil
		}
	}
	if err := c.sendSecret(ctx, line, "AUTH "+mech); err != nil {
		return err
	}
	for {
		if err := c.lc.readStatus(); err != nil {
			return c.fail(ctx, "AUTH "+mech, err)
		}
		s := c.lc.last
		c.debug("AUTH " + mech)
		if !s.more {
			break
		}
		challenge, err := base64.StdEncoding.DecodeString(string(s.text))
		if err != nil {
			return c.fail(ctx, "AUTH "+mech, botchf("a challenge that is not base64"))
		}
		answer := held
		if held = nil; answer == nil {
			if answer, err = x.Next(challenge); err != nil {
				// Leaving the dialogue politely would gain nothing: it is over.
				return c.fail(ctx, "AUTH "+mech, err)
			}
		}
		if c.trace {
			c.log.Debug("> ***")
		}
		// Tokens have thousands of octets; no server may ask for them in pieces.
		if err := c.pop.Send(base64.StdEncoding.EncodeToString(answer)); err != nil {
			return c.fail(ctx, "AUTH "+mech, err)
		}
	}
	c.due--
	if !c.lc.last.ok {
		return &Error{Kind: Refused, Op: "AUTH " + mech, Reply: errReply(c.said())}
	}
	if err := x.Done(); err != nil {
		return c.fail(ctx, "AUTH "+mech, err)
	}
	return nil
}

// apopTimestamp returns the timestamp of a greeting, "" if it has none that is
// fit for APOP. It must be a plain msg-id (RFC 1939 §7): other octets help an
// attacker in the server's place to learn the password (CVE-2007-1558).
func apopTimestamp(greeting []byte) string {
	i := bytes.IndexByte(greeting, '<')
	if i < 0 {
		return ""
	}
	j := bytes.IndexByte(greeting[i:], '>')
	if j < 0 {
		return ""
	}
	ts := string(greeting[i : i+j+1])
	inner := ts[1:j]
	if strings.Count(inner, "@") != 1 || inner[0] == '@' || inner[len(inner)-1] == '@' ||
		strings.ContainsFunc(ts, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return ts
}
