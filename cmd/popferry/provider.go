package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"popferry/fetcher"
	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
	"popferry/testdata/corpus"
)

const (
	demoUser     = "jane"
	demoPassword = "demo"
)

// demo is a mail provider, a mailbox, and a configuration that joins them.
type demo struct {
	*app
	fault *fault // nil for none
	dir   string
	path  string // of the configuration
	pop   *maildroptest.Server
	box   mailbox

	mu     sync.Mutex
	mail   []corpus.Message // all that was ever put into the maildrop
	broken bool             // the fault is on
	seen   map[string]int   // POP3 commands, by session and verb
	events []fetcher.Event  // of the passes so far
}

// mailbox is an IMAP server to deliver to.
type mailbox interface {
	Start() error
	Addr() string
	Port() int
	Close() error
}

// start starts the servers and writes the configuration. What it started before
// an error, stop stops.
func (d *demo) start() (err error) {
	if d.dir, err = os.MkdirTemp("", "popferry-demo-"); err != nil {
		return err
	}
	d.pop = maildroptest.New(demoUser, demoPassword)
	d.pop.Hook = d.popHook
	var box mailbox = &targetstest.Memory{User: demoUser, Password: demoPassword, Plus: true}
	if d.fault != nil && d.fault.imap != nil {
		box = &targetstest.IMAP{
			User: demoUser, Password: demoPassword,
			Caps: "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ UIDPLUS NAMESPACE", Hook: d.imapHook,
		}
	}
	if err := d.pop.Start(); err != nil {
		return err
	}
	if err := box.Start(); err != nil {
		return err
	}
	d.box = box
	for i, m := range corpus.Varied() {
		d.add(fmt.Sprintf("0001a7%02x", i), m)
	}
	d.path = filepath.Join(d.dir, "popferry.yaml")
	if err := os.Mkdir(filepath.Join(d.dir, "new"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(d.path, []byte(d.configuration()), 0o600)
}

func (d *demo) stop() {
	if d.pop != nil {
		d.pop.Close()
	}
	if d.box != nil {
		d.box.Close()
	}
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// add puts a message into the maildrop. POP3 sends whole lines only, so what
// does not end in CRLF lies there with one.
func (d *demo) add(uidl string, m corpus.Message) {
	if len(m.Raw) > 0 && !bytes.HasSuffix(m.Raw, []byte("\r\n")) {
		m.Raw = append(bytes.Clone(m.Raw), "\r\n"...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mail = append(d.mail, m)
	d.pop.Add(demoUser, uidl, m.Raw)
}

const demoConfig = `accounts:
  isp:                        # the maildrop
    host: 127.0.0.1
    port: %d
    tls: none                 # only because this never leaves the machine
    user: jane
    password: demo
    keep: forever             # or 0d, 30d: what stays on the server
targets:
  home:                       # where mail goes
    host: 127.0.0.1
    port: %d
    tls: none
    user: jane
    password: demo
rules:                        # top to bottom, the first match wins
  - name: spam
    if: { header: { X-Spam-Flag: "YES" } }
    then: { drop: yes }
  - name: invoices
    if: { subject: { regex: '(?i)\b(invoice|rechnung)\b' } }
    then: { folder: Finance/Invoices, flags: [flagged] }
  - name: lists
    if: { list_id: "*" }
    then: { folder: "Lists/${list_name}" }
  - name: builds
    if: { from: "noreply+ci@*" }
    then: { folder: Builds, flags: [seen] }
jobs:
  - from: isp
    to: home
state: popferry.db
`

func (d *demo) configuration() string {
	text := fmt.Sprintf(demoConfig, d.pop.Port(), d.box.Port())
	if d.fault != nil && d.fault.account != "" {
		text = strings.Replace(text, "    keep: forever", "    "+d.fault.account+"\n    keep: forever", 1)
	}
	return text
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

// arrivals puts the files in the directory "new" into the maildrop. Files that
// are there already are in it already.
func (d *demo) arrivals() {
	files, _ := filepath.Glob(filepath.Join(d.dir, "new", "*"))
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		d.add(fmt.Sprintf("0001b7%02x", len(d.mail)), corpus.Message{Name: filepath.Base(path), Raw: raw})
		os.Remove(path)
	}
}
