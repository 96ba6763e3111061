// Package state remembers durably what has been delivered. It is one SQLite
// file, with a lock file beside it, and it is what makes a killed pass safe to
// repeat.
//
// # Rows
//
// An Account row stands for one maildrop, a Message row for one entry of its
// listing ever seen, a Delivery row for one copy to make at one target. A row
// changes only by a Change given to Store.Put. A delivery that was delivered
// stays delivered, and a message that is gone stays gone: statements carry the
// state they expect in their WHERE clause, and a change that does not fit is
// refused with ErrConflict, with nothing written.
//
// # Promise
//
// When Put has returned nil, its changes survive a kill and a power loss:
// WAL with synchronous=FULL, or a rollback journal where shared memory cannot
// be relied on. All changes of one Put happen or none does. Concurrent Puts
// share a transaction, because the fsync at its end is what costs time.
//
// A write or commit that fails ends the Store for good (ErrDead). After a
// failed fsync the kernel may have dropped the pages and will report success
// the next time, so trying again would promise what is not on the disk. Only a
// new process, which reads what really is there, may go on.
//
// # Opening
//
// Open takes the lock, refuses what it cannot trust without touching it, and
// proves that it can write, all before any server is spoken to. The lock file
// says whether the database was ever in use, so that a lost database is noticed
// rather than taken for a first start, which would fetch everything again. The
// lock file is never renamed or removed: a lock on a name that someone else
// replaced protects nothing.
//
// View reads at any time, beside a running writer and in a directory it may not
// write.
//
// Text that came from servers (UIDLs, replies, folder names, Message-IDs) is
// stored as it came. Escape it before it reaches a log or a terminal.
package state
