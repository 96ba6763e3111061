package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"popferry/fetcher/config"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/smtp"
)

func TestLoad_relay(t *testing.T) {
	c := load(t, examples+"/relay.yaml")
	want := map[string]smtp.Config{
		"local": {
			Server: endpoint.Server{Host: "127.0.0.1", Port: 24, TLS: endpoint.Plain, Auth: "auto", Timeout: time.Minute},
			LMTP:   true, Recipients: []string{"jane@home.example"},
		},
		"provider": {
			Server:     endpoint.Server{Host: "smtp.provider.example", Port: 587, TLS: endpoint.StartTLS, User: "jane@provider.example", Auth: "auto", Timeout: time.Minute},
			Recipients: []string{"jane@provider.example", "archive@provider.example"},
			Sender:     smtp.Sender{Address: "jane@provider.example"},
		},
	}
	for name, w := range want {
		got := *c.Targets[name].Config.(*smtp.Config)
		if diff := cmp.Diff(w, got, cmpopts.IgnoreFields(endpoint.Server{}, "Password", "Proxy", "Breaker")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if c.Jobs[0].Hold["local"] || !c.Jobs[1].Hold["provider"] {
		t.Errorf("hold: %v, %v", c.Jobs[0].Hold, c.Jobs[1].Hold)
	}
}

// relayed is a configuration whose only target has these keys.
func relayed(keys ...string) []byte {
	return fmt.Appendf(nil, `accounts:
  isp: {host: pop.isp.example, user: jane@isp.example, password: "${ISP_PASSWORD}"}
targets:
  home:
    %s
jobs:
  - {from: isp, to: home}
`, strings.Join(keys, "\n    "))
}

func TestParse_relayKeys(t *testing.T) {
	for keys, want := range map[string]smtp.Config{
		"type: smtp":                          {Server: endpoint.Server{Port: 465}},
		"type: smtp|tls: none":                {Server: endpoint.Server{Port: 25, TLS: endpoint.Plain}},
		"type: lmtp|tls: starttls":            {Server: endpoint.Server{Port: 24, TLS: endpoint.StartTLS}, LMTP: true},
		"type: smtp|sender: Empty":            {Server: endpoint.Server{Port: 465}, Sender: smtp.Sender{Empty: true}},
		"type: smtp|sender: original":         {Server: endpoint.Server{Port: 465}},
		"type: smtp|helo: 192.0.2.1":          {Server: endpoint.Server{Port: 465}, Helo: "[192.0.2.1]"},
		"type: smtp|helo: '2001:db8::1'":      {Server: endpoint.Server{Port: 465}, Helo: "[IPv6:2001:db8::1]"},
		"type: lmtp|helo: a.b|connections: 9": {Server: endpoint.Server{Port: 24}, LMTP: true, Helo: "a.b", Connections: 9},
	} {
		data := relayed(append(strings.Split(keys, "|"), "host: mail.home.example", "recipient: jane@home.example")...)
		c, err := config.Parse("popferry.yaml", data, environ)
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		want.Host, want.Auth, want.Timeout, want.Recipients = "mail.home.example", "auto", time.Minute, []string{"jane@home.example"}
		if diff := cmp.Diff(want, *c.Targets["home"].Config.(*smtp.Config), cmpopts.IgnoreFields(endpoint.Server{}, "Password", "Proxy", "Breaker")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", keys, diff)
		}
	}
}

func TestParse_relayRate(t *testing.T) {
	c, err := config.Parse("popferry.yaml", relayed("type: lmtp", "host: mail.home.example", "recipient: jane@home.example", "rate: [2M/s, 500/day]"), environ)
	if err != nil {
		t.Fatal(err)
	}
	want := []targets.Rate{
		{N: 2 << 20, Octets: true, Per: time.Second, Text: "2M/s"},
		{N: 500, Per: 24 * time.Hour, Text: "500/day"},
	}
	if diff := cmp.Diff(map[string][]targets.Rate{"home": want}, c.Rates()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestParse_circle: mail that is sent to the address it was fetched from is
// refused where both are in one house, else it is only pointed out.
func TestParse_circle(t *testing.T) {
	for keys, want := range map[string]string{
		"host: smtp.isp.example|recipient: jane@isp.example":  "error",
		"host: isp.example|recipient: JANE@ISP.example":       "error",
		"host: mail.home.example|recipient: jane@isp.example": "warning",
		"host: smtp.isp.example|recipient: john@isp.example":  "",
		"host: smtp.isp.example|recipient: jane@home.example": "",
	} {
		c, err := config.Parse("popferry.yaml", relayed(append([]string{"type: smtp"}, strings.Split(keys, "|")...)...), environ)
		got := ""
		switch {
		case err != nil && strings.Contains(err.Error(), "the mailbox that account"):
			got = "error"
		case err != nil:
			got = err.Error()
		case len(c.Warnings) > 0:
			got = "warning"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", keys, got, want)
		}
	}
}

// TestParse_ruleRecipients: a target to which only rules with recipients deliver
// needs none of its own.
func TestParse_ruleRecipients(t *testing.T) {
	for rule, want := range map[string]string{
		"{target: relay, to: accounts@home.example}": "",
		"{target: relay}":               `target "relay" has no recipient`,
		"{target: relay, to: accounts}": "is no address",
	} {
		_, err := config.Parse("popferry.yaml", []byte(`accounts:
  isp: {host: pop.isp.example, user: jane@isp.example, password: "${ISP_PASSWORD}"}
targets:
  home: {host: imap.home.example, user: jane, password: "${HOME_PASSWORD}"}
  relay: {type: smtp, host: smtp.home.example}
rules:
  - {name: x, if: {subject: x}, then: `+rule+`}
jobs:
  - {from: isp, to: home}
`), environ)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
}
