package state

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Known is what is remembered of one account.
type Known struct {
	Account  Account    // ID is 0 if it was never listed
	Messages []*Message // in order of ID, gone ones left out; without Content
}

// with calls f with the reading connection.
func (s *Store) with(ctx context.Context, f func(*conn) error) error {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if s.reader == nil {
		return ErrClosed
	}
	err := f(s.reader)
	if err == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return classify(s.path, err)
}

// snapshot is with, where all queries of f see the same moment.
func (s *Store) snapshot(ctx context.Context, f func(*conn) error) error {
	return s.with(ctx, func(c *conn) error {
		if err := c.script("BEGIN"); err != nil {
			return err
		}
		err := f(c)
		_ = c.script("ROLLBACK") // it has only read
		return err
	})
}

// read runs a query on the reading connection.
func (s *Store) read(ctx context.Context, sql string, args []any, each func(row) error) error {
	return s.with(ctx, func(c *conn) error { return c.query(ctx, sql, args, each) })
}

const accountColumns = `id, source, name, first_pass_done, list_hash, list_count, last_pass, last_success, exact, quiet_until`

func scanAccount(r row) Account {
	return Account{
		ID: r.int64(0), Source: r.text(1), Name: r.text(2), FirstPassDone: r.bool(3),
		ListHash: r.bytes(4), ListCount: r.int(5), LastPass: r.time(6), LastSuccess: r.time(7), Exact: r.int(8), QuietUntil: r.time(9),
	}
}

const (
	messageColumns = `id, uidl, gen, size, first_seen, fetches, holds, status, note, next_try, absent_since, delsent_at, gone_at, suspect, keep_for`
	contentColumns = `hash, canon_size, stable, msgid, octets, body`
)

func scanMessage(r row, m *Message) {
	*m = Message{
		ID: r.int64(0), UIDL: r.text(1), Gen: r.int(2), Size: r.int64(3), FirstSeen: r.time(4), Fetches: r.int(5), Holds: r.int(6),
		Status: Status(r.int64(7)), Note: r.text(8), NextTry: r.time(9), AbsentSince: r.time(10), DelSentAt: r.time(11), GoneAt: r.time(12), Suspect: r.bool(13),
	}
	if !r.null(14) {
		m.Keep = new(max(Forever, time.Duration(r.int64(14))*time.Millisecond))
	}
}

func scanContent(r row, i int) *Content {
	if r.null(i + 2) {
		return nil
	}
	c := &Content{CanonSize: r.int64(i + 1), MessageID: r.text(i + 3), Octets: r.int64(i + 4)}
	copy(c.Hash[:], r.octets(i))
	copy(c.Stable[:], r.octets(i+2))
	copy(c.Body[:], r.octets(i+5))
	return c
}

// Account returns the row of the account with this source; its ID is 0 if there
// is none.
func (s *Store) Account(ctx context.Context, source string) (Account, error) {
	a := Account{Source: source}
	err := s.read(ctx, `SELECT `+accountColumns+` FROM account WHERE source = ?`, []any{source},
		func(r row) error { a = scanAccount(r); return nil })
	return a, err
}

// Known returns everything remembered of the account with this source. It is
// made for large maildrops: about 200 octets a message.
func (s *Store) Known(ctx context.Context, source string) (*Known, error) {
	account, err := s.Account(ctx, source)
	k := &Known{Account: account}
	if err != nil || k.Account.ID == 0 {
		return k, err
	}
	const live = ` FROM message INDEXED BY message_account WHERE account = ? AND gone_at = 0`
	var n int
	if err := s.read(ctx, `SELECT count(*)`+live, []any{k.Account.ID}, func(r row) error { n = r.int(0); return nil }); err != nil {
		return nil, err
	}
	k.Messages = make([]*Message, 0, n)
	block := make([]Message, n)
	err = s.read(ctx, `SELECT `+messageColumns+live+` ORDER BY id`, []any{k.Account.ID}, func(r row) error {
		if len(block) == 0 { // one came after the count
			block = make([]Message, 16)
		}
		scanMessage(r, &block[0])
		k.Messages = append(k.Messages, &block[0])
		block = block[1:]
		return nil
	})
	return k, err
}

// Messages returns messages by ID, with Content where they have any, in order
// of ID. IDs that do not exist are left out.
func (s *Store) Messages(ctx context.Context, list ...int64) ([]*Message, error) {
	return s.messages(ctx, `WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id`, ids(list))
}

// ByHash returns the messages of an account with this canonical hash that are
// absent from the listing or gone, oldest first. An Absent of this pass counts
// once it was Put.
func (s *Store) ByHash(ctx context.Context, account int64, hash [32]byte) ([]*Message, error) {
	return s.messages(ctx, `WHERE hash = ? AND (absent_since > 0 OR gone_at > 0) AND account = ? ORDER BY id`, hash[:], account)
}

func (s *Store) messages(ctx context.Context, where string, args ...any) (out []*Message, err error) {
	err = s.with(ctx, func(c *conn) error {
		out, err = selectMessages(ctx, c, where, args...)
		return err
	})
	return out, err
}

func selectMessages(ctx context.Context, c *conn, where string, args ...any) ([]*Message, error) {
	var out []*Message
	err := c.query(ctx, `SELECT `+messageColumns+`, `+contentColumns+` FROM message `+where, args, func(r row) error {
		m := new(Message)
		scanMessage(r, m)
		m.Content = scanContent(r, 15)
		out = append(out, m)
		return nil
	})
	return out, err
}

const deliveryColumns = `message, n, target, folder, rcpt, flags, rule, d.status, attempts, box, uidvalidity, uidnext, uid, existed,
	class, reply, d.next_try, at`

func scanDelivery(r row) Delivery {
	d := Delivery{
		Message: r.int64(0), N: r.int(1), Target: r.text(2), Folder: r.text(3), Rcpt: r.text(4), Rule: r.text(6),
		Status: DeliveryStatus(r.int64(7)), Attempts: r.int(8),
		Box: r.text(9), UIDValidity: r.uint32(10), UIDNext: r.uint32(11), UID: r.uint32(12), Existed: r.bool(13),
		Class: r.text(14), Reply: r.text(15), NextTry: r.time(16), At: r.time(17),
	}
	if flags := r.text(5); flags != "" {
		d.Flags = strings.Split(flags, flagSep)
	}
	return d
}

// Deliveries returns the deliveries of messages, in order of message and N.
func (s *Store) Deliveries(ctx context.Context, messages ...int64) ([]Delivery, error) {
	return s.deliveries(ctx, `WHERE message IN (SELECT value FROM json_each(?)) ORDER BY message, n`, ids(messages))
}

// Uncertain returns an account's deliveries that have an intent and no outcome,
// in order of message and N.
func (s *Store) Uncertain(ctx context.Context, account int64) ([]Delivery, error) {
	return s.deliveries(ctx, `JOIN message m ON m.id = d.message
		WHERE d.status IN (1, 2) AND m.account = ? ORDER BY d.message, n`, account)
}

func (s *Store) deliveries(ctx context.Context, where string, args ...any) (out []Delivery, err error) {
	err = s.with(ctx, func(c *conn) error {
		out, err = selectDeliveries(ctx, c, where, args...)
		return err
	})
	return out, err
}

func selectDeliveries(ctx context.Context, c *conn, where string, args ...any) ([]Delivery, error) {
	var out []Delivery
	err := c.query(ctx, `SELECT `+deliveryColumns+` FROM delivery d `+where, args, func(r row) error {
		out = append(out, scanDelivery(r))
		return nil
	})
	return out, err
}

// Claimed returns the UIDs from a given one on that deliveries of any account,
// tombstones among them, have in a folder of a target.
func (s *Store) Claimed(ctx context.Context, target, box string, validity, from uint32) (map[uint32]bool, error) {
	out := make(map[uint32]bool)
	err := s.read(ctx, `SELECT uid FROM delivery WHERE target = ? AND box = ? AND uidvalidity = ? AND uid > 0 AND uid >= ? AND status = 3`,
		[]any{target, box, validity, from}, func(r row) error { out[r.uint32(0)] = true; return nil })
	return out, err
}

// ClaimedBeside is Claimed without what belongs to messages that still lay on the
// maildrop of an account at a time.
func (s *Store) ClaimedBeside(ctx context.Context, account int64, at time.Time, target, box string, validity uint32) (map[uint32]bool, error) {
	out := make(map[uint32]bool)
	err := s.read(ctx, `SELECT uid FROM delivery d JOIN message m ON m.id = d.message
		WHERE target = ? AND box = ? AND uidvalidity = ? AND uid > 0 AND d.status = 3
		AND (m.account <> ? OR m.gone_at > 0 AND m.gone_at < ?)`,
		[]any{target, box, validity, account, at}, func(r row) error { out[r.uint32(0)] = true; return nil })
	return out, err
}

// Copy is a delivered copy, by the hash of its message.
type Copy struct {
	Hash                      [32]byte
	CanonSize                 int64
	Stable                    [32]byte
	MessageID                 string
	UIDValidity, UIDNext, UID uint32 // UID is 0 if the server did not say
	At                        time.Time
}

// Copies returns every copy that deliveries of any account, tombstones among
// them, have made in a folder of a target.
func (s *Store) Copies(ctx context.Context, target, box string) ([]Copy, error) {
	var out []Copy
	err := s.read(ctx, `SELECT m.hash, m.canon_size, m.stable, m.msgid, d.uidvalidity, d.uidnext, d.uid, d.at
		FROM delivery d JOIN message m ON m.id = d.message
		WHERE d.target = ? AND d.box = ? AND d.status = 3 AND m.hash IS NOT NULL`,
		[]any{target, box}, func(r row) error {
			c := Copy{
				CanonSize: r.int64(1), MessageID: r.text(3),
				UIDValidity: r.uint32(4), UIDNext: r.uint32(5), UID: r.uint32(6), At: r.time(7),
			}
			copy(c.Hash[:], r.octets(0))
			copy(c.Stable[:], r.octets(2))
			out = append(out, c)
			return nil
		})
	return out, err
}

// Sent is messages that were delivered to a target within a minute.
type Sent struct {
	At       time.Time // the end of the minute
	Messages int64
	Octets   int64
}

// Sent returns what was delivered to a target since a time, in order. Copies
// that were there before are left out, and what several recipients got at the
// same instant was sent once. It reads every delivery.
func (s *Store) Sent(ctx context.Context, target string, since time.Time) ([]Sent, error) {
	var out []Sent
	err := s.read(ctx, `SELECT (at / 60000 + 1) * 60000, count(*), coalesce(sum(octets), 0)
		FROM (SELECT DISTINCT d.message, d.at, iif(d.rcpt = '', d.n, -1), m.octets
			FROM delivery d JOIN message m ON m.id = d.message
			WHERE d.target = ? AND d.status = 3 AND d.existed = 0 AND d.at >= ?)
		GROUP BY 1 ORDER BY 1`,
		[]any{target, since}, func(r row) error {
			out = append(out, Sent{At: r.time(0), Messages: r.int64(1), Octets: r.int64(2)})
			return nil
		})
	return out, err
}

// AccountSummary is an account and what its messages add up to.
type AccountSummary struct {
	Account
	Known         int       // messages remembered, tombstones left out
	OnServer      int       // of these, in the last complete listing
	Waiting       int       // of these, safe or dropped and no suspects: they may be deleted when their time comes
	OldestWaiting time.Time // when the oldest of these was first seen
	Undelivered   int       // on the server, still to be delivered
	Held          int       // on the server, held or quarantined
	FirstSeen     time.Time // of the oldest message remembered, tombstones among them
}

// Accounts returns a summary of every account, in order of name.
func (s *Store) Accounts(ctx context.Context) ([]AccountSummary, error) {
	const here = `gone_at = 0 AND absent_since = 0`
	const waiting = here + ` AND status IN (2, 3) AND suspect = 0`
	var out []AccountSummary
	err := s.read(ctx, `SELECT a.`+strings.ReplaceAll(accountColumns, ", ", ", a.")+`,
		count(m.id) FILTER (WHERE gone_at = 0), count(m.id) FILTER (WHERE `+here+`),
		count(m.id) FILTER (WHERE `+waiting+`), coalesce(min(first_seen) FILTER (WHERE `+waiting+`), 0),
		count(m.id) FILTER (WHERE `+here+` AND status IN (0, 1)), count(m.id) FILTER (WHERE `+here+` AND status IN (5, 6)),
		coalesce(min(first_seen), 0)
		FROM account a LEFT JOIN message m ON m.account = a.id GROUP BY a.id ORDER BY a.name, a.id`, nil, func(r row) error {
		out = append(out, AccountSummary{
			Account: scanAccount(r), Known: r.int(10), OnServer: r.int(11), Waiting: r.int(12), OldestWaiting: r.time(13),
			Undelivered: r.int(14), Held: r.int(15), FirstSeen: r.time(16),
		})
		return nil
	})
	return out, err
}
