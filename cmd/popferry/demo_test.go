package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"popferry/fetcher/config"
)

// startDemo starts the demo's servers for a test.
func startDemo(t *testing.T, f *fault) *demo {
	t.Helper()
	a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer), anything)
	a.flags.color = "never"
	if err := a.settle(); err != nil {
		t.Fatal(err)
	}
	d := &demo{app: a, fault: f, seen: map[string]int{}}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d
}

// The configuration of the demo is one, with every fault.
func TestDemo_configuration(t *testing.T) {
	for _, f := range append([]*fault{nil}, demoFaults...) {
		d := startDemo(t, f)
		c, err := config.Load(d.path, anything)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Warnings)+len(c.Check()) > 0 {
			t.Errorf("warnings: %v %v", c.Warnings, c.Check())
		}
		if f != nil && f.account != "" && !strings.Contains(d.configuration(), f.account) {
			t.Errorf("%s: %q is not in the configuration", f.name, f.account)
		}
	}
}

// A file put into "new" is fetched by the next run.
func TestDemo_newMail(t *testing.T) {
	d := startDemo(t, nil)
	if code := d.popferry(t.Context(), "run"); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	n := len(d.mail)
	path := filepath.Join(d.dir, "new", "x.eml")
	if err := os.WriteFile(path, []byte("Subject: Your invoice\n\nfor nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := d.popferry(t.Context(), "run"); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	if len(d.mail) != n+1 {
		t.Fatalf("%d messages were sent, want %d", len(d.mail), n+1)
	}
	last := d.events[len(d.events)-2]
	if last.Folder != "Finance/Invoices" || last.Rule != "invoices" {
		t.Errorf("it went to %q by rule %q", last.Folder, last.Rule)
	}
	if err := d.account(); err != nil {
		t.Error(err)
	}
}

// The account finds what is missing, and what is there twice.
func TestDemo_account(t *testing.T) {
	d := startDemo(t, nil)
	if err := d.account(); err == nil || !strings.Contains(err.Error(), "30 are missing, 0 came twice") {
		t.Errorf("nothing was delivered: %v", err)
	}
	if code := d.popferry(t.Context(), "run"); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	lost := d.mail[0]
	d.mail = d.mail[1:]
	if err := d.account(); err == nil || !strings.Contains(err.Error(), "1 are not known") {
		t.Errorf("one was not sent: %v", err)
	}
	d.mail = append(d.mail, lost, lost)
	if err := d.account(); err == nil || !strings.Contains(err.Error(), "1 are missing") {
		t.Errorf("one was sent twice: %v", err)
	}
	if err := os.Remove(filepath.Join(d.dir, "popferry.db")); err != nil {
		t.Fatal(err)
	}
	d.mail = d.mail[:len(d.mail)-1]
	if code := d.popferry(t.Context(), "run", "--new-state"); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	if err := d.account(); err != nil {
		t.Errorf("after the state was lost: %v", err)
	}
}
