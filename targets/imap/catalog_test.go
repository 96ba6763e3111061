package imap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

// catalog lists all that INBOX has.
func catalog(t testing.TB, tg target) targets.Catalog {
	t.Helper()
	m, err := tg.Mark(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := tg.(targets.Comparer).Catalog(t.Context(), "", m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// filled is a server whose INBOX has n messages.
func filled(t testing.TB, n int, s *targetstest.IMAP) *targetstest.IMAP {
	start(t, s)
	for i := range n {
		s.Put("INBOX", targetstest.Stored{Body: []byte(targetstest.Text(i))})
	}
	return s
}

// fetchBodies makes a hook for FETCHes of whole messages, the nth or every one.
func fetchBodies(nth int, a targetstest.Action) func(targetstest.Command) targetstest.Action {
	var mu sync.Mutex
	n := 0
	return func(c targetstest.Command) targetstest.Action {
		if c.Verb != "UID FETCH" || !strings.Contains(c.Line, "BODY.PEEK[]") {
			return targetstest.Action{}
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; nth == 0 || n == nth {
			return a
		}
		return targetstest.Action{}
	}
}

// TestCatalog_free: an empty folder, and a message that none resembles, cost no
// FETCH.
func TestCatalog_free(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	if f, err := catalog(t, tg).Take(t.Context(), targetstest.WantedOf(targetstest.Text(1))); err != nil || f.OK {
		t.Errorf("Take: %v, %v", f, err)
	}
	if n := s.Count("EXAMINE"); n != 1 { // that of Mark
		t.Errorf("%d EXAMINEs for a folder that never had a message, want 1", n)
	}
	s.Put("INBOX", targetstest.Stored{Body: []byte(targetstest.Text(1))})
	s.Expunge("INBOX", 1)
	tg = open(t, config(s.Port()))
	catalog(t, tg)
	if n := s.Count("UID FETCH"); n != 0 {
		t.Errorf("%d FETCHes of an empty folder", n)
	}
	s.Put("INBOX", targetstest.Stored{Body: []byte(targetstest.Text(1))})
	tg = open(t, config(s.Port()))
	c := catalog(t, tg)
	for _, raw := range []string{targetstest.Text(2), "Subject: none\r\n\r\n", targetstest.Text(1) + strings.Repeat("more\r\n", 5000)} {
		if f, err := c.Take(t.Context(), targetstest.WantedOf(raw)); err != nil || f.OK {
			t.Errorf("Take: %v, %v", f, err)
		}
	}
	if n := s.Count("UID FETCH"); n != 1 {
		t.Errorf("%d FETCHes, want 1 for the list", n)
	}
}

// TestCatalog_together: Takes that wait for the network share FETCHes.
func TestCatalog_together(t *testing.T) {
	const n = 400
	s := filled(t, n, &targetstest.IMAP{})
	p := &targetstest.Proxy{Server: s.Addr(), Delay: 50 * time.Millisecond}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := catalog(t, open(t, config(p.Port())))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if f, err := c.Take(t.Context(), targetstest.WantedOf(targetstest.Text(i))); err != nil || f.UID != uint32(i+1) {
				t.Errorf("message %d: %+v, %v", i, f, err)
			}
		})
	}
	wg.Wait()
	if got := s.Count("UID FETCH"); got > n/10 {
		t.Errorf("%d FETCHes for %d messages", got, n)
	}
}

// TestCatalog_readOnce: however many look at a copy, it is read once.
func TestCatalog_readOnce(t *testing.T) {
	asked, hold := make(chan struct{}), make(chan struct{})
	hook := fetchBodies(1, targetstest.Action{Wait: hold})
	s := filled(t, 3, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		a := hook(c)
		if a.Wait != nil {
			close(asked)
		}
		return a
	}})
	k := catalog(t, open(t, config(s.Port())))
	w := targetstest.WantedOf(strings.Replace(targetstest.Text(1), "body 1", "body 2", 1))
	var wg, started sync.WaitGroup
	look := func() {
		if f, err := k.Take(t.Context(), w); err != nil || f.OK {
			t.Errorf("%+v, %v", f, err)
		}
	}
	wg.Go(look)
	<-asked
	for range 20 {
		started.Add(1)
		wg.Go(func() { started.Done(); look() })
	}
	started.Wait()
	close(hold)
	wg.Wait()
	if n := s.Count("UID FETCH"); n != 2 { // with that of the list
		t.Errorf("%d FETCHes, want 2", n)
	}
}

// TestCatalog_changes: what happens to the folder between the list and Take.
func TestCatalog_changes(t *testing.T) {
	raw := targetstest.Text(1)
	for _, c := range []struct {
		name   string
		change func(*targetstest.IMAP)
		ok     bool
		words  string // of the error; "" if there is none
	}{
		{"nothing", func(*targetstest.IMAP) {}, true, ""},
		{"expunged", func(s *targetstest.IMAP) { s.Expunge("INBOX", 2) }, false, ""},
		{"numbered anew", func(s *targetstest.IMAP) { s.Renew("INBOX") }, false, "numbered anew"},
		{"deleted", func(s *targetstest.IMAP) { s.Delete("INBOX") }, false, "NONEXISTENT"},
		{"connections lost", func(s *targetstest.IMAP) { s.Drop() }, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := filled(t, 3, &targetstest.IMAP{})
			k := catalog(t, open(t, config(s.Port())))
			c.change(s)
			f, err := k.Take(t.Context(), targetstest.WantedOf(raw))
			if f.OK != c.ok || (err != nil) != (c.words != "") || err != nil && !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %+v, %v", f, err)
			}
			if err != nil && targets.FaultOf(err) != targets.Transient {
				t.Errorf("%v is %v, want transient: the next pass will see", err, targets.FaultOf(err))
			}
		})
	}
}

// TestCatalog_staleMark: a mark of the folder as it was before cannot be
// compared with.
func TestCatalog_staleMark(t *testing.T) {
	s := filled(t, 3, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	m, err := tg.Mark(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.Renew("INBOX")
	if _, err := tg.(targets.Comparer).Catalog(t.Context(), "", m, nil); err == nil || targets.FaultOf(err) != targets.Transient {
		t.Errorf("got %v, want transient", err)
	}
}

// TestCatalog_faults: a server that breaks off while copies are read. No copy is
// taken by a Take that fails.
func TestCatalog_faults(t *testing.T) {
	const always = 0
	for _, c := range []struct {
		name  string
		nth   int
		act   targetstest.Action
		fault targets.Fault // -1 is no error
	}{
		{"lost once", 1, targetstest.Action{Cut: targetstest.CutBefore}, -1},
		{"lost after half", 1, targetstest.Action{Untagged: []string{"* 2 FETCH (UID 2 BODY[] {100}\r\nMessage-ID"}, Cut: targetstest.CutBefore}, -1},
		{"BYE once", 1, targetstest.Action{Reply: "BYE shutting down"}, -1},
		{"lost always", always, targetstest.Action{Cut: targetstest.CutBefore}, targets.Down},
		{"BYE always", always, targetstest.Action{Reply: "BYE too busy"}, targets.Down},
		{"NO", always, targetstest.Action{Reply: "NO Server Unavailable. 15"}, targets.Down},
		{"huge", always, targetstest.Action{Untagged: []string{"* 2 FETCH (UID 2 BODY[] {4294967295}"}}, targets.Down},
		{"nested", always, targetstest.Action{Untagged: []string{"* 2 FETCH " + strings.Repeat("(", 1000)}}, targets.Down},
		{"another's body", always, targetstest.Action{Untagged: []string{"* 9 FETCH (UID 9 BODY[] {3}\r\nabc)"}}, -1},
		{"new flags first", always, targetstest.Action{Untagged: []string{"* 2 FETCH (UID 2 FLAGS (\\Seen))"}}, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			hook := fetchBodies(c.nth, c.act)
			var well atomic.Bool
			s := filled(t, 3, &targetstest.IMAP{Hook: func(cmd targetstest.Command) targetstest.Action {
				if well.Load() {
					return targetstest.Action{}
				}
				return hook(cmd)
			}})
			tg := open(t, config(s.Port()))
			k := catalog(t, tg)
			w := targetstest.WantedOf(targetstest.Text(1))
			f, err := k.Take(t.Context(), w)
			if c.fault == -1 {
				if err != nil || f.UID != 2 {
					t.Errorf("got %+v, %v, want UID 2", f, err)
				}
				return
			}
			if err == nil || f.OK || targets.FaultOf(err) != c.fault {
				t.Errorf("got %+v, %v (%v), want %v", f, err, targets.FaultOf(err), c.fault)
			}
			well.Store(true)
			if f, err := k.Take(t.Context(), w); err != nil || f.UID != 2 {
				t.Errorf("when the server is well again: %+v, %v, want UID 2", f, err)
			}
		})
	}
}

// TestCatalog_lies: what a server lists twice is one copy, and what it lists
// unasked is none.
func TestCatalog_lies(t *testing.T) {
	line := func(uid, size int, id string) string {
		field := "Message-ID: " + id + "\r\n\r\n"
		return fmt.Sprintf("* 1 FETCH (UID %d RFC822.SIZE %d BODY[HEADER.FIELDS (\"Message-ID\")] {%d}\r\n%s)", uid, size, len(field), field)
	}
	raw := targetstest.Text(1)
	for name, lines := range map[string][]string{
		"twice":                    {line(2, len(raw), "<1@suite.example>")},
		"twice, of different size": {line(2, len(raw)+1, "<1@suite.example>")},
		"above the mark":           {line(4, len(raw), "<1@suite.example>")},
		"without UID":              {"* 1 FETCH (RFC822.SIZE 7)"},
		"UID 0":                    {"* 1 FETCH (FLAGS ())"},
		"negative size":            {line(3, -5, "<1@suite.example>")},
		"no id":                    {"* 3 FETCH (UID 3 RFC822.SIZE 70 BODY[HEADER.FIELDS (\"Message-ID\")] NIL)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := filled(t, 3, &targetstest.IMAP{Hook: on("UID FETCH", 1, targetstest.Action{Untagged: lines})})
			tg := open(t, config(s.Port()))
			m, err := tg.Mark(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			k, err := tg.(targets.Comparer).Catalog(t.Context(), "", m, nil)
			if name == "negative size" && err != nil {
				return // the parser may well give up
			} else if err != nil {
				t.Fatal(err)
			}
			s.Put("INBOX", targetstest.Stored{Body: []byte(raw)}) // above the mark
			for i := range 3 {
				f, err := k.Take(t.Context(), targetstest.WantedOf(raw))
				if err != nil || f.OK != (i == 0) || f.OK && f.UID != 2 {
					t.Errorf("Take %d: %+v, %v", i, f, err)
				}
			}
		})
	}
}

// TestCatalog_rewritten: what a server changed is not the message that was
// sent, as far as anybody can tell. It is delivered again rather than lost.
func TestCatalog_rewritten(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	raw := targetstest.Text(1)
	s.Put("INBOX", targetstest.Stored{Body: []byte("X-Virus: none\r\n" + raw)})
	s.Put("INBOX", targetstest.Stored{Body: []byte(strings.ReplaceAll(raw, "\r\n", "\n"))}) // changed in line ends only
	k := catalog(t, open(t, config(s.Port())))
	for i := range 2 {
		f, err := k.Take(t.Context(), targetstest.WantedOf(raw))
		if err != nil || f.OK != (i == 0) || f.OK && f.UID != 2 {
			t.Errorf("Take %d: %+v, %v", i, f, err)
		}
	}
}

// TestCatalog_cancelled: who gives up takes nothing, and spoils nothing for
// others.
func TestCatalog_cancelled(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{})
	hook := fetchBodies(1, targetstest.Action{Wait: hold})
	s := filled(t, 3, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		a := hook(c)
		if a.Wait != nil {
			close(asked)
		}
		return a
	}})
	k := catalog(t, open(t, config(s.Port())))
	w := targetstest.WantedOf(targetstest.Text(1))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if f, err := k.Take(ctx, w); f.OK || !errors.Is(err, context.Canceled) || targets.FaultOf(err) != targets.Transient {
			t.Errorf("got %+v, %v, want canceled", f, err)
		}
	})
	<-asked
	cancel()
	wg.Wait()
	// Nobody waits for this one by the time it could be read.
	if _, err := k.Take(ctx, targetstest.WantedOf(targetstest.Text(2))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	close(hold)
	for range 2 {
		if f, err := k.Take(t.Context(), w); err != nil || f.OK != (f.UID == 2) {
			t.Errorf("afterwards: %+v, %v", f, err)
		}
	}
	if f, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(2))); err != nil || f.UID != 3 {
		t.Errorf("afterwards: %+v, %v", f, err)
	}
}

// TestCatalog_closed: Close ends a Take that waits, and later ones.
func TestCatalog_closed(t *testing.T) {
	asked := make(chan struct{})
	hook := fetchBodies(1, targetstest.Action{Wait: make(chan struct{})})
	s := filled(t, 3, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		a := hook(c)
		if a.Wait != nil {
			close(asked)
		}
		return a
	}})
	tg := open(t, config(s.Port()))
	k := catalog(t, tg)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(i))); err == nil {
				t.Error("Take works while the target is closed")
			}
		})
	}
	<-asked
	tg.Close()
	wg.Wait()
	if _, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(2))); err == nil || targets.FaultOf(err) != targets.Transient {
		t.Errorf("Take after Close: %v, want transient", err)
	}
}

// TestCatalog_memory: what is remembered of a message is a few octets, so that a
// hundred thousand of them are a few megabytes.
func TestCatalog_memory(t *testing.T) {
	const n = 20_000
	s := filled(t, n, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	if _, err := tg.Mark(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	before := heap()
	began := time.Now()
	k := catalog(t, tg)
	took := time.Since(began)
	each := float64(heap()-before) / n
	t.Logf("%.1f octets a message, listed in %v", each, took)
	if each > 64 {
		t.Errorf("%.1f octets a message", each)
	}
	if f, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(n/2))); err != nil || f.UID != n/2+1 {
		t.Errorf("Take: %+v, %v", f, err)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// wantedOf describes a message as the engine does.
func wantedOf(raw []byte) targets.Wanted {
	w := targetstest.WantedOf(string(raw))
	w.MessageID = rules.ParseHeader(raw).MessageID()
	return w
}

// TestCatalog_dovecot: every message that was delivered, nasty or real, is found
// once by a target that knows nothing of it; the same message with one octet
// changed never is, although Message-ID, size and header agree.
func TestCatalog_dovecot(t *testing.T) {
	var all [][]byte
	for _, m := range corpus.Nasty() {
		if len(m.Raw) > 0 { // an empty message becomes one CRLF before it is delivered
			all = append(all, m.Raw)
		}
	}
	files, _ := filepath.Glob("../../../shared/mail/*.eml")
	if len(files) == 0 {
		t.Log("../shared/mail is not there: only our own messages were compared")
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw)
	}
	d := dovecot.Start(t)
	c := config(d.IMAPS, func(c *imap.Config) { c.TLS, c.CAFile, c.User = endpoint.Implicit, d.CAFile, "corpus" })
	tg := open(t, c)
	each(len(all), func(i int) {
		if _, err := append1(t, tg, string(all[i]), ""); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	})
	tg = open(t, c)
	k := catalog(t, tg)

	hashes := map[targets.Hash]bool{}
	for _, raw := range all {
		hashes[wantedOf(raw).Hash] = true
	}
	each(len(all), func(i int) {
		w := wantedOf(mutant(all[i]))
		if hashes[w.Hash] {
			return // it is another of them
		}
		if f, err := k.Take(t.Context(), w); err != nil || f.OK {
			t.Errorf("message %d with one octet changed: %+v, %v", i, f, err)
		}
	})
	var mu sync.Mutex
	taken := map[uint32]bool{}
	each(len(all), func(i int) {
		f, err := k.Take(t.Context(), wantedOf(all[i]))
		mu.Lock()
		defer mu.Unlock()
		if err != nil || !f.OK || taken[f.UID] {
			t.Errorf("message %d: %+v, %v", i, f, err)
		}
		taken[f.UID] = true
	})
	if len(taken) != len(all) || len(taken) != d.Count("corpus", "INBOX") {
		t.Errorf("%d of %d copies were taken, for %d messages", len(taken), d.Count("corpus", "INBOX"), len(all))
	}
	each(len(all), func(i int) {
		if f, err := k.Take(t.Context(), wantedOf(all[i])); err != nil || f.OK {
			t.Errorf("message %d was taken once more: %+v, %v", i, f, err)
		}
	})
}

// each calls f for 0 to n-1 from many goroutines.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	work := make(chan int)
	for range 128 {
		wg.Go(func() {
			for i := range work {
				f(i)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
}

// mutant changes the last octet of raw that is no line end, NUL or 0x80.
func mutant(raw []byte) []byte {
	out := append([]byte{}, raw...)
	for i := len(out) - 1; i >= 0; i-- {
		if b := out[i]; b != '\r' && b != '\n' && b != 0 && b < 0x7f && b != '\t' && b != ' ' {
			out[i] = 'x' ^ b&1
			return out
		}
	}
	return append(out, 'x')
}
