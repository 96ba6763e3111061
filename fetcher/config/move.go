package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/maildir"
	"popferry/targets/smtp"
)

// Move is one account that goes to one target.
type Move struct {
	From, To End
	Folder   string // at the target; "" is the target's own (of an address: the one in it, else INBOX)

	file string // where the move is written; "" if on a command line
	line int
}

// Place is where the move is written, "accounts.csv:7"; "" if on a command line.
func (m *Move) Place() string {
	if m.line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", m.file, m.line)
}

// Moves makes a configuration of moves: Jobs[i] is moves[i], with one account and
// one target. c is the file's, nil where all ends are addresses. The error is of
// type Errors.
//
// Nothing is deleted from a maildrop that is moved, and all that lies on it
// counts, whatever the account says. A move between two names of a job, to the
// folder that the target has, is that job with this one account: its rules, and
// its state. So is one of an account that no job has, without rules. Every other
// move has no rules and a state of its own (Job.State), which depends on its
// target alone: accounts that go to the same place share it.
//
// Passwords are not asked for: an address without one is refused by its server.
func Moves(c *Config, moves []Move, env func(string) (string, bool)) (*Config, error) {
	m := newMover(c, env)
	for i := range moves {
		m.add(&moves[i])
	}
	if m.d.more > 0 {
		m.d.whole("config-more-errors", fmt.Sprintf("and %d more errors", m.d.more), "")
	}
	if len(m.d.errs) > 0 {
		return nil, Errors(m.d.errs)
	}
	for _, w := range m.d.warns {
		if !slices.ContainsFunc(m.out.Warnings, func(o *Error) bool { return o.Text == w.Text }) {
			m.out.Warnings = append(m.out.Warnings, w) // once for a mailbox, not for each move
		}
	}
	return m.out, nil
}

// mover makes a configuration of moves.
type mover struct {
	d        *decoder
	file     *Config // nil if there is none
	out      *Config
	accounts map[string]*end // by label
	targets  map[string]*end
	seen     map[[2]string]*Move // by account and target
}

func newMover(c *Config, env func(string) (string, bool)) *mover {
	d := &decoder{src: newSource("", nil), env: env, dir: ".", made: true}
	if dir, err := filepath.Abs("."); err == nil {
		d.dir = dir
	}
	out := new(Config)
	if c != nil {
		*out = *c
		d.logins = c.Logins
		out.Warnings = slices.DeleteFunc(slices.Clone(c.Warnings), func(w *Error) bool { return w.Code == "config-unused" })
	} else {
		d.logins = new(endpoint.Breaker)
		out.Location, out.Log, out.src, out.Logins = d.envZone(), defaultLog, d.src, d.logins
		out.State = d.defaultState()
	}
	out.Accounts, out.Targets, out.Jobs = map[string]*fetcher.Account{}, map[string]*Target{}, nil
	return &mover{d: d, file: c, out: out, accounts: map[string]*end{}, targets: map[string]*end{}, seen: map[[2]string]*Move{}}
}

// fail reports an error of a move.
func (m *mover) fail(by *Move, code, format string, args ...any) *Error {
	e := m.d.at(by.line, 0, 0, code, format, args...)
	e.File = by.file
	return e
}

// add makes a job of a move.
func (m *mover) add(mv *Move) {
	errs := len(m.d.errs)
	m.d.values = 0 // its bound is for one file
	from, to := m.account(mv), m.target(mv)
	if from == nil || to == nil {
		for _, e := range m.d.errs[errs:] { // of the decoder, which knows no place
			e.File, e.Line = mv.file, mv.line
		}
		return
	}
	a, t := from.account, to.target
	if other := m.seen[[2]string{a.Name, t.Name}]; other != nil {
		m.fail(mv, "move-twice", "%s goes to %s twice%s", a.Name, t.Name, m.also(other)).Hint = "Remove one of the two."
		return
	}
	m.seen[[2]string{a.Name, t.Name}] = mv
	m.noLoop(mv, a, t)
	j := &Job{Job: fetcher.Job{Name: a.Name + "-to-" + t.Name, Accounts: []*fetcher.Account{a}, Targets: []string{t.Name}}, location: m.out.Location}
	draft := &jobDraft{}
	(&topDraft{Config: m.out}).deliversTo(draft, t.Name)
	j.Dedupe, j.Hold = draft.Dedupe, draft.Hold
	switch own, ours := m.jobOf(mv, a, t); {
	case !ours:
		j.State = m.statePath(mv, to)
	case own != nil:
		j.Name, j.Dedupe, j.Hold, j.Rules = own.Name, own.Dedupe, own.Hold, own.Rules
		for _, name := range j.Rules.Targets() {
			m.out.Targets[name] = m.file.Targets[name]
		}
	}
	if t.nobody && j.Rules == nil {
		m.fail(mv, "config-missing-key", "target %s has no recipient", t.Name).Hint = "Add who shall get the mail:  recipient: jane@home.example"
	}
	m.out.Jobs = append(m.out.Jobs, j)
}

// also says where another move is written.
func (m *mover) also(other *Move) string {
	if other.line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d as well)", other.line)
}

// jobOf returns the job that a move is, nil if the account has none. ours is
// false where the move is no affair of the configuration's state.
func (m *mover) jobOf(mv *Move, a *fetcher.Account, t *Target) (job *Job, ours bool) {
	if mv.From.Name == "" || mv.To.Name != t.Name {
		return nil, false
	}
	for _, j := range m.file.Jobs {
		if slices.ContainsFunc(j.Accounts, func(o *fetcher.Account) bool { return o.Name == a.Name }) {
			return j, slices.Equal(j.Targets, []string{t.Name})
		}
	}
	return nil, true
}

// account returns the maildrop that a move comes from, nil after an error.
func (m *mover) account(mv *Move) *end {
	from := &mv.From
	if from.Name != "" {
		if !m.named(mv, from.Name, "account", func(c *Config) []string { return slices.Collect(maps.Keys(c.Accounts)) }) {
			return nil
		}
		a := *m.file.Accounts[from.Name]
		a.Keep, a.FirstRun = fetcher.Keep{Forever: true, Final: true}, fetcher.FirstRun{}
		return m.once(mv, m.accounts, &end{id: maildropID(&a.Maildrop.Server), account: &a})
	}
	if from.kind != pop3.name {
		m.fail(mv, "address-kind", "popferry reads POP3; mail cannot come from %s", from).Hint = "Write " + fromForms
		return nil
	}
	errs := len(m.d.errs)
	a := m.d.account(plainNode(from.label()), from.node())
	if len(m.d.errs) > errs {
		return nil
	}
	a.Keep.Final = true
	a.Maildrop.Password = from.Password
	return m.once(mv, m.accounts, &end{id: maildropID(&a.Maildrop.Server), account: a})
}

// target returns where a move goes, nil after an error.
func (m *mover) target(mv *Move) *end {
	to := mv.To
	to.path = m.absolute(to.path)
	var t *Target
	if to.Name != "" {
		if !m.named(mv, to.Name, "target", func(c *Config) []string { return slices.Collect(maps.Keys(c.Targets)) }) {
			return nil
		}
		t = m.file.Targets[to.Name]
	} else if to.kind == pop3.name {
		m.fail(mv, "address-kind", "mail cannot be put into the POP3 maildrop %s", to.label()).Hint = "Write " + toForms
		return nil
	} else {
		errs := len(m.d.errs)
		if t = m.d.target(plainNode(to.label()), to.node()); len(m.d.errs) > errs {
			return nil
		}
		if t.Server != nil {
			t.Server.Password = to.Password
		}
	}
	if t = m.inFolder(mv, t); t == nil {
		return nil
	}
	return m.once(mv, m.targets, &end{id: targetID(t), target: t})
}

func (m *mover) absolute(path string) string {
	if path == "" {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(m.d.dir, path)
	}
	return filepath.Clean(path)
}

// named reports whether the configuration has an account or target of that name.
func (m *mover) named(mv *Move, name, what string, names func(*Config) []string) bool {
	flag := map[string]string{"account": "pop3s://jane@pop.isp.example", "target": "imaps://jane@imap.home.example"}[what]
	if m.file == nil {
		m.fail(mv, "address-name", "there is no configuration, so %q names no %s", name, what).
			Hint = "Write an address: " + flag + "; or name the configuration with --config FILE."
		return false
	}
	known := slices.Sorted(slices.Values(names(m.file)))
	if slices.Contains(known, name) {
		return true
	}
	e := m.fail(mv, "config-unknown-name", "there is no %s %q in %s", what, name, m.file.File)
	e.Hint = "There are: " + strings.Join(known[:min(len(known), 10)], ", ") + ". Or write an address: " + flag
	if near := nearest(name, known); near != "" {
		e.Hint = "Did you mean " + strconv.Quote(near) + "? " + e.Hint
	}
	return false
}

// inFolder returns t, or if the move says another folder than t has, a target for
// that; nil after an error.
func (m *mover) inFolder(mv *Move, t *Target) *Target {
	folder, own := "", t.folder()
	if mv.Folder != "" {
		var err *Error
		if folder, err = checkFolder(mv.Folder); err != nil {
			m.fail(mv, err.Code, "%s", err.Text).Hint = err.Hint
			return nil
		}
	}
	address := mv.To.Name == ""
	switch {
	case own == "" && folder != "":
		m.fail(mv, "address-folder", "%s has no folders: the server at %s decides where mail goes", t.Name, t.Place()).Hint = "Leave the folder out."
		return nil
	case address && folder != "" && mv.To.folder != "" && folder != mv.To.folder:
		m.fail(mv, "address-folder", "two folders are given: %s in the address, and %s", shorten(mv.To.folder), shorten(folder)).Hint = "Keep one of the two."
		return nil
	case folder == "":
		folder = own
	}
	if !address && folder == own {
		return t
	}
	in := *t
	switch c := t.Config.(type) {
	case *imap.Config:
		cc := *c
		cc.Folder, in.Config, in.Server = folder, &cc, &cc.Server
	case *maildir.Config:
		cc := *c
		cc.Folder, in.Config = folder, &cc
	}
	if folder != "INBOX" && folder != "" {
		in.Name += "/" + folder
	}
	return &in
}

// folder is where the target puts what no rule sends elsewhere, "" if that is
// not for popferry to say.
func (t *Target) folder() string {
	switch c := t.Config.(type) {
	case *imap.Config:
		return c.Folder
	case *maildir.Config:
		return c.Folder
	}
	return ""
}

// noLoop refuses to deliver into the mailbox that is read.
func (m *mover) noLoop(mv *Move, a *fetcher.Account, t *Target) {
	c, relay := t.Config.(*smtp.Config)
	same := !relay && t.Server != nil && sameMailbox(a, t.Server)
	if relay {
		for _, rcpt := range c.Recipients {
			user, house := sameInbox(a, &c.Server, rcpt)
			same = same || user && house
		}
	}
	if same {
		m.fail(mv, "config-loop", "%s is the mailbox that is read from %s", t.Name, a.Name).
			Hint = "Every message would be put where it comes from. Deliver to another mailbox."
	}
}

// plainNode is a value that is taken as it is written.
func plainNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// node is what a configuration would say of an address.
func (e *End) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	add := func(key, val string) {
		if val != "" {
			n.Content = append(n.Content, plainNode(key), plainNode(strings.ReplaceAll(val, "$", "$$")))
		}
	}
	if e.kind != pop3.name {
		add("type", e.kind)
	}
	if e.kind == "maildir" {
		add("path", e.path)
		return n
	}
	add("host", e.host)
	add("port", strconv.Itoa(e.port))
	add("tls", e.tls.String())
	add("user", e.user)
	add("folder", e.folder)
	add("recipient", e.rcpt)
	return n
}
