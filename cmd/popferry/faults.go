package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets"
	"popferry/targets/targetstest"
)

// fault is something that goes wrong in the demo's first pass.
type fault struct {
	name, what string
	account    string        // a line of the account's configuration
	on, off    func(d *demo) // nil for nothing to do
	// pop and imap see commands while the fault is on; n counts those of the
	// same verb on the session, or on the server.
	pop  func(verb string, n int) maildroptest.Action
	imap func(c targetstest.Command) targetstest.Action
}

var demoFaults = []*fault{
	{
		name: "login", what: "the provider refuses the password",
		on:  func(d *demo) { d.pop.AddUser(demoUser, "another") },
		off: func(d *demo) { d.pop.AddUser(demoUser, demoPassword) },
	},
	{
		name: "cut", what: "the provider hangs up in the middle of every ninth message, and the mailbox once before its OK",
		pop: func(verb string, n int) maildroptest.Action {
			if verb == "RETR" && n == 9 {
				return maildroptest.Action{At: 100, Cut: maildroptest.FIN}
			}
			return maildroptest.Action{}
		},
		imap: func(c targetstest.Command) targetstest.Action {
			if c.Verb == "APPEND" && c.N == 5 {
				return targetstest.Action{Cut: targetstest.CutStored}
			}
			return targetstest.Action{}
		},
	},
	{
		name: "dup-uidl", what: "the provider gives two different messages the same UIDL, twice",
		on: func(d *demo) {
			ms := d.pop.Messages(demoUser)
			ms[4].UIDL, ms[20].UIDL = ms[3].UIDL, ms[10].UIDL
			d.pop.SetMessages(demoUser, ms)
		},
	},
	{
		name: "slow", what: "the provider stands still in the middle of every eighth message (timeout: 1s)",
		account: "timeout: 1s",
		pop: func(verb string, n int) maildroptest.Action {
			if verb == "RETR" && n == 8 {
				return maildroptest.Action{At: 100, Cut: maildroptest.Stall}
			}
			return maildroptest.Action{}
		},
	},
	{
		name: "quota", what: "the mailbox is full after twelve messages",
		imap: func(c targetstest.Command) targetstest.Action {
			if c.Verb == "APPEND" && c.N > 12 {
				return targetstest.Action{Reply: "NO [OVERQUOTA] Quota exceeded (mailbox for user is full)"}
			}
			return targetstest.Action{}
		},
	},
}

func faultNames() []string {
	names := make([]string, len(demoFaults))
	for i, f := range demoFaults {
		names[i] = f.name
	}
	return names
}

func faultNamed(name string) *fault {
	for _, f := range demoFaults {
		if f.name == name {
			return f
		}
	}
	return nil
}

// faultList is the part of the help that lists the faults.
func faultList() string {
	var b strings.Builder
	for _, f := range demoFaults {
		fmt.Fprintf(&b, "\n  %-9s %s", f.name, f.what)
	}
	return b.String()
}

// breakNow turns the fault on.
func (d *demo) breakNow() {
	if d.fault == nil {
		return
	}
	d.stdout.printf("The fault: %s.\n\n", d.fault.what)
	d.setBroken(true)
	if d.fault.on != nil {
		d.fault.on(d)
	}
}

// repair turns the fault off.
func (d *demo) repair(code int) {
	d.stdout.printf("\nThat was exit code %d. ", code)
	d.setBroken(false)
	if d.fault.off == nil && d.fault.pop == nil && d.fault.imap == nil {
		d.stdout.print("The provider stays as it is.\n")
		return
	}
	d.stdout.print("Now the fault is gone.\n")
	if d.fault.off != nil {
		d.fault.off(d)
	}
}

func (d *demo) setBroken(b bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = b
}

func (d *demo) isBroken() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken && d.fault != nil
}

// popHook sees every POP3 command.
func (d *demo) popHook(session int, cmd string) maildroptest.Action {
	verb, _, _ := strings.Cut(cmd, " ")
	d.mu.Lock()
	key := fmt.Sprint(session, verb)
	d.seen[key]++
	n := d.seen[key]
	d.mu.Unlock()
	if verb == "GREETING" {
		d.arrivals()
	}
	if d.isBroken() && d.fault.pop != nil {
		return d.fault.pop(verb, n)
	}
	return maildroptest.Action{}
}

// imapHook sees every IMAP command.
func (d *demo) imapHook(c targetstest.Command) targetstest.Action {
	if d.isBroken() {
		return d.fault.imap(c)
	}
	return targetstest.Action{}
}

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
