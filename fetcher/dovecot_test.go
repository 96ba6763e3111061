package fetcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/maildir"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

// rig is a real Dovecot at both ends.
type rig struct {
	t       testing.TB
	server  *dovecot.Server
	db      string
	account *fetcher.Account
	job     *fetcher.Job
	imap    imap.Config
	maildir string // "" delivers by IMAP
	now     time.Time
}

func newRig(t testing.TB, options ...dovecot.Option) *rig {
	s := dovecot.Start(t, options...)
	r := &rig{t: t, server: s, db: filepath.Join(t.TempDir(), "popferry.db"), now: time.Now()}
	r.account = &fetcher.Account{
		Name: "isp", Keep: fetcher.Keep{Forever: true},
		Maildrop: maildrop.Config{Server: r.endpoint(s.POP3S, "src", endpoint.Implicit)},
	}
	r.imap = imap.Config{Server: r.endpoint(s.IMAPS, "dst", endpoint.Implicit), CreateFolders: true, Subscribe: true, Settle: -1}
	r.job = &fetcher.Job{Name: "isp-to-home", Accounts: []*fetcher.Account{r.account}, Targets: []string{"home"}}
	return r
}

func (r *rig) endpoint(port int, user string, tls endpoint.TLS) endpoint.Server {
	return endpoint.Server{
		Host: "localhost", Port: port, TLS: tls, CAFile: r.server.CAFile, Auth: "auto",
		User: user, Password: endpoint.SecretValue(dovecot.Password), Timeout: 30 * time.Second,
	}
}

func (r *rig) pass() fetcher.Report {
	r.t.Helper()
	ctx := context.Background()
	st, err := state.Open(ctx, r.db, state.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer st.Close()
	var c targets.Config = r.imap
	if r.maildir != "" {
		c = maildir.Config{Path: r.maildir}
		defer r.server.Adopt("dst")
	}
	home, err := c.Open("home", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer home.Close()
	f := &fetcher.Fetcher{
		Targets: map[string]targets.Target{"home": home}, State: st,
		Now: func() time.Time { return r.now }, Spool: r.t.TempDir(),
	}
	report, err := f.Pass(ctx, r.job, r.account)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// stored counts the messages in folders of the destination by canonical hash.
func (r *rig) stored(folders ...string) map[targets.Hash]int {
	out := map[targets.Hash]int{}
	for _, f := range folders {
		for _, m := range r.server.Messages("dst", f) {
			out[hashOf(m.Raw)]++
		}
	}
	return out
}

func hashOf(raw []byte) targets.Hash {
	h, _, _ := targets.CanonOf(bytes.NewReader(raw))
	return h
}

func count(messages [][]byte) map[targets.Hash]int {
	out := map[targets.Hash]int{}
	for _, raw := range messages {
		out[hashOf(raw)]++
	}
	return out
}

func (r *rig) same(got, want map[targets.Hash]int) {
	r.t.Helper()
	for h, n := range want {
		if got[h] != n {
			r.t.Errorf("message %s: %d copies, want %d", h, got[h], n)
		}
	}
	for h, n := range got {
		if want[h] == 0 {
			r.t.Errorf("message %s: %d copies of what was never there", h, n)
		}
	}
}

// all is every nasty message, one of 30 MB, and the shared corpus of real mail
// where it is at hand.
func all(t *testing.T) (messages [][]byte) {
	for _, m := range corpus.Nasty() {
		// Dovecot 2.3 does not stuff a dot that begins a message, so it ends the
		// reply to this one where it begins.
		if string(m.Raw) != ".\r\n" {
			messages = append(messages, m.Raw)
		}
	}
	large, err := io.ReadAll(corpus.Large(30 << 20))
	if err != nil {
		t.Fatal(err)
	}
	messages = append(messages, large)
	files, _ := filepath.Glob("../../shared/mail/*.eml")
	if len(files) == 0 {
		t.Run("real mail", func(t *testing.T) { t.Skip("the shared corpus is not here: only generated messages are sent") })
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, raw)
	}
	return messages
}

// Every message arrives exactly once with its octets and its date; the second
// pass finds nothing to do and does not even connect to the target.
func TestDovecot_everything(t *testing.T) {
	r := newRig(t)
	messages := all(t)
	r.server.Put("src", "INBOX", messages...)
	report := r.pass()
	r.same(r.stored("INBOX"), count(messages))
	if n := len(messages); report.New != n || report.Delivered != n || report.Failed+report.Held+report.Deleted != 0 {
		t.Errorf("%+v", report)
	}
	r.dates()
	logins := strings.Count(r.server.Log(), "imap-login: Login: user=<dst>")
	report = r.pass()
	if report.New+report.Delivered+report.Failed != 0 || report.OnServer != len(messages) {
		t.Errorf("second pass: %+v", report)
	}
	if n := strings.Count(r.server.Log(), "imap-login: Login: user=<dst>") - logins; n != 0 {
		t.Errorf("the second pass logged in to the target %d times", n)
	}
	if n := r.server.Count("src", "INBOX"); n != len(messages) {
		t.Errorf("%d left on the maildrop", n)
	}
}

// dates checks that INTERNALDATE is the top Received date, else the Date
// header's, within what servers can store.
func (r *rig) dates() {
	r.t.Helper()
	first := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)
	byDate := 0
	for _, m := range r.server.Messages("dst", "INBOX") {
		head, _, _ := bytes.Cut(m.Raw, []byte("\r\n\r\n"))
		h := rules.ParseHeader(head)
		want := h.Received()
		if want.IsZero() {
			want = h.Date()
		}
		if want.IsZero() || want.Before(first) || want.After(r.now) {
			continue
		}
		byDate++
		if !m.InternalDate.Equal(want.Truncate(time.Second)) {
			r.t.Errorf("UID %d: INTERNALDATE %s, want %s", m.UID, m.InternalDate, want)
		}
	}
	if byDate == 0 {
		r.t.Error("no message has a date")
	}
}

// The state is lost, once altogether and once more in the middle of the pass
// that makes up for it: nothing comes twice, and messages that share a
// Message-ID with others all come.
func TestDovecot_lostState(t *testing.T) {
	r := newRig(t)
	messages := all(t)
	half := len(messages) / 2
	r.server.Put("src", "INBOX", messages[:half]...)
	r.pass()
	r.loseState()
	r.server.Put("src", "INBOX", messages[half:]...)
	r.account.Limits.Messages = half + half/2
	if report := r.pass(); report.Delivered != half+half/2 || report.Duplicate != half {
		t.Errorf("%+v", report)
	}
	r.loseState()
	r.account.Limits.Messages = 0
	if report := r.pass(); report.Delivered != len(messages) || report.Duplicate != half+half/2 {
		t.Errorf("%+v", report)
	}
	r.same(r.stored("INBOX"), count(messages))
}

// loseState removes the state with everything beside it.
func (r *rig) loseState() {
	r.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(r.db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
}

func TestDovecot_connections(t *testing.T) {
	for _, c := range []struct {
		name       string
		pop3, imap func(*rig) endpoint.Server
	}{
		{
			"STLS and STARTTLS",
			func(r *rig) endpoint.Server { return r.endpoint(r.server.POP3, "src", endpoint.StartTLS) },
			func(r *rig) endpoint.Server { return r.endpoint(r.server.IMAP, "dst", endpoint.StartTLS) },
		},
		{
			"plain, written out",
			func(r *rig) endpoint.Server { return r.endpoint(r.server.POP3, "src", endpoint.Plain) },
			func(r *rig) endpoint.Server { return r.endpoint(r.server.IMAP, "dst", endpoint.Plain) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.account.Maildrop.Server = c.pop3(r)
			r.imap.Server = c.imap(r)
			r.account.Keep = fetcher.Keep{}
			var messages [][]byte
			for _, m := range corpus.Small(1, 50) {
				messages = append(messages, m.Raw)
			}
			r.server.Put("src", "INBOX", messages...)
			report := r.pass()
			r.same(r.stored("INBOX"), count(messages))
			if n := r.server.Count("src", "INBOX"); n != 0 || report.Deleted != 50 {
				t.Errorf("%d left, %+v", n, report)
			}
		})
	}
}

// What the target refuses stays on the maildrop, whatever keep says.
func TestDovecot_refusedStays(t *testing.T) {
	r := newRig(t, dovecot.MaxMailSize("100K"))
	r.account.Keep = fetcher.Keep{}
	large, _ := io.ReadAll(corpus.Large(200 << 10))
	small := corpus.Small(2, 10)
	messages := [][]byte{large}
	for _, m := range small {
		messages = append(messages, m.Raw)
	}
	r.server.Put("src", "INBOX", messages...)
	report := r.pass()
	r.same(r.stored("INBOX"), count(messages[1:]))
	left := r.server.Messages("src", "INBOX")
	if len(left) != 1 || hashOf(left[0].Raw) != hashOf(large) || report.Failed != 1 {
		t.Errorf("%d left, %+v", len(left), report)
	}
}

func TestDovecot_quota(t *testing.T) {
	r := newRig(t, dovecot.Quota("*:messages=15"))
	r.account.Keep = fetcher.Keep{}
	var messages [][]byte
	for _, m := range corpus.Small(3, 10) {
		messages = append(messages, m.Raw)
	}
	r.server.Put("dst", "Old", messages...)
	r.server.Put("src", "INBOX", messages...)
	for range 4 {
		r.pass()
	}
	stored := 0
	for _, n := range r.stored("INBOX") {
		stored += n
	}
	if left := r.server.Count("src", "INBOX"); stored+left != 10 || stored == 0 || left == 0 {
		t.Errorf("%d stored, %d left", stored, left)
	}
	r.server.Doveadm("expunge", "-u", "dst", "mailbox", "Old", "all")
	r.pass()
	r.same(r.stored("INBOX"), count(messages))
	if left := r.server.Count("src", "INBOX"); left != 0 {
		t.Errorf("%d left", left)
	}
}

func TestDovecot_foldersAndFlags(t *testing.T) {
	for _, option := range []dovecot.Option{"", dovecot.DotSeparator, dovecot.Courier} {
		t.Run(string(option), func(t *testing.T) {
			r := newRig(t, option)
			set, err := rules.Compile([]rules.Rule{
				{
					Name: "lists", If: &rules.Cond{Test: &rules.Test{Key: "list_id", Patterns: []rules.Pattern{{Kind: rules.Exists, Text: "yes"}}}},
					Then: rules.Then{Folders: []string{"Lists/${list_id}"}, Flags: []string{"seen", "fetched"}},
				},
				{
					Name: "umlauts", If: &rules.Cond{Test: &rules.Test{Key: "subject", Patterns: []rules.Pattern{{Kind: rules.Contains, Text: "grüße"}}}},
					Then: rules.Then{Folders: []string{"Grüße & Küsse"}},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			r.job.Rules = set
			r.server.Put("src", "INBOX",
				[]byte("List-Id: Go <golang.example.com>\r\nSubject: one\r\n\r\n1\r\n"),
				[]byte("Subject: =?utf-8?q?Viele_Gr=C3=BC=C3=9Fe?=\r\n\r\n2\r\n"),
				[]byte("Subject: else\r\n\r\n3\r\n"))
			r.pass()
			folders := r.server.Folders("dst")
			list := slices.IndexFunc(folders, func(f string) bool { return strings.Contains(f, "golang") })
			if list < 0 || len(folders) < 3 {
				t.Fatalf("folders %q", folders)
			}
			got := r.server.Messages("dst", folders[list])
			if len(got) != 1 || !slices.Contains(got[0].Flags, `\Seen`) || !slices.Contains(got[0].Flags, "fetched") {
				t.Errorf("%s: %+v", folders[list], got)
			}
			if len(r.server.Messages("dst", "INBOX")) != 1 {
				t.Errorf("INBOX has %d", r.server.Count("dst", "INBOX"))
			}
			if sub := r.server.Subscribed("dst"); !slices.Contains(sub, folders[list]) {
				t.Errorf("subscribed: %q", sub)
			}
		})
	}
}

// What a sender writes never leads out of the folder that a rule gives it, however
// the server names its folders.
func TestDovecot_hostileNames(t *testing.T) {
	names := []string{
		"../x", "/etc", "a//b", "a.b", "..", "~root", "&", "&AAA-", "inbox", "INBOX/x", "%*", "a\\\\b", "\u202egpj", "tab\there",
		"trailing. ", ".", strings.Repeat("n", 300), strings.Repeat("ü", 200), "日本", "\"q\"", "{3}", "a\x00b",
	}
	for _, option := range []dovecot.Option{"", dovecot.DotSeparator, dovecot.Courier} {
		t.Run(string(option), func(t *testing.T) {
			r := newRig(t, option)
			all := &rules.Cond{Test: &rules.Test{Key: "subject", Patterns: []rules.Pattern{{Kind: rules.Regex, Text: "(?s)^(.*)$"}}}}
			set, err := rules.Compile([]rules.Rule{{Name: "r", If: all, Then: rules.Then{Folders: []string{"Lists/${1}"}}}})
			if err != nil {
				t.Fatal(err)
			}
			r.job.Rules = set
			var messages [][]byte
			for i, name := range names {
				messages = append(messages, fmt.Appendf(nil, "Message-ID: <%d@x>\r\nSubject: %s\r\n\r\n%d\r\n", i, name, i))
			}
			r.server.Put("src", "INBOX", messages...)
			if report := r.pass(); report.Delivered != len(names) || report.Failed != 0 {
				t.Errorf("%+v", report)
			}
			folders := slices.DeleteFunc(r.server.Folders("dst"), func(f string) bool { return strings.HasSuffix(f, "Lists") })
			r.same(r.stored(folders...), count(messages))
			for _, f := range folders {
				n := len(r.server.Messages("dst", f))
				if root := strings.TrimPrefix(f, "INBOX."); n > 0 && !strings.HasPrefix(root, "Lists/") && !strings.HasPrefix(root, "Lists.") {
					t.Errorf("%d in %q", n, f)
				}
			}
		})
	}
}

// The server goes away in the middle of it, and comes back.
func TestDovecot_killed(t *testing.T) {
	r := newRig(t)
	var messages [][]byte
	for _, m := range corpus.Small(4, 1000) {
		messages = append(messages, m.Raw)
	}
	r.server.Put("src", "INBOX", messages...)
	ctx := context.Background()
	st, err := state.Open(ctx, r.db, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	home, _ := r.imap.Open("home", nil)
	seen := 0
	f := &fetcher.Fetcher{Targets: map[string]targets.Target{"home": home}, State: st, Spool: t.TempDir(), Event: func(e fetcher.Event) {
		if e.Kind == fetcher.Delivered {
			if seen++; seen == 1 {
				r.server.Kill()
			}
		}
	}}
	report, err := f.Pass(ctx, r.job, r.account)
	if err == nil && report.Failed == 0 {
		t.Errorf("nobody noticed: %+v", report)
	}
	home.Close()
	st.Close()
	r.server.Restart()
	// On a machine with much else to do a log-in may take longer than a pass
	// waits; what it leaves is for the next.
	for try := 1; ; try++ {
		report := r.pass()
		if report.Failed == 0 {
			break
		}
		if t.Logf("pass %d: %+v", try, report); try == 3 {
			t.Fatal("the server is there again, and mail is still left")
		}
	}
	r.same(r.stored("INBOX"), count(messages))
}

func TestDovecot_locked(t *testing.T) {
	r := newRig(t, dovecot.LockSession)
	r.server.Put("src", "INBOX", []byte("Subject: x\r\n\r\n"))
	other, err := maildrop.Dial(context.Background(), &r.account.Maildrop, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.List(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, err = maildrop.Dial(context.Background(), &r.account.Maildrop, nil)
	if e, ok := err.(*maildrop.Error); !ok || e.Code != maildrop.InUse {
		t.Errorf("%v", err)
	}
}
