package state

import (
	"context"
	"fmt"
	"time"
)

// Checked is what Check found.
type Checked struct {
	Accounts, Messages, Gone, Deliveries int
	Clock                                time.Time // the high-water clock
	// Findings are contradictions, one line each; none in a sound state.
	Findings []string
}

// maxFindings bounds what one rule reports.
const maxFindings = 20

// contradictions are statements that return message rows that cannot be: each
// stands for a promise that a change keeps.
var contradictions = []struct{ what, where string }{
	{"is safe without a delivery", `status = 2 AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = m.id)`},
	{"is safe, but not all of its deliveries are delivered", `status = 2 AND EXISTS (SELECT 1 FROM delivery d WHERE d.message = m.id AND d.status <> 3)`},
	{"is not safe, though all of its deliveries are delivered", `status = 1 AND EXISTS (SELECT 1 FROM delivery WHERE message = m.id)
		AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message = m.id AND d.status <> 3)`},
	{"is routed without a delivery", `status = 1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = m.id)`},
	{"has deliveries, though it is " + StatusNew.String() + " or " + StatusDropped.String(), `status IN (0, 3) AND EXISTS (SELECT 1 FROM delivery WHERE message = m.id)`},
	{"is marked, though a delivery is under way", `status = 4 AND EXISTS (SELECT 1 FROM delivery d WHERE d.message = m.id AND d.status IN (1, 2))`},
	{"was deleted from the maildrop without being safe", `delsent_at > 0 AND (status NOT IN (2, 3) OR suspect <> 0)`},
	{"has deliveries, but no hash of what was delivered", `hash IS NULL AND EXISTS (SELECT 1 FROM delivery WHERE message = m.id)`},
	{"belongs to no account", `NOT EXISTS (SELECT 1 FROM account a WHERE a.id = m.account)`},
	{"has a status that is not known", `status NOT BETWEEN 0 AND 6`},
}

// Check reads the whole state and looks for damage and for contradictions. It
// changes nothing and works beside a running writer. The error says why that
// was not possible; damage is a finding.
func (s *Store) Check(ctx context.Context) (*Checked, error) {
	out := &Checked{}
	err := s.snapshot(ctx, func(c *conn) error {
		if err := c.query(ctx, "PRAGMA quick_check(20)", nil, func(r row) error {
			if text := r.text(0); text != "ok" {
				out.Findings = append(out.Findings, "the file is damaged: "+text)
			}
			return nil
		}); err != nil || len(out.Findings) > 0 {
			return err
		}
		clock, err := c.number("SELECT value FROM meta WHERE name = 'clock'")
		if err != nil {
			return err
		}
		out.Clock = ofMillis(clock)
		for sql, n := range map[string]*int{
			"SELECT count(*) FROM account": &out.Accounts, "SELECT count(*) FROM message WHERE gone_at = 0": &out.Messages,
			"SELECT count(*) FROM message WHERE gone_at > 0": &out.Gone, "SELECT count(*) FROM delivery": &out.Deliveries,
		} {
			v, err := c.number(sql)
			if err != nil {
				return err
			}
			*n = int(v)
		}
		return out.contradictions(ctx, c)
	})
	if isDamage(err) {
		out.Findings, err = append(out.Findings, err.Error()), nil
	}
	return out, err
}

func (o *Checked) contradictions(ctx context.Context, c *conn) error {
	for _, x := range contradictions {
		n := 0
		err := c.query(ctx, `SELECT m.uidl, coalesce((SELECT name FROM account a WHERE a.id = m.account), '?') FROM message m WHERE `+x.where,
			nil, func(r row) error {
				if n++; n <= maxFindings {
					o.Findings = append(o.Findings, fmt.Sprintf("message %q of account %q %s", r.text(0), r.text(1), x.what))
				}
				return nil
			})
		if err != nil {
			return err
		}
		if n > maxFindings {
			o.Findings = append(o.Findings, fmt.Sprintf("and %d more: message … %s", n-maxFindings, x.what))
		}
	}
	orphans, err := c.number(`SELECT count(*) FROM delivery d WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = d.message)`)
	if err == nil && orphans > 0 {
		o.Findings = append(o.Findings, fmt.Sprintf("%d deliveries belong to no message", orphans))
	}
	return err
}
