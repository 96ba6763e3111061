package state

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// busyTimeout is how long a statement waits for a lock. Only readers in other
// processes (View) hold one that could be in the way, and only without WAL.
const busyTimeout = 10 * time.Second

// conn is one SQLite connection, used by one goroutine at a time. It speaks to
// the driver directly: database/sql would add a pool, which the single writer
// has no use for, and a third to the cost of a statement.
type conn struct {
	c    driver.Conn
	args []driver.NamedValue // reused from call to call
	// hook, if set, is called before and after every statement that may write;
	// its error takes the place of the statement's. Tests fail disks with it.
	hook func(after bool, sql string) error
}

// openConn opens path. mode is "rw" (the file must exist), "ro", or "immutable"
// for a file that nobody can be writing.
func openConn(path, mode string, pragmas ...string) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{}
	if mode == "immutable" {
		q.Set("mode", "ro")
		q.Set("immutable", "1")
	} else {
		q.Set("mode", mode)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}
	dc, err := (&sqlite.Driver{}).Open(u.String())
	if err != nil {
		return nil, err
	}
	c := &conn{c: dc}
	// cell_size_check and trusted_schema: a damaged or planted file is to give
	// an error, not undefined behaviour.
	first := []string{
		fmt.Sprintf("busy_timeout=%d", busyTimeout.Milliseconds()),
		"cell_size_check=ON", "trusted_schema=OFF",
	}
	for _, p := range append(first, pragmas...) {
		if _, err := c.exec("PRAGMA " + p); err != nil {
			_ = dc.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *conn) close() error { return c.c.Close() }

// exec runs a statement and returns how many rows it changed. It is not to be
// interrupted: half a transaction is of no use to anybody.
func (c *conn) exec(sql string, args ...any) (int64, error) {
	if err := c.bind(args); err != nil {
		return 0, err
	}
	if c.hook != nil {
		if err := c.hook(false, sql); err != nil {
			return 0, err
		}
	}
	res, err := c.c.(driver.ExecerContext).ExecContext(context.Background(), sql, c.args)
	if err == nil && c.hook != nil {
		err = c.hook(true, sql)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query runs a statement and calls each for every row, which is valid only
// until each returns. It looks at ctx now and then.
func (c *conn) query(ctx context.Context, sql string, args []any, each func(row) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.bind(args); err != nil {
		return err
	}
	rows, err := c.c.(driver.QueryerContext).QueryContext(context.Background(), sql, c.args)
	if err != nil {
		return err
	}
	defer rows.Close()
	r := make(row, len(rows.Columns()))
	for n := 1; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch err := rows.Next(r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// scalar returns the only column of the only row, nil if there is none.
func (c *conn) scalar(sql string, args ...any) (v driver.Value, err error) {
	err = c.query(context.Background(), sql, args, func(r row) error {
		v = r[0]
		return nil
	})
	return v, err
}

// bind turns arguments into what the driver takes.
func (c *conn) bind(args []any) error {
	c.args = c.args[:0]
	for i, a := range args {
		var v driver.Value
		switch a := a.(type) {
		case int64, string:
			v = a
		case []byte:
			v = a
			if a == nil { // the driver would make it NULL
				v = []byte{}
			}
		case int:
			v = int64(a)
		case uint32:
			v = int64(a)
		case bool:
			v = a
		case Status:
			v = int64(a)
		case DeliveryStatus:
			v = int64(a)
		case time.Time:
			v = millis(a)
		default:
			return fmt.Errorf("state: cannot bind a %T", a)
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return nil
}

// millis is how times are stored: milliseconds since 1970, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// row is one row of a result. Its methods take a NULL, or a value of another
// type, for zero: tables are STRICT, so that only outer joins give any.
type row []driver.Value

func (r row) int64(i int) int64 {
	n, _ := r[i].(int64)
	return n
}

func (r row) int(i int) int       { return int(r.int64(i)) }
func (r row) uint32(i int) uint32 { return uint32(r.int64(i)) } //nolint:gosec // stored from a uint32
func (r row) bool(i int) bool     { return r.int64(i) != 0 }

func (r row) time(i int) time.Time {
	if ms := r.int64(i); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}

func (r row) bytes(i int) []byte {
	b, _ := r[i].([]byte)
	return b
}

// text returns a string of any octets: they are stored as BLOB where they come
// from outside, so that SQLite need not think about their encoding.
func (r row) text(i int) string {
	switch v := r[i].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// sqlCode returns the primary SQLite result code of err, 0 if it has none.
func sqlCode(err error) int {
	if se := (*sqlite.Error)(nil); errors.As(err, &se) {
		return se.Code() & 0xff
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

// ids writes a list of numbers for json_each, which takes a list of any length
// as one argument.
func ids(list []int64) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, id := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, id)
	}
	b.WriteByte(']')
	return b.String()
}
