package imap_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"popferry/targets"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestCatalog_bigFolder lists a folder in parts, over two connections, of which
// any may end or never come up. Every copy is in the list once.
func TestCatalog_bigFolder(t *testing.T) {
	const n = 20_000
	overview := func(c targetstest.Command) bool {
		return c.Verb == "UID FETCH" && strings.Contains(c.Line, "RFC822.SIZE")
	}
	cut := targetstest.Action{Cut: targetstest.CutBefore}
	half := targetstest.Action{Untagged: []string{"* 3 FETCH (UID 3 RFC822.SIZE 70 BODY[HEADER.FIELDS (\"Message-ID\")] NIL)"}, Cut: targetstest.CutBefore}
	for _, c := range []struct {
		name    string
		most    int                        // connections, 0 is as many as popferry likes
		greet   targetstest.Action         // the second connection
		fetches map[int]targetstest.Action // by number
		conns   int                        // that there were
		fault   targets.Fault              // -1 is no error
	}{
		{name: "two connections", conns: 2, fault: -1},
		{name: "one allowed", most: 1, conns: 1, fault: -1},
		{name: "second refused", greet: targetstest.Action{Reply: "BYE too many"}, conns: 2, fault: -1},
		{name: "one ends", fetches: map[int]targetstest.Action{1: cut}, conns: 3, fault: -1},
		{name: "the other ends", fetches: map[int]targetstest.Action{2: half}, conns: 3, fault: -1},
		{name: "both end", fetches: map[int]targetstest.Action{1: cut, 2: half}, conns: 4, fault: -1},
		{name: "BYE in the last", fetches: map[int]targetstest.Action{4: {Reply: "BYE bye"}}, conns: 3, fault: -1},
		{name: "refused", fetches: map[int]targetstest.Action{1: {Reply: "NO no"}, 2: {Reply: "NO no"}, 3: {Reply: "NO no"}}, conns: 2, fault: targets.Transient},
	} {
		t.Run(c.name, func(t *testing.T) {
			second := make(chan struct{}) // a part is read over another connection than the first
			var fetches atomic.Int32
			s := &targetstest.IMAP{Hook: func(cmd targetstest.Command) targetstest.Action {
				switch {
				case cmd.Verb == "" && cmd.N == 2:
					return c.greet
				case overview(cmd):
					i := int(fetches.Add(1))
					act := c.fetches[i]
					if c.most == 0 && c.greet.Reply == "" {
						if i == 2 {
							close(second)
						}
						act.Wait = second
					}
					return act
				}
				return targetstest.Action{}
			}}
			filled(t, n, s)
			tg := open(t, config(s.Port(), func(ic *imap.Config) { ic.Connections = c.most }))
			m, err := tg.Mark(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			k, err := tg.(targets.Comparer).Catalog(t.Context(), "", m, func(uid uint32) bool { return uid == n })
			if c.fault != -1 {
				if err == nil || targets.FaultOf(err) != c.fault {
					t.Fatalf("got %v (%v), want %v", err, targets.FaultOf(err), c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, uid := range []int{1, 2, n / 4, n/4 + 1, n / 2, n/2 + 1, n * 3 / 4, n*3/4 + 1, n - 1, n} {
				for time := range 2 {
					f, err := k.Take(t.Context(), targetstest.WantedOf(targetstest.Text(uid-1)))
					want := time == 0 && uid != n // the last one is claimed
					if err != nil || f.OK != want || want && int(f.UID) != uid {
						t.Fatalf("Take %d of UID %d: %+v, %v", time, uid, f, err)
					}
				}
			}
			if got := s.Count(""); got > c.conns || got < min(c.conns, 2) {
				t.Errorf("%d connections, want %d", got, c.conns)
			}
		})
	}
}
