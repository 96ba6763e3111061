package targetstest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"popferry/targets"
)

// relayTo is what a message is sent to in these tests: somebody, somebody else,
// and one that is refused.
func relayTo(s Sink) (jane, john string, to targets.Dest) {
	jane, john = "jane@home.example", "john@home.example"
	return jane, john, targets.Dest{Rcpt: []string{jane, s.Nobody, john, jane}}
}

// testRecipients: each recipient has an outcome of its own.
func testRecipients(t *testing.T, s Sink) {
	jane, john, to := relayTo(s)
	r := s.Target.(targets.Relay)
	if got, want := r.Recipients(to), []string{jane, s.Nobody, john}; !slices.Equal(got, want) {
		t.Errorf("recipients %q, want %q", got, want)
	}
	if got := r.Recipients(targets.Dest{}); len(got) == 0 {
		t.Error("the target has no recipients of its own")
	}
	rc, err := s.Target.Deliver(t.Context(), Message(Text(1)), to)
	if err != nil {
		t.Fatalf("Deliver: %v", err)
	}
	if len(rc.Failed) != 1 || targets.FaultOf(rc.Failed[s.Nobody]) != targets.Refused {
		t.Errorf("failed: %v, want %s refused", rc.Failed, s.Nobody)
	}
	for _, who := range []string{jane, john} {
		if got := s.For(who); len(got) != 1 || !slices.Equal(canons(got[0].Body), canons([]byte(Text(1)))) {
			t.Errorf("%s has %q", who, bodies(got))
		}
	}
	_, err = s.Target.Deliver(t.Context(), Message(Text(2)), targets.Dest{Rcpt: []string{s.Nobody}})
	if targets.FaultOf(err) != targets.Refused {
		t.Errorf("to nobody else: %v, want refused", err)
	}
}

// testCommit: what is about to be sent is said once, to those it goes to, and
// before the server can have it.
func testCommit(t *testing.T, s Sink) {
	jane, john, to := relayTo(s)
	for i := range 5 { // one alone, and some on a connection that was used
		m := Message(Text(i))
		calls := 0
		m.Commit = func(_ context.Context, rcpt []string) error {
			calls++
			if !slices.Equal(rcpt, []string{jane, john}) {
				t.Errorf("committed to %q", rcpt)
			}
			if n := len(s.For(jane)); n != i {
				t.Errorf("%d messages are there before the dot, want %d", n, i)
			}
			return nil
		}
		if _, err := s.Target.Deliver(t.Context(), m, to); err != nil || calls != 1 {
			t.Errorf("Deliver: %v, with %d calls of Commit", err, calls)
		}
	}
	m := Message(Text(9))
	m.Commit = func(context.Context, []string) error {
		t.Error("Commit is called, and nobody is accepted")
		return nil
	}
	_, _ = s.Target.Deliver(t.Context(), m, targets.Dest{Rcpt: []string{s.Nobody}})
}

// testCommitFails: without a commit there is no dot, and the next message is
// none the worse for it.
func testCommitFails(t *testing.T, s Sink) {
	failed := errors.New("disk full")
	m := Message(Text(1))
	m.Commit = func(context.Context, []string) error { return failed }
	_, err := s.Target.Deliver(t.Context(), m, targets.Dest{})
	if !errors.Is(err, failed) || targets.FaultOf(err) != targets.Transient {
		t.Errorf("Deliver: %v, want a transient %v", err, failed)
	}
	deliver(t, s, Text(2), targets.Dest{})
	if got := s.Read(""); len(got) != 1 || string(got[0].Body) != Text(2) {
		t.Errorf("stored %q, want the second message", bodies(got))
	}
}
