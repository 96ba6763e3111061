package fetcher_test

import (
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"popferry/fetcher"
	"popferry/rules"
	"popferry/testdata/dovecot"
)

// newMaildirRig delivers into the Maildir that Dovecot shows, as root would on a
// mail server.
func newMaildirRig(t *testing.T) *rig {
	r := newRig(t)
	r.maildir = r.server.Maildir("dst")
	return r
}

// TestMaildir_everything: what lies in the Maildir is what Dovecot shows: every
// message once, with its octets, its date, its folder and its flags.
func TestMaildir_everything(t *testing.T) {
	r := newMaildirRig(t)
	messages := all(t)
	r.server.Put("src", "INBOX", messages...)
	report := r.pass()
	r.same(r.stored("INBOX"), count(messages))
	if n := len(messages); report.New != n || report.Delivered != n || report.Failed+report.Held+report.Deleted != 0 {
		t.Errorf("%+v", report)
	}
	r.dates()
	report = r.pass()
	if report.New+report.Delivered+report.Failed != 0 {
		t.Errorf("second pass: %+v", report)
	}
	// The state is lost, and a mail reader has set flags meanwhile.
	r.flag("INBOX", `\Seen`)
	r.loseState()
	report = r.pass()
	if report.Duplicate != len(messages) || report.Delivered != len(messages) {
		t.Errorf("after the state was lost: %+v", report)
	}
	r.same(r.stored("INBOX"), count(messages))
}

// flag sets a flag on every message of a folder, by which Dovecot renames them.
func (r *rig) flag(folder string, flag imap.Flag) {
	r.t.Helper()
	c, err := imapclient.DialInsecure(r.server.Addr(r.server.IMAP), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("dst", dovecot.Password).Wait(); err != nil {
		r.t.Fatal(err)
	}
	if _, err := c.Select(folder, nil).Wait(); err != nil {
		r.t.Fatal(err)
	}
	set := imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}
	if err := c.Store(imap.UIDSet{{Start: 1, Stop: 0}}, &set, nil).Close(); err != nil {
		r.t.Fatal(err)
	}
}

// TestMaildir_foldersFlags: Dovecot shows folders by the names of the rules, and
// the flags that a file name can hold. What the name says of $Forwarded it does not
// show.
func TestMaildir_foldersFlags(t *testing.T) {
	r := newMaildirRig(t)
	for i, folder := range []string{"Lists/go nuts", "Übung & Co/2024", "a.b", "INBOX/Sub", "inbox"} {
		set, err := rules.Compile([]rules.Rule{{Name: "all", Then: rules.Then{
			Folders: []string{folder}, Flags: []string{"seen", "flagged", "answered", "draft", "$Forwarded", "Work"},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		r.job.Rules = set
		r.server.Put("src", "INBOX", []byte("Date: Thu, 29 Feb 2024 12:30:15 +0000\nSubject: "+string(rune('a'+i))+"\n\nbody\n"))
		if report := r.pass(); report.Delivered != 1 {
			t.Fatalf("%q: %+v", folder, report)
		}
	}
	want := []string{"INBOX", "INBOX/Sub", "Lists/go nuts", "a_b", "Übung & Co/2024"}
	folders := r.server.Folders("dst")
	for _, f := range want {
		if !slices.Contains(folders, f) {
			t.Errorf("there is no %q among %q", f, folders)
			continue
		}
		got := r.server.Messages("dst", f)
		if len(got) != 1 || !got[0].InternalDate.Equal(time.Date(2024, 2, 29, 12, 30, 15, 0, time.UTC)) ||
			!slices.Equal(got[0].Flags, []string{`\Answered`, `\Draft`, `\Flagged`, `\Seen`}) {
			t.Errorf("%q: %+v", f, got)
		}
	}
}

// TestMaildir_beside: mail that another program has delivered into the Maildir is
// recognised by its octets on the first pass.
func TestMaildir_beside(t *testing.T) {
	r := newMaildirRig(t)
	messages := all(t)
	r.server.Put("dst", "INBOX", messages[:len(messages)/2]...)
	r.server.Put("src", "INBOX", messages...)
	report := r.pass()
	if report.Delivered != len(messages) || report.Duplicate != len(messages)/2 {
		t.Errorf("%+v", report)
	}
	r.same(r.stored("INBOX"), count(messages))
	r.account.Keep = fetcher.Keep{}
	if report = r.pass(); report.Deleted != len(messages) || report.Left != 0 {
		t.Errorf("now delete: %+v", report)
	}
}
