package rules

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of a folder name, and what stands for an empty value in it.
const (
	maxLevels = 5
	maxLevel  = 120 // octets of UTF-8
	noValue   = "_"
)

// fieldValues are the fields a folder template may name. A value is "" if the
// message does not have it.
var fieldValues = map[string]func(v *view) string{
	"account":     func(v *view) string { return v.m.Account },
	"list_id":     func(v *view) string { id, _ := v.m.Header.ListID(); return id },
	"list_name":   func(v *view) string { _, name := v.m.Header.ListID(); return name },
	"from_domain": func(v *view) string { return strings.ToLower(firstAddress(v, "From").Domain) },
	"from_local":  func(v *view) string { return strings.ToLower(firstAddress(v, "From").Local) },
	"to_local":    func(v *view) string { return strings.ToLower(firstAddress(v, "To").Local) },
	"to_detail": func(v *view) string {
		_, detail, _ := strings.Cut(firstAddress(v, "To").Local, "+")
		return strings.ToLower(detail)
	},
	"year":  func(v *view) string { return v.day("2006") },
	"month": func(v *view) string { return v.day("01") },
	"day":   func(v *view) string { return v.day("02") },
}

// Fields returns the names that a folder template may use as ${name}, sorted:
//
//   - account: the maildrop's name
//   - list_id, list_name: as Header.ListID
//   - from_domain, from_local: of the first address in From, in lower case
//   - to_local: of the first address in To, in lower case, with what follows a
//     "+"; to_detail is that alone (RFC 5233's :detail)
//   - year, month, day: of the Date field, in the zone it is written in; of the
//     topmost Received if there is no Date, if it lies before 1970, or more than
//     a day after Received, which is the clock of the reader's own provider
//
// Besides these, ${1} and so on stand for the groups of the last regex with
// groups that made the rule match, and $$ for a dollar. A value that is missing
// or has nothing printable reads "_".
//
// A value never adds a level and never leaves one: "/", "\", "*" and "%" in it
// become "_", control and bidi characters vanish, blanks are squeezed, leading
// "~" and "." and doubled dots go. Folder names are in Unicode NFC, each level
// cut to 120 octets.
func Fields() []string {
	names := make([]string, 0, len(fieldValues))
	for name := range fieldValues {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func firstAddress(v *view, name string) Address {
	if list := v.m.Header.Addresses(name); len(list) > 0 {
		return list[0]
	}
	return Address{}
}

func (v *view) day(layout string) string {
	t := v.when()
	if t.IsZero() {
		return ""
	}
	return t.Format(layout)
}

// template is a folder name with fields in it.
type template struct {
	literal string // the whole name if it has no fields
	levels  [][]piece
}

// piece is a stretch of a level: text, a field or a group of a regex.
type piece struct {
	text  string
	field func(*view) string
	group int
}

// parseTemplate checks and compiles a folder name. groups is how many groups
// the rule's regexes have.
func parseTemplate(text string, groups int) (*template, error) {
	t := &template{}
	literal := true
	levels := strings.Split(text, "/")
	if len(levels) > maxLevels {
		return nil, fmt.Errorf("folder %q has %d levels; %d are allowed", text, len(levels), maxLevels)
	}
	for _, level := range levels {
		pieces, err := parseLevel(level, groups)
		if err != nil {
			return nil, fmt.Errorf("folder %q: %w", text, err)
		}
		literal = literal && len(pieces) == 1 && pieces[0].text != ""
		t.levels = append(t.levels, pieces)
	}
	if literal {
		t.literal = t.expand(nil)
	}
	return t, nil
}

func parseLevel(level string, groups int) ([]piece, error) {
	var pieces []piece
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			pieces = append(pieces, piece{text: text.String()})
			text.Reset()
		}
	}
	for rest := level; rest != ""; {
		before, after, found := strings.Cut(rest, "$")
		text.WriteString(before)
		rest = after
		switch {
		case !found:
		case strings.HasPrefix(after, "$"):
			text.WriteByte('$')
			rest = after[1:]
		case strings.HasPrefix(after, "{"):
			name, tail, closed := strings.Cut(after[1:], "}")
			if !closed {
				return nil, errors.New(`"${" has no "}" on its level`)
			}
			p, err := parsePiece(name, groups)
			if err != nil {
				return nil, err
			}
			flush()
			pieces = append(pieces, p)
			rest = tail
		default:
			return nil, errors.New(`"$" begins a field such as ${list_id}; write "$$" for a dollar`)
		}
	}
	flush()
	return pieces, checkLevel(level, pieces)
}

func parsePiece(name string, groups int) (piece, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > groups {
			return piece{}, fmt.Errorf("no regex of this rule has a group %d", n)
		}
		return piece{group: n}, nil
	}
	f, ok := fieldValues[name]
	if !ok {
		return piece{}, fmt.Errorf("there is no field %q; there are %s and groups of a regex (${1})", name, strings.Join(Fields(), ", "))
	}
	return piece{field: f}, nil
}

// checkLevel refuses what the author of a rule cannot have meant.
func checkLevel(level string, pieces []piece) error {
	if len(pieces) == 0 {
		return errors.New("a level is empty")
	}
	size := 0
	for _, p := range pieces {
		size += len(p.text)
	}
	switch {
	case size > maxLevel:
		return fmt.Errorf("a level is longer than %d octets", maxLevel)
	case !utf8.ValidString(level):
		return errors.New("it is not UTF-8")
	case strings.ContainsFunc(level, isInvisible):
		return errors.New("it has invisible characters")
	case strings.Contains(level, `\`):
		return errors.New(`levels are separated by "/", not by "\"`)
	case strings.ContainsAny(level, "*%"):
		return errors.New(`"*" and "%" are wildcards in IMAP`)
	case level == "." || level == "..":
		return fmt.Errorf("%q is no name for a level", level)
	case strings.TrimSpace(level) != level:
		return errors.New("a level begins or ends with a blank")
	}
	return nil
}

// expand makes the folder name for a message. Levels are separated by "/".
func (t *template) expand(v *view) string {
	if t.literal != "" {
		return t.literal
	}
	levels := make([]string, len(t.levels))
	for i, pieces := range t.levels {
		var b strings.Builder
		for _, p := range pieces {
			switch {
			case p.field != nil:
				b.WriteString(cleanValue(p.field(v)))
			case p.group > 0 && p.group < len(v.captures):
				b.WriteString(cleanValue(v.captures[p.group]))
			case p.group > 0:
				b.WriteString(noValue)
			default:
				b.WriteString(p.text)
			}
		}
		levels[i] = cutLevel(b.String())
	}
	if len(levels) == 1 && strings.EqualFold(levels[0], "INBOX") {
		return "INBOX" // RFC 9051 §5.1: any case, one folder
	}
	return strings.Join(levels, "/")
}

// cleanValue makes a piece of a level of text from a message. Nothing that
// separates levels on any server may come through: a sender would choose the
// folder.
func cleanValue(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case isInvisible(r):
			return -1
		case strings.ContainsRune(`/\*%`, r) || r == utf8.RuneError:
			return '_'
		default:
			return r
		}
	}, norm.NFC.String(s))
	s = strings.Join(strings.Fields(s), " ")
	for strings.Contains(s, "..") {
		s = strings.ReplaceAll(s, "..", ".")
	}
	s = cutLevel(strings.TrimLeft(s, "~. "))
	return s
}

// cutLevel brings a level to its final form and length.
func cutLevel(s string) string {
	s = norm.NFC.String(s)
	if len(s) > maxLevel {
		end := maxLevel
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	s = strings.TrimFunc(s, func(r rune) bool { return r == ' ' || isJoiner(r) })
	if s == "" {
		return noValue
	}
	return s
}

// isInvisible reports characters that a reader of a folder name cannot see, or
// that change how he sees the others.
func isInvisible(r rune) bool {
	return !unicode.IsPrint(r) && !isJoiner(r)
}

// isJoiner reports the two joiners, which some scripts and emoji need.
func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' }
