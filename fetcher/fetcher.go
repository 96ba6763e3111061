package fetcher

import (
	"cmp"
	"log/slog"
	"os"
	"sync"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// Account is one POP3 maildrop to fetch from. It is read-only once in use.
type Account struct {
	Name     string
	Maildrop maildrop.Config
	Keep     Keep
	Limits   Limits
	FirstRun FirstRun
	// Consumes says that the server lists no message again that it has sent, and
	// shows only a part of the others at a time. What was read is then kept on
	// disk until it is delivered, sessions follow each other until there is
	// nothing new, and what is not listed counts as being there.
	Consumes bool

	// only, if not nil, are the rows of all messages that may be deleted: what a
	// migration has compared.
	only map[int64]bool
}

// Source names the maildrop in the state: an account's name may change.
func (a *Account) Source() string { return a.Maildrop.Addr() + "/" + a.Maildrop.User }

// FirstRun says which messages count when nothing is known of a maildrop yet.
// The others are remembered, left alone and never deleted. The zero FirstRun
// takes all.
type FirstRun struct {
	New   bool      // none of those that lie there now
	Since time.Time // those that came since then; zero for no such limit
}

// Limits bound one pass over an account; zero fields do not.
type Limits struct {
	Messages        int   // fetched in one pass
	Bytes           int64 // octets fetched in one pass, by LIST
	MaxSize         int64 // larger messages are left on the maildrop
	SessionMessages int   // a pass that deletes QUITs and dials again after so many; 0 is 5,000
}

// Job is accounts whose mail goes to targets.
type Job struct {
	Name     string
	Accounts []*Account
	Targets  []string          // names in Fetcher.Targets; each must take a message that no rule sends elsewhere
	Dedupe   map[string]Dedupe // by target; those not in it Recover
	Hold     map[string]bool   // by target, of Relays: a message whose final reply was lost waits for a person, and is not sent again
	Rules    *rules.Set        // nil: every message goes to the targets' own folders
}

// Fetcher runs passes. Fill it in, then call Pass; the fields are not to be
// changed afterwards. It is safe for concurrent use, one pass an account at a
// time.
type Fetcher struct {
	Targets map[string]targets.Target
	State   *state.Store // may be a read-only one, or nil, if DryRun
	Log     *slog.Logger
	Now     func() time.Time          // nil is time.Now
	Event   func(Event)               // called from several goroutines, one at a time; nil for none
	DryRun  bool                      // decide, and change nothing anywhere
	Spool   string                    // directory for large bodies in hand; "" is the system's
	Rates   map[string][]targets.Rate // by target; all of them hold

	// Record returns what else to commit with the end of a pass: its line in a
	// history. It is called once a pass, after its last other event, but not in a
	// dry run; nil for nothing. The change is Put even where the pass failed, unless
	// the state itself did; that it could not be is no failure of the pass.
	Record func(Report, error) state.Change

	inUse []time.Duration // tests: see inUsePauses

	once   sync.Once
	shared *shared
}

// shared is what passes must have in common, even if they run with different
// targets or rates: two that do not see each other's gates would take a message
// on its way for one that was lost, and send it again.
type shared struct {
	eventMu sync.Mutex

	mu      sync.Mutex
	busy    map[string]bool         // maildrops with a pass under way
	gates   map[place]*sync.RWMutex // by target and box
	shelves map[shelfAt]*shelf
	spools  map[string]*spool // by directory; they have one budget

	comparing chan struct{} // room for migrations that compare

	rateMu   sync.Mutex
	limiters map[string]*rated // of targets that have rates
}

func (f *Fetcher) common() *shared {
	f.once.Do(func() {
		if f.shared == nil {
			f.shared = &shared{busy: map[string]bool{}, gates: map[place]*sync.RWMutex{}, shelves: map[shelfAt]*shelf{}, limiters: map[string]*rated{}, comparing: make(chan struct{}, comparisons)}
		}
	})
	return f.shared
}

// With returns a Fetcher for other targets and rates, which knows of the passes
// of f that are under way and goes on counting where a rate is the same. All
// else is as in f, which can still be used: so a configuration is replaced while
// passes run. Before its first use it may also be given another State and Spool,
// if none of its targets has the name of one of f's: then both have one budget of
// memory, and one stream of events.
func (f *Fetcher) With(ts map[string]targets.Target, rates map[string][]targets.Rate) *Fetcher {
	return &Fetcher{
		Targets: ts, Rates: rates,
		State: f.State, Log: f.Log, Now: f.Now, Event: f.Event, DryRun: f.DryRun, Spool: f.Spool, Record: f.Record,
		inUse: f.inUse, shared: f.common(),
	}
}

// Event is something that happened to a message, an account or a pass. It is
// the one stream behind progress, --json, the summary and the status page.
type Event struct {
	Kind    Kind
	Job     string
	Account string
	Pass    string // short random id, the same in every event and log line of a pass
	Time    time.Time

	// Of a message: Delivered, Duplicate, Skipped, Dropped, Held, Failed,
	// Deleted and, in a dry run, Planned. One for each destination.
	UIDL      string // raw octets of the server; escape before printing
	MessageID string
	Header    *rules.Header // of a message that was read; keeping it keeps the message
	Octets    int64
	Target    string
	Folder    string // as the server calls it, or as routed when it was not asked; of a relay the recipient
	Rule      string // "" is the default
	Reason    string // of Deleted, Skipped, Dropped, Held: "keep: 30d"
	Err       error  // of Failed and Held

	Report *Report // of PassEnd
	Total  Totals  // of Listed: what lies on the maildrop and what this pass will fetch

	Until time.Time // of Waiting: when it goes on; Err or Reason says what for
}

// From returns who wrote the message, "" if that is not known: decoded, raw
// text, to be escaped before it is printed. It and its like read the header
// anew each time: most events nobody asks.
func (e *Event) From() string {
	if from := e.Header.Addresses("From"); len(from) > 0 {
		return from[0].Addr()
	}
	return ""
}

// Subject is as From for the subject.
func (e *Event) Subject() string { return e.Header.Text("Subject") }

// Date returns when the message was written, else when it was received; zero if
// neither is known.
func (e *Event) Date() time.Time {
	if e.Header == nil {
		return time.Time{}
	}
	if date := e.Header.Date(); !date.IsZero() {
		return date
	}
	return e.Header.Received()
}

// Totals tell how much there is to do.
type Totals struct {
	Messages int   // on the maildrop
	Octets   int64 // on the maildrop, by LIST
	New      int   // to fetch in this pass
	NewBytes int64 // by LIST
}

// Kind is the kind of an Event.
type Kind int

const (
	PassStart Kind = iota
	Listed         // the listing was read and compared
	Planned        // dry run: this would happen to the message
	Delivered      // the target has it and the state says so on disk
	Duplicate      // the target had it already
	Skipped        // left on the maildrop, looked at again next pass
	Dropped        // a rule does not want it; remembered
	Held           // not tried any more for now
	Failed         // not delivered, the next pass tries again
	Deleted        // DELE was accepted and QUIT confirmed
	PassEnd
	Comparing // a migration: both sides are being compared
	Compared  // that has ended, with Err
	Waiting   // between passes: nothing can be done before Until
)

func (k Kind) String() string {
	return [...]string{"pass_start", "listed", "planned", "delivered", "duplicate", "skipped", "dropped", "held", "failed", "deleted", "pass_end", "comparing", "compared", "waiting"}[k]
}

// Report is how one pass over one account went.
type Report struct {
	Job, Account, Pass string
	Start              time.Time
	Took               time.Duration

	OnServer      int   // messages on the maildrop when the pass began
	OnServerBytes int64 // by LIST
	New           int   // messages fetched, or dropped for their headers
	Bytes         int64 // octets fetched
	Delivered     int   // messages that all their targets now have
	Duplicate     int   // of these, already there before
	Dropped       int
	Skipped       int
	Marked        int // remembered and left alone, by FirstRun
	Failed        int // not delivered, tried again next pass
	Recovered     int // interrupted deliveries of earlier passes that were found at the target
	Held          int // held, from this pass or an earlier one
	Deleted       int
	Left          int                       // messages on the maildrop when the pass ended
	LoggedIn      time.Time                 // last; zero if never
	LoginDelay    time.Duration             // between logins, as the server wants it; 0 if it did not say
	Expires       bool                      // the server deletes mail by itself
	ExpireDays    int                       // after so many days
	CertEnds      time.Time                 // the certificate of the maildrop's server; zero without TLS
	Folders       map[string]map[string]int // target → folder → messages delivered
	More          bool                      // a limit or a rate has left messages that the next pass may take
	Used          *targets.UsedUp           // of the rates that left some, the one that goes on first; nil if none did
	Down          map[string]error          // by target: why it took nothing more, other than for a rate
	Warnings      []string
}

func (f *Fetcher) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

func (f *Fetcher) logger() *slog.Logger {
	if f.Log != nil {
		return f.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (f *Fetcher) event(e Event) {
	if f.Event == nil {
		return
	}
	c := f.common()
	c.eventMu.Lock()
	defer c.eventMu.Unlock()
	if e.Time.IsZero() {
		e.Time = f.now()
	}
	f.Event(e)
}

// lockSource takes a maildrop for one pass; two connections to one maildrop
// would fetch everything twice.
func (f *Fetcher) lockSource(source string) bool {
	c := f.common()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[source] {
		return false
	}
	c.busy[source] = true
	return true
}

func (f *Fetcher) unlockSource(source string) {
	c := f.common()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, source)
}

// gate is held for reading while a delivery to a box has no outcome on disk,
// and for writing while that box is searched.
func (f *Fetcher) gate(target, box string) *sync.RWMutex {
	c := f.common()
	c.mu.Lock()
	defer c.mu.Unlock()
	at := place{target, box}
	g := c.gates[at]
	if g == nil {
		g = new(sync.RWMutex)
		c.gates[at] = g
	}
	return g
}

// bodies is the spool of f's directory. All that f shares passes with have one
// budget together.
func (f *Fetcher) bodies() *spool {
	c := f.common()
	dir := cmp.Or(f.Spool, os.TempDir())
	c.mu.Lock()
	defer c.mu.Unlock()
	if sp := c.spools[dir]; sp != nil {
		return sp
	}
	sp := newSpool(dir)
	for _, other := range c.spools {
		sp.mem, sp.disk = other.mem, other.disk
	}
	if c.spools == nil {
		c.spools = map[string]*spool{}
	}
	c.spools[dir] = sp
	return sp
}
