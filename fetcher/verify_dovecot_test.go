package fetcher_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/maildir"
)

// verify looks without a lock on the state, and checks that nothing is changed by
// that: not the state, not a flag, not a folder.
func (r *rig) verify(o fetcher.VerifyOptions, stateless bool) fetcher.Proof {
	r.t.Helper()
	f := &fetcher.Fetcher{DryRun: true}
	if !stateless {
		st, err := state.View(r.t.Context(), r.db)
		if err != nil {
			r.t.Fatal(err)
		}
		defer st.Close()
		f.State = st
	}
	var c targets.Config = r.imap
	if r.maildir != "" {
		c = maildir.Config{Path: r.maildir}
	}
	home, err := c.Open("home", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer home.Close()
	f.Targets = map[string]targets.Target{"home": home}
	before := r.looks()
	proof, err := f.Verify(r.t.Context(), r.job, r.account, o)
	if err != nil {
		r.t.Fatal(err)
	}
	if d := cmp.Diff(before, r.looks()); d != "" {
		r.t.Error("verify has changed something:\n", d)
	}
	return proof
}

// looks is what must not change.
func (r *rig) looks() []string {
	looks := slices.Concat(r.server.Folders("dst"), r.server.Subscribed("dst"))
	for _, user := range []string{"src", "dst"} {
		looks = append(looks, r.server.Doveadm("fetch", "-u", user, "mailbox uid flags", "all"))
	}
	db, err := os.ReadFile(r.db)
	if err != nil {
		r.t.Fatal(err)
	}
	return append(looks, fmt.Sprintf("%x", sha256.Sum256(db)))
}

// doubts are the kinds and subjects of a Proof's doubts.
func doubts(p fetcher.Proof) string {
	var all []string
	for _, d := range p.Doubts {
		all = append(all, string(d.Kind)+" "+d.Subject)
	}
	return strings.Join(all, ", ")
}

// home is what a Proof says of the one target.
func home(t testing.TB, p fetcher.Proof) fetcher.TargetProof {
	t.Helper()
	if len(p.Targets) != 1 {
		t.Fatalf("%d targets: %+v", len(p.Targets), p.Targets)
	}
	return p.Targets[0]
}

// TestVerify_everything compares all mail there is, by what the state says, by
// its looks, and by contents.
func TestVerify_everything(t *testing.T) {
	r := newRig(t)
	mail := all(t)
	r.server.Put("src", "INBOX", mail...)
	r.pass()
	for _, test := range []struct {
		deep, stateless bool
	}{{false, false}, {true, false}, {false, true}, {true, true}} {
		p := r.verify(fetcher.VerifyOptions{Deep: test.deep}, test.stateless)
		h := home(t, p)
		if len(p.Doubts) > 0 || p.Messages != len(mail) || h.Wanted != len(mail) || h.ByUID+h.ByMessageID+h.ByContent != len(mail) || len(h.Elsewhere) > 0 {
			t.Errorf("deep %v, stateless %v: %d of %d messages, %+v, doubts: %.300s", test.deep, test.stateless, p.Messages, len(mail), h, doubts(p))
		}
		if !test.stateless && h.ByUID != len(mail) {
			t.Errorf("by UID only %d", h.ByUID)
		}
	}
}

// titled makes a message; those with one id share a Message-ID.
func titled(id, subject, body string) []byte {
	head := ""
	if id != "" {
		head = "Message-ID: <" + id + "@example.org>\r\n"
	}
	return []byte(head + "From: Rita <rita@example.org>\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\nSubject: " + subject + "\r\n\r\n" + body + "\r\n")
}

// scene is a maildrop after a pass, and what somebody did to the target then.
type scene struct {
	name      string
	do        func(r *rig)
	want      string // doubts
	deep      string // with --deep, if they are others
	elsewhere int
}

func TestVerify_scenes(t *testing.T) {
	mail := [][]byte{
		titled("1", "one", "first"), titled("2", "two", "second"), titled("3", "three", "third"),
		titled("twin", "twin", "same"), titled("twin", "twin", "same"),
		titled("list", "list a", "body a"), titled("list", "list b", "body b"),
		titled("", "bare a", "no id a"), titled("", "bare b", "no id b"), titled("", "bare c", "quite another length, and no id"),
		titled("9", "go nuts", "in a folder"),
	}
	const lists = "Lists/go"
	expunge := func(subject string) func(*rig) {
		return func(r *rig) { r.server.Doveadm("expunge", "-u", "dst", "mailbox", "INBOX", "subject", subject) }
	}
	for _, test := range []scene{
		{name: "nothing"},
		{name: "removed", do: expunge("two"), want: "- two"},
		{name: "without an id removed", do: expunge("bare a"), want: "- bare a"},
		{name: "altered", do: func(r *rig) {
			expunge("three")(r)
			r.server.Put("dst", "INBOX", titled("3", "three", "third, with a signature of the company's"))
		}, want: "* three"},
		{name: "altered where it lies", do: func(r *rig) { r.alter("second", "SECOND") }, want: "", deep: "* two"},
		{name: "one of two with an id", do: expunge("list b"), want: "- list b"},
		{name: "the other of two with an id", do: expunge("list a"), want: "- list a"},
		{name: "one of twins", do: func(r *rig) {
			r.server.Doveadm("expunge", "-u", "dst", "mailbox", "INBOX", "uid", fmt.Sprint(r.uid("twin")))
		}, want: "- twin"},
		{name: "more than was delivered", do: func(r *rig) {
			r.server.Put("dst", "INBOX", titled("1", "one", "first"), titled("new", "new", "for other reasons"), titled("list", "list c", "body c"))
			r.server.Put("dst", "Else", titled("2", "two", "second"))
		}},
		{name: "moved by the owner", do: func(r *rig) {
			r.server.Doveadm("mailbox", "create", "-u", "dst", "Archive")
			r.server.Doveadm("move", "-u", "dst", "Archive", "mailbox", "INBOX", "subject", "one")
			r.server.Doveadm("move", "-u", "dst", "Archive", "mailbox", "INBOX", "subject", "bare c")
		}, elsewhere: 2},
		{name: "folder renamed", do: func(r *rig) { r.server.Doveadm("mailbox", "rename", "-u", "dst", lists, "Old") }, elsewhere: 1},
		{name: "folder renamed, a message removed", do: func(r *rig) {
			r.server.Doveadm("mailbox", "rename", "-u", "dst", lists, "Old")
			r.server.Doveadm("expunge", "-u", "dst", "mailbox", "Old", "all")
		}, want: "- go nuts"},
		{name: "numbered anew", do: func(r *rig) {
			r.server.Doveadm("mailbox", "rename", "-u", "dst", lists, "Old")
			r.server.Doveadm("mailbox", "create", "-u", "dst", lists)
			r.server.Doveadm("copy", "-u", "dst", lists, "mailbox", "Old", "all")
			r.server.Doveadm("mailbox", "delete", "-u", "dst", "Old")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			nuts := &rules.Cond{Test: &rules.Test{Key: "subject", Patterns: []rules.Pattern{{Kind: rules.Is, Text: "go nuts"}}}}
			set, err := rules.Compile([]rules.Rule{{Name: "nuts", If: nuts, Then: rules.Then{Folders: []string{lists}}}})
			if err != nil {
				t.Fatal(err)
			}
			r.job.Rules = set
			r.server.Put("src", "INBOX", mail...)
			r.pass()
			if test.do != nil {
				test.do(r)
			}
			want := map[string]string{"state": test.want, "deep": test.want, "stateless": test.want, "stateless deep": test.want}
			if test.deep != "" {
				want["deep"], want["stateless deep"] = test.deep, test.deep
			}
			for how, want := range want {
				p := r.verify(fetcher.VerifyOptions{Deep: strings.Contains(how, "deep")}, strings.Contains(how, "stateless"))
				if got := doubts(p); got != want {
					t.Errorf("%s: %q, want %q\n%+v", how, got, want, p)
				}
				h := home(t, p)
				elsewhere := 0
				for _, n := range h.Elsewhere {
					elsewhere += n
				}
				if found := h.ByUID + h.ByMessageID + h.ByContent; h.Wanted != len(mail) || found != len(mail)-len(p.Doubts) || elsewhere != test.elsewhere {
					t.Errorf("%s: %+v, %d elsewhere", how, h, elsewhere)
				}
			}
		})
	}
}

// uid returns the UID of the first message of a subject.
func (r *rig) uid(subject string) uint32 {
	for _, m := range r.server.Messages("dst", "INBOX") {
		if bytes.Contains(m.Raw, []byte("Subject: "+subject+"\r\n")) {
			return m.UID
		}
	}
	r.t.Fatalf("no message %q", subject)
	return 0
}

// alter changes octets of stored messages on the server's disk.
func (r *rig) alter(old, replacement string) {
	r.t.Helper()
	n := 0
	for _, dir := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(r.server.Maildir("dst"), dir, "*"))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				r.t.Fatal(err)
			}
			if bytes.Contains(raw, []byte(old)) {
				n++
				if err := os.WriteFile(file, bytes.ReplaceAll(raw, []byte(old), []byte(replacement)), 0o600); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	}
	if n != 1 {
		r.t.Fatalf("%d files have %q", n, old)
	}
}
