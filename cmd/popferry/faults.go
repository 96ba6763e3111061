package main

import (
	"fmt"
	"strings"

	"popferry/fetcher/maildrop/maildroptest"
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
