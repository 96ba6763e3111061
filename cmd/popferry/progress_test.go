package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/state"
	"popferry/targets"
)

// course is events of one pass after the other, at their times.
type course struct {
	at   time.Time
	view interface{ event(fetcher.Event) }
	pass string
}

func (c *course) event(after time.Duration, e fetcher.Event) {
	c.at = c.at.Add(after)
	if e.Account == "" {
		e.Job, e.Account = "isp-to-gmail", "isp"
	}
	e.Pass, e.Time = c.pass, c.at
	c.view.event(e)
}

func listedNow(messages int, octets int64) fetcher.Event {
	return fetcher.Event{Kind: fetcher.Listed, Total: fetcher.Totals{New: messages, NewBytes: octets}}
}

func outcome(kind fetcher.Kind, uidl string, octets int64) fetcher.Event {
	return fetcher.Event{Kind: kind, UIDL: uidl, Octets: octets, Target: "gmail"}
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)

// numbers are what most tests look at.
type numbers struct {
	done, of, duplicate, held, failed int
	octets, ofOctets                  int64
}

func numbersOf(p *progress, now time.Time) numbers {
	f := p.figures(now)
	return numbers{f.done.messages, f.of.messages, f.duplicate, f.held, f.failed, f.done.octets, f.of.octets}
}

// Events become numbers, over lost connections, several copies of a message, and
// passes that try again what failed.
func TestProgress(t *testing.T) {
	p := newProgress(parse(t, twoAccounts), nil)
	c := &course{at: noon, view: p, pass: "one"}
	check := func(what string, want numbers) {
		t.Helper()
		if d := cmp.Diff(want, numbersOf(p, c.at), cmp.AllowUnexported(numbers{})); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	c.event(0, fetcher.Event{Kind: fetcher.PassStart})
	c.event(0, listedNow(10, 1000))
	c.event(0, outcome(fetcher.Delivered, "a", 100))
	c.event(0, outcome(fetcher.Delivered, "a", 100)) // another copy
	c.event(0, outcome(fetcher.Duplicate, "b", 100))
	c.event(0, outcome(fetcher.Delivered, "c", 100))
	c.event(0, outcome(fetcher.Failed, "c", 100)) // for its other target
	c.event(0, outcome(fetcher.Dropped, "d", 100))
	check("a pass", numbers{done: 4, of: 10, duplicate: 1, failed: 1, octets: 400, ofOctets: 1000})

	c.event(0, listedNow(5, 480)) // the connection was lost, and one message is there no more
	c.event(0, outcome(fetcher.Held, "e", 100))
	c.event(0, outcome(fetcher.Failed, "f", 100))
	check("after a lost connection", numbers{done: 6, of: 9, duplicate: 1, held: 1, failed: 2, octets: 600, ofOctets: 880})
	c.event(0, fetcher.Event{Kind: fetcher.PassEnd, Report: &fetcher.Report{}})

	c.pass = "two"
	c.event(time.Hour, fetcher.Event{Kind: fetcher.PassStart})
	check("what failed is to do again", numbers{done: 4, of: 9, duplicate: 1, held: 1, failed: 2, octets: 400, ofOctets: 880})
	c.event(0, listedNow(6, 600)) // c, f, three more, and e, which was held
	c.event(0, outcome(fetcher.Delivered, "c", 100))
	c.event(0, outcome(fetcher.Failed, "f", 100))
	check("again", numbers{done: 6, of: 10, duplicate: 1, held: 1, failed: 1, octets: 600, ofOctets: 1000})
	c.event(0, outcome(fetcher.Delivered, "e", 100))
	check("what was held", numbers{done: 6, of: 9, duplicate: 1, failed: 1, octets: 600, ofOctets: 900})
	for _, uidl := range []string{"g", "h", "i"} {
		c.event(0, outcome(fetcher.Delivered, uidl, 1000)) // LIST lied
	}
	check("more than LIST said", numbers{done: 9, of: 9, duplicate: 1, failed: 1, octets: 3600, ofOctets: 3600})
	c.event(0, fetcher.Event{Kind: fetcher.PassEnd, Report: &fetcher.Report{}})

	c.pass = "three"
	c.event(0, fetcher.Event{Kind: fetcher.PassStart})
	c.event(0, listedNow(1, 100))
	c.event(0, outcome(fetcher.Delivered, "f", 100))
	check("all is well", numbers{done: 9, of: 9, duplicate: 1, octets: 3600, ofOctets: 3600})
}

// What was counted is forgotten with its pass, what failed is not.
func TestProgress_forgets(t *testing.T) {
	p := newProgress(parse(t, twoAccounts), nil)
	c := &course{at: noon, view: p, pass: "one"}
	c.event(0, fetcher.Event{Kind: fetcher.PassStart})
	for i := range 1000 {
		c.event(0, outcome(fetcher.Delivered, fmt.Sprint(i), 1))
	}
	c.event(0, outcome(fetcher.Failed, "x", 1))
	c.event(0, fetcher.Event{Kind: fetcher.PassEnd, Report: &fetcher.Report{}})
	if h := p.accounts["isp"]; len(h.seen) != 0 || len(h.setbacks) != 1 || h.done.messages != 1001 {
		t.Errorf("%d seen, %d setbacks, %d done", len(h.seen), len(h.setbacks), h.done.messages)
	}
}

// Several accounts are one progress; it waits when all of them do.
func TestProgress_accounts(t *testing.T) {
	p := newProgress(parse(t, twoAccounts), nil)
	c := &course{at: noon, view: p, pass: "one"}
	old := func(e fetcher.Event) fetcher.Event {
		e.Job, e.Account = "old-to-gmail", "old"
		return e
	}
	c.event(0, fetcher.Event{Kind: fetcher.PassStart})
	c.event(0, old(fetcher.Event{Kind: fetcher.PassStart}))
	if f := p.figures(c.at); f.listing != noon || f.accounts(c.at) != "isp listing, old listing" {
		t.Errorf("%+v", f)
	}
	c.event(0, listedNow(10, 1000))
	c.event(0, old(listedNow(5, 500)))
	c.event(time.Second, outcome(fetcher.Delivered, "a", 100))
	c.event(time.Second, old(outcome(fetcher.Delivered, "a", 100)))
	at := c.at
	c.event(0, fetcher.Event{Kind: fetcher.Waiting, Until: at.Add(2 * time.Hour), Reason: "it is \x1b late"})
	f := p.figures(at)
	if f.name != "2 jobs" || f.account != "" || f.done.messages != 2 || f.of.messages != 15 || !f.until.IsZero() || f.rate != 50 {
		t.Errorf("%+v", f)
	}
	if got := f.accounts(at); got != `isp waits until 14:00: it is \x1b late, old 1/5` {
		t.Errorf("%s", got)
	}
	used := &targets.UsedUp{Rate: targets.Rate{Text: "500M/day"}, Until: at.Add(time.Hour)}
	c.event(0, old(fetcher.Event{Kind: fetcher.Waiting, Until: at.Add(time.Hour), Err: fmt.Errorf("gmail: %w", used)}))
	if f := p.figures(at); f.until != at.Add(time.Hour) || f.why != "500M/day is used up" {
		t.Errorf("%v %q", f.until, f.why)
	}
	if got := p.figures(at).line(at).left; got != "waits until 13:00: 500M/day is used up" {
		t.Errorf("%q", got)
	}
	c.event(time.Hour, old(fetcher.Event{Kind: fetcher.PassStart}))
	if f := p.figures(c.at); !f.until.IsZero() {
		t.Errorf("still waits until %v", f.until)
	}
	c.event(0, old(fetcher.Event{Kind: fetcher.PassEnd, Report: &fetcher.Report{}}))
	if f := p.figures(c.at); f.until != at.Add(2*time.Hour) || len(f.underWay) != 1 {
		t.Errorf("%+v", f)
	}
}

// Of a migration the whole is known from its plan, also what has not begun.
func TestProgress_moves(t *testing.T) {
	p := newProgress(parse(t, twoAccounts), nil)
	p.all, p.expect = 2, map[string]amount{"isp": {10, 1000}, "old": {5, 500}}
	c := &course{at: noon, view: p, pass: "one"}
	told := func(want string) {
		t.Helper()
		f := p.figures(c.at)
		if got := fmt.Sprintf("%s %d/%d %d", f.name, f.done.messages, f.of.messages, f.of.octets); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	told("0/2 accounts 0/15 1500")
	c.event(0, fetcher.Event{Kind: fetcher.PassStart})
	c.event(0, listedNow(8, 900))
	c.event(time.Second, outcome(fetcher.Delivered, "a", 100))
	told("0/2 accounts 1/13 1400")
	c.event(0, fetcher.Event{Kind: fetcher.PassEnd, Report: &fetcher.Report{}})
	told("1/2 accounts 1/13 1400")
	c.event(0, fetcher.Event{Kind: fetcher.Comparing})
	told("0/2 accounts 1/13 1400")
	if f := p.figures(c.at); !f.compares || f.line(c.at).left != "comparing both sides …" || f.accounts(c.at) != "isp comparing both sides" {
		t.Errorf("%+v", f)
	}
	c.event(0, fetcher.Event{Kind: fetcher.Compared})
	told("1/2 accounts 1/13 1400")
	p.all = 1
	told("isp 1/13 1400")
}

func TestTimeLeft(t *testing.T) {
	const mega, giga = 1_000_000, 1_000_000_000
	day := targets.Rate{N: 500 * mega, Octets: true, Per: 24 * time.Hour}
	hour := targets.Rate{N: 20 * mega, Octets: true, Per: time.Hour}
	hundred := targets.Rate{N: 100, Per: 24 * time.Hour}
	for _, c := range []struct {
		what    string
		left    amount
		pace    float64
		rations []ration
		want    string // "" if nobody can say
	}{
		{"nothing left", amount{}, 0, nil, "0s"},
		{"nothing moves", amount{1, 1000}, 0, nil, ""},
		{"LIST lied", amount{1, 0}, mega, nil, ""},
		{"a while", amount{100, 312 * mega}, mega, nil, "5m12s"},
		{"rounded up", amount{1, 1}, mega, nil, "1s"},
		{"for ever", amount{1, giga}, 1, nil, ""},
		{"a small rest of a day's rate", amount{9, 100 * mega}, mega, []ration{{rate: day, left: amount{9, 100 * mega}}}, "1m40s"},
		{"days of it", amount{9, 3400 * mega}, mega, []ration{{rate: day, left: amount{9, 3400 * mega}}}, "6d0h"},
		{"used up", amount{9, 100 * mega}, mega, []ration{{rate: day, left: amount{9, 100 * mega}, spent: amount{1, 500 * mega}}}, "1d0h"},
		{"more than all of it was spent", amount{9, 100 * mega}, mega, []ration{{rate: day, left: amount{9, 100 * mega}, spent: amount{1, giga}}}, "1d0h"},
		{"slower than the rate", amount{9, 600 * mega}, 1000, []ration{{rate: day, left: amount{9, 600 * mega}}}, "6d22h"},
		{"hours of it", amount{9, 100 * mega}, mega, []ration{{rate: hour, left: amount{9, 100 * mega}}}, "4h0m"},
		{"the stricter of two", amount{9, 600 * mega}, 10 * mega, []ration{{rate: day, left: amount{9, 600 * mega}}, {rate: hour, left: amount{9, 600 * mega}}}, "1d5h"},
		{"for another target", amount{9, 100 * mega}, mega, []ration{{rate: day}}, "1m40s"},
		{"messages", amount{250, 50 * mega}, mega, []ration{{rate: hundred, left: amount{250, 50 * mega}}}, "2d0h"},
		{"a rate that is kept to all the time", amount{600, mega}, mega, []ration{{rate: targets.Rate{N: 60, Per: time.Minute}, left: amount{600, mega}}}, "10m0s"},
	} {
		got := ""
		if d, ok := timeLeft(c.left, c.pace, c.rations); ok {
			got = eta(d)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestETA(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 6 * time.Second: "6s", 59*time.Second + 600*time.Millisecond: "1m0s", 312 * time.Second: "5m12s",
		3*time.Hour + 20*time.Minute + 50*time.Second: "3h20m", 52 * time.Hour: "2d4h",
	} {
		if got := eta(d); got != want {
			t.Errorf("eta(%v) = %q, want %q", d, got, want)
		}
	}
}

// The pace is that of the last half minute, or of longer where messages are few.
func TestPace(t *testing.T) {
	p := pace{began: noon}
	now := noon
	rate := func(what string, after time.Duration, want int) {
		t.Helper()
		now = now.Add(after)
		if got := int(p.rate(now)); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	rate("nothing yet", 10*time.Second, 0)
	p = pace{began: now}
	p.add(now.Add(100*time.Millisecond), 500)
	rate("not even two seconds", time.Second, 0)
	rate("some", time.Second, 250)
	for range 60 {
		p.add(now, 400)
		p.add(now.Add(500*time.Millisecond), 600)
		now = now.Add(time.Second)
	}
	rate("a minute", 0, 1000)
	for range 30 {
		p.add(now, 100)
		now = now.Add(time.Second)
	}
	rate("slower", 0, 100)
	rate("the last were few", 20*time.Second, 33)
	rate("long ago", 5*time.Minute, 0)
	for range 20 {
		p.add(now, 60_000)
		now = now.Add(time.Minute)
	}
	rate("one large message a minute", 0, 1000)
	if len(p.slots) > 10 {
		t.Errorf("%d slots", len(p.slots))
	}
}

// What a rate let through is forgotten after its time.
func TestBudget(t *testing.T) {
	b := &budget{rate: targets.Rate{N: 1, Per: 24 * time.Hour}}
	at := noon
	for range 10_000 {
		b.add(at, amount{1, 10})
		at = at.Add(time.Minute)
	}
	if got := b.spent(at); got.messages < 23*60 || got.messages > 24*60+30 || got.octets != int64(got.messages)*10 || len(b.slots) > 50 {
		t.Errorf("%+v in %d slots", got, len(b.slots))
	}
	if got := b.spent(at.Add(25 * time.Hour)); got != (amount{}) {
		t.Errorf("%+v", got)
	}
}

// The time left knows the rates of the configuration, and what was sent before.
func TestProgress_rates(t *testing.T) {
	config := parse(t, strings.Replace(twoAccounts, "gmail: {", "gmail: { rate: 500M/day,", 1))
	for _, c := range []struct {
		before map[string][]state.Sent
		want   string
	}{
		{nil, "7m28s"},
		{map[string][]state.Sent{"gmail": {{At: noon.Add(-time.Hour), Messages: 50, Octets: 200_000_000}}}, "1d0h"},
		{map[string][]state.Sent{"gmail": {{At: noon.Add(-25 * time.Hour), Messages: 50, Octets: 200_000_000}}}, "7m28s"},
	} {
		p := newProgress(config, c.before)
		run := &course{at: noon, view: p, pass: "one"}
		run.event(0, fetcher.Event{Kind: fetcher.PassStart})
		run.event(0, listedNow(100, 450_000_000))
		run.event(time.Second, outcome(fetcher.Delivered, "a", 2_000_000))
		if f := p.figures(noon.Add(2 * time.Second)); f.rate != 1_000_000 || !f.known || eta(f.left) != c.want {
			t.Errorf("%v: rate %d, %s left, want %s", c.before, f.rate, eta(f.left), c.want)
		}
	}
}

// A line of progress fits, whatever the width, and says what matters most.
func TestLine_layout(t *testing.T) {
	p := newProgress(parse(t, twoAccounts), nil)
	b := newBar(newStream(new(bytes.Buffer), new(screen)), p)
	plainly := func(_, text string) string { return text }
	large := figures{
		name: "oldhost-to-home", done: amount{10_914, 3_400_000_000}, of: amount{12_108, 3_800_000_000}, rate: 1_300_000, known: true, left: 312 * time.Second,
	}
	trouble := large
	trouble.duplicate, trouble.held, trouble.failed = 298, 2, 31
	waits := large
	waits.until, waits.why = noon.Add(125*time.Minute), "500M/day is used up"
	small := figures{name: "isp-to-gmail", done: amount{38, 12_400_000}, of: amount{57, 19_000_000}, rate: 1_100_000, known: true, left: 6 * time.Second}
	begins := figures{name: "会議の予定を転送する", done: amount{0, 0}, of: amount{57, 19_000_000}}
	ends := figures{name: "isp-to-gmail", done: amount{57, 18_000_000}, of: amount{57, 19_000_000}, duplicate: 2}
	lists := figures{name: "isp-to-gmail", listing: noon.Add(-time.Minute)}
	all := []figures{small, large, trouble, waits, begins, ends, lists}
	var got strings.Builder
	for _, width := range []int{120, 100, 80, 60, 40, 20, 8} {
		fmt.Fprintf(&got, "%d\n", width)
		for _, f := range all {
			fmt.Fprintf(&got, "|%s\n", f.line(noon).layout(width-1, plainly, b.rail))
		}
	}
	golden(t, "progress/lines.golden", got.String())
	if shown := blocks(readme(t), "text")[0]; !strings.Contains(got.String(), "|"+shown) {
		t.Errorf("the README shows %q, and no line is so", shown)
	}
	for width := range 130 {
		for _, f := range all {
			if got := f.line(noon).layout(width, plainly, b.rail); cells(got) > width {
				t.Errorf("%d cells are too many for %d: %q", cells(got), width, got)
			}
		}
	}
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "../../testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

// The bar is never above its end, and colours do not count.
func TestBar_rail(t *testing.T) {
	b := newBar(newStream(new(bytes.Buffer), new(screen)), nil)
	for part, want := range map[float64]string{0: "────────", 0.5: "━━━╸────", 1: "━━━━━━━━"} {
		if got := b.rail(part, 8); got != want {
			t.Errorf("rail(%v) = %q, want %q", part, got, want)
		}
	}
	b.s.color = true
	if got, want := b.rail(0.5, 8), "\x1b[32m━━━╸\x1b[0m\x1b[2m────\x1b[0m"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOctetsOf(t *testing.T) {
	for _, c := range []struct {
		done, of int64
		want     string
	}{
		{12_400_000, 19_000_000, "12.4 of 19.0 MB"},
		{2_400_000, 19_000_000, " 2.4 of 19.0 MB"},
		{24_000, 19_000_000, "24 KB of 19.0 MB"},
		{180_000_000, 3_900_000_000, "0.2 of 3.9 GB"},
		{12_000, 480_000, " 12 of 480 KB"},
		{0, 19_000_000, " 0.0 of 19.0 MB"},
		{0, 0, "0 of 0 B"},
		{1500, 2_000_000_000, "1.5 KB of 2.0 GB"},
	} {
		if got := octetsOf(c.done, c.of); got != c.want {
			t.Errorf("octetsOf(%d, %d) = %q, want %q", c.done, c.of, got, c.want)
		}
	}
}

func TestClock(t *testing.T) {
	for at, want := range map[time.Time]string{noon.Add(time.Minute): "12:01:00", noon.Add(time.Hour): "13:00", noon.Add(20 * time.Hour): "Nov 23 08:00", noon.AddDate(1, 0, 0): "Nov 22 12:00"} {
		if got := clock(at, noon); got != want {
			t.Errorf("%v: %q, want %q", at, got, want)
		}
	}
}

// elapse lets time go by in a bubble of synctest, and what is due then happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// taken returns what was written, and empties it: others go on writing.
func taken(a *app, written *bytes.Buffer) string {
	a.stdout.screen.mu.Lock()
	defer a.stdout.screen.mu.Unlock()
	text := written.String()
	written.Reset()
	return text
}

// A long run says once a minute how far it is, also when nothing happens, and
// nothing is left running.
func TestTextView_progress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, stderr := testApp(t)
		v := a.viewFor(parse(t, twoAccounts), runOptions{}, nil)
		c := &course{at: time.Now(), view: v, pass: "8f3k2"}
		c.event(0, fetcher.Event{Kind: fetcher.PassStart})
		c.event(0, listedNow(100, 1000))
		c.event(30*time.Second, outcome(fetcher.Delivered, "a", 600))
		c.event(0, outcome(fetcher.Delivered, "a", 600)) // another copy
		c.event(0, outcome(fetcher.Failed, "b", 10))
		elapse(59 * time.Second)
		if early := taken(a, stderr); early != "" {
			t.Errorf("too early: %s", early)
		}
		elapse(2 * time.Second)
		elapse(time.Minute)
		want := `msg=progress job=isp-to-gmail account=isp messages=2 of=100 bytes=610 of_bytes=1000 rate=10 left=39s duplicate=0 held=0 failed=1
msg=progress job=isp-to-gmail account=isp messages=2 of=100 bytes=610 of_bytes=1000 rate=5 left=1m18s duplicate=0 held=0 failed=1
`
		if d := cmp.Diff(want, regexp.MustCompile(`(?m)^time=\S+ level=INFO `).ReplaceAllString(taken(a, stderr), "")); d != "" {
			t.Error(d)
		}
		v.close()
		v.close()
		elapse(time.Hour)
		if late := taken(a, stderr); late != "" {
			t.Errorf("after the end: %s", late)
		}
	})
}

// Who asks is told, whatever the level of the log: as a line of it, above the
// bar, or as JSON.
func TestView_asked(t *testing.T) {
	for _, c := range []struct {
		what  string
		o     runOptions
		setup func(a *app)
		want  string
	}{
		{
			"a log",
			runOptions{},
			func(a *app) { a.level = 4 },
			"level=INFO msg=progress job=isp-to-gmail account=isp messages=1 of=4 bytes=10 of_bytes=40 rate=5 left=6s duplicate=0 held=0 failed=0 accounts=\"isp 1/4\"\n",
		},
		{
			"a terminal",
			runOptions{},
			func(a *app) { a.stderr.tty = true },
			"1 of 4 messages · 10 of 40 B · 5 B/s · 6s left · isp 1/4\n",
		},
		{
			"JSON",
			runOptions{json: true},
			func(*app) {},
			`{"type":"progress","messages":1,"of":4,"bytes":10,"of_bytes":40,"rate":5,"left_s":6,"duplicate":0,"held":0,"failed":0}` + "\n",
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, stdout, stderr := testApp(t)
				c.setup(a)
				asks := make(chan os.Signal, 1)
				c.o.asks = asks
				v := a.viewFor(parse(t, twoAccounts), c.o, nil)
				defer v.close()
				run := &course{at: time.Now(), view: v, pass: "8f3k2"}
				run.event(0, fetcher.Event{Kind: fetcher.PassStart})
				run.event(0, listedNow(4, 40))
				run.event(time.Second, outcome(fetcher.Delivered, "a", 10))
				elapse(2 * time.Second)
				taken(a, stdout) // what the events print
				asks <- os.Interrupt
				synctest.Wait()
				if got := taken(a, stdout) + taken(a, stderr); !strings.HasSuffix(got, c.want) || strings.Count(got, "\n") != 1 {
					t.Errorf("got  %swant %s", got, c.want)
				}
			})
		})
	}
}

// On a terminal it is a bar, which is as wide as the window is now, and nothing
// of it is left behind.
func TestTextView_bar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stdout, stderr := testApp(t)
		a.stderr.tty, a.stdout.tty = true, true
		var columns atomic.Int64
		columns.Store(80)
		a.stderr.columns = func() int { return int(columns.Load()) }
		v := a.viewFor(parse(t, twoAccounts), runOptions{progress: true}, nil)
		c := &course{at: time.Now(), view: v, pass: "8f3k2"}
		last := func() string {
			elapse(200 * time.Millisecond)
			drawn := strings.Split(taken(a, stderr), "\r")
			return drawn[len(drawn)-2]
		}
		c.event(0, fetcher.Event{Kind: fetcher.PassStart})
		c.event(0, listedNow(57, 1000))
		c.event(0, outcome(fetcher.Delivered, "a", 400))
		c.event(0, outcome(fetcher.Failed, "b", 100))
		if got, want := last(), "  isp-to-gmail  ━━━━━━━━━╸──────────   2/57  0.5 of 1.0 KB  ETA …      failed 1\x1b[J"; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for _, n := range []int{120, 40, 3} {
			columns.Store(int64(n))
			if got := cells(strings.TrimSuffix(last(), "\x1b[J")); got > n || n > 3 && got < n-10 {
				t.Errorf("%d cells on %d columns", got, n)
			}
		}
		columns.Store(80)
		c.event(0, fetcher.Event{Kind: fetcher.Waiting, Until: time.Now().Add(time.Hour), Reason: "a good reason"})
		if got := last(); !strings.Contains(got, "waits until ") || strings.Contains(got, "ETA") {
			t.Errorf("%q", got)
		}
		c.event(0, fetcher.Event{Kind: fetcher.PassEnd, Report: &fetcher.Report{Job: "isp-to-gmail", Account: "isp", New: 57}})
		if got := taken(a, stdout); !strings.HasPrefix(got, "✓ isp-to-gmail ") {
			t.Errorf("%q", got)
		}
		v.close()
		if got := taken(a, stderr); !strings.HasSuffix(got, clearLine) {
			t.Errorf("left behind: %q", got[max(0, len(got)-200):])
		}
	})
}

// Lines of JSON come at most once a second, when there is something new; a run
// that stands still says so once a minute, and the end is told.
func TestJSONView_progress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stdout, _ := testApp(t)
		v := newJSONView(a, parse(t, twoAccounts), viewOptions{progress: true})
		c := &course{at: time.Now(), view: v, pass: "8f3k2"}
		lines := func(after time.Duration) int {
			elapse(after)
			return strings.Count(taken(a, stdout), `{"type":"progress"`)
		}
		c.event(0, listedNow(57, 1000))
		for i := range 10 {
			c.event(0, outcome(fetcher.Delivered, fmt.Sprint(i), 10))
		}
		if n := lines(1500 * time.Millisecond); n != 1 {
			t.Errorf("%d lines in the first second", n)
		}
		lines(10 * time.Minute)
		if n := lines(10 * time.Minute); n < 10 || n > 11 {
			t.Errorf("%d lines in ten minutes of nothing", n)
		}
		c.event(0, fetcher.Event{Kind: fetcher.Waiting, Until: noon.UTC(), Err: errors.New("no\x1b")})
		if got := taken(a, stdout); !strings.HasPrefix(got, `{"type":"waiting","job":"isp-to-gmail","account":"isp","until":"`) || !strings.HasSuffix(got, `"reason":"no\\x1b"}`+"\n") {
			t.Errorf("%s", got)
		}
		v.close()
		v.close()
		if want := `{"type":"progress","messages":10,"of":57,"bytes":100,"of_bytes":1000,"rate":0,"left_s":null,"duplicate":0,"held":0,"failed":0}` + "\n"; stdout.String() != want {
			t.Errorf("%s", stdout)
		}
	})
}

// What an account waits for is a line of the log.
func TestTextView_waiting(t *testing.T) {
	a, _, stderr := testApp(t)
	v := newTextView(a, parse(t, twoAccounts), viewOptions{})
	defer v.close()
	(&course{at: noon, view: v}).event(0, fetcher.Event{Kind: fetcher.Waiting, Until: time.Date(2026, 11, 23, 14, 5, 0, 0, time.UTC), Reason: "500M/day is used up"})
	if got := stderr.String(); !strings.HasSuffix(got, "msg=waiting job=isp-to-gmail account=isp until=2026-11-23T14:05:00Z err=\"500M/day is used up\"\n") {
		t.Errorf("%s", got)
	}
	// Somebody else tells how passes went.
	stderr.Reset()
	v.event(fetcher.Event{Kind: fetcher.PassEnd, Job: "isp-to-gmail", Account: "isp", Report: &fetcher.Report{}})
	if stderr.Len() > 0 {
		t.Errorf("%s", stderr)
	}
}

// What went to a target counts for its rates, also after a restart.
func TestSentBefore(t *testing.T) {
	ctx := t.Context()
	s, err := state.Open(ctx, filepath.Join(t.TempDir(), "popferry.db"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := &state.Message{UIDL: "a", Size: 100, Content: &state.Content{Octets: 100}}
	put := func(ch ...state.Change) {
		t.Helper()
		if err := s.Put(ctx, ch...); err != nil {
			t.Fatal(err)
		}
	}
	put(state.Listed{Account: &state.Account{Source: "pop.isp.example:995/jane", Name: "isp"}, New: []*state.Message{m}, Count: 1, At: noon})
	put(state.Routed{Message: m, Deliveries: []state.Delivery{{Message: m.ID, Target: "gmail"}}})
	put(state.Intent{Message: m.ID, Box: "INBOX", UIDValidity: 7, UIDNext: 11, At: noon})
	put(state.Delivered{Message: m.ID, Box: "INBOX", UIDValidity: 7, UID: 11, At: noon})
	c := parse(t, strings.Replace(twoAccounts, "gmail: {", "gmail: { rate: [10M/s, 500M/day],", 1))
	for after, want := range map[time.Duration]int{time.Hour: 1, 25 * time.Hour: 0} {
		before, err := sentBefore(ctx, c, s, noon.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		if got := before["gmail"]; len(got) != want || want > 0 && got[0].Octets != 100 {
			t.Errorf("after %v: %+v", after, got)
		}
	}
	for _, store := range []*state.Store{nil, s} {
		if before, err := sentBefore(ctx, parse(t, twoAccounts), store, noon); len(before) > 0 || err != nil {
			t.Errorf("without a rate: %v, %v", before, err)
		}
	}
}
