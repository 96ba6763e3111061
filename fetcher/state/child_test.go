//go:build unix

package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes the test binary a child process that does one thing to the
// state named by its argument.
const childEnv = "STATE_TEST_CHILD"

func TestMain(m *testing.M) {
	childMain()
	goleak.VerifyTestMain(m)
}

// childMain runs in TestMain. It does not return in a child.
func childMain() {
	todo, path := os.Getenv(childEnv), ""
	if todo == "" {
		return
	}
	path = os.Args[len(os.Args)-1]
	err := map[string]func(string) error{"write": childWrite, "full": childFull, "view": childView}[todo](path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child prepares a process that does todo to path.
func child(t testing.TB, todo, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, path)
	cmd.Env = append(os.Environ(), childEnv+"="+todo)
	cmd.Stderr = os.Stderr
	return cmd
}

// childWrite delivers messages from many goroutines until it is killed, and
// prints the ID of each after its outcome was acknowledged.
func childWrite(path string) error {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	ms := messages(childMessages)
	if err := s.Put(ctx, Listed{Account: &Account{Source: source}, New: ms, At: t0}); err != nil {
		return err
	}
	work := make(chan *Message)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 32 {
		wg.Go(func() {
			for m := range work {
				if s.Put(ctx, routed(m, 1), intent(m, 0)) != nil || s.Put(ctx, delivered(m, 0, uint32(m.ID))) != nil {
					return
				}
				mu.Lock()
				fmt.Println(m.ID)
				mu.Unlock()
			}
		})
	}
	for _, m := range ms {
		work <- m
	}
	close(work)
	wg.Wait()
	_, _ = io.Copy(io.Discard, os.Stdin) // which stays open
	return s.Close()
}

// writing starts a process that delivers messages until it is killed.
func writing(t testing.TB, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := child(t, "write", path)
	_, ierr := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err = errors.Join(ierr, err); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// childMessages is how many there are to deliver: more than any test waits for.
const childMessages = 2000

// TestStore_kill kills a writer with SIGKILL, again and again. No row that it
// was told of may be missing, and the state must be sound.
func TestStore_kill(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		path := filepath.Join(t.TempDir(), "popferry.db")
		cmd, out := writing(t, path)
		var acked []int64
		in := bufio.NewReader(out)
		for {
			var id int64
			// A line that the kill cut short has no end.
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			if _, err := fmt.Sscan(line, &id); err != nil {
				t.Fatalf("the child said %q", line)
			}
			if acked = append(acked, id); len(acked) == 100+150*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		s := reopen(t, path)
		status := make(map[int64]Status)
		for _, m := range known(t, s).Messages {
			status[m.ID] = m.Status
		}
		for _, id := range acked {
			if status[id] != StatusSafe {
				t.Fatalf("round %d: message %d was acknowledged and is %v", round, id, status[id])
			}
		}
		if len(acked) < 100 {
			t.Fatalf("only %d acknowledged", len(acked))
		}
		_ = s.Close()
	}
}

// TestOpen_lockedByProcess finds the lock of another process, and finds it gone
// once that was killed.
func TestOpen_lockedByProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.db")
	cmd, out := writing(t, path)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, err := Open(ctx, path, Options{})
	e := wantCode(t, err, CodeLocked)
	if e.PID != cmd.Process.Pid {
		t.Errorf("pid %d, want %d", e.PID, cmd.Process.Pid)
	}
	v, err := View(ctx, path)
	if err != nil {
		t.Errorf("View beside another process: %v", err)
	} else if n := len(known(t, v).Messages); n != childMessages {
		t.Errorf("%d messages, want all of the one transaction", n)
	}
	_ = cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if v != nil {
		_ = v.Close()
	}
	reopen(t, path)
}

// childFull writes until the system refuses to let files grow, and checks that
// the store is dead from then on.
func childFull(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 300_000, Max: 300_000}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for id := 0; ; id++ {
		m := &Message{UIDL: fmt.Sprint("u", id)}
		err := s.Put(ctx, Listed{Account: &Account{Source: source}, New: []*Message{m}, At: t0})
		if err == nil {
			fmt.Println(m.ID)
			continue
		}
		if !errors.Is(err, ErrDead) {
			return fmt.Errorf("full: %w", err)
		}
		// Room again: it must not matter.
		limit.Cur = limit.Max
		if err := s.Put(ctx, Clock{Now: t0}); !errors.Is(err, ErrDead) {
			return fmt.Errorf("put after death: %w", err)
		}
		fmt.Println("dead")
		return s.Close()
	}
}

// TestStore_full lets the disk fill up for real. What was acknowledged is there
// afterwards.
func TestStore_full(t *testing.T) {
	path := filepath.Join(t.TempDir(), "popferry.db")
	cmd := child(t, "full", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked int64
	in := bufio.NewScanner(out)
	dead := false
	for in.Scan() {
		if in.Text() == "dead" {
			dead = true
		} else if n, _ := fmt.Sscan(in.Text(), &acked); n != 1 {
			t.Errorf("the child said %q", in.Text())
		}
	}
	if err := cmd.Wait(); err != nil && dead {
		t.Logf("the child closed with %v", err) // it could not truncate its WAL
	}
	if !dead || acked < 10 {
		t.Fatalf("dead %v after %d", dead, acked)
	}
	s := reopen(t, path)
	if n := int64(len(known(t, s).Messages)); n != acked && n != acked+1 {
		t.Errorf("%d messages, %d were acknowledged", n, acked)
	}
}
