package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/maildir"
)

// Target is one checked target section.
type Target struct {
	Name   string
	Type   string           // "imap", "smtp", "lmtp" or "maildir"
	Server *endpoint.Server // part of Config, nil if it is no server; to show, not to change
	Path   string           // of a Maildir
	Dedupe fetcher.Dedupe
	Hold   bool           // a message whose end is not known waits for a person
	Rates  []targets.Rate // all of them hold
	Config targets.Config

	nobody bool // a relay without a recipient
}

// Place is where the target is: host and port, or a path.
func (t *Target) Place() string {
	if t.Server == nil {
		return t.Path
	}
	return t.Server.Addr()
}

// Rates returns the rates of all targets that have any, by name.
func (c *Config) Rates() map[string][]targets.Rate {
	rates := map[string][]targets.Rate{}
	for name, t := range c.Targets {
		if len(t.Rates) > 0 {
			rates[name] = t.Rates
		}
	}
	return rates
}

// targetDraft is a target while it is read.
type targetDraft struct {
	imap.Config
	dedupe fetcher.Dedupe
	rates  []targets.Rate
}

// maildirDraft is a Maildir while it is read.
type maildirDraft struct {
	maildir.Config
	rates []targets.Rate
}

// targetTypes are the kinds of targets, the first being that of a target that
// does not say.
var targetTypes = []string{"imap", "smtp", "lmtp", "maildir"}

// typesWith names the types of targets that have the key, "" if none has it.
func typesWith(name string) string {
	var types []string
	for _, t := range []struct{ types, keys []string }{
		{[]string{"imap"}, imapKeys().names()},
		{[]string{"smtp", "lmtp"}, relayKeys(submission).names()},
		{[]string{"maildir"}, maildirKeys().names()},
	} {
		if slices.Contains(t.keys, name) {
			types = append(types, t.types...)
		}
	}
	if n := len(types) - 1; n > 0 {
		return strings.Join(types[:n], ", ") + " or " + types[n]
	}
	return strings.Join(types, "")
}

// typeKey is the key that decides which others there are. Its value is read
// before them, by target.
func typeKey[T any]() key[T] {
	return key[T]{"type", targetTypes[0], "Kind of target: imap, smtp, lmtp or maildir.", func(*decoder, value, *T) {}}
}

// folderKey is where mail goes that no rule sends elsewhere.
func folderKey[T any](of func(*T) *string) key[T] {
	return key[T]{
		"folder", "INBOX", "Where a message goes when no rule says otherwise; / separates levels.",
		func(d *decoder, v value, t *T) { *of(t) = d.text(v) },
	}
}

// rateKey bounds how much goes to a target.
func rateKey[T any](def string, of func(*T) *[]targets.Rate) key[T] {
	return key[T]{
		"rate", def, "How much goes there at most, or a list of such: octets as 500M/day or 2M/s, messages as 100/min; per s, min, h or day; or none.",
		func(d *decoder, v value, t *T) { *of(t) = d.rates(v) },
	}
}

func maildirKeys() section[maildirDraft] {
	return section[maildirDraft]{keys: []key[maildirDraft]{
		typeKey[maildirDraft](),
		{
			"path", "", "Directory of a Maildir; it is made if the one above it is there.",
			func(d *decoder, v value, c *maildirDraft) { c.Path = d.path(v) },
		},
		folderKey(func(c *maildirDraft) *string { return &c.Folder }),
		rateKey("none", func(c *maildirDraft) *[]targets.Rate { return &c.rates }),
	}, alien: typesWith}
}

func imapKeys() section[targetDraft] {
	first, rest := serverKeys(imap4, func(c *targetDraft) *endpoint.Server { return &c.Server })
	keys := append([]key[targetDraft]{typeKey[targetDraft]()}, first...)
	keys = append(keys,
		folderKey(func(c *targetDraft) *string { return &c.Folder }),
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
	keys = append(keys, rateKey("none; 500M/day at Gmail, which takes no more by IMAP", func(c *targetDraft) *[]targets.Rate { return &c.rates }))
	return section[targetDraft]{keys: append(keys, rest...), alien: typesWith}
}

// target reads one entry of targets. It is nil when its type is not known: its
// other keys would only be reported for the wrong reason.
func (d *decoder) target(name, n *yaml.Node) *Target {
	where := "target " + d.show(name)
	switch kind := d.targetType(n, where); kind {
	case "imap":
		return d.imap(name, n, where)
	case "smtp", "lmtp":
		return d.relay(name, n, where, kind)
	case "maildir":
		return d.maildir(name, n, where)
	}
	return nil
}

func (d *decoder) imap(name, n *yaml.Node, where string) *Target {
	t := &targetDraft{Config: imap.Config{Folder: "INBOX", CreateFolders: true, Subscribe: true, Date: imap.DateReceived}}
	f := imapKeys().read(d, n, where, t)
	c := &t.Config
	if n.Kind == yaml.MappingNode {
		pr := d.finishServer(imap4, name, where, f, &c.Server)
		if !f.has("rate") {
			t.rates = pr.uploads()
		}
	}
	return &Target{Name: name.Value, Type: "imap", Server: &c.Server, Dedupe: t.dedupe, Rates: t.rates, Config: c}
}

func (d *decoder) maildir(name, n *yaml.Node, where string) *Target {
	t := &maildirDraft{Config: maildir.Config{Folder: "INBOX"}}
	f := maildirKeys().read(d, n, where, t)
	if !f.has("path") {
		d.fail(name, "config-missing-key", "%s has no path", where).Hint = "Add:  path: /srv/mail/jane"
	}
	return &Target{Name: name.Value, Type: "maildir", Path: t.Path, Rates: t.rates, Config: &t.Config}
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
