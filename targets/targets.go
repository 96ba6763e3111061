// Package targets says what a place that takes messages must do, and what a
// failure there means.
//
// A Target delivers; a Finder can also tell whether an uncertain delivery
// arrived, and a Comparer what was there before. The kinds stand below:
// targets/imap, targets/maildir and targets/smtp today. Whoever delivers asks of
// every error one question, FaultOf: leave it, blame the message, blame the
// target, or look first? A Limiter holds the deliveries to a target to its rates.
//
// The package also owns the canonical form of a message (canon.go): two copies
// are the same message when their canonical hashes are equal, whatever the
// servers between them did to line ends.
package targets

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"time"
)

// Message is one message as it lay in the maildrop: complete, immutable,
// CRLF line ends, dot-unstuffed.
type Message struct {
	Key        string      // "isp/0001a7f2", for logs; printable
	MessageID  string      // with its angle brackets; "" if there is none
	Host       string      // of the maildrop it lay in; "" if unknown
	ReturnPath string      // whom failures concern: its Return-Path, without one its Sender or From; "" for <> and if unusable
	Received   time.Time   // of the topmost Received header; zero if unusable
	Date       time.Time   // of the Date header; zero if unusable
	Size       int64       // octets in Body, never 0
	Hash       Hash        // of the canonical form
	Body       io.ReaderAt // valid until Deliver returns
	// Commit records that the final dot is about to be sent, to those of the
	// recipients that the server has accepted. A Relay calls it once, after the
	// last octet before CRLF.CRLF; if it fails, the target drops the connection.
	// What has no Commit is delivered without.
	Commit func(ctx context.Context, rcpt []string) error
}

// Dest is where at a target a message goes. Its fields are those of rules.Dest.
type Dest struct {
	Folder string   // "" is the target's own; "/" separates levels whatever the server uses
	Flags  []string // "seen", "flagged", keywords; without backslash
	Rcpt   []string // SMTP envelope recipients; nil is the target's own
}

// Target is a place that takes messages. All methods are safe for concurrent
// use.
type Target interface {
	// Deliver hands over one message and returns once the target has taken
	// responsibility for it (tagged OK, 250 after the dot, fsync of file and
	// directory). Any error can be put to FaultOf. When ctx ends before an
	// octet of the message was sent the error is Transient, later it is Unsure.
	Deliver(ctx context.Context, m *Message, to Dest) (Receipt, error)
	// Check logs in and says what would go wrong; it stores nothing.
	Check(ctx context.Context) ([]Finding, error)
	// Close ends all connections. Deliveries under way fail.
	Close() error
}

// Receipt is a target's word that it has the message.
type Receipt struct {
	Folder      string // as the server calls it
	UIDValidity uint32 // 0 if the server did not say
	UID         uint32 // 0 if the server did not say
	Existed     bool   // it was there already; nothing was stored
	Reply       string // the server's words
	// Failed has the recipients that were not served, and why; the others were.
	// It is filled in together with an error, too, when that differs between them.
	Failed map[string]error
}

// Relay is implemented by targets that deliver to recipients and not into
// folders (smtp, lmtp). What they were given cannot be searched: they are no
// Finders.
type Relay interface {
	// Recipients returns whom Deliver would send to: those that to names, or else
	// the target's own. Each is there once.
	Recipients(to Dest) []string
	// Greet begins to connect and returns at once: messages are about to come.
	// What goes wrong is told by the first Deliver.
	Greet()
}

// Certified is implemented by targets that connect over TLS (imap, smtp).
type Certified interface {
	// Certificate returns what the server showed at the last login, nil before one
	// and without TLS.
	Certificate() *x509.Certificate
}

// Finder is implemented by targets that can tell whether an uncertain delivery
// arrived.
type Finder interface {
	// Mark readies folder (CREATE, EXAMINE) and returns a position that no
	// later Deliver can lie before. It is cheap when repeated.
	Mark(ctx context.Context, folder string) (Mark, error)
	// Find pairs want one to one with copies that lie at or after since, and
	// leaves out those whose UID is claimed (protocol: two identical messages
	// need two copies). The result has one entry for each of want, in order;
	// Found.UID is 0 and Found.OK false where no copy was found. It first waits
	// for this process's own commands on that folder to end, and for as long as a
	// server may take to store what it had received when a connection broke.
	Find(ctx context.Context, folder string, since Mark, want []Wanted, claimed func(uid uint32) bool) ([]Found, error)
}

// Looker is implemented by targets that can tell whether a folder is there
// without making it.
type Looker interface {
	HasFolder(ctx context.Context, folder string) (bool, error)
}

// Comparer is implemented by Finders that can tell what lay in a folder before
// anything was delivered there, so that it is not stored once more: for the
// first pass of an account, or when its state was lost.
type Comparer interface {
	// Catalog lists what lies in folder below a mark that Mark gave, without
	// the copies whose UID is claimed. It costs nothing where nothing lies
	// below. If the folder was numbered anew since the mark was given, that is
	// an error.
	Catalog(ctx context.Context, folder string, below Mark, claimed func(uid uint32) bool) (Catalog, error)
}

// Catalog is what lay in a folder at some time. It is safe for concurrent use
// until its target is closed, and needs no closing.
type Catalog interface {
	// Take looks for a copy of w and, if there is one, takes it: the next Take
	// of the same message needs another copy. Message-ID and size only say where
	// to look. A copy is one whose canonical hash agrees, because different
	// messages do share Message-ID, size and every stable header field, and
	// each of them must arrive. So on a server that changes what it stores
	// nothing is found. Found.OK is false where there is no copy; an error
	// leaves that open, and takes none.
	Take(ctx context.Context, w Wanted) (Found, error)
}

// Mark is a position in a folder: copies stored later have a UID of at least
// UIDNext as long as UIDValidity stays.
type Mark struct {
	Folder      string // as the server calls it: two names of one folder give one
	UIDValidity uint32
	UIDNext     uint32
}

// Wanted describes a copy that may lie in a folder.
type Wanted struct {
	Hash      Hash   // of the canonical form
	Size      int64  // octets of the canonical form
	MessageID string // with its angle brackets; "" if there is none
	Stable    Hash   // StableHash of its header with size 0
}

// Found is a copy that was looked for.
type Found struct {
	OK          bool
	UIDValidity uint32
	UID         uint32
	Exact       bool // the hash agreed; else Message-ID and stable headers did
}

// Finding is one line of a live check: what was seen, and what to do about it.
type Finding struct {
	Level string // "ok", "warn" or "fail"
	Code  string // of what changes with time, so that one should look again: "quota"; else ""
	Text  string
	Hint  string
	Err   error // of "fail", what Text was made from; nil if there was none
}

// Config is one checked target section. The switch over its kind stands where
// configurations are read, so there is no registry and no import cycle.
type Config interface {
	// Open returns the target; it does no I/O.
	Open(name string, log *slog.Logger) (Target, error)
}
