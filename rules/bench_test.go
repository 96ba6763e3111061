package rules

import (
	"fmt"
	"strings"
	"testing"
)

// benchMail is a header of some 3 KB, as mail that came through a list has it.
func benchMail() []byte {
	var b strings.Builder
	for i := range 6 {
		fmt.Fprintf(&b, "Received: from mx%d.isp.example (mx%d.isp.example [192.0.2.%d])\r\n\tby mail.isp.example with ESMTPS id 0A1B2C3D4E\r\n\tfor <jane@isp.example>; Sat, 21 Nov 2026 23:55:%02d +0100 (CET)\r\n", i, i, i, i)
	}
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=acme.example;\r\n\tb=%s\r\n", strings.Repeat("Zm9vYmFy", 40))
	for i := range 12 {
		fmt.Fprintf(&b, "X-Filter-%d: %s\r\n", i, strings.Repeat("value ", 10))
	}
	b.WriteString("From: \"Acme Billing\" <invoice@acme.example>\r\nTo: Jane Doe <jane@isp.example>, joe@isp.example\r\n" +
		"Subject: =?utf-8?q?Ihre_Rechnung_f=C3=BCr?= =?utf-8?q?_November?=\r\nDate: Sat, 21 Nov 2026 23:55:00 +0100\r\n" +
		"Message-ID: <4711.0815@acme.example>\r\nList-Id: News <news.acme.example>\r\n\r\n")
	return []byte(b.String())
}

func BenchmarkParseHeader(b *testing.B) {
	mail := benchMail()
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		ParseHeader(mail)
	}
}

func BenchmarkText(b *testing.B) {
	h := ParseHeader(benchMail())
	b.ReportAllocs()
	for b.Loop() {
		h.Text("Subject")
	}
}

func BenchmarkAddresses(b *testing.B) {
	h := ParseHeader(benchMail())
	b.ReportAllocs()
	for b.Loop() {
		h.Addresses("To")
	}
}

func BenchmarkReceived(b *testing.B) {
	h := ParseHeader(benchMail())
	b.ReportAllocs()
	for b.Loop() {
		h.Received()
	}
}

func BenchmarkDecide(b *testing.B) {
	kinds := []Cond{
		where("from", Glob, "*@nobody.example", "x*@*.y"), where("subject", Contains, "nothing"), where("list_id", Domain, "other.example"),
		where("header X-Filter-3", Is, "other"), where("to", Glob, "jim@*"), where("subject", Regex, `(?i)\border \d+`), sized(">", 1<<30),
	}
	for _, n := range []int{1, 100} {
		rs := make([]Rule, n)
		for i := range rs {
			rs[i] = Rule{Name: fmt.Sprint(i), If: &kinds[i%len(kinds)], Then: Then{Folders: []string{"A"}}}
		}
		rs[n-1] = Rule{Name: "last", If: new(where("from", Domain, "acme.example")), Then: Then{Folders: []string{"Lists/${list_name}"}}}
		set := mustCompile(b, rs...)
		mail := benchMail()
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := set.Decide(&Message{Account: "isp", Header: ParseHeader(mail), Size: 3000})
				if d.Deliver[0].Dest.Folder != "Lists/news" {
					b.Fatal(d)
				}
			}
		})
	}
}

// manyRules are as a person or a company gathers them over the years: most of
// them about one sender, list or recipient, some about words, a few expressions,
// and none of them about the message at hand.
func manyRules(n int) []Rule {
	rs := make([]Rule, n)
	for i := range rs {
		var c Cond
		switch i % 20 {
		case 0, 1, 2, 3:
			c = where("from", Glob, fmt.Sprintf("*@shop%d.example", i))
		case 4, 5:
			c = where("from", Is, fmt.Sprintf("person%d@firm.example", i), fmt.Sprintf("other%d@firm.example", i))
		case 6, 7, 8:
			c = where("from", Domain, fmt.Sprintf("firm%d.example", i))
		case 9, 10, 11:
			c = where("list_id", Is, fmt.Sprintf("list%d.example", i))
		case 12, 13:
			c = where("subject", Contains, fmt.Sprintf("invoice %d", i))
		case 14:
			c = where("subject", Glob, fmt.Sprintf("*[ticket%d]*", i))
		case 15:
			c = where("recipient", Detail, fmt.Sprint("box", i))
		case 16:
			c = where("subject", Regex, fmt.Sprintf(`(?i)\border[ -]?(no\.? )?%d(\d+)`, i))
		case 17:
			c = where(fmt.Sprintf("header X-Filter-%d", i%12), Is, fmt.Sprint("value", i))
		case 18:
			c = Cond{All: []Cond{where("from", Domain, "acme.example"), where("subject", Contains, fmt.Sprint("project", i))}}
		default:
			c = Cond{Any: []Cond{where("to", Glob, fmt.Sprintf("team%d@*", i)), where("cc", Glob, fmt.Sprintf("team%d@*", i))}}
		}
		rs[i] = Rule{Name: fmt.Sprint("r", i), If: &c, Then: Then{Folders: []string{fmt.Sprint("F", i)}}}
	}
	return rs
}

// BenchmarkDecide_thousand is what a thousand rules cost a message that none of
// them takes, its header parsed anew each time.
func BenchmarkDecide_thousand(b *testing.B) {
	set := mustCompile(b, manyRules(1000)...)
	mails := make([][]byte, 0, 10_000)
	for i := range cap(mails) {
		mails = append(mails, fmt.Appendf(nil, "X-Number: %d\r\n%s", i, benchMail()))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		d := set.Decide(&Message{Account: "isp", Header: ParseHeader(mails[i%len(mails)]), Size: 3000})
		if len(d.Matched) > 0 {
			b.Fatal(d)
		}
		i++
	}
}

// BenchmarkDecide_size shows that the work grows with the header as the header
// does, up to the 256 KiB that are looked at.
func BenchmarkDecide_size(b *testing.B) {
	set := everyRule(b)
	for _, size := range []int{1 << 10, 16 << 10, 128 << 10, 1 << 20} {
		for name, line := range map[string]string{
			"fields": "X-A: b\r\n", "folded": " more\r\n", "words": " =?utf-8?q?a?=", "false words": " =?", "addresses": " a@b.example,", "comments": " (((",
		} {
			head := "From: a@b.example\r\nSubject: x\r\nTo: a@c.example\r\nList-Id:"
			mail := []byte(head + strings.Repeat(line, size/len(line)) + "\r\n\r\n")
			b.Run(fmt.Sprintf("%s/%dK", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(mail)))
				for b.Loop() {
					set.Decide(whole(mail, int64(len(mail))))
				}
			})
		}
	}
}
