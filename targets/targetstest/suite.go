package targetstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/targets"
)

// Suite is what every target must do, whatever lies behind it.
type Suite struct {
	// New returns a target on an empty account. It must create folders.
	New func(t *testing.T) Sink
	// Relay says that the target is no Finder but a Relay: there is nothing to
	// look up, and folders, flags and dates mean nothing.
	Relay bool
	// Without names the parts that this target cannot be made to show. They are
	// not run at all: a part that is skipped proves nothing.
	Without []string
}

// Sink is a target under test, and a look behind it.
type Sink struct {
	Target targets.Target
	Read   func(folder string) []Stored // what a folder has, by the name that Deliver is given
	Flags  bool                         // flags are kept
	System bool                         // of flags, only those of IMAP itself
	Date   bool                         // dates are kept
	Refuse string                       // a message with this in its body is refused
	Full   func()                       // makes the target take nothing more
	Unable []string                     // the Contents that come back changed, whatever the target does

	// Of a Relay.
	For    func(rcpt string) []Stored // what somebody has got
	Nobody string                     // a recipient that is refused
}

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	const (
		all    = iota
		finder // shown by Finders only
		relay  // shown by Relays only
	)
	for _, c := range []struct {
		name string
		by   int
		test func(*testing.T, Sink)
	}{
		{"one", all, testOne},
		{"flags and date", finder, testFlagsDate},
		{"folders", finder, testFolders},
		{"concurrent", all, testConcurrent},
		{"cancelled", all, testCancelled},
		{"contents", all, testContents},
		{"refused", all, testRefused},
		{"full", all, testFull},
		{"find", finder, testFind},
		{"find twins", finder, testTwins},
		{"find before mark", finder, testBeforeMark},
		{"catalog", finder, testCatalog},
		{"catalog twins", finder, testCatalogTwins},
		{"catalog shared id", finder, testCatalogShared},
		{"catalog below and claimed", finder, testCatalogBelow},
		{"catalog empty", finder, testCatalogEmpty},
		{"examine", finder, testExamine},
		{"recipients", relay, testRecipients},
		{"commit", relay, testCommit},
		{"commit fails", relay, testCommitFails},
		{"closed", all, testClosed},
	} {
		if c.by != all && (c.by == relay) != s.Relay || slices.Contains(s.Without, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.test(t, s.New(t)) })
	}
}

// Message makes a Message of raw.
func Message(raw string) *targets.Message {
	h, _, _ := targets.CanonOf(strings.NewReader(raw))
	m := &targets.Message{
		Key: "test/1", Size: int64(len(raw)), Hash: h, Body: strings.NewReader(raw),
		Received: time.Date(2024, 2, 29, 12, 30, 15, 0, time.UTC),
	}
	for line := range strings.Lines(raw) {
		if id, ok := strings.CutPrefix(line, "Message-ID: "); ok {
			m.MessageID = strings.TrimSpace(id)
		}
	}
	return m
}

// WantedOf describes m as a recovery would.
func WantedOf(raw string) targets.Wanted {
	h, n, _ := targets.CanonOf(strings.NewReader(raw))
	return targets.Wanted{
		Hash: h, Size: n, MessageID: Message(raw).MessageID,
		Stable: targets.StableHash([]byte(raw)),
	}
}

// Text makes a plain message with a Message-ID of its own.
func Text(id int) string {
	return fmt.Sprintf("Message-ID: <%d@suite.example>\r\nSubject: number %d\r\n\r\nbody %d\r\n", id, id, id)
}

func deliver(t *testing.T, s Sink, raw string, to targets.Dest) targets.Receipt {
	t.Helper()
	r, err := s.Target.Deliver(t.Context(), Message(raw), to)
	if err != nil {
		t.Fatalf("Deliver: %v", err)
	}
	return r
}

// canons are the hashes of messages, sorted: a multiset to compare.
func canons(bodies ...[]byte) []string {
	var list []string
	for _, b := range bodies {
		h, _, _ := targets.CanonOf(bytes.NewReader(b))
		list = append(list, h.String())
	}
	slices.Sort(list)
	return list
}

func bodies(list []Stored) [][]byte {
	var out [][]byte
	for _, m := range list {
		out = append(out, m.Body)
	}
	return out
}

func testOne(t *testing.T, s Sink) {
	raw := Text(1)
	r := deliver(t, s, raw, targets.Dest{})
	got := s.Read("INBOX")
	if len(got) != 1 || string(got[0].Body) != raw {
		t.Fatalf("stored %q, want one %q", bodies(got), raw)
	}
	if r.UID != 0 && r.UID != got[0].UID {
		t.Errorf("the receipt says UID %d, it is %d", r.UID, got[0].UID)
	}
	if r.Folder == "" {
		t.Error("the receipt names no folder")
	}
}

func testFlagsDate(t *testing.T, s Sink) {
	deliver(t, s, Text(1), targets.Dest{Flags: []string{"seen", "flagged"}})
	deliver(t, s, Text(2), targets.Dest{Flags: []string{"Work"}})
	got := s.Read("INBOX")
	if len(got) != 2 {
		t.Fatalf("stored %d messages, want 2", len(got))
	}
	if s.Flags {
		for i, want := range [][]string{{`\Flagged`, `\Seen`}, {"Work"}} {
			if s.System {
				want = slices.DeleteFunc(want, func(f string) bool { return f[0] != '\\' })
			}
			slices.Sort(got[i].Flags)
			// Keywords are the same in any case (RFC 3501 §2.3.2).
			if !slices.EqualFunc(got[i].Flags, want, strings.EqualFold) {
				t.Errorf("message %d has flags %q, want %q", i, got[i].Flags, want)
			}
		}
	}
	if want := Message("x").Received; s.Date && !got[0].Date.Equal(want) {
		t.Errorf("dated %v, want %v", got[0].Date, want)
	}
}

func testFolders(t *testing.T, s Sink) {
	for i, name := range []string{"Lists/go nuts", "Lists/go nuts/2024", "Übung & Co", "inbox", `q"u\o`} {
		deliver(t, s, Text(i), targets.Dest{Folder: name})
		if got := s.Read(name); len(got) != 1 || string(got[0].Body) != Text(i) {
			t.Errorf("folder %q has %q", name, bodies(got))
		}
	}
	_, err := s.Target.Deliver(t.Context(), Message(Text(9)), targets.Dest{Folder: "a/../b"})
	if targets.FaultOf(err) != targets.Refused {
		t.Errorf("a folder with .. in it: %v, want refused", err)
	}
}

func testConcurrent(t *testing.T, s Sink) {
	const n = 200
	var wg sync.WaitGroup
	var want [][]byte
	for i := range n {
		raw := Text(i)
		want = append(want, []byte(raw))
		wg.Go(func() {
			if _, err := s.Target.Deliver(t.Context(), Message(raw), targets.Dest{Folder: "Many"}); err != nil {
				t.Errorf("Deliver %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := s.Read("Many"); !slices.Equal(canons(bodies(got)...), canons(want...)) {
		t.Errorf("%d messages are there, want each of %d once", len(got), n)
	}
}

func testCancelled(t *testing.T, s Sink) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Target.Deliver(ctx, Message(Text(1)), targets.Dest{})
	if err == nil || targets.FaultOf(err) != targets.Transient {
		t.Errorf("Deliver: %v, want transient", err)
	}
	if got := s.Read("INBOX"); len(got) != 0 {
		t.Errorf("%d messages stored", len(got))
	}
}

// Contents are messages that have given somebody trouble.
func Contents() map[string]string {
	return map[string]string{
		"one line end":     "\r\n",
		"header only":      "Subject: x\r\n",
		"body only":        "\r\nbody\r\n",
		"no final newline": "Subject: x\r\n\r\nbody",
		"NUL":              "Subject: x\r\n\r\na\x00b\r\n",
		"bare LF":          "Subject: x\r\n\r\na\nb\nc\nd\n\ne\r\n",
		"bare CR":          "Subject: x\r\n\r\na\rb\r\r\nc\r\n",
		"8-bit":            "Subject: gr\xfc\xdfe\r\n\r\n\xff\xfe\x80\r\n",
		"long line":        "Subject: x\r\n\r\n" + strings.Repeat("0123456789", 10_000) + "\r\n",
		"2 MiB":            "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcd\r\n", 64<<10),
		"looks like IMAP":  "Subject: x\r\n\r\nP1 OK {3}\r\n)\r\n* BYE\r\n{10+}\r\n",
		"mbox From":        "From jane Thu Jan  1 00:00:00 1970\r\nSubject: x\r\n\r\nbody\r\n",
		"BOM":              "\xef\xbb\xbfSubject: x\r\n\r\nbody\r\n",
		"no header":        "what is this\r\n",
	}
}

func (s Sink) contents() map[string]string {
	all := Contents()
	maps.DeleteFunc(all, func(name, _ string) bool { return slices.Contains(s.Unable, name) })
	return all
}

func testContents(t *testing.T, s Sink) {
	var wg sync.WaitGroup
	var want [][]byte
	for name, raw := range s.contents() {
		want = append(want, []byte(raw))
		wg.Go(func() {
			if _, err := s.Target.Deliver(t.Context(), Message(raw), targets.Dest{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if got := s.Read("INBOX"); !slices.Equal(canons(bodies(got)...), canons(want...)) {
		t.Errorf("what is stored is not what was sent: %d messages of %d", len(got), len(want))
	}
}

func testRefused(t *testing.T, s Sink) {
	if s.Refuse == "" {
		t.Fatal("nothing is known that this target refuses")
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			raw := Text(i)
			if i == 7 {
				raw += s.Refuse + "\r\n"
			}
			_, err := s.Target.Deliver(t.Context(), Message(raw), targets.Dest{})
			switch {
			case i == 7 && (err == nil || targets.FaultOf(err) != targets.Refused):
				t.Errorf("the bad message: %v, want refused", err)
			case i != 7 && err != nil:
				t.Errorf("message %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got := s.Read("INBOX"); len(got) != 19 {
		t.Errorf("%d messages stored, want 19", len(got))
	}
}

func testFull(t *testing.T, s Sink) {
	if s.Full == nil {
		t.Fatal("this target cannot be filled")
	}
	s.Full()
	_, err := s.Target.Deliver(t.Context(), Message(Text(1)), targets.Dest{})
	if err == nil || targets.FaultOf(err) != targets.Down {
		t.Errorf("Deliver: %v, want down", err)
	}
	if got := s.Read("INBOX"); len(got) != 0 {
		t.Errorf("%d messages stored", len(got))
	}
}

func finder(t *testing.T, s Sink) targets.Finder {
	f, ok := s.Target.(targets.Finder)
	if !ok {
		t.Fatal("this target is no finder")
	}
	return f
}

func mark(t *testing.T, f targets.Finder, folder string) targets.Mark {
	t.Helper()
	m, err := f.Mark(t.Context(), folder)
	if err != nil {
		t.Fatalf("Mark: %v", err)
	}
	return m
}

func find(t *testing.T, f targets.Finder, folder string, since targets.Mark, claimed map[uint32]bool, raws ...string) []targets.Found {
	t.Helper()
	var want []targets.Wanted
	for _, raw := range raws {
		want = append(want, WantedOf(raw))
	}
	found, err := f.Find(t.Context(), folder, since, want, func(uid uint32) bool { return claimed[uid] })
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	if len(found) != len(raws) {
		t.Fatalf("Find gave %d answers to %d questions", len(found), len(raws))
	}
	return found
}

func testFind(t *testing.T, s Sink) {
	f := finder(t, s)
	m := mark(t, f, "Lists/go")
	for name, raw := range s.contents() {
		deliver(t, s, raw, targets.Dest{Folder: "Lists/go"})
		if found := find(t, f, "Lists/go", m, nil, raw, Text(99)); !found[0].OK || found[1].OK {
			t.Errorf("%s: found %v, want the first and not the second", name, found)
		}
	}
	uid := find(t, f, "Lists/go", m, nil, Contents()["8-bit"])[0].UID
	if found := find(t, f, "Lists/go", m, map[uint32]bool{uid: true}, Contents()["8-bit"]); found[0].OK {
		t.Errorf("a claimed copy was found: %v", found)
	}
	if found := find(t, f, "No/such", targets.Mark{}, nil, Text(1)); found[0].OK {
		t.Errorf("found in a folder that is not there: %v", found)
	}
}

func testTwins(t *testing.T, s Sink) {
	f := finder(t, s)
	m := mark(t, f, "INBOX")
	raw := Text(1)
	deliver(t, s, raw, targets.Dest{})
	deliver(t, s, raw, targets.Dest{})
	found := find(t, f, "INBOX", m, nil, raw, raw, raw)
	if !found[0].OK || !found[1].OK || found[2].OK || found[0].UID == found[1].UID {
		t.Errorf("found %v, want two copies for the first two of three twins", found)
	}
}

func testBeforeMark(t *testing.T, s Sink) {
	f := finder(t, s)
	raw := Text(1)
	mark(t, f, "INBOX")
	deliver(t, s, raw, targets.Dest{})
	m := mark(t, f, "INBOX")
	deliver(t, s, Text(2), targets.Dest{})
	found := find(t, f, "INBOX", m, nil, raw, Text(2))
	// A mark may lie too early, where the server does not say where it put
	// things, but what lies before it is not for Find.
	if found[0].OK && found[0].UID < m.UIDNext {
		t.Errorf("found %v, which lies before the mark %v", found[0], m)
	}
	if !found[1].OK || found[1].UID < m.UIDNext {
		t.Errorf("found %v, want the second at or after %v", found, m)
	}
}

func testClosed(t *testing.T, s Sink) {
	deliver(t, s, Text(1), targets.Dest{})
	if err := s.Target.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := s.Target.Deliver(t.Context(), Message(Text(2)), targets.Dest{}); err == nil {
		t.Error("Deliver works after Close")
	}
}
