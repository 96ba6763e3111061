package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawCond draws a condition that is about what drawMail draws.
func drawCond(t *rapid.T, depth int) Cond {
	kind := rapid.IntRange(0, 12).Draw(t, "kind")
	list := func() []Cond {
		conds := make([]Cond, rapid.IntRange(0, 3).Draw(t, "kids"))
		for i := range conds {
			conds[i] = drawCond(t, depth-1)
		}
		return conds
	}
	word := rapid.SampledFrom([]string{"a", "b", "c", "*a*", "?"}).Draw(t, "word")
	switch {
	case depth > 0 && kind == 0:
		return Cond{All: list()}
	case depth > 0 && kind == 1:
		return Cond{Any: list()}
	case depth > 0 && kind == 2:
		return Cond{Not: new(drawCond(t, depth-1))}
	case kind == 3:
		return where("body", Contains, word)
	case kind == 4:
		return where("body", Regex, "([ab])(c?)")
	case kind == 5:
		return Cond{Test: &Test{Key: "has_attachment", No: word == "a"}}
	case kind == 6:
		return Cond{Test: &Test{Key: rapid.SampledFrom([]string{"older_than", "newer_than"}).Draw(t, "key"), Age: 24 * time.Hour}}
	case kind == 7:
		return Cond{Test: &Test{Key: "spam", No: word == "b"}}
	case kind == 8:
		return where("subject", Regex, "([ab])")
	case kind == 9:
		return where("cc", Exists, "yes")
	default:
		return where(rapid.SampledFrom([]string{"from", "to", "recipient", "subject"}).Draw(t, "key"), Glob, word+"*")
	}
}

func drawRules(t *rapid.T) []Rule {
	rs := make([]Rule, rapid.IntRange(1, 6).Draw(t, "rules"))
	for i := range rs {
		c := drawCond(t, 3)
		rs[i] = Rule{Name: fmt.Sprint("r", i), If: &c, Continue: rapid.Bool().Draw(t, "continue")}
		then := &rs[i].Then
		switch rapid.IntRange(0, 5).Draw(t, "then") {
		case 0:
			then.Drop, rs[i].Continue = true, false
		case 1:
			then.Skip, rs[i].Continue = true, false
		case 2:
			then.Flags = []string{fmt.Sprint("f", i)}
		case 3:
			then.Targets, then.To = []string{"relay"}, []string{"a@x.example"}
		default:
			then.Folders = []string{rapid.SampledFrom([]string{"A", "B/${subject_}", "C/${from_local}"}).Draw(t, "folder")}
			then.Folders[0] = strings.ReplaceAll(then.Folders[0], "${subject_}", "${year}")
			then.Keep = &Keep{For: time.Duration(i) * time.Hour}
		}
		if rapid.Bool().Draw(t, "mine") {
			rs[i].Accounts = []string{rapid.SampledFrom([]string{"isp", "old"}).Draw(t, "account")}
		}
	}
	return rs
}

func drawMail(t *rapid.T) []byte {
	var b strings.Builder
	for _, name := range []string{"From", "To", "Cc", "Subject", "Delivered-To", "X-Spam-Flag", "Date", "Content-Type"} {
		if !rapid.Bool().Draw(t, name) {
			continue
		}
		value := rapid.SampledFrom([]string{"a", "b@c.example", "aa, b", "YES", "Sat, 21 Nov 2026 23:55:00 +0000", "multipart/mixed; boundary=b", "a/b; name=c", ""}).Draw(t, "value")
		b.WriteString(name + ": " + value + "\r\n")
	}
	b.WriteString(rapid.SampledFrom([]string{"", "\r\n", "\r\nabc", "\r\n--b\r\n\r\nac\r\n--b\r\nContent-Type: a/b; name=c\r\n\r\nx\r\n--b--"}).Draw(t, "body"))
	return []byte(b.String())
}

// TestDecide_properties: a decision is the same every time, Explain goes the same
// way, and what is said of a header alone is what is said of the whole message.
func TestDecide_properties(t *testing.T) {
	spared, asked := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rs, mail := drawRules(t), drawMail(t)
		set, err := Compile(rs)
		if err != nil {
			t.Fatal(err)
		}
		m := whole(mail, int64(len(mail)))
		checkDecision(t, set, m)
		again, err := Compile(rs)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if d := again.Decide(whole(mail, int64(len(mail)))); !cmp.Equal(d, set.Decide(m)) {
				t.Fatalf("%+v, then %+v", set.Decide(m), d)
			}
		}
		header := *m
		header.Body = nil
		switch set.Decide(&header).Action {
		case NeedBody:
			asked++
		case Drop, Skip:
			spared++
		case Deliver:
		}
	})
	if spared == 0 || asked == 0 {
		t.Errorf("%d spared, %d asked: the property says little", spared, asked)
	}
}

// TestDecide_needBody tells when a header is enough.
func TestDecide_needBody(t *testing.T) {
	body, match, miss := where("body", Contains, "x"), where("subject", Is, "s"), where("subject", Is, "t")
	attached := Cond{Test: &Test{Key: "has_attachment", No: true}}
	drop := func(c Cond) []Rule { return []Rule{{Name: "r", If: &c, Then: Then{Drop: true}}} }
	tests := map[string]struct {
		rules []Rule
		want  Action
		spare bool
	}{
		"body":                        {drop(body), NeedBody, false},
		"attachment":                  {drop(attached), NeedBody, false},
		"header":                      {drop(match), Drop, true},
		"all, one fails behind it":    {drop(Cond{All: []Cond{body, miss}}), Deliver, false},
		"all, none fails":             {drop(Cond{All: []Cond{body, match}}), NeedBody, false},
		"any, one holds before it":    {drop(Cond{Any: []Cond{match, body}}), Drop, true},
		"any, one holds behind it":    {drop(Cond{Any: []Cond{body, match}}), NeedBody, true},
		"not":                         {drop(Cond{Not: &body}), NeedBody, false},
		"not all":                     {drop(Cond{Not: &Cond{All: []Cond{body, miss}}}), Drop, true},
		"behind a rule that asks":     {append([]Rule{{Name: "b", If: &body, Then: Then{Folders: []string{"A"}}}}, drop(match)...), NeedBody, true},
		"behind one for another":      {append([]Rule{{Name: "b", Accounts: []string{"old"}, If: &body}}, drop(match)...), Drop, true},
		"behind the end of the rules": {append([]Rule{{Name: "e", If: &match, Then: Then{Folders: []string{"A"}}}}, drop(body)...), Deliver, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set := mustCompile(t, tt.rules...)
			m := message("Subject: s\r\n")
			if got := set.Decide(m); got.Action != tt.want {
				t.Errorf("%+v", got)
			}
			if got := set.Spares("isp"); got != tt.spare {
				t.Errorf("spares %v", got)
			}
			m.Body = func() []byte { return []byte("y") }
			if got := set.Decide(m); got.Action == NeedBody {
				t.Errorf("with the body %+v", got)
			}
		})
	}
}

// TestIndex_model: with rules beside them that the index knows, rules decide as
// they do alone.
func TestIndex_model(t *testing.T) {
	pool := []string{"a", "b@c.example", "a@b@c.example", "a+b@c.example", "x.c.example", "c.example.", "+", "@", "a+@x", "*", "*@c.example", "a@*", "*@b@c.example", "?@c.example", "A@*", "b"}
	rapid.Check(t, func(t *rapid.T) {
		var few, many []Rule
		for i := range rapid.IntRange(1, 8).Draw(t, "rules") {
			key := rapid.SampledFrom([]string{"from", "to", "recipient", "list_id", "subject", "account", "header X"}).Draw(t, "key")
			kinds := []Kind{Glob, Is, Contains}
			if addressFields[key] != nil {
				kinds = append(kinds, Local, Detail)
			}
			text := rapid.SampledFrom(pool).Draw(t, "text")
			if addressFields[key] != nil && text == "b" {
				kinds = append(kinds, Domain)
				text = rapid.SampledFrom([]string{"c.example", "example", "x"}).Draw(t, "domain")
			}
			one := where(key, rapid.SampledFrom(kinds).Draw(t, "kind"), text)
			other := where("from", Is, rapid.SampledFrom(pool).Draw(t, "other"))
			c := rapid.SampledFrom([]Cond{one, {Not: &one}, {Any: []Cond{one, other}}, {All: []Cond{other, one}}, {Any: []Cond{one, {Not: &other}}}}).Draw(t, "cond")
			few = append(few, Rule{Name: fmt.Sprint("r", i), If: &c, Then: Then{Folders: []string{fmt.Sprint("F", i)}}, Continue: true})
		}
		many = append(many, few...)
		for i := range 2 * indexFrom {
			many = append(many, Rule{Name: fmt.Sprint("x", i), If: new(where("from", Is, fmt.Sprint("nobody", i)))})
		}
		var b strings.Builder
		for _, name := range []string{"From", "To", "Delivered-To", "List-Id", "Subject", "X"} {
			if rapid.Bool().Draw(t, name) {
				b.WriteString(name + ": " + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(t, "values"), ", ") + "\r\n")
			}
		}
		m := message(b.String())
		alone, err := Compile(few)
		if err != nil {
			t.Fatal(err)
		}
		set, err := Compile(many)
		if err != nil {
			t.Fatal(err)
		}
		if alone.index != nil || set.index == nil {
			t.Fatal("the wrong one has an index")
		}
		checkDecision(t, set, m)
		if diff := cmp.Diff(alone.Decide(m), set.Decide(m)); diff != "" {
			t.Errorf("%s\n-alone +indexed:\n%s", b.String(), diff)
		}
		some := set.Only("r0", "r2", "x3")
		if diff := cmp.Diff(alone.Only("r0", "r2").Decide(m), some.Decide(m)); diff != "" {
			t.Errorf("only some: %s", diff)
		}
	})
}
