package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// memory is an open state, and the configuration where there is one: with
// --state there need not be.
type memory struct {
	*app
	config   *config.Config // may be nil
	store    *state.Store   // nil if there is no state yet
	accounts []state.AccountSummary
}

// memory finds out where the state lies. Nothing is opened.
func (a *app) memory() (m *memory, path string, err error) {
	m = &memory{app: a}
	c, err := a.load()
	if err != nil && a.flags.state == "" {
		return nil, "", err
	}
	if err == nil {
		m.config = c
		return m, a.statePath(c), nil
	}
	return m, a.flags.state, nil
}

// remember opens the state for reading, calls do, and closes it. Where there is
// no state yet, do is called with no accounts.
func (a *app) remember(ctx context.Context, do func(*memory) error) error {
	m, path, err := a.memory()
	if err != nil {
		return err
	}
	return m.read(ctx, path, do)
}

func (m *memory) read(ctx context.Context, path string, do func(*memory) error) (err error) {
	if m.store, err = view(ctx, path); err != nil {
		return err
	}
	if m.store == nil {
		m.log.Warn("nothing is remembered yet: there is no state file", "err", path)
		return do(m)
	}
	defer m.store.Close()
	if m.accounts, err = m.store.Accounts(ctx); err != nil {
		return err
	}
	return do(m)
}

// decision says how a command that changes the state goes about it.
type decision struct {
	dryRun   bool // only tell
	newState bool // start anew where the state is missing or damaged
	create   bool // make a state if there is none yet
}

// decide opens the state for writing, or for a dry run only for reading, calls
// do, and closes it.
func (a *app) decide(ctx context.Context, d decision, do func(*memory) error) (err error) {
	m, path, err := a.memory()
	if err != nil {
		return err
	}
	if d.dryRun {
		return m.read(ctx, path, do)
	}
	if !d.create {
		// Nothing can be decided about what never was.
		if s, err := view(ctx, path); s == nil && err == nil {
			return m.read(ctx, path, do)
		} else if s != nil {
			s.Close()
		}
	}
	if m.store, err = state.Open(ctx, path, state.Options{New: d.newState, Log: a.log}); err != nil {
		return err
	}
	defer func() { err = a.closeState(m.store, err) }()
	if m.accounts, err = m.store.Accounts(ctx); err != nil {
		return err
	}
	return do(m)
}

// closeState closes the state that a command has written to. err is what the
// command ends with so far.
func (a *app) closeState(s *state.Store, err error) error {
	cerr := s.Close()
	if cerr == nil {
		return err
	}
	a.report(explainState(&state.Error{Code: state.CodeWriteFailed, Path: s.Path(), Text: "the state could not be closed", Err: cerr}))
	return exit{code: worse(exitState, codeOf(err))}
}

// account returns what is remembered of a named account. Where the state has
// several of that name, because the server was another one once, it is the one
// that is configured now.
func (m *memory) account(name string) (state.AccountSummary, error) {
	at := -1
	for i, s := range m.accounts {
		if s.Name == name && (at < 0 || s.Source == m.source(name)) {
			at = i
		}
	}
	if at < 0 {
		return state.AccountSummary{}, &usageError{
			text: fmt.Sprintf("nothing is remembered of an account %q", endpoint.Printable(name, 60)),
			hint: "See: popferry state list",
		}
	}
	return m.accounts[at], nil
}

// configured returns an account of the configuration.
func (m *memory) configured(name string) (*fetcher.Account, error) {
	if m.config == nil {
		_, err := m.load() // says what is wrong with it
		return nil, err
	}
	if a := m.config.Accounts[name]; a != nil {
		return a, nil
	}
	return nil, noAccount(m.config, name)
}

// noAccount is the name of an account that the configuration does not have.
func noAccount(c *config.Config, name string) error {
	return &usageError{
		text: fmt.Sprintf("there is no account %q", endpoint.Printable(name, 60)),
		hint: "Accounts in " + c.File + ": " + strings.Join(sorted(c.Accounts), ", "),
	}
}

// source is the maildrop of a configured account; "" if there is none.
func (m *memory) source(name string) string {
	if m.config == nil || m.config.Accounts[name] == nil {
		return ""
	}
	return m.config.Accounts[name].Source()
}

// known returns what is remembered of the maildrop.
func (m *memory) known(ctx context.Context, source string) (*state.Known, error) {
	if m.store == nil {
		return &state.Known{Account: state.Account{Source: source}}, nil
	}
	return m.store.Known(ctx, source)
}

// errNoMatch is a UIDL that no message has.
var errNoMatch = errors.New("no message")

// match returns the messages that have a UIDL, or else those of the one UIDL
// that begins so. It is compared as it is and as tables show it.
func match(messages []*state.Message, uidl string) ([]*state.Message, error) {
	uidl = strings.TrimSuffix(uidl, "…")
	var exact, begin []*state.Message
	for _, m := range messages {
		shown := endpoint.Printable(m.UIDL, len(m.UIDL)*4)
		switch {
		case m.UIDL == uidl || shown == uidl:
			exact = append(exact, m)
		case uidl != "" && (strings.HasPrefix(m.UIDL, uidl) || strings.HasPrefix(shown, uidl)):
			begin = append(begin, m)
		}
	}
	if len(exact) > 0 {
		return exact, nil
	}
	if len(begin) == 0 {
		return nil, errNoMatch
	}
	for _, m := range begin[1:] {
		if m.UIDL != begin[0].UIDL {
			return nil, &usageError{
				text: fmt.Sprintf("%s begin with %q", count(len(begin), "UIDL"), endpoint.Printable(uidl, 60)),
				hint: fmt.Sprintf("Write more of it: %s or %s, for example.", endpoint.Printable(begin[0].UIDL, 80), endpoint.Printable(m.UIDL, 80)),
			}
		}
	}
	return begin, nil
}

// pick returns those of messages that UIDLs name, each once. what names the
// messages in an error: "held message".
func pick(messages []*state.Message, uidls []string, what, account string) ([]*state.Message, error) {
	var out []*state.Message
	for _, u := range uidls {
		found, err := match(messages, u)
		if errors.Is(err, errNoMatch) {
			return nil, usagef("no %s of %s has a UIDL that begins with %q", what, account, endpoint.Printable(u, 60))
		}
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			if !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	return out, nil
}

func idsOf(messages []*state.Message) []int64 {
	out := make([]int64, len(messages))
	for i, m := range messages {
		out[i] = m.ID
	}
	return out
}
