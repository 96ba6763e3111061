package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxShown is how many characters of a value or pattern are shown.
const maxShown = 80

// Verdict says what came of a rule.
type Verdict int

// The verdicts.
const (
	Failed       Verdict = iota // its condition does not hold
	Matched                     // it holds
	OtherAccount                // the rule is not for this account
	Undecided                   // that depends on the body, which was not read yet
)

func (v Verdict) String() string {
	switch v {
	case Matched:
		return "matched"
	case OtherAccount:
		return "other account"
	case Undecided:
		return "undecided"
	default:
		return "failed"
	}
}

// Step is what Explain tells about one rule. Its slices are the caller's to
// read, not to change.
type Step struct {
	Rule     string
	Verdict  Verdict
	Accounts []string // the rule is only for these; nil for all
	Checks   []Check  // the tests that were made, in order; the rest could change nothing

	// Of a rule that matched: what it asked for. What became of it in the end
	// is in the Decision.
	Action   Action
	Deliver  []Delivery // none if it names no place and goes on: then its flags are for later ones
	Flags    []string
	Keep     *Keep
	Continue bool
}

// Check is one test that was made on the message.
type Check struct {
	Test    *Test
	Pattern *Pattern      // the one that matched; nil if none did, or for size
	Present bool          // the field is there
	Values  []string      // what was seen: the value that matched, or all; raw text
	Size    int64         // what was seen, for size
	Age     time.Duration // what was seen, for older_than and newer_than
	Unread  bool          // it is about the body, which was not read yet
	Holds   bool          // the test by itself
	Negated bool          // it stands under "not", so it helps if it does not hold
}

// Lines tells the step to a person, without the name of the rule: the tests
// that decided it, then what it asked for. Each line is printable and of
// bounded length, whatever the message holds.
func (s Step) Lines() []string {
	if s.Verdict == OtherAccount {
		return []string{"only for account " + strings.Join(s.Accounts, ", ")}
	}
	var lines []string
	width := 0
	for _, c := range s.Checks {
		if what, _ := c.columns(); c.decided(s.Verdict) && !strings.Contains(what, " ") {
			width = max(width, len(what))
		}
	}
	for _, c := range s.Checks {
		if c.decided(s.Verdict) {
			lines = append(lines, c.line(width))
		}
	}
	switch {
	case s.Verdict == Failed && len(lines) == 0:
		return []string{"no condition to hold"}
	case s.Verdict != Matched:
		return lines
	case len(lines) == 0:
		lines = append(lines, "every message")
	}
	return append(lines, s.outcome())
}

// decided reports whether the check speaks for the verdict rather than against.
func (c Check) decided(v Verdict) bool {
	if v == Undecided || c.Unread {
		return c.Unread && v == Undecided
	}
	return (c.Holds != c.Negated) == (v == Matched)
}

// String tells the check to a person, in one printable line.
func (c Check) String() string { return c.line(0) }

func (c Check) line(width int) string {
	what, why := c.columns()
	if what == "" {
		return why
	}
	return fmt.Sprintf("%-*s %s", width, what, why)
}

// columns are the property looked at and what was found out about it. The
// first is "" if the second says it all.
func (c Check) columns() (what, why string) {
	what = c.what()
	switch key := c.Test.Key; {
	case c.Unread:
		return "", what + ": only the header was read"
	case key == "size":
		return what, fmt.Sprintf("%d is %s%s %s", c.Size, not(c.Holds), c.Test.Size.Op, size(c.Test.Size.N))
	case !keys[key]:
		return c.yesNo()
	case !c.Present && key == "header":
		return "", what + ": not present"
	case !c.Present:
		return "", "no " + strings.Join(fieldsOf(sourceOf(c.Test)), ", ") + " header"
	case c.Pattern != nil && c.Pattern.Kind == Exists:
		return "", what + ": present"
	case len(c.Values) == 0:
		return "", what + ": nothing usable in it"
	}
	value := quote(c.Values[0], maxShown)
	if more := len(c.Values) - 1; more > 0 {
		value += fmt.Sprintf(" and %d more", more)
	}
	return what, value + " " + c.relation()
}

// yesNo is columns for tests without patterns.
func (c Check) yesNo() (what, why string) {
	switch key := c.Test.Key; {
	case !c.Present:
		return "", "no date that can be true"
	case key == "date":
		return key, fmt.Sprintf("%s is %s%s %s", c.Values[0], not(c.Holds), c.Test.Date.Op, c.Test.Date.Day)
	case key == "older_than":
		return "age", fmt.Sprintf("%s is %smore than %s", age(c.Age), not(c.Holds), age(c.Test.Age))
	case key == "newer_than":
		return "age", fmt.Sprintf("%s is %sless than %s", age(c.Age), not(c.Holds), age(c.Test.Age))
	case len(c.Values) > 0:
		return key, quote(c.Values[0], maxShown)
	case key == "spam":
		return "", "no field calls it spam"
	default:
		return "", "nothing is attached"
	}
}

// what names the property that was looked at, as the configuration does.
func (c Check) what() string {
	if c.Test.Key == "header" {
		return "header " + c.Test.Name
	}
	return c.Test.Key
}

// relation says how the value and the pattern, or all patterns, go together.
func (c Check) relation() string {
	if c.Pattern != nil {
		return relations[c.Pattern.Kind].yes + " " + c.Pattern.quoted()
	}
	if len(c.Test.Patterns) == 1 {
		p := &c.Test.Patterns[0]
		if p.Kind == Exists {
			return "is present"
		}
		return relations[p.Kind].no + " " + p.quoted()
	}
	const shown = 3
	var all []string
	for i := range c.Test.Patterns {
		if i == shown {
			all = append(all, fmt.Sprintf("%d more", len(c.Test.Patterns)-shown))
			break
		}
		all = append(all, c.Test.Patterns[i].quoted())
	}
	return "matches none of " + strings.Join(all, ", ")
}

var relations = map[Kind]struct{ yes, no string }{
	Glob:     {"matches", "does not match"},
	Is:       {"is", "is not"},
	Contains: {"contains", "does not contain"},
	Regex:    {"matches", "does not match"},
	Domain:   {"is in domain", "is not in domain"},
	Local:    {"has local part", "does not have local part"},
	Detail:   {"has detail", "does not have detail"},
}

// quoted is the pattern as it is shown: a regex between slashes, others in
// quotes.
func (p *Pattern) quoted() string {
	if p.Kind != Regex {
		return quote(p.Text, maxShown)
	}
	if len(p.Text) > maxShown || strings.ContainsFunc(p.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "/" + strings.Trim(quote(p.Text, maxShown), `"`) + "/"
	}
	return "/" + p.Text + "/"
}

// outcome says what a rule that matched asks for.
func (s Step) outcome() string {
	var b strings.Builder
	b.WriteString("→ ")
	if s.Action != Deliver {
		b.WriteString(s.Action.String())
		if s.Keep != nil {
			b.WriteString(", keep " + s.Keep.String())
		}
		return b.String()
	}
	switch {
	case len(s.Deliver) == 0:
		b.WriteString("what follows")
	case s.Deliver[0].Dest.Folder == "":
		b.WriteString("the target's own folder")
	default:
		folders := s.folders()
		b.WriteString(plural("folder", len(folders)) + " " + strings.Join(folders, ", "))
	}
	if targets := s.targets(); len(targets) > 0 {
		b.WriteString(" at " + strings.Join(targets, ", "))
	}
	if len(s.Deliver) > 0 && len(s.Deliver[0].Dest.Rcpt) > 0 {
		b.WriteString(" for " + strings.Join(s.Deliver[0].Dest.Rcpt, ", "))
	}
	if len(s.Flags) > 0 {
		b.WriteString(", " + plural("flag", len(s.Flags)) + " " + ShowFlags(s.Flags))
	}
	if s.Keep != nil {
		b.WriteString(", keep " + s.Keep.String())
	}
	if s.Continue {
		b.WriteString(" · continue")
	}
	return b.String()
}

// folders and targets are those of the deliveries, each once.
func (s Step) folders() []string {
	var names []string
	for _, d := range s.Deliver {
		if !slices.Contains(names, d.Dest.Folder) {
			names = append(names, d.Dest.Folder)
		}
	}
	return names
}

func (s Step) targets() []string {
	var names []string
	for _, d := range s.Deliver {
		if d.Target != "" && !slices.Contains(names, d.Target) {
			names = append(names, d.Target)
		}
	}
	return names
}

// ShowFlags writes flags as IMAP does: `\Flagged $Junk`.
func ShowFlags(flags []string) string {
	shown := make([]string, len(flags))
	for i, f := range flags {
		shown[i] = f
		if j := slices.IndexFunc(systemFlags, func(s string) bool { return strings.EqualFold(s, f) }); j >= 0 {
			shown[i] = `\` + systemFlags[j]
		}
	}
	return strings.Join(shown, " ")
}

// systemFlags are those of RFC 9051 §2.3.2 that a client may set on a copy.
var systemFlags = []string{"Seen", "Answered", "Flagged", "Draft"}

func plural(noun string, n int) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func not(holds bool) string {
	if holds {
		return ""
	}
	return "not "
}

// size writes a size as in a configuration, "5M", where it comes out even.
func size(n int64) string {
	for _, unit := range []struct {
		name  string
		shift int
	}{{"G", 30}, {"M", 20}, {"K", 10}} {
		if n != 0 && n%(1<<unit.shift) == 0 {
			return strconv.FormatInt(n>>unit.shift, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// age writes a duration as in a configuration, "30d", in its largest unit that is
// not below one.
func age(d time.Duration) string {
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}} {
		if n := d / unit.d; n != 0 {
			return strconv.FormatInt(int64(n), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// String is k as it is written in a configuration.
func (k Keep) String() string {
	switch {
	case k.Forever:
		return "forever"
	case k.For%(24*time.Hour) == 0:
		return strconv.FormatInt(int64(k.For/(24*time.Hour)), 10) + "d"
	default:
		return k.For.String()
	}
}

// quote puts at most limit characters of s between quotes, and escapes what is
// not printable: a terminal obeys what a Subject says.
func quote(s string, limit int) string {
	n := 0
	for i := range s {
		if n == limit {
			return strconv.Quote(s[:i]) + "…"
		}
		n++
	}
	return strconv.Quote(s)
}
