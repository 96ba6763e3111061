package maildrop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"popferry/fetcher/maildrop/maildroptest"
)

// replies is a server that answers some commands word for word.
func replies(t *testing.T, to map[string]string) *Conn {
	t.Helper()
	return dial(t, start(t, func(s *maildroptest.Server) {
		s.Hook = func(_ int, cmd string) maildroptest.Action { return maildroptest.Action{Reply: to[cmd]} }
	}))
}

func multi(lines ...string) string {
	return "+OK\r\n" + strings.Join(append(lines, "."), "\r\n") + "\r\n"
}

func TestList(t *testing.T) {
	long := strings.Repeat("u", 600)
	for _, tt := range []struct {
		name             string
		stat, list, uidl string
		want             []Entry
		complete         bool
		warnings         []string
	}{
		{
			name: "in order", stat: "+OK 2 30", list: multi("1 10", "2 20"), uidl: multi("1 a", "2 b"),
			want: []Entry{{1, "a", 10}, {2, "b", 20}}, complete: true,
		},
		{name: "empty", stat: "+OK 0 0", list: multi(), uidl: multi(), complete: true},
		{name: "empty, with -ERR for lists", stat: "+OK 0 0", list: "-ERR no messages\r\n", uidl: "-ERR no messages\r\n", complete: true},
		{
			name: "an empty id does not end the list", stat: "+OK 3 6", list: multi("1 1", "2 2", "3 3"), uidl: multi("1 aaa", "2 ", "3 ccc"),
			want:     []Entry{{1, "aaa", 1}, {2, "", 2}, {3, "ccc", 3}},
			warnings: []string{"UIDL gives 1 messages no id"},
		},
		{
			name: "no blank and no id", stat: "+OK 2 3", list: multi("1 1", "2 2"), uidl: multi("1", "2 b"),
			want:     []Entry{{1, "", 1}, {2, "b", 2}},
			warnings: []string{"UIDL gives 1 messages no id"},
		},
		{
			name: "STAT 5, LIST 4, UIDL 6", stat: "+OK 5 9", list: multi("1 1", "2 2", "4 4", "5 5"),
			uidl: multi("1 a", "2 b", "3 c", "4 d", "5 e", "6 f"),
			want: []Entry{{1, "a", 1}, {2, "b", 2}, {4, "d", 4}, {5, "e", 5}},
			warnings: []string{
				"STAT says 5 messages, LIST has 4", "UIDL has 2 lines for messages that LIST does not have",
			},
		},
		{
			name: "LIST above STAT", stat: "+OK 1 1", list: multi("1 1", "2 2"), uidl: multi("1 a", "2 b"),
			want: []Entry{{1, "a", 1}},
			warnings: []string{
				"LIST has 1 message numbers that STAT does not allow", "UIDL has 1 lines for messages that LIST does not have",
			},
		},
		{
			name: "UIDL leaves one out", stat: "+OK 2 3", list: multi("1 1", "2 2"), uidl: multi("2 b"),
			want: []Entry{{2, "b", 2}}, warnings: []string{"UIDL leaves out 1 messages that LIST has; they are left alone"},
		},
		{
			name: "any order, and spaces", stat: "+OK 3 6", list: multi("3   30", "1\t10", "  2 20 extra"), uidl: multi("2   b", "3\tc", "1 a"),
			want: []Entry{{1, "a", 10}, {2, "b", 20}, {3, "c", 30}}, complete: true,
		},
		{
			name: "sizes that are none", stat: "+OK 6 1", list: multi("1 1", "2 4294967297", "3 -1", "4 text", "5", "6 99999999999999999999"),
			uidl: multi("1 a", "2 b", "3 c", "4 d", "5 e", "6 f"), complete: true,
			want:     []Entry{{1, "a", 1}, {2, "b", 4294967297}, {3, "c", 0}, {4, "d", 0}, {5, "e", 0}, {6, "f", 0}},
			warnings: []string{"LIST gives 4 sizes that are no sizes"},
		},
		{
			name: "numbers that are none", stat: "+OK 2 1", list: multi("1 1", "x 2", "-2 2", "0 0", "", "2 2"), uidl: multi("1 a", "y b", "2 b"),
			want: []Entry{{1, "a", 1}, {2, "b", 2}},
			warnings: []string{
				"LIST has 3 lines without a message number", "LIST has 1 message numbers that STAT does not allow",
				"UIDL has 1 lines for messages that LIST does not have",
			},
		},
		{
			name: "named twice", stat: "+OK 2 1", list: multi("1 1", "2 2", "1 9"), uidl: multi("1 a", "2 b", "1 a"),
			want: []Entry{{1, "a", 1}, {2, "b", 2}}, complete: true, warnings: []string{"LIST names 1 messages twice"},
		},
		{
			name: "two ids for one message", stat: "+OK 2 1", list: multi("1 1", "2 2"), uidl: multi("1 a", "2 b", "1 c"),
			want: []Entry{{2, "b", 2}}, warnings: []string{"UIDL gives 1 messages two different ids; they are left alone"},
		},
		{
			name: "one id for two messages", stat: "+OK 2 1", list: multi("1 1", "2 2"), uidl: multi("1 a", "2 a"),
			want: []Entry{{1, "a", 1}, {2, "a", 2}}, complete: true,
		},
		{
			name: "ids as no RFC allows", stat: "+OK 5 1", list: multi("1 1", "2 2", "3 3", "4 4", "5 5"),
			uidl:     multi("1 ../x", "2 a b#", "3 \xff\x00", "4 "+long[:71], "5 "+long),
			complete: true,
			want:     []Entry{{1, "../x", 1}, {2, "a b#", 2}, {3, "\xff\x00", 3}, {4, long[:71], 4}, {5, long[:512], 5}},
			warnings: []string{
				"UIDL gives 3 messages ids that RFC 1939 does not allow",
				"UIDL gives 1 messages ids of more than 512 octets; the rest is cut off",
			},
		},
		{
			name: "dots", stat: "+OK 2 1", list: multi("1 1", "2 2"), uidl: multi("1 .", "..2 b", "2 .b"),
			want: []Entry{{1, ".", 1}, {2, ".b", 2}}, warnings: []string{"UIDL has 1 lines for messages that LIST does not have"},
		},
		{
			name: "a lone LF is no line end that ends a list", stat: "+OK 2 1", list: "+OK\r\n1 1\r\n.\n2 2\r\n.\r\n", uidl: multi("1 a", "2 b"),
			want: []Entry{{1, "a", 1}, {2, "b", 2}}, warnings: []string{"LIST has 1 lines without a message number"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := replies(t, map[string]string{"STAT": tt.stat + "\r\n", "LIST": tt.list, "UIDL": tt.uidl})
			l, err := c.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(l.Entries, tt.want) {
				t.Errorf("entries %+v, want %+v", l.Entries, tt.want)
			}
			if l.Complete != tt.complete {
				t.Errorf("complete %t", l.Complete)
			}
			if !slices.Equal(l.Warnings, tt.warnings) {
				t.Errorf("warnings %q, want %q", l.Warnings, tt.warnings)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Errorf("the session is out of step: %v", err)
			}
		})
	}
}

// -ERR to one of the commands leaves the session in step, and what it means
// depends on the command.
func TestList_refused(t *testing.T) {
	for _, tt := range []struct {
		name string
		caps []string
		to   map[string]string
		want string // of the error; "" is a listing without ids
	}{
		{"no UIDL", []string{"TOP", "PIPELINING"}, nil, ""},
		{"no UIDL, no pipelining", []string{"TOP"}, nil, ""},
		{"UIDL has trouble", nil, map[string]string{"UIDL": "-ERR [SYS/TEMP] index locked\r\n"}, "UIDL: -ERR [SYS/TEMP] index locked"},
		{"UIDL is announced", nil, map[string]string{"UIDL": "-ERR no\r\n"}, "UIDL: -ERR no"},
		{"UIDL is not announced and has trouble", []string{"TOP"}, map[string]string{"UIDL": "-ERR [SYS/TEMP] no\r\n"}, "UIDL: -ERR [SYS/TEMP] no"},
		{"STAT", nil, map[string]string{"STAT": "-ERR no\r\n"}, "STAT: -ERR no"},
		{"LIST", nil, map[string]string{"LIST": "-ERR no\r\n"}, "LIST: -ERR no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) {
				s.Caps = tt.caps
				s.Hook = func(_ int, cmd string) maildroptest.Action { return maildroptest.Action{Reply: tt.to[cmd]} }
			})
			fill(s, 2)
			c := dial(t, s)
			l, err := c.List(t.Context())
			if tt.want == "" {
				if err != nil || !l.NoUIDL || len(l.Entries) != 2 || l.Entries[1].UIDL != "" || !l.Complete {
					t.Errorf("%+v, %v", l, err)
				}
			} else if asError(t, err).Kind != Refused || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Errorf("the session is out of step: %v", err)
			}
		})
	}
}

// endless gives the same octets for ever.
type endless string

func (e endless) Read(p []byte) (int, error) { return copy(p, e), nil }

func TestList_endless(t *testing.T) {
	for _, tt := range []struct{ cmd, line, want string }{
		{"LIST", strings.Repeat("1", 1000), "LIST: not a POP3 reply: a line of more than 65536 octets"},
		{"UIDL", strings.Repeat("x", 1000), "UIDL: not a POP3 reply: a line of more than 65536 octets"},
		{"UIDL", strings.Repeat("x\r\n", 10_000), "UIDL: not a POP3 reply: more than 2000000 lines"},
	} {
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if cmd == tt.cmd {
					a.Reply, a.Stream = "+OK\r\n", endless(tt.line)
				}
				return a
			}
		})
		fill(s, 1)
		_, err := dial(t, s).List(t.Context())
		if asError(t, err).Kind != Botched || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
			if cmd == "CAPA" {
				a.Reply, a.Stream = "+OK\r\n", endless("X-Y\r\n")
			}
			return a
		}
	})
	_, err := Dial(t.Context(), config(t, s), nil)
	if asError(t, err).Error() != "CAPA: not a POP3 reply: more than 256 lines" {
		t.Error(err)
	}
}

// Only what all three replies agree on may be in a listing, whatever they say.
func FuzzList(f *testing.F) {
	f.Add(3, []byte("1 10\r\n2 20\r\n3 30\r\n"), []byte("1 aaa\r\n2 \r\n3 ccc\r\n"))
	f.Add(1, []byte("1 1\r\n1 2\r\n2 1"), []byte("1 a\r\n1 b\r\n1 a\r\n"))
	f.Add(5, []byte("5 -1\r\n4 x\r\n\r\n 3 9"), []byte("9 a\r\n3 \x00"))
	f.Fuzz(func(t *testing.T, messages int, list, uidl []byte) {
		b := &listing{}
		b.l.Messages = max(messages, 0)
		for line := range bytes.SplitSeq(list, []byte("\r\n")) {
			b.addSize(line)
		}
		b.sortByNum()
		b.known = make([]bool, len(b.l.Entries))
		for line := range bytes.SplitSeq(uidl, []byte("\r\n")) {
			b.addUIDL(line)
		}
		l := b.result()
		last := 0
		for _, e := range l.Entries {
			if e.Num <= last || e.Num > l.Messages || e.Size < 0 || len(e.UIDL) > maxUIDL {
				t.Fatalf("entry %+v after %d of %d", e, last, l.Messages)
			}
			last = e.Num
			if want := []byte(fmt.Sprint(e.Num)); !bytes.Contains(list, want) || !bytes.Contains(uidl, want) {
				t.Fatalf("entry %+v comes from nowhere", e)
			}
		}
		if l.Complete && len(l.Entries) != l.Messages {
			t.Fatalf("%d of %d pass for complete", len(l.Entries), l.Messages)
		}
		if !l.Complete && len(l.Warnings) == 0 {
			t.Fatal("incomplete, and nobody is told")
		}
	})
}

// The listing is all that grows with a maildrop.
func TestList_memory(t *testing.T) {
	const n = 100_000
	b := &listing{}
	b.l.Messages = n
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		b.addSize(fmt.Appendf(nil, "%d %d", i+1, i))
	}
	b.sortByNum()
	b.known = make([]bool, n)
	for _, i := range order {
		b.addUIDL(fmt.Appendf(nil, "%d %08x6543210f", i+1, i))
	}
	l := b.result()
	b = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(l.Entries) != n || !l.Complete {
		t.Fatalf("%d entries, %q", len(l.Entries), l.Warnings)
	}
	if per := float64(after.HeapAlloc-before.HeapAlloc) / n; per > 110 {
		t.Errorf("%.0f octets an entry", per)
	}
	runtime.KeepAlive(l)
}

func BenchmarkList(b *testing.B) {
	for b.Loop() {
		l := &listing{}
		l.l.Messages = 5000
		for i := range 5000 {
			l.addSize(fmt.Appendf(nil, "%d 8192", i+1))
		}
		l.sortByNum()
		l.known = make([]bool, 5000)
		for i := range 5000 {
			l.addUIDL(fmt.Appendf(nil, "%d 00000001%08x", i+1, i))
		}
		l.result()
	}
}
