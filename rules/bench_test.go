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
