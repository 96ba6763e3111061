package corpus_test

import (
	"bytes"
	"io"
	"testing"

	"popferry/targets"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

func TestCorpus(t *testing.T) {
	sets := map[string]func() []corpus.Message{
		"nasty":  corpus.Nasty,
		"varied": corpus.Varied,
		"small":  func() []corpus.Message { return corpus.Small(1, 200) },
	}
	for set, makeAll := range sets {
		names := map[string]bool{}
		again := makeAll()
		for i, m := range makeAll() {
			if names[m.Name] {
				t.Errorf("%s: two messages are called %s", set, m.Name)
			}
			names[m.Name] = true
			if again[i].Name != m.Name || !bytes.Equal(again[i].Raw, m.Raw) {
				t.Errorf("%s: %s is another one the second time", set, m.Name)
			}
		}
	}
	total := 0
	for _, m := range corpus.Small(7, 200) {
		if n := len(m.Raw); n < 1_000 || n > 61_440 {
			t.Errorf("%s has %d octets", m.Name, n)
		}
		if bytes.Count(m.Raw, []byte("\n")) != bytes.Count(m.Raw, []byte("\r\n")) {
			t.Errorf("%s has a bare LF", m.Name)
		}
		total += len(m.Raw)
	}
	if n := total / 200; n < 5_000 || n > 20_000 {
		t.Errorf("the average message has %d octets", n)
	}
	if n := len(corpus.Varied()); n < 28 || n > 36 {
		t.Errorf("%d varied messages, about thirty were promised", n)
	}
	for _, size := range []int64{1_000, 77_777, 30 << 20} {
		if n, err := io.Copy(io.Discard, corpus.Large(size)); n != size || err != nil {
			t.Errorf("Large(%d) has %d octets: %v", size, n, err)
		}
	}
}

// What Dovecot makes of a message has the same canonical form, whatever the
// message: the end-to-end tests rest on it.
func TestCorpus_dovecot(t *testing.T) {
	s := dovecot.Start(t)
	all := append(corpus.Nasty(), corpus.Varied()...)
	for _, m := range all {
		s.Put("jane", "INBOX", m.Raw)
	}
	stored := s.Messages("jane", "INBOX")
	if len(stored) != len(all) {
		t.Fatalf("%d messages, want %d", len(stored), len(all))
	}
	for i, m := range all {
		want, size, _ := targets.CanonOf(bytes.NewReader(m.Raw))
		got, n, _ := targets.CanonOf(bytes.NewReader(stored[i].Raw))
		if got != want {
			t.Errorf("%s: canonical form of %d octets, want %d", m.Name, n, size)
		}
	}
}
