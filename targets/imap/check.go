package imap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"popferry/targets"
	"popferry/targets/endpoint"
)

// Check logs in and looks at the default folder. It stores and makes nothing.
// What is wrong is a finding; an error means that ctx ended.
func (t *Target) Check(ctx context.Context) ([]targets.Finding, error) {
	c, err := t.acquire(ctx, false)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return []targets.Finding{t.loginFinding(err)}, nil
	}
	defer t.leave(c)
	stop := context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })
	defer stop()
	how := c.facts.Login()
	if how != "" {
		how = " (" + how + ")"
	}
	list := append(linkFindings(&c.facts, t.now()), targets.Finding{Level: "ok", Text: fmt.Sprintf("logged in to %s as %s%s", t.cfg.Addr(), t.cfg.User, how)})
	list = append(list, t.abilities(c)...)
	for _, look := range []func(*conn) (targets.Finding, bool){t.folderFinding, t.createFinding, t.quotaFinding} {
		if f, ok := look(c); ok {
			list = append(list, f)
		}
	}
	return list, ctx.Err()
}

func (t *Target) loginFinding(err error) targets.Finding {
	f := targets.Finding{Level: "fail", Text: err.Error(), Err: err}
	var dial *endpoint.Error
	var refused *targets.Error
	switch {
	case errors.As(err, &dial):
		f.Hint = dial.Hint
	case errors.As(err, &refused) && refused.Reply != "":
		f.Hint = "Check user and password. Many providers want an app password for IMAP."
	}
	return f
}

// linkFindings says how the connection stands.
func linkFindings(f *endpoint.Facts, now time.Time) []targets.Finding {
	text, soon := f.Link(now)
	if soon {
		return []targets.Finding{{Level: "warn", Text: text, Hint: "The certificate ends soon; if it is not renewed by then, nothing is delivered."}}
	}
	return []targets.Finding{{Level: "ok", Text: text}}
}

// createFinding asks whether folders may be made below the default one, where
// the server tells rights (RFC 4314).
func (t *Target) createFinding(c *conn) (targets.Finding, bool) {
	if !c.caps["ACL"] || !t.cfg.CreateFolders {
		return targets.Finding{}, false
	}
	mine, err := c.client.MyRights("INBOX").Wait()
	if err != nil {
		return targets.Finding{}, false
	}
	if strings.ContainsAny(string(mine.Rights), "kc") {
		return targets.Finding{Level: "ok", Text: "folders can be made"}, true
	}
	return targets.Finding{
		Level: "warn", Text: "the server does not let this user make folders",
		Hint: "Make those that the rules name by hand, or set create_folders: no.",
	}, true
}

// abilities says how fast it will be, and what will be missed.
func (t *Target) abilities(c *conn) []targets.Finding {
	how := "one message per round trip and connection (no LITERAL+)"
	switch {
	case c.caps.multi():
		how = "many messages per command (MULTIAPPEND)"
	case c.caps.literalPlus():
		how = "many commands under way (LITERAL+)"
	}
	if c.caps["UIDPLUS"] {
		how += " · UIDPLUS"
	}
	list := []targets.Finding{{Level: "ok", Text: "appends " + how}}
	if !c.caps["UIDPLUS"] && !c.caps.rev2Only() {
		list = append(list, targets.Finding{
			Level: "warn", Text: "the server does not say which UID a message got (no UIDPLUS)",
			Hint: "Recovery after an interruption compares contents instead, which takes longer.",
		})
	}
	if limit, _ := c.caps.appendLimit(); limit > 0 {
		list = append(list, targets.Finding{
			Level: "ok", Text: "takes messages up to " + octets(limit),
		})
	}
	return list
}

func (t *Target) folderFinding(c *conn) (targets.Finding, bool) {
	t.mu.Lock()
	facts := t.facts
	t.mu.Unlock()
	full, err := facts.serverName(t.home())
	if err != nil {
		return targets.Finding{Level: "fail", Text: err.Error(), Err: err}, true
	}
	cmd, err := c.ask("EXAMINE", t.folderNamed(full))
	if err == nil {
		<-cmd.ended
		err = cmd.err
	}
	switch {
	case err != nil:
		err = t.wrap(fmt.Sprintf("EXAMINE %q", full), listError(c, err))
		return targets.Finding{Level: "fail", Text: err.Error(), Err: err}, true
	case cmd.reply.status == "OK":
		return targets.Finding{Level: "ok", Text: fmt.Sprintf("folder %q is there", full)}, true
	case t.cfg.CreateFolders:
		return targets.Finding{Level: "ok", Text: fmt.Sprintf("folder %q is not there yet; it will be made", full)}, true
	}
	return targets.Finding{
		Level: "fail", Text: fmt.Sprintf("folder %q: %s", full, cmd.reply),
		Hint: "Make the folder, or set create_folders: yes.",
		Err:  cmd.reply.error(fmt.Sprintf("EXAMINE %q", full)),
	}, true
}

func (t *Target) quotaFinding(c *conn) (targets.Finding, bool) {
	if !c.caps["QUOTA"] {
		return targets.Finding{}, false
	}
	roots, err := c.client.GetQuotaRoot("INBOX").Wait()
	if err != nil {
		return targets.Finding{}, false
	}
	for _, r := range roots {
		s, ok := r.Resources[imap.QuotaResourceStorage]
		if !ok || s.Limit <= 0 {
			continue
		}
		f := targets.Finding{Level: "ok", Code: "quota", Text: fmt.Sprintf("uses %s of %s",
			octets(s.Usage<<10), octets(s.Limit<<10))}
		if s.Usage >= s.Limit/10*9 {
			f.Level, f.Hint = "warn", "When the mailbox is full, messages stay in the maildrop until there is room."
		}
		return f, true
	}
	return targets.Finding{}, false
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
