// Package rules decides where a message goes. It is pure: it does no I/O, keeps
// no clock and gives the same answer for the same message every time.
//
// # The walk
//
// Rules are tried from top to bottom and the first match ends the walk, unless
// it says continue: then its deliveries are noted and later matches add theirs.
// A message that no rule matches gets one delivery to the target's own folder
// (Sieve's implicit keep). What a matching rule asks for:
//
//   - folders: a copy in each of them; no folder: one in the target's own
//   - drop: the message is never delivered, and remembered
//   - skip: the message is left alone and looked at again in the next pass
//
// Once a rule with continue has matched, the implicit keep is cancelled, as
// Sieve's fileinto does: if nothing matches after it, its deliveries stand
// alone. A drop reached after such a rule only ends the walk, for copies that
// were asked for are made. A skip reached after it wins, and nothing is
// delivered yet: a message left on the maildrop loses nothing, whereas one that
// was delivered may be deleted there, and skip promises that it is not.
//
// Deliveries to one folder are merged and their flags united, so no decision
// names a place twice. Only INBOX is known to be the same in any case; other
// folder names differ if their octets do.
//
// # Matching
//
// All comparisons but Regex ignore case, by Unicode simple folding. The keys
// from, to and cc look at every address of every such field, as local@domain;
// display names are not looked at (a header test on the same field does).
// subject is the decoded first Subject, header any field of that name, decoded;
// list_id is what stands between < and > in List-Id, size the octets of the
// message, account the name of the maildrop. A field that is missing, or holds
// nothing that can be used, matches no pattern; Exists asks whether it is there
// at all.
//
// # Hostile mail
//
// A message never fails for its header. At most 256 KiB and 2,000 fields are
// looked at, 8 KiB of a text and 4 KiB of an address field, and every step is
// linear in that. Regular expressions are RE2. Folder names made from mail are
// cleaned before any separator is added (see Fields).
//
// Strings taken from a message keep their control characters unless said
// otherwise: whoever prints them must escape them. Step.Lines and Check.String
// do so.
package rules

// Rule is one entry of the list: what must hold, and where the message then
// goes.
type Rule struct {
	Name     string
	Accounts []string // only for these; nil for all
	If       *Cond    // nil holds always
	Then     Then
	Continue bool // go on to later rules; their deliveries are added
}

// Cond is a condition: exactly one of its fields is set.
type Cond struct {
	All  []Cond // all of; holds if empty but not nil
	Any  []Cond // any of; does not hold if empty but not nil
	Not  *Cond
	Test *Test
}

// Test looks at one property of a message.
type Test struct {
	Key      string    // "from", "to", "cc", "subject", "header", "list_id", "size", "account"
	Name     string    // of the header field, for Key "header"
	Patterns []Pattern // any of; not for "size"
	Size     SizeTest  // for "size"
}

// SizeTest compares the size of a message in octets.
type SizeTest struct {
	Op string // "<", "<=", ">", ">="
	N  int64
}

// Kind says how a Pattern is compared. All comparisons ignore case except
// Regex, which has (?i) for that.
type Kind int

// The kinds of Pattern.
const (
	Glob     Kind = iota // * and ? over the whole address or text
	Is                   // equal
	Contains             // a part of it
	Regex                // RE2, unanchored
	Domain               // the domain of the address, or the list id, or one above it
	Exists               // Text "yes": there is such a field; "no": there is none
)

// String is the key of the kind in a configuration: "glob", "is" and so on.
func (k Kind) String() string {
	if k < Glob || k > Exists {
		return "unknown"
	}
	return [...]string{"glob", "is", "contains", "regex", "domain", "exists"}[k]
}

// Pattern is one thing to compare a value with.
type Pattern struct {
	Kind Kind
	Text string
}

// Then is what to do with a message that matches.
type Then struct {
	Folders []string // templates (see Fields); several are several copies; nil is the target's own folder
	Flags   []string // "seen", "flagged", keywords; without backslash
	Drop    bool     // never deliver, but remember
	Skip    bool     // leave alone, look again next pass
}

// Message is what a decision is made on.
type Message struct {
	Account string
	Header  *Header // nil is an empty one
	Size    int64   // octets
}

// Action is what becomes of a message.
type Action int

// The actions.
const (
	Deliver Action = iota
	Skip           // leave it, look again next pass
	Drop           // never deliver it, remember it
)

func (a Action) String() string {
	switch a {
	case Skip:
		return "skip"
	case Drop:
		return "drop"
	default:
		return "deliver"
	}
}

// Dest is where at a target a message goes.
type Dest struct {
	Folder string   // "" is the target's own; "/" separates levels
	Flags  []string // without backslash
	Rcpt   []string // SMTP envelope recipients
}

// Delivery is one copy of a message to make.
type Delivery struct {
	Target string // "" is every target of the job
	Dest   Dest
	Rule   string // the first rule that asked for it; "" is the default
}

// Decision is what the rules say about one message. It shares nothing with the
// Set and belongs to the caller.
type Decision struct {
	Matched []string // names of the rules that matched, in order
	Action  Action
	Deliver []Delivery // at least one if Action is Deliver, none otherwise; no two alike
}
