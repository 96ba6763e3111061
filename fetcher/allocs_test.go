//go:build !race && !steps

// Those builds allocate for themselves.

package fetcher

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What one message may cost in objects, on its way from RETR to the record that
// it was delivered, without rules.
const (
	ownObjects    = 10 // beside what follows
	bodyObjects   = 1  // what a body lies in
	changeObjects = 6  // the changes that are handed to the store
)

// TestPass_allocations counts the objects of a whole pass in a process of its own,
// so that the servers do not count.
func TestPass_allocations(t *testing.T) {
	const n = 1000
	mail := make([]string, n)
	for i := range mail {
		mail[i] = fmt.Sprintf("Return-Path: <ann@example.org>\r\nReceived: from a by b; Sun, 1 Mar 2026 10:%02d:00 +0100\r\nFrom: Ann <ann@example.org>\r\n"+
			"Subject: number %d\r\nDate: Sun, 1 Mar 2026 09:00:00 +0100\r\nMessage-ID: <%d@example.org>\r\n\r\n%s", i%60, i, i, strings.Repeat("A line of text.\r\n", 100))
	}
	s := newScripted(t, "allocations", mail, 1)
	s.careless = true
	s.run.Keep = Keep{Forever: true}
	s.start()
	defer s.close()
	r := s.run
	r.Objects = filepath.Join(s.dir, "objects")
	if f := s.spawn(&r); f.code != childDone {
		t.Fatalf("child: %d\n%s", f.code, f.out)
	}
	s.check("after the pass")
	raw, err := os.ReadFile(r.Objects)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]int64
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	const most = ownObjects + bodyObjects + changeObjects
	each, places := perMessage(got["hot"], n)
	t.Logf("%.2f objects a message", each)
	if each > most+0.25 || each < changeObjects {
		t.Errorf("%.2f objects a message, at most %d are allowed\n%s", each, most, places)
	}
}

// perMessage counts the objects that were made for each of n messages, and lists
// where. What was made once for several, as for a command that carries a batch,
// is left out.
func perMessage(objects map[string]int64, n int64) (each float64, places string) {
	var list []string
	for place, count := range objects {
		if count >= n*9/10 {
			one := float64(count) / float64(n)
			each += one
			list = append(list, fmt.Sprintf("%.2f %s", one, place))
		}
	}
	slices.Sort(list)
	return each, strings.Join(list, "\n")
}
