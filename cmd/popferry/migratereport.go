package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"popferry/fetcher/state"
)

// checkReport refuses a report that could not be written in the end.
func checkReport(path string) error {
	if path == "" {
		return nil
	}
	if ext := filepath.Ext(path); ext != ".csv" && ext != ".json" {
		return usagef("--report must be a file whose name ends in .csv or .json")
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return usagef("--report: there is no directory %s", filepath.Dir(path))
	}
	return nil
}

// reportRows writes what became of each message, while accounts are moved, and of
// each account at the end. Nothing has its name before it is complete.
type reportRows struct {
	accounts, messages string // paths
	asJSON             bool

	mu  sync.Mutex
	tmp *os.File
	buf *bufio.Writer
	csv *csv.Writer
	err error
}

// messageRow is one message, or one copy of it.
type messageRow struct {
	Account   string `json:"account"`
	Target    string `json:"target"`
	UIDL      string `json:"uidl"`
	MessageID string `json:"message_id"`
	Bytes     int64  `json:"bytes"`
	Result    string `json:"result"`
	Folder    string `json:"folder"`
	UID       uint32 `json:"uid"`
	When      string `json:"when"`
	Reply     string `json:"reply"`
}

var messageColumns = []string{"account", "target", "uidl", "message_id", "bytes", "result", "folder", "uid", "when", "reply"}

func (r *messageRow) fields() []string {
	return []string{r.Account, r.Target, r.UIDL, r.MessageID, strconv.FormatInt(r.Bytes, 10), r.Result, r.Folder, strconv.FormatUint(uint64(r.UID), 10), r.When, r.Reply}
}

// newReport begins a report beside its later place.
func newReport(path string) (*reportRows, error) {
	ext := filepath.Ext(path)
	r := &reportRows{accounts: path, messages: strings.TrimSuffix(path, ext) + "-messages" + ext, asJSON: ext == ".json"}
	var err error
	if r.tmp, err = os.CreateTemp(filepath.Dir(path), ".popferry-*"); err != nil {
		return nil, err
	}
	r.buf = bufio.NewWriter(r.tmp)
	if r.csv = csv.NewWriter(r.buf); !r.asJSON {
		err = r.csv.Write(messageColumns)
	}
	return r, err
}

// written adds what the state says of each message of an account: also of those
// that earlier calls have moved.
func (m *mover) written(ctx context.Context, mv *move) {
	if m.rows == nil {
		return
	}
	ctx = context.WithoutCancel(ctx) // what was done before an interrupt counts as well
	a, err := mv.state.store.Account(ctx, mv.account.Source())
	if err == nil && a.ID != 0 {
		err = mv.state.store.Records(ctx, a.ID, func(rec state.Record) error { return m.rows.record(mv, rec) })
	}
	m.rows.mu.Lock()
	defer m.rows.mu.Unlock()
	m.rows.err = cmp.Or(m.rows.err, err)
}

// record adds one message.
func (r *reportRows) record(mv *move, rec state.Record) error {
	row := messageRow{
		Account: mv.account.Name, Target: mv.target.Name, UIDL: jsonUIDL(rec.UIDL), Bytes: rec.Size, Result: rec.Status.String(), Reply: rec.Note,
	}
	if rec.Content != nil { // else it was not fetched yet
		row.MessageID = rec.MessageID
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(rec.Deliveries) == 0 {
		return r.row(&row)
	}
	for _, d := range rec.Deliveries {
		row := row
		row.Target, row.Folder, row.UID, row.Reply = d.Target, cmp.Or(d.Box, d.Folder, d.Rcpt), d.UID, cmp.Or(d.Reply, rec.Note)
		row.Result = resultOf(rec, &d, row.Reply)
		if !d.At.IsZero() {
			row.When = d.At.UTC().Format(time.RFC3339)
		}
		if err := r.row(&row); err != nil {
			return err
		}
	}
	return nil
}

// resultOf is what became of a copy, in the words of the lines of --json.
func resultOf(rec state.Record, d *state.Delivery, reply string) string {
	switch {
	case d.Status == state.DeliveryDelivered && d.Existed:
		return "duplicate"
	case d.Status == state.DeliveryDelivered:
		return "delivered"
	case rec.Status != state.StatusRouted:
		return rec.Status.String()
	case d.Status == state.DeliveryIntent, d.Status == state.DeliveryCommit:
		return "interrupted"
	case reply != "":
		return "failed"
	}
	return state.StatusNew.String()
}

func (r *reportRows) row(row *messageRow) error {
	if !r.asJSON {
		return r.csv.Write(harmless(row.fields()))
	}
	_, err := r.buf.WriteString(jsonLine(row))
	return err
}

var accountColumns = []string{
	"account", "target", "messages", "copied", "duplicate", "before", "dropped", "skipped", "held", "failed", "deleted", "bytes", "duration_s", "checked", "doubts", "code", "result",
}

// close writes what became of the accounts, and gives both files their names.
func (r *reportRows) close(moves []*move) error {
	r.csv.Flush()
	err := cmp.Or(r.err, r.csv.Error())
	err = errors.Join(err, r.buf.Flush(), r.tmp.Sync(), r.tmp.Close())
	if err != nil {
		return errors.Join(err, os.Remove(r.tmp.Name()))
	}
	var b strings.Builder
	if r.asJSON {
		lines := make([]jsonMoved, len(moves))
		for i, mv := range moves {
			lines[i] = mv.line()
		}
		text, err := json.MarshalIndent(lines, "", "  ")
		if err != nil {
			return err
		}
		b.Write(append(text, '\n'))
	} else {
		w := csv.NewWriter(&b)
		_ = w.Write(accountColumns)
		for _, mv := range moves {
			_ = w.Write(harmless(mv.line().fields()))
		}
		w.Flush()
	}
	return errors.Join(os.Rename(r.tmp.Name(), r.messages), writeWhole(r.accounts, b.String()))
}

// harmless marks what a spreadsheet would take for a formula: servers and mail
// have a say in it.
func harmless(fields []string) []string {
	for i, f := range fields {
		if f != "" && strings.Contains("=+-@\t\r", f[:1]) {
			fields[i] = "'" + f
		}
	}
	return fields
}

func (l jsonMoved) fields() []string {
	out := []string{l.Account, l.Target}
	for _, n := range []int{l.Messages, l.Copied, l.Duplicate, l.Before, l.Dropped, l.Skipped, l.Held, l.Failed, l.Deleted} {
		out = append(out, strconv.Itoa(n))
	}
	return append(out, strconv.FormatInt(l.Bytes, 10), strconv.FormatFloat(l.Seconds, 'f', 1, 64), strconv.FormatBool(l.Checked),
		strconv.Itoa(l.Doubts), strconv.Itoa(l.Code), l.Result)
}

// writeWhole puts a file in place at once, or not at all.
func writeWhole(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".popferry-*")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
