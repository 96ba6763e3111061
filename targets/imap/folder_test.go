package imap_test

import (
	"strings"
	"sync"
	"testing"

	"popferry/targets"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestDeliver_tryCreate: the folder vanishes between Mark and Deliver.
func TestDeliver_tryCreate(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	if _, err := tg.Mark(t.Context(), "Lists/go"); err != nil {
		t.Fatal(err)
	}
	s.Delete("Lists/go")
	if _, err := append1(t, tg, targetstest.Text(1), "Lists/go"); err != nil {
		t.Fatal(err)
	}
	if got := s.Messages("Lists/go"); len(got) != 1 {
		t.Errorf("%d messages, want 1", len(got))
	}
	if got := s.Subscribed(); len(got) != 1 || got[0] != "Lists/go" {
		t.Errorf("subscribed to %q", got)
	}
}

func TestDeliver_createFoldersOff(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.CreateFolders = false }))
	_, err := append1(t, tg, targetstest.Text(1), "Lists/go")
	if err == nil || targets.FaultOf(err) != targets.Transient || !strings.Contains(err.Error(), "NONEXISTENT") {
		t.Errorf("got %v, want transient, NONEXISTENT", err)
	}
	if s.Count("CREATE") != 0 {
		t.Error("it tried to make the folder")
	}
}

// TestFolder_names: "/" in a rule is the server's separator, whatever that is.
func TestFolder_names(t *testing.T) {
	for _, c := range []struct{ delim, prefix, name, want string }{
		{"/", "", "Lists/go", "Lists/go"},
		{".", "", "Lists/go", "Lists.go"},
		{".", "", "Lists/example.com", "Lists.example_com"},
		{".", "INBOX.", "Lists/go", "INBOX.Lists.go"},
		{".", "INBOX.", "inbox/Lists", "INBOX.Lists"},
		{".", "INBOX.", "inBox", "INBOX"},
		{"/", "", "Übung", "&ANw-bung"},
		{"/", "", "a&b", "a&-b"},
		{"/", "", "日本/\U0001f600", "&ZeVnLA-/&2D3eAA-"},
		{`\`, "", "a/b", `a\b`},
	} {
		s := start(t, &targetstest.IMAP{Delim: c.delim, Prefix: c.prefix})
		r, err := append1(t, open(t, config(s.Port())), targetstest.Text(1), c.name)
		if err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if got := s.Messages(c.want); len(got) != 1 {
			t.Errorf("%q went to %q of %q, want %q", c.name, r.Folder, s.Folders(), c.want)
		}
	}
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	for _, bad := range []string{"a//b", "/a", "a/", "a/../b", "./a", "a\x00b", "a\r\nb", "a\x1bb", "\xff", strings.Repeat("é", 2000)} {
		if _, err := append1(t, tg, targetstest.Text(1), bad); targets.FaultOf(err) != targets.Refused {
			t.Errorf("%.20q: %v, want refused", bad, err)
		}
	}
	if n := s.Count("CREATE"); n != 0 {
		t.Errorf("%d CREATEs of bad names", n)
	}
}

// TestFolder_dots: a server that takes no dots gets underscores, and the two
// names are one folder from then on.
func TestFolder_dots(t *testing.T) {
	s := start(t, &targetstest.IMAP{NoDots: true})
	tg := open(t, config(s.Port()))
	for i, name := range []string{"Lists/example.com", "Lists/example_com"} {
		m, err := tg.Mark(t.Context(), name)
		if err != nil || m.Folder != "Lists/example_com" {
			t.Fatalf("Mark %q: %v, %v", name, m, err)
		}
		r, err := append1(t, tg, targetstest.Text(i), name)
		if err != nil || r.Folder != "Lists/example_com" {
			t.Fatalf("Deliver to %q: %v, %v", name, r, err)
		}
	}
	if got := s.Messages("Lists/example_com"); len(got) != 2 {
		t.Errorf("%d messages, want 2", len(got))
	}
}

// TestMark_concurrent: 512 workers that ask for one folder cost one EXAMINE.
func TestMark_concurrent(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	var wg sync.WaitGroup
	for range 512 {
		wg.Go(func() {
			if m, err := tg.Mark(t.Context(), "Many"); err != nil || m.UIDNext != 1 || m.UIDValidity == 0 {
				t.Errorf("Mark: %v, %v", m, err)
			}
		})
	}
	wg.Wait()
	// One finds it missing, one finds it made.
	if e, c, n := s.Count("EXAMINE"), s.Count("CREATE"), s.Count(""); e != 2 || c != 1 || n != 1 {
		t.Errorf("%d EXAMINEs, %d CREATEs, %d connections, want 2, 1, 1", e, c, n)
	}
}

// TestMark_advances with confirmed UIDs, and starts anew with UIDVALIDITY.
func TestMark_advances(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	before, _ := tg.Mark(t.Context(), "")
	r, err := append1(t, tg, targetstest.Text(1), "")
	if err != nil {
		t.Fatal(err)
	}
	after, _ := tg.Mark(t.Context(), "")
	if before.UIDNext != 1 || after.UIDNext != r.UID+1 {
		t.Errorf("marks %v and %v around UID %d", before, after, r.UID)
	}
	s.Renew("INBOX")
	if r, err = append1(t, tg, targetstest.Text(2), ""); err != nil || r.UID != 0 {
		t.Fatalf("receipt %v, %v: the UID is of a folder that was not looked at", r, err)
	}
	renewed, _ := tg.Mark(t.Context(), "")
	if renewed.UIDValidity == before.UIDValidity || renewed.UIDNext != 3 {
		t.Errorf("mark %v after UIDVALIDITY changed from %d", renewed, before.UIDValidity)
	}
}
