package targetstest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"popferry/targets"
)

// catalog lists what a folder has now, but for claimed.
func catalog(t *testing.T, s Sink, folder string, claimed ...uint32) targets.Catalog {
	t.Helper()
	k := comparer(t, s)
	m := mark(t, k.(targets.Finder), folder)
	// Where the server does not say which UID a message got, the mark has
	// stayed behind.
	for _, got := range s.Read(folder) {
		m.UIDNext = max(m.UIDNext, got.UID+1)
	}
	return catalogBelow(t, k, folder, m, claimed...)
}

func catalogBelow(t *testing.T, k targets.Comparer, folder string, m targets.Mark, claimed ...uint32) targets.Catalog {
	t.Helper()
	c, err := k.Catalog(t.Context(), folder, m, func(uid uint32) bool { return slices.Contains(claimed, uid) })
	if err != nil {
		t.Fatalf("Catalog: %v", err)
	}
	return c
}

func comparer(t *testing.T, s Sink) targets.Comparer {
	k, ok := s.Target.(targets.Comparer)
	if !ok {
		t.Fatal("this target is no comparer")
	}
	return k
}

func take(t *testing.T, c targets.Catalog, raw string) targets.Found {
	t.Helper()
	f, err := c.Take(t.Context(), WantedOf(raw))
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	if f.OK && (!f.Exact || f.UID == 0) {
		t.Errorf("Take: %+v, want one with a UID whose hash agreed", f)
	}
	return f
}

// testCatalog: everything that lies there is taken once, by its own message.
func testCatalog(t *testing.T, s Sink) {
	comparer(t, s)
	const folder = "Lists/go"
	all := s.contents()
	for i := range 300 { // more than are read at once
		all[fmt.Sprintf("text %d", i)] = Text(i)
	}
	var wg sync.WaitGroup
	for name, raw := range all {
		wg.Go(func() {
			if _, err := s.Target.Deliver(t.Context(), Message(raw), targets.Dest{Folder: folder}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	c := catalog(t, s, folder)
	var mu sync.Mutex
	taken := map[uint32]string{}
	for name, raw := range all {
		wg.Go(func() {
			f, err := c.Take(t.Context(), WantedOf(raw))
			mu.Lock()
			defer mu.Unlock()
			if other := taken[f.UID]; err != nil || !f.OK || other != "" {
				t.Errorf("%s: %+v, %v, and %q has that copy", name, f, err, other)
			}
			taken[f.UID] = name
		})
	}
	wg.Wait()
	for name, raw := range all {
		if f := take(t, c, raw); f.OK {
			t.Errorf("%s was taken twice: %+v", name, f)
		}
	}
	for _, m := range s.Read(folder) {
		if name := taken[m.UID]; name == "" || canons(m.Body)[0] != canons([]byte(all[name]))[0] {
			t.Errorf("UID %d was taken by %q, which it is not", m.UID, name)
		}
	}
	if f := take(t, c, Text(999)); f.OK {
		t.Errorf("found what is not there: %+v", f)
	}
}

// testCatalogTwins: each of two identical copies is taken once, whoever comes
// first.
func testCatalogTwins(t *testing.T, s Sink) {
	comparer(t, s)
	for name, raw := range map[string]string{"id": Text(1), "none": "Subject: x\r\n\r\nno id\r\n"} {
		deliver(t, s, raw, targets.Dest{Folder: name})
		deliver(t, s, raw, targets.Dest{Folder: name})
		c := catalog(t, s, name)
		var wg sync.WaitGroup
		var found [8]targets.Found
		for i := range found {
			wg.Go(func() {
				var err error
				if found[i], err = c.Take(t.Context(), WantedOf(raw)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		uids := map[uint32]bool{}
		n := 0
		for _, f := range found {
			if f.OK {
				n++
				uids[f.UID] = true
			}
		}
		if n != 2 || len(uids) != 2 {
			t.Errorf("%s: eight of a kind took %d copies of two: %v", name, n, found)
		}
	}
}

// testCatalogShared: messages that share a Message-ID are told apart, or one of
// them would never arrive.
func testCatalogShared(t *testing.T, s Sink) {
	comparer(t, s)
	raw := Text(1)
	others := map[string]string{
		"same size, another subject": strings.Replace(raw, "number 1", "number 2", 1),
		"same size, another body":    strings.Replace(raw, "body 1", "body 2", 1),
		"longer by one":              strings.Replace(raw, "body 1", "body 11", 1),
		"an empty line more":         raw + "\r\n",
		"a footer":                   raw + "-- \r\nfooter\r\n",
		"a field more":               "X-Spam: no\r\n" + raw,
		"much longer":                raw + strings.Repeat("more\r\n", 5000),
		"another id":                 strings.Replace(raw, "<1@", "<2@", 1),
		"no id":                      raw[strings.Index(raw, "Subject"):],
	}
	deliver(t, s, raw, targets.Dest{Folder: "One"})
	deliver(t, s, raw, targets.Dest{Folder: "All"})
	for name, other := range others {
		if f := take(t, catalog(t, s, "One"), other); f.OK {
			t.Errorf("%s was taken for the other: %+v", name, f)
		}
		deliver(t, s, other, targets.Dest{Folder: "All"})
	}
	one, all := catalog(t, s, "One"), catalog(t, s, "All")
	for name, other := range others {
		if f := take(t, one, other); f.OK {
			t.Errorf("%s was taken for the other: %+v", name, f)
		}
		if f := take(t, all, other); !f.OK {
			t.Errorf("%s is there and was not found", name)
		}
	}
	if f, g := take(t, one, raw), take(t, all, raw); !f.OK || !g.OK {
		t.Errorf("the message itself: %+v, %+v", f, g)
	}
}

// testCatalogBelow: what was delivered since, and what is known to be another
// delivery's, is nobody's.
func testCatalogBelow(t *testing.T, s Sink) {
	k := comparer(t, s)
	deliver(t, s, Text(1), targets.Dest{})
	deliver(t, s, Text(1), targets.Dest{})
	deliver(t, s, Text(2), targets.Dest{})
	there := s.Read("INBOX")
	m := mark(t, k.(targets.Finder), "INBOX")
	m.UIDNext = there[2].UID
	c := catalogBelow(t, k, "INBOX", m, there[0].UID)
	if f := take(t, c, Text(2)); f.OK {
		t.Errorf("%+v does not lie below %d", f, m.UIDNext)
	}
	if f := take(t, c, Text(1)); !f.OK || f.UID != there[1].UID || f.UIDValidity != m.UIDValidity {
		t.Errorf("took %+v, want UID %d", f, there[1].UID)
	}
	if f := take(t, c, Text(1)); f.OK {
		t.Errorf("took %+v, which is claimed or taken", f)
	}
}

// testCatalogEmpty: in a folder that was just made, or that is not there,
// nothing is found.
func testCatalogEmpty(t *testing.T, s Sink) {
	k := comparer(t, s)
	m := mark(t, k.(targets.Finder), "New")
	if f := take(t, catalogBelow(t, k, "New", m), Text(1)); f.OK {
		t.Errorf("found %+v in a new folder", f)
	}
	if f := take(t, catalogBelow(t, k, "No/such", targets.Mark{Folder: "No such", UIDNext: 7}), Text(1)); f.OK {
		t.Errorf("found %+v in a folder that is not there", f)
	}
}
