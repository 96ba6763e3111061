package config_test

import (
	"strings"
	"testing"

	"popferry/fetcher/config"
)

const httpTail = `
accounts: { isp: { host: pop.isp.example, user: jane, password: "${ISP_PASSWORD}" } }
targets: { home: { host: imap.home.example, user: jane, password: "${HOME_PASSWORD}" } }
jobs: [{ from: isp, to: home }]
`

func TestHTTP(t *testing.T) {
	for _, tt := range []struct {
		text                   string
		listen, user, password string
		subjects               bool
	}{
		{text: ""},
		{text: "http: { listen: 127.0.0.1:8093 }", listen: "127.0.0.1:8093"},
		{text: "http: { listen: localhost:8093, show_subjects: yes }", listen: "localhost:8093", subjects: true},
		{text: `http: { listen: "[::1]:0" }`, listen: "[::1]:0"},
		{text: `http: { listen: "127.0.0.1:08093" }`, listen: "127.0.0.1:8093"},
		{
			text:   `http: { listen: ":8093", basic_auth: { user: jane, password: "${PAGE_PASSWORD}" } }`,
			listen: ":8093", user: "jane", password: canary,
		},
	} {
		c, err := config.Parse("p.yaml", []byte(tt.text+httpTail), environ)
		if err != nil {
			t.Errorf("%s\n%s", tt.text, render(t, err))
			continue
		}
		h := c.HTTP
		password := ""
		if !h.Password.IsZero() {
			password = reveal(t, h.Password)
		}
		if h.Listen != tt.listen || h.User != tt.user || password != tt.password || h.ShowSubjects != tt.subjects {
			t.Errorf("%s: %+v", tt.text, h)
		}
	}
}

// A password in the wrong shape is shown no more than one in the right place.
func TestHTTP_secret(t *testing.T) {
	for _, text := range []string{
		"http: { listen: 127.0.0.1:8093, basic_auth: jane:hunter22 }",
		"http: { listen: 127.0.0.1:8093, basic_auth: [jane, hunter22] }",
		"http:\n  listen: x\n  basic_auth: { user: jane, pasword: hunter22 }",
		"http:\n  basic_auth: jane:hunter22\n broken: [",
	} {
		_, err := config.Parse("p.yaml", []byte(text+httpTail), environ)
		if err == nil {
			t.Errorf("no error: %s", text)
		} else if out := render(t, err); strings.Contains(out, "hunter22") {
			t.Errorf("the password is shown:\n%s", out)
		}
	}
}

func TestLocal(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "page.localhost:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "192.0.2.1:1": false, "localhost.example:1": false, "x": false,
	} {
		if got := config.Local(addr); got != want {
			t.Errorf("Local(%q) is %v", addr, got)
		}
	}
}
