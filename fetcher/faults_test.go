package fetcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/targets"
)

// Where each row of the fault matrix is tested. Files without a directory lie
// here; pop is maildrop, imap is ../targets/imap, ep is ../targets/endpoint, cli
// is ../testdata/cli.
//
//	A    1-8    kill_test.go: TestKill_everyStep, TestKill_combined, TestKill_dovecot; kill_wire_test.go
//	     9, 10  state/crash_test.go: TestStore_walCut, TestStore_failingDisk; kill_test.go: TestDisk_stateEnds
//	     11, 12 kill_disk_test.go; state/open_test.go: TestOpen_full; state/child_test.go: TestStore_full
//	     13-16  state/open_test.go: TestOpen_permissions, _noDirectory, _missing, _damaged, _newer
//	     17     state/child_test.go: TestOpen_lockedByProcess; cli: twoprocesses.txtar
//	     18     config: TestBad
//	     19     state/open_test.go: TestOpen_network
//	     20, 21 faults_local_test.go: TestFaults_clock
//	     22, 23 pass_test.go: TestPass_interrupted; cli: signal.txtar
//	     24     faults_local_test.go: TestFaults_rulesChanged
//	     25     faults_target_test.go: TestFaults_folderRenamed
//	     26     as 30: after a pause without an end the connection is found dead
//	     27     faults_local_test.go: TestFaults_spoolFull
//	     28     pass_test.go: TestPass_crashesReading
//	B    29-31  faults_source_test.go: TestFaults_connection; 31 at every octet: cut_test.go
//	     32-39  faults_source_test.go: TestFaults_refused; 34 also dovecot_test.go: TestDovecot_locked
//	     40     faults_source_test.go: TestFaults_connection
//	     41, 42 faults_listing_test.go: TestFaults_listing; pop: TestList, FuzzList
//	     43-48  faults_listing_test.go: TestFaults_uidl; 46 also faults_dovecot_test.go
//	     49, 50 faults_listing_test.go: TestFaults_listing
//	     51     faults_listing_test.go: TestFaults_uidl
//	     52-54  faults_source_test.go: TestFaults_connection
//	     55     faults_source_test.go: TestFaults_lineFeeds
//	     56-58  faults_source_test.go: TestFaults_endless; 58 with millions of lines: pop: TestList_endless
//	     59     faults_source_test.go: TestFaults_connection; ep: TestConn_progress; pop: TestTooSlow
//	     60     faults_source_test.go: TestFaults_refused; faults_dovecot_test.go
//	     61     stash_test.go: TestConsumes_*; config: TestParse_consumes
//	     62     faults_source_test.go: TestFaults_connection; pop: TestReply_tolerated, TestReply_botched
//	C    63-74  faults_content_test.go: TestFaults_content, TestFaults_contentRefused
//	     75     faults_content_test.go: TestFaults_dates; dovecot_test.go: TestDovecot_everything
//	     76, 77 faults_content_test.go: TestFaults_identity; kill_wire_test.go: TestKill_twins
//	     78     faults_content_test.go: TestFaults_content
//	     63-78 to a real server: dovecot_test.go: TestDovecot_everything
//	D    79     imap: TestDeliver_tryCreate, TestMark_tryCreate
//	     80     faults_local_test.go: TestFaults_oneTargetDown; faults_target_test.go; dovecot_test.go: TestDovecot_quota
//	     81     faults_content_test.go: TestFaults_contentRefused; imap: TestDeliver_appendLimit; dovecot_test.go: TestDovecot_refusedStays
//	     82-84  faults_target_test.go: TestFaults_target; imap: TestDeliver_isolates, TestDeliver_replies, TestCut
//	     85     kill_wire_test.go: TestKill_lateCommit; imap: TestFind_late
//	     86-88  faults_target_test.go: TestFaults_target; imap: TestDovecot_changes, TestMark_lastUID
//	     89     imap: TestFind_rewritten
//	     90     faults_target_test.go: TestFaults_target; imap: TestDeliver_dedupes
//	     91, 92 imap: TestConn_hostile, FuzzDemux; TestSuite_fake, TestDeliver_silent, TestDeliver_noInsteadOfPlus
//	     93     faults_target_test.go: TestFaults_folderNames; imap: TestFolder_names, TestDovecot_names
//	E    94, 95 smtp: TestDeliver_replies; relay_test.go: TestRelay
//	     96     smtp: TestDeliver_replies, TestDeliver_abandoned; relay_test.go: TestRelay
//	     97     kill_test.go: TestKill_relayEveryStep; kill_relay_test.go: TestKill_relayOnTheWire, TestCut_relay
//	     98     smtp: TestDeliver_mixed, TestDovecot_oneOverQuota; relay_test.go: TestRelay
//	     99     smtp: TestDeliver_limits
//	     100    smtp: TestDeliver_smuggling, FuzzWriteBody, TestPostfix_everything
//	     101    smtp: TestDeliver_sender, FuzzCheckAddress; relay_test.go: TestReturnPath
//	     102    smtp: TestDeliver_loop, TestDeliver_circle; config: TestParse_circle
//	     103    smtp: TestSuite, TestDovecot_everything, TestPostfix_everything
//	F    104-08 pop: TestSTLS; imap: TestLogin_noTLS; ep: TestDial_tls, TestStartTLS_deadline
//	     109-19 ep: TestSecret_*, TestPrintable; config: TestBad, TestParse_limits; rules: TestCompile_errors; state/open_test.go: TestOpen_unsafe
//	     120    faults_source_test.go: TestFaults_others

// ordeal is one fault, met by whole passes: a scripted server, a state on disk, a
// target that can be searched. play demands what every fault has in common: that
// nothing is lost, nothing doubled, nothing deleted that the target has not, and
// that there is an end of it.
type ordeal struct {
	name   string
	given  func(*world) // before the server starts: mail, settings, the fault
	passes []then
	stay   []string // UIDLs that never arrive; they stay on the maildrop
}

// then is one pass and what comes of it.
type then struct {
	first  func(*world) // what happens before
	report string       // as outcome writes it
	warns  []string     // a part of each warning, in order; none may be left over
	why    string       // a part of what is said of a message that failed or is held
}

func play(t *testing.T, rows []ordeal) {
	for _, r := range rows {
		t.Run("row "+r.name, func(t *testing.T) {
			w := newWorld(t)
			w.account.Keep = Keep{}
			r.given(w)
			w.pop.Hook = w.watched(w.pop.Hook)
			w.start()
			for i, p := range r.passes {
				if p.first != nil {
					p.first(w)
				}
				w.expect(fmt.Sprintf("pass %d", i+1), p)
			}
			w.settled(r)
		})
	}
}

// expect runs a pass and demands what p says.
func (w *world) expect(name string, p then) {
	w.t.Helper()
	w.judge(name, p, w.pass)
}

func (w *world) judge(name string, p then, pass func(context.Context) (Report, error)) {
	w.t.Helper()
	w.events = nil
	before := w.pop.Sessions()
	r, err := pass(context.Background())
	if got := outcome(r, err, w.pop.Sessions()-before); got != p.report {
		w.t.Errorf("%s:\n got %s\nwant %s", name, got, p.report)
	}
	for i, warning := range r.Warnings {
		if i >= len(p.warns) || !strings.Contains(warning, p.warns[i]) {
			w.t.Errorf("%s: warning %q", name, warning)
		}
	}
	if len(r.Warnings) < len(p.warns) {
		w.t.Errorf("%s: %q, and no warning of %q", name, r.Warnings, p.warns[len(r.Warnings):])
	}
	said := ""
	for _, e := range w.events {
		if e.Err != nil && e.Kind != PassEnd {
			said += e.Err.Error() + "\n"
		}
	}
	if !strings.Contains(said, p.why) {
		w.t.Errorf("%s: it is said %q, want %q", name, said, p.why)
	}
}

// outcome writes a report in one line; what is 0 is left out.
func outcome(r Report, err error, sessions int) string {
	var parts []string
	for _, f := range []struct {
		n    int
		what string
	}{
		{r.New, "new"},
		{r.Delivered, "delivered"},
		{r.Duplicate, "known"},
		{r.Recovered, "found"},
		{r.Dropped, "dropped"},
		{r.Skipped, "skipped"},
		{r.Failed, "failed"},
		{r.Held, "held"},
		{r.Deleted, "deleted"},
		{r.Left, "left"},
	} {
		if f.n != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	if sessions != 1 {
		parts = append(parts, fmt.Sprintf("%d sessions", sessions))
	}
	var me *maildrop.Error
	switch {
	case errors.As(err, &me):
		parts = append(parts, strings.TrimSpace(me.Kind.String()+" "+me.Code.String()))
	case err != nil:
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, ", ")
}

// settled demands that all is where it has to be in the end, and that another
// pass changes nothing.
func (w *world) settled(r ordeal) {
	w.t.Helper()
	for _, uidl := range r.stay {
		i := slices.IndexFunc(w.pop.Messages("jane"), func(m maildroptest.Message) bool { return m.UIDL == uidl })
		if i < 0 {
			w.t.Errorf("%q did not arrive, and is not on the maildrop", uidl)
			continue
		}
		w.source[canonOf([]byte(wire(string(w.pop.Messages("jane")[i].Body))))]--
	}
	w.exactlyOnce()
	retr, dele, left := w.saw("RETR"), w.saw("DELE"), w.left()
	if report, err := w.pass(context.Background()); err != nil || report.Failed != 0 || w.saw("RETR") != retr || w.saw("DELE") != dele || w.left() != left {
		w.t.Errorf("one more pass still has work: %s", outcome(report, err, 1))
	}
	w.exactlyOnce()
}

// watched demands of every DELE that the target has the message.
func (w *world) watched(hook func(int, string) maildroptest.Action) func(int, string) maildroptest.Action {
	lists := map[int][]maildroptest.Message{}
	gone := map[int]map[targets.Hash]int{}
	return func(session int, cmd string) maildroptest.Action {
		w.mu.Lock()
		defer w.mu.Unlock()
		verb, arg, _ := strings.Cut(cmd, " ")
		switch n, _ := strconv.Atoi(arg); verb {
		case "STAT":
			lists[session], gone[session] = w.pop.Messages("jane"), map[targets.Hash]int{}
		case "DELE":
			h := canonOf([]byte(wire(string(lists[session][n-1].Body))))
			gone[session][h]++
			if have := w.target.hashes()[h]; have < gone[session][h] {
				w.t.Errorf("%s of %q, and the target has %d copies", cmd, lists[session][n-1].UIDL, have)
			}
		}
		if hook == nil {
			return maildroptest.Action{}
		}
		return hook(session, cmd)
	}
}

// on does a to a command, in every session, or in the one numbered.
func on(cmd string, a maildroptest.Action, sessions ...int) func(int, string) maildroptest.Action {
	return func(session int, got string) maildroptest.Action {
		if got == cmd && (len(sessions) == 0 || slices.Contains(sessions, session)) {
			return a
		}
		return maildroptest.Action{}
	}
}

// says is on for a reply.
func says(cmd, reply string, sessions ...int) func(int, string) maildroptest.Action {
	return on(cmd, maildroptest.Action{Reply: reply}, sessions...)
}

// nine puts nine messages on the maildrop and lets hook spoil what it will.
func nine(hook func(int, string) maildroptest.Action) func(*world) {
	return func(w *world) {
		w.fill(9)
		w.pop.Hook = hook
	}
}

func later(d time.Duration) func(*world) { return func(w *world) { w.now = w.now.Add(d) } }

// impatient makes stalls short. It is still longer than a busy machine takes for
// anything else.
func impatient(w *world) { w.account.Maildrop.Timeout = 300 * time.Millisecond }

// retr is on for RETR of the message with that UIDL, whatever its number.
func (w *world) retr(uidl string, a maildroptest.Action, sessions ...int) func(int, string) maildroptest.Action {
	return func(session int, got string) maildroptest.Action {
		arg, is := strings.CutPrefix(got, "RETR ")
		n, _ := strconv.Atoi(arg)
		if ms := w.pop.Messages("jane"); is && n <= len(ms) && ms[n-1].UIDL == uidl {
			return on(got, a, sessions...)(session, got)
		}
		return maildroptest.Action{}
	}
}

// spoilt is nine for RETR of the fourth message.
func spoilt(a maildroptest.Action, sessions ...int) func(*world) {
	return func(w *world) { nine(w.retr("u003", a, sessions...))(w) }
}

// open opens the state as a pass does.
func (w *world) open() *state.Store {
	w.t.Helper()
	st, err := state.Open(context.Background(), w.db, state.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// onRecord demands that so many messages are remembered that may still lie on
// the maildrop.
func (w *world) onRecord(n int) {
	w.t.Helper()
	st := w.open()
	defer st.Close()
	known, err := st.Known(context.Background(), sourceOf(w.account))
	if err != nil || len(known.Messages) != n {
		w.t.Errorf("%d messages are remembered, want %d; %v", len(known.Messages), n, err)
	}
}
