package state

import (
	"context"
	"strings"
	"time"
)

// The history of an account is bounded: the passes in which something happened
// stay for 90 days, and the newest of those in which nothing did, a day of them
// if there is one every five minutes.
const (
	historyTime  = 90 * 24 * time.Hour
	historyQuiet = 300
	historyLoud  = 10_000
	// historySweep is after how many passes of an account all others are looked
	// through for old rows: accounts that are no more have no passes of their own.
	historySweep = 1000
)

// Pass is how one pass over one account ended. Accounts and jobs have the names
// of the configuration.
type Pass struct {
	Account, Job, ID string
	Start            time.Time
	Took             time.Duration // kept in milliseconds
	Exit             int           // as popferry run would have ended
	Messages         int           // on the maildrop; -1 if it was not listed
	Octets           int64         // of these

	New, Delivered, Duplicate, Dropped, Failed, Held, Deleted int
	Bytes                                                     int64

	Code, Head string   // of what went wrong; "" for nothing
	Lines      []string // none of them holds a line feed
}

// interrupted reports whether a signal ended the pass: that says nothing about
// the account.
const notInterrupted = `exit NOT IN (130, 143)`

// succeeded is a pass that left nothing undone but what is held.
const succeeded = `(exit = 0 OR exit = 1 AND failed = 0 AND held > 0)`

func (p *Pass) quiet() bool {
	return p.Exit == 0 && p.New == 0 && p.Delivered == 0 && p.Dropped == 0 && p.Deleted == 0 && p.Code == ""
}

// Passed records how a pass ended, and forgets what is too old.
type Passed struct{ Pass Pass }

func (p Passed) apply(t *tx) error {
	r := &p.Pass
	var n int64
	err := t.c.query(context.Background(), `SELECT 1 + max(coalesce((SELECT max(n) FROM pass WHERE account = ?1 AND quiet = 0), 0),
		coalesce((SELECT max(n) FROM pass WHERE account = ?1 AND quiet = 1), 0))`,
		[]any{r.Account}, func(r row) error { n = r.int64(0); return nil })
	if err != nil {
		return err
	}
	var messages, octets any
	if r.Messages >= 0 {
		messages, octets = r.Messages, r.Octets
	}
	if _, err := t.exec(`INSERT INTO pass (account, quiet, n, job, pass, start, took, exit, messages, octets,
		new, delivered, duplicate, dropped, failed, held, deleted, bytes, code, head, lines) VALUES `+tuples(1, 21),
		r.Account, r.quiet(), n, r.Job, r.ID, r.Start, r.Took.Milliseconds(), r.Exit, messages, octets,
		r.New, r.Delivered, r.Duplicate, r.Dropped, r.Failed, r.Held, r.Deleted, r.Bytes,
		r.Code, r.Head, strings.Join(r.Lines, "\n")); err != nil {
		return err
	}
	if r.quiet() {
		_, err = t.exec(`DELETE FROM pass WHERE account = ? AND quiet = 1 AND n <= (SELECT n FROM pass
			WHERE account = ?1 AND quiet = 1 ORDER BY n DESC LIMIT 1 OFFSET ?)`, r.Account, historyQuiet)
	} else {
		// The oldest few: no more than that can have become too old or too many.
		_, err = t.exec(`DELETE FROM pass WHERE account = ?1 AND quiet = 0 AND (start < ?2 OR n <= ?3)
			AND n <= (SELECT max(n) FROM (SELECT n FROM pass WHERE account = ?1 AND quiet = 0 ORDER BY n LIMIT 8))`,
			r.Account, r.Start.Add(-historyTime), n-historyLoud)
	}
	if err == nil && n%historySweep == 0 {
		_, err = t.exec(`DELETE FROM pass WHERE start < ?`, r.Start.Add(-historyTime))
	}
	return err
}

const passColumns = `account, job, pass, start, took, exit, coalesce(messages, -1), coalesce(octets, 0),
	new, delivered, duplicate, dropped, failed, held, deleted, bytes, code, head, lines`

func scanPass(r row) Pass {
	p := Pass{
		Account: r.text(0), Job: r.text(1), ID: r.text(2), Start: r.time(3), Took: time.Duration(r.int64(4)) * time.Millisecond, Exit: r.int(5),
		Messages: r.int(6), Octets: r.int64(7),
		New: r.int(8), Delivered: r.int(9), Duplicate: r.int(10), Dropped: r.int(11), Failed: r.int(12), Held: r.int(13), Deleted: r.int(14),
		Bytes: r.int64(15), Code: r.text(16), Head: r.text(17),
	}
	if lines := r.text(18); lines != "" {
		p.Lines = strings.Split(lines, "\n")
	}
	return p
}

// Passes returns the newest passes over an account, at most most of them, the
// newest first.
func (s *Store) Passes(ctx context.Context, account string, most int) ([]Pass, error) {
	var out []Pass
	err := s.read(ctx, `SELECT * FROM (SELECT `+passColumns+`, n FROM pass WHERE account = ?1 AND quiet = 0 ORDER BY n DESC LIMIT ?2)
		UNION ALL SELECT * FROM (SELECT `+passColumns+`, n FROM pass WHERE account = ?1 AND quiet = 1 ORDER BY n DESC LIMIT ?2)
		ORDER BY n DESC LIMIT ?2`, []any{account, most}, func(r row) error {
		out = append(out, scanPass(r))
		return nil
	})
	return out, err
}

// Troubles returns the newest passes over any account that had a problem, at most
// most of them since a time, the newest first.
func (s *Store) Troubles(ctx context.Context, since time.Time, most int) ([]Pass, error) {
	var out []Pass
	err := s.read(ctx, `SELECT `+passColumns+` FROM pass WHERE quiet = 0 AND code <> '' AND start >= ? ORDER BY start DESC LIMIT ?`,
		[]any{since, most}, func(r row) error {
			out = append(out, scanPass(r))
			return nil
		})
	return out, err
}

// History is what the passes over an account add up to.
type History struct {
	LastSuccess time.Time // when the last pass began that left nothing undone
	LastMail    time.Time // likewise of one that delivered something new
	Failures    int       // passes since the last success; those that a signal ended left out
	FailingFrom time.Time // the first of these
	Sums        Pass      // the counts, added up since a time
	Messages    int       // on the maildrop when it was last listed; -1 if never
	Octets      int64
}

// History adds the passes over an account up. Sums are since a time.
func (s *Store) History(ctx context.Context, account string, since time.Time) (History, error) {
	r := History{Messages: -1}
	last := int64(0) // the last success
	err := s.snapshot(ctx, func(c *conn) error {
		newest := func(what, where string, each func(row) error) error {
			return c.query(ctx, `SELECT `+what+`, n FROM (SELECT * FROM (SELECT * FROM pass WHERE account = ?1 AND quiet = 0 AND `+where+` ORDER BY n DESC LIMIT 1)
				UNION ALL SELECT * FROM (SELECT * FROM pass WHERE account = ?1 AND quiet = 1 AND `+where+` ORDER BY n DESC LIMIT 1)) ORDER BY n DESC LIMIT 1`,
				[]any{account}, each)
		}
		if err := newest("start", succeeded, func(row row) error { r.LastSuccess, last = row.time(0), row.int64(1); return nil }); err != nil {
			return err
		}
		if err := newest("start", "delivered > duplicate", func(row row) error { r.LastMail = row.time(0); return nil }); err != nil {
			return err
		}
		if err := newest("messages, octets", "messages IS NOT NULL", func(row row) error { r.Messages, r.Octets = row.int(0), row.int64(1); return nil }); err != nil {
			return err
		}
		if err := c.query(ctx, `SELECT count(*), coalesce(min(start), 0) FROM pass WHERE account = ? AND quiet = 0 AND n > ? AND `+notInterrupted,
			[]any{account, last}, func(row row) error { r.Failures, r.FailingFrom = row.int(0), row.time(1); return nil }); err != nil {
			return err
		}
		return c.query(ctx, `SELECT coalesce(sum(new), 0), coalesce(sum(delivered), 0), coalesce(sum(duplicate), 0), coalesce(sum(dropped), 0),
			coalesce(sum(failed), 0), coalesce(sum(deleted), 0), coalesce(sum(bytes), 0)
			FROM pass WHERE account = ? AND quiet = 0 AND start >= ?`, []any{account, since}, func(row row) error {
			r.Sums = Pass{
				New: row.int(0), Delivered: row.int(1), Duplicate: row.int(2), Dropped: row.int(3), Failed: row.int(4),
				Deleted: row.int(5), Bytes: row.int64(6),
			}
			return nil
		})
	})
	return r, err
}

// HeldMessage is a message that waits for a person.
type HeldMessage struct {
	*Message
	Account string // its name when it was last listed
}

// Held returns the messages on maildrops that are held or quarantined: the newest
// of them, at most most. It reads all messages.
func (s *Store) Held(ctx context.Context, most int) ([]HeldMessage, error) {
	var out []HeldMessage
	err := s.read(ctx, `SELECT `+messageColumns+`, (SELECT name FROM account a WHERE a.id = message.account) FROM message
		WHERE gone_at = 0 AND absent_since = 0 AND status IN (5, 6) ORDER BY first_seen DESC, id DESC LIMIT ?`, []any{most}, func(r row) error {
		h := HeldMessage{new(Message), r.text(15)}
		scanMessage(r, h.Message)
		out = append(out, h)
		return nil
	})
	return out, err
}
