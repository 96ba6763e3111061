package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// testApp is an app that writes into memory.
func testApp(t *testing.T) (a *app, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	a = newApp(nil, stdout, stderr, anything)
	a.flags.color = "never"
	if err := a.settle(); err != nil {
		t.Fatal(err)
	}
	return a, stdout, stderr
}

const twoAccounts = `accounts:
  isp: { host: pop.isp.example, user: jane, password: x, keep: 30d, first_run: since:2026-02-01 }
  old: { host: pop.old.example, user: jane, password: x }
targets:
  gmail: { host: imap.example.com, user: jane, password: x }
jobs:
  - { name: isp-to-gmail, from: isp, to: gmail }
  - { name: old-to-gmail, from: old, to: gmail }
state: /nowhere/popferry.db
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("popferry.yaml", []byte(text), anything)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name   string
		report fetcher.Report
		err    error
		want   string
	}{
		{
			"all is well",
			fetcher.Report{
				New: 57, Delivered: 57, Duplicate: 2, Bytes: 19_022_944, Took: 17*time.Second + 200*time.Millisecond,
				OnServer: 1315, Left: 1284, Deleted: 31,
				Folders: map[string]map[string]int{"gmail": {"INBOX": 41, "Finance/Invoices": 9, "Lists/golang-nuts": 5}},
			},
			nil,
			"✓ isp-to-gmail   57 new (55 delivered, 2 already in gmail), 19.0 MB in 17s\n" +
				"                 INBOX 41 · Finance/Invoices 9 · Lists/golang-nuts 5\n" +
				"                 1,284 left on pop.isp.example; 31 are older than 30 days and were deleted\n",
		},
		{
			"nothing new",
			fetcher.Report{OnServer: 1, Left: 1, Took: 40 * time.Millisecond},
			nil,
			"✓ isp-to-gmail   nothing new in 0.0s\n                 1 left on pop.isp.example\n",
		},
		{
			"some failed",
			fetcher.Report{New: 3, Delivered: 1, Failed: 1, Held: 1, Bytes: 4321, OnServer: 3, Left: 3, Took: time.Second},
			nil,
			"✗ isp-to-gmail   3 new (1 delivered, 1 failed, 1 held), 4.3 KB in 1.0s\n                 3 left on pop.isp.example\n",
		},
		{
			"the old ones stay",
			fetcher.Report{New: 1, Delivered: 1, Marked: 1284, Recovered: 2, Bytes: 5, OnServer: 1285, Left: 1285},
			nil,
			"✓ isp-to-gmail   1 new (1 delivered, 2 found delivered by an interrupted pass), 5 B in 0.0s\n" +
				"                 1,284 old ones left alone (first_run: since:2026-02-01)\n" +
				"                 1,285 left on pop.isp.example\n",
		},
		{"no login", fetcher.Report{}, errors.New("no"), "✗ isp-to-gmail   nothing done, see below\n"},
		{
			"a folder that moves the cursor",
			fetcher.Report{New: 1, Delivered: 1, OnServer: 1, Left: 1, Folders: map[string]map[string]int{"gmail": {"a\x1b[2Jb": 1}}},
			nil,
			"✓ isp-to-gmail   1 new (1 delivered), 0 B in 0.0s\n                 a\\x1b[2Jb 1\n                 1 left on pop.isp.example\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, stdout, _ := testApp(t)
			v := &textView{app: a, config: parse(t, twoAccounts), human: true, viewOptions: viewOptions{summaries: true}}
			c.report.Job, c.report.Account = "isp-to-gmail", "isp"
			v.event(fetcher.Event{Kind: fetcher.PassEnd, Job: "isp-to-gmail", Account: "isp", Report: &c.report, Err: c.err})
			if d := cmp.Diff(c.want, stdout.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	c := parse(t, twoAccounts)
	pop, imap := where{account: c.Accounts["isp"]}, where{target: "gmail", server: c.Targets["gmail"].Server}
	for _, x := range []struct {
		err  error
		at   where
		exit int
		code string
		head string
	}{
		{&maildrop.Error{Kind: maildrop.LoginRefused, Op: "PASS", Reply: "-ERR no"}, pop, 77, "login-refused", "login refused by pop.isp.example:995 for jane"},
		{&maildrop.Error{Kind: maildrop.Unavailable, Code: maildrop.InUse}, pop, 75, "maildrop-in-use", ""},
		{&maildrop.Error{Kind: maildrop.Unavailable, Code: maildrop.LoginDelay, After: time.Minute}, pop, 75, "login-delay", ""},
		{&maildrop.Error{Kind: maildrop.Unavailable, Code: maildrop.SysTemp}, pop, 75, "maildrop-unavailable", ""},
		{&maildrop.Error{Kind: maildrop.Lost, Op: "RETR 5"}, pop, 69, "connection-lost", "pop.isp.example:995: the connection was lost during RETR 5"},
		{&maildrop.Error{Kind: maildrop.Botched, Op: "LIST"}, where{}, 69, "pop3-botched", "the POP3 server: LIST: not a POP3 reply"},
		{fmt.Errorf("dial: %w", &endpoint.Error{Stage: "tls", Code: "tls-expired", Addr: "a:995", Text: "the certificate ended on 2026-11-03"}), pop, 69, "tls-expired", "a:995: the certificate ended on 2026-11-03"},
		{&endpoint.Error{Stage: "auth", Code: "auth-not-offered", Addr: "a:995", Text: "no"}, pop, 77, "auth-not-offered", ""},
		{&endpoint.Error{Stage: "auth", Code: "password-unavailable", Addr: "a:995", Text: "no"}, pop, 78, "password-unavailable", ""},
		{&endpoint.Error{Stage: "tls", Code: "ca-file", Addr: "a:995", Text: "no"}, pop, 78, "ca-file", ""},
		{&targets.Error{Fault: targets.Down, Op: `login as "jane"`, Err: &endpoint.Error{
			Stage: "auth", Code: endpoint.CodeLoginRefused, Addr: "imap.example.com:993", User: "jane", Reply: "NO [AUTHENTICATIONFAILED] no",
		}}, imap, 77, "login-refused", "login refused by imap.example.com:993 for jane"},
		{&targets.Error{Fault: targets.Down, Op: `login as "jane"`, Err: &endpoint.Error{
			Stage: "auth", Code: endpoint.CodeLoginUnavailable, Addr: "imap.example.com:993", User: "jane", Reply: "NO [UNAVAILABLE] no",
		}}, imap, 75, "login-unavailable", "imap.example.com:993: the server cannot check the login now"},
		{&targets.Error{Fault: targets.Down, Op: "APPEND", Reply: "NO [OVERQUOTA] full"}, imap, 1, "target-quota", "gmail is full"},
		{&targets.Error{Fault: targets.Down, Op: "greeting", Err: errors.New("EOF")}, imap, 69, "target-down", "gmail: greeting: EOF"},
		{&targets.Error{Fault: targets.Refused, Op: "APPEND", Reply: "NO no"}, imap, 1, "target-refused", "gmail: APPEND: NO no"},
		{&targets.Error{Fault: targets.Refused, Op: "APPEND", Reply: "NO [TOOBIG] no"}, imap, 1, "target-too-big", ""},
		{&targets.Error{Fault: targets.Unsure, Op: "APPEND"}, where{}, 1, "target-unsure", "the target: APPEND"},
		{&state.Error{Code: state.CodeLocked, Path: "/x/popferry.db", PID: 7, Err: state.ErrLocked}, where{}, 75, "state-locked", "popferry.db is locked by another popferry"},
		{&state.Error{Code: state.CodeFull, Text: "full"}, where{}, 74, "state-full", "full"},
		{fetcher.ErrBusy, pop, 75, "account-busy", ""},
		{context.Canceled, pop, 130, "interrupted", ""},
		{&fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, where{}, 74, "file", "write /dev/stdout: broken pipe"},
		{errors.New("what\x07?"), where{}, 70, "unexpected", `what\a?`},
		{usagef("no"), where{}, 64, "usage", "no"},
		{&config.Error{Code: "config-not-found", Text: "none"}, where{}, 78, "config-not-found", "none"},
	} {
		p := explain(x.err, x.at)
		if p.exit != x.exit || p.code != x.code || x.head != "" && p.head != x.head {
			t.Errorf("%v: exit %d [%s] %q, want %d [%s] %q", x.err, p.exit, p.code, p.head, x.exit, x.code, x.head)
		}
		if len(p.lines) > maxLines || strings.Contains(strings.Join(p.lines, ""), "\n") {
			t.Errorf("%v: lines %q", x.err, p.lines)
		}
	}
}

// A problem is eight lines at most, and its code stands at the right.
func TestProblem_render(t *testing.T) {
	a, _, stderr := testApp(t)
	a.report(&problem{code: "state-full", head: "no room", lines: strings.Split("1 2 3 4 5 6 7 8 9", " ")})
	lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
	if len(lines) != 8 || strings.Index(lines[0], "[state-full]") != codeColumn {
		t.Errorf("%q", lines)
	}
}

func TestWorse(t *testing.T) {
	for _, c := range [][3]int{{0, 1, 1}, {1, 75, 75}, {75, 69, 69}, {69, 74, 74}, {74, 77, 77}, {77, 78, 78}, {78, 70, 70}, {130, 78, 130}, {70, 143, 70}} {
		if got := worse(c[0], c[1]); got != c[2] || worse(c[1], c[0]) != c[2] {
			t.Errorf("worse(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
	for _, code := range daemon.ExitCodes() {
		if code != exitOK && reasons[code] == "" {
			t.Errorf("exit code %d has no reason", code)
		}
	}
}

// Ten problems are five and a count; a thousand messages with one are one.
func TestTally(t *testing.T) {
	a, _, stderr := testApp(t)
	tl := newTally(parse(t, twoAccounts))
	for i := range 1000 {
		tl.event(fetcher.Event{
			Kind: fetcher.Failed, Job: "isp-to-gmail", Account: "isp", UIDL: fmt.Sprint(i),
			Err: &targets.Error{Fault: targets.Down, Op: "APPEND", Reply: "NO [OVERQUOTA] full"},
		})
	}
	for i := range 9 {
		tl.event(fetcher.Event{Kind: fetcher.Failed, Job: "isp-to-gmail", Account: "isp", Err: fmt.Errorf("%w %d", &targets.Error{Op: fmt.Sprint("APPEND", i)}, i)})
	}
	tl.event(fetcher.Event{Kind: fetcher.PassEnd, Job: "isp-to-gmail", Account: "isp", Report: &fetcher.Report{Failed: 1009, Held: 2}})
	tl.event(fetcher.Event{Kind: fetcher.PassEnd, Job: "old-to-gmail", Account: "old", Report: &fetcher.Report{}})
	e := tl.end(t.Context(), a)
	if want := `exit 1: 1,009 messages failed, the next run tries again; 2 messages are held (see "popferry held list")`; e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
	for text, n := range map[string]int{
		"gmail is full": 1, "So it is with 1,000 messages, the first is isp/0.": 1, "[target-transient]": 4, "more problems": 1,
	} {
		if got := strings.Count(stderr.String(), text); got != n {
			t.Errorf("%q is there %d times, want %d\n%s", text, got, n, stderr)
		}
	}
}

// A pass that was interrupted is no problem, and its code is the signal's.
func TestTally_interrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted{syscall.SIGTERM})
	a, _, stderr := testApp(t)
	tl := newTally(parse(t, twoAccounts))
	tl.pass(ctx, tl.config.Accounts["isp"], context.Cause(ctx))
	if e := tl.end(ctx, a); e.code != exitTerm || stderr.Len() > 0 {
		t.Errorf("%v, %s", e, stderr)
	}
}

// A panic is a bug in plain words, without a trace.
func TestRun_panic(t *testing.T) {
	bad := func(string) (string, bool) { panic("the environment\x1b is gone") }
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"version"}, nil, &stdout, &stderr, bad, nil); code != exitBug {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); !strings.HasPrefix(got, `popferry has a bug and had to stop: the environment\x1b is gone`) ||
		!strings.HasSuffix(got, "exit 70: a bug in popferry\n") || strings.Contains(got, "goroutine") {
		t.Errorf("%s", got)
	}
}

// broken is a standard output that cannot be written.
type broken struct{}

func (broken) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}

func TestRun_brokenOutput(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"version"}, nil, broken{}, &stderr, anything, nil); code != exitState {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	if !strings.Contains(stderr.String(), "standard output: write /dev/stdout: no space left on device") {
		t.Errorf("%s", &stderr)
	}
}

// Lines go where the progress bar was, which comes back below them.
func TestStream_bar(t *testing.T) {
	a, stdout, stderr := testApp(t)
	a.stdout.tty, a.stderr.tty = true, true
	a.stderr.screen.draw(a.stderr.w, "bar")
	a.stdout.print("line\n")
	a.stderr.print("log\n")
	a.stderr.screen.draw(a.stderr.w, "")
	a.stderr.print("end\n")
	const there, gone = "\rbar\x1b[J\r", "\r\x1b[J"
	if want := there + gone + "bar\r" + gone + "log\nbar\r" + gone + "end\n"; stdout.String() != "line\n" || stderr.String() != want {
		t.Errorf("%q %q, want %q", stdout, stderr, want)
	}
}

// Colours go to terminals only, unless somebody says otherwise.
func TestSettle_color(t *testing.T) {
	for _, c := range []struct {
		flag, noColor, term string
		tty, want           bool
	}{
		{"auto", "", "xterm", true, true},
		{"auto", "", "xterm", false, false},
		{"auto", "1", "xterm", true, false},
		{"auto", "", "dumb", true, false},
		{"always", "1", "dumb", false, true},
		{"never", "", "xterm", true, false},
	} {
		a, _, _ := testApp(t)
		a.env = func(name string) (string, bool) {
			v := map[string]string{"NO_COLOR": c.noColor, "TERM": c.term}[name]
			return v, v != ""
		}
		a.stdout.tty, a.flags.color = c.tty, c.flag
		if err := a.settle(); err != nil {
			t.Fatal(err)
		}
		if a.stdout.color != c.want {
			t.Errorf("%+v: colour is %v", c, a.stdout.color)
		}
	}
}

// What a log record says cannot end its line or move the cursor, whoever wrote
// it.
func TestLogger_printable(t *testing.T) {
	for _, format := range []string{"auto", "text", "json"} {
		for _, tty := range []bool{true, false} {
			a, _, stderr := testApp(t)
			a.logFormat, a.stderr.tty = format, tty
			a.logger().Warn("said\r\nforged", "reply", "a\x1b[2J\u202eb", "err", errors.New("c\n\u2028d"), "took", 1234567*time.Microsecond)
			got := strings.TrimSuffix(stderr.String(), "\n")
			if strings.ContainsAny(got, "\n\r\x1b\u202e\u2028") || !strings.Contains(got, "1.2s") {
				t.Errorf("%s, terminal %v: %q", format, tty, got)
			}
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"会議の予定", 10, "会議の予定"},
		{"会議の予定", 9, "会議の予…"},
		{"会議の予定", 8, "会議の…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"", 1, ""},
	} {
		if got := cut(c.in, c.n); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func TestOctets(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 KB", 49_152: "49 KB", 19_022_944: "19.0 MB", 3_900_000_000: "3.9 GB"} {
		if got := octets(n); got != want {
			t.Errorf("octets(%d) = %q, want %q", n, got, want)
		}
	}
}

// The file decides how to log where the command line does not.
func TestLoad_log(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.yaml")
	if err := os.WriteFile(path, []byte(twoAccounts+"log: { level: warn, format: json }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		verbose int
		format  string
		level   slog.Level
		want    string
	}{
		{0, "", slog.LevelWarn, "json"},
		{1, "", slog.LevelInfo, "json"},
		{2, "text", slog.LevelDebug, "text"},
	} {
		a, _, _ := testApp(t)
		a.flags.config, a.flags.verbose, a.flags.logFormat = path, c.verbose, c.format
		if err := a.settle(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.load(); err != nil {
			t.Fatal(err)
		}
		if a.level != c.level || a.logFormat != c.want {
			t.Errorf("%+v: level %v, format %s", c, a.level, a.logFormat)
		}
	}
}
