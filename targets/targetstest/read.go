package targetstest

import (
	"errors"
	"fmt"
	"net"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// ReadFolder logs in to the IMAP server at addr, without TLS, and returns all
// messages of a folder in the order of their UIDs. A folder that is not there
// has none.
func ReadFolder(addr, user, password, folder string) (list []Stored, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := imapclient.New(nc, nil)
	defer c.Close()
	if err := c.Login(user, password).Wait(); err != nil {
		return nil, fmt.Errorf("LOGIN: %w", err)
	}
	box, err := c.Select(folder, &imap.SelectOptions{ReadOnly: true}).Wait()
	var no *imap.Error
	if errors.As(err, &no) && no.Type == imap.StatusResponseTypeNo {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("EXAMINE %q: %w", folder, err)
	}
	if box.NumMessages == 0 {
		return nil, nil
	}
	got, err := c.Fetch(imap.UIDSet{{Start: 1}}, &imap.FetchOptions{
		UID: true, Flags: true, InternalDate: true,
		BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	}).Collect()
	if err != nil {
		return nil, fmt.Errorf("FETCH: %w", err)
	}
	for _, m := range got {
		s := Stored{UID: uint32(m.UID), Body: m.BodySection[0].Bytes, Date: m.InternalDate}
		for _, f := range m.Flags {
			if f != `\Recent` {
				s.Flags = append(s.Flags, string(f))
			}
		}
		list = append(list, s)
	}
	return list, nil
}
