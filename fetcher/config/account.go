package config

import (
	"math"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

func accountKeys() section[fetcher.Account] {
	first, rest := serverKeys(pop3, func(a *fetcher.Account) *endpoint.Server { return &a.Maildrop.Server })
	keys := append(first, key[fetcher.Account]{
		"keep", "forever", "What stays on the server after safe delivery: forever, for how long since popferry first saw it (0d: delete at once), or several limits.",
		func(d *decoder, v value, a *fetcher.Account) { a.Keep = d.keep(v) },
	})
	keys = append(keys, key[fetcher.Account]{
		"first_run", "all", "Which messages count when nothing is known of the account yet: all, new, or since:2026-01-31; the others are left alone.",
		func(d *decoder, v value, a *fetcher.Account) { a.FirstRun = d.firstRun(v) },
	})
	keys = append(keys, rest...)
	keys = append(keys,
		key[fetcher.Account]{
			"limits", "none", "Bounds of one pass.",
			func(d *decoder, v value, a *fetcher.Account) {
				limitKeys().read(d, v.Node, "limits of "+v.where, &a.Limits)
			},
		},
		key[fetcher.Account]{
			"pipelining", "auto", "auto (send commands ahead if the server says it can) or off.",
			func(d *decoder, v value, a *fetcher.Account) { a.Maildrop.Pipelining = d.word(v, "auto", "off") },
		},
		key[fetcher.Account]{
			"allow_lf", "no", "yes accepts a server that ends its lines with LF alone.",
			func(d *decoder, v value, a *fetcher.Account) { a.Maildrop.AllowLF = d.yes(v) },
		},
	)
	return section[fetcher.Account]{keys: keys}
}

func limitKeys() section[fetcher.Limits] {
	return section[fetcher.Limits]{keys: []key[fetcher.Limits]{
		{
			"messages_per_run", "none", "Messages to fetch in one pass.",
			func(d *decoder, v value, l *fetcher.Limits) { l.Messages = d.count(v, 1, math.MaxInt) },
		},
		{
			"bytes_per_run", "none", "Octets to fetch in one pass.",
			func(d *decoder, v value, l *fetcher.Limits) { l.Bytes = d.size(v) },
		},
		{
			"max_size", "none", "Larger messages stay on the server.",
			func(d *decoder, v value, l *fetcher.Limits) { l.MaxSize = d.size(v) },
		},
		{
			"session_messages", "5000", "A pass that deletes logs in anew after so many, because POP3 deletes nothing before QUIT.",
			func(d *decoder, v value, l *fetcher.Limits) { l.SessionMessages = d.count(v, 1, math.MaxInt) },
		},
	}}
}

// account reads one entry of accounts.
func (d *decoder) account(name, n *yaml.Node) *fetcher.Account {
	where := "account " + d.show(name)
	a := &fetcher.Account{Name: name.Value, Keep: fetcher.Keep{Forever: true}}
	a.Maildrop.Pipelining = "auto"
	a.Limits.SessionMessages = 5000
	f := accountKeys().read(d, n, where, a)
	if n.Kind == yaml.MappingNode {
		d.finishServer(pop3, name, where, f, &a.Maildrop.Server)
	}
	if d.consumes(n, where, a); a.Consumes {
		a.Maildrop.Pipelining = "off" // what is under way when a connection breaks may be lost
	}
	return a
}

// consumers are the servers that list no message again once it was read. With
// "recent:" in front of the user, Google's lists the last 30 days whatever was
// read.
var consumers = []string{"pop.gmail.com", "pop.googlemail.com"}

// consumes notes whether a's server shows a message once only, and what of the
// configuration makes no sense there.
func (d *decoder) consumes(n *yaml.Node, where string, a *fetcher.Account) {
	host := strings.ToLower(strings.TrimSuffix(a.Maildrop.Host, "."))
	a.Consumes = slices.Contains(consumers, host) && !strings.HasPrefix(a.Maildrop.User, "recent:")
	if a.Consumes && !a.Keep.Forever && (a.Keep.For > 0 || a.Keep.Newest > 0) {
		d.warn(n, "config-keep-once", "%s does not list a message again after it was read, so keep can delete it in the same pass only", host).
			Hint = "Write keep: 0d or keep: forever; or put recent: before the user, to be shown the last 30 days each time."
	}
}
