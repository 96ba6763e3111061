package state

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// passesOf puts passes over an account, a minute apart, by a letter each: . quiet,
// m mail, f failed, h held, i interrupted.
func passesOf(t *testing.T, s *Store, account, kinds string, from time.Time) {
	t.Helper()
	for i, k := range kinds {
		p := Pass{Account: account, Job: "job", ID: fmt.Sprintf("p%d", i), Start: from.Add(time.Duration(i) * time.Minute), Took: 1500 * time.Millisecond, Messages: i, Octets: int64(100 * i)}
		switch k {
		case 'm':
			p.New, p.Delivered, p.Duplicate, p.Bytes, p.Deleted = 3, 3, 1, 900, 2
		case 'f':
			p.Exit, p.Code, p.Head, p.Lines, p.Messages, p.Octets = 69, "network", "not there", []string{"one", "two"}, -1, 0
		case 'h':
			p.Exit, p.Held, p.Code, p.Head = 1, 2, "held", "2 held"
		case 'i':
			p.Exit, p.Code, p.Head = 143, "interrupted", "interrupted"
		}
		if err := s.Put(ctx, Passed{p}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHistory(t *testing.T) {
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Minute) }
	for _, tc := range []struct {
		kinds string
		want  History
	}{
		{"", History{Messages: -1}},
		{"...", History{LastSuccess: at(2), Messages: 2, Octets: 200}},
		{"m.", History{LastSuccess: at(1), LastMail: at(0), Messages: 1, Octets: 100, Sums: Pass{New: 3, Delivered: 3, Duplicate: 1, Bytes: 900, Deleted: 2}}},
		{"m.m", History{LastSuccess: at(2), LastMail: at(2), Messages: 2, Octets: 200, Sums: Pass{New: 6, Delivered: 6, Duplicate: 2, Bytes: 1800, Deleted: 4}}},
		{".ffif", History{LastSuccess: at(0), Messages: 3, Octets: 300, Failures: 3, FailingFrom: at(1)}},
		{"ff", History{Messages: -1, Failures: 2, FailingFrom: at(0)}},
		{".fh", History{LastSuccess: at(2), Messages: 2, Octets: 200}},
		{"f.", History{LastSuccess: at(1), Messages: 1, Octets: 100}},
	} {
		t.Run(tc.kinds, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "popferry.db")
			s, err := Open(ctx, path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			passesOf(t, s, "isp", tc.kinds, t0)
			passesOf(t, s, "other", "mf", t0) // changes nothing
			v, err := View(ctx, path)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			got, err := v.History(ctx, "isp", t0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The newest come first, whatever happened in them, and as they were put.
func TestPasses(t *testing.T) {
	s := open(t, Options{})
	passesOf(t, s, "isp", "m.f.h", t0)
	got, err := s.Passes(ctx, "isp", 4)
	if err != nil {
		t.Fatal(err)
	}
	want := []Pass{
		{Account: "isp", Job: "job", ID: "p4", Start: t0.Add(4 * time.Minute), Took: 1500 * time.Millisecond, Exit: 1, Messages: 4, Octets: 400, Held: 2, Code: "held", Head: "2 held"},
		{Account: "isp", Job: "job", ID: "p3", Start: t0.Add(3 * time.Minute), Took: 1500 * time.Millisecond, Messages: 3, Octets: 300},
		{Account: "isp", Job: "job", ID: "p2", Start: t0.Add(2 * time.Minute), Took: 1500 * time.Millisecond, Exit: 69, Messages: -1, Code: "network", Head: "not there", Lines: []string{"one", "two"}},
		{Account: "isp", Job: "job", ID: "p1", Start: t0.Add(time.Minute), Took: 1500 * time.Millisecond, Messages: 1, Octets: 100},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	passesOf(t, s, "other", "f", t0.Add(time.Hour))
	trouble, err := s.Troubles(ctx, t0, 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(trouble) != 2 || trouble[0].Account != "other" || trouble[1].ID != "p4" {
		t.Errorf("troubles %+v", trouble)
	}
}

// The history does not grow: the quiet passes of a day stay, and the others for
// 90 days, also of accounts that are no more.
func TestPassed_prunes(t *testing.T) {
	s := open(t, Options{})
	count := func(account string) (n int) {
		t.Helper()
		got, err := s.Passes(ctx, account, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	passesOf(t, s, "gone", "mf.", t0)
	for range 4 {
		passesOf(t, s, "isp", "m"+string(make([]byte, historyQuiet-100)), t0)
	}
	if got := count("isp"); got != historyQuiet+4 {
		t.Errorf("%d passes are left, want %d quiet ones and 4", got, historyQuiet)
	}
	passesOf(t, s, "isp", "mm", t0.Add(historyTime+time.Hour))
	if got := count("isp"); got != historyQuiet+2 {
		t.Errorf("%d passes are left after 90 days, want %d quiet ones and 2", got, historyQuiet)
	}
	if got := count("gone"); got != 3 {
		t.Errorf("%d passes of the other account are left", got)
	}
	passesOf(t, s, "isp", string(make([]byte, historySweep)), t0.Add(historyTime+time.Hour))
	if got := count("gone"); got != 0 {
		t.Errorf("%d passes of an account that is no more are left", got)
	}
}

// What the line of a pass costs in the transaction that ends the pass anyway.
func BenchmarkPassed(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("history=%v", with), func(b *testing.B) {
			s := open(b, Options{})
			a := &Account{Source: "pop.example:995/jane", Name: "isp"}
			if err := s.Put(ctx, Listed{Account: a, Count: 1, At: t0}); err != nil {
				b.Fatal(err)
			}
			at := t0
			for b.Loop() {
				at = at.Add(time.Minute)
				changes := []Change{PassDone{Account: a.ID, At: at, Success: true}, Exact{Account: a.ID}, Prune{Before: at.Add(-time.Hour)}}
				if with {
					changes = append(changes, Passed{Pass{Account: "isp", Job: "isp-to-home", ID: "abcdef", Start: at, Messages: 100_000}})
				}
				if err := s.Put(ctx, changes...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
