package maildrop

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
)

const (
	maxEntries = 2_000_000 // lines of a listing
	maxUIDL    = 512       // octets kept of a UIDL; RFC 1939 §7 allows 70
)

// List asks what lies in the maildrop: STAT, LIST and UIDL, and CAPA again
// because some capabilities show only after login. If the server pipelines, all
// of it is one round trip. Call it before the methods that take entries.
func (c *Conn) List(ctx context.Context) (Listing, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return Listing{}, err
	}
	defer end()
	b := &listing{c: c}
	steps := []struct {
		cmd  string
		read func(context.Context) error
	}{
		{"CAPA", b.capa},
		{"STAT", b.stat},
		{"LIST", b.list},
		{"UIDL", b.uidl},
	}
	if c.late {
		steps = steps[1:]
	}
	ahead := c.caps.Pipelining && c.pipelining()
	if ahead {
		for _, s := range steps {
			if err := c.send(ctx, s.cmd); err != nil {
				return Listing{}, err
			}
		}
	}
	// The first -ERR that matters is returned only when the other replies are
	// read, so that the session stays in step.
	var first error
	for _, s := range steps {
		if !ahead {
			if first != nil {
				break
			}
			if err := c.send(ctx, s.cmd); err != nil {
				return Listing{}, err
			}
		}
		if err := s.read(ctx); !Usable(err) {
			return Listing{}, err
		} else if first == nil {
			first = err
		}
	}
	if first != nil {
		return Listing{}, first
	}
	return b.result(), nil
}

// listing is a Listing being put together. Entries are in the order of LIST,
// which is nearly always that of UIDL.
type listing struct {
	c     *Conn
	l     Listing
	known []bool // entries[i] has been named by UIDL
	next  int    // where the next line of UIDL is expected
	odd   oddities
}

// oddities count what disagrees, to be told in one line each.
type oddities struct {
	badLines, outOfRange, twice, badSizes int // of LIST
	strangers, uidlTwice, empty           int // of UIDL
	irregular, cut                        int
}

func (b *listing) capa(ctx context.Context) error {
	caps, err := b.c.readCaps(ctx)
	if err != nil || !caps.Known {
		return err
	}
	if len(caps.SASL) == 0 {
		caps.SASL = b.c.caps.SASL // many servers stop to offer what is over
	}
	b.c.caps, b.c.late = caps, true
	return nil
}

func (b *listing) stat(ctx context.Context) error {
	if err := b.c.reply(ctx, "STAT"); err != nil {
		return err
	}
	f := bytes.Fields(b.c.lc.last.text)
	var ok bool
	if len(f) > 0 {
		b.l.Messages, ok = number(f[0])
	}
	if !ok {
		return b.c.fail(ctx, "STAT", botchf("no number of messages in %q", words(b.c.lc.last.text)))
	}
	if len(f) > 1 {
		b.l.Octets, _ = octets(f[1])
	}
	return nil
}

func (b *listing) list(ctx context.Context) error {
	if err := b.c.reply(ctx, "LIST"); err != nil {
		// Some servers have nothing to list in an empty maildrop.
		if Usable(err) && b.l.Messages == 0 {
			err = nil
		}
		return err
	}
	// STAT is only a hint of how much is to come: it may be any number.
	b.l.Entries = make([]Entry, 0, min(b.l.Messages, 1<<16))
	if err := b.c.lines(ctx, "LIST", maxEntries, b.addSize); err != nil {
		return err
	}
	b.sortByNum()
	return nil
}

func (b *listing) addSize(line []byte) {
	num, rest, ok := cutNumber(line)
	switch {
	case !ok:
		b.odd.badLines++
		return
	case num < 1 || num > b.l.Messages:
		b.odd.outOfRange++
		return
	}
	f := bytes.Fields(rest)
	var size int64
	ok = false
	if len(f) > 0 {
		size, ok = octets(f[0])
	}
	if !ok {
		b.odd.badSizes++
	}
	b.l.Entries = append(b.l.Entries, Entry{Num: num, Size: size})
}

// sortByNum puts the entries in order of their numbers and leaves the first of
// those with the same number.
func (b *listing) sortByNum() {
	byNum := func(x, y Entry) int { return x.Num - y.Num }
	if !slices.IsSortedFunc(b.l.Entries, byNum) {
		slices.SortStableFunc(b.l.Entries, byNum)
	}
	n := len(b.l.Entries)
	b.l.Entries = slices.CompactFunc(b.l.Entries, func(x, y Entry) bool { return x.Num == y.Num })
	b.odd.twice = n - len(b.l.Entries)
}

func (b *listing) uidl(ctx context.Context) error {
	if err := b.c.reply(ctx, "UIDL"); err != nil {
		if !Usable(err) {
			return err
		}
		// Trouble of the moment must not pass for a server without UIDL: its
		// mail would be taken for new.
		if b.l.Messages > 0 && (b.c.caps.UIDL || err.(*Error).Code != NoCode) { //nolint:errorlint // reply makes them
			return err
		}
		b.l.NoUIDL = b.l.Messages > 0
		return nil
	}
	b.known = make([]bool, len(b.l.Entries))
	return b.c.lines(ctx, "UIDL", maxEntries, b.addUIDL)
}

func (b *listing) addUIDL(line []byte) {
	num, uidl, ok := cutNumber(line)
	i := -1
	if ok {
		i = b.find(num)
	}
	if i < 0 {
		b.odd.strangers++
		return
	}
	switch {
	case len(uidl) == 0:
		b.odd.empty++
	case len(uidl) > maxUIDL:
		b.odd.cut++
		uidl = uidl[:maxUIDL]
	case len(uidl) > 70 || bytes.ContainsFunc(uidl, func(r rune) bool { return r < '!' || r > '~' }):
		b.odd.irregular++
	}
	e := &b.l.Entries[i]
	if b.known[i] {
		if e.UIDL != string(uidl) {
			// Which of the two it is decides over deletion, so it is neither.
			b.odd.uidlTwice++
			e.Num = -e.Num
		}
		return
	}
	b.known[i], e.UIDL = true, string(uidl)
}

// find returns where the entry with that number is, -1 if there is none.
func (b *listing) find(num int) int {
	if b.next < len(b.l.Entries) && b.l.Entries[b.next].Num == num {
		b.next++
		return b.next - 1
	}
	i, ok := slices.BinarySearchFunc(b.l.Entries, num, func(e Entry, num int) int { return max(e.Num, -e.Num) - num })
	if !ok || b.l.Entries[i].Num < 0 {
		return -1
	}
	b.next = i + 1
	return i
}

// result keeps what all three replies agree on.
func (b *listing) result() Listing {
	l := &b.l
	listed := len(l.Entries)
	if !l.NoUIDL && b.known != nil {
		kept := l.Entries[:0]
		for i, e := range l.Entries {
			if b.known[i] && e.Num > 0 {
				kept = append(kept, e)
			}
		}
		l.Entries = kept
	}
	unnamed := listed - len(l.Entries) - b.odd.uidlTwice
	o := b.odd
	l.Complete = len(l.Entries) == l.Messages && o.badLines+o.outOfRange+o.strangers+o.uidlTwice+o.empty == 0
	warn := func(n int, format string, a ...any) {
		if n != 0 {
			l.Warnings = append(l.Warnings, fmt.Sprintf(format, a...))
		}
	}
	warn(l.Messages-listed, "STAT says %d messages, LIST has %d", l.Messages, listed)
	warn(o.badLines, "LIST has %d lines without a message number", o.badLines)
	warn(o.outOfRange, "LIST has %d message numbers that STAT does not allow", o.outOfRange)
	warn(o.twice, "LIST names %d messages twice", o.twice)
	warn(o.badSizes, "LIST gives %d sizes that are no sizes", o.badSizes)
	warn(unnamed, "UIDL leaves out %d messages that LIST has; they are left alone", unnamed)
	warn(o.strangers, "UIDL has %d lines for messages that LIST does not have", o.strangers)
	warn(o.uidlTwice, "UIDL gives %d messages two different ids; they are left alone", o.uidlTwice)
	warn(o.empty, "UIDL gives %d messages no id", o.empty)
	warn(o.irregular, "UIDL gives %d messages ids that RFC 1939 does not allow", o.irregular)
	warn(o.cut, "UIDL gives %d messages ids of more than %d octets; the rest is cut off", o.cut, maxUIDL)
	if l.NoUIDL {
		l.Warnings = append(l.Warnings, "the server does not give messages ids (UIDL)")
	}
	return *l
}

// cutNumber cuts the message number off a line of a listing, and the blanks
// around it.
func cutNumber(line []byte) (num int, rest []byte, ok bool) {
	line = bytes.TrimLeft(line, " \t")
	i := bytes.IndexAny(line, " \t")
	if i < 0 {
		i = len(line)
	}
	num, ok = number(line[:i])
	return num, bytes.Trim(line[i:], " \t"), ok
}

// number reads a message number or count: digits and nothing else.
func number(b []byte) (int, bool) {
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil {
		return 0, false
	}
	return int(n), true
}

// octets reads a size. One of a petabyte is none, so sums cannot overflow.
func octets(b []byte) (int64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 50)
	if err != nil {
		return 0, false
	}
	return int64(n), true
}
