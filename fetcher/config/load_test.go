package config_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
)

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	c, err := config.Load(file, environ)
	if err != nil {
		t.Fatal(render(t, err))
	}
	return c
}

func reveal(t *testing.T, s endpoint.Secret) string {
	t.Helper()
	v, err := s.Reveal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLoad_minimal(t *testing.T) {
	c := load(t, examples+"/minimal.yaml")
	if c.State != "/home/jane/.local/state/popferry/popferry.db" || c.Location != time.UTC ||
		c.Log != (config.Log{Level: slog.LevelInfo, Format: "auto"}) || c.Rules != nil {
		t.Errorf("state %q, location %v, log %v, rules %v", c.State, c.Location, c.Log, c.Rules)
	}
	a := c.Accounts["isp"]
	if pw := reveal(t, a.Maildrop.Password); pw != canary {
		t.Errorf("password %q", pw)
	}
	a.Maildrop.Password = endpoint.Secret{}
	wantAccount := &fetcher.Account{Name: "isp", Keep: fetcher.Keep{For: 30 * 24 * time.Hour}, Limits: fetcher.Limits{SessionMessages: 5000}}
	wantAccount.Maildrop.Pipelining = "auto"
	wantAccount.Maildrop.Server = endpoint.Server{Host: "pop.isp.example", Port: 995, User: "jane@isp.example", Auth: "auto", Timeout: time.Minute, Breaker: c.Logins}
	if !reflect.DeepEqual(wantAccount, a) {
		t.Errorf("account\n got %+v\nwant %+v", a, wantAccount)
	}
	target := c.Targets["gmail"]
	got := *target.Config.(*imap.Config)
	got.Password = endpoint.Secret{}
	want := imap.Config{
		Server: endpoint.Server{
			Host: "imap.gmail.com", Port: 993, User: "jane.doe@gmail.com", Auth: "auto", Timeout: time.Minute, Breaker: c.Logins,
			LoginHint: "Gmail needs an app password here, not your normal one: https://myaccount.google.com/apppasswords",
		},
		Folder: "INBOX", CreateFolders: true, Subscribe: true, Date: imap.DateReceived,
	}
	if !reflect.DeepEqual(want, got) || target.Type != "imap" || target.Server.Host != "imap.gmail.com" {
		t.Errorf("target\n got %+v\nwant %+v", got, want)
	}
	j := c.Jobs[0]
	if j.Name != "isp-to-gmail" || j.Every != 5*time.Minute || j.Cron != "" || j.Rules != nil ||
		len(j.Accounts) != 1 || j.Accounts[0] != a || cmp.Diff([]string{"gmail"}, j.Targets) != "" {
		t.Errorf("job %+v", j)
	}
}

func TestLoad_asWritten(t *testing.T) {
	c := load(t, goodFiles+"/as-written.yaml")
	for name, want := range map[string]struct {
		host     string
		port     int
		user, pw string
	}{
		"isp":        {"192.0.2.7", 1995, "0123456", "0600"},
		"v6":         {"2001:db8::7", 110, "null-and-void", "1_000"},
		"other-door": {"pop.home.example", 995, "john", "true"},
	} {
		s := &c.Accounts[name].Maildrop.Server
		if s.Host != want.host || s.Port != want.port || s.User != want.user || reveal(t, s.Password) != want.pw {
			t.Errorf("account %s: %+v", name, s)
		}
	}
	if m := c.Accounts["isp"].Maildrop; m.Pipelining != "off" || !m.AllowLF || !c.Accounts["isp"].Keep.Forever {
		t.Errorf("%+v", c.Accounts["isp"])
	}
	im := c.Targets["home"].Config.(*imap.Config)
	sum := hex.EncodeToString(im.Fingerprint)
	if im.User != "2026-01-01" || reveal(t, im.Password) != "null" || im.Folder != "2026" || im.Subscribe || im.CreateFolders ||
		cmp.Diff([]string{"$Label1"}, im.Flags) != "" || sum != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("%+v", im)
	}
	if c.Location.String() != "Europe/Berlin" || c.Jobs[0].Cron != "@daily" || len(c.Jobs[0].Rules.Names()) != 0 || len(c.Rules.Names()) != 2 {
		t.Errorf("location %v, job %+v", c.Location, c.Jobs[0])
	}
}

func TestLoad_variables(t *testing.T) {
	c := load(t, goodFiles+"/variables.yaml")
	s := &c.Accounts["isp"].Maildrop.Server
	if s.Host != "pop.isp.example" || s.Port != 1995 || s.User != "ja$ne$@isp.example" || reveal(t, s.Password) != canary {
		t.Errorf("%+v", s)
	}
	im := c.Targets["home"].Config.(*imap.Config)
	if im.Folder != "Mail" || reveal(t, im.Password) != "pa$word$" {
		t.Errorf("folder %q", im.Folder)
	}
	if dir, err := filepath.Abs(goodFiles); err != nil || c.State != filepath.Join(dir, "state/popferry.db") {
		t.Errorf("state %q (%v)", c.State, err)
	}
}

// TestLoad_secrets prints a configuration in every way and looks for secrets.
func TestLoad_secrets(t *testing.T) {
	c := load(t, goodFiles+"/aliases.yaml")
	all := fmt.Sprintf("%v %+v %#v %s", c, c.Accounts["isp"], c.Accounts["isp"].Maildrop, c.Targets["home"].Config)
	if strings.Contains(all, canary) {
		t.Error("the password is printed")
	}
	if got := reveal(t, c.Accounts["two"].Maildrop.Password); got != canary {
		t.Errorf("password by alias: %q", got)
	}
}

func TestLoad_targetDate(t *testing.T) {
	data, err := os.ReadFile(examples + "/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]imap.DatePolicy{"received": imap.DateReceived, "header": imap.DateHeader, "now": imap.DateNow} {
		text := strings.Replace(string(data), "  gmail:\n", "  gmail:\n    date: "+word+"\n", 1)
		c, err := config.Parse("p.yaml", []byte(text), environ)
		if err != nil {
			t.Fatal(render(t, err))
		}
		if got := c.Targets["gmail"].Config.(*imap.Config).Date; got != want {
			t.Errorf("date: %s is %v", word, got)
		}
	}
}

func TestLoad_unreadable(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "nowhere.yaml"), t.TempDir()} {
		_, err := config.Load(path, environ)
		errs, ok := err.(config.Errors)
		if !ok || len(errs) != 1 || errs[0].Code != "config-unreadable" || errs[0].Line != 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestConfig_Open(t *testing.T) {
	c := load(t, goodFiles+"/aliases.yaml")
	opened, err := c.Open(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil || len(opened) != 1 || opened["home"] == nil {
		t.Fatalf("%v, %v", opened, err)
	}
	if err := opened["home"].Close(); err != nil {
		t.Error(err)
	}
}

func TestLoad_state(t *testing.T) {
	for _, tc := range []struct {
		env  map[string]string
		want string // "" is an error
	}{
		{map[string]string{"POPFERRY_STATE": "/data/popferry.db", "HOME": "/h"}, "/data/popferry.db"},
		{map[string]string{"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/popferry/popferry.db"},
		{map[string]string{"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/popferry/popferry.db"},
		{map[string]string{}, ""},
	} {
		env := func(name string) (string, bool) {
			if strings.HasSuffix(name, "_PASSWORD") {
				return "x", true
			}
			v, ok := tc.env[name]
			return v, ok
		}
		c, err := config.Load(examples+"/minimal.yaml", env)
		switch {
		case err != nil && (tc.want != "" || err.(config.Errors)[0].Code != "config-no-state"):
			t.Errorf("%v: %v", tc.env, err)
		case err == nil && c.State != tc.want:
			t.Errorf("%v: %q", tc.env, c.State)
		}
	}
}

func TestLoad_timezone(t *testing.T) {
	for tz, want := range map[string]string{"Europe/Berlin": "Europe/Berlin", ":America/New_York": "America/New_York", "": "UTC", "Nowhere/X": "UTC"} {
		env := func(name string) (string, bool) {
			if name == "TZ" {
				return tz, true
			}
			return environ(name)
		}
		c, err := config.Load(examples+"/minimal.yaml", env)
		if err != nil || c.Location.String() != want || (len(c.Warnings) == 1) != (tz == "Nowhere/X") {
			t.Errorf("TZ=%s: %v, warnings %v, %v", tz, c.Location, c.Warnings, err)
		}
	}
}

func TestConfig_Check(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return path
	}
	write("open", "pw", 0o644)
	write("closed", "pw", 0o600)
	file := write("popferry.yaml", `accounts:
  a: {host: a.example, user: jane, password_file: open}
  b: {host: b.example, user: jane, password_file: closed, ca_file: `+dir+`}
  c: {host: c.example, user: jane, password_file: missing}
  d: {host: d.example, user: jane, password: `+canary+`}
targets:
  home: {host: home.example, user: jane, password: "${HOME_PASSWORD}"}
jobs:
  - {from: [a, b, c, d], to: home}
`, 0o640)
	var got []string
	check := func() []string {
		got = nil
		for _, w := range load(t, file).Check() {
			var b strings.Builder
			if err := w.Render(&b, false); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(b.String(), canary) {
				t.Errorf("a secret is shown:\n%s", b.String())
			}
			got = append(got, fmt.Sprintf("%d:%d: [%s] %s", w.Line, w.Column, w.Code, w.Text))
		}
		return got
	}
	want := []string{
		`2:51: [config-readable] everybody on this machine can read the password_file of account "a"`,
		`3:68: [config-file] ca_file in account "b" is a directory`,
		`4:51: [config-file] password_file in account "c": the file cannot be found: no such file or directory`,
		`5:46: [config-readable] others on this machine can read the password in this file`,
	}
	if diff := cmp.Diff(want, check()); diff != "" {
		t.Error(diff)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[:3], check()); diff != "" {
		t.Error(diff)
	}
}

func TestFind(t *testing.T) {
	home := map[string]string{"HOME": "/home/jane"}
	for _, tc := range []struct {
		name, flag string
		env        map[string]string
		there      string
		want       string
		tried      []string
	}{
		{"flag", "x.yaml", map[string]string{"POPFERRY_CONFIG": "y.yaml"}, "", "x.yaml", []string{"x.yaml"}},
		{"variable", "", map[string]string{"POPFERRY_CONFIG": "y.yaml"}, "", "y.yaml", []string{"y.yaml"}},
		{"here", "", home, "popferry.yaml", "popferry.yaml", nil},
		{"home", "", home, "/home/jane/.config/popferry/popferry.yaml", "/home/jane/.config/popferry/popferry.yaml", nil},
		{"xdg", "", map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/popferry/popferry.yaml", "/x/popferry/popferry.yaml", nil},
		{"image", "", map[string]string{}, "/config/popferry.yaml", "/config/popferry.yaml", []string{"popferry.yaml", "/config/popferry.yaml", "/etc/popferry/popferry.yaml"}},
		{"system", "", home, "/etc/popferry/popferry.yaml", "/etc/popferry/popferry.yaml", nil},
		{"none", "", home, "", "", []string{"popferry.yaml", "/home/jane/.config/popferry/popferry.yaml", "/config/popferry.yaml", "/etc/popferry/popferry.yaml"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok }
			path, tried, err := config.Find(tc.flag, env, func(p string) bool { return p == tc.there })
			if path != tc.want || (err != nil) != (tc.want == "") {
				t.Errorf("%q, %v", path, err)
			}
			if tc.tried != nil && cmp.Diff(tc.tried, tried) != "" {
				t.Errorf("tried %v", tried)
			}
		})
	}
}
