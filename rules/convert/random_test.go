package convert_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"popferry/rules/convert"
)

// A random script, run as RFC 5228 and RFC 5232 say, gives every message the
// same places as its rules do. The commands are simulated here one after the
// other on one message, so that nothing of the conversion is repeated.
func TestSieve_random(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawBlock(t, 0)
		script := "require [\"fileinto\", \"copy\", \"imap4flags\"];\n" + p.text("")
		r, err := convert.Sieve([]byte(script), convert.Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, script)
		}
		if r.Lost() {
			t.Fatalf("%v\n%s", r.Notes, script)
		}
		c := compiled(t, string(r.YAML()))
		for bits := range 1 << fields {
			var header []string
			has := map[string]bool{}
			for i := range fields {
				if bits>>i&1 == 1 {
					name := string(rune('A' + i))
					has[name] = true
					header = append(header, "X-"+name+": 1")
				}
			}
			m := mail(header...)
			want := simulate(p, has)
			if got := outcome(c, m); got != want {
				t.Fatalf("%v: %s, want %s\n%s\n%s", header, got, want, script, r.YAML())
			}
		}
	})
}

// fields is how many header fields the tests of a random script look at.
const fields = 5

// program is a block of a random script.
type program []step

// step is a command; an if has branches.
type step struct {
	name     string
	arg      string
	copies   bool
	flags    string // of :flags
	branches []branch
}

type branch struct {
	test  formula // nil for an else
	block program
}

// formula is a test: its text, and what it is for a message.
type formula interface {
	text() string
	holds(has map[string]bool) bool
}

type (
	field string
	group struct {
		any  bool
		kids []formula
	}
	negation struct{ of formula }
)

func (f field) text() string                   { return fmt.Sprintf("exists \"X-%s\"", string(f)) }
func (f field) holds(has map[string]bool) bool { return has[string(f)] }
func (n negation) text() string                { return "not " + n.of.text() }
func (n negation) holds(has map[string]bool) bool {
	return !n.of.holds(has)
}

func (g group) text() string {
	texts := make([]string, len(g.kids))
	for i, k := range g.kids {
		texts[i] = k.text()
	}
	name := "allof"
	if g.any {
		name = "anyof"
	}
	return name + " (" + strings.Join(texts, ", ") + ")"
}

func (g group) holds(has map[string]bool) bool {
	for _, k := range g.kids {
		if k.holds(has) == g.any {
			return g.any
		}
	}
	return !g.any
}

func drawFormula(t *rapid.T, depth int) formula {
	if depth < 2 {
		switch rapid.IntRange(0, 5).Draw(t, "test") {
		case 0:
			return negation{drawFormula(t, depth+1)}
		case 1:
			g := group{any: rapid.Bool().Draw(t, "any")}
			for range rapid.IntRange(1, 3).Draw(t, "tests") {
				g.kids = append(g.kids, drawFormula(t, depth+1))
			}
			return g
		}
	}
	return field(rapid.SampledFrom([]string{"A", "B", "C", "D", "E"}).Draw(t, "field"))
}

func drawBlock(t *rapid.T, depth int) program {
	var p program
	for range rapid.IntRange(0, 4).Draw(t, "commands") {
		s := step{name: rapid.SampledFrom([]string{
			"if", "if", "if", "fileinto", "fileinto", "keep", "discard", "stop", "addflag", "setflag", "removeflag",
		}).Draw(t, "command")}
		switch s.name {
		case "if":
			if depth == 3 {
				continue
			}
			for range rapid.IntRange(1, 3).Draw(t, "branches") {
				s.branches = append(s.branches, branch{drawFormula(t, 0), drawBlock(t, depth+1)})
			}
			if rapid.Bool().Draw(t, "else") {
				s.branches = append(s.branches, branch{nil, drawBlock(t, depth+1)})
			}
		case "fileinto", "keep":
			s.arg = rapid.SampledFrom([]string{"F", "G", "H", "INBOX"}).Draw(t, "folder")
			s.copies = s.name == "fileinto" && rapid.IntRange(0, 2).Draw(t, "copy") == 0
			if rapid.IntRange(0, 3).Draw(t, "flags") == 0 {
				s.flags = rapid.SampledFrom([]string{"p", "q", "p q"}).Draw(t, "own")
			}
		case "addflag", "setflag", "removeflag":
			s.arg = rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "flag")
		}
		p = append(p, s)
	}
	return p
}

// text is the block as a script.
func (p program) text(indent string) string {
	var b strings.Builder
	for _, s := range p {
		b.WriteString(indent)
		switch s.name {
		case "if":
			for i, br := range s.branches {
				switch {
				case br.test == nil:
					b.WriteString(" else {\n")
				case i == 0:
					b.WriteString("if " + br.test.text() + " {\n")
				default:
					b.WriteString(" elsif " + br.test.text() + " {\n")
				}
				b.WriteString(br.block.text(indent+"  ") + indent + "}")
			}
			b.WriteString("\n")
			continue
		case "fileinto", "keep":
			b.WriteString(s.name)
			if s.copies {
				b.WriteString(" :copy")
			}
			if s.flags != "" {
				fmt.Fprintf(&b, " :flags %q", s.flags)
			}
			if s.name == "fileinto" {
				fmt.Fprintf(&b, " %q", s.arg)
			}
		case "addflag", "setflag", "removeflag":
			fmt.Fprintf(&b, "%s %q", s.name, s.arg)
		default:
			b.WriteString(s.name)
		}
		b.WriteString(";\n")
	}
	return b.String()
}

// simulation is one message on its way through a script.
type simulation struct {
	has     map[string]bool
	places  map[string][]string
	flags   map[string]bool
	keep    bool // implicitly
	stopped bool
}

func simulate(p program, has map[string]bool) string {
	s := &simulation{has: has, places: map[string][]string{}, flags: map[string]bool{}, keep: true}
	s.run(p)
	if s.keep {
		s.file("INBOX", "")
	}
	return show(s.places)
}

func (s *simulation) file(folder, own string) {
	flags := strings.Fields(own)
	if own == "" {
		for f := range s.flags {
			flags = append(flags, f)
		}
	}
	s.places[folder] = append(s.places[folder], flags...)
}

func (s *simulation) run(p program) {
	for _, c := range p {
		if s.stopped {
			return
		}
		switch c.name {
		case "if":
			for _, br := range c.branches {
				if br.test == nil || br.test.holds(s.has) {
					s.run(br.block)
					break
				}
			}
		case "fileinto":
			s.file(c.arg, c.flags)
			s.keep = s.keep && c.copies
		case "keep":
			s.file("INBOX", c.flags)
			s.keep = false
		case "discard":
			s.keep = false
		case "stop":
			s.stopped = true
		case "setflag":
			s.flags = map[string]bool{c.arg: true}
		case "addflag":
			s.flags[c.arg] = true
		case "removeflag":
			delete(s.flags, c.arg)
		}
	}
}
