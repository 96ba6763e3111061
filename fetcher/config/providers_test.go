package config

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"popferry/targets/endpoint"
)

// TestProviders_ispdb: every server of the table, and every domain where the list
// has them, is what Thunderbird has.
func TestProviders_ispdb(t *testing.T) {
	f, err := os.Open("../../../shared/ispdb/servers.tsv")
	if err != nil {
		t.Skip("no ../shared/ispdb is here")
	}
	defer f.Close()
	there := map[string]string{} // server -> id
	home := map[string]string{}  // domain -> id
	auths := map[string]string{} // server -> how
	for in := bufio.NewScanner(f); in.Scan(); {
		c := strings.Split(in.Text(), "\t")
		if len(c) < 9 {
			continue
		}
		at := strings.Join(c[1:5], " ")
		there[at], auths[at] = c[0], auths[at]+c[6]
		for d := range strings.FieldsSeq(c[8]) {
			home[d] = c[0]
		}
	}
	checked := 0
	for name, p := range providers() {
		for _, protocol := range []string{"pop3", "imap", "smtp"} {
			at, ok := p.server(protocol)
			if !ok {
				if protocol != "pop3" || p.POP3 != "" {
					t.Errorf("%s has no %s server", name, protocol)
				}
				continue
			}
			how := map[endpoint.TLS]string{endpoint.Implicit: "SSL", endpoint.StartTLS: "STARTTLS"}[at.tls]
			key := fmt.Sprintf("%s %s %d %s", protocol, at.host, at.port, how)
			if there[key] == "" {
				t.Errorf("%s: %q is not in the list", name, key)
			}
			checked++
		}
		for _, d := range p.Domains {
			if id := home[d]; id != "" && !slices.ContainsFunc([]string{"pop3", "imap", "smtp"}, func(protocol string) bool {
				at, ok := p.server(protocol)
				for _, how := range []string{"SSL", "STARTTLS"} {
					if ok && there[fmt.Sprintf("%s %s %d %s", protocol, at.host, at.port, how)] != "" {
						return true
					}
				}
				return false
			}) {
				t.Errorf("%s: %s is of %s", name, d, id)
			}
		}
	}
	t.Logf("%d servers of %d providers", checked, len(providers()))
}

// TestProviders: each has what it needs.
func TestProviders(t *testing.T) {
	seen := map[string]string{}
	for name, p := range providers() {
		if !nameText.MatchString(name) || len(p.Domains) == 0 {
			t.Errorf("%q: %+v", name, p)
		}
		for _, d := range p.Domains {
			if seen[d] != "" {
				t.Errorf("%s is of %s and of %s", d, name, seen[d])
			}
			seen[d] = name
		}
		if o := p.OAuth; o != nil {
			for _, u := range []string{o.AuthURL, o.TokenURL} {
				if !strings.HasPrefix(u, "https://") {
					t.Errorf("%s: %q", name, u)
				}
			}
			for _, protocol := range []string{"pop3", "imap", "smtp"} {
				if o.Scopes[protocol] == "" {
					t.Errorf("%s: no scope for %s", name, protocol)
				}
			}
		}
	}
}

// TestPreset: what is left out comes from the table, what is there stays.
func TestPreset(t *testing.T) {
	for _, tt := range []struct {
		name, account string
		want          string // host:port, TLS, mechanism of OAuth
		hint          string
	}{
		{"by domain", "user: jane@gmail.com, password: x", "pop.gmail.com:995 implicit", "Gmail needs an app password"},
		{"by name", "provider: google, user: jane@example.org, password: x", "pop.gmail.com:995 implicit", "Gmail needs an app password"},
		{"by host", "host: pop.gmail.com, user: jane@example.org, password: x", "pop.gmail.com:995 implicit", "Gmail needs an app password"},
		{"another host", "host: pop.example.org, user: jane@gmail.com, password: x", "pop.example.org:995 implicit", ""},
		{"another port", "user: jane@gmx.de, tls: starttls, password: x", "pop.gmx.net:110 starttls", "GMX"},
		{"OAuth", "provider: microsoft, user: jane@example.org, oauth: {client_id: c}", "outlook.office365.com:995 implicit https://login.microsoftonline.com/common/oauth2/v2.0/devicecode https://outlook.office.com/POP.AccessAsUser.All offline_access", "Microsoft"},
		{"OAuth of another", "provider: microsoft, user: jane@example.org, oauth: {client_id: c, token_url: \"https://x.example/t\", auth_url: \"https://x.example/a\", scopes: [s]}", "outlook.office365.com:995 implicit  s", "Microsoft"},
	} {
		c, err := Parse("x.yaml", []byte("state: x\naccounts: {isp: {"+tt.account+"}}\ntargets: {home: {host: h, user: u, password: p}}\njobs: [{from: isp, to: home}]\n"), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		s := c.Accounts["isp"].Maildrop.Server
		got := s.Addr() + " " + s.TLS.String()
		if s.OAuth != nil {
			got += " " + s.OAuth.DeviceURL + " " + strings.Join(s.OAuth.Scopes, " ")
		}
		if got != tt.want || !strings.HasPrefix(s.LoginHint, tt.hint) || tt.hint == "" && s.LoginHint != "" {
			t.Errorf("%s: %s, %q", tt.name, got, s.LoginHint)
		}
	}
}

// TestProviders_upload: a target has the rate of its provider, unless it says
// another one, or none.
func TestProviders_upload(t *testing.T) {
	for keys, want := range map[string]string{
		"user: jane@gmail.com":                                          "500M/day",
		"user: jane@jane.example, provider: google":                     "500M/day",
		"user: jane@jane.example, host: imap.gmail.com":                 "500M/day",
		"user: jane@gmail.com, rate: none":                              "",
		"user: jane@gmail.com, rate: 2M/s":                              "2M/s",
		"user: jane@gmail.com, rate: [2M/s, 1G/day]":                    "2M/s 1G/day",
		"user: jane@gmx.de":                                             "",
		"user: jane@gmail.com, host: imap.gmx.net":                      "",
		"user: jane@gmail.com, type: smtp, recipient: joe@home.example": "",
	} {
		file := "accounts: {isp: {host: pop.isp.example, user: jane, password: x}}\n" +
			"targets: {home: {password: x, " + keys + "}}\njobs: [{from: isp, to: home}]\nstate: popferry.db\n"
		c, err := Parse("p.yaml", []byte(file), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		var got []string
		for _, r := range c.Targets["home"].Rates {
			got = append(got, r.Text)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", keys, got, want)
		}
	}
	for name, p := range providers() {
		if p.Upload != "" && p.uploads() == nil {
			t.Errorf("%s: upload %q is no rate", name, p.Upload)
		}
		if p.Passwords != "" && (p.Passwords != "no" || p.OAuth == nil) {
			t.Errorf("%s: passwords: %q", name, p.Passwords)
		}
	}
}
