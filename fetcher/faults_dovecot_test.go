package fetcher_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

// Row 46: the administrator changes pop3_uidl_format. Nothing is fetched again,
// nothing is deleted by a listing that looks like another maildrop, and the pass
// after that goes on as ever.
func TestFaults_dovecotUIDLFormat(t *testing.T) {
	extra := filepath.Join(t.TempDir(), "extra.conf")
	r := newRig(t, dovecot.Option("!include_try "+extra))
	r.account.Keep = fetcher.Keep{For: 24 * time.Hour}
	messages := small(46, 40)
	r.server.Put("src", "INBOX", messages...)
	if report := r.pass(); report.Delivered != 40 {
		t.Fatalf("%+v", report)
	}
	if err := os.WriteFile(extra, []byte(dovecot.UIDLFormat("%v.%u")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.server.Restart()
	r.now = r.now.Add(25 * time.Hour)
	if report := r.pass(); report.New+report.Deleted+report.Failed != 0 || len(report.Warnings) != 1 {
		t.Errorf("%+v", report)
	}
	if report := r.pass(); report.New+report.Failed != 0 || report.Deleted != 40 || r.server.Count("src", "INBOX") != 0 {
		t.Errorf("%+v", report)
	}
	r.same(r.stored("INBOX"), count(messages))
}

// Row 60: another client deletes a message between the listing and its RETR.
func TestFaults_dovecotExpunged(t *testing.T) {
	r := newRig(t)
	r.account.Keep = fetcher.Keep{}
	messages := small(60, 20)
	r.server.Put("src", "INBOX", messages...)
	report := r.passWith(func(e fetcher.Event) {
		if e.Kind == fetcher.Listed {
			r.server.Doveadm("expunge", "-u", "src", "mailbox", "INBOX", "uid", "7")
		}
	})
	if report.Delivered != 19 || report.Deleted != 19 || report.Held != 0 {
		t.Errorf("%+v", report)
	}
	r.same(r.stored("INBOX"), count(append(messages[:6:6], messages[7:]...)))
	if report := r.pass(); report.New+report.Failed+report.Held != 0 || r.server.Count("src", "INBOX") != 0 {
		t.Errorf("%+v", report)
	}
}

func small(seed uint64, n int) (messages [][]byte) {
	for _, m := range corpus.Small(seed, n) {
		messages = append(messages, m.Raw)
	}
	return messages
}

// passWith is pass with somebody who sees its events.
func (r *rig) passWith(see func(fetcher.Event)) fetcher.Report {
	r.t.Helper()
	ctx := context.Background()
	st, err := state.Open(ctx, r.db, state.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer st.Close()
	home, err := r.imap.Open("home", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer home.Close()
	f := &fetcher.Fetcher{
		Targets: map[string]targets.Target{"home": home}, State: st, Event: see,
		Now: func() time.Time { return r.now }, Spool: r.t.TempDir(),
	}
	report, err := f.Pass(ctx, r.job, r.account)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}
