package imap_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

func append1(t *testing.T, tg target, raw string, folder string) (targets.Receipt, error) {
	t.Helper()
	return tg.Deliver(t.Context(), targetstest.Message(raw), targets.Dest{Folder: folder})
}

// on makes a hook that acts on the nth command of a verb; 0 is every one.
func on(verb string, nth int, a targetstest.Action) func(targetstest.Command) targetstest.Action {
	return func(c targetstest.Command) targetstest.Action {
		if c.Verb == verb && (nth == 0 || c.N == nth) {
			return a
		}
		return targetstest.Action{}
	}
}

// TestDeliver_replies pins what each answer to a lone APPEND means.
func TestDeliver_replies(t *testing.T) {
	for _, c := range []struct {
		reply string
		fault targets.Fault
		after time.Duration
	}{
		{"NO [OVERQUOTA] Quota exceeded", targets.Down, 0},
		{"NO [UNAVAILABLE] later", targets.Down, 0},
		{"NO [INUSE] locked", targets.Down, 0},
		{"NO [AUTHENTICATIONFAILED] expired", targets.Down, 0},
		{"NO Request is throttled. Suggested Backoff Time: 299609 milliseconds", targets.Down, 299609 * time.Millisecond},
		{"NO Suggested Backoff Time: 999999999999 milliseconds", targets.Down, time.Hour},
		{"BAD throttled. Suggested Backoff Time: 1000 milliseconds", targets.Down, time.Second},
		{"NO [TOOBIG] too big", targets.Refused, 0},
		{"NO [LIMIT] Mail size is larger than the maximum", targets.Refused, 0},
		{"NO Message contains invalid header", targets.Refused, 0},
		{"BAD Command Argument Error. 11", targets.Refused, 0},
		{"NO [SERVERBUG] oops", targets.Transient, 0},
		{"NO [X-NEW] what", targets.Transient, 0},
	} {
		t.Run(c.reply, func(t *testing.T) {
			s := start(t, &targetstest.IMAP{Hook: on("APPEND", 0, targetstest.Action{Reply: c.reply})})
			_, err := append1(t, open(t, config(s.Port())), targetstest.Text(1), "")
			var e *targets.Error
			if !errors.As(err, &e) || e.Fault != c.fault || e.After != c.after || e.Reply != c.reply {
				t.Errorf("got %#v, want fault %v, after %v, the server's words", err, c.fault, c.after)
			}
			if want := `APPEND to "INBOX"`; e != nil && e.Op != want {
				t.Errorf("op %q, want %q", e.Op, want)
			}
		})
	}
}

// TestDeliver_wrongAppendUID: what cannot be right is not believed.
func TestDeliver_wrongAppendUID(t *testing.T) {
	for _, uid := range []string{"none", "1 7", "1001 1:2", "1001 0", "1001 x", "1001", "99999999999 1", "1001 4294967296", "1001 1,1", "1001 ,", ""} {
		s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{AppendUID: uid})})
		tg := open(t, config(s.Port()))
		r, err := append1(t, tg, targetstest.Text(1), "")
		if err != nil {
			t.Errorf("%q: %v", uid, err)
		}
		if want := uid == ""; (r.UID == 1 && r.UIDValidity == 1001) != want {
			t.Errorf("APPENDUID %q: receipt %v", uid, r)
		}
		if m, err := tg.Mark(t.Context(), ""); err != nil || m.UIDNext > 2 {
			t.Errorf("APPENDUID %q moved the mark to %v, %v", uid, m, err)
		}
	}
}

// TestDeliver_isolates: one of many is refused, in each way; the others arrive
// once and only that one is charged.
func TestDeliver_isolates(t *testing.T) {
	for name, caps := range map[string]string{"multi": "", "plus": "IMAP4rev1 LITERAL+ UIDPLUS", "asking": "IMAP4rev1 UIDPLUS"} {
		for _, words := range []string{"NO bad message", "BAD bad message", "NO [TOOBIG] large", "NO [LIMIT] large"} {
			t.Run(name+" "+words, func(t *testing.T) {
				s := start(t, &targetstest.IMAP{Caps: caps, Reject: func(b []byte) string {
					if strings.Contains(string(b), poison) {
						return words
					}
					return ""
				}})
				tg := open(t, config(s.Port()))
				var wg sync.WaitGroup
				var failed atomic.Int32
				for i := range 64 {
					wg.Go(func() {
						raw := targetstest.Text(i)
						if i == 33 {
							raw += poison + "\r\n"
						}
						if _, err := append1(t, tg, raw, ""); (err != nil) != (i == 33) {
							t.Errorf("message %d: %v", i, err)
						} else if err != nil && targets.FaultOf(err) == targets.Refused {
							failed.Add(1)
						}
					})
				}
				wg.Wait()
				if got := s.Messages("INBOX"); len(got) != 63 || failed.Load() != 1 {
					t.Errorf("%d stored, %d refused; want 63, 1", len(got), failed.Load())
				}
			})
		}
	}
}

// TestDeliver_unsure: the connection ends after the message was sent and before
// its OK. Whether it was stored only Find can tell.
func TestDeliver_unsure(t *testing.T) {
	for _, caps := range []string{"", "IMAP4rev1 UIDPLUS"} {
		for _, c := range []struct {
			name   string
			act    targetstest.Action
			stored int
		}{
			{"stored, OK lost", targetstest.Action{Cut: targetstest.CutStored}, 1},
			{"BYE instead of OK", targetstest.Action{Reply: "BYE Invalid character in literal"}, 0},
		} {
			t.Run(caps+c.name, func(t *testing.T) {
				s := start(t, &targetstest.IMAP{Caps: caps, Hook: on("APPEND", 1, c.act)})
				tg := open(t, config(s.Port()))
				raw := targetstest.Text(1)
				m, err := tg.Mark(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err = append1(t, tg, raw, ""); targets.FaultOf(err) != targets.Unsure {
					t.Fatalf("got %v, want unsure", err)
				}
				if strings.HasPrefix(c.act.Reply, "BYE") && !strings.Contains(err.Error(), c.act.Reply) {
					t.Errorf("%v has not the server's words", err)
				}
				found, err := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(raw)}, nil)
				if err != nil || found[0].OK != (c.stored == 1) || len(s.Messages("INBOX")) != c.stored {
					t.Errorf("Find: %v, %v; %d stored", found, err, len(s.Messages("INBOX")))
				}
			})
		}
	}
}

// TestDeliver_notSent: a message of which not everything was sent is certainly
// not stored, and goes out again on another connection.
func TestDeliver_notSent(t *testing.T) {
	raw := "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 1<<20) // more than sockets hold
	s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{Cut: targetstest.CutLiteral, Octets: 100})})
	tg := open(t, config(s.Port()))
	if _, err := append1(t, tg, raw, ""); err != nil {
		t.Fatal(err)
	}
	if got := s.Messages("INBOX"); len(got) != 1 || string(got[0].Body) != raw {
		t.Errorf("%d stored", len(got))
	}

	s = start(t, &targetstest.IMAP{Hook: on("APPEND", 0, targetstest.Action{Cut: targetstest.CutLiteral, Octets: 100})})
	tg = open(t, config(s.Port()))
	if _, err := append1(t, tg, raw, ""); err == nil || targets.FaultOf(err) != targets.Transient {
		t.Errorf("got %v, want transient", err)
	}
	if n := s.Count("APPEND"); n != 3 {
		t.Errorf("tried %d times, want 3", n)
	}
}

// TestDeliver_silent: no reply ever comes. The target's own deadline ends it.
func TestDeliver_silent(t *testing.T) {
	for _, c := range []struct {
		caps  string
		fault targets.Fault
	}{
		{"", targets.Unsure},
		{"IMAP4rev1", targets.Transient}, // the "+" never comes, so no octet was sent
	} {
		s := start(t, &targetstest.IMAP{Caps: c.caps, Hook: on("APPEND", 0, targetstest.Action{Wait: make(chan struct{})})})
		tg := open(t, config(s.Port(), func(c *imap.Config) { c.Timeout = 100 * time.Millisecond }))
		if _, err := append1(t, tg, targetstest.Text(1), ""); err == nil || targets.FaultOf(err) != c.fault {
			t.Errorf("caps %q: got %v, want %v", c.caps, err, c.fault)
		}
	}
}

// TestDeliver_noInsteadOfPlus: the literal must not be sent.
func TestDeliver_noInsteadOfPlus(t *testing.T) {
	s := start(t, &targetstest.IMAP{Caps: "IMAP4rev1 UIDPLUS", Hook: on("APPEND", 1, targetstest.Action{Reply: "NO [TOOBIG] no", Early: true})})
	tg := open(t, config(s.Port(), func(c *imap.Config) { c.Connections = 1 }))
	if _, err := append1(t, tg, targetstest.Text(1), ""); targets.FaultOf(err) != targets.Refused {
		t.Errorf("got %v, want refused", err)
	}
	if _, err := append1(t, tg, targetstest.Text(2), ""); err != nil {
		t.Errorf("the connection is out of step: %v", err)
	}
	if n := s.Count(""); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestDeliver_earlyNo: with LITERAL+ a server may refuse while the literal is
// still on its way; Deliver must not return before it has let go of the message.
func TestDeliver_earlyNo(t *testing.T) {
	s := start(t, &targetstest.IMAP{Hook: on("APPEND", 1, targetstest.Action{Reply: "NO [TOOBIG] no", Early: true})})
	tg := open(t, config(s.Port()))
	m := targetstest.Message("Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 1<<18))
	body := &guarded{ReaderAt: m.Body}
	m.Body = body
	_, err := tg.Deliver(t.Context(), m, targets.Dest{})
	body.done.Store(true)
	if targets.FaultOf(err) != targets.Refused {
		t.Errorf("got %v, want refused", err)
	}
	if _, err := append1(t, tg, targetstest.Text(2), ""); err != nil {
		t.Errorf("the connection is out of step: %v", err)
	}
	if body.late.Load() {
		t.Error("the message was read after Deliver returned")
	}
}

type guarded struct {
	io.ReaderAt
	done, late atomic.Bool
}

func (g *guarded) ReadAt(p []byte, at int64) (int, error) {
	if g.done.Load() {
		g.late.Store(true)
	}
	return g.ReaderAt.ReadAt(p, at)
}

// TestDeliver_shortBody: fewer octets than announced must never become a
// message, and must not take others along.
func TestDeliver_shortBody(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	tg := open(t, config(s.Port()))
	m := targetstest.Message(targetstest.Text(1))
	m.Size += 10
	if _, err := tg.Deliver(t.Context(), m, targets.Dest{}); !errors.Is(err, io.ErrUnexpectedEOF) || targets.FaultOf(err) != targets.Transient {
		t.Errorf("got %v, want unexpected EOF, transient", err)
	}
	if _, err := append1(t, tg, targetstest.Text(2), ""); err != nil {
		t.Error(err)
	}
	if got := s.Messages("INBOX"); len(got) != 1 || string(got[0].Body) != targetstest.Text(2) {
		t.Errorf("%d stored", len(got))
	}
}

func TestDeliver_nul(t *testing.T) {
	s := start(t, &targetstest.IMAP{Reject: func(b []byte) string {
		if strings.Contains(string(b), "\x00") {
			return "NO Message contains NUL characters"
		}
		return ""
	}})
	raw := "Subject: x\r\n\r\na\x00b\r\n"
	if _, err := append1(t, open(t, config(s.Port())), raw, ""); err != nil {
		t.Fatal(err)
	}
	if got := s.Messages("INBOX"); len(got) != 1 || string(got[0].Body) != strings.ReplaceAll(raw, "\x00", "\x80") {
		t.Errorf("stored %v", got)
	}
}

// TestDeliver_appendLimit: what the server will not take is not sent.
func TestDeliver_appendLimit(t *testing.T) {
	for _, caps := range []string{" APPENDLIMIT=100", " APPENDLIMIT"} {
		s := start(t, &targetstest.IMAP{Caps: targetstest.DefaultCaps + caps, Limit: 100})
		tg := open(t, config(s.Port()))
		_, err := append1(t, tg, targetstest.Text(1)+strings.Repeat("x\r\n", 100), "")
		if targets.FaultOf(err) != targets.Refused || !strings.Contains(err.Error(), "APPENDLIMIT") {
			t.Errorf("%s: got %v, want refused", caps, err)
		}
		if _, err := append1(t, tg, targetstest.Text(1), ""); err != nil {
			t.Errorf("%s: %v", caps, err)
		}
		if n := s.Count("APPEND"); n != 1 {
			t.Errorf("%s: %d APPENDs, want 1", caps, n)
		}
	}
}

// TestDeliver_cancelledLate: the caller gives up while no reply comes.
func TestDeliver_cancelledLate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	wait := make(chan struct{})
	s := start(t, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		if c.Verb == "APPEND" {
			cancel()
			return targetstest.Action{Wait: wait}
		}
		return targetstest.Action{}
	}})
	tg := open(t, config(s.Port()))
	if _, err := tg.Deliver(ctx, targetstest.Message(targetstest.Text(1)), targets.Dest{}); targets.FaultOf(err) != targets.Unsure || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want unsure, canceled", err)
	}
	close(wait)
	if _, err := append1(t, tg, targetstest.Text(2), ""); err != nil {
		t.Error(err)
	}
}

// TestDeliver_dedupes: a server that knows the message already tells the UID of
// the copy that it has. That is a delivery.
func TestDeliver_dedupes(t *testing.T) {
	s := start(t, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		if c.Verb == "APPEND" {
			return targetstest.Action{AppendUID: "1001 2"}
		}
		return targetstest.Action{}
	}})
	for i := range 5 {
		s.Put("INBOX", targetstest.Stored{Body: []byte(targetstest.Text(i))})
	}
	tg := open(t, config(s.Port()))
	before, err := tg.Mark(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := append1(t, tg, targetstest.Text(1), ""); err != nil || r.UID != 2 || r.UIDValidity != 1001 {
			t.Errorf("receipt %+v, %v, want UID 2", r, err)
		}
	}
	if after, err := tg.Mark(t.Context(), ""); err != nil || after != before {
		t.Errorf("mark %v, %v, want it to stay %v", after, err, before)
	}
}

// TestDeliver_killer: a server hangs up on one message of many. Sent again one
// at a time, as the engine does after looking for them, all others arrive once.
func TestDeliver_killer(t *testing.T) {
	for name, c := range map[string]struct{ caps, words string }{
		"multi BYE":  {"", "BYE Invalid character in literal"},
		"plus BYE":   {"IMAP4rev1 LITERAL+ UIDPLUS", "BYE Invalid character in literal"},
		"asking BYE": {"IMAP4rev1 UIDPLUS", "BYE Invalid character in literal"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, &targetstest.IMAP{Caps: c.caps, Reject: func(b []byte) string {
				if strings.Contains(string(b), poison) {
					return c.words
				}
				return ""
			}})
			tg := open(t, config(s.Port()))
			m, err := tg.Mark(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			raws := make([]string, 40)
			errs := make([]error, len(raws))
			var wg sync.WaitGroup
			for i := range raws {
				raws[i] = targetstest.Text(i)
				if i == 13 {
					raws[i] += poison + "\r\n"
				}
				wg.Go(func() { _, errs[i] = append1(t, tg, raws[i], "") })
			}
			wg.Wait()
			if targets.FaultOf(errs[13]) != targets.Unsure {
				t.Errorf("the poison: %v, want unsure", errs[13])
			}
			for i, err := range errs {
				if err == nil {
					continue
				}
				found, ferr := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(raws[i])}, nil)
				if ferr != nil {
					t.Fatal(ferr)
				}
				if found[0].OK {
					continue
				}
				if _, err := append1(t, tg, raws[i], ""); (err != nil) != (i == 13) {
					t.Errorf("message %d alone: %v", i, err)
				}
			}
			copies := map[string]int{}
			for _, m := range s.Messages("INBOX") {
				copies[string(m.Body)]++
			}
			for i, raw := range raws {
				if want := 1; i != 13 && copies[raw] != want || i == 13 && copies[raw] != 0 {
					t.Errorf("message %d has %d copies", i, copies[raw])
				}
			}
		})
	}
}
