package fetcher_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// everyKey has every key of rules, but for to, which is for SMTP.
const everyKey = `
rules:
  - { name: tiny, if: { header: { Content-Type: "text/html*" }, size: "<2K" }, then: { drop: yes, keep: 0d } }
  - { name: later, if: { subject: { regex: '(?i)\btest' }, older_than: 1d }, then: { skip: yes } }
  - { name: new, if: { newer_than: 1d }, then: { folder: New } }
  - { name: junk, if: { spam: yes }, then: { flags: [$Junk, seen] }, continue: yes }
  - { name: other, accounts: [other], then: { folder: Other } }
  - { name: files, if: { has_attachment: yes, account: isp }, then: { folder: Files, target: [home, extra] }, continue: yes }
  - name: lists
    if: { any: [{ list_id: { exists: yes } }, { reply_to: { local: "*list*" } }, { sender: "*owner*" }] }
    then: { folder: "Lists/${year}", flags: [$List] }
    continue: yes
  - { name: words, if: { body: { regex: '(?i)\b(unsubscribe|regards|thanks)\b' } }, then: { folder: "Words/${1}", target: extra }, continue: yes }
  - { name: details, if: { recipient: [{ detail: "*" }, { domain: edu }] }, then: { folder: Details } }
  - { name: hidden, if: { all: [{ bcc: { exists: yes } }, { cc: { exists: no } }] }, then: { folder: Hidden, keep: 0d } }
  - { name: old, if: { date: "<2003", not: { from: { contains: "@" }, to: { exists: yes } } }, then: { folder: [Old, "Old/${month}"] } }
`

// ruled loads rules as a configuration file would have them.
func ruled(t *testing.T, text string) *rules.Set {
	t.Helper()
	const server = "{host: localhost, user: %, password: x}"
	head := "accounts: {isp: " + server + ", other: {host: other.example, user: x, password: x}}\n" +
		"targets: {home: {host: a.example, user: x, password: x}, extra: {host: b.example, user: x, password: x}}\n" +
		"jobs: [{from: [isp, other], to: home}]\n"
	c, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(head, "%", "jane")+text), func(string) (string, bool) { return "/nowhere", true })
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys() {
		if (k.Section == "if" || k.Section == "then") && k.Name != "to" && !strings.Contains(text, k.Name+":") {
			t.Errorf("key %s is not used", k.Name)
		}
	}
	return c.Rules
}

// TestDovecot_rules: where the rules say that mail goes is where a pass puts it.
func TestDovecot_rules(t *testing.T) {
	r := newRig(t)
	r.job.Rules = ruled(t, everyKey)
	messages := all(t)
	r.server.Put("src", "INBOX", messages...)

	want := map[string]map[string]map[targets.Hash]int{"home": {}, "extra": {}} // by target and folder
	acted := map[rules.Action]int{}
	matched := map[string]int{}
	left := 0
	for _, raw := range messages {
		d := r.job.Rules.Decide(predicted(raw, r.now))
		acted[d.Action]++
		for _, name := range d.Matched {
			matched[name]++
		}
		if d.Keep == nil || d.Keep.For > 0 {
			left++
		}
		for _, w := range d.For(r.job.Targets) {
			folder := w.Dest.Folder
			if folder == "" {
				folder = "INBOX"
			}
			if want[w.Target][folder] == nil {
				want[w.Target][folder] = map[targets.Hash]int{}
			}
			want[w.Target][folder][hashOf(raw)]++
		}
	}
	report := r.passInto(map[string]string{"home": "dst", "extra": "extra"})
	if report.Delivered != acted[rules.Deliver] || report.Dropped != acted[rules.Drop] || report.Skipped != acted[rules.Skip] || report.Failed != 0 {
		t.Errorf("predicted %v, got %+v", acted, report)
	}
	for name, user := range map[string]string{"home": "dst", "extra": "extra"} {
		if got := r.server.Folders(user); len(got) > len(want[name])+3 {
			t.Errorf("%s has %q", name, got)
		}
		for _, folder := range slices.Sorted(maps.Keys(want[name])) {
			got := map[targets.Hash]int{}
			for _, m := range r.server.Messages(user, folder) {
				got[hashOf(m.Raw)]++
			}
			if !maps.Equal(got, want[name][folder]) {
				t.Errorf("%s %s: %d different messages, predicted %d", name, folder, len(got), len(want[name][folder]))
			}
		}
	}
	if n := r.server.Count("src", "INBOX"); n != left {
		t.Errorf("%d are left on the maildrop, predicted %d", n, left)
	}
	if len(messages) > 1000 { // with the shared corpus
		for _, name := range r.job.Rules.Names() {
			if matched[name] == 0 && name != "other" && name != "new" {
				t.Errorf("rule %s took nothing", name)
			}
		}
		t.Logf("%d messages: %v, by rule %v", len(messages), acted, matched)
	}
	again := r.passInto(map[string]string{"home": "dst", "extra": "extra"})
	if again.Delivered+again.Dropped+again.Failed+again.New != 0 || again.Skipped != acted[rules.Skip] {
		t.Errorf("a second pass: %+v", again)
	}
}

// predicted is a message as a pass shows it to the rules.
func predicted(raw []byte, now time.Time) *rules.Message {
	raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if len(raw) == 0 || !bytes.HasSuffix(raw, []byte("\r\n")) {
		raw = append(raw, "\r\n"...)
	}
	head, body := raw, []byte(nil)
	if bytes.HasPrefix(raw, []byte("\r\n")) {
		head, body = raw[:2], raw[2:]
	} else if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
		head, body = raw[:i+4], raw[i+4:]
	}
	return &rules.Message{
		Account: "isp", Header: rules.ParseHeader(head), Size: int64(len(raw)), Now: now,
		Body: func() []byte { return body },
	}
}

// passInto is pass with several targets, each a user of the server.
func (r *rig) passInto(users map[string]string) fetcher.Report {
	r.t.Helper()
	ctx := context.Background()
	st, err := state.Open(ctx, r.db, state.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer st.Close()
	f := &fetcher.Fetcher{
		Targets: map[string]targets.Target{}, State: st, Now: func() time.Time { return r.now }, Spool: r.t.TempDir(),
	}
	for name, user := range users {
		c := r.imap
		c.Server = r.endpoint(r.server.IMAPS, user, endpoint.Implicit)
		tg, err := c.Open(name, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		defer tg.Close()
		f.Targets[name] = tg
	}
	report, err := f.Pass(ctx, r.job, r.account)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}
