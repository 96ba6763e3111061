package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"popferry/targets"
	"popferry/targets/endpoint"
)

// Check logs in and asks whether mail for the target's own recipients would be
// taken: MAIL and RCPT, and then RSET. Nothing is sent. What is wrong is a
// finding; an error means that ctx ended.
func (t *Target) Check(ctx context.Context) ([]targets.Finding, error) {
	c, err := t.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return []targets.Finding{connectFinding(err)}, nil
	}
	stop := c.nc.CloseOn(ctx)
	defer stop()
	defer c.quit()
	who := "without a login"
	if t.cfg.User != "" {
		who = "as " + t.cfg.User
	}
	facts := c.nc.Facts()
	if how := facts.Login(); how != "" {
		who += " (" + how + ")"
	}
	text, soon := facts.Link(t.now())
	link := targets.Finding{Level: "ok", Text: text}
	if soon {
		link.Level, link.Hint = "warn", "The certificate ends soon; if it is not renewed by then, nothing is delivered."
	}
	list := []targets.Finding{link, {Level: "ok", Text: fmt.Sprintf("connected to %s %s", t.cfg.Addr(), who)}}
	list = append(list, c.abilities()...)
	return append(list, t.rehearse(c)...), ctx.Err()
}

func connectFinding(err error) targets.Finding {
	f := targets.Finding{Level: "fail", Text: err.Error(), Err: err}
	if dial, ok := errors.AsType[*endpoint.Error](err); ok {
		f.Hint = dial.Hint
	} else if e, ok := errors.AsType[*targets.Error](err); ok && strings.HasPrefix(e.Op, "login") && e.Reply != "" {
		f.Hint = "Check user and password. Many providers want an app password for SMTP."
	}
	return f
}

// abilities says how fast it will be, and what may be changed or refused.
func (c *conn) abilities() []targets.Finding {
	how := "four round trips a message and connection (no PIPELINING)"
	if c.pipelining {
		how = "one round trip a message and connection (PIPELINING)"
	}
	list := []targets.Finding{{Level: "ok", Text: "sends with " + how}}
	if c.size > 0 {
		list = append(list, targets.Finding{Level: "ok", Text: "takes messages up to " + octets(c.size)})
	}
	if !c.eightBit {
		list = append(list, targets.Finding{
			Level: "warn", Text: "the server does not offer 8BITMIME",
			Hint: "8-bit mail is sent to it as it is. If the server re-encodes it, DKIM signatures break.",
		})
	}
	return list
}

// rehearse asks for the transaction that most messages will have.
func (t *Target) rehearse(c *conn) []targets.Finding {
	if len(t.cfg.Recipients) == 0 {
		return nil
	}
	ask := func(line string) (reply, error) {
		e := &exchange{c: c}
		return e.ask(line)
	}
	var list []targets.Finding
	fail := func(err error) []targets.Finding {
		if at, ok := errors.AsType[*brokeAt](err); ok {
			err = down(at.op, at.err)
		}
		return append(list, targets.Finding{Level: "fail", Text: err.Error(), Err: err})
	}
	r, err := ask("MAIL FROM:<" + t.cfg.Sender.Address + ">")
	if err == nil && !r.ok() {
		err = r.error(atMail, "MAIL")
	}
	if err != nil {
		return fail(err)
	}
	for _, rcpt := range t.cfg.Recipients {
		op := "RCPT TO:<" + endpoint.Printable(rcpt, 100) + ">"
		if r, err = ask("RCPT TO:<" + rcpt + ">"); err != nil {
			return fail(err)
		}
		switch {
		case r.ok():
			list = append(list, targets.Finding{Level: "ok", Text: "takes mail for " + rcpt})
		case r.code/100 == 4:
			list = append(list, targets.Finding{
				Level: "warn", Text: r.error(atRcpt, op).Error(),
				Hint: "The server says that this is temporary (greylisting, for example). Messages are tried again in every run.",
			})
		default:
			err := r.error(atRcpt, op)
			list = append(list, targets.Finding{Level: "fail", Text: err.Error(), Err: err, Hint: "The server must know this recipient, or relay for it, before popferry can deliver there."})
		}
	}
	if _, err = ask("RSET"); err != nil {
		return fail(err)
	}
	return list
}

// octets writes a size as sizes are written in the configuration.
func octets(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%dG", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%dM", n>>20)
	}
	return fmt.Sprintf("%dK", n>>10)
}
