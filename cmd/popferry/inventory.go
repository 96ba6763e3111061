package main

import (
	"bytes"
	"fmt"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"popferry/targets"
)

// isSpam says what the demo's rule drops.
func isSpam(raw []byte) bool { return bytes.Contains(raw, []byte("X-Spam-Flag: YES")) }

// account compares what lies in the mailbox with what was sent: the same
// messages, each as often.
func (d *demo) account() error {
	got, err := d.delivered()
	if err != nil {
		return err
	}
	want := map[targets.Hash]int{}
	dropped := 0
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.mail {
		if isSpam(m.Raw) {
			dropped++
			continue
		}
		h, _, err := targets.CanonOf(bytes.NewReader(m.Raw))
		if err != nil {
			return err
		}
		want[h]++
	}
	of := len(d.mail) - dropped
	there, missing, twice := 0, 0, 0
	for h, n := range want {
		there += min(n, got[h])
		missing += max(0, n-got[h])
		twice += max(0, got[h]-n)
		delete(got, h)
	}
	strange := 0
	for _, n := range got {
		strange += n
	}
	if missing+twice+strange > 0 {
		return exit{code: exitBug, reason: fmt.Sprintf("of %d messages %d are missing, %d came twice, %d are not known", of, missing, twice, strange)}
	}
	d.stdout.printf("Compared octet for octet: %d of %d messages are in home, none twice; %d were dropped by the rule spam.\n", there, of, dropped)
	return nil
}

// delivered reads the whole mailbox and counts its messages by canonical hash.
func (d *demo) delivered() (map[targets.Hash]int, error) {
	c, err := imapclient.DialInsecure(d.box.Addr(), nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Login(demoUser, demoPassword).Wait(); err != nil {
		return nil, err
	}
	folders, err := c.List("", "*", nil).Collect()
	if err != nil {
		return nil, err
	}
	got := map[targets.Hash]int{}
	body := &imap.FetchItemBodySection{Peek: true}
	for _, f := range folders {
		box, err := c.Select(f.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			return nil, err
		}
		if box.NumMessages == 0 {
			continue
		}
		all := imap.UIDSet{imap.UIDRange{Start: 1}} // to the last
		messages, err := c.Fetch(all, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{body}}).Collect()
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			h, _, err := targets.CanonOf(bytes.NewReader(m.FindBodySection(body)))
			if err != nil {
				return nil, err
			}
			got[h]++
		}
	}
	return got, c.Logout().Wait()
}
