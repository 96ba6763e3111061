package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/targets/endpoint"
)

// Notify is one checked entry of notify: somebody who is told how the jobs are
// doing.
type Notify struct {
	Type    string          // "healthchecks", "ntfy", "webhook" or "command"
	URL     endpoint.Secret // who knows it can read or forge what is sent; zero for a command
	Command []string        // argv; nil if Type is not command
	Jobs    []string        // names; nil for all
	On      []string        // of "failure", "recovery", "attention"; nil for healthchecks
	After   int             // passes in a row that fail before it is a failure; 0 for healthchecks
}

// notifyTypes and notifyEvents are the words of type and on.
var (
	notifyTypes  = []string{"healthchecks", "ntfy", "webhook", "command"}
	notifyEvents = []string{"failure", "recovery", "attention"}
)

// notifyDraft is an entry while the names of its jobs are not looked up yet.
type notifyDraft struct {
	Notify
	jobs []ref
	text value // of url, where it stands in the file
}

func notifyKeys() section[notifyDraft] {
	return section[notifyDraft]{keys: []key[notifyDraft]{
		{
			"type", "", "healthchecks (a ping for every pass), ntfy, webhook or command.",
			func(d *decoder, v value, n *notifyDraft) { n.Type = d.word(v, notifyTypes...) },
		},
		{
			"url", "", "Address to send to, a secret; exactly one of the three must be there, none for a command.",
			func(d *decoder, v value, n *notifyDraft) { n.URL, n.text = d.secretURL(v), v },
		},
		{
			"url_file", "", "A file whose first line is the url.",
			func(d *decoder, v value, n *notifyDraft) { n.URL = endpoint.SecretFile(d.file(v)).Named("url") },
		},
		{
			"url_command", "", "A command whose first line of output is the url: a list is run as it is, a string by sh -c.",
			func(d *decoder, v value, n *notifyDraft) { n.URL = endpoint.SecretCommand(d.argv(v)...).Named("url") },
		},
		{
			"command", "", "What to run: a list as it is, a string by sh -c. The text is its input, POPFERRY_EVENT and others its environment; 30 s at most.",
			func(d *decoder, v value, n *notifyDraft) { n.Command = d.argv(v) },
		},
		{
			"jobs", "all", "Job, or a list.",
			func(d *decoder, v value, n *notifyDraft) { n.jobs = d.refs(v) },
		},
		{
			"on", "[failure, recovery, attention]", "When: failure, recovery, attention (what will go wrong if nobody looks).",
			func(d *decoder, v value, n *notifyDraft) { n.On = d.events(v) },
		},
		{
			"after", "3", "Passes in a row that must fail before it is a failure.",
			func(d *decoder, v value, n *notifyDraft) { n.After = d.count(v, 1, 1000) },
		},
	}}
}

// notifications reads the list under notify.
func (d *decoder) notifications(v value) []*notifyDraft {
	if v.Kind != yaml.SequenceNode {
		d.fail(v.Node, "config-wrong-type", "notify must be a list, not %s", kindOf(v.Node)).Hint = `Begin every entry with "- type:".`
		return nil
	}
	var drafts []*notifyDraft
	for i, e := range d.list(v) {
		drafts = append(drafts, d.notification(e, i+1))
	}
	return drafts
}

// notification reads one entry.
func (d *decoder) notification(v value, number int) *notifyDraft {
	n := &notifyDraft{}
	where := fmt.Sprintf("notify %d", number)
	f := notifyKeys().read(d, v.Node, where, n)
	if v.Kind != yaml.MappingNode {
		return n
	}
	if !f.has("type") {
		d.fail(v.Node, "config-missing-key", "%s has no type", where).Hint = "Words allowed there: " + strings.Join(notifyTypes, ", ")
	}
	if n.Type == "" {
		return n // its other keys would only be reported for the wrong reason
	}
	alien := []string{"command"}
	if n.Type == "command" {
		alien = []string{"url", "url_file", "url_command"}
		if !f.has("command") {
			d.fail(v.Node, "config-missing-key", "%s has no command", where).Hint = "Add:  command: [mail, -s, popferry, jane]"
		}
	} else {
		d.oneSecret(v.Node, where, "url", notifyHints[n.Type], f)
	}
	if n.Type == "healthchecks" { // a heartbeat knows no changes
		alien = append(alien, "on", "after")
	} else {
		if !f.has("on") {
			n.On = notifyEvents
		}
		if !f.has("after") {
			n.After = 3
		}
	}
	for _, k := range alien {
		if bad, ok := f[k]; ok {
			d.fail(bad.Node, "config-conflict", "%s in %s has no effect with type: %s", k, where, n.Type)
		}
	}
	if n.Type != "command" {
		d.checkURL(n, where)
	}
	return n
}

// notifyHints are examples of a url.
var notifyHints = map[string]string{
	"healthchecks": "Add the ping URL of a check:  url: ${HEALTHCHECKS_URL}   or  url_file: FILE",
	"ntfy":         "Add the address of a topic that nobody can guess:  url: ${NTFY_URL}   or  url_file: FILE",
	"webhook":      "Add the address to POST to:  url: ${WEBHOOK_URL}   or  url_file: FILE",
}

// secretURL reads an address of which nothing may come into an error.
func (d *decoder) secretURL(v value) endpoint.Secret {
	s := d.text(v)
	if s == "" {
		return endpoint.Secret{}
	}
	if !strings.Contains(v.Value, "${") {
		d.inline = append(d.inline, v)
	}
	return endpoint.SecretValue(s)
}

// checkURL looks at a url that is in the file, or in a variable.
func (d *decoder) checkURL(n *notifyDraft, where string) {
	if n.text.Node == nil || n.URL.IsZero() || d.blamed(n.text.Node) {
		return
	}
	s, ok := d.expand(n.text, nil)
	if !ok {
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		d.fail(n.text.Node, "config-url", "url in %s must begin with https:// and a host", where)
	case u.Fragment != "":
		d.fail(n.text.Node, "config-url", "url in %s has a # in it, and what follows would not be sent", where).Hint = "Write %23 if it belongs to the address."
	case n.Type == "ntfy" && strings.Count(strings.TrimSuffix(u.Path, "/"), "/") == 0:
		d.fail(n.text.Node, "config-url", "url in %s names no topic", where).Hint = "For example  https://ntfy.sh/a-topic-that-nobody-guesses"
	case n.Type == "healthchecks" && len(u.Path) < 2:
		d.fail(n.text.Node, "config-url", "url in %s names no check", where).Hint = "For example  https://hc-ping.com/UUID"
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		d.warn(n.text.Node, "config-clear-text", "%s sends its url and text over the network unencrypted", where).Hint = "Use https:// if the server has it."
	}
}

// events reads the words of on.
func (d *decoder) events(v value) []string {
	on := []string{}
	for _, e := range d.list(v) {
		w := d.word(e, notifyEvents...)
		switch {
		case w == "":
		case slices.Contains(on, w):
			d.fail(e.Node, "config-duplicate-value", "%s is there twice in %s of %s", d.show(e.Node), v.key, v.where)
		default:
			on = append(on, w)
		}
	}
	if v.Kind == yaml.SequenceNode && len(v.Content) == 0 {
		d.fail(v.Node, "config-no-value", "%s of %s is empty", v.key, v.where).Hint = "Words allowed here: " + strings.Join(notifyEvents, ", ")
	}
	return on
}

// notifyJobs looks up the jobs that notify mentions.
func (d *decoder) notifyJobs(t *topDraft) {
	names := map[string]*yaml.Node{}
	for _, j := range t.jobs {
		names[j.Name] = j.node
	}
	for _, n := range t.notify {
		for _, r := range n.jobs {
			if len(t.jobs) > 0 && d.known("job", r, names) {
				n.Jobs = append(n.Jobs, r.name)
			}
		}
		t.Notify = append(t.Notify, &n.Notify)
	}
}
