package fetcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"popferry/fetcher/state"
	"popferry/targets"
)

// trial is a fresh world in which passes are killed, cut or starved of disk. It
// knows what may never happen in it:
//
//   - a message lies neither on the maildrop nor at every target (lost),
//   - a target has more copies than the maildrop ever had (doubled),
//   - what the state says was done is undone later.
//
// It is used by one goroutine, except where noted.
type trial struct {
	t      *testing.T
	name   string
	run    run
	ends   ends
	dir    string
	source map[targets.Hash]int // every message that was ever put on the maildrop

	extras []map[targets.Hash]int // by place: copies that an interruption excuses

	messages   map[int64]*state.Message // as last seen, to notice steps back
	deliveries map[[2]int64]state.Delivery

	mu    sync.Mutex
	child *os.Process   // the one that runs
	dead  chan struct{} // closed when it has ended
}

// ends are the servers at both ends of a trial.
type ends interface {
	stored(place int) map[targets.Hash]int // copies at one of run.places
	left() map[targets.Hash]int            // what lies on the maildrop
	quiet()                                // waits until what dead clients sent has had its effect
	traffic() string                       // what was asked of the servers so far, to notice more of it
}

// trialTime is when trials begin.
var trialTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newTrial makes the state's directory, in memory where there is such a place:
// a kill does not lose what the system has not written yet, and a trial syncs
// often.
func newTrial(t *testing.T, name string) *trial {
	parent := ""
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "popferry-trial-") //nolint:usetesting // thousands of them, each removed in time
	if err != nil {
		t.Fatal(err)
	}
	return &trial{
		t: t, name: name, dir: dir, source: map[targets.Hash]int{},
		run: run{
			DB: filepath.Join(dir, "popferry.db"), Spool: filepath.Join(dir, "spool"), Keep: Keep{Forever: true},
			Now: trialTime, Timeout: 30 * time.Second, Settle: -1,
		},
		messages: map[int64]*state.Message{}, deliveries: map[[2]int64]state.Delivery{},
	}
}

func (tr *trial) close() { os.RemoveAll(tr.dir) }

func (tr *trial) errorf(format string, args ...any) {
	tr.t.Helper()
	tr.t.Errorf("%s: "+format, append([]any{tr.name}, args...)...)
}

// trialMail is what lies on a maildrop at first: twins, an empty message, one
// without Message-ID, one whose octets servers store otherwise, and one that
// takes several segments.
func trialMail() []string {
	text := func(i int, body string) string {
		return fmt.Sprintf("From: a@b.example\r\nMessage-ID: <%d@x>\r\nSubject: %d\r\n\r\n%s\r\n", i, i, body)
	}
	return []string{
		text(1, "one"),
		text(2, "twin"),
		text(2, "twin"),
		"Subject: no Message-ID\r\n\r\nfour\r\n",
		"",
		text(6, "NUL \x00 and a bare LF\nhere"),
		text(7, strings.Repeat("0123456789abcdef.\r\n", 6000)),
		text(8, ".\r\n..\r\neight"),
	}
}

// wire is a message as POP3 can send it.
func wire(raw string) string {
	if raw != "" && !strings.HasSuffix(raw, "\r\n") {
		raw += "\r\n"
	}
	return raw
}

func canonOf(raw []byte) targets.Hash {
	h, _, _ := targets.CanonOf(bytes.NewReader(raw))
	return h
}

// fate is how a child ended.
type fate struct {
	killed bool
	code   int
	steps  []string // the labels of the steps it reached
	out    string
}

// last is the label of the step it reached last.
func (f *fate) last() string {
	if len(f.steps) == 0 {
		return "start"
	}
	return f.steps[len(f.steps)-1]
}

// kill makes a pass in a child that dies at its n-th step, checks what it left,
// and tells how it ended. With n 0 the child dies only if shoot is called.
func (tr *trial) kill(n int) *fate {
	tr.t.Helper()
	r := tr.run
	r.Step, r.Trace = n, filepath.Join(tr.dir, "trace")
	os.Remove(r.Trace)
	f := tr.spawn(&r)
	if raw, err := os.ReadFile(r.Trace); err == nil {
		f.steps = strings.Fields(strings.ReplaceAll(string(raw), " ", "_"))
	}
	if f.killed != (n > 0 && len(f.steps) >= n) && n > 0 {
		tr.errorf("step %d of %d, killed %v: %s", n, len(f.steps), f.killed, f.out)
	}
	tr.check(fmt.Sprintf("killed at %s", f.last()))
	return f
}

// spawn runs a child to its end and waits until the servers know of it.
func (tr *trial) spawn(r *run) *fate {
	tr.t.Helper()
	tr.tick()
	r.Now = tr.run.Now
	spec, err := json.Marshal(r)
	if err != nil {
		tr.errorf("%v", err)
	}
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.Stdout, cmd.Stderr = &out, &out
	tr.mu.Lock()
	err = cmd.Start()
	tr.child, tr.dead = cmd.Process, make(chan struct{})
	tr.mu.Unlock()
	if err != nil {
		tr.errorf("%v", err)
		return &fate{}
	}
	err = cmd.Wait()
	close(tr.dead)
	f := &fate{out: out.String(), code: cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		f.killed = ws.Signal() == syscall.SIGKILL
	}
	if err != nil && !f.killed && f.code != childFailed && f.code != childDead {
		tr.errorf("child: %v\n%s", err, f.out)
	}
	tr.ends.quiet()
	return f
}

// shoot kills the child that runs and returns when it is dead. Any goroutine may
// call it; without a child it does nothing.
func (tr *trial) shoot() {
	tr.mu.Lock()
	child, dead := tr.child, tr.dead
	tr.mu.Unlock()
	if child != nil && child.Kill() == nil {
		<-dead
	}
}

// gone is closed when the child that was last begun has ended.
func (tr *trial) gone() <-chan struct{} {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.dead
}

// check looks for what may never happen.
func (tr *trial) check(when string) {
	tr.t.Helper()
	left := tr.ends.left()
	for i, place := range tr.run.places() {
		got := tr.ends.stored(i)
		for h, n := range tr.source {
			if got[h]+left[h] < n {
				tr.errorf("%s: message %.8s is lost: %d of %d copies at %s, %d on the maildrop", when, h, got[h], n, place, left[h])
			}
			if n += tr.extra(i, h); got[h] > n {
				tr.errorf("%s: message %.8s is doubled: %d copies at %s, not %d", when, h, got[h], place, n)
			}
		}
		for h, n := range got {
			if tr.source[h] == 0 {
				tr.errorf("%s: %s has %d copies of %.8s, which was never there", when, place, n, h)
			}
		}
	}
	tr.noRegress(when)
}

// extra is how many copies of a message more than there were on the maildrop may
// lie at a place.
func (tr *trial) extra(place int, h targets.Hash) int {
	if tr.extras == nil {
		return 0
	}
	return tr.extras[place][h]
}

// view reads the state as another process may.
func (tr *trial) view(read func(st *state.Store, live []int64) error) error {
	ctx := context.Background()
	st, err := state.View(ctx, tr.run.DB)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer st.Close()
	a := tr.run.account()
	known, err := st.Known(ctx, sourceOf(a))
	if err != nil {
		return err
	}
	live := make([]int64, len(known.Messages))
	for i, m := range known.Messages {
		live[i] = m.ID
	}
	return read(st, live)
}

// noRegress compares the state with what it was: what is delivered, safe or gone
// stays so.
func (tr *trial) noRegress(when string) {
	tr.t.Helper()
	err := tr.view(func(st *state.Store, live []int64) error {
		ids := live
		for id := range tr.messages {
			ids = append(ids, id)
		}
		ms, err := st.Messages(context.Background(), ids...)
		if err != nil {
			return err
		}
		seen := map[int64]*state.Message{}
		for _, m := range ms {
			seen[m.ID] = m
		}
		for id, was := range tr.messages {
			is := seen[id]
			switch {
			case is == nil:
				tr.errorf("%s: message %d (%s, %s) is forgotten", when, id, was.UIDL, was.Status)
			case was.Status == state.StatusSafe && is.Status != state.StatusSafe, !was.GoneAt.IsZero() && is.GoneAt.IsZero():
				tr.errorf("%s: message %s was %s (gone %v) and is %s (gone %v)", when, is.UIDL, was.Status, was.GoneAt, is.Status, is.GoneAt)
			}
		}
		tr.messages = seen
		ds, err := st.Deliveries(context.Background(), ids...)
		if err != nil {
			return err
		}
		for _, d := range ds {
			key := [2]int64{d.Message, int64(d.N)}
			if was := tr.deliveries[key]; was.Status == state.DeliveryDelivered && d.Status != state.DeliveryDelivered {
				tr.errorf("%s: delivery %v was delivered and is %s", when, key, d.Status)
			}
			tr.deliveries[key] = d
		}
		return nil
	})
	if err != nil {
		tr.errorf("%s: the state cannot be read: %v", when, err)
	}
}

// tick lets time go on: between two passes it always does.
func (tr *trial) tick() { tr.run.Now = tr.run.Now.Add(time.Second) }

// pass makes a pass in this process.
func (tr *trial) pass() (Report, error) {
	tr.tick()
	r, err := tr.run.pass(context.Background(), nil)
	tr.ends.quiet()
	return r, err
}

// quiesce makes passes, with nothing in their way, until one has nothing to do,
// and then demands that all is as if nothing had ever happened. It returns how
// many messages are held for a person, because their delivery was interrupted
// too often.
func (tr *trial) quiesce() (held int) {
	tr.t.Helper()
	waits := 0
	for range 15 {
		before := tr.ends.traffic()
		r, err := tr.pass()
		tr.check("clean pass")
		if err != nil {
			tr.errorf("clean pass: %v", err)
			return 0
		}
		switch {
		case r.New+r.Delivered+r.Recovered+r.Failed+r.Deleted+r.Duplicate > 0:
			continue
		case r.Held > 0 && waits < 3:
			// Quarantined ones are tried again in time, by themselves.
			waits++
			tr.run.Now = tr.run.Now.Add(8 * 24 * time.Hour)
			continue
		}
		if after := tr.ends.traffic(); after != before {
			tr.errorf("an idle pass is not: %s, then %s", before, after)
		}
		return tr.final()
	}
	tr.errorf("no end of passes that have something to do")
	return 0
}

// final demands that every target has exactly what was ever on the maildrop, and
// that the maildrop has what keep says.
func (tr *trial) final() (held int) {
	tr.t.Helper()
	waiting := map[targets.Hash]int{}
	for _, m := range tr.messages {
		if m.Status == state.StatusHeld {
			held++
			waiting[targets.Hash(m.Hash)]++
		}
	}
	for i, place := range tr.run.places() {
		got := tr.ends.stored(i)
		for h, n := range tr.source {
			if got[h] > n+tr.extra(i, h) || got[h] < n-waiting[h] {
				tr.errorf("in the end: %d copies of %.8s at %s, not %d (%d held)", got[h], h, place, n, waiting[h])
			}
		}
	}
	left, want := tr.ends.left(), tr.source
	if !tr.run.Keep.Forever {
		want = waiting
	}
	if diff := diffCounts(left, want); diff != "" {
		tr.errorf("in the end, on the maildrop: %s", diff)
	}
	return held
}
