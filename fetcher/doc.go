// Package fetcher moves mail: one pass of one job over one account takes what
// is new on a POP3 maildrop, asks the rules where it goes, delivers it to every
// target, and removes from the maildrop what may go.
//
// # The promise
//
// Killed at any instant, on any step, a message is never lost and never deleted
// at the source before every target has taken it and the state says so on disk.
// The next pass delivers nothing twice to a target that can be searched.
//
// # The order of effects
//
// Everything rests on this order; the tests kill the program between any two
// lines of it.
//
//	state opened, locked, writable       before any login
//	UIDL read, rows of new messages      Listed committed
//	uncertain deliveries resolved        Delivered or Failed committed
//	headers, where rules may spare RETR  Dropped committed
//	for every message
//	    attempt counted                  Fetching committed, then RETR
//	    body whole, route decided
//	    intent                           Routed and Intent committed, then APPEND
//	    relays: all but the final dot    Commit committed, then the dot
//	    tagged OK, or 250 after the dot  Delivered committed
//	all outcomes committed               then DELE, only by this session's numbers
//	DELE accepted                        DelSent committed, then QUIT
//	QUIT confirmed                       Gone committed
//
// Hence: no octet of a message leaves for a target before its intent is on
// disk, so that a copy nobody remembers making cannot exist; and no DELE is sent
// before every delivery is on disk. A relay (SMTP, LMTP) cannot be searched for
// what it has, so it needs a second note: what was interrupted before Commit is
// certainly not there, what was interrupted after it may be, and is sent again or
// held, as the job says (commit.go). POP3 deletes nothing before QUIT, so
// deleting earlier would buy nothing.
//
// # Who runs
//
// One goroutine reads the POP3 connection, keeps RETRs in flight and feeds
// workers, one for each message in hand. Workers wait: for the transaction that
// holds their intent together with everybody else's, then for the target, which
// gathers concurrent deliveries to one folder into one command. Bodies share
// one budget of memory, large ones lie in unlinked files, so memory depends
// neither on the size of a message nor on how many there are.
package fetcher
