package convert_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"popferry/rules/convert"
)

// accepted checks that what came out of a conversion is a configuration, that
// its remarks are single lines, and that no input takes long.
func accepted(t *testing.T, began time.Time, r *convert.Result, err error) {
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("took %v", took)
	}
	if err != nil {
		if r != nil || !errors.As(err, new(*convert.Error)) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Fatalf("%v and error %q", r, err)
		}
		return
	}
	for _, n := range r.Notes {
		if n.Line < 1 || strings.ContainsFunc(n.Text, unicode.IsControl) {
			t.Fatalf("note %q on line %d", n.Text, n.Line)
		}
	}
	set := compiled(t, string(r.YAML()))
	if got := len(set.Names()); got != r.Rules() {
		t.Fatalf("%d rules came out, %d are read\n%s", r.Rules(), got, r.YAML())
	}
	if got := outcome(set, invoice); got == "skipped" {
		t.Fatal("nothing can skip")
	}
}

func FuzzSieve(f *testing.F) {
	for _, s := range []string{
		"require [\"fileinto\"];\nif allof (header :is [\"a\", \"b\"] \"c\", not size :over 5K) { fileinto :copy \"x.y\"; stop; } elsif true { discard; } else { keep; }",
		"if address :domain :matches \"to\" \"*.x\" { addflag \"\\\\Seen\"; redirect \"a@b.example\"; }",
		"if header :regex \"x\" \"[[:alpha:]\\\\]]+\" { fileinto text:\n..a\n.\n; }",
		"# rule:[Ätsch]\nif exists \"x\" { if false {} } /* */ vacation :days 7 \"gone\";",
		"require [\"variables\", \"encoded-character\"]; if header \"x\" \"${hex:41}${1}\" { setflag \"a b\"; keep; }",
		strings.Repeat("if not not exists \"a\" { ", 40),
		strings.Repeat("if exists [\"a\", \"b\"] { keep; } elsif exists \"c\" { discard; }\n", 30),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		began := time.Now()
		r, err := convert.Sieve(script, convert.Options{})
		accepted(t, began, r, err)
	})
}

func FuzzGmail(f *testing.F) {
	f.Add("from", "a@x.example OR {b c}", "label", "Lists/Go")
	f.Add("hasTheWord", `list:(<go.x.example>) -"x y" larger:5M`, "shouldArchive", "true")
	f.Add("subject", "(Übung OR x)", "shouldTrash", "true")
	f.Add("to", "*@x.example", "forwardTo", "a@b.example")
	f.Fuzz(func(t *testing.T, name, value, action, operand string) {
		began := time.Now()
		r, err := convert.Gmail([]byte(gmailFeed([]string{name, value, action, operand})), convert.Options{})
		accepted(t, began, r, err)
	})
}

func FuzzGmail_feed(f *testing.F) {
	f.Add([]byte(gmailFeed([]string{"from", "a@x.example", "label", "x"})))
	f.Fuzz(func(t *testing.T, feed []byte) {
		began := time.Now()
		r, err := convert.Gmail(feed, convert.Options{})
		accepted(t, began, r, err)
	})
}
