package fetcher

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// What one message costs in objects, on its way from RETR to the record that it was
// delivered, without rules. The first may grow to ten, for a good reason.
const (
	hotObjects    = 8 // beside what follows
	bodyObjects   = 1 // what a body lies in
	changeObjects = 6 // the changes that are handed to the store
)

// TestPass_allocations counts the objects of a whole pass in a process of its own,
// so that the servers do not count.
func TestPass_allocations(t *testing.T) {
	if withSteps || instrumented() {
		t.Skip("this build allocates for itself")
	}
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
	for kind, most := range map[string]int{"hot": hotObjects + bodyObjects, "changes": changeObjects} {
		each, places := perMessage(got[kind], n)
		t.Logf("%s: %.2f objects a message", kind, each)
		if each > float64(most)+0.5 || each < float64(most)-0.5 {
			t.Errorf("%s: %.2f objects a message, want %d\n%s", kind, each, most, places)
		}
	}
}

// instrumented reports whether the race detector is on: it has pools lose things.
func instrumented() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// perMessage counts the objects that were made for each of n messages, and lists
// where. What was made once for several, as for a command that carries a batch,
// is left out.
func perMessage(objects map[string]int64, n int64) (each float64, places string) {
	var list []string
	for place, count := range objects {
		if count >= n/2 {
			one := float64(count) / float64(n)
			each += one
			list = append(list, fmt.Sprintf("%.2f %s", one, place))
		}
	}
	slices.Sort(list)
	return each, strings.Join(list, "\n")
}

// objects counts what this process has allocated, by kind and place. It counts
// everything if runtime.MemProfileRate was 1 from the beginning.
func objects() map[string]map[string]int64 {
	runtime.GC() // the profile tells of what was before the last but one
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 0, 4096)
	for {
		n, ok := runtime.MemProfile(records[:cap(records)], true)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, 0, 2*n)
	}
	kinds := map[string]map[string]int64{}
	for i := range records {
		kind, place := placeOf(records[i].Stack())
		if kinds[kind] == nil {
			kinds[kind] = map[string]int64{}
		}
		kinds[kind][place] += records[i].AllocObjects
	}
	return kinds
}

// placeOf says what an object that was made by a call stack is for.
func placeOf(stack []uintptr) (kind, place string) {
	kind = "hot"
	frames := runtime.CallersFrames(stack)
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		name, ours := strings.CutPrefix(f.Function, "popferry/")
		if !ours {
			continue
		}
		if place == "" {
			place = fmt.Sprintf("%s, line %d", name, f.Line)
			if strings.HasSuffix(name, ".deliverPart") || name == "fetcher.deliveries" {
				kind = "changes"
			}
		}
		switch {
		case strings.HasPrefix(name, "fetcher/state."):
			return "state", place
		case strings.HasSuffix(name, ".(*Conn).List"), strings.HasSuffix(name, ".(*pass).list"), strings.HasSuffix(name, ".(*pass).calm"):
			return "listing", place
		}
	}
	if place == "" {
		return "others", "" // the runtime's and the test's
	}
	return kind, place
}

// countObjects does f and writes to a file what it allocates.
func countObjects(file string, f func() error) error {
	runtime.MemProfileRate = 1
	if err := f(); err != nil {
		return err
	}
	raw, err := json.Marshal(objects())
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}
