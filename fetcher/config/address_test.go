package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
)

// parseEnd parses what must be right.
func parseEnd(t testing.TB, text string, source bool) config.End {
	t.Helper()
	e, err := config.ParseEnd(text, source)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

// TestParseEnd: what an address says, by the account or target that it becomes,
// its login and its name.
func TestParseEnd(t *testing.T) {
	for _, c := range []struct{ text, source, login, name string }{
		{"pop3s://jane@pop.isp.example", "pop.isp.example:995 implicit jane", "jane@pop.isp.example", "jane@pop.isp.example"},
		{" POP3S://jane@POP.isp.example./ ", "POP.isp.example.:995 implicit jane", "jane@pop.isp.example", "jane@pop.isp.example"},
		{"pop3+starttls://jane@pop.isp.example", "pop.isp.example:110 starttls jane", "jane@pop.isp.example", "jane@pop.isp.example"},
		{"pop3+plain://jane@pop.isp.example:1110", "pop.isp.example:1110 none jane", "jane@pop.isp.example:1110", "jane@pop.isp.example:1110"},
		{"pop3://jane@localhost", "localhost:110 none jane", "jane@localhost", "jane@localhost"},
		{"pop3://jane@[::1]:1110", "[::1]:1110 none jane", "jane@[::1]:1110", "jane@[::1]:1110"},
		{"pop3s://jane@[fe80::1%25eth0]", "[fe80::1%eth0]:995 implicit jane", "jane@[fe80::1%eth0]", "jane@[fe80::1%eth0]"},
		{"pop3s://jane@192.0.2.7", "192.0.2.7:995 implicit jane", "jane@192.0.2.7", "jane@192.0.2.7"},
		{"pop3s://jane%40isp.example@pop.isp.example", "pop.isp.example:995 implicit jane@isp.example", "jane@isp.example", "jane@isp.example"},
		{"pop3s://jane@isp.example@pop.isp.example", "pop.isp.example:995 implicit jane@isp.example", "jane@isp.example", "jane@isp.example"},
		{"pop3s://jane@isp.example@pop.oldhost.example", "pop.oldhost.example:995 implicit jane@isp.example", "jane@isp.example@pop.oldhost.example", "jane@isp.example@pop.oldhost.example"},
		{"pop3s://jane@gmx.de@pop.gmx.net", "pop.gmx.net:995 implicit jane@gmx.de", "jane@gmx.de", "jane@gmx.de"},
		{"pop3s://jane@gmx.de@pop.gmx.de", "pop.gmx.de:995 implicit jane@gmx.de", "jane@gmx.de@pop.gmx.de", "jane@gmx.de@pop.gmx.de"},
		{"pop3s://${HOME}$$x%25%20y+z@pop.isp.example", "pop.isp.example:995 implicit ${HOME}$$x% y+z", "${HOME}$$x% y+z@pop.isp.example", "${HOME}$$x% y+z@pop.isp.example"},
		{"pop3s://null@pop.isp.example", "pop.isp.example:995 implicit null", "null@pop.isp.example", "null@pop.isp.example"},
		{"jane@gmx.de", "pop.gmx.net:995 implicit jane@gmx.de", "jane@gmx.de", "jane@gmx.de"},
		{"Jane.Doe@GMX.de", "pop.gmx.net:995 implicit Jane.Doe@GMX.de", "Jane.Doe@GMX.de", "Jane.Doe@GMX.de"},
	} {
		from := parseEnd(t, c.text, true)
		m, err := config.Moves(nil, []config.Move{{From: from, To: parseEnd(t, "maildir:/srv/mail", false)}}, environ)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		a := m.Jobs[0].Accounts[0]
		got := []string{fmt.Sprintf("%s %s %s", a.Maildrop.Addr(), a.Maildrop.TLS, a.Maildrop.User), from.Login(), a.Name}
		if diff := cmp.Diff([]string{c.source, c.login, c.name}, got); diff != "" || from.String() != a.Name {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

// TestParseEnd_target is the same for targets.
func TestParseEnd_target(t *testing.T) {
	for _, c := range []struct{ text, place, folder, login, name string }{
		{"imaps://jane@imap.home.example", "imap.home.example:993", "INBOX", "jane@imap.home.example", "jane@imap.home.example"},
		{"imaps://jane@imap.home.example/", "imap.home.example:993", "INBOX", "jane@imap.home.example", "jane@imap.home.example"},
		{"imaps://jane@imap.home.example/inbox", "imap.home.example:993", "INBOX", "jane@imap.home.example", "jane@imap.home.example"},
		{"imaps://jane@imap.home.example/Old%20Mail/2026", "imap.home.example:993", "Old Mail/2026", "jane@imap.home.example", "jane@imap.home.example/Old Mail/2026"},
		{"imaps://jane@imap.home.example/Entw%C3%BCrfe/", "imap.home.example:993", "Entwürfe", "jane@imap.home.example", "jane@imap.home.example/Entwürfe"},
		{"imaps://jane@imap.home.example/a@b", "imap.home.example:993", "a@b", "jane@imap.home.example", "jane@imap.home.example/a@b"},
		{"imap+starttls://jane@home.example@imap.home.example", "imap.home.example:143", "INBOX", "jane@home.example", "jane@home.example"},
		{"imap+plain://jane@mail.home.example", "mail.home.example:143", "INBOX", "jane@mail.home.example", "jane@mail.home.example"},
		{"imap://jane@127.0.0.1:1143", "127.0.0.1:1143", "INBOX", "jane@127.0.0.1:1143", "jane@127.0.0.1:1143"},
		{"joe@gmail.com", "imap.gmail.com:993", "INBOX", "joe@gmail.com", "joe@gmail.com"},
		{"imaps://joe@gmail.com@imap.gmail.com/All", "imap.gmail.com:993", "All", "joe@gmail.com", "joe@gmail.com/All"},
		{"lmtp+starttls://mail.home.example/jane@home.example", "mail.home.example:24", "", "", "lmtp:jane@home.example"},
		{"lmtp://localhost:2424/jane@home.example", "localhost:2424", "", "", "lmtp:jane@home.example@localhost:2424"},
		{"lmtp+plain://ferry@mail.home.example/jane%2Bold@home.example", "mail.home.example:24", "", "ferry@mail.home.example", "lmtp:jane+old@home.example"},
		{"maildir:/srv/mail/jane", "/srv/mail/jane", "INBOX", "", "maildir:/srv/mail/jane"},
		{"maildir:///srv/mail/../jane%20$x?#", "/srv/jane%20$x?#", "INBOX", "", "maildir:/srv/jane%20$x?#"},
	} {
		to := parseEnd(t, c.text, false)
		m, err := config.Moves(nil, []config.Move{{From: parseEnd(t, "pop3s://jane@pop.isp.example", true), To: to}}, environ)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		target := m.Targets[m.Jobs[0].Targets[0]]
		got := []string{target.Place(), config.FolderOf(target), to.Login(), target.Name}
		if diff := cmp.Diff([]string{c.place, c.folder, c.login, c.name}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

// badEnds are addresses with something wrong, those of a source first.
var badEnds = map[bool][]string{
	true: {
		"", "Home", "pop.isp.example", "C:/mail", "jane:x", "ja\x1bne@gmx.de", "@gmx.de", "jane@", "a@b@gmx.de",
		"jane@isp.example", "jane@icloud.com", "jane@gmx.de/Old", "jane@outlook.com",
		"pop3s:jane@pop.isp.example", "http://jane@pop.isp.example", "pop3t://jane@pop.isp.example",
		"pop3s://pop.isp.example", "pop3s://@pop.isp.example", "pop3s://jane@", "pop3s://jane", "pop3s://",
		"pop3s://jane@pop.isp.example/INBOX", "pop3s://jane@pop.isp.example:x", "pop3s://jane@pop.isp.example:0", "pop3s://jane@pop.isp.example:65536",
		"pop3s://jane@pop.isp.example:", "pop3s://jane@pop isp", "pop3s://jane@pöp.example", "pop3s://jane@2001:db8::1", "pop3s://jane@[2001]", "pop3s://jane@[::1", "pop3s://jane@[::1]x",
		"pop3s://jane%zz@pop.isp.example", "pop3s://jane%0a@pop.isp.example", "pop3s://jane%ff@pop.isp.example", "pop3s://ja\u202ene@pop.isp.example",
		"pop3s://jane@pop.isp.example?x=1", "pop3s://jane@pop.isp.example#x",
		"pop3://jane@pop.isp.example", "pop3s://jane@contoso.example@outlook.office365.com",
		"imaps://jane@imap.home.example", "lmtp://localhost/jane@home.example", "maildir:/srv/mail",
	},
	false: {
		"jane@isp.example", "pop3s://jane@pop.isp.example", "imap://jane@imap.home.example", "lmtp://mail.home.example/jane@home.example", "lmtps://mail.home.example/jane@home.example",
		"smtp://mail.home.example/jane@home.example", "imap3://jane@imap.home.example", "imaps://jane@imap.home.example//x", "imaps://jane@imap.home.example/a//b",
		"imaps://jane@imap.home.example/%zz", "imaps://jane@imap.home.example/%0d", "imaps://imap.home.example/INBOX", "imaps://jane@outlook.office365.com",
		"lmtp://localhost", "lmtp://localhost/", "lmtp://localhost/jane", "lmtp+starttls://mail.home.example/<jane@home.example>",
		"maildir:", "maildir://host/path", "maildir:~/Mail", "maildir:/srv/\x07",
	},
}

const badEndsFile = "../../testdata/config/addresses.txt"

// TestParseEnd_bad: the words for all of them stand in a file, to be read.
func TestParseEnd_bad(t *testing.T) {
	var b strings.Builder
	for _, source := range []bool{true, false} {
		flag := map[bool]string{true: "--from", false: "--to"}[source]
		for _, text := range badEnds[source] {
			_, err := config.ParseEnd(text, source)
			e, ok := err.(*config.Error)
			if !ok {
				t.Errorf("%q: %v", text, err)
				continue
			}
			if e.File != "" || e.Line != 0 || e.Excerpt != nil || e.Error() != e.Text {
				t.Errorf("%q: an error with a place: %+v", text, e)
			}
			checkBlock(t, e, nil)
			fmt.Fprintf(&b, "%s %q\n", flag, text)
			if err := e.Render(&b, false); err != nil {
				t.Fatal(err)
			}
			b.WriteByte('\n')
		}
	}
	if *update {
		if err := os.WriteFile(badEndsFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(badEndsFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestParseEnd_password: a password in an address is refused, and not shown.
func TestParseEnd_password(t *testing.T) {
	for _, text := range []string{
		"pop3s://jane:" + canary + "@pop.isp.example", "pop3s://:" + canary + "@pop.isp.example", "jane:" + canary + "@gmx.de",
		"pop3s://jane:" + canary + "/x@pop.isp.example", "pop3s://jane:x/" + canary + "@pop.isp.example", "pop3s://jane:" + canary + "?x#y@pop.isp.example",
		"pop3s://jane:" + canary + "@x@pop.isp.example", "pop3s://jane%3A" + canary + "@pop.isp.example", "pop3s://jane@isp.example:" + canary + "@pop.isp.example",
		"imaps://jane:" + canary + "@imap.home.example/INBOX", "lmtp://jane:" + canary + "@localhost/jane@home.example", "pop3s://[jane:" + canary + "]@pop.isp.example",
		"http://jane:" + canary + "@pop.isp.example", "jane:" + canary + "://@pop.isp.example", "pop3s:jane:" + canary + "@pop.isp.example", "pop3s:/jane:" + canary + "@pop.isp.example",
	} {
		for _, source := range []bool{true, false} {
			_, err := config.ParseEnd(text, source)
			e, ok := err.(*config.Error)
			if !ok {
				t.Errorf("%s: accepted", text)
				continue
			}
			if e.Code != "address-password" && !strings.HasPrefix(text, "http:") {
				t.Errorf("%s: [%s] %v", text, e.Code, e)
			}
			if strings.Contains(e.Text+e.Hint+e.Suggest, "canary") {
				t.Errorf("%s: it is shown: %+v", text, e)
			}
		}
	}
}

// FuzzParseEnd never panics, says what is wrong in words that can be printed, and
// what it accepts makes a configuration.
func FuzzParseEnd(f *testing.F) {
	for source, texts := range badEnds {
		for _, text := range texts {
			f.Add(text, source)
		}
	}
	f.Add("pop3s://jane%40isp.example@pop.isp.example:995", true)
	f.Add("imaps://jane@[2001:db8::1]/a/b", false)
	f.Add("lmtp+starttls://joe@mail.home.example/jane@home.example", false)
	f.Fuzz(func(t *testing.T, text string, source bool) {
		e, err := config.ParseEnd(text, source)
		if err != nil {
			checkBlock(t, err.(*config.Error), nil)
			return
		}
		mv := config.Move{From: parseEnd(t, "pop3s://jane@pop.isp.example", true), To: e}
		if source {
			mv = config.Move{From: e, To: parseEnd(t, "maildir:/srv/mail", false)}
		}
		c, err := config.Moves(nil, []config.Move{mv}, environ)
		if err != nil && e.Name == "" && err.(config.Errors)[0].Code != "config-loop" {
			t.Fatalf("%q makes no configuration: %v", text, err)
		}
		if err == nil && (len(c.Jobs) != 1 || c.Jobs[0].State == "") {
			t.Fatalf("%q makes %+v", text, c.Jobs)
		}
	})
}

// FuzzParseEnd_password: whatever stands before and behind it, a password in an
// address is not accepted and not shown.
func FuzzParseEnd_password(f *testing.F) {
	for _, s := range []string{"", "x", "@", ":", "/", "?", "#", "%", "%40", "[", "]", " ", "\x00", "://", "1", "::1", "ü"} {
		f.Add("pop3s", s, s, s)
		f.Add("imaps", "jane", s, "@imap.home.example/INBOX")
		f.Add("lmtp", "jane", s, "@localhost/jane@home.example")
	}
	f.Fuzz(func(t *testing.T, scheme, user, around, rest string) {
		if strings.Contains(scheme+user+around+rest, "canary") || strings.ContainsAny(scheme+user, ":/") || strings.HasPrefix(scheme, "maildir") {
			return
		}
		for _, source := range []bool{true, false} {
			_, err := config.ParseEnd(scheme+"://"+user+":"+around+canary+around+"@"+rest, source)
			if err == nil {
				t.Fatal("it was accepted")
			}
			if e := err.(*config.Error); strings.Contains(e.Text+e.Hint+e.Suggest, "canary") {
				t.Fatalf("it is shown: %+v", e)
			}
		}
	})
}
