package imap_test

import (
	"slices"
	"strings"
	"testing"

	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestCheck: what the server says it can do, and what it lets the user do.
func TestCheck(t *testing.T) {
	const base = "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 NAMESPACE "
	for _, tt := range []struct {
		name, caps, rights string
		create             bool
		want               []string // of "level text", in order
	}{
		{"all", base + "MULTIAPPEND LITERAL+ UIDPLUS APPENDLIMIT=35651584 QUOTA ACL", "lrswipkxtecda", true, []string{
			"ok tcp ", "ok logged in to 127.0.0.1:", "ok appends many messages per command (MULTIAPPEND) · UIDPLUS", "ok takes messages up to 34M",
			`ok folder "INBOX" is there`, "ok folders can be made", "ok uses 10K of 1000K",
		}},
		{"little", base, "", true, []string{
			"ok tcp ", "ok logged in", "ok appends one message per round trip", "warn the server does not say which UID", `ok folder "INBOX" is there`,
		}},
		{"no rights", base + "LITERAL+ UIDPLUS ACL", "lrsi", true, []string{
			"ok tcp ", "ok logged in", "ok appends many commands under way (LITERAL+) · UIDPLUS", `ok folder "INBOX" is there`, "warn the server does not let this user make folders",
		}},
		{"no rights, and none needed", base + "LITERAL+ UIDPLUS ACL", "lrsi", false, []string{
			"ok tcp ", "ok logged in", "ok appends many commands under way (LITERAL+) · UIDPLUS", `ok folder "INBOX" is there`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, &targetstest.IMAP{Caps: tt.caps, Hook: func(c targetstest.Command) (a targetstest.Action) {
				if c.Verb == "MYRIGHTS" {
					a.Untagged, a.Reply = []string{"* MYRIGHTS INBOX " + tt.rights}, "OK done"
				}
				return a
			}})
			fs, err := open(t, config(s.Port(), func(c *imap.Config) { c.CreateFolders = tt.create })).Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range fs {
				got = append(got, f.Level+" "+f.Text)
			}
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("%q\nwant %q", got, tt.want)
			}
			if !strings.HasSuffix(got[0], " · offers PLAIN, USER, XOAUTH2") || !strings.HasSuffix(got[1], " (SASL PLAIN)") {
				t.Errorf("%q", got[:2])
			}
		})
	}
}
