// Package maildrop is a POP3 connection that pipelines and streams.
//
// Dial connects, secures and logs in; List says what lies there; Retrieve and
// Top are iterators that keep commands in flight ahead of the reader, so a pass
// costs the link's bandwidth and not its round trips; Delete marks and Quit
// makes the server delete. Hanging up with Close deletes nothing.
//
//	c, err := maildrop.Dial(ctx, &cfg, log)
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	listing, err := c.List(ctx)
//	for in := range c.Retrieve(ctx, slices.Values(listing.Entries)) {
//		if in.Err != nil { // this message was refused, or the connection is gone
//			continue
//		}
//		_, err := io.Copy(w, in.Body)
//	}
//	err = c.Quit(ctx)
//
// # What is believed
//
// A server's replies are matched to commands by their order alone, so a reply
// that cannot be one ends the connection: what follows it would be taken for
// the answer to something else. Afterwards every method returns the same error.
// A body ends at CRLF "." CRLF and nowhere else; a lone dot between bare LFs is
// part of the mail. Everything that a server can make long has a limit, and no
// body is ever held in memory.
//
// # Errors
//
// All errors of a connection once it stands are *Error. Its Kind tells whether
// the connection can still be used, Code what the server said about the reason.
// Dial also returns *endpoint.Error for a server that could not be reached, did
// not prove who it is or offers no acceptable way to log in.
//
// The protocol is RFC 1939 with RFC 2449 (CAPA, PIPELINING, response codes),
// RFC 2595 (STLS), RFC 3206 (AUTH and SYS codes) and RFC 5034 (AUTH).
package maildrop

import "popferry/targets/endpoint"

// Config says where a maildrop is and how to read it. It is read-only once in
// use.
type Config struct {
	endpoint.Server
	// Pipelining is "auto" or "" to send commands ahead where CAPA allows it,
	// "off" to wait for every reply.
	Pipelining string
	// AllowLF accepts a server whose lines end in LF alone. Its greeting
	// decides; line ends in bodies then become CRLF. Such a server cannot tell
	// a lone dot in a mail from the mail's end.
	AllowLF bool
}

// Entry is one message of a listing.
type Entry struct {
	Num  int    // good on this connection only
	UIDL string // raw octets, at most 512; "" if the server gave none
	Size int64  // octets as LIST claims; 0 if it made no sense. Servers lie
}

// Listing is what lies in the maildrop.
type Listing struct {
	Entries  []Entry  // ascending by Num; only those that STAT, LIST and UIDL agree on
	Messages int      // by STAT
	Octets   int64    // by STAT
	NoUIDL   bool     // the server does not speak UIDL: every Entry.UIDL is ""
	Complete bool     // the replies agree, so what is not in Entries is not in the maildrop
	Warnings []string // what was odd, for the user
}
