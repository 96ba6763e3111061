package imap_test

import (
	"strings"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestFind_late: the server stores what it received only after the connection
// is gone. Find waits long enough.
func TestFind_late(t *testing.T) {
	late := make(chan struct{})
	s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{Late: late})})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.Settle = 300 * time.Millisecond }))
	m, err := tg.Mark(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	raw := targetstest.Text(1)
	if _, err := append1(t, tg, raw, ""); targets.FaultOf(err) != targets.Unsure {
		t.Fatalf("got %v, want unsure", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { close(late) })
	found, err := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(raw)}, nil)
	if err != nil || !found[0].OK {
		t.Errorf("Find: %v, %v", found, err)
	}
}

// TestFind_renewed: after a change of UIDVALIDITY the whole folder is looked
// through.
func TestFind_renewed(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	for i := range 5 {
		if _, err := append1(t, tg, targetstest.Text(i), ""); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := tg.Mark(t.Context(), "")
	s.Renew("INBOX")
	found, err := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(targetstest.Text(2))}, nil)
	if err != nil || !found[0].OK || found[0].UID != 3 || found[0].UIDValidity == m.UIDValidity {
		t.Errorf("Find: %v, %v", found, err)
	}
}

// TestFind_rewritten: the server adds a header and encodes the body anew.
func TestFind_rewritten(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	raw := targetstest.Text(1)
	for _, c := range []struct {
		stored string
		ok     bool
	}{
		{"X-Virus: none\r\n" + raw + "footer\r\n", true},
		{strings.Replace(raw, "number 1", "number 2", 1), false},
		{raw + strings.Repeat("more\r\n", 5000), false},
	} {
		m, _ := tg.Mark(t.Context(), "")
		uid := s.Put("INBOX", targetstest.Stored{Body: []byte(c.stored)})
		found, err := tg.Find(t.Context(), "", targets.Mark{UIDValidity: m.UIDValidity, UIDNext: uid}, []targets.Wanted{targetstest.WantedOf(raw)}, nil)
		if err != nil || found[0].OK != c.ok || found[0].Exact {
			t.Errorf("%.40q: %v, %v", c.stored, found, err)
		}
	}
}
