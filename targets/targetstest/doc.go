// Package targetstest has what it takes to test a target: a conformance Suite
// that every target must pass, IMAP, SMTP and LMTP servers with faults to switch
// on (IMAP, SMTP), the first protocol by go-imap's server as well (Memory), and a
// proxy that cuts connections at a given octet (Proxy).
//
//	s := &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
//		if c.Verb == "APPEND" && c.N == 2 {
//			return targetstest.Action{Reply: "NO [OVERQUOTA] mailbox full"}
//		}
//		return targetstest.Action{}
//	}}
//	err := s.Start()
//	defer s.Close()
//
// The servers listen on a free port of 127.0.0.1 and need no *testing.T, so a
// demonstration can use them too. None of them is fit for real mail: what they
// keep is gone with them.
package targetstest

import "time"

// User and Password are what the servers accept unless told otherwise.
const (
	User     = "jane"
	Password = "pw"
)

// Stored is one message that a server or folder has.
type Stored struct {
	UID   uint32
	Body  []byte
	Flags []string // as the server has them: "\Seen", keywords
	Date  time.Time
}
