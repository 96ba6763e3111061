package config

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"popferry/targets/endpoint"
)

const (
	maxTable = 10 << 20 // octets of a table of moves
	maxRows  = 10_000
)

// tableColumns are those that a table of moves can have.
var tableColumns = []string{"from", "to", "folder", "from_password_file", "from_password_command", "to_password_file", "to_password_command"}

const tableHint = "The first line names the columns: from,to  and perhaps  folder, from_password_file, to_password_file."

// Row is a move in a table.
type Row struct {
	Line int
	Move Move // its Passwords are those of the table, zero where it has none
}

// ReadMoves reads a table of moves: comma-separated values (RFC 4180), or with
// semicolons or tabs in place of commas, in UTF-8. The first line names the
// columns, in any order: from and to (as ParseEnd reads them), and perhaps folder
// and {from,to}_password_{file,command}. Empty lines and those that begin with #
// are passed over. Relative paths are relative to the directory of name.
//
// The error is of type Errors, with all that is wrong, each with its line. It
// shows no password.
func ReadMoves(name string, r io.Reader) ([]Row, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTable+1))
	switch {
	case err != nil:
		return nil, Errors{&Error{File: name, Code: "table-unreadable", Text: "cannot be read: " + reason(err)}}
	case len(data) > maxTable:
		return nil, Errors{&Error{File: name, Code: "table-too-big", Text: fmt.Sprintf("larger than %d MiB, so it cannot be a table of accounts", maxTable>>20)}}
	}
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	if divider.Match(data) {
		data = append([]byte("#"), data...)
	}
	t := newTable(name, data)
	if bad := invalidUTF8(data); bad != nil {
		bad.File, bad.Code = name, "table-encoding"
		bad.Hint = "Save the table as UTF-8 (plain ASCII is fine)."
		return nil, Errors{bad}
	}
	t.read(data)
	if len(t.d.errs) == 0 {
		return t.rows, nil
	}
	byPlace(t.d.errs)
	for _, e := range t.d.errs {
		if !t.hidden[e.Line] {
			t.d.src.place(e)
		}
	}
	if t.d.more > 0 {
		t.d.whole("table-more-errors", fmt.Sprintf("and %d more errors", t.d.more), "")
	}
	return nil, Errors(t.d.errs)
}

// divider is a first line that tells spreadsheets what divides the columns.
var divider = regexp.MustCompile(`^(?i:sep)=[,;\t]?\r?\n`)

// table is a table of moves while it is read.
type table struct {
	d       *decoder // collects errors
	dir     string
	in      *csv.Reader
	columns []string // by place
	rows    []Row
	seen    map[string]int // the line of a move
	hidden  map[int]bool   // lines of which nothing is shown: there may be a password in them
}

func newTable(name string, data []byte) *table {
	src := newSource(name, nil)
	src.lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n") // as the reader of CSV counts them
	t := &table{d: &decoder{src: src}, dir: filepath.Dir(name), seen: map[string]int{}, hidden: map[int]bool{}}
	for i, l := range src.lines {
		if strings.HasPrefix(l, "#") {
			t.hideLines(i+1, i+1)
		}
	}
	return t
}

// read reads the header and all rows.
func (t *table) read(data []byte) {
	t.in = csv.NewReader(strings.NewReader(string(data)))
	t.in.Comma = comma(t.d.src.lines)
	t.in.Comment = '#'
	t.in.FieldsPerRecord = -1
	t.in.TrimLeadingSpace = t.in.Comma != '\t' // it would take empty columns for space
	head, ok := t.record()
	if !ok || !t.header(head) {
		if len(t.d.errs) == 0 {
			t.d.whole("table-empty", "the table is empty", tableHint)
		}
		return
	}
	for n := 0; ; n++ {
		cells, ok := t.record()
		if !ok {
			break
		}
		if n == maxRows {
			t.fail(0, "table-too-long", "more than %d rows", maxRows).Hint = "Divide it into several tables."
			return
		}
		t.row(cells)
	}
	if len(t.rows) == 0 && len(t.d.errs) == 0 {
		t.d.whole("table-empty", "the table has no rows", "Below the names of the columns stands one line for each account.")
	}
}

// comma is what divides the columns in the first line that counts.
func comma(lines []string) rune {
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			if i := strings.IndexAny(l, ",;\t"); i >= 0 {
				return rune(l[i])
			}
			break
		}
	}
	return ','
}

// record returns the cells of the next row that has any, without empty ones at its
// end, which spreadsheets add, and with the blanks around them taken off; false at
// the end. It reports what is no CSV.
func (t *table) record() ([]string, bool) {
	for {
		cells, err := t.in.Read()
		var bad *csv.ParseError
		switch {
		case errors.As(err, &bad):
			t.hideLines(bad.StartLine, bad.Line)
			e := t.d.at(bad.Line, 0, 1, "table-quote", "a quote stands where none can be, or is not closed")
			e.Hint = `A cell with a comma or a quote in it is put in quotes, and its own quotes are written twice: "a ""b"" c".`
			if len(t.d.errs) >= maxErrors {
				return nil, false
			}
			continue
		case err != nil:
			return nil, false // io.EOF: there are no others in memory
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		for len(cells) > 0 && cells[len(cells)-1] == "" {
			cells = cells[:len(cells)-1]
		}
		if len(cells) > 0 {
			return cells, true
		}
	}
}

// fail reports an error at a cell of the row that was read last.
func (t *table) fail(cell int, code, format string, args ...any) *Error {
	line, col, width := t.at(cell)
	return t.d.at(line, col, width, code, format, args...)
}

// at is where a cell stands, in characters.
func (t *table) at(cell int) (line, col, width int) {
	line, octet := t.in.FieldPos(cell)
	text := t.d.src.line(line)
	from := min(octet-1, len(text))
	rest := text[from:]
	if end := strings.IndexRune(rest, t.in.Comma); end >= 0 && !strings.HasPrefix(rest, `"`) {
		rest = rest[:end]
	}
	return line, utf8.RuneCountInString(text[:from]) + 1, max(1, utf8.RuneCountInString(strings.TrimSpace(rest)))
}

// hide keeps the row that was read last out of all excerpts.
func (t *table) hide(cells []string) {
	first, _ := t.in.FieldPos(0)
	last, _ := t.in.FieldPos(len(cells) - 1)
	t.hideLines(first, last+strings.Count(cells[len(cells)-1], "\n"))
}

func (t *table) hideLines(from, to int) {
	for l := from; l <= to; l++ {
		t.hidden[l] = true
		t.d.src.masks[l] = []span{{0, lineEnd}} // in the excerpt of the next line
	}
}

// header reads the names of the columns and reports whether rows can be read.
func (t *table) header(names []string) bool {
	known := false
	for i, n := range names {
		n = strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(n))
		names[i] = n
		known = known || n == "from" || n == "to"
	}
	if !known {
		t.hide(names) // it may be a row
		t.fail(0, "table-header", "the first line does not name the columns").Hint = tableHint
		return false
	}
	for i, n := range names {
		switch {
		case slices.Contains(tableColumns, n) && slices.Contains(names[:i], n):
			t.fail(i, "table-column", "column %s is there twice", shorten(n)).Hint = "Keep one of the two."
		case slices.Contains(tableColumns, n):
		case n == "":
			t.fail(i, "table-column", "column %d has no name", i+1).Hint = tableHint
		case hasSecretWord(n), distance(n, "password") <= 3, n == "pw":
			t.fail(i, "table-password", "column %s: passwords do not stand in the table, which is copied, mailed and kept", shorten(n)).
				Hint = "Put each into a file of its own: from_password_file, to_password_file; or give a command that prints it:\nfrom_password_command, to_password_command. What is missing is asked for."
		default:
			e := t.fail(i, "table-column", "unknown column %s", shorten(n))
			e.Suggest, e.Hint = didYouMean(n, tableColumns), "Columns are "+strings.Join(tableColumns, ", ")
		}
	}
	for _, n := range tableColumns[:2] {
		if !slices.Contains(names, n) {
			t.fail(0, "table-column", "there is no column %s", n).Hint = tableHint
		}
	}
	t.columns = names
	return len(t.d.errs) == 0
}

// row reads a move.
func (t *table) row(cells []string) {
	line, _ := t.in.FieldPos(0)
	r := Row{Line: line, Move: Move{file: t.d.src.name, line: line}}
	errs := t.wrong()
	if len(cells) > len(t.columns) {
		t.hide(cells) // which cell is what nobody knows
		t.fail(len(t.columns), "table-row", "more columns than the first line names").Hint = "A cell with a comma in it is put in quotes."
		return
	}
	for _, end := range []struct {
		name string
		e    *End
	}{{"from", &r.Move.From}, {"to", &r.Move.To}} {
		t.end(cells, end.name, end.e)
	}
	if i := t.cell(cells, "folder"); i >= 0 {
		folder, err := checkFolder(cells[i])
		if r.Move.Folder = folder; err != nil {
			t.fail(i, err.Code, "%s", err.Text).Hint = err.Hint
		}
	}
	if t.wrong() > errs {
		return
	}
	key := r.Move.From.String() + "\x00" + r.Move.To.String() + "\x00" + r.Move.into()
	if other := t.seen[key]; other != 0 {
		t.fail(0, "table-twice", "the same is in line %d", other).Hint = "Remove one of the two."
		return
	}
	t.seen[key] = line
	t.rows = append(t.rows, r)
}

// wrong counts the errors so far.
func (t *table) wrong() int { return len(t.d.errs) + t.d.more }

// into is the folder that a move goes to, as far as it is known.
func (m *Move) into() string {
	switch {
	case m.Folder != "":
		return m.Folder
	case m.To.Name == "" && m.To.folder == "":
		return "INBOX"
	}
	return m.To.folder
}

// cell is where a column of a row is; -1 if it is not there, or empty.
func (t *table) cell(cells []string, name string) int {
	if i := slices.Index(t.columns, name); i >= 0 && i < len(cells) && cells[i] != "" {
		return i
	}
	return -1
}

// end reads one end of a move and where its password is.
func (t *table) end(cells []string, name string, e *End) {
	at := t.cell(cells, name)
	if at < 0 {
		t.fail(0, "table-row", "the row has no %s", name).Hint = tableHint
		return
	}
	file, command := t.cell(cells, name+"_password_file"), t.cell(cells, name+"_password_command")
	if command >= 0 {
		t.hide(cells)
	}
	parsed, err := ParseEnd(cells[at], name == "from")
	if ce, ok := errors.AsType[*Error](err); ok {
		if ce.Code == "address-password" {
			t.hide(cells)
		}
		t.fail(at, ce.Code, "%s", ce.Text).Hint = strings.Replace(ce.Hint, "--"+name+"-password-file FILE", "a column "+name+"_password_file", 1)
		return
	}
	if *e = parsed; e.path != "" {
		e.path = t.path(e.path)
	}
	switch given := max(file, command); {
	case given < 0:
	case file >= 0 && command >= 0:
		t.fail(command, "table-row", "the row has both %s_password_file and %[1]s_password_command", name).Hint = "Keep one of the two."
	case e.Name != "":
		t.fail(given, "table-row", "the password of %s is in the configuration", e.Name).Hint = "Leave the cell empty."
	case e.Login() == "":
		t.fail(given, "table-row", "%s needs no password", e.String()).Hint = "Leave the cell empty."
	case command >= 0:
		e.Password = endpoint.SecretCommand("sh", "-c", cells[command])
	case !plainText(cells[file]) || strings.HasPrefix(cells[file], "~/"):
		t.fail(file, "table-path", "this cannot be the path of a file").Hint = "~ is not expanded here, and a control character stands in no name."
	default:
		e.Password = endpoint.SecretFile(t.path(cells[file]))
	}
}

// path is a path as it is meant: relative to the table.
func (t *table) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(t.dir, p)
}
