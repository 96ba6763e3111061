package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/targets/targetstest"
)

var update = flag.Bool("update", false, "write what commands print into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"popferry": program})
}

// program is main on a machine that is no container, or the one whose files are
// below $MACHINE: tests may run in a container themselves.
func program() {
	e := &environment{held: map[string]string{}}
	a := newApp(os.Stdin, os.Stdout, os.Stderr, e.lookup)
	a.withhold = e.withhold
	a.machine.Root = cmp.Or(os.Getenv("MACHINE"), nowhere)
	os.Exit(a.main(interruptible(), os.Args[1:]))
}

const nowhere = "/nonexistent"

// canary is every password in the scripts. It must never be printed.
const canary = "c4nary-s3cret"

// world is what a script has around it: a maildrop and a mailbox.
type world struct {
	pop  *maildroptest.Server
	imap *targetstest.IMAP

	mu      sync.Mutex
	popHook func(session int, cmd string) maildroptest.Action
	reject  string                   // what the mailbox says to every APPEND
	seen    map[string]chan struct{} // closed when the POP3 command came
	lock    *state.Store
	logged  int // POP3 commands that do not count
}

// came returns a channel that is closed as soon as the maildrop got a command.
func (w *world) came(verb string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[verb] == nil {
		w.seen[verb] = make(chan struct{})
	}
	return w.seen[verb]
}

func (w *world) note(verb string) {
	ch := w.came(verb)
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the program")
	}
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("..", "..", "testdata", "cli"),
		UpdateScripts: *update,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "terminal":
				return hasTerminals(), nil
			}
			return false, fmt.Errorf("condition %q?", cond)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    cmdExits,
			"becomes":  cmdBecomes,
			"nobody":   cmdNobody,
			"patch":    cmdPatch,
			"mail":     cmdMail,
			"maildrop": cmdMaildrop,
			"mailbox":  cmdMailbox,
			"hold":     cmdHold,
			"json":     cmdJSON,
			"get":      cmdGet,
			"terminal": cmdTerminal,
		},
	})
}

// setup gives a script its servers, which nobody has used, and an environment
// without anything of the machine's.
func setup(env *testscript.Env) error {
	w := &world{pop: maildroptest.New("jane", canary), seen: map[string]chan struct{}{}}
	w.pop.Hook = func(session int, cmd string) maildroptest.Action {
		verb, _, _ := strings.Cut(cmd, " ")
		w.note(verb)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.popHook == nil {
			return maildroptest.Action{}
		}
		return w.popHook(session, cmd)
	}
	w.imap = &targetstest.IMAP{User: "jane", Password: canary, Hook: func(c targetstest.Command) targetstest.Action {
		w.mu.Lock()
		defer w.mu.Unlock()
		if c.Verb == "APPEND" && w.reject != "" {
			return targetstest.Action{Reply: w.reject}
		}
		return targetstest.Action{}
	}}
	if err := errors.Join(w.pop.Start(), w.imap.Start()); err != nil {
		return err
	}
	env.Defer(func() {
		w.pop.Close()
		w.imap.Close()
		if w.lock != nil {
			w.lock.Close()
		}
	})
	env.Values[worldKey{}] = w
	env.Setenv("POP3_PORT", strconv.Itoa(w.pop.Port()))
	env.Setenv("IMAP_PORT", strconv.Itoa(w.imap.Port()))
	env.Setenv("PASSWORD", canary)
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("XDG_STATE_HOME", "")
	env.Setenv("XDG_CONFIG_HOME", "")
	env.Setenv("TZ", "UTC")
	page, err := freeAddress()
	if err != nil {
		return err
	}
	env.Setenv("PAGE", page)
	env.Setenv("TERM", "dumb")
	if _, err := os.Stat(filepath.Join(env.WorkDir, "popferry.yaml")); errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(filepath.Join(env.WorkDir, "popferry.yaml"), []byte(scriptConfig), 0o600)
	}
	return nil
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// scriptConfig is what a script gets that brings no popferry.yaml.
const scriptConfig = `state: state/popferry.db
accounts:
  isp:
    host: 127.0.0.1
    port: ${POP3_PORT}
    tls: none
    user: jane
    password: ${PASSWORD}
targets:
  home:
    host: 127.0.0.1
    port: ${IMAP_PORT}
    tls: none
    user: jane
    password: ${PASSWORD}
rules:
  - name: spam
    if: { subject: "*lottery*" }
    then: { drop: yes }
  - name: invoices
    if: { subject: "invoice *" }
    then: { folder: Finance/Invoices, flags: [flagged] }
jobs:
  - name: isp-to-home
    from: isp
    to: home
`

// cmdExits runs a command and checks its exit code, and that the password is
// nowhere in what it prints.
//
//	exits 77 popferry run
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		got = ee.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	for _, stream := range []string{"stdout", "stderr"} {
		if strings.Contains(ts.ReadFile(stream), canary) {
			ts.Fatalf("the password is on %s", stream)
		}
	}
}

// cmdBecomes runs a command until what it prints matches: what another process
// does is seen from outside only.
//
//	becomes 'All 2 jobs are fine' popferry status
func cmdBecomes(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	give := time.After(30 * time.Second)
	for {
		err := ts.Exec(args[1], args[2:]...)
		if want.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
		select {
		case <-give:
			ts.Fatalf("%v; no line matches %q", err, args[0])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// cmdNobody is exits for somebody who may not do everything: root is another
// user for it. It needs setpriv then.
func cmdNobody(ts *testscript.TestScript, neg bool, args []string) {
	if os.Geteuid() != 0 {
		cmdExits(ts, neg, args)
		return
	}
	exe, err := exec.LookPath(args[1])
	ts.Check(err)
	for _, path := range []string{exe, ts.Getenv("WORK")} {
		for ; path != filepath.Clean(os.TempDir()) && path != "/"; path = filepath.Dir(path) {
			ts.Check(os.Chmod(path, 0o755))
		}
	}
	ts.Check(os.Chown(ts.MkAbs("popferry.yaml"), 65534, 65534))
	cmdExits(ts, neg, append([]string{args[0], "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", exe}, args[2:]...))
}

// cmdPatch writes an octet into a file.
//
//	patch FILE OFFSET VALUE
func cmdPatch(ts *testscript.TestScript, _ bool, args []string) {
	at, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	value, err := strconv.ParseUint(args[2], 10, 8)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt([]byte{byte(value)}, at)
	ts.Check(errors.Join(err, f.Close()))
}

// cmdMail puts a message into the maildrop.
//
//	mail UIDL SUBJECT
func cmdMail(ts *testscript.TestScript, _ bool, args []string) {
	worldOf(ts).pop.Add("jane", args[0], fmt.Appendf(nil,
		"From: Rita <rita@example.org>\r\nTo: jane@isp.example\r\nSubject: %s\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\nMessage-ID: <%s@example.org>\r\n\r\nhello\r\n",
		args[1], args[0]))
}

// cmdMaildrop changes how the POP3 server behaves, or looks at it.
//
//	maildrop refuse            it refuses the password
//	maildrop say VERB REPLY    it says that instead
//	maildrop cut               it hangs up in the middle of every message
//	maildrop slow              it takes half a second to begin a message
//	maildrop await VERB        waits until it got that command
//	maildrop good              it behaves again
//	maildrop log FILE          writes the commands it got
//	maildrop has N             checks how many messages it has
//	maildrop forget            what it got before does not count
//	maildrop unused            checks that nobody has spoken to it since
func cmdMaildrop(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	hook := func(verb string, act maildroptest.Action) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.popHook = func(_ int, cmd string) maildroptest.Action {
			if got, _, _ := strings.Cut(cmd, " "); got == verb {
				return act
			}
			return maildroptest.Action{}
		}
	}
	switch args[0] {
	case "refuse":
		w.pop.AddUser("jane", "another")
	case "say":
		hook(args[1], maildroptest.Action{Reply: args[2] + "\r\n"})
	case "cut":
		hook("RETR", maildroptest.Action{At: 60, Cut: maildroptest.FIN})
	case "slow":
		hook("RETR", maildroptest.Action{Delay: 500 * time.Millisecond, At: -1})
	case "await":
		select {
		case <-w.came(args[1]):
		case <-time.After(30 * time.Second):
			ts.Fatalf("%s did not come", args[1])
		}
	case "good":
		w.pop.AddUser("jane", canary)
		hook("", maildroptest.Action{})
	case "log":
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(w.pop.Log(), "\n")+"\n"), 0o600))
	case "forget":
		w.logged = len(w.pop.Log())
	case "unused":
		if got := w.pop.Log()[w.logged:]; len(got) > 0 {
			ts.Fatalf("the maildrop got %q", got)
		}
	case "has":
		if got := strconv.Itoa(len(w.pop.Messages("jane"))); got != args[1] {
			ts.Fatalf("%s messages are on the maildrop, want %s", got, args[1])
		}
	default:
		ts.Fatalf("maildrop %s?", args[0])
	}
}

// cmdMailbox looks at the IMAP server.
//
//	mailbox FOLDER N           checks how many messages a folder has
//	mailbox unused             checks that nobody has logged in
//	mailbox refuses REPLY      it says that to every APPEND; "" behaves again
func cmdMailbox(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	switch args[0] {
	case "unused":
		if n := w.imap.Count(""); n != 0 {
			ts.Fatalf("%d connections to the mailbox", n)
		}
	case "refuses":
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reject = args[1]
	default:
		if got := strconv.Itoa(len(w.imap.Messages(args[0]))); got != args[1] {
			ts.Fatalf("%s messages are in %s, want %s", got, args[0], args[1])
		}
	}
}

// cmdHold opens a state, as another process would, until the script ends.
//
//	hold FILE
func cmdHold(ts *testscript.TestScript, _ bool, args []string) {
	s, err := state.Open(context.Background(), ts.MkAbs(args[0]), state.Options{})
	ts.Check(err)
	worldOf(ts).lock = s
}

// cmdJSON checks that each line of a file is a JSON object with a type, which
// is the first field.
//
//	json stdout
func cmdJSON(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("no line at all")
	}
	for line := range strings.Lines(text) {
		var v struct{ Type string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			ts.Fatalf("%q: %v", line, err)
		}
		if v.Type == "" || !bytes.HasPrefix([]byte(line), []byte(`{"type":`)) {
			ts.Fatalf("%q does not begin with its type", line)
		}
	}
}
