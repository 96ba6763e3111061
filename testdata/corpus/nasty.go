package corpus

import (
	"bytes"
	"fmt"
	"strings"
)

// Nasty returns messages that are legal or at least seen in the wild, each of
// which some mail program loses, changes, or chokes on.
func Nasty() []Message {
	var all []Message
	add := func(name, raw string) { all = append(all, Message{name, []byte(raw)}) }
	lineEnds(add)
	shapes(add)
	headers(add)
	dots(add)
	dates(add)
	return all
}

// header is one that nobody objects to, for bodies that somebody does.
func header(name string) string {
	return "From: Nasty Tests <nasty@example.org>\r\nTo: jane@isp.example\r\nSubject: " + name +
		"\r\nDate: Mon, 02 Mar 2026 09:00:00 +0100\r\nMessage-ID: <" + name + "@nasty.example>\r\n"
}

func lineEnds(add func(name, raw string)) {
	body := func(name, body string) { add(name, header(name)+"\r\n"+body) }
	body("nul", "before\x00after\r\n\x00\r\n")
	add("nul-header", "Subject: nul\x00header\r\n"+header("nul-header")+"\r\nx\r\n")
	body("bare-lf", "one\ntwo\r\nthree\n")
	add("all-lf", strings.ReplaceAll(header("all-lf")+"\r\nLF\r\nall the way\r\n", "\r\n", "\n"))
	body("bare-cr", "one\rtwo\r\nthree\r\rfour\r\n")
	body("crcrlf", "one\r\r\ntwo\r\r\r\n")
	body("final-cr", "the last octet is a CR\r")
	body("no-final-newline", "the last line does not end")
	body("blank-lines-last", "x\r\n\r\n\r\n\r\n")
	var every [256]byte
	for i := range every {
		every[i] = byte(i)
	}
	body("every-octet", string(every[:])+"\r\n")
	body("long-line", strings.Repeat("0123456789", 10_000)+"\r\n")
	// A dot right behind a full buffer must not pass for one that starts a line.
	for _, n := range []int{4096, 65536} {
		name := fmt.Sprintf("dot-at-%d", n)
		body(name, strings.Repeat("x", n-len(header(name))-2)+".\r\n..\r\nend\r\n")
	}
}

func shapes(add func(name, raw string)) {
	add("empty", "")
	add("one-crlf", "\r\n")
	add("one-octet", "x")
	add("header-only", header("header-only"))
	add("header-only-no-newline", strings.TrimSuffix(header("header-only-no-newline"), "\r\n"))
	add("body-only", "\r\nA blank line first, so there is no header.\r\n")
	add("no-header", "this is not a header\r\nand neither is this\r\n\r\nbody\r\n")
	add("mbox-from", "From nasty@example.org Mon Mar  2 09:00:00 2026\r\n"+header("mbox-from")+"\r\nx\r\n")
	add("mbox-from-inside", header("mbox-from-inside")+"\r\nFrom here on\r\n>From there on\r\n")
	add("byte-order-mark", "\xef\xbb\xbf"+header("byte-order-mark")+"\r\n\xef\xbb\xbfx\r\n")
	same := header("identical") + "\r\nThere are two of these.\r\n"
	add("identical-1", same)
	add("identical-2", same)
	var nested strings.Builder
	nested.WriteString(header("nested"))
	for i := range 100 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	add("nested", nested.String()+"\r\ndeep\r\n")
}

func headers(add func(name, raw string)) {
	field := func(name, lines string) { add(name, lines+"\r\n"+header(name)+"\r\nx\r\n") }
	field("latin1-header", "X-Greeting: Gr\xfc\xdfe aus Z\xfcrich")
	field("utf8-header", "X-Greeting: Grüße aus Zürich")
	field("invalid-utf8-header", "Comments: \xc3\x28 \xf0\x9f \xff\xfe")
	field("no-colon", "this line has no colon")
	field("blank-before-colon", "X-Early : value")
	field("folded-first-line", " a continuation of nothing")
	field("empty-name", ": a field without a name")
	field("long-field", "X-Long: "+strings.Repeat("y", 200_000))
	field("many-fields", strings.TrimSuffix(strings.Repeat("X-Many: z\r\n", 5_000), "\r\n"))
	field("endless-folding", "X-Folded: "+strings.Repeat("\r\n\tw", 10_000))
	field("encoded-words", "Subject: "+strings.Repeat("=?utf-8?Q?=F0?= ", 5_000))
	field("terminal", "Subject: \x1b]0;owned\x07\x1b[31mred \u202egnirts \u2028next")
	field("many-comments", "From: "+strings.Repeat("(", 2_000)+strings.Repeat(")", 2_000)+" <a@b.example>")
	field("bad-addresses", "From: Foo Bar, <a@b>, @@, \"unclosed <x@y")
	field("return-path", "Return-Path: <a@b.example> SIZE=1 BODY=8BITMIME")
	field("folder-climbing", "List-Id: \"../../etc\" <../../passwd>")
	field("folder-separators", "List-Id: <a/b.c\\d~e%*&f>")
	field("two-message-ids", "Message-ID: <another@nasty.example>")
	field("message-id-quotes", "Message-ID: <\"a\\\"b c\"@nasty.example>")

	plain := header("x")
	id := "Message-ID: <x@nasty.example>\r\n"
	add("no-message-id", strings.Replace(plain, id, "", 1)+"\r\nno id\r\n")
	add("folded-message-id", strings.Replace(plain, id, "Message-ID:\r\n <folded.very.long.local.part@nasty.example>\r\n", 1)+"\r\nfolded\r\n")
	add("encoded-message-id", strings.Replace(plain, id, "Message-ID: =?utf-8?Q?<encoded=40nasty.example>?=\r\n", 1)+"\r\nencoded\r\n")
	add("empty-message-id", strings.Replace(plain, id, "Message-ID:\r\n", 1)+"\r\nempty id\r\n")
	add("message-id-case", strings.Replace(plain, id, "MESSAGE-ID: <X@NASTY.EXAMPLE>\r\n", 1)+"\r\nother case\r\n")
}

// dots are bodies that end early, or add replies of their own, where dots are
// not stuffed right or a lone one between bare LFs passes for the end.
func dots(add func(name, raw string)) {
	body := func(name, body string) { add(name, header(name)+"\r\n"+body) }
	body("dot-lines", ".\r\n..\r\n...\r\n.x\r\n. \r\n\r\n.\r\n")
	body("dot-crlf-forgery", "a\r\n.\r\n+OK 120 octets\r\nSubject: forged\r\n\r\nx\r\n.\r\n-ERR gone\r\n")
	body("dot-lf-forgery", "a\n.\n+OK 120 octets\nSubject: forged\n\nx\n.\nb\r\n")
	body("dot-mixed-1", "a\n.\r\n+OK forged\r\n")
	body("dot-mixed-2", "a\r\n.\n+OK forged\r\n")
	body("dot-cr", "a\r.\r\n+OK forged\r.\rb\r\n")
	body("dot-smuggling", "a\n.\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\nforged\r\n")
	body("dot-last", "the last line is a dot without an end\r\n.")
	body("dot-glued", "the last octet is a dot.")
	add("dot-alone", ".\r\n")
	add("dot-first", "."+header("dot-first")+"\r\nx\r\n")
}

func dates(add func(name, raw string)) {
	for _, d := range []struct{ name, date string }{
		{"date-year-0", "Sat, 1 Jan 0000 00:00:00 +0000"},
		{"date-year-1", "Mon, 1 Jan 0001 00:00:00 +0000"},
		{"date-1899", "Sun, 31 Dec 1899 23:59:59 +0000"},
		{"date-1969", "Wed, 31 Dec 1969 23:59:59 +0000"},
		{"date-epoch", "Thu, 1 Jan 1970 00:00:00 +0000"},
		{"date-2038", "Tue, 19 Jan 2038 03:14:08 +0000"},
		{"date-2106", "Sun, 7 Feb 2106 06:28:16 +0000"},
		{"date-9999", "Fri, 31 Dec 9999 23:59:59 +0000"},
		{"date-10000", "Sat, 1 Jan 10000 00:00:00 +0000"},
		{"date-12345", "Fri, 13 Oct 12345 00:00:00 +0000"},
		{"date-february-31", "Tue, 31 Feb 2026 10:00:00 +0000"},
		{"date-zone-9999", "Mon, 2 Mar 2026 10:00:00 +9999"},
		{"date-two-digits", "2 Mar 26 10:00 GMT"},
		{"date-no-zone", "Mon, 2 Mar 2026 10:00:00"},
		{"date-iso", "2026-03-02T10:00:00Z"},
		{"date-german", "Mo, 2 Mär 2026 10:00:00 +0100"},
		{"date-words", "yesterday"},
		{"date-blank", ""},
	} {
		h := strings.Replace(header(d.name), "Mon, 02 Mar 2026 09:00:00 +0100", d.date, 1)
		add(d.name, h+"\r\nx\r\n")
		add("received-"+d.name, "Received: from a by b; "+d.date+"\r\n"+header("received-"+d.name)+"\r\nx\r\n")
	}
	h := []byte(header("date-missing"))
	start := bytes.Index(h, []byte("Date: "))
	end := start + bytes.IndexByte(h[start:], '\n') + 1
	add("date-missing", string(h[:start])+string(h[end:])+"\r\nx\r\n")
}
