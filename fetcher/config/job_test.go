package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"popferry/fetcher/config"
)

// job returns a job with a line of its own in the given zone.
func job(t testing.TB, zone, line string) *config.Job {
	t.Helper()
	c, err := config.Parse("p.yaml", []byte(fmt.Sprintf(`timezone: %s
accounts:
  isp: {host: pop.isp.example, user: jane, password_file: x}
targets:
  home: {host: imap.home.example, user: jane, password_file: x}
jobs:
  - {from: isp, to: home, %s}
`, zone, line)), environ)
	if err != nil {
		t.Fatal(render(t, err))
	}
	return c.Jobs[0]
}

func TestJob_Next(t *testing.T) {
	for _, tc := range []struct {
		name, zone, line string
		after            string
		want             []string // one after the other
	}{
		{"by hand", "UTC", "rules: []", "2026-01-01T00:00:00Z", []string{"0001-01-01T00:00:00Z"}},
		{"every", "UTC", "every: 90s", "2026-01-01T00:00:01Z", []string{"2026-01-01T00:01:31Z", "2026-01-01T00:03:01Z"}},
		{"cron", "UTC", `cron: "15 3 * * *"`, "2026-01-01T03:15:00Z", []string{"2026-01-02T03:15:00Z", "2026-01-03T03:15:00Z"}},
		{"in the zone", "Europe/Berlin", `cron: "15 3 * * *"`, "2026-01-01T00:00:00Z", []string{"2026-01-01T03:15:00+01:00"}},
		{
			"a time that is skipped", "Europe/Berlin", `cron: "30 2 * * *"`, "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"},
		},
		{
			"a time that comes twice", "Europe/Berlin", `cron: "30 2 * * *"`, "2026-10-24T12:00:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"},
		},
		{
			"after the first of two", "Europe/Berlin", `cron: "30 2 * * *"`, "2026-10-25T02:30:00+01:00",
			[]string{"2026-10-26T02:30:00+01:00"},
		},
		{
			"often, into a gap", "America/New_York", `cron: "*/20 * * * *"`, "2026-03-08T01:30:00-05:00",
			[]string{"2026-03-08T01:40:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:20:00-04:00"},
		},
		{
			"often, while the hour is repeated", "America/New_York", `cron: "*/20 * * * *"`, "2026-11-01T01:30:00-04:00",
			[]string{"2026-11-01T01:40:00-04:00", "2026-11-01T02:00:00-05:00"},
		},
		{"half an hour of change", "Australia/Lord_Howe", `cron: "15 2 * * *"`, "2026-10-03T12:00:00+10:30", []string{"2026-10-04T02:30:00+11:00"}},
		{"midnight skipped", "America/Santiago", `cron: "@daily"`, "2026-09-05T12:00:00-04:00", []string{"2026-09-06T01:00:00-03:00"}},
		{"a day skipped", "Pacific/Apia", `cron: "0 12 * * *"`, "2011-12-29T13:00:00-10:00", []string{"2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"}},
		{"leap day", "UTC", `cron: "0 0 29 2 *"`, "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		{"day of month or of week", "UTC", `cron: "0 0 13 * 5"`, "2026-02-01T00:00:00Z", []string{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := job(t, tc.zone, tc.line)
			at, err := time.Parse(time.RFC3339, tc.after)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				at = j.Next(at)
				if got := at.Format(time.RFC3339); got != want {
					t.Fatalf("%s, want %s", got, want)
				}
			}
		})
	}
}

func TestJob_name(t *testing.T) {
	c, err := config.Parse("p.yaml", []byte(`
accounts:
  a: {host: a.example, user: jane, password_file: x}
  b: {host: b.example, user: jane, password_file: x}
targets:
  c: {host: c.example, user: jane, password_file: x}
  d: {host: d.example, user: jane, password_file: x}
rules:
  - {name: one, if: {from: "*"}, then: {folder: One}}
  - {name: two, if: {from: "*"}, then: {folder: Two}}
jobs:
  - {from: a, to: [c, d], rules: two}
  - {from: b, to: d, name: mine}
`), environ)
	if err != nil {
		t.Fatal(render(t, err))
	}
	if c.Jobs[0].Name != "a-to-c-d" || c.Jobs[1].Name != "mine" {
		t.Errorf("%q, %q", c.Jobs[0].Name, c.Jobs[1].Name)
	}
	if got := strings.Join(c.Jobs[0].Rules.Names(), " "); got != "two" {
		t.Errorf("rules of the first job: %s", got)
	}
	if c.Jobs[1].Rules != c.Rules {
		t.Error("a job without rules has not all of them")
	}
}

// FuzzCron never panics, and what is accepted fires, strictly later, and again.
func FuzzCron(f *testing.F) {
	for _, s := range []string{"15 3 * * *", "*/5 * * * *", "@hourly", "TZ=UTC", "CRON_TZ= * * * * *", ", * * * *", "0 0 30 2 *", "@every 1s", "1-5/2 ? L * MON"} {
		f.Add(s, int64(1774746000), uint8(0))
	}
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"}
	f.Fuzz(func(t *testing.T, s string, unix int64, zone uint8) {
		data := fmt.Sprintf("timezone: %s\naccounts: {a: {host: a.example, user: j, password_file: x}}\ntargets: {b: {host: b.example, user: j, password_file: x}}\njobs: [{from: a, to: b, cron: %q}]\n",
			zones[int(zone)%len(zones)], s)
		c, err := config.Parse("p.yaml", []byte(data), environ)
		if err != nil {
			return
		}
		at := time.Unix(unix%(1<<32), 0)
		for range 3 {
			next := c.Jobs[0].Next(at)
			if !next.After(at) {
				t.Fatalf("after %s comes %s", at, next)
			}
			at = next
		}
	})
}
