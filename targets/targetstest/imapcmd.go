package targetstest

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// simple does every command but APPEND.
func (c *imapConn) simple(verb, folder string, a *args) error {
	if c.act.Reply != "" && verb != "AUTHENTICATE" {
		return c.say("")
	}
	switch verb {
	case "CAPABILITY":
		fmt.Fprintf(c.bw, "* CAPABILITY %s\r\n", c.s.caps(c.secure))
		return c.say("OK done")
	case "NOOP", "ENABLE":
		return c.say("OK done")
	case "LOGOUT":
		fmt.Fprintf(c.bw, "* BYE logging out\r\n")
		c.say("OK done")
		return errHangUp
	case "STARTTLS":
		return c.startTLS()
	case "LOGIN":
		return c.login(a.astring(), a.astring())
	case "AUTHENTICATE":
		return c.authenticate(a)
	}
	if !c.auth {
		return c.say("BAD log in first")
	}
	switch verb {
	case "NAMESPACE":
		fmt.Fprintf(c.bw, "* NAMESPACE ((%s %s)) NIL NIL\r\n", strconv.Quote(c.s.Prefix), strconv.Quote(c.s.delim()))
		return c.say("OK done")
	case "LIST":
		return c.list(a.astring(), a.astring())
	case "EXAMINE", "SELECT":
		return c.examine(folder)
	case "CREATE":
		return c.create(folder)
	case "SUBSCRIBE":
		c.s.mu.Lock()
		c.s.subs[folder] = true
		c.s.mu.Unlock()
		return c.say("OK done")
	case "STATUS":
		return c.status(folder)
	case "UID FETCH":
		return c.fetch(a)
	case "GETQUOTAROOT":
		fmt.Fprintf(c.bw, "* QUOTAROOT %s root\r\n* QUOTA root (STORAGE 10 1000)\r\n", strconv.Quote(folder))
		return c.say("OK done")
	}
	return c.say("BAD unknown command")
}

func (s *IMAP) delim() string {
	if s.Delim == "" {
		return "/"
	}
	return s.Delim
}

func (c *imapConn) startTLS() error {
	if !c.s.StartTLS || c.secure {
		return c.say("BAD no")
	}
	if err := c.say("OK begin"); err != nil {
		return err
	}
	if err := c.bw.Flush(); err != nil {
		return err
	}
	c.wrap(tls.Server(c.raw, c.s.TLS))
	c.secure = true
	return nil
}

func (c *imapConn) login(user, password string) error {
	wantUser, wantPassword := c.s.User, c.s.Password
	if wantUser == "" {
		wantUser = User
	}
	if wantPassword == "" {
		wantPassword = Password
	}
	if user != wantUser || password != wantPassword {
		return c.say("NO [AUTHENTICATIONFAILED] wrong user or password")
	}
	c.auth = true
	return c.say("OK [CAPABILITY " + c.s.caps(c.secure) + "] logged in")
}

func (c *imapConn) authenticate(a *args) error {
	if !strings.EqualFold(a.astring(), "PLAIN") {
		return c.say("NO unknown mechanism")
	}
	if c.act.Reply != "" {
		return c.say("")
	}
	first := a.rest
	if first == "" {
		fmt.Fprintf(c.bw, "+ \r\n")
		c.bw.Flush()
		line, err := c.br.ReadString('\n')
		if err != nil {
			return err
		}
		first = strings.TrimRight(line, "\r\n")
	}
	plain, _ := base64.StdEncoding.DecodeString(first)
	parts := strings.Split(string(plain), "\x00")
	if len(parts) != 3 {
		return c.say("BAD no PLAIN response")
	}
	return c.login(parts[1], parts[2])
}

func (c *imapConn) list(_, pattern string) error {
	if pattern == "" {
		fmt.Fprintf(c.bw, "* LIST (\\Noselect) %s \"\"\r\n", strconv.Quote(c.s.delim()))
		return c.say("OK done")
	}
	for _, n := range c.s.Folders() {
		if pattern == "*" || pattern == n {
			fmt.Fprintf(c.bw, "* LIST () %s %s\r\n", strconv.Quote(c.s.delim()), strconv.Quote(n))
		}
	}
	return c.say("OK done")
}

func (c *imapConn) examine(folder string) error {
	c.s.mu.Lock()
	f := c.s.folders[folder]
	var n int
	var validity, next uint32
	if f != nil {
		n, validity, next = len(f.messages), f.validity, f.next
	}
	c.s.mu.Unlock()
	c.box = f
	if f == nil {
		return c.say("NO [NONEXISTENT] no such folder")
	}
	fmt.Fprintf(c.bw, "* FLAGS (\\Seen)\r\n* %d EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY %d] valid\r\n", n, validity)
	said := strconv.FormatUint(uint64(next), 10)
	if c.s.Next != nil {
		said = c.s.Next(next)
	}
	if said != "" {
		fmt.Fprintf(c.bw, "* OK [UIDNEXT %s] next\r\n", said)
	}
	return c.say("OK [READ-ONLY] done")
}

func (c *imapConn) create(folder string) error {
	s := c.s
	reply := "OK done"
	s.mu.Lock()
	switch _, there := s.folders[folder]; {
	case s.NoDots && strings.Contains(strings.TrimPrefix(folder, s.Prefix), ".") && s.delim() != ".":
		reply = "NO [CANNOT] no dots"
	case !strings.HasPrefix(folder, s.Prefix):
		reply = "NO [NOPERM] outside the namespace"
	case there:
		reply = "NO [ALREADYEXISTS] it is there"
	default:
		s.makeLocked(folder)
	}
	s.mu.Unlock()
	return c.say(reply)
}

func (c *imapConn) status(folder string) error {
	c.s.mu.Lock()
	f := c.s.folders[folder]
	var validity, next uint32
	if f != nil {
		validity, next = f.validity, f.next
	}
	c.s.mu.Unlock()
	if f == nil {
		return c.say("NO [NONEXISTENT] no such folder")
	}
	if strings.Contains(c.line, "UIDNEXT") {
		fmt.Fprintf(c.bw, "* STATUS %s (UIDNEXT %d UIDVALIDITY %d)\r\n", strconv.Quote(folder), next, validity)
		return c.say("OK done")
	}
	limit := "NIL"
	if c.s.Limit > 0 {
		limit = strconv.FormatInt(c.s.Limit, 10)
	}
	fmt.Fprintf(c.bw, "* STATUS %s (APPENDLIMIT %s)\r\n", strconv.Quote(folder), limit)
	return c.say("OK done")
}

// fetch answers the two questions that a Find asks: sizes and Message-IDs, or
// whole messages.
func (c *imapConn) fetch(a *args) error {
	set, items, _ := strings.Cut(a.rest, " ")
	if c.box == nil {
		return c.say("BAD no folder")
	}
	c.s.mu.Lock()
	list := slices.Clone(c.box.messages)
	c.s.mu.Unlock()
	for i, m := range list {
		last := i == len(list)-1
		if !inSet(set, m.UID, last) {
			continue
		}
		fmt.Fprintf(c.bw, "* %d FETCH (UID %d", i+1, m.UID)
		if strings.Contains(items, "RFC822.SIZE") {
			fmt.Fprintf(c.bw, " RFC822.SIZE %d", len(m.Body))
		}
		if strings.Contains(items, "INTERNALDATE") {
			fmt.Fprintf(c.bw, " INTERNALDATE %s", m.Date.Format(dateTime))
		}
		if strings.Contains(items, "FLAGS") {
			fmt.Fprintf(c.bw, " FLAGS (%s)", strings.Join(m.Flags, " "))
		}
		switch {
		case strings.Contains(items, "HEADER.FIELDS"):
			id := messageIDLine(m.Body)
			fmt.Fprintf(c.bw, " BODY[HEADER.FIELDS (\"Message-ID\")] {%d}\r\n%s", len(id), id)
		case strings.Contains(items, "BODY.PEEK[]"):
			fmt.Fprintf(c.bw, " BODY[] {%d}\r\n", len(m.Body))
			c.bw.Write(m.Body)
		}
		fmt.Fprintf(c.bw, ")\r\n")
	}
	return c.say("OK done")
}

const dateTime = `"_2-Jan-2006 15:04:05 -0700"`

// messageIDLine is the Message-ID field of a message and an empty line.
func messageIDLine(body []byte) []byte {
	var out []byte
	in := false
	for line := range bytes.Lines(headerOf(body)) {
		folded := line[0] == ' ' || line[0] == '\t'
		if !folded {
			in = len(line) > 11 && bytes.EqualFold(line[:11], []byte("Message-ID:"))
		}
		if in {
			out = append(out, line...)
		}
	}
	return append(out, "\r\n"...)
}

// inSet tells whether uid is in a sequence-set. "n:*" has the last message even
// when it lies before n.
func inSet(set string, uid uint32, last bool) bool {
	for part := range strings.SplitSeq(set, ",") {
		a, b, isRange := strings.Cut(part, ":")
		lo, _ := strconv.ParseUint(a, 10, 32)
		hi := lo
		switch {
		case b == "*":
			if last {
				return true
			}
			hi = 1<<32 - 1
		case isRange:
			hi, _ = strconv.ParseUint(b, 10, 32)
		}
		if uint64(uid) >= lo && uint64(uid) <= hi {
			return true
		}
	}
	return false
}

// args takes the arguments of a command apart.
type args struct {
	rest string
	bad  bool
}

func newArgs(s string) *args { return &args{rest: s} }

func (a *args) skip() { a.rest = strings.TrimPrefix(a.rest, " ") }

func (a *args) astring() string {
	defer a.skip()
	if !strings.HasPrefix(a.rest, `"`) {
		word, rest, _ := strings.Cut(a.rest, " ")
		a.rest = rest
		return word
	}
	var b strings.Builder
	for i := 1; i < len(a.rest); i++ {
		switch a.rest[i] {
		case '\\':
			i++
			if i < len(a.rest) {
				b.WriteByte(a.rest[i])
			}
		case '"':
			a.rest = a.rest[i+1:]
			return b.String()
		default:
			b.WriteByte(a.rest[i])
		}
	}
	a.rest, a.bad = "", true
	return b.String()
}

// list reads a parenthesised list of atoms, if one is next.
func (a *args) list() []string {
	if !strings.HasPrefix(a.rest, "(") {
		return nil
	}
	inner, rest, ok := strings.Cut(a.rest[1:], ")")
	a.rest, a.bad = rest, a.bad || !ok
	a.skip()
	for f := range strings.FieldsSeq(inner) {
		if strings.HasPrefix(f, `\`) && !slices.Contains([]string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, `\Deleted`}, f) {
			a.bad = true
		}
	}
	return strings.Fields(inner)
}

func (a *args) date() time.Time {
	if !strings.HasPrefix(a.rest, `"`) {
		return time.Time{}
	}
	s := a.astring()
	t, err := time.Parse(strings.Trim(dateTime, `"`), s)
	a.bad = a.bad || err != nil
	return t
}

// literal reads "{n}" or "{n+}".
func (a *args) literal() (size int64, plus, ok bool) {
	s := strings.TrimSuffix(strings.TrimPrefix(a.rest, "{"), "}")
	s, plus = strings.CutSuffix(s, "+")
	size, err := strconv.ParseInt(s, 10, 64)
	return size, plus, err == nil && size >= 0 && !a.bad && strings.HasPrefix(a.rest, "{")
}
