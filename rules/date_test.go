package rules

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHeader_Date(t *testing.T) {
	const at = "2026-11-21T23:55:02+01:00"
	tests := map[string]string{ // value → RFC 3339, "" is the zero time
		"Sat, 21 Nov 2026 23:55:02 +0100":             at,
		"21 Nov 2026 23:55:02 +0100":                  at,
		"Sat,21 Nov 2026 23:55:02 +0100 (CET)":        at,
		"Sat, 21 Nov 2026\r\n 23:55:02 +0100":         at,
		"(a (b) \\) c) Sat, 21 Nov 2026 23:55:02 CET": at,
		"SAT, 21 NOVEMBER 2026 23:55:02 +01:00":       at,
		"Sat, 21 Nov 26 23:55:02 +0100":               at,
		"Sat, 21 Nov 126 23:55:02 +0100":              at,
		"21-Nov-2026 23:55:02 +0100":                  at,
		"2026-11-21 23:55:02 +0100":                   at,
		"2026-11-21T23:55:02+01:00":                   at,
		"2026-11-21T23:55:02.123+01:00":               at,
		"Sat Nov 21 23:55:02 2026 +0100":              at,
		"Sat Nov 21 23:55:02 CET 2026":                at,
		"Sat, 21 Nov 2026 23:55:02 +0100 (CET":        at,
		"Sat, 21 Nov 2026 23:55:02+0100":              at,
		"Sat, 21 Nov 2026 11:55:02 PM +0100":          at,
		"Sat, 21 Nov 2026 23:55:02 GMT+0100":          at,
		"Sat, 21 Nov 2026 23:55:02 +1":                at,
		"Sat, 21 Nov 2026 23:55:02":                   "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55:02 GMT":               "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55:02 UT":                "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55:02 -0000":             "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55:02 XYZ":               "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55:02 +9999":             "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55:02 +99999999999":      "2026-11-21T23:55:02Z",
		"2026-11-21T23:55:02Z":                        "2026-11-21T23:55:02Z",
		"Sat, 21 Nov 2026 23:55":                      "2026-11-21T23:55:00Z",
		"Sat, 21 Nov 2026 12:05 AM":                   "2026-11-21T00:05:00Z",
		"Sat, 21 Nov 2026":                            "2026-11-21T00:00:00Z",
		"Sat, 31 Dec 2016 23:59:60 +0000":             "2016-12-31T23:59:59Z",
		"Sat, 21 Nov 2026 23:55:02 EST":               "2026-11-21T23:55:02-05:00",
		"Sat, 21 Nov 2026 23:55:02 -0530":             "2026-11-21T23:55:02-05:30",
		"1 Jan 70 00:00:00 +0000":                     "1970-01-01T00:00:00Z",
		"1 Jan 49 00:00:00 +0000":                     "2049-01-01T00:00:00Z",
		"1 Jan 1899 00:00:00 +0000":                   "1899-01-01T00:00:00Z",
		"1 Jan 1969 00:00:00 +0000":                   "1969-01-01T00:00:00Z",
		"1 Jan 2038 00:00:00 +0000":                   "2038-01-01T00:00:00Z",
		"31 Dec 9999 23:59:59 +0000":                  "9999-12-31T23:59:59Z",
		"1 Jan 0000 00:00:00 +0000":                   "0000-01-01T00:00:00Z",
		"29 Feb 2024 00:00:00 +0000":                  "2024-02-29T00:00:00Z",
		"29 Feb 2026 00:00:00 +0000":                  "",
		"31 Feb 2026 00:00:00 +0000":                  "",
		"0 Jan 2026 00:00:00 +0000":                   "",
		"32 Jan 2026 00:00:00 +0000":                  "",
		"1 Jan 10000 00:00:00 +0000":                  "",
		"1 Jan 2026 24:00:00 +0000":                   "",
		"1 Jan 2026 00:60:00 +0000":                   "",
		"1 Jan 2026 00:00:61 +0000":                   "",
		"1 Jan 2026 1:2:3:4":                          "",
		"1 Jan 2026 2027":                             "",
		"03/04/2026 10:00":                            "",
		"2026-13-01 10:00:00":                         "",
		"2026-1":                                      "",
		"--":                                          "",
		"-1-":                                         "",
		"Jan 2026":                                    "",
		"today":                                       "",
		"":                                            "",
		"(":                                           "",
		"\xff\x00":                                    "",
		"1 2 3 4 5 6 7 8 9 10 11 12 13 14":            "",
	}
	for in, want := range tests {
		got := ParseHeader([]byte("Date: " + in + "\r\n")).Date()
		switch {
		case want == "":
			if !got.IsZero() {
				t.Errorf("Date of %q = %v, want the zero time", in, got)
			}
		case got.Format(time.RFC3339) != want:
			t.Errorf("Date of %q = %v, want %s", in, got.Format(time.RFC3339), want)
		}
	}
	if !ParseHeader(nil).Date().IsZero() {
		t.Error("a missing Date is not the zero time")
	}
}

func TestHeader_Received(t *testing.T) {
	tests := map[string]string{
		"from a by b; Sat, 21 Nov 2026 23:55:02 +0100":           "2026-11-21T23:55:02+01:00",
		"from a (x; y) by b;\r\n\tSat, 21 Nov 2026 23:55:02 GMT": "2026-11-21T23:55:02Z",
		"(qmail 1 invoked by uid 0); 21 Nov 2026 23:55:02 -0000": "2026-11-21T23:55:02Z",
		"from a; b; 21 Nov 2026 23:55:02 -0000 (a; b)":           "2026-11-21T23:55:02Z",
		"from a (by b (c) with d; 21 Nov 2026 23:55:02 -0000":    "2026-11-21T23:55:02Z",
		"from a by b": "",
		"from a by b Sat, 21 Nov 2026 23:55:02 +0100": "",
		"from a by b; soon":                           "",
		"":                                            "",
	}
	for in, want := range tests {
		h := ParseHeader([]byte("Received: " + in + "\r\nReceived: older; 1 Jan 2020 00:00:00 +0000\r\n"))
		got := h.Received()
		if want == "" && !got.IsZero() || want != "" && got.Format(time.RFC3339) != want {
			t.Errorf("Received of %q = %v, want %s", in, got, want)
		}
	}
}

// The short way of reading a date is only that: it gives what the long one does.
func TestPlainDate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`( |\t)?((Sun|Xyz), )?[0-4]?[0-9] (Jan|Feb|Nov|nov|Abc) [0-2][0-9]{3} [0-2][0-9]:[0-6][0-9]:[0-6][0-9] [+-][01][0-9][0-9]{2}( \([A-Z(\\;]{0,3}\))?[ \r\n]{0,2}`).Draw(t, "date")
		got, ok := plainDate([]byte(s))
		if want := parseDate(stripComments([]byte(s))); ok && (!got.Equal(want) || got.String() != want.String()) {
			t.Fatalf("%q is %v, want %v", s, got, want)
		}
	})
	for _, s := range []string{"Sun, 1 Mar 2026 10:00:59 +0100", " 21 Nov 2026 10:00:59 -0800 (PST)\r\n"} {
		b := []byte(s)
		if _, ok := plainDate(b); !ok {
			t.Errorf("%q is not read the short way", s)
		}
		if n := testing.AllocsPerRun(100, func() { plainDate(b) }); n > 0 {
			t.Errorf("%q takes %v allocations", s, n)
		}
	}
}
