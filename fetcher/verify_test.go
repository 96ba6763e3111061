package fetcher

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// remove takes the copies with a text away.
func (s *store) remove(folder, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.folders[folder] = slices.DeleteFunc(s.folders[folder], func(c copied) bool { return bytes.Contains(c.raw, []byte(text)) })
}

// verify runs beside whoever has the state; it sees none if there is none.
func (w *world) verify(o VerifyOptions) (Proof, error) {
	w.t.Helper()
	f := w.fetcher(nil)
	st, err := state.View(w.t.Context(), w.db)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	if err == nil {
		defer st.Close()
		f.State = st
	}
	return f.Verify(w.t.Context(), w.job, w.account, o)
}

func (w *world) mustVerify(o VerifyOptions) Proof {
	w.t.Helper()
	p, err := w.verify(o)
	if err != nil {
		w.t.Fatalf("verify: %v", err)
	}
	return p
}

// told is a Proof in few words.
func told(p Proof) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", p.Messages)
	for _, t := range p.Targets {
		fmt.Fprintf(&b, "; %s %d: uid %d, id %d, content %d", t.Target, t.Wanted, t.ByUID, t.ByMessageID, t.ByContent)
		if t.Relay {
			fmt.Fprintf(&b, ", took %d", t.Taken)
		}
	}
	for _, c := range []struct {
		n    int
		what string
	}{{p.Dropped, "dropped"}, {p.Skipped, "skipped"}, {p.Marked, "marked"}, {p.Waiting, "waiting"}} {
		if c.n > 0 {
			fmt.Fprintf(&b, "; %d %s", c.n, c.what)
		}
	}
	for _, d := range p.Doubts {
		fmt.Fprintf(&b, "; %c %s %s:%s (%s)", d.Kind, d.UIDL, d.Target, d.Folder, d.Reason)
		if d.Held != strings.HasPrefix(d.Reason, "held") {
			fmt.Fprintf(&b, " held is %v", d.Held)
		}
	}
	return b.String()
}

func (w *world) tells(o VerifyOptions, want string) {
	w.t.Helper()
	if got := told(w.mustVerify(o)); got != want {
		w.t.Errorf("%+v: %s\nwant %s", o, got, want)
	}
}

// hooked returns what changes the maildrop's hook while it runs. It is called
// before start.
func (w *world) hooked() (set func(func(session int, cmd string) maildroptest.Action)) {
	var hook atomic.Pointer[func(int, string) maildroptest.Action]
	w.pop.Hook = func(session int, cmd string) maildroptest.Action {
		if f := hook.Load(); f != nil {
			return (*f)(session, cmd)
		}
		return maildroptest.Action{}
	}
	return func(f func(int, string) maildroptest.Action) { hook.Store(&f) }
}

// put changes the state by hand.
func (w *world) put(ch ...state.Change) {
	w.t.Helper()
	st, err := state.Open(w.t.Context(), w.db, state.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.Close()
	if err := st.Put(w.t.Context(), ch...); err != nil {
		w.t.Fatal(err)
	}
}

// TestVerify_whatNeedNotBeThere: what was dropped, skipped, marked, or has come
// since is not missing; what is held is, and what failed.
func TestVerify_whatNeedNotBeThere(t *testing.T) {
	w := newWorld(t)
	set, err := rules.Compile([]rules.Rule{
		{Name: "spam", If: subject("spam"), Then: rules.Then{Drop: true}},
		{Name: "later", If: subject("later"), Then: rules.Then{Skip: true}},
		{Name: "body", If: &rules.Cond{Test: &rules.Test{Key: "body", Patterns: []rules.Pattern{{Kind: rules.Contains, Text: "invoice"}}}}, Then: rules.Then{Folders: []string{"Bills"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.job.Rules = set
	w.account.Limits.MaxSize = 5000
	mail := func(id, subject, body string) {
		w.add(id, "Message-ID: <"+id+"@x>\r\nSubject: "+subject+"\r\n\r\n"+body+"\r\n")
	}
	mail("a", "plain", "text")
	mail("b", "spam", "text")
	mail("c", "later", "text")
	mail("d", "bill", "the invoice is below")
	mail("e", "large", strings.Repeat("0123456789\r\n", 1000))
	mail("f", "refused", "poison")
	w.start()
	w.tells(VerifyOptions{}, "6; home 3: uid 0, id 0, content 0; 1 dropped; 2 skipped; - a home: (); - d home:Bills (); - f home: ()")
	w.target.fault = func(m *targets.Message, _ targets.Dest) (error, bool) {
		if m.MessageID == "<f@x>" {
			return &targets.Error{Fault: targets.Refused, Op: "APPEND", Reply: "NO poison"}, false
		}
		return nil, false
	}
	if _, err := w.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.tells(VerifyOptions{}, "6; home 3: uid 2, id 0, content 0; 1 dropped; 2 skipped; - f home:INBOX (APPEND: NO poison)")
	for range 2 {
		w.now = w.now.Add(time.Hour)
		if _, err := w.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mail("g", "new", "came since")
	w.tells(VerifyOptions{Deep: true}, "7; home 3: uid 2, id 0, content 0; 1 dropped; 2 skipped; 1 waiting; - f home:INBOX (held: APPEND: NO poison)")
	w.put(state.Marked{Messages: []int64{6}, Note: "by hand"})
	if _, err := w.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	mail("h", "new", "came since")
	mail("i", "spam", "came since")
	w.tells(VerifyOptions{}, "9; home 3: uid 3, id 0, content 0; 2 dropped; 2 skipped; 1 marked; 1 waiting")
	w.account.Limits.MaxSize = 0
	os.Remove(w.db)
	w.db = filepath.Join(t.TempDir(), "none.db")
	w.tells(VerifyOptions{}, "9; home 6: uid 0, id 3, content 0; 2 dropped; 1 skipped; - e home:INBOX (); - f home:INBOX (); - h home:INBOX ()")
}

// TestVerify_source: the maildrop is read by TOP where it can be, over a new
// connection where one is lost, and what it does not show is unreadable.
func TestVerify_source(t *testing.T) {
	const n = 12
	withoutTOP := slices.DeleteFunc(slices.Clone(maildroptest.DefaultCaps), func(c string) bool { return c == "TOP" })
	for _, test := range []struct {
		name  string
		caps  []string
		hook  func(session int, cmd string) maildroptest.Action
		deep  bool
		want  string
		retrs bool
	}{
		{name: "headers", want: "12; home 12: uid 0, id 12, content 0"},
		{name: "contents", deep: true, want: "12; home 12: uid 0, id 12, content 0"},
		{name: "no TOP", caps: withoutTOP, want: "12; home 12: uid 0, id 12, content 0", retrs: true},
		{name: "cut", deep: true, want: "12; home 12: uid 0, id 12, content 0", hook: func(session int, cmd string) (act maildroptest.Action) {
			if session == 1 && cmd == "TOP 7 0" || session == 2 && cmd == "TOP 5 1073741824" {
				act.Cut, act.At = maildroptest.FIN, 20
			}
			return act
		}},
		{name: "cut again and again", want: "", hook: func(_ int, cmd string) (act maildroptest.Action) {
			if cmd == "TOP 7 0" {
				act.Cut, act.At = maildroptest.FIN, 20
			}
			return act
		}},
		{name: "refused", want: "12; home 12: uid 0, id 11, content 0; ! u006 home:INBOX (TOP 7 0: -ERR no such message)", hook: func(_ int, cmd string) (act maildroptest.Action) {
			if cmd == "TOP 7 0" {
				act.Reply = "-ERR no such message\r\n"
			}
			return act
		}},
		{name: "body refused", deep: true, want: "12; home 12: uid 0, id 11, content 0; ! u006 home:INBOX (TOP 7 1073741824: -ERR broken)", hook: func(_ int, cmd string) (act maildroptest.Action) {
			if cmd == "TOP 7 1073741824" {
				act.Reply = "-ERR broken\r\n"
			}
			return act
		}},
		{name: "TOP cuts", deep: true, want: "12; home 12: uid 0, id 12, content 0", retrs: true, hook: func(_ int, cmd string) (act maildroptest.Action) {
			if cmd == "TOP 7 1073741824" {
				act.Reply = "+OK\r\nMessage-ID: <6@x>\r\n\r\n.\r\n"
			}
			return act
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.fill(n)
			w.pop.Caps = test.caps
			hook := w.hooked()
			w.start()
			w.mustPass()
			w.db = filepath.Join(t.TempDir(), "none.db")
			retrs := w.saw("RETR")
			first := w.pop.Sessions()
			if test.hook != nil {
				hook(func(session int, cmd string) maildroptest.Action { return test.hook(session-first, cmd) })
			}
			p, err := w.verify(VerifyOptions{Deep: test.deep})
			if (err != nil) != (test.want == "") || err == nil && told(p) != test.want {
				t.Errorf("%s, %v\nwant %s", told(p), err, test.want)
			}
			if got := w.saw("RETR") > retrs; got != test.retrs {
				t.Errorf("RETR was sent: %v", got)
			}
			if w.saw("DELE") > 0 || w.left() != n {
				t.Error("messages were deleted")
			}
		})
	}
}

// TestVerify_twins: the copy of what was deleted from the maildrop is not that of
// an identical message.
func TestVerify_twins(t *testing.T) {
	w := newWorld(t)
	twin := "Subject: twin\r\n\r\nthe same, without an id\r\n"
	w.start()
	w.add("a", twin)
	w.mustPass()
	w.add("b", twin) // in a pass of its own: which of two comes first is chance
	w.mustPass()
	w.tells(VerifyOptions{}, "2; home 2: uid 2, id 0, content 0")
	w.pop.Remove("jane", "a")
	w.now = w.now.Add(time.Hour)
	w.mustPass()
	w.now = w.now.Add(48 * time.Hour)
	w.mustPass() // a counts as gone
	w.now = w.now.Add(time.Hour)
	w.tells(VerifyOptions{}, "1; home 1: uid 1, id 0, content 0")
	w.target.folders["INBOX"] = w.target.folders["INBOX"][:1] // a's
	w.tells(VerifyOptions{}, "1; home 1: uid 0, id 0, content 0; - b home:INBOX ()")
	w.db = filepath.Join(t.TempDir(), "none.db")
	w.tells(VerifyOptions{}, "1; home 1: uid 0, id 0, content 1")
}

// TestVerify_live: what a pass of another process delivers and deletes while this
// runs is neither missing nor unreadable.
func TestVerify_live(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	hook := w.hooked()
	w.start()
	w.mustPass()
	deleted := false
	hook(func(_ int, cmd string) (act maildroptest.Action) {
		if cmd != "UIDL" || deleted {
			return act
		}
		deleted = true // while the listing is on its way
		w.put(state.DelSent{Messages: []int64{2}, At: w.now}, state.Gone{Messages: []int64{2}, At: w.now})
		w.put(state.DelSent{Messages: []int64{3}, At: w.now}) // but QUIT was not confirmed
		return act
	})
	w.tells(VerifyOptions{}, "3; home 3: uid 3, id 0, content 0")
	w.add("new", "Subject: new\r\n\r\nwithout an id\r\n")
	hook(func(_ int, cmd string) (act maildroptest.Action) {
		if cmd == "TOP 4 0" {
			w.pop.Remove("jane", "new")
			act.Reply = "-ERR message 4 was expunged\r\n"
		}
		return act
	})
	w.now = w.now.Add(time.Hour)
	w.tells(VerifyOptions{}, "3; home 2: uid 2, id 0, content 0; 1 waiting") // u001 is listed again, and nobody knows it
}

// TestVerify_target: what a target cannot show is unreadable, what is elsewhere is
// told, and an error of a target says whose it is.
func TestVerify_target(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	w.add("x", "Message-ID: <x@x>\r\n\r\nthis is unreadable\r\n")
	w.start()
	w.mustPass()
	w.tells(VerifyOptions{}, "4; home 4: uid 4, id 0, content 0")
	w.tells(VerifyOptions{Deep: true}, "4; home 4: uid 3, id 0, content 0; ! x home:INBOX (the copy cannot be read)")
	w.target.folders["Else"] = w.target.folders["INBOX"]
	w.target.folders["INBOX"] = nil
	p := w.mustVerify(VerifyOptions{})
	if told(p) != "4; home 4: uid 0, id 4, content 0" || p.Targets[0].Elsewhere["Else"] != 4 {
		t.Errorf("%s %v", told(p), p.Targets)
	}
	w.target.unlisted = func(int) error { return &targets.Error{Fault: targets.Down, Op: "EXAMINE", Reply: "NO [UNAVAILABLE]"} }
	_, err := w.verify(VerifyOptions{})
	if te, ok := errors.AsType[*TargetError](err); !ok || te.Target != "home" || targets.FaultOf(err) != targets.Down {
		t.Errorf("%v", err)
	}
	w.target.unlisted = nil
	w.job.Targets = []string{"other"}
	w.more = map[string]targets.Target{"other": newStore()}
	if p := w.mustVerify(VerifyOptions{}); told(p) != "4; home 4: uid 0, id 4, content 0" {
		t.Errorf("what was delivered before another target was configured: %s", told(p))
	}
}

// TestVerify_renamed: after the server gave all messages new UIDLs, what is gone
// from the target is not taken for new mail.
func TestVerify_renamed(t *testing.T) {
	w := newWorld(t)
	w.fill(12)
	w.start()
	w.mustPass()
	w.mustPass()
	for i := range 12 {
		w.pop.Remove("jane", fmt.Sprintf("u%03d", i))
		w.add(fmt.Sprintf("n%03d", i), fmt.Sprintf("Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nbody %d\r\n", i, i, i))
	}
	w.target.remove("INBOX", "body 5")
	w.tells(VerifyOptions{}, "12; home 12: uid 0, id 11, content 0; - n005 home:INBOX ()")
}
