// Package convert turns mail filters of other programs into rules: Sieve
// scripts (RFC 5228) and the filters that Gmail exports.
//
//	r, err := convert.Sieve(script, convert.Options{})
//	os.Stdout.Write(r.YAML())
//
// What comes out decides as the filter did, or says where it does not: every
// construct that cannot be carried over is a Note with its line, and a comment
// in the YAML at that place. Nothing is guessed. What is left out leaves its
// messages to the rules below, and in the end to the target's own folder, so
// mail may end up in too plain a place but is not lost.
//
// # From actions to rules
//
// A Sieve script runs from top to bottom and gathers actions; rules end with
// the first match unless it continues. So every run of actions becomes one rule
// whose condition is that of all the ifs around it, with continue unless a stop
// follows or nothing else could match. Branches of an if that does not end the
// script exclude each other by a not; where the branches before end the script,
// that they come first is enough.
//
// The implicit keep needs care, because rules cancel it with any match. Where a
// message is copied (:copy) or only gets a flag and the script would still keep
// it, a rule at the end puts it into INBOX. A discard cancels the implicit keep
// and nothing else, so its rule comes last, where a drop that follows deliveries
// only ends the rules. A stop after deliveries is such a drop as well.
//
// Flags are those of RFC 5232's internal variable: a flag that is added under a
// condition goes with later deliveries under that condition, by a rule of its
// own for the same folder. Where a script files a message twice into one folder,
// the flags are united; some servers take those of the last time.
//
// keep means the folder INBOX, as RFC 5228 §4.3 has it. Comparisons ignore case
// beyond ASCII too, subject means the first Subject, and recipient, which looks
// at header fields, stands for the envelope's recipient, which POP3 does not
// know; the last is said in a Note.
package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"popferry/rules"
)

// maxInput bounds what is read of a file; scripts have kilobytes.
const maxInput = 1 << 20

// Options say what the rules are for.
type Options struct {
	// SMTP is the target that redirect and forwarding go to, by its name. Without
	// one they cannot be carried over.
	SMTP string
	// Separator is what stands between the levels of a folder in a Sieve script:
	// "/" or "."; "" is "." if all folders begin with "INBOX." and "/" else.
	Separator string
}

// Note is something that was not carried over, or not exactly.
type Note struct {
	Line int    // in the file
	Text string // what, and what happens instead; printable, one line
	Lost bool   // the rules decide otherwise than the file did; else it is only said
}

// Result is a converted file.
type Result struct {
	Notes []Note // by line

	entries []entry
	from    string // "a Sieve script"
}

// entry is a rule, or a remark where one would be.
type entry struct {
	name     string
	remarks  []string
	when     *cond // nil for a remark alone
	folders  []string
	flags    []string
	redirect []string // addresses
	target   string   // of redirect
	drop     bool
	more     bool // continue
	line     int
}

// Error says why a file cannot be read at all.
type Error struct {
	Line, Column int // from 1, in characters; 0 if the whole file is meant
	Text         string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

// Rules counts the rules that came out.
func (r *Result) Rules() int {
	n := 0
	for _, e := range r.entries {
		if e.when != nil {
			n++
		}
	}
	return n
}

// Lost reports whether anything was not carried over.
func (r *Result) Lost() bool {
	return slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Lost })
}

// Guess tells what data is, by its look: "sieve" or "gmail".
func Guess(data []byte) string {
	text := strings.TrimSpace(strings.TrimPrefix(string(data[:min(len(data), 1024)]), "\ufeff"))
	if strings.HasPrefix(text, "<") {
		return "gmail"
	}
	return "sieve"
}

// builder runs a filter for all messages at once, and writes down a rule for
// each thing it does. All conditions are of the whole way to an action.
type builder struct {
	*algebra
	options Options
	out     []entry
	notes   []Note
	names   map[string]int
	name    string // for the rules of the current command; "" if it has none
	line    int    // of the current command
	remarks []string

	state
}

// state is what a way through the filter leaves to what comes behind it.
type state struct {
	cancelled []*cond   // where the implicit keep is cancelled
	discarded []*cond   // of these, where nothing else was done
	kept      []*cond   // where a rule matched although the filter still keeps
	flags     []flagged // what later deliveries get
}

// flagged is a flag and when it is set.
type flagged struct {
	when *cond
	flag string
}

func newBuilder(o Options) *builder {
	return &builder{algebra: newAlgebra(), options: o, names: map[string]int{}}
}

// note records what is not carried over, and remarks on it in the output.
func (b *builder) note(line int, lost bool, format string, args ...any) {
	n := Note{Line: line, Lost: lost, Text: printable(fmt.Sprintf(format, args...))}
	if len(b.notes) < maxNotes {
		b.notes = append(b.notes, n)
		b.remarks = append(b.remarks, fmt.Sprintf("line %d: %s", n.Line, n.Text))
	}
}

const (
	maxNotes   = 1000
	maxEntries = 5000
)

// emit writes a rule with the remarks that have gathered.
func (b *builder) emit(e entry) {
	if e.when == b.no || len(b.out) >= maxEntries {
		b.overflow = b.overflow || e.when != b.no
		return
	}
	e.line, e.remarks, b.remarks = b.line, append(b.remarks, e.remarks...), nil
	e.name = b.name
	if b.work += e.when.size + 1; b.work > maxWork {
		b.overflow = true
	}
	if n := len(b.out); n > 0 && len(e.remarks) == 0 {
		// Several copies under one condition are one rule.
		last := &b.out[n-1]
		if last.when == e.when && last.more && last.delivers() && e.delivers() && slices.Equal(last.flags, e.flags) {
			for _, f := range e.folders {
				if !slices.Contains(last.folders, f) {
					last.folders = append(last.folders, f)
				}
			}
			last.more = e.more
			return
		}
	}
	b.out = append(b.out, e)
}

func (e *entry) delivers() bool { return e.when != nil && len(e.folders) > 0 }

// deliver files a message into a folder where g holds. Flags that are set only
// sometimes need rules of their own, which come first: the last may end all.
func (b *builder) deliver(g *cond, folder string, flags []flagged) {
	var sure []string
	for _, f := range flags {
		switch when := b.and(g, f.when); {
		case when == b.no:
		case when == g:
			sure = addFlag(sure, f.flag)
		default:
			b.emit(entry{when: when, folders: []string{folder}, flags: []string{f.flag}, more: true})
		}
	}
	b.emit(entry{when: g, folders: []string{folder}, flags: sure, more: true})
}

// addFlag adds a flag that is not there yet.
func addFlag(flags []string, f string) []string {
	if slices.ContainsFunc(flags, func(have string) bool { return strings.EqualFold(have, f) }) {
		return flags
	}
	return append(flags, f)
}

// inbox is where keep delivers.
const inbox = "INBOX"

// file is fileinto and its like, keep its :copy.
func (b *builder) file(g *cond, folder string, flags []flagged, keep bool) {
	b.deliver(g, folder, flags)
	if keep {
		b.kept = append(b.kept, g)
	} else {
		b.cancel(g)
	}
}

func (b *builder) cancel(g *cond) { b.cancelled = append(b.cancelled, g) }

func (b *builder) discard(g *cond) {
	b.cancel(g)
	b.discarded = append(b.discarded, g)
}

// still is where, of g, the implicit keep is in force.
func (b *builder) still(g *cond) *cond {
	for _, c := range b.cancelled {
		g = b.and(g, b.not(c))
	}
	return g
}

// stop ends the filter where g holds: no rule below may see these messages.
func (b *builder) stop(g *cond) {
	left := b.still(g)
	if left != b.no {
		b.deliver(left, inbox, b.flags)
		b.last(left)
	}
	if left == g {
		return
	}
	if n := len(b.out); n > 0 && b.out[n-1].when == g {
		b.out[n-1].more = false
		return
	}
	e := entry{when: g, drop: true}
	if !slices.ContainsFunc(b.discarded, func(c *cond) bool { return b.implies(g, c) }) {
		e.remarks = []string{"ends the rules here; copies that were made above stand"}
	}
	b.emit(e)
}

// last makes the rule that was just written for g end the walk.
func (b *builder) last(g *cond) {
	if n := len(b.out); n > 0 && b.out[n-1].when == g {
		b.out[n-1].more = false
	}
}

// finish is the end of the filter: what is still to be kept, and what is to be
// dropped.
func (b *builder) finish() {
	b.name = ""
	for _, f := range b.flags { // goes with the implicit keep: the rule names no place
		b.emit(entry{when: b.still(f.when), flags: []string{f.flag}, more: true})
	}
	if kept := b.still(b.or(b.kept...)); kept != b.no {
		b.emit(entry{when: kept, folders: []string{inbox}, more: true})
	}
	if d := b.or(b.discarded...); d != b.no {
		b.emit(entry{when: d, drop: true})
	}
	if len(b.remarks) > 0 {
		b.out = append(b.out, entry{remarks: b.remarks})
	}
	for i := len(b.out) - 1; i >= 0; i-- {
		if e := &b.out[i]; e.when != nil {
			e.more = false
			break
		}
	}
}

// result checks what came out and gives every rule its name.
func (b *builder) result(from string) (*Result, error) {
	if b.overflow {
		return nil, &Error{Text: "too many conditions to be told apart; split the file"}
	}
	r := &Result{Notes: b.notes, entries: b.out, from: from}
	for i := range r.entries {
		if e := &r.entries[i]; e.when != nil {
			e.name = b.unique(e)
		}
	}
	slices.SortStableFunc(r.Notes, func(a, b Note) int { return a.Line - b.Line })
	return r, nil
}

// unique is a name for a rule that no other has.
func (b *builder) unique(e *entry) string {
	name := slug(e.name)
	switch {
	case name != "":
	case e.drop:
		name = "drop"
	case len(e.redirect) > 0:
		name = "redirect"
	case len(e.folders) > 0:
		name = slug(strings.TrimPrefix(e.folders[0], inbox+"/"))
	default:
		name = slug(e.flags[0])
	}
	name = cmp.Or(name, "rule")
	for {
		b.names[name]++
		n := b.names[name]
		if n == 1 {
			return name
		}
		if numbered := fmt.Sprintf("%s-%d", name, n); b.names[numbered] == 0 {
			b.names[numbered] = 1
			return numbered
		}
	}
}

// slug makes a name of a rule out of s.
func slug(s string) string {
	const most = 40
	var out strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			out.WriteRune(r)
		case out.Len() > 0 && !strings.HasSuffix(out.String(), "-"):
			out.WriteByte('-')
		}
		if out.Len() >= most {
			break
		}
	}
	return strings.Trim(out.String(), "-")
}

// checkFolder reports why a folder cannot be one of a rule; "" if it can.
func checkFolder(folder string) string {
	_, err := rules.Compile([]rules.Rule{{Name: "x", Then: rules.Then{Folders: []string{escapeDollar(folder)}}}})
	return firstError(err)
}

// checkTest reports why a condition cannot be one of a rule; "" if it can.
func checkTest(t rules.Test) string {
	_, err := rules.Compile([]rules.Rule{{Name: "x", If: &rules.Cond{Test: &t}, Then: rules.Then{Folders: []string{inbox}}}})
	return firstError(err)
}

// firstError is the text of the first of the compiler's errors.
func firstError(err error) string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return ""
	}
	first := joined.Unwrap()[0]
	if re, ok := first.(*rules.RuleError); ok { //nolint:errorlint // Compile documents what it returns
		return re.Text
	}
	return first.Error()
}
