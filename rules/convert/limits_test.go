package convert_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"popferry/rules/convert"
)

// Hostile scripts end soon, with rules or with an error.
func TestSieve_hostile(t *testing.T) {
	var many strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&many, "if exists \"X-%d\" { fileinto \"f%d\"; }\n", i, i)
	}
	var chain strings.Builder
	chain.WriteString("if false {}\n")
	for i := range 3000 {
		fmt.Fprintf(&chain, "elsif exists \"X-%d\" { discard; }\n", i)
	}
	var flags strings.Builder
	for i := range 800 {
		fmt.Fprintf(&flags, "if exists \"X-%d\" { setflag \"a%d\"; }\n", i, i)
	}
	flags.WriteString(strings.Repeat("fileinto \"x\"; discard; ", 500))
	long := `"` + strings.Repeat("x", 2000) + `"`
	for name, script := range map[string]string{
		"many ifs":          many.String(),
		"many that stop":    strings.ReplaceAll(many.String(), "\"; }", "\"; stop; }"),
		"chain":             chain.String() + "keep;",
		"flags":             flags.String(),
		"stops":             strings.Join(strings.SplitAfter(many.String(), "\n")[:500], "") + strings.Repeat("if size :over 1 { stop; }", 3000),
		"deep blocks":       strings.Repeat("if exists \"a\" {", 5000),
		"deep tests":        "if " + strings.Repeat("not ", 100_000) + "true {}",
		"deep lists":        "if " + strings.Repeat("allof(", 100_000),
		"comments":          strings.Repeat("/* ", 300_000),
		"long strings":      "if header :contains " + long + " " + long + " { fileinto " + long + "; }",
		"many keys":         "if header [" + strings.Repeat(`"a",`, 100_000) + `"a"] "x" { keep; }`,
		"quotes":            strings.Repeat(`"\`, 300_000),
		"no end of text":    strings.Repeat("text:\n..", 100_000),
		"larger than 1 MiB": strings.Repeat("#", 1<<20+1),
		"not UTF-8":         "\xff",
		"numbers":           "if size :over 99999999999999999999G {}",
		"large number":      "if size :over 9223372036854775807K {}",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			r, err := convert.Sieve([]byte(script), convert.Options{})
			t.Logf("%v, %v", time.Since(began), err)
			accepted(t, began, r, err)
		})
	}
}
