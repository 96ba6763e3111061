package config_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
)

const oneJob = `timezone: Europe/Berlin
accounts:
  isp:
    host: pop.isp.example
    user: jane
    password: ${ISP_PASSWORD}
    %s
targets:
  home: { host: imap.home.example, user: jane, password: "${HOME_PASSWORD}", %s }
  other: { host: imap.other.example, user: jane, password: "${HOME_PASSWORD}" }
jobs:
  - { from: isp, to: [home, other] }
`

func parse(t *testing.T, account, target string) *config.Config {
	t.Helper()
	c, err := config.Parse("popferry.yaml", fmt.Appendf(nil, oneJob, account, target), environ)
	if err != nil {
		t.Fatal(render(t, err))
	}
	return c
}

func TestLoad_keep(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]fetcher.Keep{
		"timeout: 5s":                       {Forever: true},
		"keep: forever":                     {Forever: true},
		"keep: 0d":                          {},
		"keep: 2w":                          {For: 14 * day},
		"keep: { days: 30 }":                {For: 30 * day},
		"keep: { days: 0 }":                 {},
		"keep: { newest: 500 }":             {Newest: 500},
		"keep: { days: 30, newest: 500 }":   {For: 30 * day, Newest: 500},
		"keep: { until_full: 800M }":        {Forever: true, UntilFull: 800 << 20},
		"keep: { days: 7, until_full: 1G }": {For: 7 * day, UntilFull: 1 << 30},
		"keep: { newest: 5, until_full: 1K, days: \"3\"}": {For: 3 * day, Newest: 5, UntilFull: 1 << 10},
	} {
		if d := cmp.Diff(want, parse(t, text, "").Accounts["isp"].Keep); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}

func TestLoad_firstRun(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]fetcher.FirstRun{
		"keep: forever":                 {},
		"first_run: all":                {},
		"first_run: new":                {New: true},
		"first_run: since:2026-01-31":   {Since: time.Date(2026, 1, 31, 0, 0, 0, 0, berlin)},
		`first_run: "since:2026-07-01"`: {Since: time.Date(2026, 7, 1, 0, 0, 0, 0, berlin)},
	} {
		got := parse(t, text, "").Accounts["isp"].FirstRun
		if got.New != want.New || !got.Since.Equal(want.Since) {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

func TestLoad_dedupe(t *testing.T) {
	for text, want := range map[string]map[string]fetcher.Dedupe{
		"timeout: 5s":        nil,
		"dedupe: recover":    nil,
		"dedupe: message-id": {"home": fetcher.Compare},
		"dedupe: off":        {"home": fetcher.Off},
	} {
		if d := cmp.Diff(want, parse(t, "keep: forever", text).Jobs[0].Dedupe); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}

// Servers that show a message once are known by their names.
func TestParse_consumes(t *testing.T) {
	for _, c := range []struct {
		account string
		want    bool
		warns   int
	}{
		{"host: pop.isp.example, user: jane", false, 0},
		{"host: POP.gmail.com., user: jane, keep: 0d", true, 0},
		{"host: pop.gmail.com, user: jane", true, 0},
		{"host: pop.googlemail.com, user: jane, keep: 30d", true, 1},
		{`host: pop.gmail.com, user: "recent:jane", keep: 30d`, false, 0},
	} {
		cfg, err := config.Parse("p.yaml", []byte("accounts: {isp: {"+c.account+", password: '${ISP_PASSWORD}'}}\n"+
			"targets: {home: {host: imap.example, user: j, password: '${ISP_PASSWORD}'}}\njobs: [{from: isp, to: home}]\n"), environ)
		if err != nil {
			t.Fatal(err)
		}
		if a := cfg.Accounts["isp"]; a.Consumes != c.want || len(cfg.Warnings) != c.warns || c.want && a.Maildrop.Pipelining != "off" {
			t.Errorf("%s: consumes %v, pipelining %s, %v", c.account, a.Consumes, a.Maildrop.Pipelining, cfg.Warnings)
		}
	}
}
