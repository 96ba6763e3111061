package rules

import (
	"bytes"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Date returns the time in the Date field, in the zone it was written in; the
// zero time if there is none or it makes no sense. Any year of four digits is
// passed on, however unlikely: what to do about 1899 or 9999 is the caller's
// business.
func (h *Header) Date() time.Time {
	return dateIn(clip(h.Raw("Date")))
}

// dateIn reads a date with comments in it. Nearly all are written as RFC 5322
// wants them, and every message has two.
func dateIn(b []byte) time.Time {
	if t, ok := plainDate(b); ok {
		return t
	}
	return parseDate(stripComments(b))
}

// Received returns the time in the topmost Received field, which the receiving
// server wrote: what follows its last semicolon (RFC 5321 §4.4). It is zero as
// in Date.
func (h *Header) Received() time.Time {
	raw := clip(h.Raw("Received"))
	if i := bytes.LastIndexByte(raw, ';'); i < 0 {
		return time.Time{}
	} else if t, ok := plainDate(raw[i+1:]); ok {
		return t
	}
	raw = stripComments(raw) // there may have been semicolons in them
	i := bytes.LastIndexByte(raw, ';')
	if i < 0 {
		return time.Time{}
	}
	return parseDate(raw[i+1:])
}

// plainDate reads "Sun, 1 Mar 2026 10:00:59 +0100", with or without the day of
// the week and one comment behind, and nothing else: it is parseDate without
// its patience, and allocates nothing.
func plainDate(b []byte) (time.Time, bool) {
	b = bytes.TrimSpace(b)
	if i := bytes.IndexByte(b, '('); i > 0 && bytes.IndexByte(b, ')') == len(b)-1 && bytes.LastIndexByte(b, '(') == i && bytes.IndexByte(b, '\\') < 0 {
		b = bytes.TrimRight(b[:i], " ")
	}
	if len(b) > 5 && b[3] == ',' && b[4] == ' ' {
		b = b[5:]
	}
	if len(b) > 1 && b[1] == ' ' { // a day of one digit
		var two [32]byte
		two[0] = '0'
		b = two[:1+copy(two[1:], b)]
	}
	const form = "00 Jan 0000 00:00:00 +0000"
	if len(b) != len(form) {
		return time.Time{}, false
	}
	for i := range form {
		switch c := form[i]; {
		case c == '0' && !isDigit(b[i]), c == ' ' && b[i] != ' ', c == ':' && b[i] != ':':
			return time.Time{}, false
		}
	}
	number := func(at int) int { return int(b[at]-'0')*10 + int(b[at+1]-'0') }
	month := plainMonth(b[3:6])
	offset := number(22)*3600 + number(24)*60
	if month == 0 || b[21] != '+' && b[21] != '-' || number(22) > 15 || number(24) > 59 {
		return time.Time{}, false
	}
	if b[21] == '-' {
		offset = -offset
	}
	d := dateParts{
		day: number(0), month: month, year: number(7)*100 + number(9),
		hour: number(12), minute: number(15), second: number(18), offset: offset,
	}
	if d.hour > 23 || d.minute > 59 || d.second > 60 {
		return time.Time{}, false
	}
	return d.time(), true
}

// plainMonth knows a month by its name as it should be written.
func plainMonth(b []byte) time.Month {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for m := range 12 {
		if string(b) == names[3*m:3*m+3] {
			return time.Month(m + 1)
		}
	}
	return 0
}

func clip(raw []byte) []byte {
	return raw[:min(len(raw), maxText)]
}

// stripComments puts a blank in the place of each comment (RFC 5322 §3.2.2),
// in linear time. If one has no end, all stay: a date may stand behind it.
func stripComments(b []byte) []byte {
	if bytes.IndexByte(b, '(') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && depth > 0:
			i++
		case c == '(':
			depth++
			out = append(out, ' ')
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			out = append(out, c)
		}
	}
	if depth > 0 {
		return b
	}
	return out
}

// parseDate reads the date-time of RFC 5322 §3.3 with the liberties senders
// take: obsolete zones and short years (§4.3), asctime order, names in full,
// 21-Nov-2026, ISO 8601, a missing zone (then UTC). It goes by what each word
// looks like. The result is zero if anything needed is missing, doubled or out
// of range.
func parseDate(b []byte) time.Time {
	const maxWords = 12
	d := dateParts{day: -1, year: -1}
	words := strings.FieldsFunc(string(b), func(r rune) bool {
		return r <= ' ' || r == ',' || r == '\u00a0' || r == 0xfffd
	})
	if len(words) > maxWords {
		return time.Time{}
	}
	for _, w := range words {
		if !d.word(w) {
			return time.Time{}
		}
	}
	return d.time()
}

// dateParts are the parts of a date found so far.
type dateParts struct {
	day, year            int // -1 is none
	month                time.Month
	hour, minute, second int
	clock                bool // hour and so on were found
	offset               int  // seconds east of UTC
}

// word takes the next word and reports whether it can be part of a date.
func (d *dateParts) word(w string) bool {
	switch c := w[0]; {
	case c == '+' || c == '-':
		if d.clock { // before the time it is some odd hyphen
			d.offset = parseOffset(w)
		}
		return true
	case isDigit(c):
		if date, clock, ok := strings.Cut(w, "T"); ok && strings.ContainsRune(date, '-') {
			return d.date(date) && d.isoTime(clock)
		}
		switch {
		case strings.ContainsRune(w, ':'):
			return d.time12(w)
		case strings.ContainsRune(w, '-'):
			return d.date(w)
		case strings.ContainsRune(w, '/'):
			return false // nobody can tell 03/04 from 04/03
		default:
			return d.number(w)
		}
	default:
		return d.name(w)
	}
}

// number takes a day or a year; a word of up to two digits is the day if there
// is none yet.
func (d *dateParts) number(w string) bool {
	n, err := strconv.ParseUint(w, 10, 16)
	switch {
	case err != nil || len(w) > 4:
		return false
	case d.day < 0 && len(w) <= 2:
		d.day = int(n)
	case d.year >= 0:
		return false
	case len(w) == 4:
		d.year = int(n)
	case len(w) == 3 || len(w) == 2 && n >= 50:
		d.year = 1900 + int(n)
	case len(w) == 2:
		d.year = 2000 + int(n)
	default:
		return false
	}
	return true
}

// date takes 21-Nov-2026 and 2026-11-21.
func (d *dateParts) date(w string) bool {
	parts := strings.Split(w, "-")
	if len(parts) != 3 {
		return false
	}
	if len(parts[0]) == 4 {
		parts[0], parts[2] = parts[2], parts[0]
	}
	if d.day >= 0 || d.year >= 0 || d.month != 0 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return false
	}
	if isDigit(parts[1][0]) {
		n, err := strconv.ParseUint(parts[1], 10, 8)
		if err != nil || n < 1 || n > 12 || len(parts[2]) != 4 {
			return false
		}
		d.month = time.Month(n)
	} else if d.month = monthOf(parts[1]); d.month == 0 {
		return false
	}
	return d.number(parts[0]) && d.number(parts[2])
}

// isoTime takes what follows the T: 23:55:02.5Z, 23:55:02+01:00.
func (d *dateParts) isoTime(w string) bool {
	i := strings.IndexAny(w, "Zz+-")
	if i < 0 {
		return d.time12(w)
	}
	if w[i] == '+' || w[i] == '-' {
		d.offset = parseOffset(w[i:])
	}
	return d.time12(w[:i])
}

// time12 takes 23:55, 23:55:02 and 23:55:02.123, and any of them with a zone
// stuck to it.
func (d *dateParts) time12(w string) bool {
	if i := strings.IndexAny(w, "+-"); i > 0 {
		d.offset = parseOffset(w[i:])
		w = w[:i]
	}
	w, _, _ = strings.Cut(w, ".")
	parts := strings.Split(w, ":")
	if d.clock || len(parts) < 2 || len(parts) > 3 {
		return false
	}
	var n [3]int
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 8)
		if err != nil || len(part) > 2 {
			return false
		}
		n[i] = int(v)
	}
	d.hour, d.minute, d.second, d.clock = n[0], n[1], n[2], true
	return n[0] <= 23 && n[1] <= 59 && n[2] <= 60 // 60 is a leap second
}

// name takes the name of a month, a day of the week or a zone. A zone that is
// not known counts as UTC (RFC 5322 §4.3).
func (d *dateParts) name(w string) bool {
	if m := monthOf(w); m != 0 && d.month == 0 {
		d.month = m
		return true
	}
	zone := strings.ToUpper(w)
	switch hours, ok := zones[zone]; {
	case !d.clock:
	case ok:
		d.offset = int(hours * 3600)
	case zone == "PM" && d.hour < 12:
		d.hour += 12
	case zone == "AM" && d.hour == 12:
		d.hour = 0
	default:
		if rest, ok := strings.CutPrefix(zone, "GMT"); ok && rest != "" {
			d.offset = parseOffset(rest)
		} else if rest, ok := strings.CutPrefix(zone, "UTC"); ok && rest != "" {
			d.offset = parseOffset(rest)
		}
	}
	return true
}

// time puts the parts together. Missing a time of day, it is midnight.
func (d *dateParts) time() time.Time {
	if d.day < 1 || d.year < 0 || d.month == 0 {
		return time.Time{}
	}
	t := time.Date(d.year, d.month, d.day, d.hour, d.minute, min(d.second, 59), 0, zoneOf(d.offset))
	if t.Day() != d.day {
		return time.Time{} // 31 February
	}
	return t
}

// offsets holds a zone for every quarter of an hour there may be, as they are
// needed.
var offsets [2*quarters + 1]atomic.Pointer[time.Location]

const quarters = 16 * 4

// zoneOf returns the zone of an offset in seconds.
func zoneOf(offset int) *time.Location {
	if offset == 0 {
		return time.UTC
	}
	if offset%900 != 0 {
		return time.FixedZone("", offset)
	}
	at := &offsets[quarters+offset/900]
	if at.Load() == nil {
		at.Store(time.FixedZone("", offset))
	}
	return at.Load()
}

// zones are the named ones of RFC 5322 §4.3 and those that are common beside
// them, in hours east of UTC.
var zones = map[string]float64{
	"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
	"WEST": 1, "BST": 1, "CET": 1, "MET": 1, "MEZ": 1, "CEST": 2, "MEST": 2, "MESZ": 2,
	"EET": 2, "EEST": 3, "MSK": 3, "MSD": 4, "HKT": 8, "JST": 9, "KST": 9, "NZST": 12, "NZDT": 13,
}

// monthOf knows a month by its first three letters.
func monthOf(w string) time.Month {
	if len(w) < 3 {
		return 0
	}
	i := strings.Index("JanFebMarAprMayJunJulAugSepOctNovDec", strings.ToUpper(w[:1])+strings.ToLower(w[1:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	return time.Month(i/3 + 1)
}

// parseOffset reads +0100, -05:30 and +1 into seconds; an impossible offset
// counts as none, for the date is still right within a day.
func parseOffset(w string) int {
	digits := strings.ReplaceAll(w[1:], ":", "")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || len(digits) > 4 {
		return 0
	}
	hours, minutes := int(n/100), int(n%100)
	if len(digits) <= 2 {
		hours, minutes = int(n), 0
	}
	if hours > 15 || minutes > 59 {
		return 0
	}
	offset := hours*3600 + minutes*60
	if w[0] == '-' {
		return -offset
	}
	return offset
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
