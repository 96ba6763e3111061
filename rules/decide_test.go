package rules

import (
	"sync"
	"testing"

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
		"continue without a folder": {
			[]Rule{to("a").flags("flagged").on(), to("b", "B")},
			Decision{Matched: []string{"a", "b"}, Deliver: []Delivery{delivery("a", "", "flagged"), delivery("b", "B")}},
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
