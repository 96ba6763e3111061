package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/lmittmann/tint"
	"golang.org/x/term"
	"golang.org/x/text/width"

	"popferry/targets/endpoint"
)

// stream is standard output or standard error. A progress bar and whole lines
// can be written to it at the same time: lines go where the bar was, and the
// bar comes back below them.
type stream struct {
	tty   bool // a person may be looking
	dumb  bool // a terminal that cannot move its cursor
	color bool

	w       io.Writer
	columns func() int // of the terminal now; 0 if that is not known
	screen  *screen
	err     error // of the first Write that failed
}

// screen is the terminal that both streams share. A bar is its last line, and the
// cursor waits where that begins: when the window gets narrower and the line is
// broken, the cursor stays with it, and all of it is found again.
type screen struct {
	mu  sync.Mutex
	bar string    // what is drawn there; "" for none
	w   io.Writer // where it was drawn
}

// clearLine clears the line of the cursor, and what a bar has become below it.
const clearLine = "\r\x1b[J"

// draw draws a bar over the last one; "" takes it away.
func (s *screen) draw(w io.Writer, bar string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case bar != "":
		_, _ = io.WriteString(w, "\r"+bar+"\x1b[J\r")
	case s.bar != "":
		_, _ = io.WriteString(s.w, clearLine)
	}
	s.bar, s.w = bar, w
}

func newStream(w io.Writer, shared *screen) *stream {
	s := &stream{w: w, screen: shared, columns: func() int { return 0 }}
	if f, ok := w.(*os.File); ok {
		s.tty = term.IsTerminal(int(f.Fd()))
		s.columns = func() int {
			columns, _, _ := term.GetSize(int(f.Fd())) // 0 where that fails
			return columns
		}
	}
	return s
}

// Write writes whole lines.
func (s *stream) Write(p []byte) (int, error) {
	s.screen.mu.Lock()
	defer s.screen.mu.Unlock()
	bar := s.screen.bar
	if !s.tty {
		bar = ""
	}
	if bar != "" {
		_, _ = io.WriteString(s.screen.w, clearLine)
	}
	n, err := s.w.Write(p)
	if err != nil && s.err == nil {
		s.err = err
	}
	if bar != "" {
		_, _ = io.WriteString(s.screen.w, bar+"\r")
	}
	return n, err
}

// print and printf write; whether that worked is asked once, at the end.
func (s *stream) print(text string)                 { _, _ = io.WriteString(s, text) }
func (s *stream) printf(format string, args ...any) { _, _ = fmt.Fprintf(s, format, args...) }

// width is how many columns the terminal has; 80 if that is not known.
func (s *stream) width() int {
	if n := s.columns(); n > 0 {
		return n
	}
	return 80
}

// paint puts text into a colour: the number of an SGR sequence.
func (s *stream) paint(sgr, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31;1"
	green  = "32"
	yellow = "33"
)

// logger writes to standard error: for people on a terminal, as key=value or
// JSON elsewhere. Secrets do not get here: they print as ***.
func (a *app) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: a.level, ReplaceAttr: plainAttr}
	switch {
	case a.logFormat == "json":
		return slog.New(slog.NewJSONHandler(a.stderr, o))
	case a.logFormat == "auto" && a.stderr.tty && !a.stderr.dumb:
		return slog.New(tint.NewTextHandler(a.stderr, &tint.Options{
			Level: a.level, ReplaceAttr: plainAttr, TimeFormat: time.TimeOnly, NoColor: !a.stderr.color,
		}))
	}
	return slog.New(slog.NewTextHandler(a.stderr, o))
}

// plainAttr makes values readable, and harmless: messages may hold what servers
// said.
func plainAttr(groups []string, at slog.Attr) slog.Attr {
	const max = 2000
	switch at.Value.Kind() {
	case slog.KindTime:
		if len(groups) == 0 && at.Key == slog.TimeKey {
			return slog.String(at.Key, at.Value.Time().Format(time.RFC3339))
		}
	case slog.KindDuration:
		return slog.String(at.Key, roughly(at.Value.Duration()))
	case slog.KindString:
		return slog.String(at.Key, endpoint.Printable(at.Value.String(), max))
	case slog.KindAny:
		if err, ok := at.Value.Any().(error); ok {
			return slog.String(at.Key, endpoint.Printable(err.Error(), max))
		}
	}
	return at
}

// roughly rounds a duration to what a person wants to know of it.
func roughly(d time.Duration) string {
	switch {
	case d < time.Second:
		d = d.Round(time.Millisecond)
	case d < time.Minute:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Second)
	}
	return d.String()
}

// octets writes a number of octets as people do: "19.0 MB".
func octets(n int64) string {
	const unit = 1000
	switch {
	case n < unit:
		return fmt.Sprintf("%d B", n)
	case n < 10*unit:
		return fmt.Sprintf("%.1f KB", float64(n)/unit)
	case n < unit*unit:
		return fmt.Sprintf("%.0f KB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MB", float64(n)/unit/unit)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/unit/unit/unit)
}

// count is a number and its noun: "1,284 messages".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(int64(n)) + " " + noun + "s"
}

// table prints rows in columns, the first row as a heading. Columns are as wide
// as their widest value, at most most cells; the last is not padded.
func table(w *stream, rows [][]string, most int) { w.print(tableText(w, rows, most)) }

// tableText is what table prints.
func tableText(w *stream, rows [][]string, most int) string {
	var widths []int
	for _, row := range rows {
		for i, text := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			row[i] = cut(text, most)
			widths[i] = max(widths[i], cells(row[i]))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		line := ""
		for i, text := range row {
			line += text
			if i < len(row)-1 {
				line += strings.Repeat(" ", widths[i]-cells(text)+2)
			}
		}
		line = strings.TrimRight(line, " ")
		if n == 0 {
			line = w.paint(bold, line)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// cells is how many columns of a terminal s takes.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += cell(r)
	}
	return n
}

func cell(r rune) int {
	if unicode.Is(unicode.Mn, r) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens s to n cells.
func cut(s string, n int) string {
	if cells(s) <= n {
		return s
	}
	used := 1 // the ellipsis
	for i, r := range s {
		if used += cell(r); used > n {
			return s[:i] + "…"
		}
	}
	return s
}
