package imap_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
	"popferry/testdata/dovecot"
)

// onDovecot opens a target for a user of a real server.
func onDovecot(t *testing.T, d *dovecot.Server, user string) target {
	t.Helper()
	return open(t, config(d.IMAPS, func(c *imap.Config) { c.TLS, c.CAFile, c.User = endpoint.Implicit, d.CAFile, user }))
}

// TestDovecot_changes: what other clients and administrators do to a folder
// that messages are being delivered to. The mark, what is delivered afterwards,
// Find and Catalog must all agree with what is there.
func TestDovecot_changes(t *testing.T) {
	d := dovecot.Start(t)
	for i, c := range []struct {
		name    string
		change  func(t *testing.T, user string)
		renewed bool // UIDVALIDITY is another afterwards
		left    bool // the message is still there
	}{
		{"nothing", func(*testing.T, string) {}, false, true},
		{"expunged", func(_ *testing.T, user string) { d.Doveadm("expunge", "-u", user, "mailbox", "Work", "all") }, false, false},
		{"renamed", func(_ *testing.T, user string) { d.Doveadm("mailbox", "rename", "-u", user, "Work", "Old") }, true, false},
		{"deleted", func(_ *testing.T, user string) { d.Doveadm("mailbox", "delete", "-u", user, "Work") }, true, false},
		{"deleted and made anew", func(_ *testing.T, user string) {
			d.Doveadm("mailbox", "delete", "-u", user, "Work")
			d.Doveadm("mailbox", "create", "-u", user, "Work")
			d.Doveadm("mailbox", "update", "-u", user, "--uid-validity", "77777", "Work") // it counts seconds
		}, true, false},
		{"numbered anew", func(_ *testing.T, user string) {
			d.Doveadm("mailbox", "update", "-u", user, "--uid-validity", "77777", "Work")
		}, true, true},
		{"indexes lost", func(t *testing.T, user string) {
			home := strings.TrimSpace(d.Doveadm("user", "-f", "home", user))
			files, _ := filepath.Glob(filepath.Join(home, "Maildir/.Work/dovecot*"))
			uids, _ := filepath.Glob(filepath.Join(home, "Maildir/dovecot-uidvalidity*"))
			if len(files) == 0 || len(uids) == 0 {
				t.Fatal("no indexes found")
			}
			for _, f := range append(files, uids...) {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
			d.Doveadm("mailbox", "update", "-u", user, "--uid-validity", "77777", "Work") // else it may take the same second's
		}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := fmt.Sprintf("user%d", i)
			tg := onDovecot(t, d, user)
			one, two := targetstest.Text(1), targetstest.Text(2)
			before, err := tg.Mark(t.Context(), "Work")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := append1(t, tg, one, "Work"); err != nil {
				t.Fatal(err)
			}
			c.change(t, user)

			r, err := append1(t, tg, two, "Work")
			for pass := 1; pass < 3 && err != nil && targets.FaultOf(err) == targets.Transient; pass++ {
				r, err = append1(t, tg, two, "Work") // Dovecot needs a moment to repair its indexes
			}
			if targets.FaultOf(err) == targets.Unsure {
				// The server may hang up instead; what was sent then is found or
				// sent again.
				now, merr := tg.Mark(t.Context(), "Work")
				if merr != nil {
					t.Fatal(merr)
				}
				found, ferr := tg.Find(t.Context(), "Work", targets.Mark{Folder: now.Folder, UIDValidity: now.UIDValidity, UIDNext: 1}, []targets.Wanted{targetstest.WantedOf(two)}, nil)
				if ferr != nil {
					t.Fatal(ferr)
				}
				if err = nil; !found[0].OK {
					r, err = append1(t, tg, two, "Work")
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			after, err := tg.Mark(t.Context(), "Work")
			if err != nil || (after.UIDValidity != before.UIDValidity) != c.renewed {
				t.Errorf("mark %v, %v after %v; want another UIDVALIDITY: %v", after, err, before, c.renewed)
			}
			there := map[string]uint32{}
			for _, m := range d.Messages(user, "Work") {
				if there[string(m.Raw)] != 0 {
					t.Errorf("two copies of %q", m.Raw)
				}
				there[string(m.Raw)] = m.UID
			}
			if there[two] == 0 || (there[one] != 0) != c.left || r.UID != 0 && (r.UID != there[two] || r.UIDValidity != after.UIDValidity) {
				t.Errorf("the folder has %v, the receipt says %+v, the mark %v", there, r, after)
			}
			since := targets.Mark{Folder: after.Folder, UIDValidity: after.UIDValidity, UIDNext: 1}
			found, err := tg.Find(t.Context(), "Work", since, []targets.Wanted{targetstest.WantedOf(one), targetstest.WantedOf(two)}, nil)
			if err != nil || found[0].UID != there[one] || found[1].UID != there[two] {
				t.Errorf("Find: %v, %v, want %v", found, err, there)
			}
			k, err := tg.(targets.Comparer).Catalog(t.Context(), "Work", after, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, raw := range []string{one, two} {
				if f, err := k.Take(t.Context(), targetstest.WantedOf(raw)); err != nil || f.UID != there[raw] {
					t.Errorf("Take: %+v, %v, want UID %d", f, err, there[raw])
				}
			}
		})
	}
}

// TestDovecot_catalogChanges: the folder changes between the list and Take.
func TestDovecot_catalogChanges(t *testing.T) {
	d := dovecot.Start(t)
	for i, c := range []struct {
		name   string
		change func(user string)
		words  string // of the error; "" is that nothing is found
	}{
		{"expunged", func(user string) { d.Doveadm("expunge", "-u", user, "mailbox", "Work", "all") }, ""},
		{"renamed", func(user string) { d.Doveadm("mailbox", "rename", "-u", user, "Work", "Old") }, "doesn't exist"},
		{"numbered anew", func(user string) {
			d.Doveadm("mailbox", "update", "-u", user, "--uid-validity", "77777", "Work")
		}, "numbered anew"},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := fmt.Sprintf("user%d", i)
			tg := onDovecot(t, d, user)
			if _, err := append1(t, tg, targetstest.Text(1), "Work"); err != nil {
				t.Fatal(err)
			}
			m, err := tg.Mark(t.Context(), "Work")
			if err != nil {
				t.Fatal(err)
			}
			k, err := tg.(targets.Comparer).Catalog(t.Context(), "Work", m, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.change(user)
			f, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(1)))
			if f.OK || (err != nil) != (c.words != "") || err != nil && !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %+v, %v, want %q", f, err, c.words)
			}
		})
	}
}

// TestDovecot_flags: another client marks messages read while they are looked
// for, which the server tells in responses that look like answers.
func TestDovecot_flags(t *testing.T) {
	d := dovecot.Start(t)
	tg := onDovecot(t, d, "jane")
	const n = 300
	each(n, func(i int) {
		if _, err := append1(t, tg, targetstest.Text(i), ""); err != nil {
			t.Error(err)
		}
	})
	k := catalog(t, tg)
	each(n, func(i int) {
		if i%50 == 0 {
			d.Doveadm("flags", "add", "-u", "jane", `\Seen`, "mailbox", "INBOX", "uid", fmt.Sprintf("1:%d", n))
			d.Doveadm("flags", "remove", "-u", "jane", `\Seen`, "mailbox", "INBOX", "uid", fmt.Sprintf("1:%d", n))
		}
		if f, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(i))); err != nil || !f.OK {
			t.Errorf("message %d: %+v, %v", i, f, err)
		}
	})
}

// TestDovecot_names: folder names out of mail. Each is refused, or made as one
// folder where the message lies; none leaves the account or breaks the
// connection.
func TestDovecot_names(t *testing.T) {
	d := dovecot.Start(t)
	tg := onDovecot(t, d, "jane")
	for i, c := range []struct{ name, want string }{
		{"../x", ""},
		{"a/../../x", ""},
		{"/abs", ""},
		{"a//b", ""},
		{".", ""},
		{"a\x00b", ""},
		{"a\r\nP9 DELETE INBOX", ""},
		{"a\x7fb", ""},
		{"\xff", ""},
		{strings.Repeat("x", 3000), ""},
		{strings.Repeat("y", 300), "INBOX"}, // Dovecot takes 255
		{"~", "INBOX"},                      // Dovecot can have no such folder
		{"~root/x", "INBOX"},
		{"a.b", "a_b"},
		{"...", "___"},
		{"trailing ", "trailing "},
		{"bidi\u202ename", "bidi\u202ename"},
		{"a&b", "a&b"},
		{"&-", "&-"},
		{"inbox", "INBOX"},
		{"inbox/sub", "INBOX/sub"},
		{"%*", "%*"},
		{`q"\`, `q"\`},
		{"{5}", "{5}"},
		{"日本", "日本"},
	} {
		r, err := append1(t, tg, targetstest.Text(i), c.name)
		if c.want == "" {
			if targets.FaultOf(err) != targets.Refused {
				t.Errorf("%.20q: %+v, %v, want refused", c.name, r, err)
			}
			continue
		}
		if err != nil || r.Folder != c.want {
			t.Errorf("%.20q: %+v, %v, want %q", c.name, r, err, c.want)
			continue
		}
		raw := []byte(targetstest.Text(i))
		if !slices.ContainsFunc(d.Messages("jane", r.Folder), func(m dovecot.Stored) bool { return bytes.Equal(m.Raw, raw) }) {
			t.Errorf("%.20q: the message is not in %q", c.name, r.Folder)
		}
	}
	if _, err := os.Stat(filepath.Join(strings.TrimSpace(d.Doveadm("user", "-f", "home", "jane")), "x")); !os.IsNotExist(err) {
		t.Errorf("a folder was made outside: %v", err)
	}
}
