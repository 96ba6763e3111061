package imap

import (
	"sort"
	"strconv"
	"strings"
)

// caps are a server's capabilities, in upper case.
type caps map[string]bool

func parseCaps(list string) caps {
	cs := caps{}
	for w := range strings.FieldsSeq(list) {
		cs[strings.ToUpper(w)] = true
	}
	return cs
}

// rev2Only tells that the server speaks nothing but IMAP4rev2, whose folder
// names are UTF-8.
func (cs caps) rev2Only() bool { return cs["IMAP4REV2"] && !cs["IMAP4REV1"] }

// literalPlus: literals of any size are sent without asking (RFC 7888).
func (cs caps) literalPlus() bool { return cs["LITERAL+"] }

// literalMinus: those up to 4,096 octets are. IMAP4rev2 includes it.
func (cs caps) literalMinus() bool { return cs["LITERAL-"] || cs["LITERAL+"] || cs.rev2Only() }

// multi: many messages go in one command (RFC 3502). Without LITERAL+ it would
// cost a round trip a message all the same.
func (cs caps) multi() bool { return cs["MULTIAPPEND"] && cs.literalPlus() }

// appendLimit is the largest message in octets, 0 if there is no limit; perBox
// says that every folder has its own (RFC 7889).
func (cs caps) appendLimit() (limit int64, perBox bool) {
	for c := range cs {
		if v, ok := strings.CutPrefix(c, "APPENDLIMIT="); ok {
			limit, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	return limit, cs["APPENDLIMIT"]
}

// forClient is what go-imap is told. It takes IMAP4rev2 beside IMAP4rev1 for
// leave to send raw UTF-8, which needs an ENABLE first, so it is not told of it.
func (cs caps) forClient() string {
	list := make([]string, 0, len(cs))
	for c := range cs {
		switch {
		case c == "IMAP4REV1":
			c = "IMAP4rev1"
		case c == "IMAP4REV2" && cs.rev2Only():
			c = "IMAP4rev2"
		case c == "IMAP4REV2", !plainAtom(c):
			continue
		}
		list = append(list, c)
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

// plainAtom guards the stream to go-imap against a capability that its parser
// would stumble over.
func plainAtom(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b >= 0x7f || strings.IndexByte(`(){%*"\]`, b) >= 0 {
			return false
		}
	}
	return s != ""
}
