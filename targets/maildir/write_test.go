package maildir

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"popferry/targets"
	"popferry/targets/targetstest"
)

// onDisk writes raw as a message is written, reading it in pieces.
func onDisk(t testing.TB, r io.Reader) (string, size) {
	t.Helper()
	var out bytes.Buffer
	w := lineWriters.Get().(*lineWriter)
	defer lineWriters.Put(w)
	w.reset(&out)
	if _, err := w.copy(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return out.String(), w.size
}

func TestLineWriter(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"", ""},
		{"\r\n", "\n"},
		{"a\r\nb\r\n", "a\nb\n"},
		{"no end", "no end"},
		{"a\nb\r\n", "a\nb\n"},
		{"a\rb\r\n", "a\rb\n"},
		{"a\r", "a\r"},
		{"a\r\r", "a\r\r"},
		{"a\r\r\nb", "a\r\nb"},
		{"\r\r\r\n", "\r\r\n"},
		{"\n\n\r\n\n", "\n\n\n\n"},
		{"NUL \x00 and \xff\r\n", "NUL \x00 and \xff\n"},
	} {
		for name, r := range map[string]io.Reader{
			"at once": strings.NewReader(c.raw), "by octet": iotest.OneByteReader(strings.NewReader(c.raw)),
		} {
			got, n := onDisk(t, r)
			if got != c.want || n.disk != int64(len(got)) || n.virtual != int64(len(withCRLF([]byte(got)))) {
				t.Errorf("%q %s: %q, %+v, want %q", c.raw, name, got, n, c.want)
			}
		}
	}
}

func FuzzLineWriter(f *testing.F) {
	for _, raw := range targetstest.Contents() {
		if len(raw) < 10_000 {
			f.Add([]byte(raw), 7)
		}
	}
	f.Add([]byte("a\r\r\nb\r"), 3)
	f.Fuzz(func(t *testing.T, raw []byte, piece int) {
		piece = 1 + max(piece, -piece, 0)%50
		got, n := onDisk(t, &pieces{raw, piece})
		h1, _, _ := targets.CanonOf(bytes.NewReader(raw))
		h2, _, _ := targets.CanonOf(strings.NewReader(got))
		if h1 != h2 {
			t.Errorf("%q becomes %q, which is another message", raw, got)
		}
		if n.disk != int64(len(got)) || n.virtual != int64(len(withCRLF([]byte(got)))) {
			t.Errorf("%q: %+v, not %d and %d", got, n, len(got), len(withCRLF([]byte(got))))
		}
		if want := strings.ReplaceAll(string(raw), "\r\n", "\n"); got != want {
			t.Errorf("%q becomes %q", raw, got)
		}
	})
}

// pieces reads so many octets at a time.
type pieces struct {
	raw   []byte
	piece int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.raw) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.raw[:min(p.piece, len(p.raw))])
	p.raw = p.raw[n:]
	return n, nil
}

// failing fails after so many octets.
type failing struct{ n int }

var errDisk = errors.New("the disk says no")

func (w *failing) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestLineWriter_errors(t *testing.T) {
	long := strings.Repeat("0123456789\r\n", 20_000)
	for _, room := range []int{0, 32 << 10, 200_000} {
		w := lineWriters.New().(*lineWriter)
		w.reset(&failing{room})
		_, err := w.copy(t.Context(), strings.NewReader(long))
		if !errors.Is(err, errDisk) {
			t.Errorf("with room for %d: %v", room, err)
		}
	}
	w := lineWriters.New().(*lineWriter)
	w.reset(io.Discard)
	if _, err := w.copy(t.Context(), iotest.ErrReader(errDisk)); !errors.Is(err, errDisk) {
		t.Errorf("reading fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.copy(ctx, strings.NewReader(long)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
