package imap_test

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settle is short, because the servers of these tests store nothing late.
const settle = time.Millisecond

func config(port int, change ...func(*imap.Config)) imap.Config {
	c := imap.Config{
		Server: endpoint.Server{
			Host: "127.0.0.1", Port: port, TLS: endpoint.Plain,
			User: targetstest.User, Password: endpoint.SecretValue(targetstest.Password),
			Timeout: 10 * time.Second,
		},
		CreateFolders: true, Subscribe: true,
		Settle: settle, SettleLarge: settle,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

type target interface {
	targets.Target
	targets.Finder
}

func open(t testing.TB, c imap.Config) target {
	t.Helper()
	tg, err := c.Open("test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg.(target)
}

func start(t testing.TB, s *targetstest.IMAP) *targetstest.IMAP {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const poison = "X-POISON"

// TestSuite_fake runs on every rung of the ladder.
func TestSuite_fake(t *testing.T) {
	for name, caps := range map[string]string{
		"multi": targetstest.DefaultCaps,
		"plus":  "IMAP4rev1 LITERAL+ UIDPLUS",
		"minus": "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL- UIDPLUS NAMESPACE",
		"plain": "IMAP4rev1",
	} {
		t.Run(name, func(t *testing.T) {
			targetstest.Suite{New: func(t *testing.T) targetstest.Sink { return fakeSink(t, caps) }}.Run(t)
		})
	}
}

func fakeSink(t *testing.T, caps string) targetstest.Sink {
	full := false
	s := start(t, &targetstest.IMAP{
		Caps: caps,
		Reject: func(b []byte) string {
			if full {
				return "NO [OVERQUOTA] mailbox full"
			}
			if strings.Contains(string(b), poison) {
				return "NO poison"
			}
			return ""
		},
	})
	return targetstest.Sink{
		Target: open(t, config(s.Port())),
		Read:   reader(t, s.Addr(), targetstest.User),
		Flags:  true, Date: true, Refuse: poison, Full: func() { full = true },
	}
}

func TestSuite_memory(t *testing.T) {
	for name, plus := range map[string]bool{"plus": true, "minus": false} {
		t.Run(name, func(t *testing.T) {
			targetstest.Suite{Without: []string{"refused", "full"}, New: func(t *testing.T) targetstest.Sink {
				m := &targetstest.Memory{Plus: plus}
				if err := m.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { m.Close() })
				return targetstest.Sink{
					Target: open(t, config(m.Port())),
					Read:   reader(t, m.Addr(), targetstest.User),
					Flags:  true, Date: true,
					// imapmemserver takes headers apart and puts them together again.
					Unable: []string{"header only", "mbox From", "BOM", "no header"},
				}
			}}.Run(t)
		})
	}
}

func reader(t *testing.T, addr, user string) func(string) []targetstest.Stored {
	return func(folder string) []targetstest.Stored {
		t.Helper()
		list, err := targetstest.ReadFolder(addr, user, targetstest.Password, folder)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
}

func TestSuite_dovecot(t *testing.T) {
	d := dovecot.Start(t, dovecot.MaxMailSize("4M"), dovecot.Quota("*:storage=40M"))
	large := strings.Repeat("a line of a message that is too large for this server\r\n", 100_000)
	filler, err := io.ReadAll(corpus.Large(42 << 20))
	if err != nil {
		t.Fatal(err)
	}
	for _, tls := range []endpoint.TLS{endpoint.Implicit, endpoint.StartTLS} {
		t.Run(tls.String(), func(t *testing.T) {
			targetstest.Suite{New: func(t *testing.T) targetstest.Sink {
				user := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(t.Name()))
				port := d.IMAPS
				if tls == endpoint.StartTLS {
					port = d.IMAP
				}
				return targetstest.Sink{
					Target: open(t, config(port, func(c *imap.Config) {
						c.TLS, c.CAFile, c.User = tls, d.CAFile, user
					})),
					Read:   reader(t, d.Addr(d.IMAP), user),
					Refuse: large, Full: func() { d.Put(user, "Old", filler) },
					Flags: true, Date: true,
				}
			}}.Run(t)
		})
	}
}
