package state

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Foreign is another program that remembers which messages it has fetched.
type Foreign string

// The programs whose state can be read, as users name them.
const (
	Fetchmail Foreign = "fetchmail" // .fetchids
	Getmail   Foreign = "getmail"   // oldmail-SERVER-PORT-USER
	Mpop      Foreign = "mpop"      // its uidls_file
	Fdm       Foreign = "fdm"       // the cache of a pop3 account
)

// Foreigners are the programs whose state ReadForeign reads.
var Foreigners = []Foreign{Fetchmail, Getmail, Mpop, Fdm}

// ForeignList is the ids that a program remembers of one maildrop.
type ForeignList struct {
	User, Host string // "" where the file does not say
	IDs        []string
}

// ReadForeign reads the state of another program, one list for each maildrop in
// it. The error says which line is wrong; a file of something else is always
// refused.
//
// What these programs write is not always what the server said: see Listed.
func ReadForeign(f Foreign, r io.Reader) ([]ForeignList, error) {
	p := &foreignParser{}
	parse := map[Foreign]func([]byte) error{Fetchmail: p.fetchmail, Getmail: p.getmail, Mpop: p.mpop, Fdm: p.fdm}[f]
	if parse == nil {
		return nil, fmt.Errorf("%q is no program whose state can be read", string(f))
	}
	in := bufio.NewReaderSize(r, maxForeignLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			err = errors.New("too long")
		case err == nil || errors.Is(err, io.EOF):
			err = parse(bytes.TrimSuffix(line, []byte("\n")))
		default:
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if p.left > 0 {
		return nil, fmt.Errorf("the file ends where %d more ids should follow", p.left)
	}
	return p.lists, nil
}

// maxForeignLine bounds a line; the longest UIDL that anybody keeps has 512 octets.
const maxForeignLine = 16 << 10

// foreignParser puts lists together. Every method takes one line.
type foreignParser struct {
	lists []ForeignList
	left  int // mpop: ids that the list under way still lacks
}

// list returns that of a maildrop, and makes it where there is none.
func (p *foreignParser) list(user, host string) *ForeignList {
	for i := len(p.lists) - 1; i >= 0; i-- { // mostly the last
		if p.lists[i].User == user && p.lists[i].Host == host {
			return &p.lists[i]
		}
	}
	p.lists = append(p.lists, ForeignList{User: user, Host: host})
	return &p.lists[len(p.lists)-1]
}

func (l *ForeignList) add(id []byte) error {
	if len(id) < 1 || len(id) > 512 {
		return fmt.Errorf("an id has 1 to 512 octets, not %d", len(id))
	}
	if bytes.IndexByte(id, 0) >= 0 {
		return errors.New("there is a NUL in it")
	}
	l.IDs = append(l.IDs, string(id))
	return nil
}

// fetchmail reads "user@host id". The user may have blanks and more than one @
// in it, the id @ as well: the host ends at the first blank behind the first @.
func (p *foreignParser) fetchmail(line []byte) error {
	line = bytes.Trim(line, " \t\r")
	if len(line) == 0 {
		return nil
	}
	at := bytes.IndexByte(line, '@')
	if at < 0 {
		return errors.New("a line of fetchmail's is user@host and an id")
	}
	end := bytes.IndexByte(line[at:], ' ')
	if end < 0 {
		return errors.New("there is no id after user@host")
	}
	who, id := bytes.TrimRight(line[:at+end], " \t"), bytes.TrimLeft(line[at+end:], " ")
	at = bytes.LastIndexByte(who, '@')
	user, host := who[:at], who[at+1:]
	if len(user) == 0 || len(host) == 0 || bytes.IndexByte(who, 0) >= 0 {
		return errors.New("a line of fetchmail's is user@host and an id")
	}
	return p.list(string(user), string(host)).add(firstWord(id))
}

func firstWord(b []byte) []byte {
	if i := bytes.IndexAny(b, " \t"); i >= 0 {
		return b[:i]
	}
	return b
}

// getmail reads "id NUL seconds". Whose ids they are stands in the file's name.
func (p *foreignParser) getmail(line []byte) error {
	line = bytes.TrimRight(line, "\r")
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	id, seconds, ok := bytes.Cut(line, []byte{0})
	if !ok {
		return errors.New("a line of getmail's is an id, a NUL and a time")
	}
	if _, err := strconv.ParseInt(string(bytes.TrimSpace(seconds)), 10, 64); err != nil {
		return errors.New("what follows the NUL is no time")
	}
	return p.list("", "").add(bytes.TrimSpace(id))
}

// mpop reads comments, " N host user" and N lines with an id each.
func (p *foreignParser) mpop(line []byte) error {
	switch {
	case bytes.HasPrefix(line, []byte("#")):
		return nil
	case p.left > 0 && bytes.HasPrefix(line, []byte(" ")):
		return fmt.Errorf("a list begins where %d more ids should follow", p.left)
	case p.left > 0:
		p.left--
		return p.lists[len(p.lists)-1].add(bytes.TrimSuffix(line, []byte("\r")))
	}
	head := strings.Split(strings.TrimSuffix(string(line), "\r"), " ")
	if len(head) != 4 || head[0] != "" || head[2] == "" || head[3] == "" {
		return errors.New(`a list of mpop's begins with " number host user"`)
	}
	n, err := strconv.Atoi(head[1])
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no number of ids", head[1])
	}
	p.left = n
	p.lists = append(p.lists, ForeignList{User: head[3], Host: head[2]})
	return nil
}

// fdm reads "length id". It takes no id with a blank or a line break.
func (p *foreignParser) fdm(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	length, id, ok := bytes.Cut(line, []byte(" "))
	if n, err := strconv.Atoi(string(length)); !ok || err != nil || n != len(id) {
		return errors.New("a line of fdm's is the length of an id and the id")
	}
	return p.list("", "").add(id)
}

// For returns the list of the maildrop of user at host. Where the file names it
// with another host, under which nobody else has that user name, it is that. ok
// is false if there is none, or several that it could be. Ids of another
// maildrop must never be taken: many servers just count, so they would match,
// and mail that nobody has fetched would pass for fetched.
func For(lists []ForeignList, user, host string) (l ForeignList, ok bool) {
	var named []ForeignList
	for _, l := range lists {
		switch {
		case l.User == "" && l.Host == "":
			return l, len(lists) == 1
		case !strings.EqualFold(l.User, user):
		case strings.EqualFold(l.Host, host):
			return l, true
		default:
			named = append(named, l)
		}
	}
	if len(named) != 1 {
		return ForeignList{}, false
	}
	return named[0], true
}

// Listed returns the indices of those of uidls, which a server has listed, that
// ids of f stand for, in order. One id stands for one message: where it could
// be several, it is none of them, and counts in doubtful. Ids that no message
// has are left out.
func (f Foreign) Listed(ids, uidls []string) (at []int, doubtful int) {
	have := make(map[string]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	first := make(map[string]int, len(uidls))
	for i, u := range uidls {
		id := f.written(u)
		if !have[id] || u == "" {
			continue
		}
		if j, twice := first[id]; twice {
			if j >= 0 {
				doubtful++
			}
			first[id] = -1
			continue
		}
		first[id] = i
	}
	for _, i := range first {
		if i >= 0 {
			at = append(at, i)
		}
	}
	slices.Sort(at)
	return at, doubtful
}

// written is what f writes of a UIDL.
func (f Foreign) written(uidl string) string {
	switch f {
	case Fetchmail: // what follows a blank is lost
		return string(firstWord([]byte(uidl)))
	case Getmail: // "/" separates what its IMAP ids consist of
		return strings.ReplaceAll(uidl, "/", "-")
	default:
		return uidl
	}
}

// NamesGetmail reports whether getmail, whose files hold no account, would give
// its file for user this name, on whatever host. sure is false for a name that it
// gives to no file.
func NamesGetmail(file, user string) (ok, sure bool) {
	rest, sure := strings.CutPrefix(file, "oldmail-")
	if !sure {
		return false, false
	}
	clean := func(s string) string {
		var b strings.Builder
		last := false
		for _, r := range s {
			bad := strings.ContainsRune(`/\:;<>|`, r)
			if !bad {
				b.WriteRune(r)
			} else if !last {
				b.WriteByte('-')
			}
			last = bad
		}
		return strings.ToLower(b.String())
	}
	rest = strings.ToLower(rest)
	server, ok := strings.CutSuffix(rest, "-"+clean(user))
	if !ok {
		return false, true
	}
	i := strings.LastIndexByte(server, '-')
	if i < 0 {
		return false, true
	}
	_, err := strconv.Atoi(server[i+1:])
	return err == nil, true
}
