package daemon

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"popferry/fetcher/config"
	"popferry/fetcher/state"
)

// Build tells from the state alone what was, whoever wrote it.
func TestBuild(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	c, err := config.Parse("popferry.yaml", []byte(`
state: /nowhere/popferry.db
timezone: Europe/Berlin
accounts:
  isp: {host: pop.example, user: jane, password: x, keep: 30d}
  old: {host: pop.example, user: old, password: x}
targets:
  home: {host: imap.example, user: jane, password: y}
  archive: {host: imap2.example, user: jane, password: y}
rules:
  - {name: bills, if: {subject: "*bill*"}, then: {target: archive}}
jobs:
  - {name: both, from: [isp, old], to: home, every: 90m}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s, err := state.Open(ctx, filepath.Join(t.TempDir(), "popferry.db"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := &state.Account{Source: c.Accounts["isp"].Source(), Name: "isp"}
	messages := []*state.Message{{UIDL: "one", Size: 100}, {UIDL: "-t wo\x1b", Size: 200}, {UIDL: "three", Size: 300}}
	seen := now.Add(-29 * 24 * time.Hour)
	if err := s.Put(ctx, state.Listed{Account: a, New: messages, Count: 3, At: seen}); err != nil {
		t.Fatal(err)
	}
	mail := state.Pass{
		Account: "isp", Job: "both", ID: "p1", Start: now.Add(-2 * time.Hour), Took: time.Second, Messages: 3, Octets: 600, New: 2, Delivered: 1, Bytes: 300,
	}
	held := state.Pass{
		Account: "isp", Job: "both", ID: "p2", Start: now.Add(-time.Hour), Took: time.Second, Messages: 3, Octets: 600, Held: 1,
		Exit: 1, Code: "messages-held", Head: "1 message is held", Lines: []string{"see"},
	}
	old := mail
	old.ID, old.Start = "p0", now.Add(-25*time.Hour) // not of the last day
	if err := s.Put(ctx,
		state.Dropped{Message: messages[0], Rule: "spam", At: seen}, state.Held{Message: messages[1].ID, Note: "no\x07", At: seen},
		state.Passed{Pass: old}, state.Passed{Pass: mail}, state.Passed{Pass: held},
	); err != nil {
		t.Fatal(err)
	}

	st, err := Build(ctx, c, s, now)
	if err != nil {
		t.Fatal(err)
	}
	problem := &Problem{Exit: 1, Code: "messages-held", Head: "1 message is held", Lines: []string{"see"}}
	passes := []Pass{passOf(&old), passOf(&mail), passOf(&held)}
	want := Status{
		Time: now, Config: "popferry.yaml", Summary: "The job needs you: 1 message is held.",
		Jobs: []JobStatus{{
			Name: "both", Accounts: []string{"isp", "old"}, Targets: []string{"home", "archive"}, Schedule: "every 1h30m", Interval: 90 * time.Minute,
			LastMail: mail.Start, Day: Counts{New: 2, Delivered: 1, Held: 1, Bytes: 300}, Problem: problem, Passes: passes,
		}},
		Accounts: []AccountStatus{
			{
				Name: "isp", Server: "pop.example:995", Job: "both", Messages: 3, Bytes: 600, Known: 3, LastSuccess: held.Start, Keep: "30d",
				ToDelete: 1, NextDelete: seen.Add(30 * 24 * time.Hour), HeldMessages: 1, Problem: problem,
			},
			{Name: "old", Server: "pop.example:995", Job: "both", Keep: "forever"},
		},
		Attention: []Problem{}, HeldTotal: 1,
		Held:   []HeldMessage{{Account: "isp", UIDL: `-t wo\x1b`, Since: seen, Size: 200, Reason: `no\a`, Command: `popferry held retry isp -- '-t wo\x1b'`}},
		Errors: []PastProblem{{Time: held.Start.Add(time.Second), Job: "both", Account: "isp", Problem: *problem}},
	}
	if diff := cmp.Diff(want, st, cmpopts.IgnoreUnexported(JobStatus{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	// Without a state nothing is known, which is no trouble.
	if st, err = Build(ctx, c, nil, now); err != nil || !st.OK || st.Summary != "The job is fine. Nothing is scheduled: popferry serve does not run." {
		t.Errorf("without a state: %q, %v", st.Summary, err)
	}
}
