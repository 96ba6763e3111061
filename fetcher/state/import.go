package state

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var errDigest = errors.New("a hash has 64 hexadecimal digits")

// maxImportLine bounds a line that ReadExport takes.
const maxImportLine = 1 << 20

// Exported is what a file holds that can be imported.
type Exported struct {
	Clock    time.Time // high-water clock; zero if the file has none
	Accounts []ExportedAccount
}

// ExportedAccount is an account of a file.
type ExportedAccount struct {
	Source  string // "" if the file does not say
	Name    string // "" if the file does not say
	Records []Record
}

// ReadExport reads what Export wrote, JSON lines written by hand, which need
// only a uidl, or a list of UIDLs, one a line, as other programs keep it. The
// error says which line is wrong.
//
// What is read is never more than it proves. A message without deliveries is
// marked: remembered, not fetched, never deleted. Only one that the file calls
// new, held or quarantined stays that. Whether a message is safe is seen from
// its deliveries.
func ReadExport(r io.Reader) (*Exported, error) {
	p := &importer{out: &Exported{}, seen: map[recordKey]int{}, at: map[string]int{}}
	in := bufio.NewReaderSize(r, maxImportLine)
	for n, last := 1, false; !last; n++ {
		line, err := in.ReadSlice('\n')
		if last = errors.Is(err, io.EOF); last {
			err = nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			err = errors.New("too long")
		}
		if line = bytes.TrimRight(line, "\r\n"); err == nil && len(bytes.TrimSpace(line)) > 0 {
			err = p.line(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p.out, nil
}

type recordKey struct {
	source string
	uidl   string
	gen    int
	gone   int64
}

// importer puts an Exported together.
type importer struct {
	out  *Exported
	kind byte              // 'j' for JSON lines, 'u' for UIDLs; the first line decides
	seen map[recordKey]int // index in its account's Records
	at   map[string]int    // source → index in out.Accounts
}

func (p *importer) line(b []byte) error {
	if p.kind == 0 {
		p.kind = 'u'
		if bytes.HasPrefix(b, []byte(`{"`)) || bytes.HasPrefix(b, []byte(`{ `)) {
			p.kind = 'j'
		}
	}
	if p.kind == 'u' {
		return p.uidl(string(b))
	}
	var l struct{ Type string }
	if err := json.Unmarshal(b, &l); err != nil {
		return plainJSON(err)
	}
	switch l.Type {
	case "state":
		var h headLine
		if err := json.Unmarshal(b, &h); err != nil {
			return plainJSON(err)
		}
		if h.Format > exportFormat {
			return fmt.Errorf("written by a newer popferry (format %d, this one knows up to %d)", h.Format, exportFormat)
		}
		p.out.Clock = h.Clock
	case "account":
		var a accountLine
		if err := json.Unmarshal(b, &a); err != nil {
			return plainJSON(err)
		}
		p.account(string(a.Source)).Name = a.Name
	case "message", "":
		var m messageLine
		if err := json.Unmarshal(b, &m); err != nil {
			return plainJSON(err)
		}
		r, err := m.record()
		if err != nil {
			return err
		}
		return p.add(string(m.Source), r)
	default:
		return fmt.Errorf("type %q is not known", l.Type)
	}
	return nil
}

// plainJSON says what is wrong with a line without the words of a programmer.
func plainJSON(err error) error {
	if te := (*json.UnmarshalTypeError)(nil); errors.As(err, &te) {
		return fmt.Errorf("%s cannot be a %s", te.Field, te.Value)
	}
	if errors.Is(err, errDigest) {
		return errDigest
	}
	if se := (*json.SyntaxError)(nil); errors.As(err, &se) {
		return errors.New("no JSON object")
	}
	return err
}

// uidl takes a bare UIDL. A second one of the same name is the same message: a
// list does not say otherwise.
func (p *importer) uidl(s string) error {
	s = strings.TrimSpace(s)
	if strings.ContainsAny(s, " \t") {
		return errors.New("a UIDL has no blanks in it; the file is neither a list of UIDLs nor an export")
	}
	m := &Message{UIDL: s, Size: -1, Status: StatusMarked, Note: noteImported}
	if _, twice := p.seen[recordKey{uidl: s}]; twice {
		return nil
	}
	return p.add("", Record{Message: m})
}

func (p *importer) account(source string) *ExportedAccount {
	i, ok := p.at[source]
	if !ok {
		i = len(p.out.Accounts)
		p.at[source] = i
		p.out.Accounts = append(p.out.Accounts, ExportedAccount{Source: source})
	}
	return &p.out.Accounts[i]
}

func (p *importer) add(source string, r Record) error {
	if n := len(r.UIDL); n < 1 || n > 512 {
		return fmt.Errorf("a UIDL has 1 to 512 octets, not %d", n)
	}
	key := recordKey{source, r.UIDL, r.Gen, millis(r.GoneAt)}
	a := p.account(source)
	if i, twice := p.seen[key]; twice {
		// A pass beside the export may have found that a new message is an old
		// one under another UIDL.
		if a.Records[i].Status != StatusNew {
			return errors.New("the same message is there twice")
		}
		a.Records[i] = r
		return nil
	}
	p.seen[key] = len(a.Records)
	a.Records = append(a.Records, r)
	return nil
}

const noteImported = "imported"

// record makes a record of a line, and checks it.
func (l *messageLine) record() (Record, error) {
	m := &Message{
		UIDL: string(l.UIDL), Gen: l.Gen, Size: -1, FirstSeen: l.FirstSeen, Note: string(l.Note), Suspect: l.Suspect,
		Fetches: l.Fetches, Holds: l.Holds, NextTry: l.NextTry, AbsentSince: l.AbsentSince, DelSentAt: l.DelSentAt, GoneAt: l.GoneAt,
	}
	if l.Size != nil {
		m.Size = *l.Size
	}
	if l.Gen < 0 || m.Size < -1 || l.Fetches < 0 || l.Holds < 0 {
		return Record{}, errors.New("a number is negative")
	}
	switch keep, err := time.ParseDuration(l.Keep); {
	case l.Keep == "":
	case l.Keep == keepForever:
		m.Keep = new(Forever)
	case err != nil || keep < 0:
		return Record{}, fmt.Errorf("keep %q is neither forever nor a duration", l.Keep)
	default:
		m.Keep = &keep
	}
	if l.Hash != nil {
		if l.Stable == nil {
			return Record{}, errors.New("there is a hash, but not that of the stable header (stable)")
		}
		m.Content = &Content{CanonSize: l.CanonSize, MessageID: string(l.MessageID), Octets: l.Octets}
		copy(m.Hash[:], l.Hash)
		copy(m.Stable[:], l.Stable)
		copy(m.Body[:], l.Body)
	}
	r := Record{Message: m}
	for i := range l.Deliveries {
		d, err := l.Deliveries[i].delivery()
		if err != nil {
			return Record{}, err
		}
		if i > 0 && d.N <= l.Deliveries[i-1].N {
			return Record{}, errors.New("the deliveries are not in the order of n")
		}
		r.Deliveries = append(r.Deliveries, d)
	}
	return r, r.judge(l.Status)
}

// judge gives r the status that it can prove.
func (r *Record) judge(word string) error {
	status, ok := StatusNew, word != ""
	if ok {
		if status, ok = statusNamed(word); !ok {
			return fmt.Errorf("status %q is not known", word)
		}
	}
	delivered, uncertain := 0, 0
	for _, d := range r.Deliveries {
		switch d.Status {
		case DeliveryDelivered:
			delivered++
		case DeliveryIntent, DeliveryCommit:
			uncertain++
		}
	}
	all := delivered == len(r.Deliveries)
	switch {
	case len(r.Deliveries) == 0:
		if !ok || status == StatusSafe || status == StatusRouted || status == StatusDropped {
			if status == StatusDropped && r.Note != "" {
				r.Note = "dropped by rule " + r.Note
			}
			if r.Note == "" {
				r.Note = noteImported
			}
			status = StatusMarked
		}
	case r.Content == nil:
		return errors.New("there are deliveries, but no hash of what was delivered")
	case status == StatusMarked && uncertain > 0:
		return errors.New("it is marked, but a delivery is under way")
	case status == StatusDropped:
		return errors.New("it is dropped, but there are deliveries")
	case status == StatusSafe && !all:
		return errors.New("it is safe, but not all of its deliveries are delivered")
	case status == StatusMarked:
	case all:
		status = StatusSafe
	case status == StatusNew:
		status = StatusRouted
	}
	r.Status = status
	return nil
}

func statusNamed(word string) (Status, bool) {
	for s := StatusNew; s <= StatusQuarantined; s++ {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}

func (l *deliveryLine) delivery() (Delivery, error) {
	d := Delivery{
		N: l.N, Target: l.Target, Folder: string(l.Folder), Rcpt: string(l.Rcpt), Flags: l.Flags, Rule: l.Rule, Attempts: l.Attempts,
		Box: string(l.Box), UIDValidity: l.UIDValidity, UIDNext: l.UIDNext, UID: l.UID, Existed: l.Existed,
		Class: l.Class, Reply: string(l.Reply), NextTry: l.NextTry, At: l.At, Status: -1,
	}
	for s := DeliveryPlanned; s <= DeliveryHeld; s++ {
		if s.String() == l.Status {
			d.Status = s
		}
	}
	switch {
	case d.Status < 0:
		return d, fmt.Errorf("status %q of a delivery is not known", l.Status)
	case d.Target == "":
		return d, errors.New("a delivery has no target")
	case d.N < 0 || d.Attempts < 0:
		return d, errors.New("a number is negative")
	case strings.Contains(strings.Join(d.Flags, ""), flagSep):
		return d, errors.New("a flag holds a line break")
	}
	return d, nil
}

// Missing returns those of records that k does not know yet, or of which
// nothing was done but to list them. Tombstones are left out unless nothing at
// all is known: those of a longer memory stand.
func (k *Known) Missing(records []Record) []Record {
	type key struct {
		uidl string
		gen  int
	}
	has := make(map[key]bool, len(k.Messages))
	for _, m := range k.Messages {
		has[key{m.UIDL, m.Gen}] = m.Status != StatusNew
	}
	var out []Record
	for _, r := range records {
		if r.GoneAt.IsZero() && !has[key{r.UIDL, r.Gen}] || !r.GoneAt.IsZero() && len(k.Messages) == 0 {
			out = append(out, r)
		}
	}
	return out
}

// Imported adds records to an account, which is found by its Source and made if
// it is not there. A row of the same key of which nothing was done but to list
// it gives way; any other is a conflict (Missing leaves those out).
//
// FirstPassDone stays as it is, so it is false for an account that is made:
// what was delivered after the export was written is known to the target alone,
// and is compared with it.
type Imported struct {
	Account *Account
	Records []Record // IDs are filled in
	At      time.Time
}

func (i Imported) apply(t *tx) error {
	var id int64
	err := t.c.query(context.Background(), `INSERT INTO account (source, name) VALUES (?, ?)
		ON CONFLICT (source) DO UPDATE SET name = excluded.name RETURNING id`,
		[]any{i.Account.Source, i.Account.Name}, func(r row) error { id = r.int64(0); return nil })
	if err != nil {
		return err
	}
	first := t.s.nextID
	t.s.nextID += int64(len(i.Records))
	for n, r := range i.Records {
		if err := t.adopt(id, first+int64(n), r, i.At); err != nil {
			return err
		}
	}
	t.then = append(t.then, func() {
		i.Account.ID = id
		for n, r := range i.Records {
			r.ID = first + int64(n)
		}
	})
	return nil
}

// adopt writes one record.
func (t *tx) adopt(account, id int64, r Record, at time.Time) error {
	m := r.Message
	if _, err := t.exec(`DELETE FROM message WHERE account = ? AND uidl = ? AND gen = ? AND gone_at = 0 AND status = 0
		AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = id)`, account, []byte(m.UIDL), m.Gen); err != nil {
		return err
	}
	seen := m.FirstSeen
	if seen.IsZero() {
		seen = at
	}
	if err := t.must(1, "import", `INSERT INTO message (id, account, uidl, gen, size, first_seen, fetches, holds, status, note, next_try,
		absent_since, delsent_at, gone_at, suspect, keep_for) VALUES `+tuples(1, 16),
		id, account, []byte(m.UIDL), m.Gen, m.Size, seen, m.Fetches, m.Holds, m.Status, m.Note, m.NextTry,
		m.AbsentSince, m.DelSentAt, m.GoneAt, m.Suspect, m.keepFor()); err != nil {
		return err
	}
	if c := m.Content; c != nil {
		if err := t.must(1, "import", `UPDATE message SET hash = ?, canon_size = ?, stable = ?, body = ?, msgid = ?, octets = ? WHERE id = ?`,
			c.Hash[:], c.CanonSize, c.Stable[:], c.Body[:], c.MessageID, c.Octets, id); err != nil {
			return err
		}
	}
	for _, d := range r.Deliveries {
		if err := t.must(1, "import", `INSERT INTO delivery (message, n, target, folder, rcpt, flags, rule, status, attempts, box,
			uidvalidity, uidnext, uid, existed, class, reply, next_try, at) VALUES `+tuples(1, 18),
			id, d.N, d.Target, d.Folder, d.Rcpt, strings.Join(d.Flags, flagSep), d.Rule, d.Status, d.Attempts, d.Box,
			d.UIDValidity, d.UIDNext, d.UID, d.Existed, d.Class, d.Reply, d.NextTry, d.At); err != nil {
			return err
		}
	}
	return nil
}
