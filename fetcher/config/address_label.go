package config

import (
	"strconv"
	"strings"
)

// Login is what a person is asked the password for, "jane@pop.isp.example"; ""
// where none is needed: for a name, a Maildir, LMTP without a user.
func (e *End) Login() string {
	if e.Name != "" || e.user == "" {
		return ""
	}
	return e.called(e.user)
}

// LoginHint is what a provider wants people to know about its passwords, a
// sentence or two; "" where nothing is known.
func (e *End) LoginHint() string {
	if e.Login() == "" {
		return ""
	}
	if p := providerOf(e.kind, e.host, e.user); p != nil {
		return p.Hint
	}
	return ""
}

// String is the end as people should read it: its name, or its label.
func (e *End) String() string {
	if e.Name != "" {
		return e.Name
	}
	return e.label()
}

// label is what an address is called as an account or a target. It stands in the
// state, so it depends on nothing but the address. Two mailboxes have the same
// only if they are very likely one that is written in two ways.
func (e *End) label() string {
	switch e.kind {
	case "maildir":
		return "maildir:" + e.path
	case "lmtp":
		return "lmtp:" + e.called(e.rcpt)
	}
	return e.called(e.user)
}

// called is who at the end's server, as short as nobody else is called so:
// without the host where that is a usual one of the domain.
func (e *End) called(who string) string {
	host := hostName(e.host)
	if _, domain, ok := strings.Cut(strings.ToLower(who), "@"); !ok || !e.serves(host, domain, who) {
		if who += "@"; strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		who += host
	}
	if p := protocols[e.kind]; e.port != p.implicit && e.port != p.clear {
		who += ":" + strconv.Itoa(e.port)
	}
	return who
}

// doors are the names that servers usually have in their domain.
var doors = map[string][]string{
	"pop3": {"", "pop.", "pop3.", "mail."}, "imap": {"", "imap.", "mail."}, "lmtp": {"", "lmtp.", "mail."},
}

// serves reports whether host is obviously the server for who at a domain.
func (e *End) serves(host, domain, who string) bool {
	if known(domain) {
		p := providerOf(e.kind, host, who)
		return p != nil
	}
	for _, door := range doors[e.kind] {
		if host == door+domain {
			return true
		}
	}
	return false
}
