package fetcher

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// mailbox is a world whose target is an IMAP server. Every pass logs in anew, as
// a process of its own would.
type mailbox struct {
	*world
	imap *targetstest.IMAP
}

// onto starts the world with s as its target.
func (w *world) onto(s *targetstest.IMAP) *mailbox {
	w.t.Helper()
	w.start()
	if err := s.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return &mailbox{w, s}
}

func (b *mailbox) pass(ctx context.Context) (Report, error) {
	b.t.Helper()
	c := imap.Config{
		Server: endpoint.Server{
			Host: "127.0.0.1", Port: b.imap.Port(), TLS: endpoint.Plain, Auth: "auto", Timeout: b.account.Maildrop.Timeout,
			User: targetstest.User, Password: endpoint.SecretValue(targetstest.Password),
		},
		CreateFolders: true, Subscribe: true, Settle: -1, SettleLarge: -1,
	}
	home, err := c.Open("home", slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	defer home.Close()
	st := b.open()
	defer st.Close()
	f := b.fetcher(st)
	f.Targets = map[string]targets.Target{"home": home}
	return f.Pass(ctx, b.job, b.account)
}

func (b *mailbox) expect(name string, p then) {
	b.t.Helper()
	b.judge(name, p, b.pass)
}

// arrived demands that the server has every message once, except the one that
// stays: that is on the maildrop. Another pass does nothing.
func (b *mailbox) arrived(stays bool) {
	b.t.Helper()
	if stays {
		left := b.pop.Messages("jane")
		if len(left) != 1 {
			b.t.Fatalf("%d left on the maildrop", len(left))
		}
		b.source[canonOf([]byte(wire(string(left[0].Body))))]--
	}
	stored := map[targets.Hash]int{}
	for _, f := range b.imap.Folders() {
		for _, m := range b.imap.Messages(f) {
			stored[canonOf(m.Body)]++
		}
	}
	if diff := diffCounts(stored, b.source); diff != "" {
		b.t.Error(diff)
	}
	appends, retr := b.imap.Count("APPEND"), b.saw("RETR")
	if r, err := b.pass(context.Background()); err != nil || r.Failed != 0 || b.imap.Count("APPEND") != appends || b.saw("RETR") != retr {
		b.t.Errorf("one more pass still has work: %s", outcome(r, err, 1))
	}
}

// imapOn makes a hook that acts on the nth command of a verb; 0 is every one.
func imapOn(verb string, nth int, a targetstest.Action) func(targetstest.Command) targetstest.Action {
	return func(c targetstest.Command) targetstest.Action {
		if c.Verb == verb && (nth == 0 || c.N == nth) {
			return a
		}
		return targetstest.Action{}
	}
}

// An IMAP server misbehaves, and nothing is lost or doubled by it. How many
// messages share a command is up to the target, so what is demanded is how many
// are left on the maildrop after each pass.
func TestFaults_target(t *testing.T) {
	type act = targetstest.Action
	during := func(pass int, hook func(targetstest.Command) act) func(int, targetstest.Command) act {
		return func(now int, c targetstest.Command) act {
			if now > pass {
				return act{}
			}
			return hook(c)
		}
	}
	const some = -1
	// lost is a connection that ends behind the first APPEND, after which the
	// server takes no more in this pass.
	lost := during(1, func(c targetstest.Command) act {
		switch {
		case c.Verb == "APPEND":
			return act{Cut: targetstest.CutStored}
		case c.Verb == "" && c.N > 1:
			return act{Reply: "BYE back soon"}
		}
		return act{}
	})
	for _, c := range []struct {
		name   string
		caps   string
		hook   func(pass int, c targetstest.Command) act
		reject func([]byte) string
		before func(*mailbox) // the second pass
		left   []int          // on the maildrop, after each pass
		stalls bool
	}{
		{name: "80 [OVERQUOTA]", hook: during(4, imapOn("APPEND", 0, act{Reply: "NO [OVERQUOTA] Quota exceeded"})), left: []int{9, 9, 9, 9, 0}},
		{name: "82 BYE because of one message", reject: badly("BYE Invalid character in literal"), left: []int{some, 1, 1, 1}},
		{name: "82 BAD because of one message", reject: badly("BAD Command Argument Error. 11"), left: []int{1, 1, 1, 1}},
		{name: "83 throttled", hook: during(4, imapOn("APPEND", 0, act{Reply: "NO Suggested Backoff Time: 299609 milliseconds"})), left: []int{9, 9, 9, 9, 0}},
		{name: "83 [INUSE]", hook: during(4, imapOn("APPEND", 0, act{Reply: "NO [INUSE] locked"})), left: []int{9, 9, 9, 9, 0}},
		{name: "83 [UNAVAILABLE]", hook: during(4, imapOn("APPEND", 0, act{Reply: "NO [UNAVAILABLE] later"})), left: []int{9, 9, 9, 9, 0}},
		{name: "84 reset before OK", hook: during(1, imapOn("APPEND", 1, act{Cut: targetstest.CutStored})), left: []int{0}},
		{name: "84 reset before OK, in a pipeline", caps: inLine, hook: during(1, imapOn("APPEND", 5, act{Cut: targetstest.CutStored})), left: []int{0}},
		{name: "84 reset before OK, one by one", caps: oneByOne, hook: during(1, imapOn("APPEND", 5, act{Cut: targetstest.CutStored})), left: []int{0}},
		{name: "86 no reply, ever", hook: during(1, imapOn("APPEND", 1, act{Wait: make(chan struct{})})), left: []int{0}, stalls: true},
		{name: "87 no UIDPLUS", caps: noUIDs, left: []int{0}},
		{name: "87 no UIDPLUS, and a reset", caps: noUIDs, hook: during(1, imapOn("APPEND", 1, act{Cut: targetstest.CutStored})), left: []int{0}},
		{name: "87 APPENDUID of another folder", hook: during(1, imapOn("APPEND", 0, act{AppendUID: "1 7"})), left: []int{0}},
		{name: "88 UIDVALIDITY changed meanwhile", hook: lost, before: func(b *mailbox) { b.imap.Renew("INBOX") }, left: []int{9, 0}},
		{name: "88 UIDVALIDITY changed meanwhile, no UIDPLUS", caps: noUIDs, hook: lost, before: func(b *mailbox) { b.imap.Renew("INBOX") }, left: []int{9, 0}},
		{name: "90 APPENDUID of an older copy", caps: oneByOne, hook: during(1, imapOn("APPEND", 5, act{AppendUID: "1001 1"})), left: []int{0}},
	} {
		t.Run("row "+c.name, func(t *testing.T) {
			w := newWorld(t)
			w.account.Keep = Keep{}
			w.fill(9)
			var pass atomic.Int32
			b := w.onto(&targetstest.IMAP{Caps: c.caps, Reject: c.reject, Hook: func(cmd targetstest.Command) act {
				if c.hook == nil {
					return act{}
				}
				return c.hook(int(pass.Load()), cmd)
			}})
			if c.stalls {
				impatient(w)
			}
			for i, left := range c.left {
				if pass.Add(1) == 2 && c.before != nil {
					c.before(b)
				}
				r, err := b.pass(t.Context())
				if left == some {
					left = w.left()
				}
				if err != nil || w.left() != left || (r.Failed+r.Held > 0) != (left > 0) {
					t.Errorf("pass %d: %d left, want %d: %s", i+1, w.left(), left, outcome(r, err, 1))
				}
				if left == 9 && r.Held > 0 {
					t.Errorf("pass %d: the fault is the server's, and %d messages are held for it", i+1, r.Held)
				}
			}
			b.arrived(w.left() > 0)
		})
	}
}

// badly makes a server that answers one message in a way of its own.
func badly(words string) func([]byte) string {
	return func(body []byte) string {
		if strings.Contains(string(body), "<4@x>") {
			return words
		}
		return ""
	}
}

// The folder of an interrupted delivery is renamed before it is looked up: its
// messages are delivered again, to where they were to go.
func TestFaults_folderRenamed(t *testing.T) {
	w := newWorld(t)
	w.account.Keep = Keep{}
	w.fill(9)
	w.job.Rules, _ = rules.Compile([]rules.Rule{{Name: "all", Then: rules.Then{Folders: []string{"Lists"}}}})
	var later atomic.Bool
	b := w.onto(&targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		switch {
		case later.Load():
		case c.Verb == "APPEND":
			return targetstest.Action{Cut: targetstest.CutStored}
		case c.Verb == "" && c.N > 1:
			return targetstest.Action{Reply: "BYE back soon"}
		}
		return targetstest.Action{}
	}})
	if r, err := b.pass(t.Context()); err != nil || r.Delivered != 0 || w.left() != 9 {
		t.Fatalf("row 25: %v, %+v", err, r)
	}
	moved := b.imap.Messages("Lists")
	if len(moved) == 0 {
		t.Fatal("row 25: nothing was stored")
	}
	b.imap.Delete("Lists")
	later.Store(true)
	for range 2 {
		if r, err := b.pass(t.Context()); err != nil || r.Failed+r.Held != 0 {
			t.Fatalf("row 25: %v, %+v", err, r)
		}
	}
	b.arrived(false)
	if w.left() != 0 {
		t.Errorf("row 25: %d left", w.left())
	}
}

// Whatever mail says about folders, it goes where the rule may send it.
func TestFaults_folderNames(t *testing.T) {
	w := newWorld(t)
	w.account.Keep = Keep{}
	for i, id := range []string{
		"../x", "/abs", "a//b", "a/b", "~", "~root", ".", "..", "a\x00b", "a\x1bb", "\u202egnirts", "trailing ", strings.Repeat("x", 300),
		"&", "inbox", "%*", "a&b", "\"q\"", "a\\b", "{3}", strings.Repeat("é", 100), "a.b.c", "\xff",
	} {
		w.add(fmt.Sprint(i), fmt.Sprintf("List-Id: <%s>\r\nSubject: %d\r\n\r\nx\r\n", id, i))
	}
	n := w.left()
	w.job.Rules, _ = rules.Compile([]rules.Rule{{Name: "lists", Then: rules.Then{Folders: []string{"Lists/${list_id}"}}}})
	b := w.onto(&targetstest.IMAP{})
	b.expect("row 93", then{report: fmt.Sprintf("%d new, %d delivered, %d deleted", n, n, n)})
	b.arrived(false)
	for _, f := range b.imap.Folders() {
		part, below := strings.CutPrefix(f, "Lists/")
		if f != "INBOX" && !below || strings.ContainsAny(part, "/\x00\r\n\x1b") || len(part) > 200 || part == ".." || part == "." {
			t.Errorf("row 93: folder %q", f)
		}
	}
}

// Without UIDPLUS, copies of one message are told apart by where they can lie,
// whatever the clock did between the passes.
func TestFaults_twinsWithoutUIDs(t *testing.T) {
	for _, leap := range []time.Duration{0, -time.Hour, time.Hour, 48 * time.Hour} {
		t.Run(leap.String(), func(t *testing.T) {
			w := newWorld(t)
			w.account.Keep = Keep{}
			var pass atomic.Int32
			b := w.onto(&targetstest.IMAP{Caps: noUIDs, Hook: func(c targetstest.Command) targetstest.Action {
				switch {
				case pass.Load() != 2:
				case c.Verb == "APPEND":
					return targetstest.Action{Cut: targetstest.CutStored}
				case c.Verb == "" && c.N > 2:
					return targetstest.Action{Reply: "BYE back soon"}
				}
				return targetstest.Action{}
			}})
			for i := range 3 {
				if i < 2 {
					w.add(fmt.Sprint(i), "Message-ID: <twin@x>\r\nSubject: twin\r\n\r\nthe same\r\n")
				}
				pass.Add(1)
				r, err := b.pass(t.Context())
				if err != nil || r.Failed > 0 != (i == 1) {
					t.Fatalf("pass %d: %v, %+v", i+1, err, r)
				}
				w.now = w.now.Add(leap)
			}
			b.arrived(false)
		})
	}
}
