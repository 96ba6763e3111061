// Package corpus makes messages for tests and for the demo: nasty ones, one for
// each thing that breaks mail software; realistic ones in any number; a mailbox
// as a person might have it; and one message of any size. The same call always
// gives the same octets.
package corpus

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"
)

// Message is one message, with a name for the output of tests. Raw is the
// caller's to keep, not to change: it may be shared.
type Message struct {
	Name string
	Raw  []byte
}

// Small returns n realistic messages of 1 to 60 KB, most of them short. Their
// lines end in CRLF, no two are alike, and another seed gives others.
func Small(seed uint64, n int) []Message {
	r := rand.New(rand.NewPCG(seed, 0))
	all := make([]Message, n)
	for i := range all {
		all[i] = Message{
			Name: fmt.Sprintf("small-%d-%d", seed, i),
			Raw:  small(r, seed, i),
		}
	}
	return all
}

var epoch = time.Date(2026, time.March, 2, 8, 0, 0, 0, time.FixedZone("", 3600))

func small(r *rand.Rand, seed uint64, i int) []byte {
	from, to := pick(r, people), pick(r, people)
	date := epoch.Add(time.Duration(i)*7*time.Minute + time.Duration(r.IntN(400))*time.Second)
	var b strings.Builder
	fmt.Fprintf(&b, "Return-Path: <%s>\n", from.address)
	for hop := range 1 + r.IntN(3) {
		fmt.Fprintf(&b, "Received: from mx%d.example.net (mx%d.example.net [192.0.2.%d])\n\tby mail.example.org with ESMTPS id %08x\n\tfor <%s>; %s\n",
			hop, hop, 1+r.IntN(254), r.Uint32(), to.address, date.Add(-time.Duration(hop)*3*time.Second).Format(time.RFC1123Z))
	}
	fmt.Fprintf(&b, "Message-ID: <%d.%d.%08x@%s>\n", seed, i, r.Uint32(), from.domain())
	fmt.Fprintf(&b, "From: %s <%s>\nTo: %s <%s>\nSubject: %s\nDate: %s\nMIME-Version: 1.0\n",
		from.name, from.address, to.name, to.address, subject(r), date.Format(time.RFC1123Z))

	// Half of all mail is short; a tail of it has an attachment.
	switch kind := r.IntN(10); {
	case kind < 5:
		b.WriteString("Content-Type: text/plain; charset=utf-8\n\n")
		prose(&b, r, 500+r.IntN(3000))
	case kind < 8:
		boundary := fmt.Sprintf("=_%08x", r.Uint32())
		fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=%q\n\n--%s\nContent-Type: text/plain; charset=utf-8\n\n", boundary, boundary)
		prose(&b, r, 500+r.IntN(2000))
		fmt.Fprintf(&b, "--%s\nContent-Type: text/html; charset=utf-8\n\n<html><body>\n", boundary)
		for range 1 + r.IntN(8) {
			b.WriteString("<p style=\"margin:0 0 1em\">\n")
			prose(&b, r, 300+r.IntN(1500))
			b.WriteString("</p>\n")
		}
		fmt.Fprintf(&b, "</body></html>\n--%s--\n", boundary)
	default:
		boundary := fmt.Sprintf("=_%08x", r.Uint32())
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\n\n--%s\nContent-Type: text/plain; charset=utf-8\n\n", boundary, boundary)
		prose(&b, r, 300+r.IntN(1000))
		fmt.Fprintf(&b, "--%s\nContent-Type: application/octet-stream; name=report.bin\nContent-Transfer-Encoding: base64\n\n", boundary)
		attachment(&b, r, 4_000+r.IntN(38_000))
		fmt.Fprintf(&b, "--%s--\n", boundary)
	}
	return crlf(b.String())
}

// crlf gives a text the line ends of mail.
func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

type person struct{ name, address string }

func (p person) domain() string { return p.address[strings.IndexByte(p.address, '@')+1:] }

var people = []person{
	{"Jane Doe", "jane@isp.example"},
	{"Tom Baker", "tom.baker@example.com"},
	{"=?utf-8?Q?J=C3=BCrgen_M=C3=BCller?=", "juergen@mueller.example"},
	{"\"O'Hara, Maeve\"", "maeve@ohara.example"},
	{"Accounts Payable", "invoices@supplies.example"},
	{"=?UTF-8?B?5bGx55Sw5aSq6YOO?=", "yamada@example.jp"},
	{"Build Robot", "noreply+ci@builds.example.org"},
}

var words = strings.Fields(`the of and a to in is you that it he was for on are as with his they
	at be this have from or one had by word but not what all were we when your can said there use an
	each which she do how their if will up other about out many then them these so some her would make
	like him into time has look two more write go see number no way could people my than first water
	been call who its now find long down day did get come made may part meeting invoice schedule train
	garden budget release customer Zürich café naïve`)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func subject(r *rand.Rand) string {
	chosen := []string{pick(r, []string{"News:", "Re:", "Fwd:", "[list]"})}
	for range 2 + r.IntN(6) {
		w := pick(r, words)
		if !strings.ContainsFunc(w, func(c rune) bool { return c > '~' }) {
			chosen = append(chosen, w)
		}
	}
	return strings.Join(chosen, " ")
}

// prose writes lines of about n octets in all, some of which start with a dot,
// with "From " or with a quotation mark.
func prose(b *strings.Builder, r *rand.Rand, n int) {
	line := 0
	for end := b.Len() + n; b.Len() < end; {
		if line == 0 {
			switch r.IntN(40) {
			case 0:
				b.WriteString(".")
			case 1:
				b.WriteString("From ")
			case 2, 3:
				b.WriteString("> ")
			case 4:
				b.WriteString("\n")
			}
		}
		w := pick(r, words)
		b.WriteString(w)
		if line += len(w) + 1; line > 68 {
			b.WriteString("\n")
			line = 0
			continue
		}
		b.WriteString(" ")
	}
	b.WriteString("\n")
}

// attachment writes n random octets in base64.
func attachment(w io.Writer, r *rand.Rand, n int) {
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	for text := base64.StdEncoding.EncodeToString(raw); text != ""; {
		line := text[:min(76, len(text))]
		text = text[len(line):]
		fmt.Fprintln(w, line)
	}
}

// Large returns a message of exactly size octets, at least 1,000, that holds
// one attachment. Reading it needs no memory to speak of.
func Large(size int64) io.Reader {
	head := crlf(fmt.Sprintf(`From: Studio <upload@studio.example>
To: Jane Doe <jane@isp.example>
Subject: The film, %d octets
Date: %s
Message-ID: <large.%d@studio.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_film"

--=_film
Content-Type: video/mp4
Content-Transfer-Encoding: base64

`, size, epoch.Format(time.RFC1123Z), size))
	tail := crlf("\n--=_film--\n")
	body := size - int64(len(head)+len(tail))
	return io.MultiReader(
		strings.NewReader(string(head)),
		io.LimitReader(&film{r: rand.New(rand.NewPCG(uint64(size), 1))}, body),
		strings.NewReader(string(tail)),
	)
}

// film is an endless attachment.
type film struct {
	r    *rand.Rand
	left []byte
}

func (f *film) Read(p []byte) (int, error) {
	for n := 0; ; {
		c := copy(p[n:], f.left)
		f.left = f.left[c:]
		if n += c; n == len(p) {
			return n, nil
		}
		var b strings.Builder
		attachment(&b, f.r, 57*64)
		f.left = crlf(b.String())
	}
}
