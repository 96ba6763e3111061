package smtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/smtp"
	"popferry/targets/targetstest"
)

// at does something at the n-th command of a kind; n 0 is every one.
func at(verb string, n int, act targetstest.SMTPAction) func(targetstest.SMTPCommand) targetstest.SMTPAction {
	return func(c targetstest.SMTPCommand) targetstest.SMTPAction {
		if c.Verb == verb && (n == 0 || c.N == n) {
			return act
		}
		return targetstest.SMTPAction{}
	}
}

func says(reply string) targetstest.SMTPAction { return targetstest.SMTPAction{Reply: reply} }

var (
	cutBefore = targetstest.SMTPAction{Cut: targetstest.CutBefore}
	cutText   = targetstest.SMTPAction{Cut: targetstest.CutLiteral, Octets: 20}
	cutStored = targetstest.SMTPAction{Cut: targetstest.CutStored}
	silent    = targetstest.SMTPAction{Wait: make(chan struct{})}
)

// servers are the kinds of servers that every fault is met on.
var servers = map[string]kind{
	"smtp":           {},
	"smtp, in turns": {ext: withoutPipelining},
	"lmtp":           {lmtp: true},
}

type kind struct {
	lmtp bool
	ext  []string // nil is all
}

// TestDeliver_replies is section E of the fault matrix, rows 94 to 96: what the
// server does to the first message, and what becomes of that and of the next.
func TestDeliver_replies(t *testing.T) {
	const down, refused, transient, unsure, fine = targets.Down, targets.Refused, targets.Transient, targets.Unsure, targets.Fault(-1)
	for _, row := range []struct {
		verb  string
		n     int
		act   targetstest.SMTPAction
		want  targets.Fault
		reply string // part of what is said
		next  targets.Fault
	}{
		{"", 0, says("554 5.3.2 no service"), down, "greeting: 554 5.3.2 no service", down},
		{"", 0, says("421 4.3.2 too busy"), down, "greeting: 421 4.3.2 too busy", down},
		{"", 0, cutBefore, down, "greeting", down},
		{"", 0, silent, down, "greeting", down},
		{"HELLO", 0, says("421 4.3.2 too busy"), down, "HLO: 421 4.3.2 too busy", down},
		{"HELLO", 0, says("451 4.3.0 later"), down, "HLO: 451 4.3.0 later", down},
		{"HELLO", 0, cutBefore, down, "HLO", down},
		{"HELLO", 0, silent, down, "HLO", down},
		{"AUTH", 0, says("535 5.7.8 no"), down, `login as "jane": 535 5.7.8 no`, down},
		{"AUTH", 0, says("454 4.7.0 later"), down, `login as "jane": 454 4.7.0 later`, down},
		{"MAIL", 1, says("451 4.3.0 later"), down, "MAIL: 451 4.3.0 later", fine},
		{"MAIL", 1, says("421 4.3.2 going down"), down, "MAIL: 421 4.3.2 going down", fine},
		{"MAIL", 1, says("452 4.3.1 full"), down, "MAIL: 452 4.3.1 full", fine},
		{"MAIL", 1, says("530 5.7.0 log in first"), down, "MAIL: 530 5.7.0 log in first", fine},
		{"MAIL", 1, says("550 5.7.1 not you"), refused, "MAIL: 550 5.7.1 not you", fine},
		{"MAIL", 1, says("552 5.3.4 too big"), refused, "MAIL: 552 5.3.4 too big", fine},
		{"MAIL", 1, cutBefore, fine, "", fine}, // and sent again on another connection
		{"MAIL", 0, cutBefore, transient, "MAIL", down},
		{"MAIL", 0, silent, down, "MAIL", down},
		{"MAIL", 1, says("354 what"), fine, "", fine},
		{"RCPT", 1, says("450 4.2.0 greylisted"), transient, "RCPT TO:<jane@home.example>: 450 4.2.0 greylisted", fine},
		{"RCPT", 1, says("421 4.3.2 going down"), down, "RCPT: 421 4.3.2 going down", fine},
		{"RCPT", 1, says("550 5.1.1 who?"), refused, "RCPT TO:<jane@home.example>: 550 5.1.1 who?", fine},
		{"RCPT", 1, says("452 4.5.3 too many"), transient, "452 4.5.3", fine},
		{"RCPT", 1, cutBefore, fine, "", fine},
		{"RCPT", 0, cutBefore, transient, "RCPT", down},
		{"RCPT", 0, silent, down, "RCPT", down},
		{"DATA", 1, says("451 4.3.0 later"), transient, "DATA: 451 4.3.0 later", fine},
		{"DATA", 1, says("421 4.3.2 going down"), down, "DATA: 421 4.3.2 going down", fine},
		{"DATA", 1, says("554 5.7.1 no"), refused, "DATA: 554 5.7.1 no", fine},
		{"DATA", 1, cutBefore, fine, "", fine},
		{"DATA", 0, cutBefore, transient, "DATA", down},
		{"DATA", 0, silent, down, "DATA", down},
		{"DATA", 1, cutText, unsure, "the final dot", fine}, // it may have left before the connection broke
		{".", 1, says("451 4.3.0 later"), transient, "the final dot: 451 4.3.0 later", fine},
		{".", 1, says("452 4.2.2 full"), transient, "the final dot: 452 4.2.2 full", fine},
		{".", 1, says("452 4.3.1 disk full"), down, "the final dot: 452 4.3.1 disk full", fine},
		{".", 1, says("421 4.3.2 going down"), down, "the final dot: 421 4.3.2 going down", fine},
		{".", 1, says("552 5.2.2 over quota"), refused, "the final dot: 552 5.2.2 over quota", fine},
		{".", 1, says("554 5.6.0 spam"), refused, "the final dot: 554 5.6.0 spam", fine},
		{".", 1, cutBefore, unsure, "the final dot", fine},
		{".", 1, cutStored, unsure, "the final dot", fine},
		{".", 0, silent, unsure, "the final dot", unsure},
		{".", 1, says("354 go on"), unsure, "the final dot", fine},
		{".", 1, says("what is this"), unsure, "the final dot", fine},
	} {
		for name, s := range servers {
			t.Run(fmt.Sprintf("%s/%q %d %q cut %d", name, row.verb, row.n, row.act.Reply, row.act.Cut), func(t *testing.T) {
				t.Parallel()
				verb := row.verb
				if verb == "HELLO" {
					verb = map[bool]string{false: "EHLO", true: "LHLO"}[s.lmtp]
				}
				tg, srv := faulty(t, s, at(verb, row.n, row.act))
				for i, want := range []targets.Fault{row.want, row.next} {
					_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(i)), targets.Dest{})
					got := fine
					if err != nil {
						got = targets.FaultOf(err)
					}
					if got != want || i == 0 && err != nil && !strings.Contains(err.Error(), row.reply) {
						t.Errorf("message %d: %v (%v), want %v with %q", i, err, got, want, row.reply)
					}
				}
				for _, m := range srv.Messages() {
					if n := len(inbox(t, srv, jane)); n > 2 || len(m.Body) == 0 {
						t.Errorf("%d messages arrived, with %q", n, m.Body)
					}
				}
			})
		}
	}
}

// faulty is a target at a server with a fault, and impatient.
func faulty(t *testing.T, like kind, hook func(targetstest.SMTPCommand) targetstest.SMTPAction, change ...func(*smtp.Config)) (targets.Target, *targetstest.SMTP) {
	s := start(t, &targetstest.SMTP{LMTP: like.lmtp, Extensions: like.ext, Hook: hook})
	c := config(s, func(c *smtp.Config) { c.Timeout, c.FinalReply = 500*time.Millisecond, 500*time.Millisecond })
	for _, f := range change {
		f(&c)
	}
	return open(t, c), s
}

// TestDeliver_mixed is row 98: an outcome for each recipient.
func TestDeliver_mixed(t *testing.T) {
	list := []string{"a@x.example", "b@x.example", "c@x.example", "d@x.example"}
	faults := func(rc targets.Receipt) (out []string) {
		for _, r := range list {
			if err := rc.Failed[r]; err != nil {
				out = append(out, r[:1]+" "+targets.FaultOf(err).String())
			}
		}
		return out
	}
	for _, row := range []struct {
		name string
		like kind
		hook func(targetstest.SMTPCommand) targetstest.SMTPAction
		want []string
		err  bool
	}{
		{"lmtp, all kinds", servers["lmtp"], func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
			switch {
			case c.Verb == "RCPT" && strings.Contains(c.Line, "a@"):
				return says("550 5.1.1 who?")
			case c.Verb == "." && c.Line == list[1]:
				return says("452 4.2.2 full")
			case c.Verb == "." && c.Line == list[2]:
				return says("552 5.2.2 over quota")
			}
			return act
		}, []string{"a refused", "b transient", "c refused"}, false},
		{"lmtp, cut between replies", servers["lmtp"], at(".", 3, cutBefore), []string{"c unsure", "d unsure"}, false},
		{"lmtp, going down between replies", servers["lmtp"], at(".", 2, says("421 4.3.2 bye")), []string{"b down", "c unsure", "d unsure"}, false},
		{"smtp, at RCPT", servers["smtp"], at("RCPT", 2, says("450 4.2.0 greylisted")), []string{"b transient"}, false},
		{"smtp, after the dot", servers["smtp"], at(".", 1, says("554 5.6.0 spam")), []string{"a refused", "b refused", "c refused", "d refused"}, true},
		{"smtp, nobody", servers["smtp"], at("RCPT", 0, says("550 5.1.1 who?")), []string{"a refused", "b refused", "c refused", "d refused"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			tg, s := faulty(t, row.like, row.hook)
			rc, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{Rcpt: list})
			if got := faults(rc); !slices.Equal(got, row.want) || (err != nil) != row.err {
				t.Errorf("failed: %q (%v), want %q", got, err, row.want)
			}
			if got := s.Count("MAIL"); got != 1 {
				t.Errorf("%d transactions", got)
			}
		})
	}
}

// TestDeliver_nobodyButData: a server that asks for the text although nobody is to
// get it is hung up on; whatever ended the text would be a message.
func TestDeliver_nobodyButData(t *testing.T) {
	tg, s := faulty(t, servers["smtp"], func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
		switch {
		case c.Verb == "RCPT" && c.N == 1:
			act.Reply = "550 5.1.1 who?"
		case c.Verb == "DATA" && c.N == 1:
			act.Reply = "354 go ahead"
		}
		return act
	})
	_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{})
	if targets.FaultOf(err) != targets.Refused {
		t.Errorf("%v, want refused", err)
	}
	if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(2)), targets.Dest{}); err != nil {
		t.Errorf("the next message: %v", err)
	}
	if got := inbox(t, s, jane); len(got) != 1 || string(got[0].Body) != targetstest.Text(2) || len(s.Messages()) != 1 {
		t.Errorf("%d messages are there", len(got))
	}
}

// TestDeliver_unreadable: a message that cannot be read to its end is never
// submitted.
func TestDeliver_unreadable(t *testing.T) {
	for name, like := range servers {
		t.Run(name, func(t *testing.T) {
			tg, s := faulty(t, like, nil)
			text := targetstest.Text(1) + strings.Repeat("a long message\r\n", 10_000)
			m := targetstest.Message(text)
			m.Body = &failing{r: strings.NewReader(text), after: 3} // twice read well: once to look at it
			_, err := tg.Deliver(t.Context(), m, targets.Dest{})
			if err == nil || targets.FaultOf(err) != targets.Transient {
				t.Errorf("%v, want transient", err)
			}
			tg.Close()
			if n := len(s.Messages()); n != 0 {
				t.Errorf("%d messages were submitted", n)
			}
		})
	}
}

// failing fails after so many reads of its second half.
type failing struct {
	r     io.ReaderAt
	after int
}

func (f *failing) ReadAt(p []byte, at int64) (int, error) {
	if at >= 64<<10 {
		if f.after--; f.after < 0 {
			return 0, errors.New("disk error")
		}
	}
	return f.r.ReadAt(p, at)
}

// TestDeliver_abandoned: when the caller gives up, the message is not read any
// more once Deliver has returned, and it is told what is known.
func TestDeliver_abandoned(t *testing.T) {
	for _, row := range []struct {
		verb string
		want targets.Fault
	}{{"MAIL", targets.Transient}, {"DATA", targets.Transient}, {".", targets.Unsure}} {
		t.Run(row.verb, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var hung sync.Once
			wait := make(chan struct{})
			defer close(wait)
			tg, _ := faulty(t, servers["smtp"], func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
				if c.Verb == row.verb {
					hung.Do(func() { cancel(); act.Wait = wait })
				}
				return act
			}, func(c *smtp.Config) { c.Timeout = time.Minute })
			_, err := tg.Deliver(ctx, targetstest.Message(targetstest.Text(1)), targets.Dest{})
			if err == nil || targets.FaultOf(err) != row.want {
				t.Errorf("%v, want %v", err, row.want)
			}
		})
	}
}

// TestDeliver_closedBetween: sessions that the server ends between two messages
// cost nothing, whether it says so or not.
func TestDeliver_closedBetween(t *testing.T) {
	for name, like := range servers {
		t.Run(name, func(t *testing.T) {
			perSession := map[int]int{}
			tg, s := faulty(t, like, func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
				switch {
				case c.Verb == "." && c.N%3 == 0:
					act.Cut = targetstest.CutAfter
				case c.Verb == "MAIL" && perSession[c.Conn] == 2:
					act.Reply = "421 4.7.0 enough for one session"
				case c.Verb == "MAIL":
					perSession[c.Conn]++
				}
				return act
			}, func(c *smtp.Config) { c.Connections = 1 })
			for i := range 20 {
				if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(i)), targets.Dest{}); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			if got := len(inbox(t, s, jane)); got != 20 {
				t.Errorf("%d messages are there", got)
			}
		})
	}
}

// TestDeliver_fewConnections: a server that takes two connections only gets all
// messages on those.
func TestDeliver_fewConnections(t *testing.T) {
	var mu sync.Mutex
	open := 0
	tg, s := faulty(t, servers["smtp"], func(c targetstest.SMTPCommand) (act targetstest.SMTPAction) {
		if c.Verb == "" {
			mu.Lock()
			defer mu.Unlock()
			if open++; open > 2 {
				act.Reply = "421 4.7.0 too many connections"
			}
		}
		return act
	})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(i)), targets.Dest{}); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := len(inbox(t, s, jane)); got != 100 {
		t.Errorf("%d messages are there", got)
	}
}

// TestDeliver_pipelines: one round trip a message, no second EHLO, no RSET.
func TestDeliver_pipelines(t *testing.T) {
	s := start(t, &targetstest.SMTP{})
	p := &targetstest.Proxy{Server: s.Addr(), Delay: 25 * time.Millisecond} // so long that a busy machine adds little
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tg := open(t, config(s, func(c *smtp.Config) { c.Port, c.Connections = p.Port(), 1 }))
	const n = 50
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range n {
		wg.Go(func() {
			if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(i)), targets.Dest{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	const trip = 50 * time.Millisecond
	if trips := time.Since(begun) / trip; trips > n+n/2 {
		t.Errorf("%d messages took %d round trips", n, trips)
	}
	if s.Count("EHLO") != 1 || s.Count("RSET") != 0 || s.Count("MAIL") != n || s.Count("") != 1 {
		t.Errorf("%d EHLO, %d RSET, %d MAIL, %d connections", s.Count("EHLO"), s.Count("RSET"), s.Count("MAIL"), s.Count(""))
	}
}

// TestGreet: a session is there before the first message, and it is the one that
// takes it. Greeting again, or a target that is closed, does nothing.
func TestGreet(t *testing.T) {
	ready := make(chan struct{})
	s := start(t, &targetstest.SMTP{Hook: func(c targetstest.SMTPCommand) targetstest.SMTPAction {
		if c.Verb == "EHLO" {
			close(ready)
		}
		return targetstest.SMTPAction{}
	}})
	tg := open(t, config(s, func(c *smtp.Config) { c.Connections = 1 }))
	tg.(targets.Relay).Greet()
	tg.(targets.Relay).Greet()
	<-ready
	if n := s.Count("MAIL"); n != 0 {
		t.Errorf("%d MAILs before there was a message", n)
	}
	if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{}); err != nil {
		t.Error(err)
	}
	tg.Close()
	tg.(targets.Relay).Greet()
	if n := s.Count(""); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestDeliver_limits is row 99: SIZE, SMTPUTF8, 8BITMIME.
func TestDeliver_limits(t *testing.T) {
	eight := "Subject: gr\xfc\xdfe\r\n\r\nx\r\n"
	for _, row := range []struct {
		name, raw string
		ext       []string
		to        []string
		path      string
		mail      string // the MAIL line; "" if there is none
		fault     targets.Fault
	}{
		{"plain", "Subject: x\r\n\r\nx\r\n", nil, nil, "a@b.example", "MAIL FROM:<a@b.example> SIZE=120", 0},
		{"8-bit", eight, nil, nil, "", "MAIL FROM:<> SIZE=120 BODY=8BITMIME", 0},
		{"8-bit, not offered", eight, []string{"AUTH PLAIN"}, nil, "", "MAIL FROM:<>", 0},
		{"too big", strings.Repeat("x\r\n", 400), []string{"AUTH PLAIN", "SIZE 1000"}, nil, "", "", targets.Refused},
		{"SIZE without a number", "x\r\n", []string{"AUTH PLAIN", "SIZE"}, nil, "", "MAIL FROM:<> SIZE=120", 0},
		{"recipient in UTF-8", "x\r\n", nil, []string{"jürgen@home.example"}, "", "MAIL FROM:<> SIZE=120 SMTPUTF8", 0},
		{"recipient in UTF-8, not offered", "x\r\n", []string{"AUTH PLAIN"}, []string{"jürgen@home.example"}, "", "", targets.Refused},
		{"sender in UTF-8", "x\r\n", nil, nil, "jürgen@b.example", "MAIL FROM:<jürgen@b.example> SIZE=120 SMTPUTF8", 0},
		{"sender in UTF-8, not offered", "x\r\n", []string{"AUTH PLAIN"}, nil, "jürgen@b.example", "MAIL FROM:<>", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := start(t, &targetstest.SMTP{Extensions: row.ext})
			tg := open(t, config(s))
			m := targetstest.Message(row.raw)
			m.ReturnPath = row.path
			_, err := tg.Deliver(t.Context(), m, targets.Dest{Rcpt: row.to})
			if row.mail == "" {
				if err == nil || targets.FaultOf(err) != row.fault || s.Count("MAIL") > 0 {
					t.Errorf("%v after %d MAILs, want %v", err, s.Count("MAIL"), row.fault)
				}
				return
			}
			got := s.Messages()
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %d messages", err, len(got))
			}
			want := strings.Replace(row.mail, "SIZE=120", fmt.Sprintf("SIZE=%d", len(got[0].Body)), 1)
			if got[0].Mail != want || !bytes.Equal(untraced(t, got[0].Body), []byte(row.raw)) {
				t.Errorf("%q with %q, want %q", got[0].Mail, got[0].Body, want)
			}
		})
	}
}

// TestDeliver_sender is row 101: what a message says goes into the envelope only
// if it is an address and nothing else.
func TestDeliver_sender(t *testing.T) {
	s := start(t, &targetstest.SMTP{})
	for path, want := range map[string]string{
		"":                               "",
		"a@b.example":                    "a@b.example",
		`"a b"@c.example`:                `"a b"@c.example`,
		"a@[192.0.2.1]":                  "a@[192.0.2.1]",
		"a> SIZE=1":                      "",
		"a@b.example> SIZE=1":            "",
		"a@b.example\r\nDATA":            "",
		`"a>"@c.example`:                 "",
		"a b@c.example":                  "",
		"a@b.example,c@d.example":        "",
		"a\x00@b.example":                "",
		"a@b\u2028.example":              "",
		"@b.example":                     "",
		"a@":                             "",
		strings.Repeat("a", 5000) + "@b": "",
	} {
		for sender, want := range map[smtp.Sender]string{
			{}: want, {Empty: true}: "", {Address: "me@home.example"}: "me@home.example",
		} {
			tg := open(t, config(s, func(c *smtp.Config) { c.Sender = sender }))
			m := targetstest.Message(targetstest.Text(1))
			m.ReturnPath = path
			if _, err := tg.Deliver(t.Context(), m, targets.Dest{}); err != nil {
				t.Errorf("%q: %v", path, err)
				continue
			}
			all := s.Messages()
			if got := all[len(all)-1].From; got != want {
				t.Errorf("%.40q, %+v: MAIL FROM:<%s>, want <%s>", path, sender, got, want)
			}
		}
	}
	tg := open(t, config(s))
	_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{Rcpt: []string{"a@b.example> NOTIFY=NEVER"}})
	if targets.FaultOf(err) != targets.Refused {
		t.Errorf("a recipient that is none: %v", err)
	}
}

// TestDeliver_loop is row 102: what has been through thirty servers is not sent on.
func TestDeliver_loop(t *testing.T) {
	s := start(t, &targetstest.SMTP{})
	tg := open(t, config(s))
	field := "Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
	for n, want := range map[int]targets.Fault{30: -1, 31: targets.Refused, 400: targets.Refused} {
		raw := strings.Repeat(field, n) + "Subject: x\r\n\r\n" + strings.Repeat("Received: in the body\r\n", 40)
		_, err := tg.Deliver(t.Context(), targetstest.Message(raw), targets.Dest{})
		switch {
		case want >= 0 && (targets.FaultOf(err) != want || err == nil || !strings.Contains(err.Error(), "mail loop")):
			t.Errorf("%d fields: %v, want refused", n, err)
		case want < 0 && err != nil:
			t.Errorf("%d fields: %v", n, err)
		}
	}
}

// TestDeliver_circle: a message that comes back to where it was fetched from goes
// round no more than thirty times.
func TestDeliver_circle(t *testing.T) {
	s := start(t, &targetstest.SMTP{})
	tg := open(t, config(s))
	raw := targetstest.Text(1)
	for round := range 100 {
		_, err := tg.Deliver(t.Context(), targetstest.Message(raw), targets.Dest{})
		if err != nil {
			if round != 31 || targets.FaultOf(err) != targets.Refused {
				t.Errorf("round %d: %v", round, err)
			}
			return
		}
		all := s.Messages()
		raw = string(all[len(all)-1].Body)
	}
	t.Error("it goes round for ever")
}

// TestCheck looks at servers that are fine, and at some that are not.
func TestCheck(t *testing.T) {
	for _, row := range []struct {
		name string
		ext  []string
		hook func(targetstest.SMTPCommand) targetstest.SMTPAction
		want []string // "level text"
	}{
		{"fine", nil, nil, []string{"ok tcp", "ok connected to", "ok sends with one round trip", "ok takes messages up to 50M", "ok takes mail for jane@home.example"}},
		{"old", []string{"AUTH PLAIN"}, nil, []string{"ok tcp", "ok connected", "ok sends with four round trips", "warn the server does not offer 8BITMIME", "ok takes mail"}},
		{"no relay", nil, at("RCPT", 0, says("554 5.7.1 relay access denied")), []string{"ok", "ok", "ok", "ok", "fail RCPT TO:<jane@home.example>: 554 5.7.1 relay access denied"}},
		{"greylisting", nil, at("RCPT", 0, says("450 4.2.0 later")), []string{"ok", "ok", "ok", "ok", "warn RCPT TO:<jane@home.example>: 450 4.2.0 later"}},
		{"not us", nil, at("MAIL", 0, says("550 5.7.1 go away")), []string{"ok", "ok", "ok", "ok", "fail MAIL: 550 5.7.1 go away"}},
		{"password", nil, at("AUTH", 0, says("535 5.7.8 no")), []string{`fail login as "jane": 535 5.7.8 no`}},
		{"hangs up", nil, at("RCPT", 0, cutBefore), []string{"ok", "ok", "ok", "ok", "fail RCPT"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tg, s := faulty(t, kind{ext: row.ext}, row.hook)
			fs, err := tg.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range fs {
				got := f.Level + " " + f.Text
				if i >= len(row.want) || !strings.HasPrefix(got, row.want[i]) {
					t.Errorf("finding %d: %q", i, got)
				}
				if _, ok := errors.AsType[*targets.Error](f.Err); f.Level == "fail" && !ok {
					t.Errorf("%q has the error %v", got, f.Err)
				}
			}
			if len(fs) != len(row.want) || len(s.Messages()) > 0 || s.Count("DATA") > 0 {
				t.Errorf("%d findings, want %d; %d messages sent", len(fs), len(row.want), len(s.Messages()))
			}
		})
	}
}

// TestOpen_refuses what cannot be an address.
func TestOpen_refuses(t *testing.T) {
	for _, c := range []smtp.Config{
		{Recipients: []string{"jane"}},
		{Recipients: []string{"jane@home.example"}, Sender: smtp.Sender{Address: "a> SIZE=1"}},
	} {
		if _, err := c.Open("test", slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v is opened", c)
		}
	}
}
