package imap_test

import (
	"strings"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestConn_idle: a connection on which nothing is asked outlives the timeout.
func TestConn_idle(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.Timeout = 30 * time.Millisecond }))
	for range 2 {
		if _, err := append1(t, tg, targetstest.Text(1), ""); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(120 * time.Millisecond) // time itself is what is tested
		<-timer.C
	}
	if n := s.Count(""); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestConn_hostile: what a server may not send ends the connection, without
// taking memory or the process along.
func TestConn_hostile(t *testing.T) {
	for _, line := range []string{
		"* 1 FETCH (BODY[] {4294967295}",
		"* 1 FETCH (BODY[] {99999999999999999999}",
		"* LIST " + strings.Repeat("(", 1_000_000),
		"* XFOO " + strings.Repeat("x", 2<<20),
		"P999 OK what",
		"T999 OK what",
		"zzz OK what",
		"",
	} {
		s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{Untagged: []string{line}, Cut: targetstest.CutAfter})})
		_, err := append1(t, open(t, config(s.Port())), targetstest.Text(1), "")
		if targets.FaultOf(err) != targets.Unsure {
			t.Errorf("%.30q: %v, want unsure", line, err)
		}
		if err != nil && len(err.Error()) > 1200 {
			t.Errorf("%.30q: the error has %d octets", line, len(err.Error()))
		}
	}
	for _, line := range []string{
		"* XFOO unknown (to go-imap) {3}\r\nabc",
		"* 5 EXISTS", "* 2 EXPUNGE", "* OK [ALERT] \x1b]0;x\x07", "* OK ends like a literal {5}",
		"* OK [UIDNEXT x] broken", "* OK [", "* NO", "* 1 FETCH (UID 1)", "* SEARCH 1 2 3",
	} {
		s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{Untagged: []string{line}})})
		tg := open(t, config(s.Port()))
		for i := range 2 {
			if r, err := append1(t, tg, targetstest.Text(i), ""); err != nil || r.UID == 0 {
				t.Errorf("%q: %v, %v", line, r, err)
			}
		}
	}
}
