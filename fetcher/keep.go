package fetcher

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"popferry/fetcher/state"
	"popferry/rules"
)

// Keep says how long a message stays on the maildrop after it was delivered
// safely to every target. The zero Keep deletes at once.
type Keep struct {
	Forever   bool          // age deletes nothing
	For       time.Duration // since popferry first saw it
	Newest    int           // so many of the newest messages stay whatever their age
	UntilFull int64         // the oldest go, whatever their age, while the maildrop holds more octets; 0 for no such limit
	Final     bool          // holds whatever a rule says of a message, or said when it came
}

const (
	// clockSlack is how far the clock may go back before nothing is deleted by
	// age: a clock that is wrong once must not empty a maildrop.
	clockSlack = 5 * time.Minute
	// clockLeap is how far the clock may go ahead between two passes before a
	// pass only takes note of it. It is the most the remembered clock advances.
	clockLeap = 40 * 24 * time.Hour
)

// String is k as it is written in a configuration.
func (k Keep) String() string {
	if k.Newest == 0 && k.UntilFull == 0 {
		return k.age()
	}
	var parts []string
	if !k.Forever {
		parts = append(parts, "days: "+strings.TrimSuffix(k.age(), "d"))
	}
	if k.Newest > 0 {
		parts = append(parts, fmt.Sprintf("newest: %d", k.Newest))
	}
	if k.UntilFull > 0 {
		parts = append(parts, fmt.Sprintf("until_full: %d", k.UntilFull))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (k Keep) age() string {
	switch {
	case k.Forever:
		return "forever"
	case k.For%(24*time.Hour) == 0:
		return strconv.Itoa(int(k.For/(24*time.Hour))) + "d"
	default:
		return k.For.String()
	}
}

// of is how long m stays: as the rules said when it was routed, else k.
func (k Keep) of(m *state.Message) Keep {
	switch {
	case m.Keep == nil, k.Final:
		return k
	case *m.Keep < 0:
		return Keep{Forever: true}
	default:
		return Keep{For: *m.Keep}
	}
}

// byAge reports whether a rule said that m goes when it has an age.
func byAge(m *state.Message) bool { return m.Keep != nil && *m.Keep > 0 }

// keepFor is what the state remembers of a rule's keep.
func keepFor(k *rules.Keep) *time.Duration {
	switch {
	case k == nil:
		return nil
	case k.Forever:
		return new(state.Forever)
	default:
		return new(k.For)
	}
}

// over reports whether a message need not stay any longer for its age, on a
// maildrop of so many messages.
func (k Keep) over(it item, messages int, now time.Time) bool {
	k = k.of(it.msg)
	return !k.Forever && it.Num <= messages-k.Newest && now.Sub(it.msg.FirstSeen) >= k.For
}

// clockTrouble says why nothing may be deleted by age now, "" if it may.
// highWater is the latest time ever seen, zero if none was.
func clockTrouble(highWater, now time.Time) string {
	switch {
	case highWater.IsZero():
		return ""
	case now.Before(highWater.Add(-clockSlack)):
		return "the clock is behind the time of an earlier pass; nothing is deleted by age"
	case now.After(highWater.Add(clockLeap)):
		return "the clock is more than 40 days ahead of the last pass; nothing is deleted by age in this one"
	}
	return ""
}
