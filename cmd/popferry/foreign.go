package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/fetcher/state"
	"popferry/targets/endpoint"
)

// foreign says whose state a file is.
type foreign struct {
	program string // a state.Foreign, or fromExport
	owner   string // user@host; "" is the account's
}

// fromExport is a file of popferry's own, or a list of UIDLs.
const fromExport = "jsonl"

func (f foreign) check(args []string) error {
	names := make([]string, len(state.Foreigners))
	known := false
	for i, p := range state.Foreigners {
		names[i] = string(p)
		known = known || names[i] == f.program
	}
	switch {
	case !known:
		return &usageError{
			text: fmt.Sprintf("--from cannot be %q", endpoint.Printable(f.program, 40)),
			hint: "It is " + strings.Join(names, ", ") + ", or " + fromExport + ".",
		}
	case len(args) < 2:
		return &usageError{text: "of which account?", hint: "popferry state import ACCOUNT --from " + f.program + " " + endpoint.Printable(args[0], 100)}
	case f.owner != "" && !strings.Contains(f.owner, "@"):
		return usagef("--of is USER@HOST, not %q", endpoint.Printable(f.owner, 80))
	}
	return nil
}

// importForeign remembers what another program has fetched, as far as it is
// still on the maildrop.
func (a *app) importForeign(ctx context.Context, args []string, from foreign, d decision) error {
	if err := from.check(args); err != nil {
		return err
	}
	name, file := args[0], args[1]
	lists, err := a.readForeign(state.Foreign(from.program), file)
	if err != nil {
		return err
	}
	return a.decide(ctx, d, func(m *memory) error {
		account, err := m.configured(name)
		if err != nil {
			return err
		}
		list, err := from.choose(lists, account, file)
		if err != nil {
			return err
		}
		return a.ofAccount(m, name, m.remembered(ctx, account, state.Foreign(from.program), list, d.dryRun))
	})
}

func (a *app) readForeign(p state.Foreign, file string) ([]state.ForeignList, error) {
	in, err := a.input(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	lists, err := state.ReadForeign(p, in)
	if err == nil {
		return lists, nil
	}
	return nil, &usageError{
		text: endpoint.Printable(file, 100) + ": " + plain(err),
		hint: "Nothing was imported. This is not what " + string(p) + " writes.",
	}
}

// choose returns the ids of the account.
func (f foreign) choose(lists []state.ForeignList, a *fetcher.Account, file string) (state.ForeignList, error) {
	user, host := a.Maildrop.User, a.Maildrop.Host
	if at := strings.LastIndexByte(f.owner, '@'); at >= 0 {
		user, host = f.owner[:at], f.owner[at+1:]
	}
	if f.program == string(state.Getmail) {
		if ok, sure := state.NamesGetmail(filepath.Base(file), user); sure && !ok {
			return state.ForeignList{}, &usageError{
				text: fmt.Sprintf("by its name, %s is not of %s", endpoint.Printable(file, 100), endpoint.Printable(user, 80)),
				hint: "If it is the account's, under another name: --of USER@HOST",
			}
		}
	}
	if len(lists) == 0 {
		return state.ForeignList{}, nil
	}
	if l, ok := state.For(lists, user, host); ok {
		return l, nil
	}
	var has []string
	for _, l := range lists[:min(len(lists), 5)] {
		has = append(has, endpoint.Printable(l.User+"@"+l.Host, 80))
	}
	return state.ForeignList{}, &usageError{
		text: fmt.Sprintf("%s has nothing of %s@%s", endpoint.Printable(file, 100), endpoint.Printable(user, 80), host),
		hint: "It has: " + strings.Join(has, ", ") + ". If one of them is the account: --of USER@HOST",
	}
}

// remembered marks the messages that ids stand for.
func (m *memory) remembered(ctx context.Context, a *fetcher.Account, p state.Foreign, list state.ForeignList, dryRun bool) error {
	k := marks{source: a.Source(), note: "fetched by " + string(p)}
	entries, err := m.listed(ctx, a.Name, "so what "+string(p)+" knows cannot be told apart")
	if err != nil {
		return err
	}
	if k.known, err = m.known(ctx, k.source); err != nil {
		return err
	}
	uidls := make([]string, len(entries))
	for i, e := range entries {
		uidls[i] = e.UIDL
	}
	at, doubtful := p.Listed(list.IDs, uidls)
	matched := entries[:0:0]
	for _, i := range at {
		matched = append(matched, entries[i])
	}
	k.compare(matched)
	k.listed = len(entries)
	if len(at) == 0 && len(list.IDs) > 0 && len(entries) > 0 {
		m.report(&problem{
			exit: exitSome, code: "import-no-match",
			head: fmt.Sprintf("none of %s matches one of the %s on %s", count(len(list.IDs), "id"), count(len(entries), "message"), a.Maildrop.Host),
			lines: []string{
				"Nothing was imported. Is it another account's file, or has the server given new UIDLs since?",
				"To leave alone all that lies there now: popferry state mark-seen " + a.Name + " --all",
			},
		})
		return exit{code: exitSome, reason: "no id matches"}
	}
	verb := "They will"
	if dryRun {
		verb = "They would"
	} else if err := m.store.Put(ctx, k.changes(a.Name, time.Now())...); err != nil {
		return err
	}
	m.stdout.printf("%s of %s ids match messages on the server. %s not be fetched again.\n", humanize.Comma(int64(len(at))), humanize.Comma(int64(len(list.IDs))), verb)
	if k.before > 0 {
		m.stdout.printf("%s remembered already\n", wereOrWas(k.before))
	}
	if doubtful > 0 {
		m.stdout.printf("%s could be one of several messages each; those are fetched\n", count(doubtful, "id"))
	}
	return nil
}
