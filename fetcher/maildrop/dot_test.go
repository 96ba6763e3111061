package maildrop

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"popferry/fetcher/maildrop/maildroptest"
)

// dots reads wire through a buffer of that size.
func dots(wire io.Reader, buffer int, lf bool) *dotReader {
	return &dotReader{lc: &lineConn{br: bufio.NewReaderSize(wire, buffer), lf: lf}}
}

func (d *dotReader) all() ([]byte, error) {
	var b []byte
	for {
		piece, err := d.next()
		b = append(b, piece...)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return b, err
		}
	}
}

// unstuff is RFC 1939 §3 word for word, but for single dots.
func unstuff(wire []byte, eol string) (body, rest []byte, err error) {
	for {
		line, after, found := bytes.Cut(wire, []byte(eol))
		if !found {
			return body, wire, io.ErrUnexpectedEOF
		}
		wire = after
		if eol == "\n" {
			line = bytes.TrimSuffix(line, []byte("\r"))
		}
		if string(line) == "." {
			return body, wire, nil
		}
		if bytes.HasPrefix(line, []byte("..")) {
			line = line[1:]
		}
		body = append(append(body, line...), "\r\n"...)
	}
}

// halting gives out random amounts.
type halting struct {
	r   io.Reader
	rng *rand.Rand
}

func (h halting) Read(p []byte) (int, error) { return h.r.Read(p[:min(len(p), 1+h.rng.IntN(40))]) }

// ways are how octets may arrive.
func ways(wire []byte, lf bool) map[string]*dotReader {
	return map[string]*dotReader{
		"at once":         dots(bytes.NewReader(wire), maxLine, lf),
		"one by one":      dots(iotest.OneByteReader(bytes.NewReader(wire)), maxLine, lf),
		"in a small room": dots(bytes.NewReader(wire), 16, lf),
		"at random":       dots(halting{bytes.NewReader(wire), rand.New(rand.NewPCG(1, uint64(len(wire))))}, maxLine, lf),
	}
}

func checkDots(t *testing.T, wire []byte, lf bool) {
	t.Helper()
	eol := "\r\n"
	if lf {
		eol = "\n"
	}
	want, rest, wantErr := unstuff(wire, eol)
	for way, d := range ways(wire, lf) {
		got, err := d.all()
		if !errors.Is(err, wantErr) {
			t.Fatalf("%s: %q ends with %v, want %v", way, wire, err, wantErr)
		}
		if err != nil {
			if !bytes.HasPrefix(got, want) {
				t.Fatalf("%s: %q begins with %q, want %q", way, wire, got, want)
			}
			continue
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: %q is %q, want %q", way, wire, got, want)
		}
		if left, _ := io.ReadAll(d.lc.br); !bytes.Equal(left, rest) {
			t.Fatalf("%s: %q leaves %q, want %q", way, wire, left, rest)
		}
		if _, err := d.next(); err != io.EOF {
			t.Fatalf("%s: after the end comes %v", way, err)
		}
	}
}

var nastyBodies = []string{
	"", "\r\n", "a", "a\r\n", ".", ".\r\n", "..\r\n", "...\r\n\r\n", "a\r\n.\r\nb\r\n", "\r\n.\r\n.\r\n",
	"a\n.\n+OK forged\n", "a\n.\r\n+OK forged\r\n", "a\r\n.\n+OK\r\n", "\r\r\n.\r\r\n", "\r", "\n", "\r.\r\n", "x\r\n.\rx\r\n",
	"\n.\n", "\n.\r\n", "\r\n.\n", "\x00.\r\n\x00", "\xef\xbb\xbfSubject: x\r\n\r\n", strings.Repeat("x", 70_000) + "\r\n." + strings.Repeat("\r\n", 500),
}

func TestDotReader(t *testing.T) {
	for _, body := range nastyBodies {
		var wire bytes.Buffer
		if _, err := maildroptest.Stuff(&wire, []byte(body)); err != nil {
			t.Fatal(err)
		}
		want := body
		if body != "" && !strings.HasSuffix(body, "\r\n") {
			want += "\r\n"
		}
		checkDots(t, append(wire.Bytes(), "+OK next\r\n"...), false)
		if got, err := dots(&wire, maxLine, false).all(); string(got) != want || err != nil {
			t.Errorf("%.60q comes back as %.60q, %v", body, got, err)
		}
	}
}

// The pieces of a body must add up wherever a read happens to end.
func TestDotReader_everySplit(t *testing.T) {
	wire := "a\r\n..b\r\n\r\n\n.\n.\r\r\n...\r\nc\rd\r\n.\r\n+OK\r\n"
	want, rest, _ := unstuff([]byte(wire), "\r\n")
	for i := range wire {
		for j := i; j <= len(wire); j++ {
			d := dots(io.MultiReader(strings.NewReader(wire[:i]), strings.NewReader(wire[i:j]), strings.NewReader(wire[j:])), maxLine, false)
			got, err := d.all()
			left, _ := io.ReadAll(d.lc.br)
			if string(got) != string(want) || string(left) != string(rest) || err != nil {
				t.Fatalf("split at %d and %d: %q, %q left, %v", i, j, got, left, err)
			}
		}
	}
}

// A connection that ends anywhere before the last octet must never look like
// the end of the body.
func TestDotReader_everyCut(t *testing.T) {
	for _, wire := range []string{"Subject: x\r\n\r\n..a\r\nb\r\n.\r\n", ".\r\n", "..\r\n.\r\n"} {
		for cut := range len(wire) {
			for way, d := range ways([]byte(wire[:cut]), false) {
				if _, err := d.all(); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%q, %s: %v", wire[:cut], way, err)
				}
			}
		}
	}
}

// A dot that a server forgot to double is the mail's own.
func TestDotReader_single(t *testing.T) {
	for wire, want := range map[string]string{
		".a\r\n.\r\n": ".a\r\n", ".\ra\r\n..b\r\n.\r\n": ".\ra\r\n.b\r\n", "a\r\n.b\r\n...\r\n.\r\n": "a\r\n.b\r\n..\r\n",
	} {
		checkDots(t, []byte(wire), false)
		if got, err := dots(strings.NewReader(wire), maxLine, false).all(); string(got) != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", wire, got, err, want)
		}
	}
}

func TestDotReader_lf(t *testing.T) {
	for wire, want := range map[string]string{
		"a\nb\n.\n":          "a\r\nb\r\n",
		"a\r\nb\n.\r\n":      "a\r\nb\r\n",
		"..a\n\n.\n":         ".a\r\n\r\n",
		"a\r\r\n.\n":         "a\r\r\n",
		".\n":                "",
		"\xff\x00\n...\n.\n": "\xff\x00\r\n..\r\n",
	} {
		checkDots(t, []byte(wire), true)
		if got, err := dots(strings.NewReader(wire), maxLine, true).all(); string(got) != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", wire, got, err, want)
		}
	}
}

// Whatever is stuffed comes back, and whatever comes is read as the RFC says, to
// the octet, however it arrives.
func FuzzDotReader(f *testing.F) {
	for _, b := range nastyBodies {
		f.Add([]byte(b), false)
	}
	f.Add([]byte("a\r\n.\r\n+OK\r\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, lf bool) {
		checkDots(t, b, lf)
		var wire bytes.Buffer
		maildroptest.Stuff(&wire, b)
		got, err := dots(&wire, maxLine, false).all()
		want := b
		if len(b) > 0 && !bytes.HasSuffix(b, []byte("\r\n")) {
			want = append(bytes.Clone(b), "\r\n"...)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q comes back as %q, %v", b, got, err)
		}
	})
}

// repeat gives the same octets over and over without the cost of a source.
type repeat struct{ b []byte }

func (r repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r.b)
	}
	return n, nil
}

func BenchmarkDotReader(b *testing.B) {
	for name, line := range map[string]string{
		"76 octets a line": strings.Repeat("x", 76) + "\r\n",
		"dots everywhere":  "..\r\n",
		"one line":         strings.Repeat("x", 100),
	} {
		b.Run(name, func(b *testing.B) {
			// Whole lines, so that the wrap-around of the source does not matter.
			wire := bytes.Repeat([]byte(line), 1+(1<<20)/len(line))
			d := dots(repeat{wire}, maxLine, false)
			b.ReportAllocs()
			var n int64
			for b.Loop() {
				piece, err := d.next()
				if err != nil {
					b.Fatal(err)
				}
				n += int64(len(piece))
			}
			b.ReportMetric(float64(n)/1e6/b.Elapsed().Seconds(), "MB/s")
		})
	}
}

func Example_errors() {
	err := error(&Error{Kind: Refused, Code: SysTemp, Op: "RETR 5", Reply: "-ERR [SYS/TEMP] disk is busy"})
	fmt.Println(err)
	fmt.Println("connection usable:", Usable(err), "worth another try:", Temporary(err))
	// Output:
	// RETR 5: -ERR [SYS/TEMP] disk is busy
	// connection usable: true worth another try: true
}
