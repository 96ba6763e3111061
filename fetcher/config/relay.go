package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/smtp"
)

// relayDraft is a target of type smtp or lmtp while it is read.
type relayDraft struct {
	smtp.Config
	hold  bool
	rates []targets.Rate
}

// relayOnly are the keys that no other kind of target has.
var relayOnly = []key[relayDraft]{
	{
		"recipient", "", "Who gets messages for which no rule has others: an address or a list.",
		func(d *decoder, v value, c *relayDraft) { c.Recipients = d.addresses(v) },
	},
	{
		"sender", "original", "The envelope's sender: original (Return-Path, else Sender or From), empty (<>, nobody hears of failures) or an address.",
		func(d *decoder, v value, c *relayDraft) { c.Sender = d.sender(v) },
	},
	{
		"helo", "the machine's name", "How popferry calls itself in EHLO or LHLO: a domain name or an address.",
		func(d *decoder, v value, c *relayDraft) { c.Helo = d.helo(v) },
	},
	{
		"on_ambiguous", "redeliver", "When the connection was lost after a message and before its reply: redeliver (it may come twice) or hold (you decide).",
		func(d *decoder, v value, c *relayDraft) { c.hold = d.word(v, "redeliver", "hold") == "hold" },
	},
}

func relayKeys(p protocol) section[relayDraft] {
	first, rest := serverKeys(p, func(c *relayDraft) *endpoint.Server { return &c.Server })
	keys := append([]key[relayDraft]{typeKey[relayDraft]()}, first...)
	keys = append(keys, relayOnly...)
	keys = append(keys,
		key[relayDraft]{
			"connections", "4", "",
			func(d *decoder, v value, c *relayDraft) { c.Connections = d.count(v, 1, 100) },
		},
		rateKey("none", func(c *relayDraft) *[]targets.Rate { return &c.rates }),
	)
	return section[relayDraft]{keys: append(keys, rest...), alien: typesWith}
}

// relay reads a target of type smtp or lmtp.
func (d *decoder) relay(name, n *yaml.Node, where, kind string) *Target {
	p := submission
	if kind == "lmtp" {
		p = lmtp
	}
	t := &relayDraft{Config: smtp.Config{LMTP: kind == "lmtp"}}
	f := relayKeys(p).read(d, n, where, t)
	c := &t.Config
	if n.Kind == yaml.MappingNode {
		d.finishServer(p, name, where, f, &c.Server)
	}
	return &Target{
		Name: name.Value, Type: kind, Server: &c.Server, Hold: t.hold, Rates: t.rates, Config: c,
		nobody: !f.has("recipient"),
	}
}

// needsRecipient demands a recipient of a target to which messages go for which no
// rule has one.
func (d *decoder) needsRecipient(t *topDraft, name string) {
	target, n := t.Targets[name], t.targets[name]
	if target == nil || !target.nobody {
		return
	}
	target.nobody = false // it is said once
	d.fail(n, "config-missing-key", "target %s has no recipient", d.show(n)).
		Hint = "Add who shall get the mail:  recipient: jane@home.example"
}

// mostRecipients is what every server must take at once (RFC 5321 §4.5.3.1.8).
const mostRecipients = 100

// addresses reads one address or a list of different ones.
func (d *decoder) addresses(v value) []string {
	var list []string
	for _, e := range d.list(v) {
		s := d.address(e)
		switch {
		case s == "":
		case slices.ContainsFunc(list, func(o string) bool { return strings.EqualFold(o, s) }):
			d.fail(e.Node, "config-duplicate-value", "%s is there twice in %s of %s", d.show(e.Node), v.key, v.where)
		default:
			list = append(list, s)
		}
	}
	switch {
	case v.Kind == yaml.SequenceNode && len(v.Content) == 0:
		d.fail(v.Node, "config-no-value", "%s in %s is empty", v.key, v.where)
	case len(list) > mostRecipients:
		d.fail(v.Node, "config-number", "%s in %s has %d addresses; a server need not take more than %d", v.key, v.where, len(list), mostRecipients)
	}
	return list
}

// address reads an address without name and angle brackets.
func (d *decoder) address(v value) string {
	s := d.text(v)
	if s == "" {
		return ""
	}
	err := smtp.CheckAddress(s)
	if err == nil {
		return s
	}
	e := d.fail(v.Node, "config-address", "%s in %s must be an address, not %s", v.key, v.where, d.show(v.Node))
	e.Hint = "For example jane@home.example: " + err.Error()
	if _, rest, ok := strings.Cut(s, "<"); ok && s == v.Value {
		if inner, _, ok := strings.Cut(rest, ">"); ok && smtp.CheckAddress(inner) == nil {
			e.Suggest = "write only " + shorten(inner)
		}
	}
	return ""
}

func (d *decoder) sender(v value) smtp.Sender {
	switch {
	case v.Kind == yaml.ScalarNode && strings.EqualFold(v.Value, "original"):
		return smtp.Sender{}
	case v.Kind == yaml.ScalarNode && strings.EqualFold(v.Value, "empty"):
		return smtp.Sender{Empty: true}
	case v.Kind == yaml.ScalarNode && v.Value != "" && !strings.ContainsAny(v.Value, "@$"):
		e := d.fail(v.Node, "config-word", "%s in %s cannot be %s", v.key, v.where, d.show(v.Node))
		e.Suggest = didYouMean(v.Value, []string{"original", "empty"})
		e.Hint = "Allowed here: original, empty, or an address"
		return smtp.Sender{}
	}
	return smtp.Sender{Address: d.address(v)}
}

// helo reads a domain name or an address, which is put into brackets.
func (d *decoder) helo(v value) string {
	s := d.host(v)
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return s
	case a.Is6():
		return "[IPv6:" + s + "]"
	}
	return "[" + s + "]"
}

// relayDoor is the part of a host name that tells servers of one house apart.
var relayDoor = regexp.MustCompile(`^(secure)?(pop3?s?|imap4?s?|mail|in|incoming|smtps?|submission|lmtp|mx|out|outgoing|relay)[0-9]*\.`)

// noCircle refuses to send mail to the mailbox that is read, and warns
// where it looks like that: the same address at another house may be another
// mailbox, as while one moves.
func (d *decoder) noCircle(target *Target, from []*fetcher.Account, r ref) {
	c, ok := target.Config.(*smtp.Config)
	if !ok {
		return
	}
	for _, a := range from {
		for _, rcpt := range c.Recipients {
			same, sameHouse := sameInbox(a, &c.Server, rcpt)
			switch {
			case same && sameHouse:
				d.fail(r.Node, "config-loop", "target %s sends to %s, the mailbox that account %q reads", d.show(r.Node), rcpt, a.Name).
					Hint = "Every message would be fetched again and again. Deliver to another mailbox."
			case same:
				d.warn(r.Node, "config-loop", "target %s sends to %s, which is also the address of account %q", d.show(r.Node), rcpt, a.Name).
					Hint = "If the mail comes back to that maildrop it goes round in circles, thirty times at most."
			}
		}
	}
}

// sameInbox reports whether an address is that of an account, and whether
// account and server stand in the same house.
func sameInbox(a *fetcher.Account, s *endpoint.Server, rcpt string) (same, sameHouse bool) {
	from := &a.Maildrop.Server
	house := func(host string) string { return relayDoor.ReplaceAllString(hostName(host), "") }
	user := strings.ToLower(from.User)
	if !strings.Contains(user, "@") {
		user += "@" + house(from.Host)
	}
	return strings.EqualFold(user, rcpt), house(from.Host) == house(s.Host) && !isLoopback(s.Host)
}
