package fetcher

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
)

// A connection ends, stalls, or gets out of step.
func TestFaults_connection(t *testing.T) {
	const done = "9 new, 9 delivered, 9 deleted"
	unfinished := maildroptest.Action{Reply: "+OK\r\nSubject: 3\r\n\r\nthe dot is glued to the last word.\r\n", Cut: maildroptest.Stall, At: -1}
	unstuffed := maildroptest.Action{Reply: "+OK\r\nSubject: 3\r\n\r\na\r\n.\r\nSubject: forged\r\n\r\nb\r\n.\r\n"}
	suspect := []string{"LIST said 44 octets, 17 came"}
	tests := []ordeal{
		{name: "29 FIN", given: spoilt(maildroptest.Action{Cut: maildroptest.FIN}, 1), passes: []then{{report: done + ", 2 sessions"}}},
		{name: "29 FIN every time", given: spoilt(maildroptest.Action{Cut: maildroptest.FIN}), passes: []then{
			{report: "8 new, 8 delivered, 9 left, 3 sessions, lost"},
			{report: "1 held, 8 deleted, 1 left", why: "begun 3 times and never ended"},
		}, stay: []string{"u003"}},
		{name: "30 RST", given: spoilt(maildroptest.Action{Cut: maildroptest.RST}, 1), passes: []then{{report: done + ", 2 sessions"}}},
		{name: "30 stall", given: spoilt(maildroptest.Action{Cut: maildroptest.Stall}, 1), passes: []then{
			{first: impatient, report: done + ", 2 sessions"},
		}},
		{name: "40 closed after four messages", given: func(w *world) {
			w.fill(20)
			seen := map[int]int{}
			w.pop.Hook = func(session int, cmd string) (a maildroptest.Action) {
				if strings.HasPrefix(cmd, "RETR") {
					if seen[session]++; seen[session] > 4 {
						a.Cut = maildroptest.FIN
					}
				}
				return a
			}
		}, passes: []then{
			{report: "12 new, 12 delivered, 20 left, 3 sessions, lost"},
			{report: "8 new, 8 delivered, 20 deleted, 2 sessions"},
		}},
		{name: "52 the end and a reply forged with bare LFs", given: func(w *world) {
			w.add("forger", "Subject: a\r\n\r\nx\n.\n+OK 5 octets\nSubject: forged\r\n\n.\r\n+OK\r\n.\r\r\n.\n\r\n")
			w.fill(3)
		}, passes: []then{{report: "4 new, 4 delivered, 4 deleted"}}},
		{name: "53 dots not doubled", given: spoilt(unstuffed), passes: []then{
			{report: "9 new, 8 delivered, 1 failed, 8 deleted, 1 left, 2 sessions", why: "may not double dots"},
			{report: "1 new, 1 failed, 1 left, 2 sessions", why: "may not double dots"},
			{report: "1 new, 1 held, 1 left, 2 sessions", why: "may not double dots"},
		}, stay: []string{"u003"}},
		{name: "53 dots not doubled, where sizes were exact", given: func(w *world) {
			w.fill(30)
			w.pop.Hook = w.retr("u024", unstuffed)
		}, passes: []then{
			{report: "30 new, 29 delivered, 1 failed, 29 deleted, 1 left, 3 sessions", warns: suspect, why: "may not double dots"},
			{report: "1 new, 1 failed, 1 left, 3 sessions", warns: suspect, why: "may not double dots"},
			{report: "1 new, 1 held, 1 left, 3 sessions", warns: suspect, why: "may not double dots"},
		}, stay: []string{"u024"}},
		{name: "54 a body without end", given: spoilt(unfinished), passes: []then{
			{first: impatient, report: "8 new, 8 delivered, 9 left, 3 sessions, lost"},
			{report: "1 held, 8 deleted, 1 left", why: "begun 3 times and never ended"},
		}, stay: []string{"u003"}},
		{name: "59 an octet now and then", given: spoilt(maildroptest.Action{Reply: "+OK\r\n", Stream: &dribble{}}), passes: []then{
			{first: impatient, report: "8 new, 8 delivered, 9 left, 3 sessions, lost"},
			{report: "1 held, 8 deleted, 1 left", why: "begun 3 times and never ended"},
		}, stay: []string{"u003"}},
		{name: "62 -ERR of several lines", given: spoilt(maildroptest.Action{Reply: "-ERR no\r\nbecause I say so\r\n.\r\n"}), passes: []then{
			{report: "8 new, 8 delivered, 1 failed, 8 deleted, 1 left, 2 sessions", why: "RETR 4: -ERR no"},
			{report: "1 failed, 1 left", why: "RETR 1: -ERR no"},
			{report: "1 held, 1 left", why: "RETR 1: -ERR no"},
		}, stay: []string{"u003"}},
		{name: "62 spaces and lower case", given: nine(says("STAT", "+ok   9   387\r\n")), passes: []then{{report: done}}},
		{name: "62 no reply at all", given: nine(says("STAT", "+OKAY 9 387\r\n", 1)), passes: []then{
			{report: "botched"},
			{report: done},
		}},
	}
	for _, at := range []int{0, 1, 16, 17, 40, 60, 62, 63, 64} { // of "+OK 45 octets\r\n", the message and its end
		tests = append(tests, ordeal{
			name:   fmt.Sprintf("31 cut %d octets into a reply", at),
			given:  spoilt(maildroptest.Action{Cut: maildroptest.FIN, At: at}, 1),
			passes: []then{{report: done + ", 2 sessions"}},
		})
	}
	play(t, tests)
}

// dribble sends an octet every ten milliseconds, and no end.
type dribble struct{ tick *time.Ticker }

func (d *dribble) Read(p []byte) (int, error) {
	if d.tick == nil {
		d.tick = time.NewTicker(10 * time.Millisecond)
	}
	<-d.tick.C
	p[0] = 'x'
	return 1, nil
}

// endless repeats itself.
type endless string

func (e endless) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

// What a server can make long has an end, and costs no memory.
func TestFaults_endless(t *testing.T) {
	long := func(text string) func(*world) {
		return func(w *world) {
			w.account.Limits.MaxSize = 32 << 20
			spoilt(maildroptest.Action{Reply: "+OK\r\nSubject: 3\r\n\r\n", Stream: endless(text)})(w)
		}
	}
	three := []then{
		{report: "8 new, 8 delivered, 1 failed, 8 deleted, 1 left, 2 sessions", why: "more than 33554432 octets"},
		{report: "1 failed, 1 left, 2 sessions", why: "more than 33554432 octets"},
		{report: "1 held, 1 left, 2 sessions", why: "more than 33554432 octets"},
	}
	on := func(cmd, text string) ordeal {
		return ordeal{
			name:   "58 endless " + cmd,
			given:  nine(on(cmd, maildroptest.Action{Reply: "+OK", Stream: endless(text)}, 1)),
			passes: []then{{report: "botched"}, {report: "9 new, 9 delivered, 9 deleted"}},
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	play(t, []ordeal{
		{name: "56 a line", given: long("xxxxxxxx"), passes: three, stay: []string{"u003"}},
		{name: "57 lines", given: long("0123456789abcdef\r\n"), passes: three, stay: []string{"u003"}},
		on("GREETING", "x"), on("CAPA", "\r\nX-Y"), on("LIST", "1"), on("UIDL", "\r\n1 x"), on("STAT", "x"),
	})
	runtime.ReadMemStats(&after)
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 64 {
		t.Errorf("%d MiB were allocated for two bodies without end", mib)
	}
}

// A command is refused.
func TestFaults_refused(t *testing.T) {
	const done = "9 new, 9 delivered, 9 deleted"
	login := func(reply string, sessions ...int) func(*world) {
		return nine(func(session int, cmd string) maildroptest.Action {
			if strings.HasPrefix(cmd, "AUTH") {
				return says(cmd, reply+"\r\n", sessions...)(session, cmd)
			}
			return maildroptest.Action{}
		})
	}
	retr := func(reply string, sessions ...int) func(*world) {
		return spoilt(maildroptest.Action{Reply: reply + "\r\n"}, sessions...)
	}
	again := then{report: "1 failed, 1 left"}
	play(t, []ordeal{
		{name: "32 RETR of one message", given: retr("-ERR cannot open message"), passes: []then{
			{report: "8 new, 8 delivered, 1 failed, 8 deleted, 1 left"},
			{report: "1 failed, 1 left"},
			{report: "1 held, 1 left", why: "RETR 1: -ERR cannot open message"},
			{first: later(59 * time.Minute), report: "1 held, 1 left"},
			{first: later(time.Minute), report: "1 held, 1 left", why: "RETR 1: -ERR cannot open message"},
			{first: later(23 * time.Hour), report: "1 held, 1 left"},
		}, stay: []string{"u003"}},
		{name: "33 RETR [SYS/TEMP]", given: retr("-ERR [SYS/TEMP] index is busy", 1, 2, 3, 4, 5), passes: []then{
			{report: "8 new, 8 delivered, 1 failed, 8 deleted, 1 left", why: "[SYS/TEMP]"},
			again, again, again, again,
			{report: "1 new, 1 delivered, 1 deleted"},
		}},
		{name: "33 RETR [SYS/PERM]", given: retr("-ERR [SYS/PERM] message is damaged"), passes: []then{
			{report: "8 new, 8 delivered, 1 failed, 8 deleted, 1 left"},
			again,
			{report: "1 held, 1 left", why: "[SYS/PERM]"},
		}, stay: []string{"u003"}},
		{name: "34 [IN-USE]", given: login("-ERR [IN-USE] locked", 1, 2, 3), passes: []then{{report: "3 sessions, unavailable IN-USE"}, {report: done}}},
		{name: "34 [IN-USE] for a moment", given: login("-ERR [IN-USE] locked", 1, 2), passes: []then{{report: done + ", 3 sessions"}}},
		{name: "35 [LOGIN-DELAY]", given: login("-ERR [LOGIN-DELAY] too soon", 1), passes: []then{{report: "unavailable LOGIN-DELAY"}, {report: done}}},
		{name: "36 login refused", given: login("-ERR [AUTH] no", 1), passes: []then{{report: "login refused AUTH"}, {report: done}}},
		{name: "37 QUIT", given: nine(on("QUIT", maildroptest.Action{Reply: "-ERR some deleted messages not removed\r\n", NoCommit: true}, 1)), passes: []then{
			{report: "9 new, 9 delivered, 9 left", warns: []string{"9 deletions are not confirmed: QUIT: -ERR some deleted"}},
			{report: "9 deleted"},
		}},
		{name: "38 the reply to QUIT is lost", given: func(w *world) {
			w.fill(30)
			w.pop.Hook = on("QUIT", maildroptest.Action{Cut: maildroptest.FIN}, 1)
		}, passes: []then{
			{report: "30 new, 30 delivered, 30 left", warns: []string{"30 deletions are not confirmed"}},
			{report: ""},
			{first: later(25 * time.Hour), report: ""},
			{first: func(w *world) { w.onRecord(0) }, report: ""},
		}},
		{name: "39 DELE", given: nine(says("DELE 3", "-ERR no\r\n", 1)), passes: []then{
			{report: "9 new, 9 delivered, 8 deleted, 1 left", warns: []string{"refused to delete 1 messages"}},
			{report: "1 deleted"},
		}},
		{name: "60 another client is faster", given: func(w *world) {
			w.fill(9)
			w.pop.Hook = func(_ int, cmd string) maildroptest.Action {
				if cmd == "RETR 4" && w.pop.Remove("jane", "u003") {
					w.source[canonOf([]byte("Message-ID: <3@x>\r\nSubject: 3\r\n\r\nbody 3\r\n"))]--
				}
				return maildroptest.Action{}
			}
		}, passes: []then{
			{report: "8 new, 8 delivered, 1 failed, 8 deleted, 1 left", why: "expunged"},
			{report: ""},
		}},
	})
}

// One server that hangs holds up nobody else.
func TestFaults_others(t *testing.T) {
	w := newWorld(t)
	w.fill(3)
	hung, release := make(chan struct{}), make(chan struct{})
	w.pop.Hook = on("RETR 2", maildroptest.Action{Then: func() { close(hung); <-release }})
	w.start()
	other := newWorld(t).start()
	other.fill(3)
	st := w.open()
	defer st.Close()
	f := w.fetcher(st)
	done := make(chan error)
	go func() {
		_, err := f.Pass(context.Background(), w.job, w.account)
		done <- err
	}()
	<-hung
	if r, err := f.Pass(context.Background(), w.job, other.account); err != nil || r.Delivered != 3 {
		t.Errorf("row 120: %v, %+v", err, r)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A server that ends lines with LF alone is refused, or understood if that is
// wanted.
func TestFaults_lineFeeds(t *testing.T) {
	mail := []string{"Message-ID: <1@x>\nSubject: 1\n\n..a\n", "Subject: 2\n\nb\n"}
	replies := map[string]string{
		"GREETING": "+OK hello\n", "CAPA": "+OK\nUSER\nUIDL\nTOP\n.\n", "USER jane": "+OK\n", "PASS secret": "+OK\n",
		"STAT": "+OK 2 50\n", "LIST": "+OK\n1 35\n2 15\n.\n", "UIDL": "+OK\n1 a\n2 b\n.\n",
		"RETR 1": "+OK\n" + mail[0] + ".\n", "RETR 2": "+OK\n" + mail[1] + ".\n", "QUIT": "+OK\n",
	}
	w := newWorld(t)
	w.pop.SASL = []string{}
	w.pop.Hook = func(_ int, cmd string) maildroptest.Action {
		a := maildroptest.Action{Reply: replies[cmd]}
		if cmd == "QUIT" {
			a.Cut, a.At = maildroptest.FIN, -1
		}
		return a
	}
	w.start()
	w.source[canonOf([]byte("Message-ID: <1@x>\r\nSubject: 1\r\n\r\n.a\r\n"))]++
	w.source[canonOf([]byte("Subject: 2\r\n\r\nb\r\n"))]++
	w.expect("row 55", then{report: "botched"})
	w.account.Maildrop.AllowLF, w.account.Maildrop.Auth = true, "user"
	w.expect("row 55, allow_lf", then{report: "2 new, 2 delivered, 2 left"})
	w.exactlyOnce()
	w.expect("row 55, again", then{report: "2 left"})
}
