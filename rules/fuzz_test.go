package rules

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func FuzzParseHeader(f *testing.F) {
	for _, seed := range []string{
		matchMail, templateMail,
		"From jane Mon Nov 21 2026\nA: 1\r\n b\r\n\r\nbody",
		"\xef\xbb\xbfSubject: =?utf-8?q?a?= =?x?b?c?= =?\r\nDate: 1 Jan 70\r\n",
		"From: \"a\\\"b\" (c (d)) <@x:e@f>, g:h;, [i\r\nTo: @@,<<j@k>\r\n",
		"Received: (;) x; Sat, 21 Nov 26 23:55:60 +9999\r\nReturn-Path: <\"a\\\r\n b\"@[c]>\r\nMessage-ID: <a\r\n b>\r\nList-Id: x <y.z",
		"Date: 2026-11-21T23:55:02.1+01:00\r\n",
		"From:\"0\x80 \"0000000g\xb85{\xcc@\xb0\xe300800000\x01\"0000000g\xb85{\xcc@\xb0\xe300800\"\x00\"\x00\"?\" \x10",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		checkHeader(t, ParseHeader(b))
		if !bytes.Equal(b, before) {
			t.Error("the octets were changed")
		}
	})
}

// checkHeader holds a header to what its callers rely on.
func checkHeader(t *testing.T, h *Header) {
	t.Helper()
	useAll(h)
	end := int32(0)
	for i, f := range h.fields {
		if f.name < end || f.colon <= f.name || f.value <= f.colon || f.end < f.value || int(f.end) > len(h.raw) {
			t.Fatalf("field %d lies at %+v, the one before ended at %d", i, f, end)
		}
		end = f.end
		name := string(h.raw[f.name:f.colon])
		if h.Raw(name) == nil {
			t.Errorf("field %q is not found", name)
		}
		if text := h.Text(name); !utf8.ValidString(text) {
			t.Errorf("text %q is no UTF-8", text)
		}
	}
	for _, a := range h.Addresses("From") {
		if a.Local == "" || strings.Contains(a.Domain, "@") || !utf8.ValidString(a.Name+a.Addr()) {
			t.Errorf("address %+v", a)
		}
	}
	if path := h.ReturnPath(); path != "" && (strings.ContainsAny(path, "<\r\n\x00") && !strings.Contains(path, `"`) || strings.Count(path, "@") == 0) {
		t.Errorf("return path %q", path)
	}
	if id := h.MessageID(); id != "" && (id[0] != '<' || id[len(id)-1] != '>' || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' })) {
		t.Errorf("message id %q", id)
	}
}

// everyRule has all kinds of conditions and results, with continue where that
// lets the later ones be reached.
func everyRule(t testing.TB) *Set {
	var rs []Rule
	add := func(c Cond, then Then) {
		rs = append(rs, Rule{Name: string(rune('a' + len(rs))), If: &c, Then: then, Continue: !then.Drop && !then.Skip})
	}
	add(where("from", Glob, "*@*.example"), Then{Folders: []string{"F/${from_domain}"}, Flags: []string{"seen"}})
	add(where("subject", Regex, `(\w+)\W+(\w*)`), Then{Folders: []string{"${1}/${2}", "S"}})
	add(Cond{Any: []Cond{where("list_id", Domain, "org", "com"), where("header List-Id", Exists, "yes")}}, Then{Folders: []string{"L/${list_name}/${list_id}"}})
	add(Cond{Not: new(where("to", Contains, "jane"))}, Then{Flags: []string{"$x"}})
	add(Cond{All: []Cond{where("cc", Exists, "yes"), where("account", Is, "isp")}}, Then{Folders: []string{"${year}/${month}/${day}"}})
	add(where("header X-Drop", Is, "yes"), Then{Drop: true})
	add(Cond{All: []Cond{sized(">", 1000), where("subject", Contains, "skip")}}, Then{Skip: true})
	return mustCompile(t, rs...)
}

func FuzzDecide(f *testing.F) {
	f.Add([]byte(matchMail), int64(1))
	f.Add([]byte(templateMail), int64(5000))
	f.Add([]byte("Subject: skip me\r\nX-Drop: YES\r\nCc:\r\n"), int64(5000))
	set := everyRule(f)
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		checkDecision(t, set, &Message{Account: "isp", Header: ParseHeader(b), Size: size})
	})
}

// checkDecision holds a decision to its promises, and Explain to Decide.
func checkDecision(t *testing.T, set *Set, m *Message) {
	t.Helper()
	d := set.Decide(m)
	var matched []string
	explained := set.Explain(m, func(s Step) {
		if s.Verdict == Matched {
			matched = append(matched, s.Rule)
		}
		for _, line := range s.Lines() {
			checkLine(t, line)
		}
	})
	if diff := cmp.Diff(d, explained); diff != "" {
		t.Errorf("Decide and Explain differ:\n%s", diff)
	}
	if !cmp.Equal(d.Matched, matched) {
		t.Errorf("matched %q, explained %q", d.Matched, matched)
	}
	if (d.Action == Deliver) != (len(d.Deliver) > 0) {
		t.Errorf("%v with %d deliveries", d.Action, len(d.Deliver))
	}
	seen := map[string]bool{}
	for _, del := range d.Deliver {
		if seen[del.Dest.Folder] {
			t.Errorf("two deliveries to %q", del.Dest.Folder)
		}
		seen[del.Dest.Folder] = true
		if f := del.Dest.Folder; f != "" {
			checkFolder(t, f, strings.Count(f, "/")+1)
		}
	}
}

// corpus returns the names of the shared mail, which lies beside the checkout.
func corpus(t testing.TB) []string {
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "..", "..", "shared", "mail")
	names, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Skip("no mail in ../shared/mail")
	}
	return names
}

func TestCorpus(t *testing.T) {
	set := everyRule(t)
	understood := map[string][2]int{} // field → of how many, how many
	note := func(h *Header, name, field string, ok bool) {
		raw := h.Raw(field)
		if raw == nil {
			return
		}
		n := understood[field]
		n[0]++
		if ok {
			n[1]++
		} else {
			t.Logf("%s: %s:%.80q", filepath.Base(name), field, raw)
		}
		understood[field] = n
	}
	for _, name := range corpus(t) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h := ParseHeader(b)
		checkHeader(t, h)
		checkDecision(t, set, &Message{Account: "isp", Header: h, Size: int64(len(b))})
		if t.Failed() {
			t.Fatal(name)
		}
		id, _ := h.ListID()
		note(h, name, "From", len(h.Addresses("From")) > 0)
		note(h, name, "Date", !h.Date().IsZero())
		note(h, name, "Received", !h.Received().IsZero())
		note(h, name, "Message-ID", h.MessageID() != "")
		note(h, name, "List-Id", id != "")
	}
	for field, n := range understood {
		t.Logf("%s: %d of %d", field, n[1], n[0])
		if n[1] < n[0]*95/100 {
			t.Errorf("%s was understood in %d of %d messages only", field, n[1], n[0])
		}
	}
}
