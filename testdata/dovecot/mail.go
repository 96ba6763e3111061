package dovecot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Stored is a message as an IMAP client sees it.
type Stored struct {
	UID          uint32
	Raw          []byte
	Flags        []string // as the server writes them, `\Seen`; without \Recent
	InternalDate time.Time
}

// Put puts messages into a folder just as they are: POP3 serves these octets,
// with LF made CRLF and a final CRLF added where it is missing. The folder, and
// the levels above it, are made if need be; levels are separated by "/", names
// are ASCII.
func (s *Server) Put(user, folder string, messages ...[]byte) {
	s.t.Helper()
	dir := s.maildir(user, folder)
	for _, raw := range messages {
		s.mu.Lock()
		s.put++
		n := s.put
		s.mu.Unlock()
		// Dovecot numbers new mail in the order of these names.
		name := fmt.Sprintf("%d.M%06dP%dQ%d.test", 1_700_000_000+n/1_000_000, n%1_000_000, os.Getpid(), n)
		tmp := filepath.Join(dir, "tmp", name)
		s.check(os.WriteFile(tmp, raw, 0o600))
		s.check(os.Chown(tmp, s.uid, s.gid))
		s.check(os.Rename(tmp, filepath.Join(dir, "new", name)))
	}
}

// maildir returns the directory of a folder and makes it.
func (s *Server) maildir(user, folder string) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "mail", strings.ToLower(user), "Maildir")
	s.makeMaildir(dir)
	if !strings.EqualFold(folder, "INBOX") {
		parts := strings.Split(folder, "/")
		for i := range parts {
			s.makeMaildir(filepath.Join(dir, "."+strings.Join(parts[:i+1], ".")))
		}
		dir = filepath.Join(dir, "."+strings.Join(parts, "."))
	}
	return dir
}

// Maildir returns the directory of a user's mail, for programs that write it
// without the server. Adopt must follow.
func (s *Server) Maildir(user string) string {
	s.t.Helper()
	return s.maildir(user, "INBOX")
}

// Adopt gives the server what somebody else has written into a user's Maildir.
func (s *Server) Adopt(user string) {
	s.t.Helper()
	s.check(filepath.WalkDir(s.maildir(user, "INBOX"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, s.uid, s.gid)
	}))
}

func (s *Server) makeMaildir(dir string) {
	s.t.Helper()
	for _, d := range []string{filepath.Dir(dir), dir, dir + "/tmp", dir + "/new", dir + "/cur"} {
		if err := os.Mkdir(d, 0o700); err == nil {
			s.check(os.Chown(d, s.uid, s.gid))
		} else if !os.IsExist(err) {
			s.check(err)
		}
	}
}

// Messages returns what lies in a folder, in the order of the UIDs.
func (s *Server) Messages(user, folder string) []Stored {
	s.t.Helper()
	c := s.login(user)
	defer c.Close()
	_, err := c.Select(folder, &imap.SelectOptions{ReadOnly: true}).Wait()
	s.check(err)
	whole := &imap.FetchItemBodySection{Peek: true}
	found, err := c.Fetch(imap.UIDSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
		UID: true, Flags: true, InternalDate: true,
		BodySection: []*imap.FetchItemBodySection{whole},
	}).Collect()
	s.check(err)
	stored := make([]Stored, 0, len(found))
	for _, m := range found {
		one := Stored{UID: uint32(m.UID), Raw: m.FindBodySection(whole), InternalDate: m.InternalDate}
		for _, f := range m.Flags {
			if f != `\Recent` {
				one.Flags = append(one.Flags, string(f))
			}
		}
		slices.Sort(one.Flags)
		stored = append(stored, one)
	}
	slices.SortFunc(stored, func(a, b Stored) int { return int(int64(a.UID) - int64(b.UID)) })
	return stored
}

// Count returns how many messages lie in a folder.
func (s *Server) Count(user, folder string) int {
	s.t.Helper()
	c := s.login(user)
	defer c.Close()
	status, err := c.Status(folder, &imap.StatusOptions{NumMessages: true}).Wait()
	s.check(err)
	return int(*status.NumMessages)
}

// Folders returns the names of a user's folders, sorted; INBOX is always there.
func (s *Server) Folders(user string) []string {
	s.t.Helper()
	return s.list(user, nil)
}

// Subscribed returns the names of the folders a user is subscribed to, sorted.
func (s *Server) Subscribed(user string) []string {
	s.t.Helper()
	return s.list(user, &imap.ListOptions{SelectSubscribed: true})
}

func (s *Server) list(user string, o *imap.ListOptions) []string {
	s.t.Helper()
	c := s.login(user)
	defer c.Close()
	folders, err := c.List("", "*", o).Collect()
	s.check(err)
	names := make([]string, 0, len(folders))
	for _, f := range folders {
		if !slices.Contains(f.Attrs, imap.MailboxAttrNonExistent) {
			names = append(names, f.Mailbox)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Server) login(user string) *imapclient.Client {
	s.t.Helper()
	c, err := imapclient.DialInsecure(s.Addr(s.IMAP), nil)
	s.check(err)
	if err := c.Login(user, Password).Wait(); err != nil {
		c.Close()
		s.check(err)
	}
	return c
}
