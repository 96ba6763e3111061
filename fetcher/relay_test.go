package fetcher

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/smtp"
	"popferry/targets/targetstest"
)

// relayWorld is a world whose target is a scripted relay, for jane and john.
type relayWorld struct {
	*world
	relay *targetstest.SMTP
	to    targets.Target
	rates []targets.Rate
}

func newRelayWorld(t *testing.T, n int, like *targetstest.SMTP) *relayWorld {
	w := &relayWorld{world: newWorld(t), relay: like}
	w.fill(n)
	w.start()
	if err := like.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { like.Close() })
	c := smtp.Config{
		Server: endpoint.Server{Host: "127.0.0.1", Port: like.Port(), TLS: endpoint.Plain, Timeout: 5 * time.Second},
		LMTP:   like.LMTP, Recipients: both, Helo: "client.example", FinalReply: 500 * time.Millisecond,
	}
	var err error
	if w.to, err = c.Open("home", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.to.Close() })
	return w
}

// pass runs one pass, as world's does.
func (w *relayWorld) pass(ctx context.Context) (Report, error) {
	st := w.open()
	defer st.Close()
	return w.fetcher(st).Pass(ctx, w.job, w.account)
}

// fetcher has the relay for its target, and its rate.
func (w *relayWorld) fetcher(st *state.Store) *Fetcher {
	f := w.world.fetcher(st)
	f.Targets["home"] = w.to
	f.Rates = map[string][]targets.Rate{"home": w.rates}
	return f
}

// has is how many messages somebody got.
func (w *relayWorld) has(rcpt string) (n int) {
	for _, m := range w.relay.Messages() {
		if slices.Contains(m.Rcpt, rcpt) {
			n++
		}
	}
	return n
}

// nth does something at the n-th command of a kind, to jane or john.
func nth(verb string, n int, act targetstest.SMTPAction) func(targetstest.SMTPCommand) targetstest.SMTPAction {
	return func(c targetstest.SMTPCommand) targetstest.SMTPAction {
		if c.Verb == verb && (n == 0 || c.N == n) {
			return act
		}
		return targetstest.SMTPAction{}
	}
}

// john does something at each command of a kind that names john.
func john(verb, reply string) func(targetstest.SMTPCommand) targetstest.SMTPAction {
	return func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
		if c.Verb == verb && strings.Contains(c.Line, "john@") {
			act.Reply = reply
		}
		return act
	}
}

// TestRelay is section E of the fault matrix, met by whole passes. A message goes
// again to whom it failed for, and to nobody else; one that is refused is held
// after three times, and stays on the maildrop.
func TestRelay(t *testing.T) {
	cut := targetstest.SMTPAction{Cut: targetstest.CutBefore}
	stored := targetstest.SMTPAction{Cut: targetstest.CutStored}
	for _, row := range []struct {
		name       string
		lmtp, hold bool
		n          int // messages
		hook       func(targetstest.SMTPCommand) targetstest.SMTPAction
		passes     []string // what each pass reports
		jane, john int      // what they have in the end
	}{
		{"fine", false, false, 3, nil, []string{"3 new, 3 delivered, 3 deleted", ""}, 3, 3},
		{"94 MAIL", false, false, 1, nth("MAIL", 1, targetstest.SMTPAction{Reply: "451 4.3.0 later"}), []string{"1 new, 1 failed, 1 left", "1 new, 1 delivered, 1 deleted"}, 1, 1},
		{"94 RCPT", false, false, 1, nth("RCPT", 1, targetstest.SMTPAction{Reply: "450 4.2.0 greylisted"}), []string{"1 new, 1 failed, 1 left", "1 new, 1 delivered, 1 deleted"}, 1, 1},
		{"94 DATA", false, false, 1, nth("DATA", 1, targetstest.SMTPAction{Reply: "451 4.3.0 later"}), []string{"1 new, 1 failed, 1 left", "1 new, 1 delivered, 1 deleted"}, 1, 1},
		{"95", true, false, 1, john("RCPT", "550 5.1.1 who?"), []string{"1 new, 1 failed, 1 left", "1 new, 1 failed, 1 left", "1 new, 1 held, 1 left", "1 held, 1 left"}, 1, 0},
		{"95 quota", true, false, 1, john(".", "552 5.2.2 full"), []string{"1 new, 1 failed, 1 left", "1 new, 1 failed, 1 left", "1 new, 1 held, 1 left"}, 1, 0},
		{"95 everybody", false, false, 5, nth("RCPT", 0, targetstest.SMTPAction{Reply: "554 5.7.1 go away"}), []string{"5 new, 5 failed, 5 left", "5 new, 5 failed, 5 left", "5 new, 5 failed, 5 left", "5 new, 5 failed, 5 left"}, 0, 0},
		{"96 not taken", false, false, 1, nth(".", 1, cut), []string{"2 new, 1 delivered, 1 deleted, 2 sessions", ""}, 1, 1},
		{"96 taken", false, false, 1, nth(".", 1, stored), []string{"2 new, 1 delivered, 1 deleted, 2 sessions", ""}, 2, 2},
		{"96 late", false, false, 1, nth(".", 1, targetstest.SMTPAction{Wait: make(chan struct{})}), []string{"2 new, 1 delivered, 1 deleted, 2 sessions", ""}, 1, 1},
		{"96 hold, not taken", false, true, 1, nth(".", 1, cut), []string{"1 new, 1 held, 1 left, 2 sessions", "1 held, 1 left"}, 0, 0},
		{"96 hold, taken", false, true, 1, nth(".", 1, stored), []string{"1 new, 1 held, 1 left, 2 sessions", "1 held, 1 left"}, 1, 1},
		{"96 hold, half", true, true, 1, nth(".", 2, stored), []string{"1 new, 1 held, 1 left, 2 sessions", "1 held, 1 left"}, 1, 1},
		{"96 half", true, false, 1, nth(".", 2, stored), []string{"2 new, 1 delivered, 1 deleted, 2 sessions", ""}, 1, 2},
		{"96 always", false, false, 1, nth(".", 0, stored), []string{"3 new, 1 failed, 1 left, 3 sessions", "1 held, 1 left"}, 3, 3},
		{"98", true, false, 1, john(".", "452 4.2.2 full"), []string{"1 new, 1 failed, 1 left", "1 new, 1 failed, 1 left"}, 1, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newRelayWorld(t, row.n, &targetstest.SMTP{LMTP: row.lmtp, Hook: row.hook})
			w.account.Keep = Keep{}
			w.job.Hold = map[string]bool{"home": row.hold}
			for i, want := range row.passes {
				before := w.pop.Sessions()
				r, err := w.pass(t.Context())
				if got := outcome(r, err, w.pop.Sessions()-before); got != want {
					t.Errorf("pass %d: %s, want %s", i+1, got, want)
				}
				w.now = w.now.Add(time.Minute)
			}
			if a, b := w.has(both[0]), w.has(both[1]); a != row.jane || b != row.john {
				t.Errorf("jane has %d, john has %d, want %d and %d", a, b, row.jane, row.john)
			}
		})
	}
}

// TestRelay_oneTransaction: all recipients of a message are served together, each
// has a row of its own, and who has it gets it no more.
func TestRelay_oneTransaction(t *testing.T) {
	w := newRelayWorld(t, 1, &targetstest.SMTP{LMTP: true, Hook: john("RCPT", "450 4.2.0 later")})
	for range 2 {
		if _, err := w.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	st := w.open()
	defer st.Close()
	ds, err := st.Deliveries(t.Context(), 1)
	if err != nil || len(ds) != 2 {
		t.Fatalf("%d rows, %v", len(ds), err)
	}
	got := fmt.Sprintf("%s %s, %s %s %s", ds[0].Rcpt, ds[0].Status, ds[1].Rcpt, ds[1].Status, ds[1].Reply)
	want := "jane@home.example delivered, john@home.example failed RCPT TO:<john@home.example>: 450 4.2.0 later"
	if got != want || ds[1].Class != "transient" || ds[1].Attempts != 0 {
		t.Errorf("%s (%s, %d attempts), want %s", got, ds[1].Class, ds[1].Attempts, want)
	}
	if n := w.relay.Count("MAIL"); n != 2 || w.relay.Count("RCPT") != 3 {
		t.Errorf("%d MAIL, %d RCPT", n, w.relay.Count("RCPT"))
	}
}

// TestRelay_retryHeld: a message that was held is sent again when a person says
// so, to those who may not have it.
func TestRelay_retryHeld(t *testing.T) {
	w := newRelayWorld(t, 1, &targetstest.SMTP{LMTP: true, Hook: nth(".", 2, targetstest.SMTPAction{Cut: targetstest.CutBefore})})
	w.job.Hold = map[string]bool{"home": true}
	if r, err := w.pass(t.Context()); err != nil || r.Held != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	st := w.open()
	err := st.Put(t.Context(), state.Retry{Messages: []int64{1}, At: w.now})
	st.Close()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.pass(t.Context()); err != nil || r.Delivered != 1 || w.has(both[0]) != 1 || w.has(both[1]) != 1 {
		t.Errorf("%+v, %v; jane has %d, john %d", r, err, w.has(both[0]), w.has(both[1]))
	}
}

// TestRelay_twoRules: a recipient gets a message once, however many rules name a
// folder; a relay has none.
func TestRelay_twoRules(t *testing.T) {
	w := newRelayWorld(t, 1, &targetstest.SMTP{})
	set, err := rules.Compile([]rules.Rule{{Name: "both", Then: rules.Then{Folders: []string{"A", "B"}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.job.Rules = set
	if r, err := w.pass(t.Context()); err != nil || r.Delivered != 1 || w.has(both[0]) != 1 || w.has(both[1]) != 1 {
		t.Errorf("%+v, %v; jane has %d, john %d", r, err, w.has(both[0]), w.has(both[1]))
	}
}

// TestRelay_trace: what is put before a message tells where it was, and to the
// sender that the message names go failures.
func TestRelay_trace(t *testing.T) {
	w := newRelayWorld(t, 0, &targetstest.SMTP{})
	w.add("u1", "Return-Path: <bounces@list.example>\r\nFrom: a@b.example\r\n\r\nx\r\n")
	if _, err := w.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := w.relay.Messages()[0]
	if !strings.HasPrefix(string(m.Body), "Received: from 127.0.0.1\r\n\tby client.example (popferry) with POP3;\r\n\t") || m.From != "bounces@list.example" {
		t.Errorf("%q from %q", m.Body, m.From)
	}
}

// TestReturnPath: the empty path stays empty, or two mail systems could send each
// other failures for ever.
func TestReturnPath(t *testing.T) {
	for header, want := range map[string]string{
		"Return-Path: <a@b.example>\r\nFrom: c@d.example\r\n": "a@b.example",
		"Return-Path: <>\r\nFrom: c@d.example\r\n":            "",
		"Return-Path: junk\r\nFrom: c@d.example\r\n":          "",
		"Return-Path: <a> SIZE=1\r\nFrom: c@d.example\r\n":    "",
		"From: C <c@d.example>, e@f.example\r\n":              "c@d.example",
		"Sender: s@d.example\r\nFrom: c@d.example\r\n":        "s@d.example",
		"From: =?utf-8?q?C?= (x) <c@d.example>\r\n":           "c@d.example",
		"Subject: x\r\n": "",
		"From: " + strings.Repeat("(", 5000) + "\r\n":                    "",
		"Return-Path: <" + strings.Repeat("a", 5000) + "@b.example>\r\n": "",
	} {
		if got := returnPath(rules.ParseHeader([]byte(header + "\r\n"))); got != want {
			t.Errorf("%.60q: %q, want %q", header, got, want)
		}
	}
}
