package state

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Change is one record. The types that implement it are all in this package;
// each documents what it expects of the rows, and is refused with ErrConflict
// where it does not find it.
type Change interface{ apply(*tx) error }

// Listed records a listing: the account's row, and a row for every new entry.
// Known entries need none. Account is found by its Source. Account.ID and the
// Messages' IDs and FirstSeen are filled in.
type Listed struct {
	Account *Account
	New     []*Message // UIDL, Gen, Size; each (UIDL, Gen) may be there once. StatusNew, or StatusMarked and a Note
	Hash    []byte     // of the whole listing
	Count   int        // its entries
	At      time.Time
}

func (l Listed) apply(t *tx) error {
	var id int64
	err := t.c.query(context.Background(), `INSERT INTO account (source, name, list_hash, list_count) VALUES (?, ?, ?, ?)
		ON CONFLICT (source) DO UPDATE SET name = excluded.name, list_hash = excluded.list_hash, list_count = excluded.list_count
		RETURNING id`,
		[]any{l.Account.Source, l.Account.Name, l.Hash, l.Count},
		func(r row) error { id = r.int64(0); return nil })
	if err != nil {
		return err
	}
	first := t.s.nextID
	t.s.nextID += int64(len(l.New))
	for done := 0; done < len(l.New); {
		n := min(insertRows, len(l.New)-done)
		if err := t.insert(id, first+int64(done), l.New[done:done+n], l.At); err != nil {
			return err
		}
		done += n
	}
	t.then = append(t.then, func() {
		l.Account.ID, l.Account.ListHash, l.Account.ListCount = id, l.Hash, l.Count
		for i, m := range l.New {
			m.ID, m.FirstSeen = first+int64(i), l.At
		}
	})
	return nil
}

// insertRows is how many rows one INSERT takes: a statement costs about as much
// as a row of it.
const insertRows = 32

var insertMessages = func() (sql [insertRows + 1]string) {
	for n := range sql {
		sql[n] = "INSERT INTO message (id, account, uidl, gen, size, first_seen, status, note) VALUES " + tuples(n, 8)
	}
	return sql
}()

// tuples writes n times "(?,…)" with as many marks as columns.
func tuples(n, columns int) string {
	one := "(" + strings.TrimSuffix(strings.Repeat("?,", columns), ",") + ")"
	return strings.TrimSuffix(strings.Repeat(one+",", n), ",")
}

func (t *tx) insert(account, id int64, ms []*Message, at time.Time) error {
	args := make([]any, 0, 8*insertRows)
	for i, m := range ms {
		args = append(args, id+int64(i), account, []byte(m.UIDL), m.Gen, m.Size, at, m.Status, m.Note)
	}
	return t.must(len(ms), "new messages", insertMessages[len(ms)], args...)
}

// Fetching counts an attempt to read each of the messages. It goes before the
// first RETR of a window, so that a message which crashes us is noticed.
type Fetching struct{ Messages []int64 }

func (f Fetching) apply(t *tx) error {
	return t.must(len(f.Messages), "RETR", `UPDATE message SET fetches = fetches + 1
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0`, ids(f.Messages))
}

// Unfetched gives back the attempts of messages whose RETR never began, or that
// ended for a reason that is not theirs.
type Unfetched struct{ Messages []int64 }

func (f Unfetched) apply(t *tx) error {
	return t.must(len(f.Messages), "RETR taken back", `UPDATE message SET fetches = max(fetches - 1, 0)
		WHERE id IN (SELECT value FROM json_each(?)) AND gone_at = 0`, ids(f.Messages))
}

// MessageFailed records why a message could not be read. Uncharge gives the
// attempt back.
type MessageFailed struct {
	Message  int64
	Class    string
	Reply    string
	NextTry  time.Time
	Uncharge bool
}

func (f MessageFailed) apply(t *tx) error {
	return t.must(1, "RETR", `UPDATE message SET note = ?, next_try = ?, fetches = max(fetches - ?, 0)
		WHERE id = ? AND gone_at = 0`,
		strings.TrimPrefix(f.Class+": "+f.Reply, ": "), f.NextTry, f.Uncharge, f.Message)
}

// Dropped records that a rule does not want the message. Nothing of it may have
// been sent. Message.Content may be nil, or lack all but Stable if only the
// header was read; without it the message is never deleted.
type Dropped struct {
	Message *Message
	Rule    string
	At      time.Time
}

func (d Dropped) apply(t *tx) error {
	if err := t.unplan(d.Message.ID); err != nil {
		return err
	}
	if err := t.must(1, "drop", `UPDATE message SET status = ?, note = ?, next_try = 0, keep_for = ? WHERE id = ? AND gone_at = 0
		AND status IN (0, 1, 5, 6) AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = id)`,
		StatusDropped, d.Rule, d.Message.keepFor(), d.Message.ID); err != nil || d.Message.Content == nil {
		return err
	}
	return t.content(d.Message)
}

// content stores what the body told.
func (t *tx) content(m *Message) error {
	c := m.Content
	var hash any // none is no hash that another message could have
	if c.Hash != [32]byte{} {
		hash = c.Hash[:]
	}
	return t.must(1, "content", `UPDATE message SET size = ?, hash = ?, canon_size = ?, stable = ?, body = ?, msgid = ?, octets = ?
		WHERE id = ?`, m.Size, hash, c.CanonSize, c.Stable[:], c.Body[:], c.MessageID, c.Octets, m.ID)
}

// keepFor is how Keep is stored.
func (m *Message) keepFor() any {
	switch {
	case m.Keep == nil:
		return nil
	case *m.Keep < 0:
		return int64(-1)
	default:
		return m.Keep.Milliseconds()
	}
}

// Suspect records that the server may have sent another message than the one
// that was asked for. It is never deleted; delivering it does no harm.
type Suspect struct {
	Message int64
	Note    string
}

func (c Suspect) apply(t *tx) error {
	return t.must(1, "suspect", `UPDATE message SET suspect = 1, note = ? WHERE id = ? AND gone_at = 0`, c.Note, c.Message)
}

// Exact records how many messages of an account in a row were as large as LIST
// said.
type Exact struct {
	Account int64
	Count   int
}

func (c Exact) apply(t *tx) error {
	return t.must(1, "exact", `UPDATE account SET exact = ? WHERE id = ?`, c.Count, c.Account)
}

// Quarantined sets a message aside until NextTry and counts that. Its
// deliveries stay as they are.
type Quarantined struct {
	Message int64
	Note    string
	NextTry time.Time
	At      time.Time
}

func (q Quarantined) apply(t *tx) error {
	return t.must(1, "quarantine", `UPDATE message SET status = ?, note = ?, next_try = ?, holds = holds + 1
		WHERE id = ? AND gone_at = 0 AND status IN (0, 1, 5, 6)`,
		StatusQuarantined, q.Note, q.NextTry, q.Message)
}

// Held sets a message aside until a person decides, with its deliveries that
// are not delivered. An intent stays one: its copy may have arrived, and only a
// search can tell.
type Held struct {
	Message int64
	Note    string
	At      time.Time
}

func (h Held) apply(t *tx) error {
	if err := t.must(1, "hold", `UPDATE message SET status = ?, note = ?, next_try = 0
		WHERE id = ? AND gone_at = 0 AND status IN (0, 1, 5, 6)`, StatusHeld, h.Note, h.Message); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE delivery SET status = ?, at = ? WHERE message = ? AND status NOT IN (1, 3)`,
		DeliveryHeld, h.At, h.Message)
	return err
}

// PassDone records the end of a pass. FirstPass says that it was whole: the
// account's FirstPassDone is set, for good.
type PassDone struct {
	Account   int64
	At        time.Time
	Success   bool
	FirstPass bool
}

func (p PassDone) apply(t *tx) error {
	return t.must(1, "pass", `UPDATE account SET last_pass = ?, last_success = iif(?, ?, last_success),
		first_pass_done = max(first_pass_done, ?) WHERE id = ?`,
		p.At, p.Success, p.At, p.FirstPass, p.Account)
}

// Quiet records that nothing is to be done for an account before Until, as long
// as its listing has this hash. The next Listed without one ends it.
type Quiet struct {
	Account int64
	Hash    []byte
	Until   time.Time
}

func (q Quiet) apply(t *tx) error {
	return t.must(1, "quiet", `UPDATE account SET list_hash = ?, quiet_until = ? WHERE id = ?`, q.Hash, q.Until, q.Account)
}

// Clock moves the high-water clock towards Now: never back, and at most 40 days
// at once, so that one wrong clock does not make everything old enough to be
// deleted.
type Clock struct{ Now time.Time }

// clockStep is how far a Clock moves at most.
const clockStep = 40 * 24 * time.Hour

func (c Clock) apply(t *tx) error {
	// Not from s.clock: an earlier Clock of this transaction counts, too.
	have, err := t.c.number("SELECT value FROM meta WHERE name = 'clock'")
	if err != nil {
		return err
	}
	now := millis(c.Now)
	if have != 0 {
		now = max(have, min(now, have+clockStep.Milliseconds()))
	}
	t.then = append(t.then, func() { t.s.clock.Store(now) })
	return t.must(1, "clock", "UPDATE meta SET value = ? WHERE name = 'clock'", now)
}

// conflict says what of a change does not fit.
func conflict(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConflict, fmt.Sprintf(format, args...))
}
