package fetcher

import (
	"bytes"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/maildir"
	"popferry/targets/targetstest"
)

// TestVerify_fanout: every target that should have a message is looked through, a
// Maildir like a mailbox.
func TestVerify_fanout(t *testing.T) {
	w := newWorld(t)
	w.fill(5)
	w.start()
	dir := t.TempDir()
	md, err := maildir.Config{Path: dir}.Open("disk", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer md.Close()
	w.more = map[string]targets.Target{"disk": md}
	w.job.Targets = []string{"home", "disk"}
	w.mustPass()
	whole := "5; disk 5: uid 5, id 0, content 0; home 5: uid 5, id 0, content 0"
	w.tells(VerifyOptions{}, whole)
	w.tells(VerifyOptions{Deep: true}, whole)
	files, _ := filepath.Glob(filepath.Join(dir, "new", "*"))
	change := func(text string, do func(file string, raw []byte) error) {
		t.Helper()
		for _, file := range files {
			if raw, err := os.ReadFile(file); err == nil && bytes.Contains(raw, []byte(text)) {
				if err := do(file, raw); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	w.target.remove("INBOX", "body 1")
	change("body 2", func(file string, _ []byte) error { return os.Remove(file) })
	change("body 3", func(file string, raw []byte) error { return os.WriteFile(file, raw[:len(raw)-5], 0o600) })
	change("body 4", func(file string, raw []byte) error {
		return os.WriteFile(file, bytes.Replace(raw, []byte("body 4"), []byte("BODY 4"), 1), 0o600)
	})
	bad := "; - u001 home:INBOX (); - u002 disk:INBOX (); * u003 disk:INBOX (37 octets there, 41 here)"
	w.tells(VerifyOptions{}, "5; disk 5: uid 3, id 0, content 0; home 5: uid 4, id 0, content 0"+bad)
	w.tells(VerifyOptions{Deep: true}, "5; disk 5: uid 2, id 0, content 0; home 5: uid 4, id 0, content 0"+bad+"; * u004 disk:INBOX (the contents differ)")
}

// TestVerify_relay: nobody can look into a relay; what it took is what the state
// says, and what it has refused to a recipient is missing there.
func TestVerify_relay(t *testing.T) {
	var refuses atomic.Bool
	refuse := john("RCPT", "550 5.1.1 who?")
	w := newRelayWorld(t, 3, &targetstest.SMTP{LMTP: true, Hook: func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
		if refuses.Load() {
			act = refuse(c)
		}
		return act
	}})
	verify := func(want string) {
		t.Helper()
		f := w.fetcher(nil)
		if st, err := state.View(t.Context(), w.db); err == nil {
			defer st.Close()
			f.State = st
		}
		p, err := f.Verify(t.Context(), w.job, w.account, VerifyOptions{Deep: true})
		if err != nil || told(p) != want {
			t.Errorf("%s, %v\nwant %s", told(p), err, want)
		}
	}
	verify("3; home 3: uid 0, id 0, content 0, took 0") // nothing is known, so nothing can be told
	if _, err := w.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	verify("3; home 3: uid 0, id 0, content 0, took 3")
	w.add("new", "Message-ID: <new@x>\r\n\r\nnew\r\n")
	verify("4; home 3: uid 0, id 0, content 0, took 3; 1 waiting")
	refuses.Store(true)
	if _, err := w.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	verify("4; home 4: uid 0, id 0, content 0, took 3; - new home: (john@home.example: RCPT TO:<john@home.example>: 550 5.1.1 who?)")
}
