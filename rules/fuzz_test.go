package rules

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
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

// everyRule has all keys, patterns and actions, with continue where that lets the
// later ones be reached.
func everyRule(t testing.TB) *Set {
	var rs []Rule
	add := func(c Cond, then Then) {
		rs = append(rs, Rule{Name: fmt.Sprint("r", len(rs)), If: &c, Then: then, Continue: !then.Drop && !then.Skip})
	}
	add(where("from", Glob, "*@*.example", "*.com"), Then{Folders: []string{"F/${from_domain}/${from_local}"}, Flags: []string{"seen"}})
	add(where("subject", Regex, `(\w+)\W+(\w*)`), Then{Folders: []string{"${1}/${2}", "S"}, Keep: &Keep{For: 3 * day}})
	add(Cond{Any: []Cond{where("list_id", Domain, "org", "com"), where("header List-Id", Exists, "yes")}}, Then{Folders: []string{"L/${list_name}/${list_id}"}})
	add(Cond{Not: new(where("to", Contains, "jane"))}, Then{Flags: []string{"$x"}})
	add(Cond{All: []Cond{where("cc", Exists, "yes"), where("account", Is, "isp"), where("bcc", Exists, "no")}}, Then{Folders: []string{"${year}/${month}/${day}"}})
	add(Cond{Any: []Cond{where("reply_to", Local, "*no*reply*"), where("sender", Domain, "com"), where("recipient", Detail, "*")}}, Then{Folders: []string{"${to_local}/${to_detail}"}, Targets: []string{"backup"}})
	add(where("body", Regex, `(?i)unsubscribe (\w+)`), Then{Folders: []string{"B/${1}"}, Targets: []string{"home", "backup"}})
	add(where("body", Contains, "http"), Then{To: []string{"a@x.example"}, Targets: []string{"relay"}})
	add(Cond{Test: &Test{Key: "has_attachment"}}, Then{Folders: []string{"Attached to ${account}"}})
	add(Cond{Test: &Test{Key: "spam"}}, Then{Flags: []string{"$Junk"}})
	add(Cond{Test: &Test{Key: "date", Date: DateTest{">=", "2010"}}}, Then{Folders: []string{"Young"}, Keep: &Keep{Forever: true}})
	add(Cond{All: []Cond{{Test: &Test{Key: "older_than", Age: day}}, {Not: &Cond{Test: &Test{Key: "newer_than", Age: 365 * day}}}}}, Then{Folders: []string{"Old"}})
	add(where("header X-Drop", Is, "yes"), Then{Drop: true})
	add(Cond{All: []Cond{sized(">", 1000), where("subject", Contains, "skip")}}, Then{Skip: true})
	return mustCompile(t, rs...)
}

// whole makes a message of its octets.
func whole(b []byte, size int64) *Message {
	head, body := splitHeader(b)
	return &Message{
		Account: "isp", Header: ParseHeader(head), Size: size, Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Body: func() []byte { return body },
	}
}

func FuzzDecide(f *testing.F) {
	f.Add([]byte(matchMail), int64(1))
	f.Add([]byte(templateMail), int64(5000))
	f.Add([]byte("Subject: skip me\r\nX-Drop: YES\r\nCc:\r\n"), int64(5000))
	f.Add([]byte("Reply-To: noreply@x\r\nX-Spam: yes\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhttp unsubscribe here\r\n--b\r\nContent-Type: a/b; name=c\r\n\r\n"), int64(5000))
	set := everyRule(f)
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		checkDecision(t, set, whole(b, size))
	})
}

// checkDecision holds a decision to its promises, Explain to Decide, and what is
// said of a header alone to what is said of all of the message.
func checkDecision(t interface {
	Errorf(string, ...any)
	Helper()
}, set *Set, m *Message,
) {
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
	if (d.Action == Deliver) != (len(d.Deliver) > 0) || m.Body != nil && d.Action == NeedBody {
		t.Errorf("%v with %d deliveries", d.Action, len(d.Deliver))
	}
	header := *m
	header.Body = nil
	switch early := set.Decide(&header); {
	case early.Action == NeedBody:
	case !cmp.Equal(early, d):
		t.Errorf("by the header alone %+v, with the body %+v", early, d)
	case (early.Action == Drop || early.Action == Skip) && !set.Spares(m.Account):
		t.Errorf("%v by the header alone, and nobody would have asked", early.Action)
	}
	for _, names := range [][]string{nil, {"home", "relay"}} {
		all := d.Deliver
		if names != nil {
			all = d.For(names)
		}
		seen := map[string]bool{}
		for _, del := range all {
			place := fmt.Sprintf("%q %q %v", del.Target, del.Dest.Folder, del.Dest.Rcpt == nil)
			if seen[place] {
				t.Errorf("two deliveries to %s", place)
			}
			seen[place] = true
			if f := del.Dest.Folder; f != "" {
				checkFolder(t, f, strings.Count(f, "/")+1)
			}
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
		m := whole(b, int64(len(b)))
		checkDecision(t, set, m)
		if first, again := set.Decide(m), everyRule(t).Decide(whole(b, int64(len(b)))); !cmp.Equal(first, again) {
			t.Errorf("%s: %+v, then %+v", name, first, again)
		}
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
