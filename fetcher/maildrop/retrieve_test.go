package maildrop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
)

// hookOn does one thing at one command of the first session.
func hookOn(cmd string, a maildroptest.Action) func(int, string) maildroptest.Action {
	return func(session int, c string) maildroptest.Action {
		if session == 1 && c == cmd {
			return a
		}
		return maildroptest.Action{}
	}
}

// A refused message is that message's trouble alone.
func TestRetrieve_refused(t *testing.T) {
	for _, tt := range []struct {
		reply string
		code  Code
		temp  bool
	}{
		{"-ERR message 2 expunged", NoCode, false},
		{"-ERR [SYS/TEMP] later", SysTemp, true},
		{"-ERR [SYS/PERM] never", SysPerm, false},
		{"-ERR", NoCode, false},
	} {
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = hookOn("RETR 2", maildroptest.Action{Reply: tt.reply + "\r\n"})
		})
		fill(s, 3)
		c := dial(t, s)
		all := fetchAll(t.Context(), c, listAll(t, c).Entries)
		if len(all) != 3 || all[0].err != nil || all[2].err != nil || all[2].num != 3 {
			t.Fatalf("%q: %+v", tt.reply, all)
		}
		e := asError(t, all[1].err)
		if e.Kind != Refused || e.Code != tt.code || !Usable(e) || Temporary(e) != tt.temp || e.Op != "RETR 2" || e.Reply != tt.reply {
			t.Errorf("%q: %+v", tt.reply, e)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Wherever a connection breaks, what came before is whole, what breaks off is
// an error and never a shorter message, and nothing follows.
func TestRetrieve_lost(t *testing.T) {
	whole := len("+OK 23 octets\r\nSubject: 4\r\n\r\nbody 4\r\n.\r\n")
	for _, how := range []maildroptest.Cut{maildroptest.FIN, maildroptest.RST, maildroptest.Stall} {
		for at := 0; at < whole; at += 3 {
			s := start(t, func(s *maildroptest.Server) {
				s.Hook = hookOn("RETR 4", maildroptest.Action{Cut: how, At: at})
			})
			fill(s, 6)
			cfg := config(t, s)
			cfg.Timeout = 80 * time.Millisecond
			c, err := Dial(t.Context(), cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			all := fetchAll(t.Context(), c, listAll(t, c).Entries)
			c.Close()
			if how == maildroptest.RST && len(all) < 4 {
				continue // a reset takes back what was on its way
			}
			if len(all) != 4 {
				t.Fatalf("cut %d at %d: %d messages", how, at, len(all))
			}
			for i, g := range all[:3] {
				if g.err != nil || g.num != i+1 {
					t.Errorf("cut %d at %d: %+v", how, at, g)
				}
			}
			e := asError(t, all[3].err)
			if e.Kind != Lost || Usable(e) || !Temporary(e) || e.Op != "RETR 4" {
				t.Errorf("cut %d at %d: %v", how, at, e)
			}
			if how == maildroptest.FIN && !errors.Is(e, io.ErrUnexpectedEOF) || errors.Is(e, io.EOF) {
				t.Errorf("cut %d at %d: %v", how, at, e)
			}
			if how == maildroptest.Stall && !strings.Contains(e.Error(), "no progress for 80ms") {
				t.Errorf("stall at %d: %v", at, e)
			}
		}
	}
}

// A mail that forges the end of itself and a reply behind it stays one mail.
func TestRetrieve_forged(t *testing.T) {
	forged := "Subject: a\r\n\r\nx\n.\n+OK 5 octets\nSubject: forged\r\n\n.\r\n+OK\r\n.\r\r\n"
	s := start(t, nil)
	s.Add(testUser, "1", []byte(forged))
	s.Add(testUser, "2", []byte("second\r\n"))
	c := dial(t, s)
	all := fetchAll(t.Context(), c, listAll(t, c).Entries)
	if len(all) != 2 || all[0].body != forged || all[1].body != "second\r\n" || all[0].err != nil || all[1].err != nil {
		t.Errorf("%+v", all)
	}
}

// A server that does not stuff dots cuts its own mail short. The rest must not
// be read as mail.
func TestRetrieve_unstuffed(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = hookOn("RETR 1", maildroptest.Action{Reply: "+OK\r\na\r\n.\r\nthe rest\r\n.\r\n"})
	})
	fill(s, 3)
	c := dial(t, s)
	all := fetchAll(t.Context(), c, listAll(t, c).Entries)
	if len(all) != 2 || all[0].err != nil || asError(t, all[1].err).Kind != Botched {
		t.Errorf("%+v", all)
	}
}

// Nor must the empty mail that is left when the dot comes first.
func TestRetrieve_unstuffedFirst(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = hookOn("RETR 2", maildroptest.Action{Reply: "+OK\r\n.\r\nthe rest\r\n.\r\n"})
	})
	fill(s, 3)
	s.Add(testUser, "empty", nil)
	c := dial(t, s)
	all := fetchAll(t.Context(), c, listAll(t, c).Entries)
	if len(all) != 2 || all[0].err != nil || asError(t, all[1].err).Kind != Botched || all[1].body != "" {
		t.Errorf("%+v", all)
	}
	c = dial(t, s)
	if all = fetchAll(t.Context(), c, listAll(t, c).Entries[3:]); len(all) != 1 || all[0].err != nil || all[0].body != "" {
		t.Errorf("an empty mail: %+v", all)
	}
}

// What has no end is cut off, and costs no memory.
func TestRetrieve_ceiling(t *testing.T) {
	for name, text := range map[string]string{"lines": strings.Repeat("x", 70) + "\r\n", "one line": strings.Repeat("x", 70)} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) {
				s.Hook = hookOn("RETR 1", maildroptest.Action{Reply: "+OK\r\n", Stream: endless(text)})
			})
			fill(s, 2)
			c := dial(t, s)
			l := listAll(t, c)
			c.Ceiling = 20 << 20
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n := 0
			for in := range c.Retrieve(t.Context(), slices.Values(l.Entries)) {
				if n++; in.Err != nil {
					t.Fatal(in.Err)
				}
				k, err := io.Copy(io.Discard, in.Body)
				if e := asError(t, err); e.Kind != TooLarge || Usable(err) || Temporary(err) || e.Op != "RETR 1" {
					t.Error(err)
				}
				if k > c.Ceiling {
					t.Errorf("%d octets came through", k)
				}
			}
			runtime.ReadMemStats(&after)
			if n != 1 {
				t.Errorf("%d messages", n)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 { // the server's part is in it
				t.Errorf("%d octets allocated", used)
			}
		})
	}
}

// Bodies are given out in small and large reads alike, and a body left half read
// does not disturb the next.
func TestRetrieve_partly(t *testing.T) {
	s := start(t, nil)
	for i := range 9 {
		s.Add(testUser, fmt.Sprint(i), bytes.Repeat(fmt.Appendf(nil, "%d.\r\n.\r\n", i), 20_000))
	}
	c := dial(t, s)
	l := listAll(t, c)
	var old io.Reader
	for in := range c.Retrieve(t.Context(), slices.Values(l.Entries)) {
		if old != nil {
			if n, err := old.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errOver) {
				t.Errorf("body of an earlier message: %d, %v", n, err)
			}
		}
		old = in.Body
		want := bytes.Repeat(fmt.Appendf(nil, "%d.\r\n.\r\n", in.Num-1), 20_000)
		var got []byte
		var err error
		switch in.Num % 3 {
		case 0:
			got = make([]byte, 1000)
			_, err = io.ReadFull(in.Body, got)
			want = want[:1000]
		case 1:
			var b bytes.Buffer
			var head [7]byte
			_, err = io.ReadFull(in.Body, head[:])
			b.Write(head[:])
			if err == nil {
				_, err = io.Copy(&b, in.Body)
			}
			got = b.Bytes()
		default:
			got, err = io.ReadAll(in.Body)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("message %d: %d octets, %v", in.Num, len(got), err)
		}
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTop_capped(t *testing.T) {
	header := bytes.Repeat([]byte("X: y\r\n"), 100_000)
	s := start(t, nil)
	s.Add(testUser, "1", header)
	s.Add(testUser, "2", []byte("A: b\r\n\r\nbody\r\n"))
	c := dial(t, s)
	var bodies []string
	for in := range c.Top(t.Context(), slices.Values(listAll(t, c).Entries)) {
		b, err := io.ReadAll(in.Body)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(b))
	}
	if len(bodies) != 2 || bodies[0] != string(header[:256<<10]) || bodies[1] != "A: b\r\n\r\n" {
		t.Errorf("%d headers of %d and more octets", len(bodies), len(bodies[0]))
	}
}

func TestTopLines(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) { s.Consumes = true })
	header := strings.Repeat("X: y\r\n", 100_000) // more than Top gives out
	s.Add(testUser, "1", []byte(header+"\r\none\r\n.two\r\nthree\r\n"))
	s.Add(testUser, "2", []byte("A: b\r\n\r\nbody\r\n"))
	c := dial(t, s)
	for lines, want := range map[int][]string{0: {"", ""}, 2: {"one\r\n.two\r\n", "body\r\n"}, 500: {"one\r\n.two\r\nthree\r\n", "body\r\n"}} {
		n := 0
		for in := range c.TopLines(t.Context(), slices.Values(listAll(t, c).Entries), lines) {
			b, err := io.ReadAll(in.Body)
			if _, body, _ := strings.Cut(string(b), "\r\n\r\n"); in.Err != nil || err != nil || body != want[n] {
				t.Errorf("%d lines of message %d: %q, %v, %v", lines, n+1, body, in.Err, err)
			}
			n++
		}
		if n != len(want) {
			t.Errorf("%d messages", n)
		}
	}
	if got := len(listAll(t, c).Entries); got != 2 {
		t.Errorf("%d messages are left", got)
	}
}

func TestAllowLF(t *testing.T) {
	lines := map[string]string{
		"GREETING": "+OK hi\n", "CAPA": "-ERR what\n", "USER " + testUser: "+OK\n", "PASS " + testPassword: "+OK\n",
		"STAT": "+OK 1 9\n", "LIST": "+OK\n1 9\n.\n", "UIDL": "+OK\n1 a\n.\n", "RETR 1": "+OK\nSubject: a\n\n..b\n.\n", "QUIT": "+OK\n",
	}
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = func(_ int, cmd string) maildroptest.Action { return maildroptest.Action{Reply: lines[cmd]} }
	})
	cfg := config(t, s)
	cfg.AllowLF, cfg.Auth = true, "auto"
	c, err := Dial(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := fetchAll(t.Context(), c, listAll(t, c).Entries)
	if len(all) != 1 || all[0].body != "Subject: a\r\n\r\n.b\r\n" || all[0].err != nil {
		t.Errorf("%+v", all)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
}

// Less than 1 KiB a second for ten minutes is not worth waiting for, although
// there is progress all the time.
func TestTooSlow(t *testing.T) {
	s := start(t, nil)
	c := dial(t, s)
	if err := c.send(t.Context(), "CAPA"); err != nil {
		t.Fatal(err)
	}
	c.lc.waited, c.lc.octets = slowGrace+time.Minute, 30*slowRate
	if _, err := (network{c.lc}).Read(make([]byte, 1)); !errors.Is(err, errTooSlow) {
		t.Errorf("30 KiB in 11 minutes: %v", err)
	}
	c.lc.waited, c.lc.octets = slowGrace+time.Minute, 70*slowRate
	if _, err := (network{c.lc}).Read(make([]byte, 1)); err != nil {
		t.Errorf("70 KiB in 11 minutes: %v", err)
	}
}
