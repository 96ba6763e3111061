package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/targets/targetstest"
)

// A mailbox that is nearly full is told, what a server can never do is not, and
// what is not there any more is taken back.
func TestInspector(t *testing.T) {
	used := 950
	s := &targetstest.IMAP{
		User: "jane", Password: canary, Caps: "IMAP4rev1 SASL-IR AUTH=PLAIN QUOTA", // without UIDPLUS, which check warns of
		Hook: func(c targetstest.Command) targetstest.Action {
			if c.Verb == "GETQUOTAROOT" {
				return targetstest.Action{Untagged: []string{`* QUOTAROOT "INBOX" root`, fmt.Sprintf("* QUOTA root (STORAGE %d 1000)", used)}, Reply: "OK done"}
			}
			return targetstest.Action{}
		},
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text := strings.ReplaceAll(scriptConfig, "${POP3_PORT}", "1")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "${IMAP_PORT}", fmt.Sprint(s.Port())), "${PASSWORD}", canary)
	c, err := config.Parse("popferry.yaml", []byte(text), func(string) (string, bool) { return "/nowhere", true })
	if err != nil {
		t.Fatal(err)
	}
	i := &inspector{app: newApp(nil, io.Discard, io.Discard, anything), config: c}
	i.look(t.Context())
	want := []daemon.Problem{{
		Code: "target-quota", Head: "home uses 950K of 1000K",
		Lines: []string{"When the mailbox is full, messages stay in the maildrop until there is room."},
	}}
	if diff := cmp.Diff(want, i.found); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	used = 10
	i.look(t.Context())
	if len(i.found) != 0 {
		t.Errorf("%v", i.found)
	}
}
