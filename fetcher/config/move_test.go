package config_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
)

// movable is a configuration with an account of each kind: isp and office in a job
// with one target, work in one with two, oldhost in none.
const movable = `
state: /srv/popferry.db
accounts:
  isp: { host: pop.isp.example, user: jane, password: x, keep: 30d, first_run: new, limits: { max_size: 5M } }
  office: { host: pop.office.example, user: jane, password: x }
  work: { host: pop.work.example, user: jane, password: x }
  oldhost: { host: pop.oldhost.example, user: jane, password: x }
targets:
  home: { host: imap.home.example, user: jane, password: x, dedupe: message-id, rate: 2M/s, flags: [fetched] }
  archive: { host: imap.home.example, user: jane, password: x, folder: Archive }
  disk: { type: maildir, path: /srv/mail }
  relay: { type: smtp, host: smtp.relay.example, on_ambiguous: hold }
  sms: { type: lmtp, host: mail.home.example, recipient: jane@home.example }
rules:
  - name: invoices
    if: { subject: "*invoice*" }
    then: { target: [home, archive], folder: Invoices, keep: 1d }
  - name: colleagues
    if: { to: "*@office.example" }
    then: { target: relay, to: joe@office.example }
jobs:
  - { name: mail, from: [isp, office], to: home, every: 5m }
  - { name: both, from: work, to: [home, archive], rules: [] }
`

func fileOf(t testing.TB, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("popferry.yaml", []byte(text), environ)
	if err != nil {
		t.Fatal(render(t, err))
	}
	return c
}

// movesOf reads moves as they would be on a command line: "FROM TO FOLDER".
func movesOf(t testing.TB, lines ...string) []config.Move {
	t.Helper()
	var moves []config.Move
	for _, l := range lines {
		words := append(strings.Fields(l), "")
		moves = append(moves, config.Move{From: parseEnd(t, words[0], true), To: parseEnd(t, words[1], false), Folder: words[2]})
	}
	return moves
}

// TestMoves: which job a move is, and which state it has.
func TestMoves(t *testing.T) {
	const own, addr = "/srv/migrations/", "pop3s://jane@pop.isp.example imaps://jane@imap.home.example"
	for _, c := range []struct{ move, job, state, rules string }{
		{"isp home", "mail: isp to home (home=1)", "", "2"},
		{"office home INBOX", "mail: office to home (home=1)", "", "2"},
		{"oldhost home", "oldhost-to-home: oldhost to home (home=1)", "", "-"},
		{"oldhost archive Archive", "oldhost-to-archive: oldhost to archive", "", "-"},
		{"oldhost disk", "oldhost-to-disk: oldhost to disk", "", "-"},
		{"oldhost sms", "oldhost-to-sms: oldhost to sms", "", "-"},
		{"isp archive", "isp-to-archive: isp to archive", own + "imap.home.example-jane-Archive-", "-"},
		{"work home", "work-to-home: work to home (home=1)", own + "imap.home.example-jane-INBOX-", "-"},
		{"isp home Old/2026", "isp-to-home/Old/2026: isp to home/Old/2026 (home/Old/2026=1)", own + "imap.home.example-jane-Old_2026-", "-"},
		{"isp archive inbox", "isp-to-archive: isp to archive", own + "imap.home.example-jane-INBOX-", "-"},
		{"oldhost disk Old", "oldhost-to-disk/Old: oldhost to disk/Old", own + "maildir-mail-Old-", "-"},
		{"isp imaps://jane@imap.home.example", "isp-to-jane@imap.home.example: isp to jane@imap.home.example", own + "imap.home.example-jane-INBOX-", "-"},
		{"pop3s://jane@pop.isp.example home", "jane@pop.isp.example-to-home: jane@pop.isp.example to home (home=1)", own + "imap.home.example-jane-INBOX-", "-"},
		{addr + "/Old", "jane@pop.isp.example-to-jane@imap.home.example/Old: jane@pop.isp.example to jane@imap.home.example/Old", own + "imap.home.example-jane-Old-", "-"},
		{addr + " Old", "jane@pop.isp.example-to-jane@imap.home.example/Old: jane@pop.isp.example to jane@imap.home.example/Old", own + "imap.home.example-jane-Old-", "-"},
		{"isp maildir:/srv/other Old", "isp-to-maildir:/srv/other/Old: isp to maildir:/srv/other/Old", own + "maildir-other-Old-", "-"},
		{"isp lmtp://localhost/jane@home.example", "isp-to-lmtp:jane@home.example@localhost: isp to lmtp:jane@home.example@localhost", own + "localhost-jane@home.example-", "-"},
	} {
		file := fileOf(t, movable)
		before := *file.Accounts["isp"]
		m, err := config.Moves(file, movesOf(t, c.move), environ)
		if err != nil {
			t.Errorf("%s: %v", c.move, err)
			continue
		}
		j := m.Jobs[0]
		a, to := j.Accounts[0], m.Targets[j.Targets[0]]
		got := fmt.Sprintf("%s: %s to %s", j.Name, a.Name, to.Name)
		for _, name := range slices.Sorted(maps.Keys(j.Dedupe)) {
			if m.Targets[name] != nil && name == to.Name {
				got += fmt.Sprintf(" (%s=%d)", name, j.Dedupe[name])
			}
		}
		rules := "-"
		if j.Rules != nil {
			rules = fmt.Sprint(len(j.Rules.Names()))
		}
		state := regexp.MustCompile(`[0-9a-f]{8}\.db$`).ReplaceAllString(j.State, "")
		if got != c.job || state != c.state || rules != c.rules {
			t.Errorf("%s:\n got %s, state %q, rules %s\nwant %s, state %q, rules %s", c.move, got, state, rules, c.job, c.state, c.rules)
		}
		if len(m.Jobs) != 1 || len(j.Accounts) != 1 || len(j.Targets) != 1 || m.Accounts[a.Name] != a || j.Every != 0 {
			t.Errorf("%s: %+v", c.move, j)
		}
		if a.Keep != (fetcher.Keep{Forever: true, Final: true}) || a.FirstRun != (fetcher.FirstRun{}) {
			t.Errorf("%s: keep %+v, first run %+v", c.move, a.Keep, a.FirstRun)
		}
		if m.State != "/srv/popferry.db" || m.Logins != file.Logins || a.Maildrop.Breaker != file.Logins {
			t.Errorf("%s: state %s", c.move, m.State)
		}
		for _, name := range j.Rules.Targets() {
			if m.Targets[name] == nil {
				t.Errorf("%s: rules deliver to %s, which is not there", c.move, name)
			}
		}
		if diff := cmp.Diff(before.Keep, file.Accounts["isp"].Keep); diff != "" || file.Accounts["isp"].FirstRun != before.FirstRun {
			t.Errorf("%s: the file's own account was changed:\n%s", c.move, diff)
		}
		if file.Targets["home"].Place() != "imap.home.example:993" || config.FolderOf(file.Targets["home"]) != "INBOX" {
			t.Errorf("%s: the file's own target was changed", c.move)
		}
	}
}

// TestMoves_many: a mailbox is one account and one target in all moves.
func TestMoves_many(t *testing.T) {
	m, err := config.Moves(nil, movesOf(
		t, "pop3s://jane@pop.isp.example imaps://jane@imap.home.example",
		"pop3s://jane@pop.isp.example maildir:/srv/mail",
		"pop3s://joe@pop.isp.example imaps://jane@imap.home.example",
		"pop3s://joe@pop.isp.example imaps://jane@imap.home.example/Joe",
	), environ)
	if err != nil {
		t.Fatal(err)
	}
	j := m.Jobs
	if j[0].Accounts[0] != j[1].Accounts[0] || j[2].Accounts[0] != j[3].Accounts[0] || len(m.Accounts) != 2 || len(m.Targets) != 3 {
		t.Errorf("%d accounts, %d targets", len(m.Accounts), len(m.Targets))
	}
	if j[0].State != j[2].State || j[2].State == j[3].State || j[0].State == j[1].State {
		t.Errorf("states %s %s %s %s", j[0].State, j[1].State, j[2].State, j[3].State)
	}
	if m.State != "/home/jane/.local/state/popferry/popferry.db" || filepath.Dir(j[0].State) != "/home/jane/.local/state/popferry/migrations" {
		t.Errorf("states %s %s", m.State, j[0].State)
	}
	if a := m.Accounts["jane@pop.isp.example"]; a.Maildrop.Breaker != m.Logins || a.Limits.SessionMessages != 5000 || a.Maildrop.Pipelining != "auto" {
		t.Errorf("%+v", a)
	}
	google := movesOf(t, "joe@gmail.com maildir:/srv/mail", "jane@gmx.de joe@gmail.com")
	if m, err = config.Moves(nil, google, environ); err != nil {
		t.Fatal(err)
	}
	if a := m.Accounts["joe@gmail.com"]; !a.Consumes || a.Maildrop.Pipelining != "off" {
		t.Errorf("the presets of a provider do not apply: %+v", a)
	}
	if r := m.Rates()["joe@gmail.com"]; len(r) != 1 || r[0].Text != "500M/day" || !strings.Contains(google[1].To.LoginHint(), "app password") {
		t.Errorf("rates %v, hint %q", r, google[1].To.LoginHint())
	}
}

// TestMoves_bad: what no move can be.
func TestMoves_bad(t *testing.T) {
	const home = "imaps://jane@imap.home.example"
	for _, c := range []struct {
		file  bool
		moves []string
		want  string
	}{
		{false, []string{"isp " + home}, `[address-name] there is no configuration, so "isp" names no account`},
		{false, []string{"isp home"}, `[address-name] there is no configuration, so "isp" names no account
[address-name] there is no configuration, so "home" names no target`},
		{true, []string{"ips hone"}, `[config-unknown-name] there is no account "ips" in popferry.yaml
[config-unknown-name] there is no target "hone" in popferry.yaml`},
		{true, []string{"home isp"}, `[config-unknown-name] there is no account "home" in popferry.yaml
[config-unknown-name] there is no target "isp" in popferry.yaml`},
		{true, []string{"isp home", "isp home INBOX"}, `[move-twice] isp goes to home twice`},
		{true, []string{"isp home", "isp home Old", "isp home Old"}, `[move-twice] isp goes to home/Old twice`},
		{true, []string{"isp home", "pop3s://jane@POP.isp.example. archive"}, `[move-same] jane@pop.isp.example (POP.isp.example.:995) and isp (pop.isp.example:995) are the same mailbox, or look like it`},
		{true, []string{"isp home", "oldhost " + home}, `[move-same] jane@imap.home.example (imap.home.example:993) and home (imap.home.example:993) are the same mailbox, or look like it`},
		{true, []string{"isp home Archive", "oldhost imap+starttls://jane@imap.home.example/Archive"}, `[move-same] jane@imap.home.example/Archive (imap.home.example:143) and home/Archive (imap.home.example:993) are the same mailbox, or look like it`},
		{false, []string{"pop3s://jane@isp.example@pop.isp.example " + home, "pop3s://jane@isp.example@mail.isp.example maildir:x"}, `[move-same] jane@isp.example (mail.isp.example:995) and jane@isp.example (pop.isp.example:995) are the same mailbox, or look like it`},
		{false, []string{"pop3s://jane@isp.example@pop.isp.example imaps://jane@imap.isp.example"}, `[config-loop] jane@imap.isp.example is the mailbox that is read from jane@isp.example`},
		{false, []string{"jane@gmail.com jane@gmail.com"}, `[config-loop] jane@gmail.com is the mailbox that is read from jane@gmail.com`},
		{false, []string{"pop3s://jane@pop.isp.example lmtp+starttls://mail.isp.example/jane@isp.example"}, `[config-loop] lmtp:jane@isp.example is the mailbox that is read from jane@pop.isp.example`},
		{false, []string{"pop3s://jane@mail1.isp.example imaps://jane@mail1.isp.example"}, `[config-loop] jane@mail1.isp.example is the mailbox that is read from jane@mail1.isp.example`},
		{false, []string{"pop3s://jane@mail1.isp.example imaps://jane@mail2.isp.example"}, ""}, // from an old machine to a new one
		{false, []string{"pop3s://jane@mail.isp.example imaps://jane@mail2.isp.example"}, ""},
		{true, []string{"isp sms Old"}, `[address-folder] sms has no folders: the server at mail.home.example:24 decides where mail goes`},
		{true, []string{"oldhost relay"}, `[config-missing-key] target relay has no recipient`},
		{false, []string{"pop3s://jane@pop.isp.example " + home + "/Old New"}, `[address-folder] two folders are given: "Old" in the address, and "New"`},
		{true, []string{"isp home /Old"}, `[address-folder] the name of the folder has an empty level`},
	} {
		var file *config.Config
		if c.file {
			file = fileOf(t, movable)
		}
		_, err := config.Moves(file, movesOf(t, c.moves...), environ)
		errs, _ := err.(config.Errors)
		var got []string
		for _, e := range errs {
			if e.File != "" || e.Line != 0 || e.Excerpt != nil {
				t.Errorf("%q: an error with a place: %+v", c.moves, e)
			}
			checkBlock(t, e, nil)
			got = append(got, fmt.Sprintf("[%s] %s", e.Code, e.Text))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.moves, diff)
		}
	}
	_, err := config.Moves(nil, movesOf(t, "jane@gmx.de maildir:x"), func(string) (string, bool) { return "", false })
	if out := render(t, err); !strings.Contains(out, "[config-no-state]") || strings.Contains(out, "Add:") {
		t.Errorf("without a home:\n%s", out)
	}
	_, err = config.Moves(fileOf(t, movable), movesOf(t, "ips hone"), environ)
	if out := render(t, err); !strings.Contains(out, `Did you mean "isp"? There are: isp, office, oldhost, work. Or write an address: pop3s://`) ||
		!strings.Contains(out, `Did you mean "home"? There are: archive, disk, home, relay, sms. Or write an address: imaps://`) {
		t.Errorf("unknown names:\n%s", out)
	}
}

// TestMoves_sameFolder: a file may have two targets for one folder, and so may its
// moves.
func TestMoves_sameFolder(t *testing.T) {
	file := fileOf(t, strings.Replace(movable, "folder: Archive", "flags: [old]", 1))
	if _, err := config.Moves(file, movesOf(t, "isp home", "oldhost archive"), environ); err != nil {
		t.Error(err)
	}
}

// TestMoves_warnings: one for each mailbox, without a place.
func TestMoves_warnings(t *testing.T) {
	m, err := config.Moves(fileOf(t, movable), movesOf(t, "pop3+plain://joe@pop.isp.example home", "pop3+plain://joe@pop.isp.example archive", "oldhost home"), environ)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range m.Warnings {
		got = append(got, w.Error()+" / "+w.Hint)
	}
	want := []string{`account "joe@pop.isp.example" sends passwords and mail over the network unencrypted / Write pop3+starttls:// if the server has it.`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if more := m.Check(); len(more) > 0 {
		t.Errorf("%v", more)
	}
}

// TestMoves_states: two places never share a state, nor two names a target; the
// same place has the same in every run, whatever else is moved.
func TestMoves_states(t *testing.T) {
	var to []string
	for _, host := range []string{"a.example", "b.example", "a.example:1993", "[2001:db8::1]", "imap.x.example", "mail.x.example"} {
		for _, user := range []string{"jane", "Jane", "jane-a.example", "jane%40x.example", "jane%2Fx", strings.Repeat("x", 120), strings.Repeat("x", 121)} {
			for _, folder := range []string{"", "/a", "/a-b", "/a/b", "/a_b", "/A", "/%C3%A4", "/%C3%B6", "/" + strings.Repeat("y", 200), "/" + strings.Repeat("y", 201)} {
				to = append(to, "imaps://"+user+"@"+host+folder)
			}
		}
	}
	to = append(to, "maildir:/a", "maildir:/a/b", "maildir:/b/a", "maildir:a", "lmtp://localhost/a@x.example", "lmtp://localhost:25/a@x.example", "lmtp://localhost/b@x.example")
	states, names := map[string]string{}, map[string]string{}
	for _, text := range to {
		m, err := config.Moves(nil, movesOf(t, "pop3s://joe@pop.isp.example "+text), environ)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		j := m.Jobs[0]
		name, place := filepath.Base(j.State), j.Targets[0]
		if len(name) > 100 || regexp.MustCompile(`[^A-Za-z0-9.@_+-]`).MatchString(name) || strings.HasPrefix(name, ".") {
			t.Errorf("%s: state %q", text, name)
		}
		if other := states[name]; other != "" {
			t.Errorf("%s and %s share %s", text, other, name)
		}
		if other := names[place]; other != "" && !strings.Contains(text, "x.example/") && !strings.HasSuffix(text, "x.example") {
			t.Errorf("%s and %s are both called %s", text, other, place)
		}
		states[name], names[place] = text, text
		again, err := config.Moves(fileOf(t, movable), movesOf(t, "isp home", "isp "+text, "work "+text), environ)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := again.Jobs[2]; filepath.Base(got.State) != name || got.Targets[0] != place || got.State != again.Jobs[1].State {
			t.Errorf("%s is %s in %s, and in another run %s in %s", text, place, name, got.Targets[0], got.State)
		}
	}
}
