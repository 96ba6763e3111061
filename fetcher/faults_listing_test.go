package fetcher

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
)

// A listing contradicts itself, or what it names is odd.
func TestFaults_listing(t *testing.T) {
	var hidden []maildroptest.Message
	irregular := []string{"ids that RFC 1939 does not allow", "ids of more than 512 octets"}
	play(t, []ordeal{
		{name: "41 STAT 5, LIST 4, UIDL 6", given: func(w *world) {
			w.account.Keep = Keep{For: 2 * day}
			w.fill(5)
			w.pop.Hook = func(session int, cmd string) maildroptest.Action {
				switch {
				case session != 1 && session != 3:
				case cmd == "LIST":
					return maildroptest.Action{Reply: "+OK\r\n1 41\r\n2 41\r\n3 41\r\n5 41\r\n.\r\n"}
				case cmd == "UIDL":
					return maildroptest.Action{Reply: "+OK\r\n1 u000\r\n2 u001\r\n3 u002\r\n4 u003\r\n5 u004\r\n6 u005\r\n.\r\n"}
				}
				return maildroptest.Action{}
			}
		}, passes: []then{
			{report: "4 new, 4 delivered, 5 left", warns: []string{"STAT says 5 messages, LIST has 4", "UIDL has 2 lines"}},
			{report: "1 new, 1 delivered, 5 left"},
			{first: later(3 * day), report: "5 left", warns: []string{"STAT says 5 messages, LIST has 4", "UIDL has 2 lines"}},
			{first: func(w *world) { w.onRecord(5) }, report: "5 deleted"},
		}},
		{name: "42 sizes", given: func(w *world) {
			for i, size := range []string{"1", "4294967297", "-1", "text", "99999999999999999999"} {
				raw := fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i)
				w.pop.AddMessage("jane", maildroptest.Message{UIDL: fmt.Sprint(i), Size: size, Body: []byte(raw)})
				w.source[canonOf([]byte(raw))]++
			}
		}, passes: []then{{report: "5 new, 5 delivered, 5 deleted", warns: []string{"LIST gives 3 sizes that are no sizes"}}}},
		{name: "49 UIDLs as no RFC allows", given: func(w *world) {
			w.account.Keep = Keep{Forever: true}
			for i, uidl := range []string{
				strings.Repeat("a", 71), strings.Repeat("x", 5000) + "1", strings.Repeat("x", 5000) + "2",
				"with a blank", "\xff\xfe\x80", "nul\x00inside", "../x", "/etc/passwd", "#", ".", "..",
			} {
				w.add(uidl, fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i))
			}
		}, passes: []then{
			{report: "11 new, 11 delivered, 11 left", warns: irregular},
			{first: func(w *world) { w.onRecord(11) }, report: "11 left", warns: irregular},
		}},
		{name: "49 empty UIDLs", given: func(w *world) {
			w.account.Keep = Keep{Forever: true}
			w.fill(3)
			w.add("", "Subject: a\r\n\r\na\r\n")
			w.add("", "Subject: b\r\n\r\nb\r\n")
		}, passes: []then{
			{report: "5 new, 5 delivered, 5 left", warns: []string{"2 messages no id"}},
			{report: "5 left", warns: []string{"2 messages no id"}},
		}},
		{name: "49 empty UIDLs, no TOP", given: func(w *world) {
			w.account.Keep = Keep{Forever: true}
			w.pop.Caps = []string{"UIDL", "USER"}
			w.fill(3)
			w.pop.Add("jane", "", []byte("Subject: a\r\n\r\na\r\n"))
		}, passes: []then{
			{report: "3 new, 3 delivered, 4 left", warns: []string{"1 messages have no UIDL and the server has no TOP", "1 messages no id"}},
		}},
		{name: "50 partial listings", given: func(w *world) {
			w.account.Keep = Keep{For: 100 * day}
			w.fill(500)
		}, passes: []then{
			{report: "500 new, 500 delivered, 500 left"},
			{first: func(w *world) { hidden = w.pop.Messages("jane"); w.pop.SetMessages("jane", nil) }, report: "", warns: []string{"lists 0 messages where 500 are remembered"}},
			{first: func(w *world) {
				w.pop.SetMessages("jane", hidden[450:])
				w.add("new", "Subject: new\r\n\r\nx\r\n")
				w.now = w.now.Add(2 * day)
			}, report: "1 new, 1 delivered, 51 left", warns: []string{"lists 51 messages where 500 are remembered"}},
			{first: func(w *world) { w.onRecord(501); w.pop.SetMessages("jane", hidden) }, report: "500 left"},
		}},
	})
}

// A UIDL is missing, or means another message than it did.
func TestFaults_uidl(t *testing.T) {
	replaced := func(raw string) func(*world) {
		return func(w *world) {
			w.pop.Remove("jane", "u002")
			w.add("u002", raw)
			w.now = w.now.Add(2 * day)
		}
	}
	const (
		sameSize = "Message-ID: <A@x>\r\nSubject: B\r\n\r\nbody C\r\n"
		other    = "Subject: the UIDL is old and the mail is new\r\n\r\nx\r\n"
		first    = "9 new, 9 delivered, 9 left"
	)
	kept := func(k Keep, caps ...string) func(*world) {
		return func(w *world) {
			w.account.Keep, w.pop.Caps = k, caps
			w.fill(9)
		}
	}
	delivered := []string{"have the UIDLs of earlier ones but are others"}
	verified := []string{"1 messages are not what was delivered under their UIDLs; they are not deleted but fetched"}
	play(t, []ordeal{
		{name: "43 no UIDL", given: kept(Keep{For: day}, noUIDL...), passes: []then{
			{report: first, warns: []string{"UIDL"}},
			{first: func(w *world) { w.add("", other) }, report: "1 new, 1 delivered, 10 left", warns: []string{"UIDL"}},
			{first: later(day), report: "10 deleted", warns: []string{"UIDL"}},
		}},
		{name: "44 no TOP", given: kept(Keep{For: day}, "UIDL", "USER", "PIPELINING"), passes: []then{
			{report: first},
			{first: later(day), report: "9 deleted", warns: []string{"no TOP, so 9 messages are read once more"}},
		}},
		{name: "45 duplicate UIDLs", given: func(w *world) {
			w.account.Keep = Keep{For: day}
			w.fill(2)
			w.add("u001", other)
		}, passes: []then{
			{report: "3 new, 3 delivered, 3 left"},
			{first: later(day), report: "1 deleted, 2 left"},
		}},
		{name: "45 duplicate UIDLs, all fetched now", given: func(w *world) {
			w.fill(2)
			w.add("u001", other)
		}, passes: []then{{report: "3 new, 3 delivered, 3 deleted"}}},
		{name: "46 new UIDLs for old mail", given: func(w *world) {
			w.account.Keep = Keep{For: day}
			w.fill(40)
		}, passes: []then{
			{report: "40 new, 40 delivered, 40 left"},
			{first: func(w *world) {
				w.rename(func(i int, _ string) string { return fmt.Sprintf("r%d", i) })
				w.now = w.now.Add(day)
			}, report: "40 left", warns: []string{"40 of its 40 messages are recognised"}},
			{report: "40 deleted"},
		}},
		{name: "47 an old UIDL for new mail, keep", given: kept(Keep{Forever: true}), passes: []then{
			{report: first},
			{first: replaced(other), report: "1 new, 1 delivered, 9 left", warns: delivered},
		}},
		{name: "47 and its size, keep for a day", given: kept(Keep{For: day}), passes: []then{
			{report: first},
			{first: replaced(sameSize), report: "1 new, 1 delivered, 8 deleted, 1 left, 2 sessions", warns: verified},
		}},
		{name: "47 and its size, no TOP", given: kept(Keep{For: day}, "UIDL", "USER"), passes: []then{
			{report: first},
			{first: replaced(sameSize), report: "1 new, 1 delivered, 8 deleted, 1 left, 2 sessions", warns: append([]string{"no TOP"}, verified...)},
		}},
		{name: "47 only its header changed", given: func(w *world) {
			kept(Keep{For: day})(w)
			w.pop.Hook = says("TOP 3 0", "+OK\r\nMessage-ID: <2@x>\r\nSubject: ***SPAM*** 2\r\n\r\n.\r\n")
		}, passes: []then{
			{report: first},
			{first: later(day), report: "9 deleted"},
		}},
		{name: "48 an old UIDL for new mail, delete", given: unquit, passes: []then{
			{report: first, warns: []string{"not confirmed"}},
			{first: replaced(other), report: "1 new, 1 delivered, 9 deleted", warns: delivered},
		}},
		{name: "48 and its size, delete", given: unquit, passes: []then{
			{report: first, warns: []string{"not confirmed"}},
			{first: replaced(sameSize), report: "1 new, 1 delivered, 9 deleted, 2 sessions", warns: verified},
		}},
		{name: "51 RETR returns another message, once", given: func(w *world) {
			w.add("long", other)
			w.fill(30)
			w.pop.Hook = on("RETR 28", maildroptest.Action{Reply: "+OK\r\n" + other + ".\r\n"}, 1)
		}, passes: []then{{report: "31 new, 31 delivered, 31 deleted, 2 sessions"}}},
		{name: "51 RETR returns another message, always", given: func(w *world) {
			w.add("long", other)
			w.fill(30)
			w.pop.Hook = w.retr("u026", maildroptest.Action{Reply: "+OK\r\n" + other + ".\r\n"})
			w.source[canonOf([]byte(other))]++ // it comes a second time; that does no harm
		}, passes: []then{
			{report: "31 new, 31 delivered, 30 deleted, 1 left, 2 sessions", warns: []string{"delivered, but never deleted"}},
			{first: later(1000 * time.Hour), report: "1 left"},
		}, stay: []string{"u026"}},
	})
}

// unquit is nine messages that are not deleted although the first pass wants it.
func unquit(w *world) {
	nine(on("QUIT", maildroptest.Action{Reply: "-ERR no\r\n", NoCommit: true}, 1))(w)
}
