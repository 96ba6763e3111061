package rules

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// to is a rule that always matches.
func to(name string, folders ...string) Rule { return Rule{Name: name, Then: Then{Folders: folders}} }

func (r Rule) flags(flags ...string) Rule { r.Then.Flags = flags; return r }
func (r Rule) on() Rule                   { r.Continue = true; return r }
func (r Rule) drop() Rule                 { r.Then.Drop = true; return r }
func (r Rule) skip() Rule                 { r.Then.Skip = true; return r }
func (r Rule) never() Rule                { r.If = &Cond{Any: []Cond{}}; return r }
func (r Rule) only(accounts ...string) Rule {
	r.Accounts = accounts
	return r
}

func (r Rule) at(targets ...string) Rule { r.Then.Targets = targets; return r }
func (r Rule) rcpt(to ...string) Rule    { r.Then.To = to; return r }

const day = 24 * time.Hour

// keep is for ever if d is negative.
func (r Rule) keep(d time.Duration) Rule {
	r.Then.Keep = &Keep{For: d}
	if d < 0 {
		r.Then.Keep = &Keep{Forever: true}
	}
	return r
}

func (w Delivery) at(target string) Delivery { w.Target = target; return w }

func delivery(rule, folder string, flags ...string) Delivery {
	return Delivery{Rule: rule, Dest: Dest{Folder: folder, Flags: flags}}
}

func TestDecide(t *testing.T) {
	tests := map[string]struct {
		rules []Rule
		want  Decision
	}{
		"no rules": {nil, Decision{Deliver: []Delivery{{}}}},
		"no match": {[]Rule{to("a", "A").never()}, Decision{Deliver: []Delivery{{}}}},
		"first match wins": {
			[]Rule{to("a", "A").never(), to("b", "B"), to("c", "C")},
			Decision{Matched: []string{"b"}, Deliver: []Delivery{delivery("b", "B")}},
		},
		"several folders": {
			[]Rule{to("a", "A", "B/C").flags("seen")},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("a", "A", "seen"), delivery("a", "B/C", "seen")}},
		},
		"no folder is the target's own": {
			[]Rule{to("a").flags("flagged")},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("a", "", "flagged")}},
		},
		"nothing at all ends the rules": {
			[]Rule{to("a"), to("b", "B")},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("a", "")}},
		},
		"continue adds": {
			[]Rule{to("a", "A").on(), to("b", "B")},
			Decision{Matched: []string{"a", "b"}, Deliver: []Delivery{delivery("a", "A"), delivery("b", "B")}},
		},
		"continue cancels the implicit keep": {
			[]Rule{to("a", "A").on(), to("b", "B").never()},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("a", "A")}},
		},
		"continue without a place marks what follows": {
			[]Rule{to("a").flags("flagged").on(), to("b", "B", "C").flags("seen").on(), to("c").flags("$x", "Seen").on(), to("d", "D")},
			Decision{Matched: []string{"a", "b", "c", "d"}, Deliver: []Delivery{
				delivery("b", "B", "seen", "flagged"), delivery("b", "C", "seen", "flagged"), delivery("d", "D", "flagged", "$x", "Seen"),
			}},
		},
		"continue without a place marks the implicit keep": {
			[]Rule{to("a").flags("flagged").on(), to("b", "B").never()},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("", "", "flagged")}},
		},
		"drop behind a mark": {
			[]Rule{to("a").flags("flagged").on(), to("b").drop()},
			Decision{Matched: []string{"a", "b"}, Action: Drop},
		},
		"targets": {
			[]Rule{to("a", "A", "B").at("home", "backup")},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{
				delivery("a", "A").at("home"), delivery("a", "B").at("home"), delivery("a", "A").at("backup"), delivery("a", "B").at("backup"),
			}},
		},
		"a target's own folder": {
			[]Rule{to("a").at("home").on(), to("b", "B")},
			Decision{Matched: []string{"a", "b"}, Deliver: []Delivery{delivery("a", "").at("home"), delivery("b", "B")}},
		},
		"recipients are united, not with the target's own": {
			[]Rule{to("a").rcpt("a@x.example").on(), to("b").rcpt("A@x.example", "b@x.example").flags("seen").on(), to("c")},
			Decision{Matched: []string{"a", "b", "c"}, Deliver: []Delivery{
				{Rule: "a", Dest: Dest{Rcpt: []string{"a@x.example", "b@x.example"}, Flags: []string{"seen"}}}, delivery("c", ""),
			}},
		},
		"the longest keep": {
			[]Rule{to("a", "A").keep(3 * day).on(), to("b", "B").keep(30 * day).on(), to("c", "C").keep(0)},
			Decision{Matched: []string{"a", "b", "c"}, Deliver: []Delivery{delivery("a", "A"), delivery("b", "B"), delivery("c", "C")}, Keep: &Keep{For: 30 * day}},
		},
		"for ever is the longest": {
			[]Rule{to("a").keep(-1).on(), to("b", "B").keep(30 * day)},
			Decision{Matched: []string{"a", "b"}, Deliver: []Delivery{delivery("b", "B")}, Keep: &Keep{Forever: true}},
		},
		"keep of a drop": {
			[]Rule{to("a").drop().keep(0)},
			Decision{Matched: []string{"a"}, Action: Drop, Keep: &Keep{}},
		},
		"a skip keeps all": {
			[]Rule{to("a", "A").keep(0).on(), to("b").skip()},
			Decision{Matched: []string{"a", "b"}, Action: Skip},
		},
		"equal deliveries are merged": {
			[]Rule{to("a", "A").flags("seen", "$x").on(), to("b", "A", "B").flags("flagged", "Seen").on(), to("c", "A").flags("$X")},
			Decision{Matched: []string{"a", "b", "c"}, Deliver: []Delivery{
				delivery("a", "A", "seen", "$x", "flagged"), delivery("b", "B", "flagged", "Seen"),
			}},
		},
		"one folder named twice": {
			[]Rule{to("a", "A", "A")},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("a", "A")}},
		},
		"INBOX has no case": {
			[]Rule{to("a", "inbox", "Inbox", "Inbox/x")},
			Decision{Matched: []string{"a"}, Deliver: []Delivery{delivery("a", "INBOX"), delivery("a", "Inbox/x")}},
		},
		"drop": {
			[]Rule{to("a").drop(), to("b", "B")},
			Decision{Matched: []string{"a"}, Action: Drop},
		},
		"skip": {
			[]Rule{to("a").skip(), to("b", "B")},
			Decision{Matched: []string{"a"}, Action: Skip},
		},
		"drop behind a delivery only ends": {
			[]Rule{to("a", "A").on(), to("b").drop(), to("c", "C")},
			Decision{Matched: []string{"a", "b"}, Deliver: []Delivery{delivery("a", "A")}},
		},
		"skip behind a delivery wins": {
			[]Rule{to("a", "A").on(), to("b").skip(), to("c", "C")},
			Decision{Matched: []string{"a", "b"}, Action: Skip},
		},
		"other account": {
			[]Rule{to("a", "A").only("old", "new"), to("b", "B").only("isp")},
			Decision{Matched: []string{"b"}, Deliver: []Delivery{delivery("b", "B")}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set := mustCompile(t, tt.rules...)
			got := set.Decide(message("Subject: x\r\n"))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if again := set.Decide(message("Subject: x\r\n")); !cmp.Equal(got, again) {
				t.Errorf("a second time: %+v", again)
			}
			explained := set.Explain(message("Subject: x\r\n"), func(Step) {})
			if !cmp.Equal(got, explained) {
				t.Errorf("Explain decides %+v", explained)
			}
		})
	}
}

// What every target is, is the job's to say; a copy is made once even so.
func TestDecision_For(t *testing.T) {
	d := Decision{Deliver: []Delivery{
		delivery("a", "A", "seen"), delivery("b", "A", "flagged").at("home"), delivery("b", "B").at("extra"),
	}}
	want := []Delivery{
		delivery("a", "A", "seen", "flagged").at("home"), delivery("a", "A", "seen").at("backup"), delivery("b", "B").at("extra"),
	}
	got := d.For([]string{"home", "backup"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got[0].Dest.Flags[0] = "changed"
	if d.Deliver[0].Dest.Flags[0] != "seen" {
		t.Error("the deliveries share their flags with the decision")
	}
}

func TestDecide_nilSet(t *testing.T) {
	var set *Set
	want := Decision{Deliver: []Delivery{{}}}
	if got := set.Decide(&Message{}); !cmp.Equal(got, want) {
		t.Errorf("Decide = %+v", got)
	}
	seen := 0
	if got := set.Explain(&Message{}, func(Step) { seen++ }); !cmp.Equal(got, want) || seen != 0 {
		t.Errorf("Explain = %+v in %d steps", got, seen)
	}
	if set.Only("a") != nil || set.Names() != nil {
		t.Error("a nil set has rules")
	}
}

// A decision is the caller's: what he does to it must not reach the set.
func TestDecide_sharesNothing(t *testing.T) {
	flags := []string{"seen"}
	rs := []Rule{to("a", "A", "B").flags(flags...).on(), to("b", "A").flags("flagged")}
	set := mustCompile(t, rs...)
	want := set.Decide(&Message{})
	flags[0], rs[0].Then.Folders[0] = "changed", "changed"
	first := set.Decide(&Message{})
	for _, d := range first.Deliver {
		for i := range d.Dest.Flags {
			d.Dest.Flags[i] = "changed"
		}
	}
	if got := set.Decide(&Message{}); !cmp.Equal(got, want) {
		t.Errorf("now %+v, before %+v", got, want)
	}
}

func TestSet_Only(t *testing.T) {
	set := mustCompile(t, to("a", "A"), to("b", "B").on(), to("c", "C"))
	only := set.Only("c", "b", "nobody")
	if got := only.Names(); !cmp.Equal(got, []string{"b", "c"}) {
		t.Errorf("Names = %q", got)
	}
	want := Decision{Matched: []string{"b", "c"}, Deliver: []Delivery{delivery("b", "B"), delivery("c", "C")}}
	if got := only.Decide(&Message{}); !cmp.Equal(got, want) {
		t.Errorf("Decide = %+v", got)
	}
	if got := set.Only().Decide(&Message{}); !cmp.Equal(got, Decision{Deliver: []Delivery{{}}}) {
		t.Errorf("without names: %+v", got)
	}
	if got := set.Names(); !cmp.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("Only changed the set: %q", got)
	}
}

// One set and one header serve all workers of a pass; the race detector looks on.
func TestDecide_concurrent(t *testing.T) {
	set, m := everyRule(t), message(matchMail)
	want := set.Decide(m)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := set.Explain(m, func(s Step) { s.Lines() }); !cmp.Equal(got, want) {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
	wg.Wait()
}
