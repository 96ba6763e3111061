package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"popferry/fetcher"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/maildir"
	"popferry/targets/smtp"
)

// end is an account or a target, and who named it first.
type end struct {
	id      string // host, port and user, or the path
	account *fetcher.Account
	target  *Target
	by      *Move
}

// once returns the account or target that was made of the same mailbox before,
// else e. A mailbox has one name in a configuration: what is known of it under
// one would not be known under another.
func (m *mover) once(mv *Move, all map[string]*end, e *end) *end {
	for _, key := range []string{e.name(), "\x00" + e.id} {
		other := all[key]
		if other == nil {
			continue
		}
		switch {
		case other.name() == e.name() && other.id == e.id:
			return other
		case other.name() != e.name() && e.target != nil && mv.To.Name != "" && other.by.To.Name != "":
			continue // a file may have several targets that put mail into one folder, each in its way
		}
		m.fail(mv, "move-same", "%s and %s are the same mailbox%s, or look like it", e, other, m.also(other.by)).
			Hint = "Write it in the same way each time."
		return nil
	}
	e.by = mv
	all[e.name()], all["\x00"+e.id] = e, e
	if e.account != nil {
		m.out.Accounts[e.name()] = e.account
	} else {
		m.out.Targets[e.name()] = e.target
	}
	return e
}

func (e *end) name() string {
	if e.account != nil {
		return e.account.Name
	}
	return e.target.Name
}

// String tells ends of one name apart.
func (e *end) String() string {
	switch {
	case e.account != nil:
		return e.name() + " (" + e.account.Maildrop.Addr() + ")"
	case e.target.Server != nil:
		return e.name() + " (" + e.target.Server.Addr() + ")"
	}
	return e.name()
}

// maildropID tells maildrops apart, as sameMaildrop does.
func maildropID(s *endpoint.Server) string {
	port := s.Port
	if port == pop3.clear {
		port = pop3.implicit
	}
	return fmt.Sprintf("%s %d %s", hostName(s.Host), port, strings.ToLower(s.User))
}

// targetID tells the places apart that targets put mail into.
func targetID(t *Target) string {
	switch c := t.Config.(type) {
	case *imap.Config:
		port := c.Port
		if port == imap4.clear {
			port = imap4.implicit
		}
		return fmt.Sprintf("imap %s %d %s %s", hostName(c.Host), port, strings.ToLower(c.User), c.Folder)
	case *maildir.Config:
		return fmt.Sprintf("maildir %s %s", filepath.Clean(c.Path), c.Folder)
	case *smtp.Config:
		return fmt.Sprintf("%s %s %d %q", t.Type, hostName(c.Host), c.Port, c.Recipients)
	}
	return t.Name
}
