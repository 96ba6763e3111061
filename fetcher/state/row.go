package state

import (
	"strconv"
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// row is the row a statement stands at. Its methods return copies, and take NULL
// for zero.
type row struct {
	tls *libc.TLS
	st  uintptr
}

func (r row) int64(i int) int64   { return sqlite3.Xsqlite3_column_int64(r.tls, r.st, int32(i)) } //nolint:gosec // a column
func (r row) int(i int) int       { return int(r.int64(i)) }
func (r row) uint32(i int) uint32 { return uint32(r.int64(i)) } //nolint:gosec // stored from a uint32
func (r row) bool(i int) bool     { return r.int64(i) != 0 }

func (r row) null(i int) bool {
	return sqlite3.Xsqlite3_column_type(r.tls, r.st, int32(i)) == sqlite3.SQLITE_NULL //nolint:gosec // a column
}

func (r row) time(i int) time.Time { return ofMillis(r.int64(i)) }

// octets returns a text or blob that is valid until the statement goes on.
func (r row) octets(i int) []byte {
	// In this order: the first call may convert, which moves the octets.
	p := sqlite3.Xsqlite3_column_blob(r.tls, r.st, int32(i))       //nolint:gosec // a column
	n := int(sqlite3.Xsqlite3_column_bytes(r.tls, r.st, int32(i))) //nolint:gosec // a column
	if p == 0 || n == 0 {
		return nil
	}
	return libc.GoBytes(p, n)
}

func (r row) text(i int) string  { return string(r.octets(i)) }
func (r row) bytes(i int) []byte { return append([]byte(nil), r.octets(i)...) }

// ids writes a list of numbers for json_each, which takes a list of any length
// as one argument.
func ids(list []int64) string {
	b := []byte{'['}
	for i, id := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	return string(append(b, ']'))
}
