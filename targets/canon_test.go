package targets

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// canonSlowly is the definition of the canonical form, word for word.
func canonSlowly(b []byte) []byte {
	b = regexp.MustCompile(`\r*\n`).ReplaceAll(b, []byte("\r\n"))
	b = bytes.ReplaceAll(b, []byte{0}, []byte{0x80})
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(bytes.TrimRight(b, "\r"), "\r\n"...)
	}
	return b
}

func TestCanon_sameMessage(t *testing.T) {
	for _, c := range []struct{ name, a, b string }{
		{"LF and CRLF", "a: b\n\nx\n", "a: b\r\n\r\nx\r\n"},
		{"CRCRLF", "x\r\r\ny\r\r\r\n", "x\r\ny\r\n"},
		{"NUL and 0x80", "x\x00y\r\n", "x\x80y\r\n"},
		{"no final newline", "x", "x\r\n"},
		{"empty", "", "\r\n"},
		{"CRs at the end", "x\r\r", "x\r\n"},
		{"nothing but a CR", "\r", "\r\n"},
		{"CR then NUL", "x\r\x00\n", "x\r\x80\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ha, na, _ := CanonOf(strings.NewReader(c.a))
			hb, nb, _ := CanonOf(strings.NewReader(c.b))
			if ha != hb || na != nb {
				t.Errorf("%q and %q: %s (%d) and %s (%d)", c.a, c.b, ha, na, hb, nb)
			}
		})
	}
}

func TestCanon_differentMessage(t *testing.T) {
	for _, c := range []struct{ name, a, b string }{
		{"bare CR is no line end", "a\rb\r\n", "a\r\nb\r\n"},
		{"a blank last line counts", "a\r\n", "a\r\n\r\n"},
		{"CR before text", "a\r\rb\n", "a\rb\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ha, _, _ := CanonOf(strings.NewReader(c.a))
			hb, _, _ := CanonOf(strings.NewReader(c.b))
			if ha == hb {
				t.Errorf("%q and %q pass for the same message", c.a, c.b)
			}
		})
	}
}

// However the octets arrive, and whatever was summed before, the sum is that of
// the definition.
func TestCanon_anyChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]byte("\r\r\n\n\x00\x80ab"))
		msg := rapid.SliceOfN(alphabet, 0, 300).Draw(t, "message")
		if rapid.Bool().Draw(t, "long") {
			msg = append(msg, bytes.Repeat([]byte("0123456789\r\n"), 1000)...)
		}
		var c Canon
		c.Write(msg[:len(msg)/2])
		c.Sum()
		for rest := msg; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			c.Write(rest[:n])
			rest = rest[n:]
		}
		got, size := c.Sum()
		want := canonSlowly(msg)
		if got != Hash(sha256.Sum256(want)) || size != int64(len(want)) {
			t.Fatalf("canonical form of %q is not %q", msg, want)
		}
		again, _, _ := CanonOf(bytes.NewReader(want))
		if again != got {
			t.Fatalf("the canonical form of %q is not its own canonical form", want)
		}
	})
}

func TestStableHash(t *testing.T) {
	base := "Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\nReceived: two\r\nMessage-ID: <1@x>\r\nSubject: hi there\r\nX-Spam: no\r\n\r\nbody\r\n"
	same := map[string]string{
		"status added":    "Status: RO\r\nX-UID: 7\r\n" + base,
		"LF line ends":    strings.ReplaceAll(base, "\r\n", "\n"),
		"refolded":        strings.ReplaceAll(base, "hi there", "hi\r\n there"),
		"only the header": base[:strings.Index(base, "body")],
		"other spam mark": strings.ReplaceAll(base, "X-Spam: no", "X-Spam: yes"),
		"fields moved":    strings.ReplaceAll(base, "Subject: hi there\r\n", "")[:0] + "Subject: hi there\r\n" + strings.ReplaceAll(base, "Subject: hi there\r\n", ""),
		"byte order mark": "\xef\xbb\xbf" + base,
		"other body":      strings.ReplaceAll(base, "body", "Subject: no"),
		"case of names":   strings.ReplaceAll(base, "Subject:", "SUBJECT:"),
	}
	for name, m := range same {
		if StableHash([]byte(m)) != StableHash([]byte(base)) {
			t.Errorf("%s: passes for another message", name)
		}
	}
	other := map[string]string{
		"subject":          strings.ReplaceAll(base, "hi there", "hi here"),
		"message id":       strings.ReplaceAll(base, "<1@x>", "<2@x>"),
		"order of traces":  "Received: two\r\n" + strings.Replace(base, "Received: two\r\n", "", 1),
		"one trace fewer":  strings.Replace(base, "Received: two\r\n", "", 1),
		"no header at all": "\r\n" + base,
	}
	for name, m := range other {
		if StableHash([]byte(m)) == StableHash([]byte(base)) {
			t.Errorf("%s: passes for the same message", name)
		}
	}
}

// stableSlowly is the definition of the stable hash, for a header of fields that
// are written in the usual way. What it yields lies in states on disk: it must
// never change.
func stableSlowly(header string) Hash {
	var out strings.Builder
	for _, name := range stableFields {
		for _, line := range strings.SplitAfter(strings.ReplaceAll(header, "\r\n\t", "\t"), "\r\n") {
			if field, value, _ := strings.Cut(line, ":"); strings.EqualFold(field, name) {
				words := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' })
				fmt.Fprintf(&out, "%s:%s\n", name, strings.ReplaceAll(strings.Join(words, " "), "\x00", "\x80"))
			}
		}
	}
	return sha256.Sum256([]byte(out.String()))
}

func TestStableHash_definition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var header strings.Builder
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			name := rapid.SampledFrom([]string{"Subject", "from", "Received", "X-Other", "DATE"}).Draw(t, "name")
			value := rapid.StringOfN(rapid.SampledFrom([]rune("  \t\x00\v\x01ab:é")), 0, 40, -1).Draw(t, "value")
			if rapid.Bool().Draw(t, "long") {
				value = strings.Repeat(value+" a", rapid.IntRange(1, 4000).Draw(t, "times"))
			}
			fmt.Fprintf(&header, "%s:%s\r\n\t%s\r\n", name, value, value)
		}
		if got, want := StableHash([]byte(header.String()+"\r\n")), stableSlowly(header.String()); got != want {
			t.Fatalf("%.200q: %s, want %s", header.String(), got, want)
		}
	})
}

func FuzzStableHash(f *testing.F) {
	f.Add([]byte("Subject: a\r\n b\r\nMessage-ID: <x>\r\n\r\n"))
	f.Add([]byte(":\n \n\t\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		if StableHash(header) != StableHash(append([]byte("Status: R\n"), header...)) && len(header) > 0 && header[0] != ' ' && header[0] != '\t' && header[0] != 0xef {
			t.Errorf("a Status line changes the fingerprint of %q", header)
		}
	})
}

// A header of a million continuation lines must not cost squared time.
func BenchmarkStableHash(b *testing.B) {
	for _, lines := range []int{1, 1000, 100000} {
		h := []byte("Subject: x\r\n" + strings.Repeat(" y\r\n", lines) + "\r\n")
		b.Run(fmt.Sprint(lines), func(b *testing.B) {
			b.SetBytes(int64(len(h)))
			b.ReportAllocs()
			for b.Loop() {
				StableHash(h)
			}
		})
	}
}

func BenchmarkCanon(b *testing.B) {
	msg := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, and then once more.\r\n"), 120)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		var c Canon
		c.Write(msg)
		c.Sum()
	}
}
