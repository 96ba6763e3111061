package smtp

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// sent is what goes over the wire of a message, up to and with its end.
func sent(t testing.TB, raw string, chunk int) (string, survey) {
	t.Helper()
	m := targetstest.Message(raw)
	s, err := surveyOf(m, make([]byte, chunk))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeBody(&b, m, make([]byte, chunk)); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\r\n.\r\n")
	return b.String(), s
}

func TestWriteBody(t *testing.T) {
	for _, row := range []struct {
		raw, want string // want without the end
		clean     bool
	}{
		{"a\r\nb\r\n", "a\r\nb", true},
		{"a\r\nb", "a\r\nb", true},
		{"\r\n", "", true},
		{"\r\n\r\n", "\r\n", true},
		{".\r\n", "..", true},
		{".a\r\n..b\r\nc.\r\n", "..a\r\n...b\r\nc.", true},
		{"a\nb\n", "a\r\nb", false},
		{"a\n.\nb\n", "a\r\n..\r\nb", false},
		{"a\n.\r\nb\r\n", "a\r\n..\r\nb", false},
		{"a\r.\r\nb\r\n", "a .\r\nb", false},
		{"a\r\n.\rb\r\n", "a\r\n.. b", false},
		{"a\r\n.\r", "a\r\n..", false},
		{"a\r\r\nb\r\n", "a\r\nb", false},
		{"\r\r\n", "", false},
		{"a\x00\r\n\x00.\r\n", "a\x80\r\n\x80.", false},
		{"a\r\x00\nb", "a \x80\r\nb", false},
		{"\n\n\n", "\r\n\r\n", false},
		{"\r", "", false},
		{"a\r", "a", false},
		{"a\r\n\r", "a\r\n", false},
		{"a\n\r\r", "a\r\n", false},
	} {
		for chunk := 1; chunk <= 8; chunk++ {
			got, s := sent(t, row.raw, chunk)
			if got != row.want+"\r\n.\r\n" || s.clean() != row.clean {
				t.Errorf("%q, %d at a time: %q (%+v), want %q", row.raw, chunk, got, s, row.want)
			}
		}
	}
}

// smuggled are messages that some receivers end too early, with commands behind
// (VU#302671, faults row 100).
func smuggled() (list []string) {
	const evil = "MAIL FROM:<evil@x.example>\r\nRCPT TO:<jane@home.example>\r\nDATA\r\nSubject: forged\r\n\r\nforged\r\n.\r\n"
	for _, end := range []string{
		"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\r.\r", "\n.\r", "\r.\n",
		"\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\x00\n.\r\n", "\x00\n.\n", "\r\r\n.\r\r\n", "\n\n.\r\n", "\r\n\r.\r\n", "\n\r.\r\n",
		"\r\n.\r\n", "\x0b.\x0b", "\u2028.\u2028", "\u0085.\u0085",
	} {
		list = append(list, "Subject: x\r\n\r\nbefore"+end+evil+"after\r\n")
	}
	return list
}

// TestDeliver_smuggling: whatever a receiver takes for a line end, it sees exactly
// one message, and all receivers see the same one.
func TestDeliver_smuggling(t *testing.T) {
	for _, l := range []targetstest.Lenience{{}, {LF: true}, {CR: true}, {LF: true, CR: true}, {NUL: true}, {LF: true, CR: true, NUL: true}} {
		t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) {
			s := &targetstest.SMTP{Lenient: l}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tg := openTest(t, s)
			for i, raw := range smuggled() {
				if _, err := tg.Deliver(t.Context(), targetstest.Message(raw), targets.Dest{}); err != nil {
					t.Errorf("%q: %v", raw, err)
				}
				got := s.Messages()
				if len(got) != i+1 {
					t.Fatalf("%q: %d messages instead of one", raw, len(got)-i)
				}
				want, _ := sent(t, raw, chunk)
				if body := got[i].Body; !bytes.HasSuffix(body, []byte("after\r\n")) || bytes.ContainsAny(body, "\x00") ||
					strings.Count(string(body), "\r") != strings.Count(string(body), "\r\n") || !strings.Contains(stuffed(body), want) {
					t.Errorf("%q arrives as %q", raw, body)
				}
			}
		})
	}
}

// stuffed is what a body looked like on the wire.
func stuffed(body []byte) string {
	return strings.ReplaceAll(string(body), "\r\n.", "\r\n..") + ".\r\n"
}

// FuzzWriteBody: what is sent has one end, is as large as was said, and is the
// message, but for what a message must not have.
func FuzzWriteBody(f *testing.F) {
	for _, s := range append(smuggled(), "", "\r\n", "a\r\nb", ".", "..", "\r\n.\r\n", "a\r\r\r\nb\x00", "a\r\n\r") {
		f.Add(s, 7)
	}
	f.Fuzz(func(t *testing.T, raw string, size int) {
		if raw == "" || len(raw) > 1<<16 {
			return
		}
		wire, s := sent(t, raw, 1+max(size, -size)%64)
		whole, s2 := sent(t, raw, chunk)
		if wire != whole || s != s2 {
			t.Fatalf("%q depends on how it is read: %q, %q", raw, wire, whole)
		}
		text, ok := strings.CutSuffix(wire, "\r\n.\r\n")
		text = "\r\n" + text + "\r\n"
		if !ok || strings.Contains(text, "\r\n.\r\n") || strings.Contains(text, "\x00") ||
			strings.Count(text, "\r") != strings.Count(text, "\r\n") || strings.Count(text, "\n") != strings.Count(text, "\r\n") {
			t.Fatalf("%q is sent as %q", raw, wire)
		}
		got := strings.ReplaceAll(text, "\r\n.", "\r\n")[2:]
		if int64(len(got)) != s.size {
			t.Fatalf("%q: %d octets, and %d were said", raw, len(got), s.size)
		}
		if s.eightBit != slices.ContainsFunc([]byte(got), func(b byte) bool { return b >= 0x80 }) {
			t.Fatalf("%q: 8-bit %v", raw, s.eightBit)
		}
		h, _, _ := targets.CanonOf(strings.NewReader(raw))
		h2, _, _ := targets.CanonOf(strings.NewReader(got))
		if s.crs == 0 && h != h2 {
			t.Fatalf("%q arrives as %q", raw, got)
		}
		if s.clean() && got != raw && got != raw+"\r\n" {
			t.Fatalf("%q is clean, and arrives as %q", raw, got)
		}
	})
}

// FuzzReply: any octets make a reply or an error, and no reply shows anything that
// a terminal obeys.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 2.0.0 ok", "250-a", "250", "25", "550 5.1.1 \x1b[2J", "354 ", "999 x", "250\tx", "-50 x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		code, text, _, ok := parseLine(line)
		if !ok {
			return
		}
		r := reply{code: code}
		r.add(text)
		if s := r.String(); code < 200 || code > 599 || strings.ContainsAny(s, "\x00\x1b\r\n\u2028") {
			t.Fatalf("%q is %q", line, s)
		}
	})
}

func FuzzCheckAddress(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@c.example`, "a> SIZE=1", "a@[192.0.2.1]", "ü@ü.example", "a@b\r\nDATA", `"\`, `"a\""@b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckAddress(s) != nil {
			return
		}
		_, domain, _ := strings.Cut(s[strings.LastIndexByte(s, '@'):], "@")
		if strings.ContainsAny(s, "<>\r\n\x00\t\x7f\u2028\u0085") || strings.Contains(domain, " ") || !strings.HasPrefix(s, `"`) && strings.Contains(s, " ") {
			t.Fatalf("%q passes for an address", s)
		}
	})
}

func TestReply_fault(t *testing.T) {
	for _, row := range []struct {
		reply string
		at    stage
		want  targets.Fault
	}{
		{"421 4.3.2 x", atEnd, targets.Down},
		{"451 4.3.0 x", atMail, targets.Down},
		{"451 4.3.0 x", atRcpt, targets.Transient},
		{"451 4.3.0 x", atData, targets.Transient},
		{"451 4.3.0 x", atEnd, targets.Transient},
		{"452 4.3.1 x", atRcpt, targets.Down},
		{"452 4.2.2 x", atRcpt, targets.Transient},
		{"450 x", atRcpt, targets.Transient},
		{"550 5.1.1 x", atRcpt, targets.Refused},
		{"552 5.2.2 x", atEnd, targets.Refused},
		{"552 5.3.4 x", atMail, targets.Refused},
		{"554 5.3.2 x", atRcpt, targets.Down},
		{"554 x", atMail, targets.Refused},
		{"530 5.7.0 x", atMail, targets.Down},
		{"535 x", atMail, targets.Down},
	} {
		code, text, _, ok := parseLine(row.reply)
		r := reply{code: code}
		r.add(text)
		if got := r.fault(row.at); !ok || got != row.want {
			t.Errorf("%q at stage %d: %v, want %v", row.reply, row.at, got, row.want)
		}
		if r.String() != row.reply {
			t.Errorf("%q is shown as %q", row.reply, r)
		}
	}
}

func TestHeloName(t *testing.T) {
	for _, row := range [][4]string{
		{"a.example", "host.example", "192.0.2.1", "a.example"},
		{"", "host.example", "192.0.2.1", "host.example"},
		{"", "host", "192.0.2.1", "[192.0.2.1]"},
		{"", "a b.example", "192.0.2.1", "[192.0.2.1]"},
		{"", "", "2001:db8::1", "[IPv6:2001:db8::1]"},
	} {
		if got := heloName(row[0], row[1], row[2]); got != row[3] {
			t.Errorf("heloName(%q) = %q", row[:3], got)
		}
	}
}

func BenchmarkWriteBody(b *testing.B) {
	raw := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1<<14)
	m := targetstest.Message(raw)
	buf := make([]byte, chunk)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := surveyOf(m, buf); err != nil {
			b.Fatal(err)
		}
		if err := writeBody(io.Discard, m, buf); err != nil {
			b.Fatal(err)
		}
	}
}
