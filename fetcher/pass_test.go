package fetcher

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/testdata/corpus"
)

func TestMain(m *testing.M) { childMain(); goleak.VerifyTestMain(m) }

// world is a maildrop, a state and a target, and what happened to them.
type world struct {
	t       *testing.T
	pop     *maildroptest.Server
	db      string
	spool   string // "" is a new one for each pass
	target  *store
	more    map[string]targets.Target // beside home
	account *Account
	job     *Job
	now     time.Time

	mu     sync.Mutex
	events []Event
	source map[targets.Hash]int // every message ever put on the maildrop
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, pop: maildroptest.New("jane", "secret"), db: filepath.Join(t.TempDir(), "popferry.db"),
		target: newStore(), now: noon, source: map[targets.Hash]int{},
	}
	w.account = &Account{Name: "isp", Keep: Keep{Forever: true}}
	w.job = &Job{Name: "isp-to-home", Accounts: []*Account{w.account}, Targets: []string{"home"}}
	return w
}

// start starts the server; its settings are made before.
func (w *world) start() *world {
	w.t.Helper()
	if err := w.pop.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.pop.Close)
	w.account.Maildrop = maildrop.Config{Server: endpoint.Server{
		Host: w.pop.Host(), Port: w.pop.Port(), TLS: endpoint.Plain,
		User: "jane", Password: endpoint.SecretValue("secret"), Auth: "auto", Timeout: 5 * time.Second,
	}}
	return w
}

// add puts a message on the maildrop.
func (w *world) add(uidl, raw string) {
	w.pop.Add("jane", uidl, []byte(raw))
	if raw != "" && !strings.HasSuffix(raw, "\r\n") {
		raw += "\r\n" // without which no POP3 server can end a message
	}
	h, _, _ := targets.CanonOf(strings.NewReader(raw))
	w.source[h]++
}

func (w *world) fill(n int) {
	for i := range n {
		w.add(fmt.Sprintf("u%03d", i), fmt.Sprintf("Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nbody %d\r\n", i, i, i))
	}
}

// pass runs one pass with a state opened for it, as a process of its own would.
func (w *world) pass(ctx context.Context) (Report, error) {
	w.t.Helper()
	st, err := state.Open(ctx, w.db, state.Options{Now: func() time.Time { return w.now }})
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.Close()
	return w.fetcher(st).Pass(ctx, w.job, w.account)
}

func (w *world) fetcher(st *state.Store) *Fetcher {
	all := map[string]targets.Target{"home": w.target}
	maps.Copy(all, w.more)
	return &Fetcher{
		Targets: all, State: st, Now: func() time.Time { return w.now },
		inUse: []time.Duration{time.Millisecond, time.Millisecond},
		Spool: cmp.Or(w.spool, w.t.TempDir()),
		Event: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
}

func (w *world) mustPass() Report {
	w.t.Helper()
	r, err := w.pass(context.Background())
	if err != nil {
		w.t.Fatalf("pass: %v", err)
	}
	return r
}

// exactlyOnce demands that the target has every message that was ever on the
// maildrop once, and nothing else.
func (w *world) exactlyOnce() {
	w.t.Helper()
	if diff := diffCounts(w.target.hashes(), w.source); diff != "" {
		w.t.Error(diff)
	}
}

func diffCounts(got, want map[targets.Hash]int) string {
	var b strings.Builder
	for h, n := range want {
		if got[h] != n {
			fmt.Fprintf(&b, "message %.8s: %d copies, want %d\n", h, got[h], n)
		}
	}
	for h, n := range got {
		if want[h] == 0 {
			fmt.Fprintf(&b, "message %.8s: %d copies of what was never there\n", h, n)
		}
	}
	return b.String()
}

// saw counts commands the server was sent that begin with prefix.
func (w *world) saw(prefix string) int {
	n := 0
	for _, line := range w.pop.Log() {
		if _, cmd, _ := strings.Cut(line, ": "); strings.HasPrefix(cmd, prefix) {
			n++
		}
	}
	return n
}

func (w *world) kinds() map[Kind]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[Kind]int{}
	for _, e := range w.events {
		out[e.Kind]++
	}
	return out
}

func (w *world) left() int { return len(w.pop.Messages("jane")) }

func TestPass_keepsAndRemembers(t *testing.T) {
	w := newWorld(t).start()
	for i, m := range corpus.Nasty() {
		w.add(fmt.Sprintf("n%d", i), string(m.Raw))
	}
	n := w.left()
	r := w.mustPass()
	w.exactlyOnce()
	if r.New != n || r.Delivered != n || r.Failed+r.Held+r.Deleted != 0 || r.Left != n {
		t.Errorf("%+v", r)
	}
	marks := w.target.marks
	r = w.mustPass()
	w.exactlyOnce()
	if r.New != 0 || r.Delivered != 0 || w.target.marks != marks {
		t.Errorf("second pass: %+v, %d more marks", r, w.target.marks-marks)
	}
	if w.saw("RETR") != n || w.saw("DELE") != 0 || w.saw("QUIT") != 2 {
		t.Errorf("%d RETR, %d DELE, %d QUIT", w.saw("RETR"), w.saw("DELE"), w.saw("QUIT"))
	}
}

func TestPass_deletesAtOnce(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.fill(7)
	r := w.mustPass()
	w.exactlyOnce()
	if w.left() != 0 || r.Deleted != 7 || r.Left != 0 || w.kinds()[Deleted] != 7 {
		t.Errorf("%d left, %+v", w.left(), r)
	}
	w.add("u000", "Subject: the UIDL of a deleted message, again\r\n\r\nnew\r\n")
	w.mustPass()
	w.exactlyOnce()
	if w.left() != 0 {
		t.Errorf("%d left", w.left())
	}
}

// Deleting is only ever done in sessions that end, so a long pass has several.
func TestPass_sessionMessages(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{}
	w.account.Limits.SessionMessages = 3
	w.fill(10)
	r := w.mustPass()
	w.exactlyOnce()
	if w.left() != 0 || r.Deleted != 10 || r.OnServer != 10 || w.saw("QUIT") != 4 {
		t.Errorf("%d left, %d QUITs, %+v", w.left(), w.saw("QUIT"), r)
	}
	var toDo []int
	for _, e := range w.events {
		if e.Kind == Listed {
			toDo = append(toDo, e.Total.New)
		}
	}
	if !slices.Equal(toDo, []int{10, 7, 4, 1}) {
		t.Errorf("to do by the listings: %v", toDo)
	}
}

func TestPass_deletesAfterDays(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{For: 30 * day}
	w.fill(3)
	w.mustPass()
	w.now = w.now.Add(29 * day)
	w.add("late", "Subject: late\r\n\r\n")
	if r := w.mustPass(); r.Deleted != 0 || w.left() != 4 {
		t.Fatalf("too early: %+v", r)
	}
	w.now = w.now.Add(day)
	if r := w.mustPass(); r.Deleted != 3 || w.left() != 1 {
		t.Fatalf("%+v", r)
	}
	w.exactlyOnce()
	if w.saw("TOP") != 3 || w.saw("RETR") != 4 {
		t.Errorf("%d TOP, %d RETR", w.saw("TOP"), w.saw("RETR"))
	}
}

// Whoever gives an old UIDL to new mail must not have that mail destroyed.
func TestPass_deletesNothingElse(t *testing.T) {
	for _, c := range []struct {
		name string
		caps []string
		raw  string
	}{
		{"other header", nil, "Message-ID: <0@x>\r\nSubject: 1\r\n\r\nbody 0\r\n"},
		{"other size", nil, "Message-ID: <0@x>\r\nSubject: 0\r\n\r\nbody 00\r\n"},
		{"other body, no TOP", []string{"UIDL", "USER", "PIPELINING"}, "Message-ID: <0@x>\r\nSubject: 0\r\n\r\nbody 9\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.pop.Caps = c.caps
			w.start()
			w.account.Keep = Keep{For: day}
			w.fill(2)
			w.mustPass()
			w.pop.Remove("jane", "u000")
			w.pop.Add("jane", "u000", []byte(c.raw))
			w.now = w.now.Add(day)
			r := w.mustPass()
			if left := w.pop.Messages("jane"); len(left) != 1 || left[0].UIDL != "u000" || r.Deleted != 1 {
				t.Errorf("left %v, %+v", left, r)
			}
			if len(r.Warnings) == 0 {
				t.Error("nobody was told")
			}
		})
	}
}

func TestPass_rules(t *testing.T) {
	set, err := rules.Compile([]rules.Rule{
		{Name: "spam", If: subject("spam"), Then: rules.Then{Drop: true}},
		{Name: "later", If: subject("later"), Then: rules.Then{Skip: true}},
		{Name: "bill", If: subject("bill"), Then: rules.Then{Folders: []string{"Finance/${from_domain}"}, Flags: []string{"flagged"}}, Continue: true},
		{Name: "all", Then: rules.Then{Folders: []string{"All"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t).start()
	w.job.Rules = set
	w.account.Keep = Keep{}
	for _, s := range []string{"spam", "later", "bill", "else"} {
		w.add(s, "From: a@shop.example\r\nSubject: "+s+"\r\n\r\n"+s+"\r\n")
	}
	r := w.mustPass()
	if a, f, i := w.target.count("All"), w.target.count("Finance/shop.example"), w.target.count("INBOX"); a != 2 || f != 1 || i != 0 {
		t.Errorf("All %d, Finance %d, INBOX %d", a, f, i)
	}
	if got := w.target.folders["Finance/shop.example"][0].flags; len(got) != 1 || got[0] != "flagged" {
		t.Errorf("flags %v", got)
	}
	left := w.pop.Messages("jane")
	if len(left) != 1 || left[0].UIDL != "later" || r.Dropped != 1 || r.Skipped != 1 || r.Delivered != 2 {
		t.Errorf("left %v, %+v", left, r)
	}
	retr, top := w.saw("RETR"), w.saw("TOP")
	if w.mustPass(); w.saw("TOP") != top+1 || w.saw("RETR") != retr {
		t.Errorf("a skipped message is looked at again, and nothing else")
	}
}

func subject(s string) *rules.Cond {
	return &rules.Cond{Test: &rules.Test{Key: "subject", Patterns: []rules.Pattern{{Kind: rules.Is, Text: s}}}}
}

func TestPass_limits(t *testing.T) {
	w := newWorld(t).start()
	w.fill(10)
	w.account.Limits = Limits{Messages: 4}
	for i, want := range []int{4, 4, 2, 0} {
		if r := w.mustPass(); r.New != want {
			t.Errorf("pass %d: %d new, want %d", i+1, r.New, want)
		}
	}
	w.exactlyOnce()
	w.account.Limits = Limits{MaxSize: 100}
	w.add("big", "Subject: big\r\n\r\n"+strings.Repeat("x", 200)+"\r\n")
	if r := w.mustPass(); r.New != 0 || r.Skipped != 1 {
		t.Errorf("%+v", r)
	}
}
