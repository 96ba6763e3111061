package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
)

// Target is one checked target section.
type Target struct {
	Name   string
	Type   string           // "imap", "smtp" or "lmtp"
	Server *endpoint.Server // part of Config; to show, not to change
	Dedupe fetcher.Dedupe
	Hold   bool // a message whose end is not known waits for a person
	Config targets.Config

	nobody bool // a relay without a recipient
}

// targetDraft is a target while it is read.
type targetDraft struct {
	imap.Config
	dedupe fetcher.Dedupe
}

// laterTarget are the keys of targets that only later versions know.
var laterTarget = []string{"rate", "path"}

// targetTypes are the kinds of targets, the first being that of a target that
// does not say.
var targetTypes = []string{"imap", "smtp", "lmtp"}

func imapKeys() section[targetDraft] {
	first, rest := serverKeys(imap4, func(c *targetDraft) *endpoint.Server { return &c.Server })
	keys := append([]key[targetDraft]{
		{"type", "imap", "Kind of target: " + strings.Join(targetTypes, ", ") + ".", func(*decoder, value, *targetDraft) {}}, // read by target
	}, first...)
	keys = append(keys,
		key[targetDraft]{
			"folder", "INBOX", "Where a message goes when no rule says otherwise; / separates levels.",
			func(d *decoder, v value, c *targetDraft) { c.Folder = d.text(v) },
		},
		key[targetDraft]{
			"create_folders", "yes", "yes creates missing folders.",
			func(d *decoder, v value, c *targetDraft) { c.CreateFolders = d.yes(v) },
		},
		key[targetDraft]{
			"subscribe", "yes", "yes subscribes the folders that were created.",
			func(d *decoder, v value, c *targetDraft) { c.Subscribe = d.yes(v) },
		},
		key[targetDraft]{
			"flags", "none", "Flags of every message: seen, flagged, answered, draft, keywords.",
			func(d *decoder, v value, c *targetDraft) { c.Flags = d.flags(v) },
		},
		key[targetDraft]{
			"date", "received", "The INTERNALDATE: received (top Received, then Date, then now), header (Date, then Received, then now) or now.",
			func(d *decoder, v value, c *targetDraft) { c.Date = d.date(v) },
		},
		key[targetDraft]{
			"connections", "2 if the server has LITERAL+, else 8", "Connections at most.",
			func(d *decoder, v value, c *targetDraft) { c.Connections = d.count(v, 1, 100) },
		},
	)
	keys = append(keys, key[targetDraft]{
		"dedupe", "recover", "When the target is asked whether it has a message: recover (after an interruption, and until a first pass over the account is done), message-id (always) or off (never).",
		func(d *decoder, v value, c *targetDraft) { c.dedupe = d.dedupe(v) },
	})
	return section[targetDraft]{
		keys: append(keys, rest...), later: slices.Concat(laterServer, laterTarget),
		alien: map[string]string{"recipient": "smtp or lmtp", "sender": "smtp or lmtp", "helo": "smtp or lmtp", "on_ambiguous": "smtp or lmtp"},
	}
}

// target reads one entry of targets. It is nil when its type is not known: its
// other keys would only be reported for the wrong reason.
func (d *decoder) target(name, n *yaml.Node) *Target {
	where := "target " + d.show(name)
	switch kind := d.targetType(n, where); kind {
	case "":
		return nil
	case "smtp", "lmtp":
		return d.relay(name, n, where, kind)
	}
	t := &targetDraft{Config: imap.Config{Folder: "INBOX", CreateFolders: true, Subscribe: true, Date: imap.DateReceived}}
	f := imapKeys().read(d, n, where, t)
	c := &t.Config
	if n.Kind == yaml.MappingNode {
		d.finishServer(imap4, name, where, f, &c.Server)
	}
	return &Target{Name: name.Value, Type: "imap", Server: &c.Server, Dedupe: t.dedupe, Config: c}
}

// targetType reads the type of a target; "" if it is none.
func (d *decoder) targetType(n *yaml.Node, where string) string {
	v := value{Node: lookup(n, "type"), key: "type", where: where}
	if v.Node == nil {
		return targetTypes[0]
	}
	var ok bool
	if v.Node, ok = d.follow(v.Node); !ok || isNull(v.Node) {
		return targetTypes[0] // null is reported with the other keys
	}
	s, ok := d.scalar(v)
	switch {
	case !ok:
	case slices.Contains(targetTypes, s):
		return s
	case s == "maildir":
		d.fail(v.Node, "config-not-supported", "type %s in %s is not supported by this version of popferry", s, v.where).
			Hint = "This version delivers to " + strings.Join(targetTypes, ", ") + "."
	default:
		e := d.fail(v.Node, "config-word", "type in %s cannot be %s", v.where, d.show(v.Node))
		e.Suggest = didYouMean(s, targetTypes)
		e.Hint = "Words allowed here: " + strings.Join(targetTypes, ", ")
	}
	return ""
}

// lookup returns the value of a key of mapping n; nil if there is none.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func (d *decoder) dedupe(v value) fetcher.Dedupe {
	switch d.word(v, "recover", "message-id", "off") {
	case "message-id":
		return fetcher.Compare
	case "off":
		return fetcher.Off
	default:
		return fetcher.Recover
	}
}

func (d *decoder) date(v value) imap.DatePolicy {
	switch d.word(v, "received", "header", "now") {
	case "header":
		return imap.DateHeader
	case "now":
		return imap.DateNow
	default:
		return imap.DateReceived
	}
}
