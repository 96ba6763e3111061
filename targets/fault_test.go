package targets

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestFaultOf(t *testing.T) {
	down := &Error{Fault: Down, Op: `APPEND to "INBOX"`, Reply: "NO [OVERQUOTA] Quota exceeded"}
	for _, c := range []struct {
		err  error
		want Fault
	}{
		{errors.New("never heard of"), Transient}, // the mail is still in the maildrop
		{io.ErrUnexpectedEOF, Transient},
		{down, Down},
		{fmt.Errorf("isp/1: %w", down), Down},
		{errors.Join(errors.New("first"), &Error{Fault: Unsure, Op: "APPEND"}), Unsure},
		{&Error{Fault: Refused, Op: "APPEND"}, Refused},
	} {
		if got := FaultOf(c.err); got != c.want {
			t.Errorf("FaultOf(%v) = %s, want %s", c.err, got, c.want)
		}
	}
	if got, want := down.Error(), `APPEND to "INBOX": NO [OVERQUOTA] Quota exceeded`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := (&Error{Op: "APPEND", Err: io.ErrUnexpectedEOF}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}
