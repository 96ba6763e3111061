package targetstest

import (
	"fmt"
	"io"
	"strings"
)

// append reads the messages of an APPEND and stores all or none (RFC 3502).
func (c *imapConn) append(folder string, a *args) error {
	s := c.s
	early := c.act.Reply != "" && c.act.Early
	var batch []Stored
	reply := ""
	for more := true; more; {
		m := Stored{Flags: a.list(), Date: a.date()}
		size, plus, ok := a.literal()
		if !ok || m.Flags == nil && a.bad {
			return c.say("BAD arguments")
		}
		if !plus {
			if early {
				return c.say(c.act.Reply)
			}
			fmt.Fprintf(c.bw, "+ go ahead\r\n")
			c.bw.Flush()
		} else if early {
			early = false
			if err := c.say(c.act.Reply); err != nil {
				return err
			}
			c.bw.Flush()
			c.act.Reply = "-"
		}
		if c.act.Cut == CutLiteral {
			io.CopyN(io.Discard, c.br, min(c.act.Octets, size))
			return errHangUp
		}
		m.Body = make([]byte, size)
		if _, err := io.ReadFull(c.br, m.Body); err != nil {
			return err
		}
		if reply == "" {
			reply = c.refuse(m)
		}
		batch = append(batch, m)
		line, err := c.br.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if more = line != ""; more {
			a = newArgs(strings.TrimPrefix(line, " "))
		}
	}
	if c.act.Reply == "-" {
		return nil // said already
	}
	if c.act.Reply != "" {
		return c.say("")
	}
	if len(batch) > 1 && !s.has("MULTIAPPEND") {
		return c.say("BAD one message at a time")
	}
	if c.act.Late != nil {
		late := c.act.Late
		s.wg.Go(func() {
			select {
			case <-late:
				s.store(folder, batch)
			case <-s.stop:
			}
		})
		return errHangUp
	}
	if reply == "" {
		reply = c.stored(s.store(folder, batch))
	}
	return c.say(reply)
}

func (c *imapConn) refuse(m Stored) string {
	switch {
	case len(m.Body) == 0:
		return "NO Can't save a zero byte message"
	case c.s.Limit > 0 && int64(len(m.Body)) > c.s.Limit:
		return "NO [TOOBIG] Message too large"
	case c.s.Reject != nil:
		return c.s.Reject(m.Body)
	}
	return ""
}

func (s *IMAP) store(folder string, batch []Stored) (validity, first, last uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[folder]
	if f == nil {
		return 0, 0, 0
	}
	for _, m := range batch {
		last = f.add(m)
	}
	return f.validity, last - uint32(len(batch)) + 1, last
}

func (c *imapConn) stored(validity, first, last uint32) string {
	if validity == 0 {
		return "NO [TRYCREATE] no such folder"
	}
	uid := fmt.Sprintf("%d %d:%d", validity, first, last)
	if first == last {
		uid = fmt.Sprintf("%d %d", validity, first)
	}
	if c.act.AppendUID != "" {
		uid = c.act.AppendUID
	}
	if uid == "none" || !c.s.has("UIDPLUS") {
		return "OK done"
	}
	return "OK [APPENDUID " + uid + "] done"
}
