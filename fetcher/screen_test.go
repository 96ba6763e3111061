package fetcher

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// obey gives the job rules.
func (w *world) obey(rs ...rules.Rule) {
	w.t.Helper()
	set, err := rules.Compile(rs)
	if err != nil {
		w.t.Fatal(err)
	}
	w.job.Rules = set
}

func bodyHas(s string) *rules.Cond {
	return &rules.Cond{Test: &rules.Test{Key: "body", Patterns: []rules.Pattern{{Kind: rules.Contains, Text: s}}}}
}

func mail(subject, body string) string {
	return "Message-ID: <" + subject + "@x>\r\nFrom: a@shop.example\r\nSubject: " + subject + "\r\n\r\n" + body + "\r\n"
}

func dropped(name string, c *rules.Cond) rules.Rule {
	return rules.Rule{Name: name, If: c, Then: rules.Then{Drop: true}}
}

func skipped(name string, c *rules.Cond) rules.Rule {
	return rules.Rule{Name: name, If: c, Then: rules.Then{Skip: true}}
}

// TestScreen tells how often headers and messages are asked for, and why.
func TestScreen(t *testing.T) {
	all := func(cs ...rules.Cond) *rules.Cond { return &rules.Cond{All: cs} }
	for name, tc := range map[string]struct {
		rules              []rules.Rule
		caps               []string
		top, retr          int
		drop, skip, arrive int
	}{
		"the header is enough": {rules: []rules.Rule{dropped("d", subject("spam")), skipped("s", subject("later"))}, top: 3, retr: 1, drop: 1, skip: 1, arrive: 1},
		"nothing to spare":     {rules: []rules.Rule{{Name: "r", If: subject("spam"), Then: rules.Then{Folders: []string{"Spam"}}}}, retr: 3, arrive: 3},
		"only the body tells":  {rules: []rules.Rule{dropped("d", bodyHas("pills"))}, retr: 3, drop: 1, arrive: 2},
		"the body may tell": {
			rules: []rules.Rule{dropped("d", all(*bodyHas("pills"), *subject("spam"))), dropped("e", subject("later"))},
			top:   3, retr: 2, drop: 2, arrive: 1,
		},
		"a rule above needs the body": {
			rules: []rules.Rule{{Name: "b", If: bodyHas("hello"), Then: rules.Then{Folders: []string{"B"}}}, dropped("d", subject("spam"))},
			top:   3, retr: 3, drop: 1, arrive: 2,
		},
		"other accounts only": {rules: []rules.Rule{{Name: "d", Accounts: []string{"old"}, Then: rules.Then{Drop: true}}}, retr: 3, arrive: 3},
		"no TOP":              {rules: []rules.Rule{dropped("d", subject("spam"))}, caps: []string{"UIDL", "USER", "PIPELINING"}, retr: 3, drop: 1, arrive: 2},
		"all are dropped":     {rules: []rules.Rule{dropped("d", nil)}, top: 3, drop: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pop.Caps = tc.caps
			w.start()
			w.obey(tc.rules...)
			w.add("a", mail("spam", "cheap pills"))
			w.add("b", mail("later", "x"))
			w.add("c", mail("news", "hello"))
			r := w.mustPass()
			if top, retr := w.saw("TOP"), w.saw("RETR"); top != tc.top || retr != tc.retr {
				t.Errorf("%d TOP, %d RETR, want %d, %d", top, retr, tc.top, tc.retr)
			}
			if r.Dropped != tc.drop || r.Skipped != tc.skip || r.Delivered != tc.arrive || r.Failed != 0 {
				t.Errorf("%+v", r)
			}
			kinds := w.kinds()
			if kinds[Dropped] != tc.drop || kinds[Skipped] != tc.skip {
				t.Errorf("events %v", kinds)
			}
			if again := w.mustPass(); again.Dropped != 0 || again.Skipped != tc.skip || again.New != 0 {
				t.Errorf("a second pass: %+v", again)
			}
		})
	}
}

// TestScreen_delete deletes what was dropped for its header only while it is
// still that message.
func TestScreen_delete(t *testing.T) {
	for name, tc := range map[string]struct {
		keep    Keep
		instead string // what has the UIDL after the first pass
		now     bool   // gone after the first pass
		later   bool   // gone after keep
	}{
		"at once":                 {keep: Keep{}, now: true, later: true},
		"after its time":          {keep: Keep{For: 3 * 24 * time.Hour}, later: true},
		"not other mail":          {keep: Keep{For: 3 * 24 * time.Hour}, instead: mail("news", "cheap pills")},
		"not other mail, smaller": {keep: Keep{For: 3 * 24 * time.Hour}, instead: mail("spam", "hello")},
		"never":                   {keep: Keep{Forever: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).start()
			w.account.Keep = tc.keep
			w.obey(dropped("d", subject("spam")))
			w.add("a", mail("spam", "cheap pills"))
			if r := w.mustPass(); (w.left() == 0) != tc.now || (r.Deleted == 1) != tc.now || w.saw("RETR") != 0 {
				t.Errorf("%d left, %d RETR, %+v", w.left(), w.saw("RETR"), r)
			}
			if tc.instead != "" {
				w.pop.Remove("jane", "a")
				w.pop.Add("jane", "a", []byte(tc.instead))
				w.job.Rules = nil // so that it is wanted
			}
			w.now = w.now.Add(4 * 24 * time.Hour)
			w.mustPass()
			if (w.left() == 0) != tc.later {
				t.Errorf("%d left after its time", w.left())
			}
			w.mustPass()
			if want := tc.instead != ""; (w.target.count("INBOX") == 1) != want {
				t.Errorf("%d in the INBOX", w.target.count("INBOX"))
			}
		})
	}
}

// TestScreen_limits lets what is skipped every time not use up the limits, and
// drops also what is too large to be fetched.
func TestScreen_limits(t *testing.T) {
	w := newWorld(t).start()
	w.obey(skipped("s", subject("later")), dropped("d", subject("spam")))
	w.account.Limits = Limits{Messages: 2, MaxSize: 300}
	for i := range 5 {
		w.add(fmt.Sprint("s", i), mail("later", fmt.Sprint(i)))
	}
	w.add("big", mail("news", strings.Repeat("x", 400)))
	w.add("bigspam", mail("spam", strings.Repeat("x", 400)))
	for i := range 3 {
		w.add(fmt.Sprint("n", i), mail("news", fmt.Sprint(i)))
	}
	for i, want := range []Report{{New: 3, Skipped: 6, Dropped: 1}, {New: 1, Skipped: 6}} {
		r := w.mustPass()
		if r.New != want.New || r.Skipped != want.Skipped || r.Dropped != want.Dropped {
			t.Errorf("pass %d: %+v", i+1, r)
		}
	}
	if n := w.target.count("INBOX"); n != 3 {
		t.Errorf("%d delivered", n)
	}
}

// TestScreen_lost goes on over a new connection with what was found out.
func TestScreen_lost(t *testing.T) {
	w := newWorld(t)
	w.pop.Hook = func(session int, line string) maildroptest.Action {
		if session == 1 && strings.HasPrefix(line, "TOP 3 ") {
			return maildroptest.Action{Cut: maildroptest.FIN}
		}
		return maildroptest.Action{}
	}
	w.start()
	w.obey(dropped("d", subject("spam")))
	for i := range 4 {
		w.add(fmt.Sprint("s", i), mail("spam", fmt.Sprint(i)))
		w.add(fmt.Sprint("n", i), mail(fmt.Sprint("news", i), fmt.Sprint(i)))
	}
	if r := w.mustPass(); r.Dropped != 4 || r.Delivered != 4 || w.saw("RETR") != 4 {
		t.Errorf("%d RETR, %+v", w.saw("RETR"), r)
	}
}

// TestKeep_rule lets each message go when the rule that took it said, whatever
// the rules are by then.
func TestKeep_rule(t *testing.T) {
	const day = 24 * time.Hour
	w := newWorld(t).start()
	w.account.Keep = Keep{For: 5 * day}
	keep := func(name string, k rules.Keep) rules.Rule {
		return rules.Rule{Name: name, If: subject(name), Then: rules.Then{Folders: []string{"A"}, Keep: &k}}
	}
	w.obey(keep("now", rules.Keep{}), keep("soon", rules.Keep{For: 2 * day}), keep("late", rules.Keep{For: 9 * day}), keep("never", rules.Keep{Forever: true}))
	for _, s := range []string{"now", "soon", "late", "never", "else"} {
		w.add(s, mail(s, s))
	}
	left := func() string {
		var uidls []string
		for _, m := range w.pop.Messages("jane") {
			uidls = append(uidls, m.UIDL)
		}
		return strings.Join(uidls, " ")
	}
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, "soon late never else"}, {day, "soon late never else"}, {day, "late never else"}, {3 * day, "late never"}, {4 * day, "never"}, {30 * day, "never"}} {
		w.now = w.now.Add(step.wait)
		r := w.mustPass()
		w.job.Rules = nil
		if got := left(); got != step.want {
			t.Errorf("after %v: left %q, want %q\n%+v", step.wait, got, step.want, r)
		}
	}
	i := slices.IndexFunc(w.events, func(e Event) bool { return e.Kind == Deleted && e.UIDL == "soon" })
	if i < 0 || w.events[i].Reason != "keep: 2d" {
		t.Errorf("events %+v", w.events)
	}
}

// A rule's keep depends on a clock that can be trusted as the account's does.
func TestKeep_ruleClock(t *testing.T) {
	w := newWorld(t).start()
	w.obey(rules.Rule{Name: "r", Then: rules.Then{Keep: &rules.Keep{For: 24 * time.Hour}}})
	w.add("a", mail("a", "a"))
	w.mustPass()
	w.job.Rules = nil
	w.now = w.now.Add(10 * 365 * 24 * time.Hour)
	if r := w.mustPass(); r.Deleted != 0 || len(r.Warnings) != 1 {
		t.Errorf("%+v", r)
	}
}

// until_full spares what a rule keeps, and takes no account of other ages.
func TestKeep_ruleUntilFull(t *testing.T) {
	w := newWorld(t).start()
	w.account.Keep = Keep{Forever: true, UntilFull: 10}
	w.obey(rules.Rule{Name: "r", If: subject("never"), Then: rules.Then{Keep: &rules.Keep{Forever: true}}})
	w.add("never", mail("never", "x"))
	w.add("else", mail("else", "x"))
	w.mustPass()
	if left := w.pop.Messages("jane"); len(left) != 1 || left[0].UIDL != "never" {
		t.Errorf("left %v", left)
	}
}

var _ targets.Relay = (*posted)(nil)

// posted is a target that takes mail for recipients, and cannot be searched.
type posted struct {
	targets.Target
	store *store
	rcpt  []string
}

// Recipients makes it a relay.
func (p *posted) Recipients(to targets.Dest) []string {
	if len(to.Rcpt) == 0 {
		return []string{"own@x.example"}
	}
	return to.Rcpt
}

// Greet has nobody to greet.
func (p *posted) Greet() {}

func (p *posted) Deliver(ctx context.Context, m *targets.Message, to targets.Dest) (targets.Receipt, error) {
	rc, err := p.store.Deliver(ctx, m, targets.Dest{})
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.rcpt = append(p.rcpt, to.Rcpt...)
	return rc, err
}

// TestRoute_targets makes one copy for each folder of each target, and for each
// recipient.
func TestRoute_targets(t *testing.T) {
	w := newWorld(t).start()
	extra, relay := newStore(), &posted{store: newStore()}
	w.more = map[string]targets.Target{"extra": extra, "relay": relay}
	w.job.Targets = []string{"home", "relay"}
	w.obey(
		rules.Rule{Name: "mark", If: subject("bill"), Then: rules.Then{Flags: []string{"flagged"}}, Continue: true},
		rules.Rule{Name: "bill", If: subject("bill"), Then: rules.Then{Folders: []string{"Bills", "All"}, Targets: []string{"home", "extra"}}, Continue: true},
		rules.Rule{Name: "post", If: subject("bill"), Then: rules.Then{Targets: []string{"relay"}, To: []string{"a@x.example", "b@x.example"}}, Continue: true},
		rules.Rule{Name: "again", If: subject("bill"), Then: rules.Then{Targets: []string{"relay"}, Folders: []string{"no use"}, To: []string{"B@x.example", "c@x.example"}}},
	)
	w.account.Keep = Keep{}
	w.add("a", mail("bill", "x"))
	r := w.mustPass()
	for name, s := range map[string]*store{"home": w.target, "extra": extra} {
		for _, folder := range []string{"Bills", "All"} {
			if n := s.count(folder); n != 1 {
				t.Errorf("%d in %s of %s", n, folder, name)
			} else if flags := s.folders[folder][0].flags; !slices.Equal(flags, []string{"flagged"}) {
				t.Errorf("flags %q", flags)
			}
		}
	}
	if got := strings.Join(relay.rcpt, " "); got != "a@x.example b@x.example c@x.example" || relay.store.count("INBOX") != 1 {
		t.Errorf("recipients %q, of %d messages", got, relay.store.count("INBOX"))
	}
	if w.target.count("INBOX") != 0 || r.Delivered != 1 || w.left() != 0 {
		t.Errorf("%+v", r)
	}
	w.obey()
	w.add("b", mail("else", "x"))
	w.mustPass()
	if w.target.count("INBOX") != 1 || extra.count("INBOX") != 0 || relay.store.count("INBOX") != 2 || relay.rcpt[len(relay.rcpt)-1] != "own@x.example" {
		t.Errorf("without a rule: %q", relay.rcpt)
	}
}

// HasFolder tells folders that hold something.
func (s *store) HasFolder(_ context.Context, folder string) (bool, error) {
	return s.count(folder) > 0, nil
}

// TestFolders_limit makes fifty folders that mail names and no more, but as many
// as rules name.
func TestFolders_limit(t *testing.T) {
	w := newWorld(t).start()
	w.obey(
		rules.Rule{Name: "fixed", If: subject("fixed"), Then: rules.Then{Folders: []string{"Fixed"}}},
		rules.Rule{Name: "named", Then: rules.Then{Folders: []string{"By/${from_local}"}}, Continue: true},
		rules.Rule{Name: "inbox", If: subject("both"), Then: rules.Then{Folders: []string{"Both"}}},
	)
	add := func(i int, subject string) {
		w.add(fmt.Sprintf("%s%03d", subject, i), fmt.Sprintf("From: u%03d@x.example\r\nSubject: %s\r\n\r\n%d\r\n", i, subject, i))
	}
	w.target.add(targets.Dest{Folder: "By/u000"}, []byte("there before"))
	for i := range 60 {
		add(i, "one")
		add(i, "two")
	}
	add(59, "fixed")
	add(59, "both")
	r := w.mustPass()
	named := 0
	for folder, copies := range w.target.folders {
		if strings.HasPrefix(folder, "By/") {
			named++
			if len(copies) < 2 {
				t.Errorf("%d in %s", len(copies), folder)
			}
		}
	}
	if named != 51 || w.target.count("INBOX")+w.target.count("By/u059") < 18 || w.target.count("Fixed") != 1 || w.target.count("Both") != 1 {
		t.Errorf("%d folders, %d in the INBOX", named, w.target.count("INBOX"))
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "more than 50 new folders") {
		t.Errorf("warnings %q", r.Warnings)
	}
	if r.Failed != 0 || r.Delivered != 122 {
		t.Errorf("%+v", r)
	}
	if r = w.mustPass(); r.New != 0 {
		t.Errorf("a second pass: %+v", r)
	}
	// The state says where they are, so nothing is looked for elsewhere.
	st := w.open()
	defer st.Close()
	known, err := st.Known(context.Background(), w.account.Source())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range known.Messages {
		ds, err := st.Deliveries(context.Background(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.Status != state.DeliveryDelivered || d.Box != w.target.name(d.Folder) {
				t.Errorf("%+v", d)
			}
		}
	}
}

// TestFolders_oneBox makes one copy where two names mean one folder.
func TestFolders_oneBox(t *testing.T) {
	w := newWorld(t).start()
	w.target.refuses = map[string]bool{"No": true}
	w.obey(
		rules.Rule{Name: "inbox", If: subject("own"), Then: rules.Then{Folders: []string{"INBOX"}, Flags: []string{"seen"}}, Continue: true},
		rules.Rule{Name: "own", If: subject("own"), Then: rules.Then{Flags: []string{"Seen", "flagged"}}},
		rules.Rule{Name: "refused", If: subject("refused"), Then: rules.Then{Folders: []string{"No", "INBOX"}}},
	)
	w.account.Keep = Keep{}
	w.add("a", mail("own", "x"))
	w.add("b", mail("refused", "x"))
	if r := w.mustPass(); r.Delivered != 2 || r.Failed != 0 || w.left() != 0 {
		t.Errorf("%+v", r)
	}
	w.exactlyOnce()
	for _, c := range w.target.folders["INBOX"] {
		if strings.Contains(string(c.raw), "own") && !slices.Equal(c.flags, []string{"seen", "flagged"}) {
			t.Errorf("flags %q", c.flags)
		}
	}
}
