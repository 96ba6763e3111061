package imap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"popferry/targets"
)

// DatePolicy chooses a message's INTERNALDATE.
type DatePolicy int

// Where a message says nothing usable, the next is taken.
const (
	DateReceived DatePolicy = iota // top Received, else Date, else now
	DateHeader                     // Date, else Received, else now
	DateNow                        // now
)

// internalDate returns what m shall be dated.
func (p DatePolicy) internalDate(m *targets.Message, now time.Time) time.Time {
	switch p {
	case DateNow:
		return now
	case DateHeader:
		return targets.Dated(now, m.Date, m.Received)
	default:
		return targets.Dated(now, m.Received, m.Date)
	}
}

// dateTime is RFC 3501's date-time: the day is two characters wide.
const dateTime = `"_2-Jan-2006 15:04:05 -0700"`

// appendDate appends t as a date-time. The zone of a mail may have seconds or be
// a day wide, which date-time cannot say; then UTC is used.
func appendDate(b []byte, t time.Time) []byte {
	if _, off := t.Zone(); off%60 != 0 || off < -14*3600 || off > 14*3600 {
		t = t.UTC()
	}
	return t.AppendFormat(b, dateTime)
}

// systemFlags are the words of the configuration for flags that IMAP defines.
var systemFlags = map[string]string{
	"seen": `\Seen`, "flagged": `\Flagged`, "answered": `\Answered`, "draft": `\Draft`,
}

// CheckFlag tells whether name can be set on a message: "seen", "flagged",
// "answered", "draft", or a keyword, which must be an atom. A server may close
// the connection on anything else.
func CheckFlag(name string) error {
	_, err := flagOf(name)
	return err
}

func flagOf(name string) (string, error) {
	if f, ok := systemFlags[strings.ToLower(name)]; ok {
		return f, nil
	}
	switch strings.ToLower(name) {
	case "":
		return "", errors.New("an empty flag")
	case "recent", "deleted":
		return "", fmt.Errorf("the flag %q cannot be set here", name)
	}
	for i := range len(name) {
		if b := name[i]; b <= ' ' || b >= 0x7f || strings.IndexByte(`(){%*"\]`, b) >= 0 {
			return "", fmt.Errorf("the flag %q is no word that IMAP can carry", name)
		}
	}
	return name, nil
}

// flagList is the parenthesised list for an APPEND, without repetitions.
func flagList(sets ...[]string) (string, error) {
	var b strings.Builder
	seen := map[string]bool{}
	b.WriteByte('(')
	for _, set := range sets {
		for _, name := range set {
			f, err := flagOf(name)
			if err != nil {
				return "", err
			}
			if k := strings.ToLower(f); !seen[k] {
				if len(seen) > 0 {
					b.WriteByte(' ')
				}
				seen[k] = true
				b.WriteString(f)
			}
		}
	}
	b.WriteByte(')')
	return b.String(), nil
}
