package fetcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"popferry/targets"
)

func take(t *testing.T, s *spool, raw string, claim int64) *body {
	t.Helper()
	b, err := s.take(context.Background(), strings.NewReader(raw), claim)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func content(t *testing.T, b *body) string {
	t.Helper()
	out, err := io.ReadAll(io.NewSectionReader(b, 0, b.size))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// freeAll fails the test unless every octet of both budgets was given back.
func freeAll(t *testing.T, s *spool) {
	t.Helper()
	if !s.mem.TryAcquire(memoryBudget) || !s.disk.TryAcquire(spoolBudget) {
		t.Error("a budget was not given back")
	}
}

func TestSpool_take(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"as it is", "A: b\r\n\r\nx\r\n", "A: b\r\n\r\nx\r\n"},
		{"bare LF", "A: b\n\nx\n", "A: b\r\n\r\nx\r\n"},
		{"LF first", "\nx\r\n", "\r\nx\r\n"},
		{"bare CR stays", "a\rb\r\n", "a\rb\r\n"},
		{"CRCRLF stays", "a\r\r\n", "a\r\r\n"},
		{"NUL stays", "a\x00b\r\n", "a\x00b\r\n"},
		{"8-bit stays", "\xff\x80\r\n", "\xff\x80\r\n"},
		{"empty is one line end", "", "\r\n"},
		{"no final line end stays so", "x", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, claim := range []int64{-1, 0, int64(len(c.raw)), 1 << 40} {
				s := newSpool(t.TempDir())
				b := take(t, s, c.raw, claim)
				if got := content(t, b); got != c.want {
					t.Errorf("claim %d: %q, want %q", claim, got, c.want)
				}
				h, n, _ := targets.CanonOf(strings.NewReader(c.raw))
				if b.hash != h || b.canon != n || b.octets != int64(len(c.raw)) {
					t.Errorf("claim %d: hash %s canon %d octets %d", claim, b.hash, b.canon, b.octets)
				}
				b.release()
				freeAll(t, s)
			}
		})
	}
}

// However the octets come and wherever the body lies, it is the same body.
func TestSpool_takeLarge(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var raw bytes.Buffer
	raw.WriteString("Subject: large\r\n\r\n")
	for raw.Len() < 3*inMemory {
		raw.WriteString(strings.Repeat("x", rnd.IntN(200)))
		raw.WriteString([]string{"\r\n", "\n", "\r", "\r\r\n"}[rnd.IntN(4)])
	}
	var want strings.Builder
	last := byte(0)
	for _, c := range raw.Bytes() {
		if c == '\n' && last != '\r' {
			want.WriteByte('\r')
		}
		want.WriteByte(c)
		last = c
	}
	for _, claim := range []int64{0, 10, int64(raw.Len())} {
		dir := t.TempDir()
		s := newSpool(dir)
		b, err := s.take(context.Background(), iotest.HalfReader(bytes.NewReader(raw.Bytes())), claim)
		if err != nil {
			t.Fatal(err)
		}
		if content(t, b) != want.String() {
			t.Errorf("claim %d: body differs", claim)
		}
		if string(b.head) != "Subject: large\r\n\r\n" {
			t.Errorf("claim %d: head is %d octets", claim, len(b.head))
		}
		if names, _ := filepath.Glob(dir + "/*"); len(names) != 0 {
			t.Errorf("left in the spool: %v", names)
		}
		b.release()
		freeAll(t, s)
	}
}

// The body's hash is that of what follows the first empty line, wherever the
// pieces end and whatever the header says.
func TestSpool_text(t *testing.T) {
	const body = "one\r\n\r\ntwo\r\n"
	want, _, _ := targets.CanonOf(strings.NewReader(body))
	for _, head := range []string{"\r\n", "\n", "A: b\r\n\r\n", "A: b\n\n", "A: b\r\nStatus: RO\r\n\r\n", "A: " + strings.Repeat("x", 3000) + "\r\n\r\n"} {
		for name, r := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "octets": iotest.OneByteReader, "halves": iotest.HalfReader} {
			s := newSpool(t.TempDir())
			b, err := s.take(context.Background(), r(strings.NewReader(head+body)), 0)
			if err != nil || b.text != want {
				t.Errorf("%.20q in %s: %v, %s", head, name, err, b.text)
			}
			b.release()
		}
	}
}

func TestSpool_failures(t *testing.T) {
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name string
		r    io.Reader
		dir  string
		want error
	}{
		{"cut", io.MultiReader(strings.NewReader("half a mess"), iotest.ErrReader(broken)), "", broken},
		{"cut in a large one", io.MultiReader(strings.NewReader(strings.Repeat("x", 2*inMemory)), iotest.ErrReader(broken)), "", broken},
		{"no room", strings.NewReader(strings.Repeat("x", 2*inMemory)), "/proc/nowhere", errSpoolFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.dir
			if dir == "" {
				dir = t.TempDir()
			}
			s := newSpool(dir)
			b, err := s.take(context.Background(), c.r, 0)
			if b != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			freeAll(t, s)
			if c.dir == "" {
				if left, _ := os.ReadDir(dir); len(left) != 0 {
					t.Errorf("left in the spool: %v", left)
				}
			}
		})
	}
}

func TestSpool_waitsForRoom(t *testing.T) {
	s := newSpool(t.TempDir())
	if err := s.mem.Acquire(context.Background(), memoryBudget); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := s.take(ctx, strings.NewReader("x"), 1)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// A message that is larger than announced takes what is free or a file,
	// but never waits for itself.
	s.mem.Release(1024)
	b := take(t, s, strings.Repeat("x", 100_000), 1)
	if b.file == nil || b.size != 100_000 {
		t.Errorf("file %v, size %d", b.file, b.size)
	}
	b.release()
	s.mem.Release(memoryBudget - 1024)
	freeAll(t, s)
}

func BenchmarkSpool(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 10, 512 << 10} {
		raw := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", size/72))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := newSpool(b.TempDir())
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := s.take(context.Background(), bytes.NewReader(raw), int64(len(raw)))
				if err != nil {
					b.Fatal(err)
				}
				m.release()
			}
		})
	}
}
