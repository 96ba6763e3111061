package endpoint

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"plain text", 80, "plain text"},
		{`says "no"`, 80, `says "no"`},
		{"Käse", 80, "Käse"},
		{"\x1b]0;x\x07", 80, `\x1b]0;x\a`},
		{"a\r\nb", 80, `a\r\nb`},
		{"\u202eevil\u2028", 80, `\u202eevil\u2028`},
		{"\xff\xfe", 80, `\xff\xfe`},
		{"abcdef", 3, "abc…"},
		{"aä", 2, "a…"}, // never half a letter
		{`a\nb`, 80, `a\\nb`},
	} {
		if got := Printable(c.in, c.max); got != c.want {
			t.Errorf("Printable(%q, %d) = %q, want %q", c.in, c.max, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x00\u202e\xff", 10)
	f.Fuzz(func(t *testing.T, s string, max int) {
		out := Printable(s, max&1023)
		if !utf8.ValidString(out) {
			t.Fatalf("%q is not UTF-8", out)
		}
		for _, r := range out {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q from %q is not printable", out, s)
			}
		}
	})
}
