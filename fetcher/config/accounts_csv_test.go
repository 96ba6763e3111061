package config_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
)

// TestReadMoves: all ways to write a table say the same.
func TestReadMoves(t *testing.T) {
	want := []string{
		"2: jane@pop.isp.example → jane@imap.home.example ()",
		"3: isp → home (Old, 2026)",
	}
	for name, text := range map[string]string{
		"plain":      "from,to,folder\npop3s://jane@pop.isp.example,imaps://jane@imap.home.example,\nisp,home,\"Old, 2026\"\n",
		"windows":    "\ufefffrom;to;folder\r\npop3s://jane@pop.isp.example;imaps://jane@imap.home.example\r\nisp;home;Old, 2026\r\n\r\n",
		"blank ends": "from;to;folder;;\r\npop3s://jane@pop.isp.example;imaps://jane@imap.home.example;;;;;\r\nisp;home;Old, 2026;;\r\n;;;;\r\n",
		"tabs":       "From\tFolder\tTo\npop3s://jane@pop.isp.example\t\timaps://jane@imap.home.example\nisp\tOld, 2026\thome",
		"blanks":     " from , to , folder \n \"pop3s://jane@pop.isp.example\", imaps://jane@imap.home.example , \n isp,\thome , \"Old, 2026\"\n  \n",
		"all quoted": "\"from\",\"to\",\"folder\"\n\"pop3s://jane@pop.isp.example\",\"imaps://jane@imap.home.example\",\"\"\n\"isp\",\"home\",\"Old, 2026\"\n",
		"no quotes":  "to;folder;from-password-file;from\nimaps://jane@imap.home.example;;;pop3s://jane@pop.isp.example\nhome;Old, 2026;;isp\n",
	} {
		rows, err := config.ReadMoves("accounts.csv", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, said(rows)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	rows, err := config.ReadMoves("accounts.csv", strings.NewReader("\n# the first ones\n\nfrom,to\n\n# joe\njoe@gmx.de,jane@gmail.com\n"))
	if diff := cmp.Diff([]string{"7: joe@gmx.de → jane@gmail.com ()"}, said(rows)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func said(rows []config.Row) []string {
	var s []string
	for _, r := range rows {
		if at := r.Move.Place(); at != fmt.Sprintf("accounts.csv:%d", r.Line) {
			s = append(s, at)
		}
		s = append(s, fmt.Sprintf("%d: %s → %s (%s)", r.Line, &r.Move.From, &r.Move.To, r.Move.Folder))
	}
	return s
}

// TestReadMoves_passwords: they come from files, which lie beside the table, and
// from commands; paths of Maildirs are relative to the table as well.
func TestReadMoves_passwords(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"jane": " one \nx", "joe": "two\r\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := config.ReadMoves(filepath.Join(dir, "accounts.csv"), strings.NewReader(`from,to,from_password_file,to_password_file,to_password_command
jane@gmx.de,maildir:mail,jane,,
joe@gmx.de,joe@gmail.com,`+dir+`/joe,,"printf 'a,b\nc'"
ann@gmx.de,maildir:/srv/mail,,,
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := rows[0].Move.To.String(); got != "maildir:"+dir+"/mail" {
		t.Errorf("the Maildir is %s", got)
	}
	if got := []string{
		reveal(t, rows[0].Move.From.Password), reveal(t, rows[1].Move.From.Password), reveal(t, rows[1].Move.To.Password),
	}; !cmp.Equal(got, []string{" one ", "two", "a,b"}) {
		t.Errorf("passwords %q", got)
	}
	if !rows[0].Move.To.Password.IsZero() || !rows[2].Move.From.Password.IsZero() {
		t.Error("a password comes from nowhere")
	}
	c, err := config.Moves(nil, movesIn(rows), environ)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Jobs[1].Accounts[0].Maildrop.Password.Reveal(context.Background()); got != "two" || err != nil {
		t.Errorf("the account has %q (%v)", got, err)
	}
}

// badTables are tables with something wrong.
var badTables = []string{
	"",
	"# nothing\n",
	"from,to\n",
	"pop3s://jane@pop.isp.example,imaps://jane@imap.home.example," + canary + "\n",
	"from,too,folder,folder,,from\nisp,home,a,b\n",
	"from;to;password1;pasword2;passwd\nisp;home;" + canary + ";" + canary + ";" + canary + "\n",
	"# before\nfrom,to,source\nisp,home,x\n",
	"from,to,folder\nisp\n,home\n,,x\nisp,home,\"a,b\",c," + canary + "\nisp,home,a//b\n",
	"from,to\nisp,home\nisp, home\njane@gmx.de,joe@gmail.com\njane@gmx.de,\"joe@gmail.com\"\n",
	"from,to,folder\njane@gmx.de,maildir:mail,\njane@gmx.de,maildir:./mail,INBOX\njane@gmx.de,maildir:mail,Old\n",
	"from,to\nisp,home\npop3s://jane:" + canary + "@pop.isp.example,home\nimaps://jane@imap.home.example,pop3s://jane@pop.isp.example\nisp,jane@isp.example\n",
	"from,to\n# pop3s://jane:" + canary + "@pop.isp.example,home\nIsp,home\n",
	"from,to,from_password_command\njane@gmx.de,http://x,echo " + canary + "\njane@gmx.de,http://y,\n",
	"from,to,from_password_file,from_password_command,to_password_file\njane@gmx.de,maildir:x,a,b,\nisp,maildir:x,a,,\njoe@gmx.de,maildir:x,,,a\nann@gmx.de,maildir:x,~/a,,\n",
	"from,to\n\"isp\"x,home\nisp,ho\"me\nIsp,home\nisp,\"home\n" + canary + ",\n",
	"from,to,folder\nIsp,\"home\n" + canary + "\",x\nisp,home,x,\"y\n" + canary + "\"\nHome,isp,\n",
	"from,to\nisp,h\xe9\n",
	"f\x00r\x00o\x00m\x00",
}

const badTablesFile = "../../testdata/config/tables.txt"

// TestReadMoves_bad: the words for all of them stand in a file, to be read.
func TestReadMoves_bad(t *testing.T) {
	var b strings.Builder
	for _, text := range badTables {
		_, err := config.ReadMoves("accounts.csv", strings.NewReader(text))
		if err == nil {
			t.Errorf("%q: no error", text)
			continue
		}
		for _, e := range err.(config.Errors) {
			if e.File != "accounts.csv" {
				t.Errorf("%q: an error of file %q", text, e.File)
			}
		}
		out := render(t, err)
		if strings.Contains(out, canary) {
			t.Errorf("%q: a password is shown:\n%s", text, out)
		}
		fmt.Fprintf(&b, "%q\n%s\n", text, out)
	}
	got := b.String()
	if *update {
		if err := os.WriteFile(badTablesFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(badTablesFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadMoves_limits: what is too much is refused, and not read on.
func TestReadMoves_limits(t *testing.T) {
	row := func(n int) string { return fmt.Sprintf("pop3s://u%d@pop.isp.example,maildir:u%d\n", n, n) }
	var b strings.Builder
	b.WriteString("from,to\n")
	for i := range 10_000 {
		b.WriteString(row(i))
	}
	rows, err := config.ReadMoves("accounts.csv", strings.NewReader(b.String()))
	if len(rows) != 10_000 || err != nil {
		t.Errorf("%d rows (%v)", len(rows), err)
	}
	if c, err := config.Moves(nil, movesIn(rows), environ); err != nil || len(c.Jobs) != 10_000 || len(c.Targets) != 10_000 {
		t.Errorf("as many moves: %v", err)
	}
	b.WriteString(row(10_000))
	_, err = config.ReadMoves("accounts.csv", strings.NewReader(b.String()))
	if err == nil || err.Error() != "accounts.csv:10002:1: more than 10000 rows" {
		t.Errorf("%v", err)
	}
	_, err = config.ReadMoves("accounts.csv", io.MultiReader(strings.NewReader("from,to\n#"), iotest.TimeoutReader(strings.NewReader(strings.Repeat("x", 11<<20)))))
	if err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("%v", err)
	}
	_, err = config.ReadMoves("accounts.csv", strings.NewReader("from,to\n#"+strings.Repeat("x", 10<<20)))
	if err == nil || err.Error() != "accounts.csv: larger than 10 MiB, so it cannot be a table of accounts" {
		t.Errorf("%v", err)
	}
	_, err = config.ReadMoves("accounts.csv", strings.NewReader("from,to\n"+strings.Repeat("Isp,home\n", 500)))
	errs, _ := errors.AsType[config.Errors](err)
	if len(errs) != 101 || errs[100].Text != "and 400 more errors" {
		t.Errorf("%d errors, at last %v", len(errs), errs[len(errs)-1])
	}
}

func movesIn(rows []config.Row) []config.Move {
	moves := make([]config.Move, len(rows))
	for i, r := range rows {
		moves[i] = r.Move
	}
	return moves
}

// TestReadMoves_places: what Moves finds has the line of the row.
func TestReadMoves_places(t *testing.T) {
	rows, err := config.ReadMoves("accounts.csv", strings.NewReader("from,to\nips,home\nisp,home\nisp,hone\njane@gmail.com,jane@gmail.com\nisp,imaps://jane@imap.home.example/INBOX\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Moves(fileOf(t, movable), movesIn(rows), environ)
	want := `accounts.csv:2: there is no account "ips" in popferry.yaml
accounts.csv:4: there is no target "hone" in popferry.yaml
accounts.csv:5: jane@gmail.com is the mailbox that is read from jane@gmail.com
accounts.csv:6: jane@imap.home.example (imap.home.example:993) and home (imap.home.example:993) are the same mailbox (line 2 as well), or look like it`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzReadMoves never panics, ends with rows or with errors that can be rendered,
// and shows no password of an address.
func FuzzReadMoves(f *testing.F) {
	for _, text := range badTables {
		f.Add(strings.ReplaceAll(text, canary, "x"), "")
	}
	for _, s := range []string{"", ",", "\"", "\n", "\r", "\r\n", "\t", "#", ";", "\"\"", "\",\"", ",,,,,", "\u2028"} {
		f.Add("from,to\nIsp,home\n", s)
		f.Add("from,to,from_password_command\n", s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "canary") {
			return
		}
		for _, text := range []string{before + after, before + "\npop3s://jane:" + canary + "@pop.isp.example" + after} {
			rows, err := config.ReadMoves("accounts.csv", strings.NewReader(text))
			if err == nil {
				if len(rows) == 0 {
					t.Fatalf("%q: no rows and no error", text)
				}
				continue
			}
			for _, e := range err.(config.Errors) {
				var b strings.Builder
				if err := e.Render(&b, false); err != nil {
					t.Fatal(err)
				}
				if out := b.String(); strings.Count(out, "\n") > 8 || strings.ContainsAny(out, "\x1b\x07\r\u202e") || e.Line > strings.Count(text, "\n")+1 {
					t.Fatalf("%q:\n%s", text, out)
				}
				if strings.Contains(b.String(), "canary") {
					t.Fatalf("a password is shown for\n%s\n%s", text, &b)
				}
			}
		}
	})
}
