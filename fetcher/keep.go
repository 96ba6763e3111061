package fetcher

import (
	"strconv"
	"time"
)

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
	switch {
	case k.Forever:
		return "forever"
	case k.For%(24*time.Hour) == 0:
		return strconv.Itoa(int(k.For/(24*time.Hour))) + "d"
	default:
		return k.For.String()
	}
}

// over reports whether a message first seen then need not stay any longer.
func (k Keep) over(firstSeen, now time.Time) bool {
	return !k.Forever && now.Sub(firstSeen) >= k.For
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
