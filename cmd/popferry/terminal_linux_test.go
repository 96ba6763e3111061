package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminal is a person at a terminal, and what the screen shows.
type terminal struct {
	keys *os.File // what is typed goes in, what is shown comes out
	tty  *os.File // the program's side

	mu     sync.Mutex
	screen bytes.Buffer
	more   chan struct{} // something was shown
	ended  chan struct{} // nothing more will be
}

func openTerminal() (*terminal, error) {
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	var tty *os.File
	if err == nil {
		tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		keys.Close()
		return nil, err
	}
	t := &terminal{keys: keys, tty: tty, more: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		_, _ = io.Copy(t, keys) // ends with EIO when nobody has the other side any more
	}()
	return t, nil
}

// Write shows p.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
	return t.screen.Write(p)
}

func (t *terminal) shown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.screen.String()
}

// echoes reports whether what is typed is shown.
func (t *terminal) echoes() (bool, error) {
	s, err := unix.IoctlGetTermios(int(t.keys.Fd()), unix.TCGETS)
	if err != nil {
		return false, err
	}
	return s.Lflag&unix.ECHO != 0, nil
}

// answer waits for the nth prompt, until what is typed is hidden, and types.
func (t *terminal) answer(n int, text string) error {
	late := time.After(30 * time.Second)
	for strings.Count(t.shown(), "Password for ")+strings.Count(t.shown(), question) < n {
		select {
		case <-t.more:
		case <-late:
			return fmt.Errorf("prompt %d does not come", n)
		}
	}
	if strings.HasSuffix(t.shown(), question) {
		_, err := t.keys.WriteString(text)
		return err
	}
	for { // nothing tells when a terminal stops to echo
		switch echo, err := t.echoes(); {
		case err != nil:
			return err
		case !echo:
			_, err := t.keys.WriteString(text)
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			return errors.New("what is typed would be shown")
		}
	}
}

// close waits until all is shown that was printed.
func (t *terminal) close() {
	t.tty.Close()
	<-t.ended
	t.keys.Close()
}

// hasTerminals reports whether terminals can be had here.
func hasTerminals() bool {
	t, err := openTerminal()
	if err != nil {
		return false
	}
	t.close()
	return true
}

// question is what migrate asks, and the answer is shown.
const question = "Go? [y/N] "

// cmdTerminal runs a command on a terminal where the answers are typed, one for
// each prompt, ^C for an interrupt. Standard output goes to the file stdout.txt,
// what the screen shows to screen.txt, and no password may be in either.
//
//	terminal 0 [ANSWER…] -- popferry verify --from …
func cmdTerminal(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	split := slices.Index(args, "--")
	answers, command := args[1:split], args[split+1:]
	term, err := openTerminal()
	ts.Check(err)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "PATH", "PASSWORD", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "TZ", "TERM", "POP3_PORT", "IMAP_PORT"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var stdout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, &stdout, term.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	var failed error
	for i, a := range answers {
		key := a + "\n"
		if a == "^C" {
			key = "\x03"
		}
		if failed = term.answer(i+1, key); failed != nil {
			_ = cmd.Process.Kill()
			break
		}
	}
	stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	stuck.Stop()
	echo, echoErr := term.echoes()
	term.close()
	screen := strings.ReplaceAll(term.shown(), "\r\n", "\n")
	ts.Logf("[screen]\n%s[stdout]\n%s", screen, stdout.String())
	ts.Check(errors.Join(failed, echoErr, os.WriteFile(ts.MkAbs("screen.txt"), []byte(screen), 0o600), os.WriteFile(ts.MkAbs("stdout.txt"), stdout.Bytes(), 0o600)))
	switch got := cmd.ProcessState.ExitCode(); {
	case got != want:
		ts.Fatalf("exit code %d, want %d (%v)", got, want, err)
	case !echo:
		ts.Fatalf("the terminal does not show any more what is typed")
	case strings.Contains(screen+stdout.String(), canary):
		ts.Fatalf("the password is shown")
	}
}

// TestTerminal: the terminal of the scripts itself, on cat.
func TestTerminal(t *testing.T) {
	term, err := openTerminal()
	if err != nil {
		t.Skip("no terminal can be had here: ", err)
	}
	cmd := exec.Command("cat")
	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdin, cmd.Stdout = term.tty, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := term.keys.WriteString("typed\n\x04"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	echo, err := term.echoes()
	term.close()
	if b, _ := os.ReadFile(out); string(b) != "typed\n" || !echo || err != nil || !strings.HasPrefix(term.shown(), "typed\r\n") {
		t.Errorf("read %q, shown %q, echo %t, %v", b, term.shown(), echo, err)
	}
}
