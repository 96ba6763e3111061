package targets

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf16"
)

// Dated is the first of dates that says anything, or now if none does. Stores
// wrap what they cannot hold (Dovecot makes 2105 of 1969), so it is clamped to
// what they can: from 1970-01-02 to a day from now.
func Dated(now time.Time, dates ...time.Time) time.Time {
	for _, t := range dates {
		if t.IsZero() {
			continue
		}
		if t.Before(earliest) {
			return earliest
		}
		if latest := now.Add(24 * time.Hour); t.After(latest) {
			return latest
		}
		return t
	}
	return now
}

var earliest = time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)

// UTF7 is a folder name in modified UTF-7 (RFC 3501 §5.1.3), as it stands in
// IMAP commands and in the directory names of Maildir++.
func UTF7(name string) string {
	var b strings.Builder
	var wide []uint16
	flush := func() {
		if len(wide) == 0 {
			return
		}
		octets := make([]byte, 0, 2*len(wide))
		for _, u := range wide {
			octets = append(octets, byte(u>>8), byte(u))
		}
		b.WriteString("&" + base64UTF7.EncodeToString(octets) + "-")
		wide = wide[:0]
	}
	for _, r := range name {
		if r < ' ' || r > '~' {
			wide = utf16.AppendRune(wide, r)
			continue
		}
		flush()
		b.WriteRune(r)
		if r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

var base64UTF7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// FromUTF7 reads what UTF7 writes; ok is false for what it does not write.
func FromUTF7(name string) (text string, ok bool) {
	var b strings.Builder
	for rest := name; rest != ""; {
		plain, coded, found := strings.Cut(rest, "&")
		b.WriteString(plain)
		if !found {
			break
		}
		coded, rest, found = strings.Cut(coded, "-")
		octets, err := base64UTF7.DecodeString(coded)
		if !found || err != nil || len(octets)%2 != 0 {
			return "", false
		}
		wide := make([]uint16, len(octets)/2)
		for i := range wide {
			wide[i] = uint16(octets[2*i])<<8 | uint16(octets[2*i+1])
		}
		if coded == "" {
			b.WriteByte('&')
		}
		b.WriteString(string(utf16.Decode(wide)))
	}
	return b.String(), UTF7(b.String()) == name
}
