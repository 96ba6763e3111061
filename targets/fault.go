package targets

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Fault says what to do about a delivery that failed.
type Fault int

const (
	// Transient: leave it, the next pass tries again, nothing is charged.
	// Everything that is not known to be worse is Transient: the message is
	// still in the maildrop.
	Transient Fault = iota
	// Refused: the target does not want this message. It is charged, and after
	// three charges the message is held.
	Refused
	// Down: the target takes nothing now; send it nothing more in this pass.
	Down
	// Unsure: the connection broke after the message was sent. It may have
	// arrived; look before sending it again.
	Unsure
)

func (f Fault) String() string {
	switch f {
	case Refused:
		return "refused"
	case Down:
		return "down"
	case Unsure:
		return "unsure"
	default:
		return "transient"
	}
}

// Error is a failed operation at a target, with the server's own words.
type Error struct {
	Fault Fault
	Op    string        // protocol verb and object: `APPEND to "Lists/go"`
	Reply string        // the server's words, "NO [OVERQUOTA] Quota exceeded"; "" if it said nothing
	After time.Duration // back-off the server asked for; 0 if it did not
	Err   error         // what lay below; may be nil when Reply says it all
}

// Error joins operation, reply and cause. It is one line if they are.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Reply != "" {
		fmt.Fprintf(&b, ": %s", e.Reply)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns what lay below.
func (e *Error) Unwrap() error { return e.Err }

// FaultOf tells what to do about err. It is Transient unless err says more.
func FaultOf(err error) Fault {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Fault
	}
	return Transient
}
