package targets

import (
	"testing"
	"time"
)

func TestUTF7(t *testing.T) {
	for name, want := range map[string]string{
		"":               "",
		"INBOX":          "INBOX",
		"Übung & Co":     "&ANw-bung &- Co",
		"台北":             "&U,BTFw-",
		"a日b":            "a&ZeU-b",
		"☺!":             "&Jjo-!",
		"\U0001f4ec":     "&2D3c7A-",
		"tab\there~":     "tab&AAk-here~",
		"&":              "&-",
		"mail/日本語/peter": "mail/&ZeVnLIqe-/peter",
	} {
		if got := UTF7(name); got != want {
			t.Errorf("UTF7(%q) = %q, want %q", name, got, want)
		}
		if got, ok := FromUTF7(want); !ok || got != name {
			t.Errorf("FromUTF7(%q) = %q, %v", want, got, ok)
		}
	}
}

func TestDated(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day := func(y int) time.Time { return time.Date(y, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600)) }
	var none time.Time
	for _, c := range []struct {
		name  string
		dates []time.Time
		want  time.Time
	}{
		{"nothing", nil, now},
		{"nothing usable", []time.Time{none, none}, now},
		{"the first", []time.Time{day(2024), day(2020)}, day(2024)},
		{"the second", []time.Time{none, day(2020)}, day(2020)},
		{"too early", []time.Time{day(1969)}, earliest},
		{"too late", []time.Time{day(2038)}, now.Add(24 * time.Hour)},
		{"in an hour", []time.Time{now.Add(time.Hour)}, now.Add(time.Hour)},
	} {
		if got := Dated(now, c.dates...); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFromUTF7_bad(t *testing.T) {
	for _, name := range []string{"&", "&AOQ", "&A-", "&%%%-", "&AGE-", "ä", "&2AA-"} {
		if got, ok := FromUTF7(name); ok {
			t.Errorf("FromUTF7(%q) = %q", name, got)
		}
	}
}

func FuzzFromUTF7(f *testing.F) {
	f.Add("Entw&APw-rfe")
	f.Add("&-&2D3eAA-")
	f.Fuzz(func(t *testing.T, name string) {
		if text, ok := FromUTF7(name); ok && UTF7(text) != name {
			t.Errorf("FromUTF7(%q) = %q", name, text)
		}
	})
}
