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
	All  []Cond // all of; holds if empty
	Any  []Cond // any of; does not hold if empty
	Not  *Cond
	Test *Test
}

// Test looks at one property of a message.
type Test struct {
	Key      string    // "from", "to", "cc", "subject", "list_id", "header", "size", "account"
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

const (
	Glob     Kind = iota // * and ? over the whole address or text
	Is                   // equal
	Contains             // a part of it
	Regex                // RE2, unanchored
	Domain               // the address's domain, or one below it
	Exists               // Text "yes": there is such a field; "no": there is none
)

// Pattern is one thing to compare a value with.
type Pattern struct {
	Kind Kind
	Text string
}

// Then is what to do with a message that matches.
type Then struct {
	Folders []string // templates; several are several copies; nil is the target's own folder
	Flags   []string
	Drop    bool // never deliver, but remember
	Skip    bool // leave alone, look again next pass
}

// Message is what a decision is made on.
type Message struct {
	Account string
	Header  *Header // tolerant: never fails, decodes on first use
	Size    int64   // octets
}

// Action is what becomes of a message.
type Action int

const (
	Deliver Action = iota
	Skip           // leave it, look again next pass
	Drop           // never deliver it, remember it
)

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
	Rule   string // the rule that asked for it; "" is the default
}

// Decision is what the rules say about one message.
type Decision struct {
	Matched []string // names of the rules that matched, in order
	Action  Action
	Deliver []Delivery // at least one if Action is Deliver, no two alike
}
