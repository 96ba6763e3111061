package rules

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// contentOf reads a mail written with LF.
func contentOf(mail string) *content {
	head, body := splitHeader([]byte(strings.ReplaceAll(mail, "\n", "\r\n")))
	return readContent(ParseHeader(head), body)
}

func TestContent_texts(t *testing.T) {
	tests := map[string]struct {
		mail string
		want []string
	}{
		"plain":           {"Subject: x\n\nHello\nyou\n", []string{"Hello\nyou\n"}},
		"empty":           {"Subject: x\n\n", []string{""}},
		"no header":       {"\nHello\n", []string{"Hello\n"}},
		"base64":          {"Content-Transfer-Encoding: BASE64\nContent-Type: text/plain; charset=UTF-8\n\nR3LD\nvMOfZQ\n==\n", []string{"Grüße"}},
		"base64, broken":  {"Content-Transfer-Encoding: base64\n\nSGVsb*G8h\nI\n", []string{"Hello!"}},
		"quoted":          {"Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=windows-1252\n\na=80=\nb =  \nc =ZZ =\n", []string{"a€b c =ZZ "}},
		"charset wrong":   {"Content-Type: text/plain; charset=\"no-such\"\n\ncaf\xe9\n", []string{"café\n"}},
		"charset lies":    {"Content-Type: text/plain; charset=utf-8\n\ncaf\xe9\n", []string{"café\n"}},
		"iso-2022-jp":     {"Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B4A;z\x1b(B\n", []string{"漢字\n"}},
		"type unreadable": {"Content-Type: text\n\nx\n", []string{"x\n"}},
		"comment":         {"Content-Type: text/plain (plain) ; charset=utf-8 (yes)\n\nß\n", []string{"ß\n"}},
		"not text":        {"Content-Type: image/png\n\nx\n", nil},
		"html":            {"Content-Type: text/html\n\n<p>1 &lt; 2 and 3<4<br>so</p><!-- no --><script>no()</script>  &amp;&nbsp;yes\n", []string{"1 < 2 and 3<4 so & yes"}},
		"html, cut":       {"Content-Type: text/html\n\na<b>b</b><style>c\n", []string{"ab"}},
		"html, open":      {"Content-Type: text/html\n\na<b\n", []string{"a<b"}},
		"multipart":       {"Content-Type: multipart/mixed; boundary=b\n\nno\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\nno\n", []string{"one", "two"}},
		"no end":          {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n", []string{"one\n"}},
		"no parts":        {"Content-Type: multipart/mixed; boundary=b\n\none\n", nil},
		"no boundary":     {"Content-Type: multipart/mixed\n\none\n", nil},
		"boundaries alike": {
			"Content-Type: multipart/mixed; boundary=\"b\"\n\n--b \n\none --b\n--bb\n--b- \n--b\n\ntwo\n--b-- \n",
			[]string{"one --b\n--bb\n--b- ", "two"},
		},
		"quoted boundary": {"Content-Type: multipart/mixed;\n boundary=\"a (b)\\\"c\"\n\n--a (b)\"c\n\none\n--a (b)\"c--\n", []string{"one"}},
		"nested":          {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n\none\n--bb--\n--b\n\ntwo\n--b--\n", []string{"one", "two"}},
		"forwarded":       {"Content-Type: message/rfc822\n\nSubject: no\nContent-Type: text/html\n\n<i>one</i>\n", []string{"one"}},
		"digest":          {"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: no\n\none\n--b\nContent-Type: text/plain\n\ntwo\n--b--\n", []string{"one", "two"}},
		"attached text":   {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment; filename=a.txt\n\none\n--b\nContent-Disposition: inline; filename=b.txt\n\ntwo\n--b--\n", []string{"two"}},
		"attached mail":   {"Content-Type: message/rfc822\nContent-Disposition: attachment\n\nSubject: x\n\none\n", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, contentOf(tt.mail).texts()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestContent_attachments(t *testing.T) {
	part := func(fields string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n" + fields + "\n\nx\n--b--\n"
	}
	tests := map[string]struct {
		mail string
		want []string
	}{
		"text alone":         {"Subject: x\n\nx\n", nil},
		"marked":             {part("Content-Type: text/plain\nContent-Disposition: ATTACHMENT; filename=\"a b.txt\""), []string{"a b.txt"}},
		"marked, no name":    {part("Content-Type: application/pdf\nContent-Disposition: attachment"), []string{"application/pdf"}},
		"named":              {part("Content-Type: application/pdf; name=a.pdf"), []string{"a.pdf"}},
		"named inline":       {part("Content-Type: image/png\nContent-Disposition: inline; filename=a.png"), []string{"a.png"}},
		"encoded word":       {part("Content-Type: application/pdf; name=\"=?utf-8?q?=C3=BC?=.pdf\""), []string{"ü.pdf"}},
		"RFC 2231":           {part("Content-Type: application/pdf\nContent-Disposition: attachment; filename*=iso-8859-1'de'%FC.pdf"), []string{"ü.pdf"}},
		"RFC 2231 in pieces": {part("Content-Disposition: attachment; filename*0*=utf-8''%C3%BC; filename*1=\"1\"; filename*2*=%2Epdf"), []string{"ü1.pdf"}},
		"no name":            {part("Content-Type: application/pdf"), nil},
		"named text":         {part("Content-Type: text/calendar; name=a.ics"), nil},
		"signature":          {part("Content-Type: application/pgp-signature; name=signature.asc\nContent-Disposition: attachment"), nil},
		"picture of a text":  {"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\nx\n--b\nContent-Type: image/png; name=a.png\n\nx\n--b--\n", nil},
		"attached to a text": {"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: image/png; name=a.png\nContent-Disposition: attachment\n\nx\n--b--\n", []string{"a.png"}},
		"whole mail":         {"Content-Type: application/zip; name=a.zip\n\nx\n", []string{"a.zip"}},
		"attached mail":      {part("Content-Type: message/rfc822\nContent-Disposition: attachment"), []string{"message/rfc822"}},
		"in a forwarded mail": {
			part("Content-Type: message/rfc822\n\nContent-Type: application/zip; name=a.zip"), []string{"a.zip"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, contentOf(tt.mail).attachments()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestContent_caps looks at as much of a body as is promised, and no more.
func TestContent_caps(t *testing.T) {
	nest := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		return b.String() + "\ndeep\n"
	}
	if got := contentOf(nest(maxNested)).texts(); len(got) != 1 {
		t.Errorf("%d deep: %q", maxNested, got)
	}
	if got := contentOf(nest(maxNested + 1)).texts(); got != nil {
		t.Errorf("%d deep: %q", maxNested+1, got)
	}
	many := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 3*maxParts)
	if got := len(contentOf(many).parts); got != maxParts {
		t.Errorf("%d parts", got)
	}
	large := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-Transfer-Encoding: base64\n\n"+
		base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("ä"), 50<<10))+"\n", 9)
	size := 0
	for _, text := range contentOf(large).texts() {
		size += len(text)
		if !utf8.ValidString(text) {
			t.Error("no UTF-8")
		}
	}
	if size < maxTexts-4 || size > maxTexts+4 {
		t.Errorf("%d octets of text", size)
	}
	h := ParseHeader([]byte("Subject: x\r\n\r\n"))
	if got := readContent(h, bytes.Repeat([]byte("a"), 3*maxBody)).parts[0].raw; len(got) != maxBody {
		t.Errorf("%d octets of a body", len(got))
	}
}

// TestContent_hostile is linear in what would be slow for a careless reader.
func TestContent_hostile(t *testing.T) {
	boundary := func(b string) string { return "Content-Type: multipart/mixed; boundary=\"" + b + "\"\n\n" }
	fill := func(s string) string { return strings.Repeat(s, maxBody/len(s)) }
	var nested strings.Builder
	for i := range 2 * maxNested {
		nested.WriteString(boundary(fmt.Sprint("b", i)) + fmt.Sprintf("--b%d\n", i))
	}
	tests := map[string]string{
		"one long line of delimiters": boundary("b") + fill("--b"),
		"lines that are nearly it":    boundary("b") + fill("--bx\n"),
		"dashes":                      boundary("-----") + fill("-"),
		"dash lines":                  boundary(strings.Repeat("-", 60)) + fill(strings.Repeat("-", 59)+"\n"),
		"only delimiters":             boundary("b") + fill("--b\n"),
		"nested":                      nested.String() + fill("--b0\n--b9\n"),
		"headers without end":         boundary("b") + fill("--b\nA: b\n"),
		"open tags":                   "Content-Type: text/html\n\n" + fill("<"),
		"tags without end":            "Content-Type: text/html\n\n" + fill("<a "),
		"comments without end":        "Content-Type: text/html\n\n" + fill("<!--"),
		"scripts without end":         "Content-Type: text/html\n\n" + fill("<script>"),
		"end tags":                    "Content-Type: text/html\n\n<script>" + fill("</"),
		"entities":                    "Content-Type: text/html\n\n" + fill("&lt"),
		"equals signs":                "Content-Transfer-Encoding: quoted-printable\n\n" + fill("="),
		"soft breaks":                 "Content-Transfer-Encoding: quoted-printable\n\n" + fill("= "),
		"parameters":                  "Content-Type: multipart/mixed" + strings.Repeat("; a=\"", 2000) + "\n\nx\n",
		"8-bit":                       "Content-Type: text/plain; charset=gb18030\n\n" + fill("\xff\x81"),
	}
	for name, mail := range tests {
		t.Run(name, func(t *testing.T) {
			head, body := splitHeader([]byte(strings.ReplaceAll(mail, "\n", "\r\n")))
			start := time.Now()
			c := readContent(ParseHeader(head), body)
			c.texts()
			c.attachments()
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// FuzzContent never panics and keeps its limits, whatever a body is.
func FuzzContent(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\ny\r\n--b--"))
	f.Add([]byte("Content-Type: text/html; charset*0=ut; charset*1=f-8\nContent-Transfer-Encoding: quoted-printable\n\n<p>=3D=\n<scr=69pt></p>&#x41;"))
	f.Add([]byte("Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename*=a'b'%41\n\nQUJD=QQ"))
	f.Fuzz(func(t *testing.T, mail []byte) {
		before := bytes.Clone(mail)
		head, body := splitHeader(mail)
		c := readContent(ParseHeader(head), body)
		size := 0
		for _, text := range c.texts() {
			size += len(text)
			if !utf8.ValidString(text) {
				t.Errorf("text %q is no UTF-8", text)
			}
		}
		if size > maxTexts || len(c.parts) > maxParts {
			t.Errorf("%d octets, %d parts", size, len(c.parts))
		}
		if slices.Contains(c.attachments(), "") {
			t.Error("an attachment without a word for it")
		}
		if !bytes.Equal(mail, before) {
			t.Error("the octets were changed")
		}
	})
}
