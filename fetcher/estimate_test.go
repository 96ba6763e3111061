package fetcher

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

func (w *world) estimate(looking time.Duration) (Estimate, error) {
	w.t.Helper()
	f := w.fetcher(nil)
	if st, err := state.View(w.t.Context(), w.db); err == nil {
		defer st.Close()
		f.State = st
	}
	return f.Estimate(w.t.Context(), w.job, w.account, looking)
}

func (w *world) estimates(want string) {
	w.t.Helper()
	e, err := w.estimate(time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	got := fmt.Sprintf("%d/%d new of %d/%d, %d moved, %d held, %d left, %d expired; %d of %d there;", e.New, e.NewOctets, e.Messages, e.Octets, e.Moved, e.Held, e.Left, e.Expired, e.There, e.Looked)
	slices.SortFunc(e.Holds, func(a, b Holding) int { return a.Messages - b.Messages })
	for _, h := range e.Holds {
		got += fmt.Sprintf(" %s:%s %d", h.Target, h.Folder, h.Messages)
	}
	if got != want {
		w.t.Errorf("%s\nwant %s", got, want)
	}
	if w.saw("RETR") > 0 && w.saw("DELE") > 0 {
		w.t.Error("something was taken")
	}
}

// TestEstimate: before anything, in the middle, and at the end of a migration.
func TestEstimate(t *testing.T) {
	w := newWorld(t)
	w.fill(10)
	w.start()
	w.estimates("10/410 new of 10/410, 0 moved, 0 held, 0 left, 0 expired; 0 of 0 there; home: 0")
	if w.saw("TOP") > 0 {
		t.Error("headers were read although nothing lies at the target")
	}
	w.target.add(targets.Dest{}, []byte("Message-ID: <4@x>\r\n\r\nanother body\r\n"))
	w.target.add(targets.Dest{}, []byte("Message-ID: <5@x>\r\n\r\nbody 5\r\n"))
	w.target.add(targets.Dest{}, []byte("Message-ID: <99@x>\r\n\r\nbody 99\r\n"))
	w.estimates("10/410 new of 10/410, 0 moved, 0 held, 0 left, 0 expired; 2 of 10 there; home:INBOX 3")

	// A twin on the maildrop needs a copy of its own.
	w.add("twin", "Message-ID: <5@x>\r\nSubject: 5\r\n\r\nbody 5\r\n")
	w.estimates("11/451 new of 11/451, 0 moved, 0 held, 0 left, 0 expired; 2 of 11 there; home:INBOX 3")
	if e, err := w.estimate(0); err != nil || e.Looked != 1 || e.New != 11 {
		t.Errorf("%v, %+v", err, e)
	}

	w.account.Limits.Messages = 4
	w.mustPass()
	w.estimates("7/287 new of 11/451, 4 moved, 0 held, 0 left, 0 expired; 2 of 7 there; home:INBOX 7")
	w.account.Limits.Messages = 0
	w.account.Limits.MaxSize = 40
	w.estimates("0/0 new of 11/451, 4 moved, 0 held, 7 left, 0 expired; 0 of 0 there; home:INBOX 7")
	w.account.Limits.MaxSize = 0
	w.mustPass()
	w.account.Keep = Keep{}
	w.estimates("0/0 new of 11/451, 11 moved, 0 held, 0 left, 11 expired; 0 of 0 there; home:INBOX 14")
	if w.left() != 11 {
		t.Errorf("%d left", w.left())
	}
}

// TestEstimate_rules: each message is looked for where the rules have it go.
func TestEstimate_rules(t *testing.T) {
	w := newWorld(t)
	w.fill(4)
	w.start()
	set, err := rules.Compile([]rules.Rule{
		{Name: "one", If: subject("1"), Then: rules.Then{Folders: []string{"One"}}},
		{Name: "two", If: subject("2"), Then: rules.Then{Drop: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.job.Rules = set
	for i := range 4 {
		w.target.add(targets.Dest{}, fmt.Appendf(nil, "Message-ID: <%d@x>\r\n\r\nbody\r\n", i))
	}
	w.estimates("4/164 new of 4/164, 0 moved, 0 held, 0 left, 0 expired; 2 of 4 there; home: 0 home:INBOX 4")
	w.target.add(targets.Dest{Folder: "One"}, []byte("Message-ID: <1@x>\r\n\r\nbody\r\n"))
	w.estimates("4/164 new of 4/164, 0 moved, 0 held, 0 left, 0 expired; 3 of 4 there; home:One 1 home:INBOX 4")
}

// TestEstimate_firstRun: what --since leaves alone is not promised to be copied.
func TestEstimate_firstRun(t *testing.T) {
	w := newWorld(t)
	w.add("old", "Date: Mon, 05 Jan 2015 10:00:00 +0000\r\n\r\nold\r\n")
	w.add("new", "Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n\r\nnew\r\n")
	w.start()
	w.account.FirstRun.Since = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	w.estimates("1/46 new of 2/92, 0 moved, 0 held, 1 left, 0 expired; 0 of 0 there; home: 0")
}

// TestEstimate_fails: it says which side it was.
func TestEstimate_fails(t *testing.T) {
	w := newWorld(t)
	w.fill(1)
	w.start()
	w.target.add(targets.Dest{}, []byte("x\r\n"))
	w.target.unlisted = func(int) error {
		return &targets.Error{Fault: targets.Down, Op: "FETCH", Reply: "NO [UNAVAILABLE]"}
	}
	var te *TargetError
	if _, err := w.estimate(time.Minute); !errors.As(err, &te) || te.Target != "home" {
		t.Errorf("%v", err)
	}
	w.target.unlisted = nil
	w.pop.AddUser("jane", "another")
	if _, err := w.estimate(time.Minute); err == nil || errors.As(err, &te) {
		t.Errorf("%v", err)
	}
}
