package maildir

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"popferry/targets/targetstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string, change ...func(*Config)) *Target {
	t.Helper()
	c := Config{Path: path}
	for _, f := range change {
		f(&c)
	}
	tg, err := c.Open("backup", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg.(*Target)
}

// read returns what a folder has, with line ends as an IMAP server shows them.
func read(t testing.TB, path, name string) []targetstest.Stored {
	t.Helper()
	f, err := open(t, path).folder(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []targetstest.Stored
	for _, dir := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(path, f.dir, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, file := range files {
			out = append(out, readFile(t, filepath.Join(path, f.dir, dir, file.Name())))
		}
	}
	slices.SortFunc(out, func(a, b targetstest.Stored) int { return int(int64(a.UID) - int64(b.UID)) })
	return out
}

func readFile(t testing.TB, path string) targetstest.Stored {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	base, flags, _ := strings.Cut(filepath.Base(path), infoMark)
	m, ok := markOf(base)
	if !ok {
		t.Errorf("%s is no name of ours", base)
	}
	body := withCRLF(raw)
	if _, sizes, _ := strings.Cut(base, ",S="); sizes != strconv.Itoa(len(raw))+",W="+strconv.Itoa(len(body)) {
		t.Errorf("%s has %d octets, %d with CRLF", base, len(raw), len(body))
	}
	s := targetstest.Stored{UID: m.uid, Body: body, Date: info.ModTime()}
	for _, l := range letters {
		if strings.IndexByte(flags, l.letter) >= 0 {
			s.Flags = append(s.Flags, `\`+strings.ToUpper(l.flag[:1])+l.flag[1:])
		}
	}
	return s
}

// withCRLF puts a CR before every LF that has none.
func withCRLF(raw []byte) []byte {
	var out []byte
	for i, b := range raw {
		if b == '\n' && (i == 0 || raw[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	return out
}

func TestSuite(t *testing.T) {
	targetstest.Suite{New: func(t *testing.T) targetstest.Sink {
		path := filepath.Join(t.TempDir(), "Maildir")
		tg := open(t, path)
		return targetstest.Sink{
			Target: tg, Read: func(name string) []targetstest.Stored { return read(t, path, name) },
			Flags: true, System: true, Date: true,
		}
	}, Without: []string{"refused", "full"}}.Run(t)
}
