package fetcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/rules"
)

// A preview looks at the newest messages, needs no state, and leaves a server
// that shows a message once as it is.
func TestPreview(t *testing.T) {
	w := newWorld(t)
	w.pop.Consumes = true
	w.start()
	w.fill(5)
	w.job.Rules, _ = rules.Compile([]rules.Rule{
		{Name: "three", If: &rules.Cond{Test: &rules.Test{Key: "subject", Patterns: []rules.Pattern{{Text: "3"}}}}, Then: rules.Then{Folders: []string{"Three"}}},
		{Name: "body", If: &rules.Cond{Test: &rules.Test{Key: "body", Patterns: []rules.Pattern{{Text: "x"}}}}, Then: rules.Then{Drop: true}},
	})
	f := w.fetcher(nil)
	f.DryRun = true
	if err := f.Preview(context.Background(), w.job, w.account, 3); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.events {
		switch e.Kind {
		case Listed:
			got = append(got, fmt.Sprint(e.Total.Messages, " ", e.Total.New))
		case Planned:
			got = append(got, strings.TrimSpace(e.UIDL+" "+e.Folder+e.Reason))
		default:
			t.Errorf("event %v", e.Kind)
		}
	}
	want := []string{"5 3", "u004 fetch; a rule looks at the body", "u003 Three", "u002 fetch; a rule looks at the body"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if w.saw("RETR")+w.saw("DELE") != 0 || w.left() != 5 || len(w.target.folders) != 0 || w.target.marks != 0 {
		t.Errorf("something was changed: %q", w.pop.Log())
	}
	w.mustPass()
	if w.target.count("Three") != 1 {
		t.Error("the pass did something else")
	}
}

func TestPreview_noTOP(t *testing.T) {
	w := newWorld(t)
	w.pop.Caps = []string{"UIDL", "USER"}
	w.start()
	w.fill(2)
	if err := w.fetcher(nil).Preview(context.Background(), w.job, w.account, 50); err != nil {
		t.Fatal(err)
	}
	if k := w.kinds(); k[Planned] != 2 || !strings.Contains(w.events[1].Reason, "no TOP") {
		t.Errorf("%v", w.events)
	}
	if err := w.fetcher(nil).Peek(context.Background(), w.account, 1, nil); !errors.Is(err, ErrNoTOP) {
		t.Errorf("peek: %v", err)
	}
}

// One message is looked at by TOP, its body only if it is asked for.
func TestPeek(t *testing.T) {
	w := newWorld(t)
	w.pop.Consumes = true
	w.start()
	w.fill(3)
	w.add("long", "Subject: long\r\n\r\n"+strings.Repeat("\r\n", 400_000)+"the end\r\n")
	for _, tc := range []struct {
		num     int
		body    bool
		subject string
		end     string
	}{{2, false, "1", ""}, {2, true, "1", "body 1\r\n"}, {4, true, "long", "the end\r\n"}} {
		asked := 0
		err := w.fetcher(nil).Peek(context.Background(), w.account, tc.num, func(m *rules.Message) bool {
			if asked++; m.Account != "isp" || m.Header.Text("Subject") != tc.subject || !m.Now.Equal(w.now) || m.Size == 0 {
				t.Errorf("%d: %+v", tc.num, m)
			}
			if asked == 1 && m.Body != nil || asked == 2 && !strings.HasSuffix(string(m.Body()), tc.end) {
				t.Errorf("%d: asked %d times, with body %v", tc.num, asked, m.Body != nil)
			}
			return tc.body && asked == 1
		})
		if err != nil || asked != 1 && !tc.body || asked != 2 && tc.body {
			t.Errorf("%d: %v, asked %d times", tc.num, err, asked)
		}
	}
	if w.saw("RETR")+w.saw("DELE") != 0 || w.left() != 4 {
		t.Errorf("something was changed: %q", w.pop.Log())
	}
	err := w.fetcher(nil).Peek(context.Background(), w.account, 9, nil)
	if none, ok := errors.AsType[*NoMessageError](err); !ok || none.Have != 4 || none.Error() != "there is no message 9: the maildrop has 4" {
		t.Errorf("no such message: %v", err)
	}
}

// What goes wrong is told.
func TestPeek_broken(t *testing.T) {
	ask := func(*rules.Message) bool { t.Error("asked"); return false }
	for name, act := range map[string]maildroptest.Action{
		"cut":     {At: 5, Cut: maildroptest.FIN},
		"refused": {Reply: "-ERR not now\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pop.Hook = func(_ int, cmd string) maildroptest.Action {
				if strings.HasPrefix(cmd, "TOP") {
					return act
				}
				return maildroptest.Action{}
			}
			w.start()
			w.fill(1)
			err := w.fetcher(nil).Peek(context.Background(), w.account, 1, ask)
			if me, ok := errors.AsType[*maildrop.Error](err); !ok || maildrop.Usable(err) != (name == "refused") {
				t.Errorf("%v", me)
			}
			err = w.fetcher(nil).Preview(context.Background(), w.job, w.account, 1)
			switch last := w.events[len(w.events)-1]; {
			case name == "cut" && err == nil:
				t.Error("preview: no error")
			case name == "refused" && (err != nil || last.Kind != Planned || last.Err == nil):
				t.Errorf("preview: %v, %+v", err, last)
			}
		})
	}
	w := newWorld(t).start()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.fetcher(nil).Peek(ctx, w.account, 1, ask); err == nil {
		t.Error("cancelled: no error")
	}
}
