package imap_test

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestMark_afterLoss: whoever learns that a connection was lost and asks for a
// mark at once gets one of the folder as it is now.
func TestMark_afterLoss(t *testing.T) {
	for _, change := range []func(*targetstest.IMAP){
		func(s *targetstest.IMAP) { s.Renew("INBOX") },
		func(s *targetstest.IMAP) { s.Delete("INBOX"); s.Put("INBOX", targetstest.Stored{Body: []byte("x")}) },
	} {
		for range 20 { // the pool may learn of the loss later than the caller
			var s *targetstest.IMAP
			s = start(t, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
				if c.Verb != "APPEND" {
					return targetstest.Action{}
				}
				change(s)
				return targetstest.Action{Cut: targetstest.CutBefore}
			}})
			tg := open(t, config(s.Port()))
			before, err := tg.Mark(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := append1(t, tg, targetstest.Text(1), ""); targets.FaultOf(err) != targets.Unsure {
				t.Fatalf("got %v, want unsure", err)
			}
			validity, _ := s.UIDNext("INBOX")
			if m, err := tg.Mark(t.Context(), ""); err != nil || m.UIDValidity != validity || m.UIDValidity == before.UIDValidity {
				t.Fatalf("mark %v, %v after %v, want UIDVALIDITY %d", m, err, before, validity)
			}
		}
	}
}

// TestMark_afterIdleLoss: the same when nobody was delivering.
func TestMark_afterIdleLoss(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	before, err := tg.Mark(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.Renew("INBOX")
	s.Drop()
	deadline := time.Now().Add(10 * time.Second)
	for { // until the target has heard of it
		m, err := tg.Mark(t.Context(), "")
		if err == nil && m.UIDValidity != before.UIDValidity {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("mark %v, %v, still that of before", m, err)
		}
		runtime.Gosched()
	}
}

// TestMark_tryCreate: a folder that was made anew has a mark of its own, and so
// has one that somebody else made anew.
func TestMark_tryCreate(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	before, err := tg.Mark(t.Context(), "Lists/go")
	if err != nil {
		t.Fatal(err)
	}
	s.Delete("Lists/go")
	r, err := append1(t, tg, targetstest.Text(1), "Lists/go")
	if err != nil || r.UID != 1 || r.UIDValidity == before.UIDValidity {
		t.Errorf("receipt %+v, %v", r, err)
	}
	if m, err := tg.Mark(t.Context(), "Lists/go"); err != nil || m.UIDValidity != r.UIDValidity || m.UIDNext != 2 {
		t.Errorf("mark %v, %v, want that of the new folder", m, err)
	}
}

// TestMark_allConnections: when somebody makes a folder anew, every connection
// that looked at the old one looks again; one that does not would get no UIDs
// any more.
func TestMark_allConnections(t *testing.T) {
	s := start(t, &targetstest.IMAP{Caps: "IMAP4rev1 UIDPLUS"})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.Connections = 2 }))
	round := func() (unknown int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range 100 {
			wg.Go(func() {
				r, err := append1(t, tg, targetstest.Text(i), "")
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if r.UID == 0 {
					unknown++
				}
			})
		}
		wg.Wait()
		return unknown
	}
	for i := 0; s.Count("") < 2; i++ { // a round may be over before the second is there
		if n := round(); n != 0 || i == 100 {
			t.Fatalf("%d without UID, %d connections; want 0, 2", n, s.Count(""))
		}
	}
	s.Renew("INBOX")
	if round() == 0 {
		t.Error("UIDs of a folder that was not looked at were believed")
	}
	for n := 1; round() != 0; n++ {
		if n == 100 { // a round may not use both
			t.Fatal("a connection goes on without UIDs")
		}
	}
}

// TestMark_wrongUIDNext: what EXAMINE says of UIDNEXT may be missing, then STATUS
// is asked; or it may be stuck, then a mark lies too early, and claimed copies
// are what keeps a search honest.
func TestMark_wrongUIDNext(t *testing.T) {
	for said, want := range map[string]uint32{"1": 1, "3": 3, "": 4, "x": 4, "0": 4, "4294967296": 4, "-1": 4} {
		s := start(t, &targetstest.IMAP{Next: func(uint32) string { return said }})
		for i := range 3 {
			s.Put("INBOX", targetstest.Stored{Body: []byte(targetstest.Text(i))})
		}
		tg := open(t, config(s.Port()))
		m, err := tg.Mark(t.Context(), "")
		if err != nil || m.UIDNext != want {
			t.Fatalf("UIDNEXT %q: mark %v, %v, want %d", said, m, err, want)
		}
		if n := s.Count("STATUS"); (n == 1) != (want == 4) {
			t.Errorf("UIDNEXT %q: %d times STATUS", said, n)
		}
		raw := targetstest.Text(1) // as the second, which is claimed
		r, err := append1(t, tg, raw, "")
		if err != nil || r.UID != 4 {
			t.Errorf("UIDNEXT %q: %+v, %v", said, r, err)
		}
		found, err := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(raw)}, func(uid uint32) bool { return uid <= 3 })
		if err != nil || found[0].UID != 4 {
			t.Errorf("UIDNEXT %q: found %v, %v, want UID 4", said, found, err)
		}
	}
}

// TestMark_lastUID: there is no UID after 4294967295, and no mark wraps to 0.
func TestMark_lastUID(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	s.SetUIDNext("INBOX", 1<<32-1)
	tg := open(t, config(s.Port()))
	m, err := tg.Mark(t.Context(), "")
	if err != nil || m.UIDNext != 1<<32-1 {
		t.Fatalf("mark %v, %v", m, err)
	}
	raw := targetstest.Text(1)
	if r, err := append1(t, tg, raw, ""); err != nil || r.UID != 1<<32-1 {
		t.Errorf("%+v, %v", r, err)
	}
	if after, err := tg.Mark(t.Context(), ""); err != nil || after != m {
		t.Errorf("mark %v, %v, want it to stay %v", after, err, m)
	}
	found, err := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(raw)}, nil)
	if err != nil || found[0].UID != 1<<32-1 {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestMark_notOpened: a folder that is there and cannot be opened is tried on
// other connections, and is nobody's fault.
func TestMark_notOpened(t *testing.T) {
	for _, c := range []struct {
		nth   int // EXAMINE that fails, 0 is all
		conns int
	}{{1, 2}, {0, 3}} {
		s := start(t, &targetstest.IMAP{Hook: on("EXAMINE", c.nth, targetstest.Action{Reply: "NO [SERVERBUG] oops"})})
		tg := open(t, config(s.Port()))
		_, err := tg.Mark(t.Context(), "")
		if (err != nil) != (c.nth == 0) || targets.FaultOf(err) != targets.Transient || s.Count("") != c.conns {
			t.Errorf("Mark: %v on %d connections, want %d", err, s.Count(""), c.conns)
		}
	}
}

// TestDeliver_serverBug: an APPEND that the server refuses without blaming the
// message is tried once more, on the folder as it is now.
func TestDeliver_serverBug(t *testing.T) {
	s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{Reply: "NO [SERVERBUG] oops"})})
	tg := open(t, config(s.Port()))
	if r, err := append1(t, tg, targetstest.Text(1), ""); err != nil || r.UID != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if e, a := s.Count("EXAMINE"), s.Count("APPEND"); a != 2 || e != 2 {
		t.Errorf("%d EXAMINEs, %d APPENDs, want two of each", e, a)
	}
}

// TestFolder_cannot: a name that the server cannot have sends its messages to
// the target's own folder.
func TestFolder_cannot(t *testing.T) {
	s := start(t, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		if c.Verb == "CREATE" && c.Folder == "~x" {
			return targetstest.Action{Reply: "NO [CANNOT] no such names"}
		}
		return targetstest.Action{}
	}})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.Folder = "Mail" }))
	m, err := tg.Mark(t.Context(), "~x")
	if err != nil || m.Folder != "Mail" {
		t.Errorf("mark %v, %v, want one of Mail", m, err)
	}
	if r, err := append1(t, tg, targetstest.Text(1), "~x"); err != nil || r.Folder != "Mail" || len(s.Messages("Mail")) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestHasFolder looks and makes nothing, by the name that Mark would use.
func TestHasFolder(t *testing.T) {
	s := start(t, &targetstest.IMAP{Delim: ".", Prefix: "INBOX."})
	tg := open(t, config(s.Port()))
	if _, err := tg.Mark(t.Context(), "Lists/example.com"); err != nil {
		t.Fatal(err)
	}
	made := s.Count("CREATE")
	looker := any(open(t, config(s.Port()))).(targets.Looker)
	for name, want := range map[string]bool{"Lists/example.com": true, "Lists/example_com": true, "inbox": true, "Lists/other": false} {
		for range 2 {
			if got, err := looker.HasFolder(t.Context(), name); got != want || err != nil {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
	if _, err := looker.HasFolder(t.Context(), "a//b"); targets.FaultOf(err) != targets.Refused {
		t.Errorf("a name that no server takes: %v", err)
	}
	if s.Count("CREATE") != made {
		t.Error("a folder was made")
	}
}
