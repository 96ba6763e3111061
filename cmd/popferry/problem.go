package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// problem is an error as a person should read it: what is wrong, why, and what
// to do next.
type problem struct {
	exit  int
	code  string   // stable, for scripts: "login-refused"
	head  string   // what and where
	lines []string // why, and what next
}

// where says what an error is about, as far as that is known.
type where struct {
	account *fetcher.Account
	target  string // its name
	server  *endpoint.Server
}

const (
	codeColumn = 76 // as in config's blocks
	maxLines   = 7  // below the headline
)

// render writes p as a block of at most eight lines.
func (p *problem) render(s *stream) {
	head := cut(p.head, 300)
	pad := max(2, codeColumn-utf8.RuneCountInString(head))
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s%s\n", s.paint(bold, head), strings.Repeat(" ", pad), s.paint(dim, "["+p.code+"]"))
	for _, l := range p.lines[:min(len(p.lines), maxLines)] {
		b.WriteString("   " + cut(l, 300) + "\n")
	}
	s.print(b.String())
}

// report prints a problem: as a block for people, as a log record where
// somebody asked for those.
func (a *app) report(p *problem) {
	if a.logFormat == "auto" {
		p.render(a.stderr)
		return
	}
	a.log.Error("problem", "fault", p.code, "err", strings.Join(append([]string{p.head}, p.lines...), " / "))
}

// last prints the line that says why the exit code is not 0.
func (a *app) last(e exit) {
	if a.logFormat == "auto" {
		a.stderr.print(e.Error() + "\n")
		return
	}
	a.log.Error("exit", "err", e)
}

// misconfigured prints all that is wrong with a configuration.
func (a *app) misconfigured(errs config.Errors) exit {
	if a.logFormat == "auto" {
		_ = errs.Render(a.stderr, a.stderr.color) // the stream remembers why it fails
	} else {
		for _, e := range errs {
			a.log.Error("problem", "fault", e.Code, "err", e)
		}
	}
	reason := count(len(errs), "error")
	if f := errs[0].File; f != "" {
		reason += " in " + f
	}
	return exit{code: exitConfig, reason: reason}
}

// explain puts err into words. at may be empty.
func explain(err error, at where) *problem {
	var (
		usage *usageError
		ce    *config.Error
		se    *state.Error
		le    *daemon.ListenError
		ee    *endpoint.Error
		me    *maildrop.Error
		te    *targets.Error
		dc    *daemon.Crash
		sig   interrupted
	)
	switch {
	case errors.As(err, &usage):
		return &problem{exit: exitUsage, code: "usage", head: usage.text, lines: hint(usage.hint)}
	case errors.As(err, &ce):
		return &problem{exit: exitConfig, code: ce.Code, head: ce.Error(), lines: hint(ce.Hint)}
	case errors.As(err, &se):
		return explainState(se)
	case errors.As(err, &le):
		p := &problem{exit: exitConfig, code: "http-listen", head: plain(le), lines: hint(le.Hint)}
		if le.Later {
			p.exit = exitLater
		}
		return p
	case errors.As(err, &ee):
		return explainEndpoint(ee)
	case errors.As(err, &me):
		return explainMaildrop(me, at)
	case errors.As(err, &te):
		return explainTarget(te, at)
	case errors.Is(err, fetcher.ErrBusy):
		return &problem{
			exit: exitLater, code: "account-busy", head: "a pass over this account is already running",
			lines: hint("Wait until it ends: two of them would fetch everything twice."),
		}
	case errors.As(err, &dc):
		return &problem{exit: exitBug, code: "bug", head: "popferry has a bug: " + plain(dc), lines: bugLines}
	case errors.Is(err, context.Canceled), errors.As(err, &sig):
		return &problem{exit: 128 + int(cmp.Or(sig.sig, syscall.SIGINT)), code: "interrupted", head: "interrupted", lines: hint("It is safe to start again.")}
	case errors.As(err, new(*fs.PathError)), errors.Is(err, io.ErrShortWrite):
		return &problem{exit: exitState, code: "file", head: plain(err)}
	case errors.As(err, new(net.Error)):
		return &problem{exit: exitUnreachable, code: "network", head: plain(err)}
	}
	return &problem{exit: exitBug, code: "unexpected", head: plain(err), lines: hint("Nothing is lost: what was not confirmed is still on the maildrop.")}
}

func explainState(e *state.Error) *problem {
	p := &problem{exit: exitState, code: e.Code, head: plain(e), lines: hint(e.Hint)}
	switch e.Code {
	case state.CodeLocked:
		p.exit, p.head = exitLater, filepath.Base(e.Path)+" is locked by another popferry"
		by := "another popferry"
		if e.PID > 0 {
			by = fmt.Sprintf("process %d", e.PID)
		}
		p.lines = []string{
			"It is used by " + by + "; two at a time would fetch everything twice.",
			"Wait until it ends, or stop it. What only reads works meanwhile: popferry state list",
		}
	case state.CodeMissing:
		p.lines = []string{
			"It should be at " + endpoint.Printable(e.Path, 200) + ". It knows what was delivered.",
			"Restore it, or start anew:  popferry run --new-state   (messages already in the target are recognised by Message-ID)",
		}
	case state.CodeDamaged:
		p.lines = []string{
			"Restore a copy of " + endpoint.Printable(e.Path, 200) + ", or start anew:",
			"popferry run --new-state   (messages already in the target are recognised by Message-ID)",
			"The damaged file is kept beside it. If there is an export:  popferry state import --new-state FILE",
		}
	}
	return p
}

// explainEndpoint is about servers that could not be reached, or that did not
// prove who they are.
func explainEndpoint(e *endpoint.Error) *problem {
	p := &problem{exit: exitUnreachable, code: e.Code, head: plain(e), lines: hint(e.Hint)}
	switch {
	case e.Code == "password-unavailable":
		p.exit = exitConfig
		p.lines = hint("Check password_file or password_command. Nobody was asked to log in.")
	case e.Code == endpoint.CodeCAFile, e.Code == endpoint.CodeClientCert:
		p.exit = exitConfig
	case e.Code == endpoint.CodeLoginRefused:
		return loginRefused(e)
	case e.Code == endpoint.CodeSignInClient:
		p.exit = exitConfig
	case e.Code == "token-file":
		p.exit = exitState
	case e.Code == endpoint.CodeSignInDown, e.Code == "proxy":
		p.exit = exitUnreachable
	case e.Code == endpoint.CodePaused:
		p.exit, p.head = exitLogin, fmt.Sprintf("login at %s for %s waits: it was refused too often", e.Addr, endpoint.Printable(e.User, 100))
		p.lines = []string{
			"popferry tries again as soon as the password changes, else on " + e.Until.Format("Jan 2 at 15:04") + ", so that the account is not locked.",
			"To try now:  popferry check   (while popferry serve runs, send it SIGUSR1)",
		}
	case e.Code == endpoint.CodeLoginUnavailable:
		p.exit, p.head = exitLater, e.Addr+": the server cannot check the login now"
		p.lines = append(said(e.Reply), "That is not about user and password; the next pass tries again.")
	case e.Stage == "auth":
		p.exit = exitLogin
	}
	return p
}

func explainMaildrop(e *maildrop.Error, at where) *problem {
	host := "the POP3 server"
	user := ""
	if at.account != nil {
		host, user = at.account.Maildrop.Addr(), at.account.Maildrop.User
	}
	p := &problem{exit: exitUnreachable, code: "pop3-" + strings.ReplaceAll(e.Kind.String(), " ", "-"), head: host + ": " + plain(e)}
	switch {
	case e.Kind == maildrop.LoginRefused:
		if e.Login != nil {
			return explainEndpoint(e.Login)
		}
		return loginRefused(&endpoint.Error{Addr: host, User: user, Reply: e.Reply})
	case e.Code == maildrop.InUse:
		p.exit, p.code, p.head = exitLater, "maildrop-in-use", host+": somebody else is reading this maildrop"
		p.lines = append(said(e.Reply), "Only one program at a time may. Wait, or look for a mail program that is set to POP3.")
	case e.Code == maildrop.LoginDelay:
		p.exit, p.code, p.head = exitLater, "login-delay", host+": too soon after the last login"
		p.lines = said(e.Reply)
		if e.After > 0 {
			p.lines = append(p.lines, fmt.Sprintf("The server wants %s between two logins.", e.After))
		}
	case e.Kind == maildrop.Unavailable:
		p.exit, p.code, p.head = exitLater, "maildrop-unavailable", host+": the maildrop cannot be read now"
		p.lines = append(said(e.Reply), "That is trouble on the server's side; the next pass tries again.")
	case e.Kind == maildrop.Lost:
		p.code, p.head = "connection-lost", host+": the connection was lost during "+endpoint.Printable(e.Op, 100)
		if e.Err != nil {
			p.lines = hint("What happened: " + plain(e.Err))
		}
		p.lines = append(p.lines, "Nothing is lost: the next pass goes on where this one ended.")
	case e.Kind == maildrop.Botched:
		p.lines = hint("Is that a POP3 server, and the right port? POP3 995, or 110 with tls: starttls.")
	}
	return p
}

// explainTarget is about one message that was not delivered, or about a target
// that takes none.
func explainTarget(e *targets.Error, at where) *problem {
	name := cmp.Or(at.target, "the target")
	p := &problem{exit: exitSome, code: "target-" + e.Fault.String(), head: name + ": " + plain(e)}
	switch {
	case strings.Contains(e.Reply, "[OVERQUOTA]"):
		p.code, p.head = "target-quota", name+" is full"
		p.lines = append(said(e.Reply),
			"Nothing is lost: what was not delivered stays on the maildrop.",
			"Make room there, then:  popferry run")
	case strings.Contains(e.Reply, "[TOOBIG]"), strings.Contains(plain(e), "APPENDLIMIT"), strings.Contains(plain(e), "(SIZE)"):
		p.code = "target-too-big"
		p.lines = hint("It stays on the maildrop; all others are delivered. After three refusals it is held: popferry held list")
	case e.Fault == targets.Refused:
		p.lines = hint("The message stays on the maildrop. After three refusals it is held: popferry held list")
	case e.Fault == targets.Unsure && e.Op == "the final dot":
		p.lines = hint("The server may have it: it cannot be asked. See on_ambiguous, and: popferry held list")
	case e.Fault == targets.Unsure:
		p.lines = hint("The connection broke after it was sent. The next pass looks whether it arrived before it sends it again.")
	case e.Fault == targets.Down && e.Reply == "":
		p.exit = exitUnreachable
		fallthrough
	default:
		p.lines = hint("Nothing is lost: what was not delivered stays on the maildrop, and the next pass tries again.")
	}
	return p
}

func loginRefused(e *endpoint.Error) *problem {
	head := "login refused by " + e.Addr
	if e.User != "" {
		head += " for " + endpoint.Printable(e.User, 100)
	}
	p := &problem{exit: exitLogin, code: endpoint.CodeLoginRefused, head: head, lines: said(e.Reply)}
	switch {
	case e.Mechanism == endpoint.XOAuth2 || e.Mechanism == endpoint.OAuthBearer:
		p.lines = append(p.lines, "It does not accept the token. Is it for this user, and for mail?")
	case e.Hint != "":
		p.lines = append(p.lines, hint(e.Hint)...)
	default:
		p.lines = append(p.lines, "Check user and password. Many providers want an app password here, not your normal one,",
			"and some want POP3 and IMAP switched on in their settings first.")
	}
	if endpoint.ByChallenge(e.Mechanism) {
		p.lines = append(p.lines, "If they are right, the server may not know the password in the form that "+e.Mechanism+" needs: try auth: plain.")
	}
	if !e.Until.IsZero() {
		p.lines = append(p.lines, "popferry will not try again until the password changes, or "+e.Until.Format("Jan 2 at 15:04")+", so that the account is not locked.")
	}
	return p
}

// said quotes a server, if it said anything.
func said(reply string) []string {
	if reply == "" {
		return nil
	}
	return []string{"The server said: " + endpoint.Printable(reply, 250)}
}

// hint makes lines of a hint that may have several, or none.
func hint(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// plain is err on one line without anything that a terminal obeys.
func plain(err error) string { return endpoint.Printable(err.Error(), 500) }
