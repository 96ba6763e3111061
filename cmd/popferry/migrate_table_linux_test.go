package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

// accounts is a table of moves on a Dovecot.
type accounts struct {
	*home
	file string
	mail [][][]byte // of each
	at   []int      // the port of each target
}

// tableSize is how many accounts a table has, tableRoom how many messages a user
// may have.
const tableSize, tableRoom = 20, 100

// newAccounts makes users with mail: the first has least messages, the next one
// more each.
func newAccounts(t *testing.T, least int) *accounts {
	a := &accounts{home: newHome(t, dovecot.Quota(fmt.Sprintf("*:messages=%d", tableRoom))), mail: make([][][]byte, tableSize), at: make([]int, tableSize)}
	a.file = a.path("accounts.csv")
	for i := range a.mail {
		for _, m := range corpus.Small(uint64(i), least+i) {
			a.mail[i] = append(a.mail[i], m.Raw)
		}
		a.server.Put(src(i), "INBOX", a.mail[i]...)
		a.at[i] = a.server.IMAPS
		write(t, a.path(src(i)), dovecot.Password+"\n")
	}
	return a
}

func src(i int) string { return fmt.Sprintf("src%02d", i) }
func dst(i int) string { return fmt.Sprintf("dst%02d", i) }

// from is what the report calls an account.
func (a *accounts) from(i int) string { return fmt.Sprintf("%s@localhost:%d", src(i), a.server.POP3S) }

// write writes the table. Every other row has commands that print the passwords,
// in place of files.
func (a *accounts) write(comma rune) {
	a.t.Helper()
	f, err := os.Create(a.file)
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	w := csv.NewWriter(f)
	w.Comma = comma
	rows := [][]string{{"from", "to", "from_password_file", "to_password_file", "from_password_command", "to_password_command"}}
	for i := range a.mail {
		row := []string{a.pop3(src(i)), fmt.Sprintf("imaps://%s@localhost:%d/INBOX", dst(i), a.at[i]), src(i), "pw", "", ""}
		if i%2 == 0 {
			row = append(row[:2], "", "", "cat "+a.path(src(i)), "cat "+a.path("pw"))
		}
		rows = append(rows, row)
	}
	if err := w.WriteAll(rows); err != nil {
		a.t.Fatal(err)
	}
}

// report reads one of the files of a report: its rows by the names of the columns.
func (a *accounts) report(name string) (rows []map[string]string) {
	a.t.Helper()
	f, err := os.Open(a.path(name))
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, c := range cells {
			row[all[0][i]] = c
		}
		rows = append(rows, row)
	}
	return rows
}

// TestMigrate_tableKilled has the program interrupted and killed in the middle of a
// table.
func TestMigrate_tableKilled(t *testing.T) {
	a := newAccounts(t, 60)
	t.Parallel()
	a.write(';')
	migrate := []string{"migrate", "--accounts", a.file, "--yes"}
	stdout, _, _ := a.interrupted(syscall.SIGINT, 1, `{"type":"message"`, append(migrate, "--json", "--parallel", "1")...)
	if done, waiting := strings.Count(stdout, `"code":0,"result":"checked"`), strings.Count(stdout, `"code":130,"result":"not begun"`); waiting < tableSize/2 ||
		done+waiting+strings.Count(stdout, `"code":130,"result":"stopped"`) != tableSize {
		t.Errorf("%d done, %d not begun in:\n%s", done, waiting, stdout)
	}
	a.interrupted(syscall.SIGKILL, 150, `{"type":"message"`, append(migrate, "--json")...)
	stdout, _ = a.popferry(exitOK, append(migrate, "--report", a.path("r.csv"))...)
	matches(t, stdout, `(?m)^20 of 20 accounts done: `)
	a.reported(nil)
	a.arrived()
}

// TestMigrate_table moves a table of accounts, three of which are in trouble: the
// others do not mind. When the trouble is over, the same command does the rest.
func TestMigrate_table(t *testing.T) {
	a := newAccounts(t, 15)
	t.Parallel()
	const wrong, full, shot = 3, 7, 11
	write(t, a.path(src(wrong)), "wrong\n")
	const room = 5
	var old [][]byte
	for _, m := range corpus.Small(100, tableRoom-room) {
		old = append(old, m.Raw)
	}
	a.server.Put(dst(full), "Old", old...)
	far := targetstest.Proxy{Server: a.server.Addr(a.server.IMAPS), Delay: 25 * time.Millisecond}
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	a.at[shot] = far.Port()
	a.write(',')

	migrate := []string{"migrate", "--accounts", a.file, "--yes", "--patience", "3s", "--report", a.path("r.csv")}
	stop := a.shoot(dst(shot))
	stdout, stderr := a.popferry(exitLogin, migrate...)
	stop()
	for i := range a.mail {
		mark := map[bool]string{true: "✗", false: "✓"}[i == wrong || i == full || i == shot]
		matches(t, stdout, `(?m)^`+mark+` +`+src(i)+`@localhost:\d+ → `+dst(i)+`@localhost:\d+   \d+ copied|nothing copied`)
	}
	matches(t, stdout, `(?m)^17 of 20 accounts done: \d+ copied, 0 already there, 0 moved before, `)
	matches(t, stderr, `(?m)^login refused by localhost:\d+ for `+src(wrong)+` +\[login-refused\]$`)
	matches(t, stderr, `(?m)^`+dst(full)+`@localhost:\d+ is full +\[target-quota\]$`)
	matches(t, stderr, `(?m)^`+dst(shot)+`@localhost:\d+: .* +\[target-down\]$`)
	matches(t, stderr, `exit 77: 3 of 20 accounts not done: `+a.from(wrong)+`, `+a.from(full)+`, `+a.from(shot)+`; the same command goes on\n$`)
	a.reported(map[int]ending{
		wrong: {code: exitLogin, result: `^login refused by `},
		full:  {code: exitSome, copied: room, result: ` is full$`},
		shot:  {code: exitUnreachable, copied: -1, result: ` closed the connection$`},
	})

	write(t, a.path(src(wrong)), dovecot.Password+"\n")
	a.server.Doveadm("expunge", "-u", dst(full), "mailbox", "Old", "all")
	stdout, _ = a.popferry(exitOK, migrate...)
	matches(t, stdout, `(?m)^✓ `+a.from(wrong)+` → .*   18 copied · checked · `)
	matches(t, stdout, `(?m)^✓ `+a.from(full)+` → .*   17 copied, 5 moved before · checked · `)
	matches(t, stdout, `(?m)^20 of 20 accounts done: `)
	a.reported(nil)
	a.arrived()
}

// arrived checks that every user has got everything, once.
func (a *accounts) arrived() {
	a.t.Helper()
	for i, mail := range a.mail {
		a.same(dst(i), mail)
		a.same(src(i), mail)
	}
}

// ending is how an account ends with which something is wrong.
type ending struct {
	code, copied int // copied is -1 where nobody can know
	result       string
}

// reported checks the report: what it says of each account, and that it has one
// line for each message. All accounts are done but those that are given.
func (a *accounts) reported(open map[int]ending) {
	a.t.Helper()
	rows := a.report("r.csv")
	if len(rows) != len(a.mail) {
		a.t.Fatalf("%d rows", len(rows))
	}
	results := map[string]map[string]int{}
	seen := map[string]bool{}
	for _, m := range a.report("r-messages.csv") {
		if results[m["account"]] == nil {
			results[m["account"]] = map[string]int{}
		}
		results[m["account"]][m["result"]]++
		key := m["account"] + " " + m["uidl"]
		stored := m["result"] == "delivered" || m["result"] == "duplicate"
		if seen[key] || stored != (m["uid"] != "0") || stored && m["when"] == "" || m["message_id"] == "" || m["folder"] != "INBOX" {
			a.t.Errorf("%v", m)
		}
		seen[key] = true
	}
	for i, mail := range a.mail {
		r, of := rows[i], results[a.from(i)]
		n := func(column string) int {
			n, err := strconv.Atoi(r[column])
			if err != nil {
				a.t.Errorf("%s: %v", column, err)
			}
			return n
		}
		want, bad := open[i]
		if !bad {
			want = ending{copied: -1, result: "^checked$"}
		}
		stored, listed := of["delivered"]+of["duplicate"], len(mail)
		if want.code == exitLogin {
			listed = 0
		}
		all := 0
		for _, k := range of {
			all += k
		}
		switch {
		case r["account"] != a.from(i), r["checked"] != strconv.FormatBool(!bad), n("doubts") != 0, n("code") != want.code,
			!regexp.MustCompile(want.result).MatchString(r["result"]), n("messages") != listed, all != listed,
			want.copied >= 0 && n("copied") != want.copied, n("copied")+n("duplicate")+n("before") != stored, !bad && stored != len(mail):
			a.t.Errorf("%s: %v, messages: %v", a.from(i), r, of)
		}
	}
}

// shoot kills every IMAP process of a user until stop is called: the first after
// it has stored something, the others as soon as they are there.
func (a *accounts) shoot(user string) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	conf := filepath.Join(filepath.Dir(a.server.CAFile), "dovecot.conf")
	maildir := a.server.Maildir(user)
	go func() {
		defer close(done)
		shot := map[int]bool{}
		for {
			select {
			case <-quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			files, _ := filepath.Glob(filepath.Join(maildir, "*", "*,S=*"))
			if len(shot) == 0 && len(files) == 0 {
				continue
			}
			// It fails where nobody is there.
			out, _ := exec.Command("doveadm", "-c", conf, "who", "-1", user).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				if len(f) < 3 || f[0] != user || f[1] != "imap" {
					continue
				}
				pid, err := strconv.Atoi(f[2])
				title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if err == nil && bytes.HasPrefix(title, []byte("dovecot/imap")) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
					shot[pid] = true
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
