package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/daemon"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
)

func TestMatch(t *testing.T) {
	var all []*state.Message
	for i, u := range []string{"0001", "0001a7f2", "0001a7f2", "0002\x00b", "0002\x00c", "~x", "'; rm"} {
		all = append(all, &state.Message{ID: int64(i), UIDL: u})
	}
	for _, x := range []struct {
		uidl string
		want string // UIDLs found, or part of the error
	}{
		{"0001", "0001"},                      // whole, though others begin so
		{"0001a", "0001a7f2 0001a7f2"},        // one UIDL that two messages have
		{"0001a7…", "0001a7f2 0001a7f2"},      // as a table shows it
		{`0002\x00b`, "0002\x00b"},            // likewise
		{"0002", `2 UIDLs begin with "0002"`}, // not clear
		{"000", `5 UIDLs begin with "000"`},
		{"~", "~x"},
		{"", "no message"},
		{"…", "no message"},
		{"1", "no message"},
	} {
		got, err := match(all, x.uidl)
		text := ""
		for _, m := range got {
			text = strings.TrimSpace(text + " " + m.UIDL)
		}
		if err != nil {
			text = err.Error()
		}
		if text != x.want {
			t.Errorf("%q: %q, want %q", x.uidl, text, x.want)
		}
	}
	if got, err := pick(all, []string{"~x", "0001a", "~"}, "message", "isp"); err != nil || len(got) != 3 {
		t.Errorf("pick = %d messages, %v", len(got), err)
	}
}

func TestShellWord(t *testing.T) {
	for uidl, want := range map[string]string{
		"0001a7f2": "0001a7f2", "a/b-c_d.e": "a/b-c_d.e", "-x": "-- '-x'", "it's $(x)": `'it'\''s $(x)'`, "a\x00b": `'a\x00b'`, "ü": "'ü'",
	} {
		if got := daemon.ShellWord(uidl); got != want {
			t.Errorf("%q: %s, want %s", uidl, got, want)
		}
	}
}

// Of messages with one UIDL the n-th entry has the n-th row, also if some are
// new and some are settled.
func TestMarks_compare(t *testing.T) {
	row := func(id int64, uidl string, gen int, s state.Status) *state.Message {
		return &state.Message{ID: id, UIDL: uidl, Gen: gen, Status: s}
	}
	k := &marks{note: "mark-seen", known: &state.Known{Messages: []*state.Message{
		row(1, "a", 0, state.StatusSafe), row(2, "dup", 0, state.StatusNew), row(3, "dup", 1, state.StatusMarked),
		row(4, "held", 0, state.StatusHeld), row(5, "routed", 0, state.StatusRouted), row(6, "absent", 0, state.StatusNew),
	}}}
	entries := []maildrop.Entry{{UIDL: "dup"}, {UIDL: "a"}, {UIDL: "dup"}, {UIDL: "held"}, {UIDL: "dup", Size: 7}, {UIDL: "dup"}, {UIDL: "routed"}, {UIDL: "new"}}
	k.compare(entries)
	if d := cmp.Diff([]int64{2, 5}, idsOf(k.old)); d != "" {
		t.Errorf("to mark (-want +got):\n%s", d)
	}
	want := []*state.Message{row(0, "dup", 2, state.StatusMarked), row(0, "dup", 3, state.StatusMarked), row(0, "new", 0, state.StatusMarked)}
	want[0].Size = 7
	for _, m := range want {
		m.Note = "mark-seen"
	}
	if d := cmp.Diff(want, k.fresh); d != "" {
		t.Errorf("to make (-want +got):\n%s", d)
	}
	if k.before != 3 || k.listed != 8 {
		t.Errorf("before %d, listed %d", k.before, k.listed)
	}
}
