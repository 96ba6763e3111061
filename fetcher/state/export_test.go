package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// eventful makes a state that has a row of every kind.
func eventful(t testing.TB) *Store {
	t.Helper()
	s := open(t, Options{})
	a, ms := list(t, s, 11)
	mustPut(t, s, routed(ms[0], 2), intent(ms[0], 0), delivered(ms[0], 0, 11), intent(ms[0], 1), delivered(ms[0], 1, 0))
	mustPut(t, s, routed(ms[1], 3), intent(ms[1], 0), delivered(ms[1], 0, 12), intent(ms[1], 1),
		Failed{Message: ms[1].ID, N: 1, Class: "refused", Reply: "NO \xff", NextTry: t0.Add(time.Hour), At: t0})
	mustPut(t, s, routed(ms[2], 1), intent(ms[2], 0)) // uncertain
	ms[3].Keep = new(Forever)
	mustPut(t, s, routed(ms[3], 1), intent(ms[3], 0), Commit{Message: ms[3].ID, At: t0})
	ms[5].Keep = new(36 * time.Hour)
	mustPut(t, s, Marked{Messages: []int64{ms[4].ID}, Note: "first_run"})
	mustPut(t, s, routed(ms[5], 1), intent(ms[5], 0), Failed{Message: ms[5].ID, At: t0}, Held{Message: ms[5].ID, Note: "given up", At: t0})
	mustPut(t, s, Fetching{Messages: []int64{ms[6].ID}}, Quarantined{Message: ms[6].ID, Note: "-ERR", NextTry: t0.Add(time.Hour), At: t0})
	mustPut(t, s, routed(ms[7], 1), intent(ms[7], 0), delivered(ms[7], 0, 13), DelSent{Messages: []int64{ms[7].ID}, At: t0}, Gone{Messages: []int64{ms[7].ID}, At: t0})
	mustPut(t, s, Absent{Messages: []int64{ms[0].ID}, At: t0}, Suspect{Message: ms[1].ID, Note: "LIST said 5"})
	mustPut(t, s, MessageFailed{Message: ms[8].ID, Class: "fetch", Reply: "-ERR later", NextTry: t0.Add(time.Minute)})
	mustPut(t, s, Rekey{Message: ms[9].ID, UIDL: "\x00\xfe{\"odd\"}", Gen: 3, Size: 5})
	mustPut(t, s, PassDone{Account: a.ID, At: t0, Success: true, FirstPass: true}, Clock{Now: t0.Add(time.Hour)})
	other := &Account{Source: "pop.old.example:110/j\xffne", Name: "old"}
	mustPut(t, s, Listed{Account: other, New: []*Message{{UIDL: "u0", Status: StatusMarked}}, At: t0})
	return s
}

func exported(t testing.TB, s *Store, sources ...string) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(ctx, &b, sources...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func imported(t testing.TB, s *Store, text string) {
	t.Helper()
	e, err := ReadExport(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	ch := []Change{Clock{Now: e.Clock}}
	for _, a := range e.Accounts {
		ch = append(ch, Imported{Account: &Account{Source: a.Source, Name: a.Name}, Records: a.Records, At: t0})
	}
	mustPut(t, s, ch...)
}

// TestExport_roundTrip imports an export into a new state: all is as it was, but
// that the account counts as new.
func TestExport_roundTrip(t *testing.T) {
	s := eventful(t)
	text := exported(t, s)
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %q", line)
		}
	}
	if n := strings.Count(text, "\n"); n != 1+2+12 {
		t.Errorf("%d lines", n)
	}
	again := open(t, Options{})
	imported(t, again, text)
	if !again.Clock().Equal(s.Clock()) {
		t.Errorf("clock %v, want %v", again.Clock(), s.Clock())
	}
	want := rows(t, s)
	diff(t, "rows", rows(t, again), want)
	if k := known(t, again); k.Account.FirstPassDone || k.Account.Name != "isp" {
		t.Errorf("account = %+v", k.Account)
	}
	if c, err := again.Check(ctx); err != nil || len(c.Findings) > 0 {
		t.Errorf("Check = %+v, %v", c, err)
	}
	if one := exported(t, s, source); strings.Contains(one, `"old"`) || strings.Count(one, "\n") != 1+1+11 {
		t.Errorf("export of one account:\n%s", one)
	}
	// A second import adds nothing.
	e, err := ReadExport(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range e.Accounts {
		k, err := again.Known(ctx, a.Source)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range k.Missing(a.Records) {
			// What was only listed may be replaced.
			if r.Status != StatusNew {
				t.Errorf("%q is missing", r.UIDL)
			}
		}
	}
}

// rows returns all messages with their deliveries, without ids, by UIDL.
func rows(t testing.TB, s *Store) map[string]Record {
	t.Helper()
	out := map[string]Record{}
	for _, source := range []string{source, "pop.old.example:110/j\xffne"} {
		k, err := s.Known(ctx, source)
		if err != nil {
			t.Fatal(err)
		}
		records, err := s.records(ctx, k.Account.ID, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			r.ID = 0
			for i := range r.Deliveries {
				r.Deliveries[i].Message = 0
			}
			out[fmt.Sprintf("%s %q %d", source, r.UIDL, r.Gen)] = r
		}
	}
	return out
}

// TestExport_chunks writes each of many messages once.
func TestExport_chunks(t *testing.T) {
	s := open(t, Options{})
	_, ms := list(t, s, 2*exportChunk+1)
	mustPut(t, s, routed(ms[exportChunk-1], 2), routed(ms[exportChunk], 1))
	e, err := ReadExport(strings.NewReader(exported(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Accounts[0].Records); n != len(ms) {
		t.Fatalf("%d records, want %d", n, len(ms))
	}
	for i, want := range map[int]int{exportChunk - 2: 0, exportChunk - 1: 2, exportChunk: 1} {
		if got := len(e.Accounts[0].Records[i].Deliveries); got != want {
			t.Errorf("record %d has %d deliveries, want %d", i, got, want)
		}
	}
}

var errPipe = errors.New("broken pipe")

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }

func TestExport_brokenPipe(t *testing.T) {
	s := eventful(t)
	if err := s.Export(ctx, brokenPipe{}); !errors.Is(err, errPipe) {
		t.Errorf("Export = %v", err)
	}
	list(t, s, 0) // it still works
}

// TestReadExport reads what people and other programs write.
func TestReadExport(t *testing.T) {
	const hashes = `"hash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","stable":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"`
	for _, x := range []struct {
		name, text string
		want       []string // uidl, status, size, note
	}{
		{"nothing", "", nil},
		{"bare UIDLs", "u1\r\n\n  u2\nu1\n{weird\n", []string{"u1 marked -1 imported", "u2 marked -1 imported", "{weird marked -1 imported"}},
		{"no line end", "u1", []string{"u1 marked -1 imported"}},
		{"only a uidl", `{"uidl":"u1"}`, []string{"u1 marked -1 imported"}},
		{"octets", `{"uidl":{"base64":"/wA="},"size":7}`, []string{"\xff\x00 marked 7 imported"}},
		{"what is to be fetched stays so", `{"uidl":"u1","status":"new"}`, []string{"u1 new -1 "}},
		{"what is held stays so", `{"uidl":"u1","status":"held","note":"why"}`, []string{"u1 held -1 why"}},
		{"safe, it says", `{"uidl":"u1","size":3,"status":"safe"}`, []string{"u1 marked 3 imported"}},
		{"safe without a delivery", `{"uidl":"u1","status":"safe",` + hashes + `}`, []string{"u1 marked -1 imported"}},
		{"dropped", `{"uidl":"u1","status":"dropped","note":"spam",` + hashes + `}`, []string{"u1 marked -1 dropped by rule spam"}},
		{"all delivered", `{"uidl":"u1",` + hashes + `,"deliveries":[{"n":0,"target":"home","status":"delivered"}]}`, []string{"u1 safe -1 "}},
		{"not all delivered", `{"uidl":"u1",` + hashes + `,"deliveries":[{"n":0,"target":"home","status":"delivered"},{"n":1,"target":"b","status":"failed"}]}`, []string{"u1 routed -1 "}},
		{"a new one that is an old one", "{\"uidl\":\"u1\",\"status\":\"new\"}\n{\"uidl\":\"u1\"}", []string{"u1 marked -1 imported"}},
	} {
		t.Run(strings.ReplaceAll(x.name, " ", "_"), func(t *testing.T) {
			e, err := ReadExport(strings.NewReader(x.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range e.Accounts {
				for _, r := range a.Records {
					got = append(got, fmt.Sprintf("%s %v %d %s", r.UIDL, r.Status, r.Size, r.Note))
				}
			}
			if d := cmp.Diff(x.want, got); d != "" {
				t.Error(d)
			}
			s := open(t, Options{})
			imported(t, s, x.text)
			if c, err := s.Check(ctx); err != nil || len(c.Findings) > 0 || c.Messages != len(x.want) {
				t.Errorf("Check = %+v, %v", c, err)
			}
		})
	}
}

func TestReadExport_wrong(t *testing.T) {
	const hash = `"hash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"`
	const content = hash + `,"stable":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"`
	for _, x := range []struct{ text, want string }{
		{"u1\ntwo words\n", "line 2: a UIDL has no blanks in it; the file is neither a list of UIDLs nor an export"},
		{strings.Repeat("x", 513), "line 1: a UIDL has 1 to 512 octets, not 513"},
		{strings.Repeat("x", maxImportLine+1), "line 1: too long"},
		{`{"uidl":"u1"}` + "\nu2", "line 2: no JSON object"},
		{`{"uidl":""}`, "line 1: a UIDL has 1 to 512 octets, not 0"},
		{`{"uidl":7}`, "line 1: uidl cannot be a number"},
		{`{"type":"mesage","uidl":"u1"}`, `line 1: type "mesage" is not known`},
		{`{"type":"state","format":2}`, "line 1: written by a newer popferry (format 2, this one knows up to 1)"},
		{`{"uidl":"u1","status":"fine"}`, `line 1: status "fine" is not known`},
		{`{"uidl":"u1","size":-2}`, "line 1: a number is negative"},
		{`{"uidl":"u1","hash":"00"}`, "line 1: a hash has 64 hexadecimal digits"},
		{`{"uidl":"u1",` + hash + `}`, "line 1: there is a hash, but not that of the stable header (stable)"},
		{`{"uidl":"u1","deliveries":[{"n":0,"target":"a","status":"delivered"}]}`, "line 1: there are deliveries, but no hash of what was delivered"},
		{`{"uidl":"u1",` + content + `,"deliveries":[{"n":0,"target":"a","status":"done"}]}`, `line 1: status "done" of a delivery is not known`},
		{`{"uidl":"u1",` + content + `,"deliveries":[{"n":0,"status":"delivered"}]}`, "line 1: a delivery has no target"},
		{`{"uidl":"u1",` + content + `,"deliveries":[{"n":1,"target":"a","status":"failed"},{"n":1,"target":"b","status":"failed"}]}`, "line 1: the deliveries are not in the order of n"},
		{`{"uidl":"u1","status":"safe",` + content + `,"deliveries":[{"n":0,"target":"a","status":"failed"}]}`, "line 1: it is safe, but not all of its deliveries are delivered"},
		{`{"uidl":"u1","status":"dropped",` + content + `,"deliveries":[{"n":0,"target":"a","status":"failed"}]}`, "line 1: it is dropped, but there are deliveries"},
		{`{"uidl":"u1","status":"marked",` + content + `,"deliveries":[{"n":0,"target":"a","status":"intent"}]}`, "line 1: it is marked, but a delivery is under way"},
		{"{\"uidl\":\"u1\"}\n{\"uidl\":\"u1\"}", "line 2: the same message is there twice"},
	} {
		if _, err := ReadExport(strings.NewReader(x.text)); err == nil || err.Error() != x.want {
			t.Errorf("%.100q\n got %v\nwant %s", x.text, err, x.want)
		}
	}
	if _, err := ReadExport(io.MultiReader(strings.NewReader("u1\nu"), failing{})); !errors.Is(err, errPipe) {
		t.Errorf("a failing reader = %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errPipe }

// TestImported replaces what was only listed, and nothing else.
func TestImported(t *testing.T) {
	s := open(t, Options{})
	a, ms := list(t, s, 3)
	mustPut(t, s, routed(ms[1], 1), PassDone{Account: a.ID, At: t0, FirstPass: true})
	record := func(uidl string) Record {
		return Record{Message: &Message{UIDL: uidl, Size: -1, Status: StatusMarked, Note: "imported"}}
	}
	acc := &Account{Source: source, Name: "isp"}
	wantConflict(t, s, Imported{Account: acc, Records: []Record{record("u0"), record("u1")}, At: t0})
	k := known(t, s)
	missing := k.Missing([]Record{record("u0"), record("u1"), record("new")})
	if len(missing) != 2 || missing[0].UIDL != "u0" || missing[1].UIDL != "new" {
		t.Fatalf("Missing = %+v", missing)
	}
	at := t0.Add(time.Hour)
	mustPut(t, s, Imported{Account: acc, Records: missing, At: at})
	if acc.ID != a.ID || missing[0].ID == ms[0].ID {
		t.Errorf("account %d, message %d", acc.ID, missing[0].ID)
	}
	k = known(t, s)
	if len(k.Messages) != 4 || !k.Account.FirstPassDone {
		t.Errorf("known = %+v", k)
	}
	if got := one(t, s, missing[0].ID); got.UIDL != "u0" || got.Status != StatusMarked || got.Size != -1 || !got.FirstSeen.Equal(at) {
		t.Errorf("imported = %+v", got)
	}
	// Tombstones come only to those who know nothing.
	dead := record("dead")
	dead.GoneAt = t0
	if got := k.Missing([]Record{dead}); len(got) != 0 {
		t.Errorf("Missing = %+v", got)
	}
	if got := new(Known).Missing([]Record{dead}); len(got) != 1 {
		t.Errorf("Missing = %+v", got)
	}
}

// FuzzReadExport reads anything without harm. What it reads claims no more than
// it proves, and can be written and read again.
func FuzzReadExport(f *testing.F) {
	f.Add([]byte(exported(f, eventful(f))))
	f.Add([]byte("u1\nu2\r\n"))
	f.Add([]byte(`{"uidl":{"base64":"AA=="},"status":"held"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ReadExport(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, a := range e.Accounts {
			for _, r := range a.Records {
				done := 0
				for _, d := range r.Deliveries {
					if d.Status == DeliveryDelivered {
						done++
					}
				}
				if r.Status == StatusSafe && (done == 0 || done < len(r.Deliveries) || r.Content == nil) || r.Status == StatusDropped {
					t.Fatalf("may be deleted without reason: %+v", r)
				}
				b, err := json.Marshal(lineOf(a.Source, r))
				if err != nil {
					t.Fatal(err)
				}
				var l messageLine
				if err := json.Unmarshal(b, &l); err != nil {
					t.Fatal(err)
				}
				again, err := l.record()
				if err != nil {
					t.Fatalf("%s: %v", b, err)
				}
				diff(t, "read again", again, r)
			}
		}
	})
}
