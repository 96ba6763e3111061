package smtp

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
	"popferry/testdata/dovecot"
	"popferry/testdata/oauth"
	"popferry/testdata/postfix"
)

func openReal(t *testing.T, c Config) targets.Target {
	t.Helper()
	c.Host = "127.0.0.1"
	if c.Recipients == nil {
		c.Recipients = []string{"jane@home.example"}
	}
	tg, err := c.Open("test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg
}

// everything is the nasty messages, the suite's, and real mail where it is there.
func everything(t *testing.T) (list []string) {
	for _, m := range corpus.Nasty() {
		list = append(list, string(m.Raw))
	}
	for _, raw := range targetstest.Contents() {
		list = append(list, raw)
	}
	files, err := filepath.Glob("../../../shared/mail/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Log("no real mail is here: only made messages are sent")
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(raw))
	}
	return slices.DeleteFunc(list, func(raw string) bool { return raw == "" })
}

// sendAll delivers messages, all at once.
func sendAll(t *testing.T, tg targets.Target, list []string) {
	var wg sync.WaitGroup
	for i, raw := range list {
		wg.Go(func() {
			if _, err := tg.Deliver(t.Context(), targetstest.Message(raw), targets.Dest{}); err != nil {
				t.Errorf("message %d (%.60q…): %v", i, raw, err)
			}
		})
	}
	wg.Wait()
}

// arrived takes off what receivers put before a message, and our own field.
func arrived(t *testing.T, raw []byte) []byte {
	raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	i := bytes.Index(raw, []byte("(popferry) with POP3;\r\n"))
	if i < 0 {
		t.Fatalf("no trace field in %.300q", raw)
	}
	for range 2 {
		_, raw, _ = bytes.Cut(raw[i:], []byte("\r\n"))
		i = 0
	}
	return raw
}

// sentAs is what a receiver gets of a message.
func sentAs(t *testing.T, raw string) []byte {
	wire, _ := sent(t, raw, chunk)
	text := "\r\n" + strings.TrimSuffix(wire, ".\r\n")
	return []byte(strings.ReplaceAll(text, "\r\n.", "\r\n")[2:])
}

// differences counts copies that are missing and ones too many. form makes
// comparable what a receiver may change.
func differences(t *testing.T, list []string, got [][]byte, form func([]byte) []byte) (missing, extra int) {
	left := map[string]int{}
	for _, raw := range list {
		h, _, _ := targets.CanonOf(bytes.NewReader(form(sentAs(t, raw))))
		left[h.String()]++
	}
	for _, raw := range got {
		h, _, _ := targets.CanonOf(bytes.NewReader(form(arrived(t, raw))))
		left[h.String()]--
	}
	for _, n := range left {
		missing, extra = missing+max(n, 0), extra+max(-n, 0)
	}
	return missing, extra
}

func same(b []byte) []byte { return b }

// TestDovecot_everything: all mail arrives once, octet for octet.
func TestDovecot_everything(t *testing.T) {
	d := dovecot.Start(t, dovecot.WithLMTP)
	tg := openReal(t, Config{Server: endpoint.Server{Port: d.LMTP, TLS: endpoint.Plain}, LMTP: true})
	list := everything(t)
	sendAll(t, tg, list)
	var got [][]byte
	for _, m := range d.Messages("jane@home.example", "INBOX") {
		got = append(got, m.Raw)
	}
	missing, extra := differences(t, list, got, same)
	t.Logf("%d messages sent, %d are there", len(list), len(got))
	if missing+extra > 0 || len(got) != len(list) {
		t.Errorf("%d are missing, %d are too many", missing, extra)
	}
}

// TestDovecot_oneOverQuota: of two recipients one has no room.
func TestDovecot_oneOverQuota(t *testing.T) {
	d := dovecot.Start(t, dovecot.WithLMTP, dovecot.Quota("*:storage=100K"))
	const jane, john = "jane@home.example", "john@home.example"
	d.Put(john, "INBOX", bytes.Repeat([]byte("x\r\n"), 40_000))
	d.Doveadm("quota", "recalc", "-u", john)
	tg := openReal(t, Config{Server: endpoint.Server{Port: d.LMTP, TLS: endpoint.Plain}, LMTP: true, Recipients: []string{jane, john}})
	for i := range 3 {
		rc, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(i)), targets.Dest{})
		if err != nil || len(rc.Failed) != 1 || targets.FaultOf(rc.Failed[john]) != targets.Refused || !strings.Contains(rc.Failed[john].Error(), "5.2.2") {
			t.Errorf("%v, %v: want john refused for his quota", err, rc.Failed)
		}
	}
	if n, m := len(d.Messages(jane, "INBOX")), len(d.Messages(john, "INBOX")); n != 3 || m != 1 {
		t.Errorf("jane has %d messages, john has %d", n, m)
	}
}

// asPostfix makes comparable what Postfix changes in a broken header: it puts an
// empty line before what is no field, and takes blanks before a colon away.
func asPostfix(b []byte) []byte {
	b = bytes.TrimPrefix(bytes.ReplaceAll(b, []byte("\r\n\r\n"), []byte("\r\n")), []byte("\r\n"))
	return blankColon.ReplaceAll(b, []byte("$1:"))
}

var blankColon = regexp.MustCompile(`(?m)^([!-9;-~]+)[ \t]+:`)

// TestPostfix_everything: all mail arrives once, by STARTTLS, in TLS and with a
// login; only headers that are none may be changed.
func TestPostfix_everything(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "sasl") //nolint:usetesting // a socket's path may have 107 octets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "auth")
	dovecot.Start(t, dovecot.AuthAt(socket))
	for _, row := range []struct {
		tls  endpoint.TLS
		list []string
	}{
		{endpoint.StartTLS, everything(t)},
		{endpoint.Implicit, smuggled()},
	} {
		t.Run(row.tls.String(), func(t *testing.T) {
			p := postfix.Start(t, postfix.AuthAt(socket))
			port := p.SMTP
			if row.tls == endpoint.Implicit {
				port = p.SMTPS
			}
			tg := openReal(t, Config{Server: endpoint.Server{
				Port: port, TLS: row.tls, CAFile: p.CAFile, User: "jane", Password: endpoint.SecretValue(dovecot.Password),
			}})
			if fs, err := tg.Check(t.Context()); err != nil || fs[len(fs)-1].Text != "takes mail for jane@home.example" {
				t.Errorf("Check: %v, %v", fs, err)
			}
			sendAll(t, tg, row.list)
			got := p.Messages("jane", len(row.list))
			changed, _ := differences(t, row.list, got, same)
			missing, extra := differences(t, row.list, got, asPostfix)
			t.Logf("%d messages sent, %d are there, %d with a header that was no header", len(row.list), len(got), changed)
			if missing+extra > 0 || len(got) != len(row.list) || changed > len(row.list)/20 {
				t.Errorf("%d are missing, %d are too many", missing, extra)
			}
			rc, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{Rcpt: []string{"nobody@home.example", "jane@elsewhere.example"}})
			if targets.FaultOf(err) != targets.Refused || len(rc.Failed) != 2 {
				t.Errorf("to nobody and elsewhere: %v, %v", err, rc.Failed)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		p := postfix.Start(t, postfix.AuthAt(socket))
		tg := openReal(t, Config{Server: endpoint.Server{
			Port: p.SMTP, TLS: endpoint.StartTLS, CAFile: p.CAFile, User: "jane", Password: endpoint.SecretValue("wrong"),
		}})
		_, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{})
		e, ok := errors.AsType[*endpoint.Error](err)
		if targets.FaultOf(err) != targets.Down || !ok || e.Code != endpoint.CodeLoginRefused || !strings.HasPrefix(e.Reply, "535 5.7.8 ") {
			t.Errorf("%v, want a login that is refused", err)
		}
	})
}

// TestPostfix_login: every mechanism, and tokens as long as Microsoft's.
func TestPostfix_login(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "sasl") //nolint:usetesting // a socket's path may have 107 octets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "auth")
	provider := oauth.Start(t)
	dovecot.Start(t, dovecot.AuthAt(socket), dovecot.OAuth(provider.InfoURL()),
		"auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 xoauth2 oauthbearer")
	p := postfix.Start(t, postfix.AuthAt(socket))
	for _, mech := range []string{"plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "auto", "xoauth2", "oauthbearer"} {
		secret := dovecot.Password
		if strings.Contains(mech, "oauth") {
			secret = provider.Token()
		}
		tg := openReal(t, Config{Server: endpoint.Server{
			Port: p.SMTP, TLS: endpoint.StartTLS, CAFile: p.CAFile, User: "jane", Password: endpoint.SecretValue(secret), Auth: mech,
		}})
		if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(1)), targets.Dest{}); err != nil {
			t.Errorf("%s: %v", mech, err)
		}
	}
	// A token that is not accepted any more, though it looks good, is replaced.
	tg := openReal(t, Config{Server: endpoint.Server{
		Port: p.SMTP, TLS: endpoint.StartTLS, CAFile: p.CAFile, User: oauth.User,
		OAuth: &endpoint.OAuth{Name: "work", User: oauth.User, ClientID: "client", TokenURL: provider.TokenURL(), File: provider.SignIn(t, "2099-01-01T00:00:00Z")},
	}})
	if _, err := tg.Deliver(t.Context(), targetstest.Message(targetstest.Text(2)), targets.Dest{}); err != nil || provider.Given() != 1 {
		t.Errorf("%d tokens for an old one: %v", provider.Given(), err)
	}
}
