package state

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// An old copy of the database that is put back is noticed: what was delivered
// since is not in it.
func TestOpen_oldCopy(t *testing.T) {
	path := used(t)
	reopen := func(first bool) (said string) {
		t.Helper()
		var log bytes.Buffer
		s, err := Open(ctx, path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		k := known(t, s)
		if k.Account.FirstPassDone != first {
			t.Errorf("first pass done: %v, want %v; it said %q", k.Account.FirstPassDone, first, log.String())
		}
		if err := s.Put(ctx, PassDone{Account: k.Account.ID, At: t0, Success: true, FirstPass: true}); err != nil {
			t.Fatal(err)
		}
		return log.String()
	}
	reopen(false)
	old := read(t, path)
	reopen(true)
	reopen(true)
	write(t, path, old)
	if said := reopen(false); !strings.Contains(said, "is an old copy") {
		t.Errorf("it said %q", said)
	}
	reopen(true) // once is enough
	// Alone, on another machine, it is as good as any.
	write(t, path+".lock", []byte(markLine))
	if said := reopen(true); said != "" {
		t.Errorf("it said %q", said)
	}
}
