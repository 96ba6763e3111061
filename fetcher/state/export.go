package state

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

// Record is a message with its deliveries.
type Record struct {
	*Message
	Deliveries []Delivery // in order of N
}

// exportFormat is the version of what Export writes. Fields that are added do
// not change it.
const exportFormat = 1

// Export writes all that is remembered as JSON lines: first the state's own
// line, then each account's, followed by its messages, tombstones among them.
// If sources are given it writes only those accounts. ReadExport reads it again.
//
// Beside a running writer each message is as it was at one moment. It is not
// one moment for all of them: whoever reads w slowly must not keep the writer
// from the file.
func (s *Store) Export(ctx context.Context, w io.Writer, sources ...string) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(headLine{Type: "state", Format: exportFormat, Clock: s.Clock()}); err != nil {
		return err
	}
	var accounts []Account
	err := s.read(ctx, `SELECT `+accountColumns+` FROM account ORDER BY id`, nil, func(r row) error {
		accounts = append(accounts, scanAccount(r))
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if len(sources) > 0 && !slices.Contains(sources, a.Source) {
			continue
		}
		if err := enc.Encode(accountLine{
			Type: "account", Source: octets(a.Source), Name: a.Name, FirstPassDone: a.FirstPassDone,
			LastPass: a.LastPass, LastSuccess: a.LastSuccess,
		}); err != nil {
			return err
		}
		if err := s.Records(ctx, a.ID, func(r Record) error { return enc.Encode(lineOf(a.Source, r)) }); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Records calls each for the messages of an account, tombstones among them, in
// order of ID and with Content, until it returns an error. It holds few of them
// at once. Beside a running writer it is as Export.
func (s *Store) Records(ctx context.Context, account int64, each func(Record) error) error {
	for last := int64(-1); ; {
		records, err := s.records(ctx, account, last)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			if err := each(r); err != nil {
				return err
			}
			last = r.ID
		}
	}
}

// exportChunk is how many messages are in memory at once.
const exportChunk = 1000

// records returns messages of an account that come after an ID, the first ones.
func (s *Store) records(ctx context.Context, account, after int64) ([]Record, error) {
	var out []Record
	err := s.snapshot(ctx, func(c *conn) error {
		ms, err := selectMessages(ctx, c, `WHERE account = ? AND id > ? ORDER BY id LIMIT ?`, account, after, exportChunk)
		if err != nil {
			return err
		}
		list := make([]int64, len(ms))
		for i, m := range ms {
			list[i] = m.ID
		}
		ds, err := selectDeliveries(ctx, c, `WHERE message IN (SELECT value FROM json_each(?)) ORDER BY message, n`, ids(list))
		for _, m := range ms {
			n := 0
			for n < len(ds) && ds[n].Message == m.ID {
				n++
			}
			out = append(out, Record{m, ds[:n:n]})
			ds = ds[n:]
		}
		return err
	})
	return out, err
}

// The lines of an export.
type (
	headLine struct {
		Type   string    `json:"type"`
		Format int       `json:"format"`
		Clock  time.Time `json:"clock,omitzero"`
	}
	accountLine struct {
		Type          string    `json:"type"`
		Source        octets    `json:"source"`
		Name          string    `json:"account"`
		FirstPassDone bool      `json:"first_pass_done"`
		LastPass      time.Time `json:"last_pass,omitzero"`
		LastSuccess   time.Time `json:"last_success,omitzero"`
	}
	messageLine struct {
		Type        string         `json:"type"`
		Source      octets         `json:"source,omitempty"`
		UIDL        octets         `json:"uidl"`
		Gen         int            `json:"gen,omitempty"`
		Size        *int64         `json:"size,omitempty"`
		FirstSeen   time.Time      `json:"first_seen,omitzero"`
		Status      string         `json:"status,omitempty"`
		Note        octets         `json:"note,omitempty"`
		Suspect     bool           `json:"suspect,omitempty"`
		Keep        string         `json:"keep,omitempty"` // a duration, or forever
		Fetches     int            `json:"fetches,omitempty"`
		Holds       int            `json:"holds,omitempty"`
		NextTry     time.Time      `json:"next_try,omitzero"`
		AbsentSince time.Time      `json:"absent_since,omitzero"`
		DelSentAt   time.Time      `json:"delsent_at,omitzero"`
		GoneAt      time.Time      `json:"gone_at,omitzero"`
		Hash        digest         `json:"hash,omitempty"`
		CanonSize   int64          `json:"canon_size,omitempty"`
		Stable      digest         `json:"stable,omitempty"`
		Body        digest         `json:"body,omitempty"`
		MessageID   octets         `json:"message_id,omitempty"`
		Octets      int64          `json:"octets,omitempty"`
		Deliveries  []deliveryLine `json:"deliveries,omitempty"`
	}
	deliveryLine struct {
		N           int       `json:"n"`
		Target      string    `json:"target"`
		Folder      octets    `json:"folder,omitempty"`
		Rcpt        octets    `json:"rcpt,omitempty"`
		Flags       []string  `json:"flags,omitempty"`
		Rule        string    `json:"rule,omitempty"`
		Status      string    `json:"status"`
		Attempts    int       `json:"attempts,omitempty"`
		Box         octets    `json:"box,omitempty"`
		UIDValidity uint32    `json:"uidvalidity,omitempty"`
		UIDNext     uint32    `json:"uidnext,omitempty"`
		UID         uint32    `json:"uid,omitempty"`
		Existed     bool      `json:"existed,omitempty"`
		Class       string    `json:"class,omitempty"`
		Reply       octets    `json:"reply,omitempty"`
		NextTry     time.Time `json:"next_try,omitzero"`
		At          time.Time `json:"at,omitzero"`
	}
)

func lineOf(source string, r Record) messageLine {
	m := r.Message
	l := messageLine{
		Type: "message", Source: octets(source), UIDL: octets(m.UIDL), Gen: m.Gen, FirstSeen: m.FirstSeen,
		Status: m.Status.String(), Note: octets(m.Note), Suspect: m.Suspect, Fetches: m.Fetches, Holds: m.Holds,
		NextTry: m.NextTry, AbsentSince: m.AbsentSince, DelSentAt: m.DelSentAt, GoneAt: m.GoneAt,
	}
	if m.Size >= 0 {
		l.Size = &m.Size
	}
	switch {
	case m.Keep == nil:
	case *m.Keep < 0:
		l.Keep = keepForever
	default:
		l.Keep = m.Keep.String()
	}
	if c := m.Content; c != nil && c.Hash != [32]byte{} {
		l.Hash, l.CanonSize, l.Stable, l.Body, l.MessageID, l.Octets = c.Hash[:], c.CanonSize, c.Stable[:], c.Body[:], octets(c.MessageID), c.Octets
	}
	for _, d := range r.Deliveries {
		l.Deliveries = append(l.Deliveries, deliveryLine{
			N: d.N, Target: d.Target, Folder: octets(d.Folder), Rcpt: octets(d.Rcpt), Flags: d.Flags, Rule: d.Rule,
			Status: d.Status.String(), Attempts: d.Attempts, Box: octets(d.Box), UIDValidity: d.UIDValidity, UIDNext: d.UIDNext,
			UID: d.UID, Existed: d.Existed, Class: d.Class, Reply: octets(d.Reply), NextTry: d.NextTry, At: d.At,
		})
	}
	return l
}

const keepForever = "forever"

// octets is text that came from a server. JSON has characters only, so what is
// no UTF-8 is written as {"base64": "…"}: two UIDLs must not become one.
type octets string

// MarshalJSON writes a string or an object.
func (o octets) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(o)) {
		return json.Marshal(string(o))
	}
	return json.Marshal(map[string][]byte{"base64": []byte(o)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (o *octets) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var v struct {
			Base64 []byte `json:"base64"`
		}
		err := json.Unmarshal(b, &v)
		*o = octets(v.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(o))
}

// digest is a hash, written in hexadecimal.
type digest []byte

// MarshalText writes hexadecimal digits.
func (d digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d)), nil }

// UnmarshalText reads the 64 digits of a SHA-256.
func (d *digest) UnmarshalText(b []byte) error {
	sum := make([]byte, 32)
	if len(b) != 64 {
		return errDigest
	}
	if _, err := hex.Decode(sum, b); err != nil {
		return errDigest
	}
	*d = sum
	return nil
}
