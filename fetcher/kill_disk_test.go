package fetcher

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/fetcher/state"
	"popferry/targets/targetstest"
)

// TestDisk_noGrowth lets a pass run on a state whose files cannot grow beyond
// some size: sooner or later a write fails. The servers watch that nothing is
// delivered or deleted of which the disk does not know.
func TestDisk_noGrowth(t *testing.T) {
	const first, last = 4 << 10, 180 << 10
	step := 10 << 10
	if withSteps {
		step = 2 << 10
	}
	var failed atomic.Int64
	each(t, (last-first)/step, func(i int) {
		sc := scenes[i%len(scenes)]
		limit := int64(first + i*step)
		s := sc.trial(t, "files that do not grow")
		defer s.close()
		r := s.run
		r.FileSize = limit
		f := s.spawn(&r)
		s.check("disk full")
		switch {
		case f.code == childDead:
			failed.Add(1)
		case f.code == childFailed && strings.Contains(f.out, "disk I/O error"):
			// All was done, but the last write, which marks that, failed.
		case f.code != childDone:
			s.errorf("limit %d: the pass ended with %d: %s", limit, f.code, f.out)
		}
		s.quiesce()
	})
	t.Logf("%d limits, %d passes ended by a dead state", (last-first)/step, failed.Load())
	if failed.Load() < 5 {
		t.Errorf("only %d passes met the limit", failed.Load())
	}
}

// TestDisk_full lets other files fill the disk while a pass is under way: at the
// n-th RETR, and at the n-th APPEND, whose outcome can then not be written down.
func TestDisk_full(t *testing.T) {
	for _, at := range []string{"RETR 1", "RETR 7", "APPEND", "DELE 1"} {
		t.Run(at, func(t *testing.T) {
			sc := scenes[2] // deletes
			s := sc.trial(t, "disk full at "+at)
			defer s.close()
			dir := smallDisk(t)
			s.moveState(dir)
			var full atomic.Bool
			fill := func() {
				if full.CompareAndSwap(false, true) {
					fillDisk(t, filepath.Join(dir, "filler"))
				}
			}
			s.hook(func(_ int, cmd string) maildroptest.Action {
				if cmd == at {
					fill()
				}
				return maildroptest.Action{}
			}, func(_ int, c targetstest.Command) targetstest.Action {
				if c.Verb == at {
					fill()
				}
				return targetstest.Action{}
			})
			_, err := s.pass()
			if !full.Load() {
				t.Fatalf("%s never came", at)
			}
			if _, ok := errors.AsType[*state.Error](err); !ok {
				t.Errorf("the pass ended with %v", err)
			}
			s.check("disk full")
			os.Remove(filepath.Join(dir, "filler"))
			s.quiesce()
		})
	}
}

// moveState puts the state into another directory.
func (tr *trial) moveState(dir string) {
	for _, suffix := range []string{"", ".lock"} {
		raw, err := os.ReadFile(tr.run.DB + suffix)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "popferry.db"+suffix), raw, 0o600)
		}
		if err != nil {
			tr.t.Fatal(err)
		}
	}
	tr.run.DB = filepath.Join(dir, "popferry.db")
}

// fillDisk writes to path until nothing more fits.
func fillDisk(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}
