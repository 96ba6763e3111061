package maildir

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/targets"
)

func TestFolder(t *testing.T) {
	for name, want := range map[string]struct{ name, dir string }{
		"":                       {"Mail/in", ".Mail.in"},
		"INBOX":                  {"INBOX", "."},
		"inbox":                  {"INBOX", "."},
		"Inbox/Sub":              {"INBOX/Sub", ".INBOX.Sub"},
		"Lists/go":               {"Lists/go", ".Lists.go"},
		"Lists/example.com":      {"Lists/example_com", ".Lists.example_com"},
		".hidden":                {"_hidden", "._hidden"},
		"...":                    {"___", ".___"},
		"Übung & Co":             {"Übung & Co", ".&ANw-bung &- Co"},
		"日本語/2024":               {"日本語/2024", ".&ZeVnLIqe-.2024"},
		"a/~b":                   {"a/~b", ".a.~b"},
		`q"u\o%*`:                {`q"u\o%*`, `.q"u\o%*`},
		strings.Repeat("x", 254): {strings.Repeat("x", 254), "." + strings.Repeat("x", 254)},
	} {
		tg := open(t, "/nowhere", func(c *Config) { c.Folder = "Mail/in" })
		f, err := tg.folder(name)
		if err != nil || f.name != want.name || f.dir != want.dir {
			t.Errorf("%q: %+v, %v, want %q", name, f, err, want)
			continue
		}
		if home := name == ""; f.home != home {
			t.Errorf("%q: home %v", name, f.home)
		}
	}
	for _, name := range []string{"../x", "/abs", "a//b", "a/", "/", "~root", ".", "a/../b", "a/.", "x\x00", "x\r\ny", "x\u0085", "x\xff", strings.Repeat("x", 255), strings.Repeat("ü", 100)} {
		_, err := open(t, "/nowhere").folder(name)
		if targets.FaultOf(err) != targets.Refused {
			t.Errorf("%q: %v, want refused", name, err)
		}
	}
	if _, err := (Config{Path: "/nowhere", Folder: "a//b"}).Open("x", nil); err == nil {
		t.Error("a folder that cannot be is no error of the configuration")
	}
}

// TestFolder_oneOfMany: two names of one folder share its gate.
func TestFolder_oneOfMany(t *testing.T) {
	tg := open(t, "/nowhere")
	a, _ := tg.folder("Lists/a.b")
	b, _ := tg.folder("Lists/a_b")
	in, _ := tg.folder("iNbOx")
	home, _ := tg.folder("")
	if a != b || in != home || !home.home {
		t.Error("one folder, two gates")
	}
}

func TestMarkOf(t *testing.T) {
	tg := open(t, "/nowhere")
	h := targets.Hash{1, 2, 3, 255}
	at := time.Unix(1_732_252_453, 123_456_789)
	name := tg.uniqueName(at, 77, ourFirst+5, h)
	if got, ok := markOf(name + ",S=1,W=2"); !ok || got != (mark{77, ourFirst + 5, tagOf(h)}) {
		t.Errorf("%s: %+v, %v", name, got, ok)
	}
	if !strings.HasPrefix(name, "1732252453.M123456P") || strings.Count(name, ".") < 2 || strings.ContainsAny(name, "/:,") {
		t.Errorf("%s is no Maildir name", name)
	}
	tag := tagOf(h)
	for _, bad := range []string{
		"", "1732252453.M1P2.host", "1.M2P3" + ours + ".host", "1.M2P3" + ours + "1_80000000_" + tag[1:] + ".host",
		"1.M2P3" + ours + "1_80000000.host", "1.M2P3" + ours + "0_80000000_" + tag + ".host", "1.M2P3" + ours + "1_7fffffff_" + tag + ".host",
		"1.M2P3" + ours + "100000000_80000000_" + tag + ".host", "1.M2P3" + ours + "x_80000000_" + tag + ".host", "1.M2P3" + ours + "1_80000000_" + tag + "_1.host",
	} {
		if got, ok := markOf(bad); ok {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestHostPart(t *testing.T) {
	for in, want := range map[string]string{
		"mx1.isp.example": "mx1.isp.example", "a/b:c,d e": "a_b_c_d_e", "bücher": "b_cher", "a_popferry_b": "a_popferry_b",
		strings.Repeat("h", 300): strings.Repeat("h", 60),
	} {
		if got := hostPart(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestNumbers: no process gets a number that another has, whatever they do at
// the same time, and later ones get higher ones.
func TestNumbers(t *testing.T) {
	path := t.TempDir()
	var mu sync.Mutex
	given := map[[2]uint32]bool{}
	last := uint32(0)
	for range 3 {
		var wg sync.WaitGroup
		low := last
		for range 8 {
			tg := open(t, path)
			for range 4 {
				wg.Go(func() {
					for range blockSize / 2 {
						v, u, err := tg.numbers.take(tg)
						mu.Lock()
						if err != nil || u <= low || u < ourFirst || given[[2]uint32{v, u}] {
							t.Errorf("%d %d after %d, %v: given before %v", v, u, low, err, given[[2]uint32{v, u}])
						}
						given[[2]uint32{v, u}] = true
						last = max(last, u)
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
	}
	left, err := os.ReadDir(path)
	if err != nil || len(left) > 8 {
		t.Errorf("%d files stay, %v", len(left), err)
	}
}

func TestNumbers_peek(t *testing.T) {
	tg := open(t, t.TempDir())
	v, u, err := tg.numbers.peek(tg)
	for range 3 {
		v2, u2, err2 := tg.numbers.take(tg)
		if err != nil || err2 != nil || v != v2 || u != u2 {
			t.Errorf("peek gave %d %d, %v, take %d %d, %v", v, u, err, v2, u2, err2)
		}
		v, u, err = tg.numbers.peek(tg)
	}
	if u != ourFirst+3 {
		t.Errorf("peeking uses up numbers: %d", u)
	}
}

// TestNumbers_lost: when nobody knows any more what was given, all is numbered
// anew; so it is when there are no more numbers.
func TestNumbers_lost(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	take := func(path string) (uint32, uint32) {
		tg := open(t, path)
		tg.now = func() time.Time { return now }
		v, u, err := tg.numbers.take(tg)
		if err != nil {
			t.Fatal(err)
		}
		return v, u
	}
	path := t.TempDir()
	first, u := take(path)
	if first != 1_800_000_000 || u != ourFirst {
		t.Errorf("%d %d", first, u)
	}
	now = now.Add(-time.Hour)
	if v, u := take(path); v != first || u != ourFirst+blockSize {
		t.Errorf("%d %d", v, u)
	}
	for _, name := range []string{blockPrefix + "1800000000-" + "2147482", blockPrefix, blockPrefix + "x-1", blockPrefix + "1", blockPrefix + "1-2-3"} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if v, u := take(path); v != first+1 || u != ourFirst {
		t.Errorf("after the last number: %d %d", v, u)
	}
	files, _ := filepath.Glob(filepath.Join(path, blockPrefix+"18*"))
	for _, f := range files {
		os.Remove(f)
	}
	if v, _ := take(path); v == first || v == first+1 {
		t.Errorf("UIDVALIDITY %d, as it was", v)
	}
}

func TestForeignUIDs(t *testing.T) {
	a, b := foreignUIDs{}, foreignUIDs{}
	names := []string{"1.M2P3.host", "2.M2P3.host", "x"}
	for _, n := range names {
		if u, again := a.next(n), b.next(n); u != again || u == 0 || u >= ourFirst {
			t.Errorf("%s: %d, and then %d", n, u, again)
		}
	}
	// A name that is there twice, or another with the same number, gets the next.
	if u, again := a.next("x"), b.next("x"); u != again || b[u] == false || len(a) != 4 {
		t.Errorf("%d, %d of %v", u, again, a)
	}
}
