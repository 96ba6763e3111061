package state

import "time"

// Account is one maildrop as remembered.
type Account struct {
	ID            int64  // 0 until it was listed once
	Source        string // "host:port/user"; the name in the configuration may change
	Name          string
	FirstPassDone bool      // a whole pass has succeeded since the row was made
	ListHash      []byte    // of the last listing, if Quiet was recorded for it
	ListCount     int       // entries of the last listing
	QuietUntil    time.Time // while the listing has ListHash, nothing is to be done before
	LastPass      time.Time
	LastSuccess   time.Time
	Exact         int // messages in a row that were as large as LIST said
}

// Status says what has become of a message. Its numbers are on disk.
type Status int8

const (
	StatusNew         Status = iota // listed, nothing decided
	StatusRouted                    // its deliveries are recorded, not all are done
	StatusSafe                      // at least one delivery, and all are delivered
	StatusDropped                   // a rule does not want it
	StatusMarked                    // remembered without a delivery
	StatusHeld                      // waits for a person
	StatusQuarantined               // failed too often, tried again at NextTry
)

// String returns the status in lower case, as users see it.
func (s Status) String() string {
	return name(int(s), "new", "routed", "safe", "dropped", "marked", "held", "quarantined")
}

// Message is one entry of a listing, from when it was first seen until 90 days
// after it went from the maildrop. A zero time means "not".
type Message struct {
	ID          int64
	UIDL        string // raw octets, 1 to 512 of them
	Gen         int    // tells messages with the same UIDL apart
	Size        int64  // octets as LIST had them; -1 if it was never asked
	FirstSeen   time.Time
	Fetches     int // begun RETRs, counted before they are sent
	Holds       int // how often it was quarantined
	Status      Status
	Note        string // why it is in this status, for people
	NextTry     time.Time
	AbsentSince time.Time      // missing from complete listings
	DelSentAt   time.Time      // DELE was accepted
	GoneAt      time.Time      // known to be deleted: the row is a tombstone
	Suspect     bool           // the server may have sent another message: never deleted
	Keep        *time.Duration // how long it stays on the maildrop, as the rules said when it was routed; nil: as the account says

	// Content is what the body told. It is nil until the message was fetched,
	// and in what Known returns: Messages loads it.
	*Content
}

// Forever is a Keep that never ends.
const Forever time.Duration = -1

// Content is what is remembered of a message's octets. Of one that was dropped
// for its header only Stable and MessageID are known.
type Content struct {
	Hash      [32]byte // of the canonical form
	CanonSize int64    // octets of the canonical form
	Stable    [32]byte // of the stable header fields alone
	Body      [32]byte // of the canonical form without the header
	MessageID string   // with its angle brackets; "" if there is none
	Octets    int64    // as received
}

// DeliveryStatus says what has become of one copy. Its numbers are on disk.
type DeliveryStatus int8

const (
	DeliveryPlanned   DeliveryStatus = iota // decided, not begun
	DeliveryIntent                          // octets may be on their way: uncertain until there is an outcome
	DeliveryCommit                          // SMTP: the final dot may be on its way
	DeliveryDelivered                       // the target has it; this is final
	DeliveryFailed                          // certainly not stored
	DeliveryHeld                            // waits for a person
)

// String returns the status in lower case, as users see it.
func (s DeliveryStatus) String() string {
	return name(int(s), "planned", "intent", "commit", "delivered", "failed", "held")
}

func name(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return "unknown"
	}
	return names[i]
}

// Delivery is one copy of a message at one target. Message and N are its key;
// N counts the copies of a message and is the caller's to choose.
type Delivery struct {
	Message int64
	N       int

	// The route, fixed when it was recorded.
	Target string
	Folder string // "/" separates levels; "" is the target's own
	Rcpt   string
	Flags  []string
	Rule   string

	Status   DeliveryStatus
	Attempts int // begun, and not given back
	// Where it is, or where to look for it.
	Box         string // the folder as the server calls it
	UIDValidity uint32
	UIDNext     uint32 // no copy made since the intent has a smaller UID
	UID         uint32 // 0 if the server did not say
	Existed     bool   // the copy was there before; nothing was stored

	Class   string // of the last failure
	Reply   string // the server's last words
	NextTry time.Time
	At      time.Time // of the last change
}
