package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Sieve converts a script. The error is an *Error: the script cannot be read, or
// is too large.
func Sieve(script []byte, o Options) (*Result, error) {
	commands, err := parseSieve(script)
	if err != nil {
		return nil, err
	}
	s := &sieve{builder: newBuilder(o), extensions: map[string]bool{}}
	if o.Separator == "" {
		s.options.Separator = guessSeparator(commands)
	}
	if stopped := s.block(commands, s.yes, true, 0); !stopped {
		s.finish()
	} else {
		s.tidy()
	}
	return s.result("a Sieve script")
}

// sieve is a script being converted.
type sieve struct {
	*builder
	extensions map[string]bool // that the script requires
	dotted     bool            // it was said what a dot in a folder means
}

// block runs commands for the messages of g. tail says that the script ends
// behind them. It reports whether they end it anyway: then the rules that came
// out take every message of g.
func (s *sieve) block(commands []*node, g *cond, tail bool, depth int) (stopped bool) {
	for i := 0; i < len(commands); i++ {
		c := commands[i]
		s.line = c.line
		if c.name != "if" {
			if depth == 0 {
				s.name = ""
			}
			if s.command(c, g); c.name == "stop" {
				s.stop(g)
				return true
			}
			continue
		}
		end := i + 1
		for end < len(commands) && (commands[end].name == "elsif" || commands[end].name == "else") {
			end++
		}
		if s.chain(commands[i:end], g, tail && end == len(commands), depth) {
			return true
		}
		i = end - 1
	}
	if tail && depth > 0 {
		s.stop(g)
		return true
	}
	return false
}

// chain runs an if with its elsifs and its else. It reports whether all of its
// branches, an else among them, end the script.
func (s *sieve) chain(branches []*node, g *cond, tail bool, depth int) bool {
	rest, stopped := g, true
	for i, c := range branches {
		if depth == 0 {
			s.name = ""
			if name := ruleName.FindStringSubmatch(c.remark); name != nil {
				s.name = name[1]
			}
		}
		s.line = c.line
		test := s.yes
		if c.name != "else" {
			var err error
			if test, err = s.condition(c); err != nil {
				s.skipped(branches[i:], err)
				return false
			}
		}
		s.line = c.line
		when := s.and(rest, test)
		if when == s.no || s.overflow {
			continue
		}
		before := s.state
		if s.block(c.block, when, tail, depth+1) {
			s.state = before // who went there does not come here
		} else {
			stopped = false
			rest = s.and(rest, s.not(test))
		}
		if test == s.yes {
			return stopped
		}
	}
	return false
}

// ruleName is how the rule editors of webmail programs write names.
var ruleName = regexp.MustCompile(`^rule:\[(.*)\]$`)

// skipped leaves out the branches of an if from the first whose test is not
// known: nobody can tell whom the others are for.
func (s *sieve) skipped(branches []*node, err error) {
	unknown := err.(*unsure) //nolint:errorlint // conditions return no other
	what := "this if is left out"
	if len(branches) > 1 {
		what += ", and the elsif and else that go with it"
	}
	s.note(unknown.line, true, "%s; %s", unknown.text, what)
}

// condition is the one test of an if or elsif.
func (s *sieve) condition(c *node) (*cond, error) {
	if len(c.tests) != 1 || len(c.args) > 0 || !c.hasBlock {
		return nil, &unsure{c.line, c.name + " without a test and a block"}
	}
	return s.test(c.tests[0])
}

// unsure is a construct that cannot be carried over.
type unsure struct {
	line int
	text string
}

func (u *unsure) Error() string { return u.text }

func unsuref(line int, format string, args ...any) error {
	return &unsure{line, fmt.Sprintf(format, args...)}
}

// command runs one command other than if and stop.
func (s *sieve) command(c *node, g *cond) {
	args, err := s.arguments(c)
	if err == nil {
		switch c.name {
		case "require":
			err = s.require(args)
		case "fileinto":
			err = s.fileinto(args, g)
		case "keep":
			err = s.keep(args, g)
		case "discard":
			s.discard(g)
		case "redirect":
			err = s.redirect(args, g)
		case "setflag", "addflag", "removeflag":
			err = s.setFlags(args, g)
		case "stop":
		case "elsif", "else":
			err = unsuref(c.line, "%s without an if before it", c.name)
		default:
			err = unsuref(c.line, "%q is not known here", c.name)
			if slices.Contains([]string{"vacation", "notify", "reject", "ereject"}, c.name) {
				err = unsuref(c.line, "%s sends mail, which popferry does not", c.name)
			}
		}
	}
	if u, ok := err.(*unsure); ok { //nolint:errorlint // no other is returned
		s.note(u.line, true, "%s; left out", u.text)
	}
}

func (s *sieve) require(a *args) error {
	for _, ext := range a.strings() {
		s.extensions[strings.ToLower(ext)] = true
	}
	return nil
}

// fileinto is RFC 5228 §4.1, with :copy (RFC 3894), :flags (RFC 5232), :create
// (RFC 5490), which folders here always have, and :specialuse (RFC 8579).
func (s *sieve) fileinto(a *args, g *cond) error {
	folder, err := a.one("the folder")
	if err != nil {
		return err
	}
	if err := a.known("copy", "create", "flags", "specialuse"); err != nil {
		return err
	}
	name := s.folder(folder, a.line)
	if why := checkFolder(name); why != "" {
		return unsuref(a.line, "fileinto: %s", why)
	}
	if a.has("specialuse") {
		s.note(a.line, true, ":specialuse is left out; %s is the folder", folder)
	}
	s.file(g, name, s.flagsOf(a), a.has("copy"))
	return nil
}

func (s *sieve) keep(a *args, g *cond) error {
	if err := a.known("flags"); err != nil {
		return err
	}
	s.file(g, inbox, s.flagsOf(a), false)
	return nil
}

// redirect is RFC 5228 §4.2.
func (s *sieve) redirect(a *args, g *cond) error {
	to, err := a.one("the address")
	if err == nil {
		err = a.known("copy")
	}
	switch {
	case err != nil:
		return err
	case s.options.SMTP == "":
		return unsuref(a.line, "redirect to %s needs a target of type smtp or lmtp", to)
	case !address.MatchString(to):
		return unsuref(a.line, "redirect to %s, which is no plain address", to)
	}
	s.forward(g, to, a.has("copy"))
	return nil
}

// address is what can stand in to: of a rule.
var address = regexp.MustCompile(`^[A-Za-z0-9.!#%&'*+/=?^_{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$`)

// forward sends a message on.
func (b *builder) forward(g *cond, to string, keep bool) {
	b.emit(entry{when: g, redirect: []string{to}, target: b.options.SMTP, more: true})
	if keep {
		b.kept = append(b.kept, g)
	} else {
		b.cancel(g)
	}
}

// flagsOf are the flags of a fileinto or keep: its own, or those of the script.
func (s *sieve) flagsOf(a *args) []flagged {
	if !a.has("flags") {
		return s.flags
	}
	var own []flagged
	for _, f := range s.flagNames(a.values["flags"], a.line) {
		own = append(own, flagged{s.yes, f})
	}
	return own
}

// setFlags is setflag, addflag and removeflag (RFC 5232 §3). What was set under
// another condition stays set where g does not hold.
func (s *sieve) setFlags(a *args, g *cond) error {
	if len(a.rest) != 1 || a.rest[0] == nil {
		return unsuref(a.line, "%s of a variable", a.name)
	}
	names := s.flagNames(a.rest[0], a.line)
	var flags []flagged
	for _, f := range s.flags {
		named := slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, f.flag) })
		if a.name == "setflag" || a.name == "removeflag" && named {
			f.when = s.and(f.when, s.not(g))
		}
		if f.when != s.no {
			flags = append(flags, f)
		}
	}
	if a.name != "removeflag" {
		for _, n := range names {
			flags = append(flags, flagged{g, n})
		}
	}
	s.flags = flags
	return nil
}

// flagText is a keyword; system flags are written without the backslash.
var flagText = regexp.MustCompile(`^[A-Za-z0-9$!#&'+,./:;<=>?@^_|~` + "`" + `-]+$`)

// flagNames takes lists of flags apart (RFC 5232 §2).
func (s *sieve) flagNames(lists []string, line int) []string {
	var names []string
	for f := range strings.FieldsSeq(strings.Join(lists, " ")) {
		name, system := strings.CutPrefix(f, `\`)
		if system {
			name = strings.ToLower(name)
		}
		switch {
		case strings.EqualFold(name, "deleted"), strings.EqualFold(name, "recent"):
			s.note(line, true, "flag %s is left out: no message can be delivered with it", f)
		case !flagText.MatchString(name) || len(name) > 100,
			system && !slices.Contains([]string{"seen", "answered", "flagged", "draft"}, name):
			s.note(line, true, "flag %s is left out: it cannot be set here", f)
		default:
			names = addFlag(names, name)
		}
	}
	return names
}

// folder is the name of a folder with "/" between its levels.
func (s *sieve) folder(name string, line int) string {
	if s.options.Separator == "." {
		return strings.ReplaceAll(name, ".", "/")
	}
	if strings.Contains(name, ".") && !strings.Contains(name, "/") && !s.dotted {
		s.dotted = true
		s.note(line, false, "the dot in folder %s is taken for a part of its name; if it separates levels, convert with --separator .", name)
	}
	return name
}

// guessSeparator tells from the folders of a script what separates their
// levels. Servers whose folders all lie below "INBOX." separate by dots.
func guessSeparator(commands []*node) string {
	dots, others := 0, 0
	var walk func([]*node)
	walk = func(list []*node) {
		for _, c := range list {
			if c.name == "fileinto" && len(c.args) > 0 {
				for _, f := range c.args[len(c.args)-1].strings {
					if len(f) > len("INBOX.") && strings.EqualFold(f[:len("INBOX.")], "INBOX.") && !strings.Contains(f, "/") {
						dots++
					} else if !strings.EqualFold(f, inbox) {
						others++
					}
				}
			}
			walk(c.block)
		}
	}
	walk(commands)
	if dots > 0 && others == 0 {
		return "."
	}
	return "/"
}

// tidy ends a script of which every way stops.
func (s *sieve) tidy() {
	s.state = state{}
	s.finish()
}
