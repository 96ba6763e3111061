package fetcher

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"popferry/rules"
	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
)

// What is in a message changes nothing about it: it is stored octet for octet,
// with a CR before every LF and one line end at its end. Rules see of it what
// they can.
func TestFaults_content(t *testing.T) {
	random := make([]byte, 300<<10)
	rand.NewChaCha8([32]byte{78}).Read(random)
	bomb := base64.StdEncoding.EncodeToString(random)
	nested := "Subject: bomb\r\n"
	for i := range 5000 {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	const subject = "Subject: seen\r\n"
	for _, c := range []struct {
		name, raw string
		stored    string // "" is as it came
		seen      bool   // a rule that looks for the subject "seen" finds it
	}{
		{name: "63 nothing at all", raw: "", stored: "\r\n"},
		{name: "63 one line end", raw: "\r\n"},
		{name: "64 NUL", raw: subject + "X: \x00\r\n\r\na\x00b\r\n\x00", stored: subject + "X: \x00\r\n\r\na\x00b\r\n\x00\r\n", seen: true},
		{name: "65 bare CR", raw: subject + "\r\na\rb\r\r\r\n", seen: true},
		{name: "65 bare LF", raw: "Subject: seen\n\na\nb\n", stored: "Subject: seen\r\n\r\na\r\nb\r\n\r\n", seen: true},
		{name: "65 CRCRLF", raw: subject + "\r\na\r\r\nb\r\r\n", seen: true},
		{name: "66 no final newline", raw: subject + "\r\nthe end", stored: subject + "\r\nthe end\r\n", seen: true},
		{name: "67 8 bit and no charset", raw: "From: \xc3\x28 \xff <a@b.example>\r\nX-Caf\xe9: \xf0\x9f\r\n" + subject + "\r\n\xff\r\n", seen: true},
		{name: "68 a line of 1,000", raw: subject + "\r\n" + strings.Repeat("y", 1000) + "\r\n", seen: true},
		{name: "68 a line of 3 million", raw: subject + "\r\n" + strings.Repeat("y", 3_000_000) + "\r\n", seen: true},
		{name: "69 no header", raw: "this is no header\r\nnor is this\r\n\r\n" + subject},
		{name: "69 body only", raw: "\r\n" + subject},
		{name: "69 header only", raw: subject, seen: true},
		{name: "70 mbox From first", raw: "From jane@isp.example Mon Mar  2 09:00:00 2026\r\n" + subject + "\r\nFrom here\r\n", seen: true},
		{name: "71 BOM first", raw: "\xef\xbb\xbf" + subject + "\r\n\xef\xbb\xbfx\r\n", seen: true},
		{name: "72 a line that is no field", raw: "what is this\r\n: nor this\r\n" + subject + "\r\nx\r\n", seen: true},
		{name: "73 a header of 200 kB", raw: "X: " + strings.Repeat("z", 200_000) + "\r\n" + subject + "\r\nx\r\n", seen: true},
		{name: "73 behind 256 KiB", raw: "X: " + strings.Repeat("z", 300_000) + "\r\n" + subject + "\r\nx\r\n"},
		{name: "73 behind 50,000 fields", raw: strings.Repeat("X: y\r\n", 50_000) + subject + "\r\nx\r\n"},
		{name: "73 1 MB of encoded words", raw: "Subject: " + strings.Repeat("=?utf-8?Q?=F0?= ", 62_500) + "\r\n\r\nx\r\n"},
		{name: "74 1 MB of comments", raw: subject + "From: " + strings.Repeat("(", 500_000) + strings.Repeat(")", 500_000) + " <a@b.example>\r\n\r\nx\r\n", seen: true},
		{name: "78 parts within parts", raw: nested + "\r\ndeep\r\n"},
		{name: "78 a bomb", raw: subject + "Content-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + bomb + "\r\n", seen: true},
	} {
		t.Run("row "+c.name, func(t *testing.T) {
			w := newWorld(t)
			var err error
			w.job.Rules, err = rules.Compile([]rules.Rule{
				{Name: "from", If: &rules.Cond{Test: &rules.Test{Key: "from", Patterns: []rules.Pattern{{Kind: rules.Is, Text: "nobody@b.example"}}}}, Then: rules.Then{Drop: true}},
				{Name: "seen", If: wordIn("subject", "seen"), Then: rules.Then{Folders: []string{"Seen"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			w.account.Keep = Keep{}
			w.add("before", "Subject: before\r\n\r\nx\r\n")
			w.add("it", c.raw)
			w.add("after", "Subject: after\r\n\r\nx\r\n")
			w.start()
			if got, want := outcome(w.mustPass(), nil, 1), "3 new, 3 delivered, 3 deleted"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			w.settled(ordeal{})
			folder := map[bool]string{false: "INBOX", true: "Seen"}[c.seen]
			want := c.stored
			if want == "" {
				want = c.raw
			}
			found := false
			for _, m := range w.target.folders[folder] {
				found = found || string(m.raw) == want
			}
			if !found {
				t.Errorf("%s has not exactly these %d octets", folder, len(want))
			}
		})
	}
}

func wordIn(key, word string) *rules.Cond {
	return &rules.Cond{Test: &rules.Test{Key: key, Patterns: []rules.Pattern{{Kind: rules.Contains, Text: word}}}}
}

// What an IMAP server does not want is set aside after three tries, and holds up
// nothing else. A NUL is replaced before it comes to that.
func TestFaults_contentRefused(t *testing.T) {
	without := func(words string, bad func([]byte) bool) func([]byte) string {
		return func(body []byte) string {
			if bad(body) {
				return words
			}
			return ""
		}
	}
	has := func(part string) func([]byte) bool {
		return func(body []byte) bool { return bytes.Contains(body, []byte(part)) }
	}
	long := "Subject: long\r\n\r\n" + strings.Repeat("y", 12_000) + "\r\n"
	for _, c := range []struct {
		name, raw, words string
		bad              func([]byte) bool
		stays            bool
	}{
		{"63 an empty message", "", "NO Can't save a zero byte message", func(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }, true},
		{"64 NUL", "Subject: x\r\n\r\na\x00b\r\n", "NO Message contains NUL characters", has("\x00"), false},
		{"67 an 8-bit header", "Subject: \xff\r\n\r\nx\r\n", "NO Message contains invalid header", has("\xff"), true},
		{"68 a long line", long, "BAD Line too long", has(long[100:11_000]), true},
		{"81 a large message", long, "NO [TOOBIG] Message is too large", func(b []byte) bool { return len(b) > 10_000 }, true},
	} {
		for rung, caps := range map[string]string{"MULTIAPPEND": "", "LITERAL+": inLine, "one by one": oneByOne} {
			t.Run("row "+c.name+", "+rung, func(t *testing.T) {
				w := newWorld(t)
				w.account.Keep = Keep{}
				w.fill(9)
				w.add("bad", c.raw)
				b := w.onto(&targetstest.IMAP{Caps: caps, Reject: without(c.words, c.bad)})
				want := []string{"10 new, 10 delivered, 10 deleted", "", ""}
				if c.stays {
					want = []string{"10 new, 9 delivered, 1 failed, 9 deleted, 1 left", "1 new, 1 failed, 1 left", "1 new, 1 held, 1 left"}
				}
				for i := range want {
					if i == 2 && c.stays {
						b.expect("pass 3", then{report: want[i], why: c.words})
						continue
					}
					b.expect(fmt.Sprintf("pass %d", i+1), then{report: want[i]})
				}
				b.arrived(c.stays)
			})
		}
	}
}

// Dates that no server can store are brought within what all can.
func TestFaults_dates(t *testing.T) {
	w := newWorld(t)
	w.account.Keep = Keep{}
	n := 0
	for _, m := range corpus.Nasty() {
		if strings.Contains(m.Name, "date-") {
			w.add(m.Name, string(m.Raw))
			n++
		}
	}
	b := w.onto(&targetstest.IMAP{})
	b.expect("row 75", then{report: fmt.Sprintf("%d new, %d delivered, %d deleted", n, n, n)})
	b.arrived(false)
	first := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, m := range b.imap.Messages("INBOX") {
		if m.Date.Before(first) || m.Date.After(time.Now().Add(25*time.Hour)) {
			t.Errorf("row 75: INTERNALDATE %s of %.80q", m.Date, m.Body)
		}
	}
	if n < 30 {
		t.Errorf("%d messages with odd dates, that is not all", n)
	}
}

// Copies are told apart by their octets where Message-IDs do not help, also
// after the connection broke behind them.
func TestFaults_identity(t *testing.T) {
	for rung, caps := range map[string]string{"MULTIAPPEND": "", "LITERAL+": inLine, "one by one": oneByOne, "no UIDPLUS": noUIDs} {
		for at := 1; at <= 3; at++ {
			t.Run(fmt.Sprintf("rows 76 and 77, %s, cut after APPEND %d", rung, at), func(t *testing.T) {
				w := newWorld(t)
				w.account.Keep = Keep{}
				for _, m := range corpus.Nasty() {
					if strings.Contains(m.Name, "message-id") || strings.Contains(m.Name, "identical") {
						w.add(m.Name, string(m.Raw))
					}
				}
				n := w.left()
				b := w.onto(&targetstest.IMAP{Caps: caps, Hook: imapOn("APPEND", at, targetstest.Action{Cut: targetstest.CutStored})})
				for range 2 {
					if r, err := b.pass(t.Context()); err != nil {
						t.Fatalf("%v, %+v", err, r)
					}
				}
				b.arrived(false)
				if w.left() != 0 || n < 7 {
					t.Errorf("%d of %d left", w.left(), n)
				}
			})
		}
	}
}
