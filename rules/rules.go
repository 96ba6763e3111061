// Package rules decides where a message goes. It is pure: it does no I/O, keeps
// no clock (a message brings the time along) and gives the same answer for the
// same message every time.
//
// # The walk
//
// Rules are tried from top to bottom and the first match ends the walk, unless
// it says continue: then its deliveries are noted and later matches add theirs.
// A message that no rule matches gets one delivery to the target's own folder
// (Sieve's implicit keep). What a matching rule asks for:
//
//   - folder, target, to: a copy in each folder of each target, for these
//     recipients; what is not named is the target's own, or every target
//   - flags: of these copies
//   - keep: how long the message stays on the maildrop after its delivery
//   - drop: the message is never delivered, and remembered
//   - skip: the message is left alone and looked at again in the next pass
//
// A rule that names none of them ends the walk with a copy in the target's own
// folder. But one with continue that names no place (no folder, target or to)
// delivers nothing itself: its flags go to what the rules below it deliver, or to
// the implicit keep, as those of Sieve's addflag do.
//
// Once a rule with continue has named a place, the implicit keep is cancelled, as
// Sieve's fileinto does: if nothing matches after it, its deliveries stand
// alone. A drop reached after such a rule only ends the walk, for copies that
// were asked for are made. A skip reached after it wins, and nothing is
// delivered yet: a message left on the maildrop loses nothing, whereas one that
// was delivered may be deleted there, and skip promises that it is not. Of
// several keeps of rules that matched the longest counts.
//
// Deliveries to one folder of one target are merged, their flags and recipients
// united, so no decision names a place twice. Only INBOX is known to be the same
// in any case; other folder names differ if their octets do.
//
// # Matching
//
// All comparisons but Regex ignore case, by Unicode simple folding. The address
// keys (from, to, cc, bcc, reply_to, sender and recipient, which is To, Cc, Bcc,
// Delivered-To, X-Original-To and Envelope-To together) look at every address of
// every such field, as local@domain; display names are not looked at (a header
// test on the same field does). subject is the decoded first Subject, header any
// field of that name, decoded; list_id is what stands between < and > in List-Id,
// size the octets of the message, account the name of the maildrop. date,
// older_than and newer_than go by the Date field as far as it can be true (see
// Fields), spam by what a filter on the way wrote into X-Spam-Flag,
// X-Spam-Status or X-Spam. A field that is missing, or holds nothing that can be
// used, matches no pattern; Exists asks whether it is there at all.
//
// # The body
//
// body looks at the text parts of a message one by one, decoded: their transfer
// encoding, their charset, line ends as LF, and of HTML the text without the
// tags, each run of blanks as one. Texts inside forwarded messages count, those
// that are attachments do not. has_attachment holds if a part is marked as an
// attachment, or is no text and has a file name; pictures that belong to an HTML
// text (parts of a multipart/related) and signatures do not count. Of a body 1
// MiB is looked at, 256 KiB of text, 500 parts and 10 levels.
//
// While only the header of a message was read (Message.Body is nil), Decide says
// NeedBody as soon as it meets a rule that may match or not depending on the
// body; whatever else it says it also says when it has the body.
//
// # Hostile mail
//
// A message never fails for what is in it. At most 256 KiB and 2,000 fields of a
// header are looked at, 8 KiB of a text and 4 KiB of an address field, and every
// step is linear in that. Regular expressions are RE2. Folder names made from
// mail are cleaned before any separator is added (see Fields).
//
// Strings taken from a message keep their control characters unless said
// otherwise: whoever prints them must escape them. Step.Lines and Check.String
// do so.
package rules

import "time"

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
	Key      string        // "from", "body" and so on: the keys of a condition in a configuration
	Name     string        // of the header field, for "header"
	Patterns []Pattern     // any of, for the keys that look at texts
	Size     SizeTest      // for "size"
	Date     DateTest      // for "date"
	Age      time.Duration // for "older_than" and "newer_than"
	No       bool          // for "has_attachment" and "spam": it is not to be so
}

// SizeTest compares the size of a message in octets.
type SizeTest struct {
	Op string // "<", "<=", ">", ">="
	N  int64
}

// DateTest compares the day of a message, in the zone its date was written in.
type DateTest struct {
	Op  string // "=", "<", "<=", ">", ">="
	Day string // "2026-11-21", "2026-11" or "2026"; "=" a month is any day of it
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
	Local                // * and ? over what stands before the @ of the address
	Detail               // * and ? over what stands between the first + of that and the @ (RFC 5233)
)

// String is the key of the kind in a configuration: "glob", "is" and so on.
func (k Kind) String() string {
	if k < Glob || k > Detail {
		return "unknown"
	}
	return [...]string{"glob", "is", "contains", "regex", "domain", "exists", "local", "detail"}[k]
}

// Pattern is one thing to compare a value with.
type Pattern struct {
	Kind Kind
	Text string
}

// Then is what to do with a message that matches.
type Then struct {
	Folders []string // templates (see Fields); several are several copies; nil is the target's own folder
	Targets []string // names; nil is every target of the job
	To      []string // SMTP envelope recipients; nil is the target's own
	Flags   []string // "seen", "flagged", keywords; without backslash
	Keep    *Keep    // nil is what the account says
	Drop    bool     // never deliver, but remember
	Skip    bool     // leave alone, look again next pass
}

// Keep says how long a message stays on the maildrop after it was delivered
// safely, or dropped.
type Keep struct {
	Forever bool
	For     time.Duration // since popferry first saw it, unless Forever
}

// longer is the one of two that keeps a message longer.
func (k Keep) longer(other Keep) Keep {
	if k.Forever || !other.Forever && k.For >= other.For {
		return k
	}
	return other
}

// Message is what a decision is made on.
type Message struct {
	Account string
	Header  *Header   // nil is an empty one
	Size    int64     // octets
	Now     time.Time // what older_than and newer_than count from; zero: neither holds

	// Body returns what follows the header and the empty line, as received, at
	// least the first MiB of it; it is called if a rule asks for the body. Nil is
	// a body that was not read yet.
	Body func() []byte
}

// Action is what becomes of a message.
type Action int

// The actions.
const (
	Deliver  Action = iota
	Skip            // leave it, look again next pass
	Drop            // never deliver it, remember it
	NeedBody        // cannot be told from the header; ask again with the body
)

func (a Action) String() string {
	switch a {
	case Skip:
		return "skip"
	case Drop:
		return "drop"
	case NeedBody:
		return "need body"
	default:
		return "deliver"
	}
}

// Dest is where at a target a message goes.
type Dest struct {
	Folder string   // "" is the target's own; "/" separates levels
	Flags  []string // without backslash
	Rcpt   []string // SMTP envelope recipients; nil is the target's own
}

// Delivery is one copy of a message to make.
type Delivery struct {
	Target  string // "" is every target of the job
	Dest    Dest
	Rule    string // the first rule that asked for it; "" is the default
	Derived bool   // text from the message is part of the folder's name
}

// Decision is what the rules say about one message. It shares nothing with the
// Set and belongs to the caller.
type Decision struct {
	Matched []string // names of the rules that matched, in order
	Action  Action
	Deliver []Delivery // at least one if Action is Deliver, none otherwise; no two to one place
	Keep    *Keep      // overrides the account's; nil if no rule says so
}
