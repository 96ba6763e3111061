package state

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/libc"
	_ "modernc.org/sqlite" // readies the library on systems where it needs that
	sqlite3 "modernc.org/sqlite/lib"
)

// busyTimeout is how long a statement waits for a lock. Only readers in other
// processes (View) hold one that could be in the way, and only without WAL.
const busyTimeout = 10 * time.Second

// conn is one SQLite connection, used by one goroutine at a time. It stands on
// the library below the database/sql driver: that one prepares a statement anew
// each time it runs it, which took half of the time of a delivery's records.
type conn struct {
	tls   *libc.TLS
	db    uintptr
	stmts map[string]uintptr // prepared, by their text
	// args holds the text and blob arguments of the statement that runs, in
	// SQLite's memory.
	args   []byte
	argsAt uintptr
	// hook, if set, is called before and after every statement that may write;
	// its error takes the place of the statement's. Tests fail disks with it.
	hook func(after bool, sql string) error
}

// sqlError is what SQLite said.
type sqlError struct {
	code int32 // extended result code
	text string
}

func (e *sqlError) Error() string { return e.text }

// openConn opens path. mode is "rw" (the file must exist), "ro", or "immutable"
// for a file that nobody can be writing.
func openConn(path, mode string, pragmas ...string) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}
	var flags int32 = sqlite3.SQLITE_OPEN_URI | sqlite3.SQLITE_OPEN_NOMUTEX
	switch mode {
	case "rw":
		flags |= sqlite3.SQLITE_OPEN_READWRITE
	case "immutable":
		u.RawQuery = "immutable=1"
		fallthrough
	default:
		flags |= sqlite3.SQLITE_OPEN_READONLY
	}
	c := &conn{tls: libc.NewTLS(), stmts: make(map[string]uintptr)}
	err = c.withText(u.String(), func(name uintptr) int32 {
		out := libc.Xcalloc(c.tls, 1, 8)
		defer libc.Xfree(c.tls, out)
		rc := sqlite3.Xsqlite3_open_v2(c.tls, name, out, flags, 0)
		c.db = libc.AtomicLoadPUintptr(out)
		return rc
	})
	if err == nil {
		sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
		sqlite3.Xsqlite3_busy_timeout(c.tls, c.db, int32(busyTimeout.Milliseconds()))
		// A damaged or planted file is to give an error, not undefined behaviour.
		err = c.script("PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF")
	}
	for _, p := range pragmas {
		if err == nil {
			err = c.script("PRAGMA " + p)
		}
	}
	if err != nil {
		_ = c.close()
		return nil, err
	}
	return c, nil
}

// close ends the connection; a transaction under way is undone.
func (c *conn) close() error {
	for _, st := range c.stmts {
		sqlite3.Xsqlite3_finalize(c.tls, st)
	}
	c.stmts = nil
	// Before the handle goes: the error is asked of it.
	err := c.check(sqlite3.Xsqlite3_close(c.tls, c.db))
	libc.Xfree(c.tls, c.argsAt)
	c.tls.Close()
	return err
}

// check makes an error of a result code.
func (c *conn) check(rc int32) error {
	if rc == sqlite3.SQLITE_OK || rc == sqlite3.SQLITE_ROW || rc == sqlite3.SQLITE_DONE {
		return nil
	}
	text := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 {
		if more := libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db)); more != text {
			text += ": " + more
		}
	}
	return &sqlError{rc, text + " (" + strconv.Itoa(int(rc)) + ")"}
}

// withText calls f with a copy of s in SQLite's memory.
func (c *conn) withText(s string, f func(text uintptr) int32) error {
	p, err := libc.CString(s)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, p)
	return c.check(f(p))
}

// script runs statements that take no arguments and are not worth keeping.
func (c *conn) script(sql string) error {
	return c.withText(sql, func(text uintptr) int32 {
		return sqlite3.Xsqlite3_exec(c.tls, c.db, text, 0, 0, 0)
	})
}

// prepare returns the statement for sql, with args bound.
func (c *conn) prepare(sql string, args []any) (uintptr, error) {
	st, ok := c.stmts[sql]
	if !ok {
		err := c.withText(sql, func(text uintptr) int32 {
			out := libc.Xcalloc(c.tls, 1, 8)
			defer libc.Xfree(c.tls, out)
			rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, sqlite3.SQLITE_PREPARE_PERSISTENT, out, 0)
			st = libc.AtomicLoadPUintptr(out)
			return rc
		})
		if err != nil {
			return 0, err
		}
		c.stmts[sql] = st
	}
	return st, c.bind(st, args)
}

// exec runs a statement and returns how many rows it changed. It is not to be
// interrupted: half a transaction is of no use to anybody.
func (c *conn) exec(sql string, args ...any) (int64, error) {
	if c.hook != nil {
		if err := c.hook(false, sql); err != nil {
			return 0, err
		}
	}
	st, err := c.prepare(sql, args)
	if err != nil {
		return 0, err
	}
	err = c.check(sqlite3.Xsqlite3_step(c.tls, st))
	sqlite3.Xsqlite3_reset(c.tls, st) // repeats the error of the step
	if err == nil && c.hook != nil {
		err = c.hook(true, sql)
	}
	if err != nil {
		return 0, err
	}
	return sqlite3.Xsqlite3_changes64(c.tls, c.db), nil
}

// query runs a statement and calls each for every row, which is valid only
// until each returns; each must not use the connection. It looks at ctx now and
// then.
func (c *conn) query(ctx context.Context, sql string, args []any, each func(row) error) error {
	st, err := c.prepare(sql, args)
	if err != nil {
		return err
	}
	defer sqlite3.Xsqlite3_reset(c.tls, st)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rc := sqlite3.Xsqlite3_step(c.tls, st)
		if rc != sqlite3.SQLITE_ROW {
			return c.check(rc)
		}
		if err := each(row{c.tls, st}); err != nil {
			return err
		}
	}
}

// number returns the only column of the only row, 0 if there is none.
func (c *conn) number(sql string, args ...any) (n int64, err error) {
	err = c.query(context.Background(), sql, args, func(r row) error {
		n = r.int64(0)
		return nil
	})
	return n, err
}

// word is number for text.
func (c *conn) word(sql string) (s string, err error) {
	err = c.query(context.Background(), sql, nil, func(r row) error {
		s = r.text(0)
		return nil
	})
	return s, err
}

// bind gives st its arguments. Texts and blobs lie in c.args, where they stay
// until the next statement.
func (c *conn) bind(st uintptr, args []any) error {
	if n := int(sqlite3.Xsqlite3_bind_parameter_count(c.tls, st)); n != len(args) {
		return fmt.Errorf("state: %d arguments for %d parameters", len(args), n)
	}
	if err := c.reserve(args); err != nil {
		return err
	}
	used := 0
	for i, a := range args {
		n := int32(i + 1)
		var rc int32
		switch a := a.(type) {
		case nil:
			rc = sqlite3.Xsqlite3_bind_null(c.tls, st, n)
		case string:
			rc = sqlite3.Xsqlite3_bind_text(c.tls, st, n, c.argsAt+uintptr(used), int32(len(a)), 0) //nolint:gosec // reserve has checked it
			used += copy(c.args[used:], a)
		case []byte:
			rc = sqlite3.Xsqlite3_bind_blob(c.tls, st, n, c.argsAt+uintptr(used), int32(len(a)), 0) //nolint:gosec // likewise
			used += copy(c.args[used:], a)
		default:
			v, err := integer(a)
			if err != nil {
				return err
			}
			rc = sqlite3.Xsqlite3_bind_int64(c.tls, st, n, v)
		}
		if rc != sqlite3.SQLITE_OK {
			return c.check(rc)
		}
	}
	return nil
}

// maxArgs bounds the text of one statement's arguments: what servers say is cut
// long before, so this is a bug.
const maxArgs = 256 << 20

// reserve makes room for the texts and blobs among args.
func (c *conn) reserve(args []any) error {
	need := 1 // never a nil pointer: SQLite takes it for NULL
	for _, a := range args {
		switch a := a.(type) {
		case string:
			need += len(a)
		case []byte:
			need += len(a)
		}
	}
	if need > maxArgs {
		return fmt.Errorf("state: arguments of %d octets", need)
	}
	if need <= len(c.args) {
		return nil
	}
	size := max(need, 2*len(c.args), 4096)
	p, err := libc.CString(string(make([]byte, size)))
	if err != nil {
		return err
	}
	libc.Xfree(c.tls, c.argsAt)
	c.argsAt, c.args = p, libc.GoBytes(p, size)
	return nil
}

// integer returns how a value that is neither text nor blob is stored.
func integer(a any) (int64, error) {
	switch a := a.(type) {
	case int64:
		return a, nil
	case int:
		return int64(a), nil
	case uint32:
		return int64(a), nil
	case Status:
		return int64(a), nil
	case DeliveryStatus:
		return int64(a), nil
	case time.Time:
		return millis(a), nil
	case bool:
		if a {
			return 1, nil
		}
		return 0, nil
	}
	// a is not named: if it were given away here, every argument of every
	// statement would have to be allocated.
	return 0, errors.New("state: an argument of a type that is not stored")
}

// millis is how times are stored: milliseconds since 1970, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// ofMillis is the time that millis has stored.
func ofMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// sqlCode returns the primary SQLite result code of err, 0 if it has none.
func sqlCode(err error) int {
	if err == nil { // nearly always; looking into it would allocate
		return 0
	}
	if se := (*sqlError)(nil); errors.As(err, &se) {
		return int(se.code & 0xff)
	}
	return 0
}

// isConstraint reports whether a statement was refused by a constraint, with
// the database unharmed.
func isConstraint(err error) bool { return sqlCode(err) == sqlite3.SQLITE_CONSTRAINT }

// isDamage reports whether err says that the file is not a sound database.
func isDamage(err error) bool {
	c := sqlCode(err)
	return c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB || c == sqlite3.SQLITE_FORMAT
}
