package imap_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/imap"
	"popferry/targets/targetstest"
)

// TestCut breaks the first connection at every place of a short run, each way
// and by each end. Whatever Deliver says must be true: a message with a receipt
// is stored once; one that failed otherwise than Unsure is not; and of one that
// is Unsure Find knows whether it is there.
func TestCut(t *testing.T) {
	for _, way := range []targetstest.Way{targetstest.Up, targetstest.Down} {
		for _, how := range []targetstest.End{targetstest.FIN, targetstest.RST, targetstest.Stall} {
			t.Run(fmt.Sprintf("way %d end %d", way, how), func(t *testing.T) {
				t.Parallel()
				const most = 900 // the run is shorter
				step := int64(1)
				if how == targetstest.Stall {
					step = 97 // each costs a timeout
				}
				for at := int64(0); at < most; at += step {
					cutAt(t, way, how, at)
				}
			})
		}
	}
}

func cutAt(t *testing.T, way targetstest.Way, how targetstest.End, at int64) {
	t.Helper()
	s := &targetstest.IMAP{}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := &targetstest.Proxy{Server: s.Addr(), Way: way, How: how, After: at, Times: 1}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tg := open(t, config(p.Port(), func(c *imap.Config) {
		c.Connections = 1
		if how == targetstest.Stall {
			c.Timeout = 500 * time.Millisecond
		}
	}))
	defer tg.Close()
	where := fmt.Sprintf("cut at %d", at)
	m, merr := tg.Mark(t.Context(), "")
	var wg sync.WaitGroup
	var errs [3]error
	for i := range errs {
		wg.Go(func() { _, errs[i] = append1(t, tg, targetstest.Text(i), "") })
	}
	wg.Wait()
	if how != targetstest.Stall && errors.Join(append(errs[:], merr)...) != nil {
		s.Ended(1) // the broken connection may have brought something
	}
	copies := map[string]int{}
	for _, m := range s.Messages("INBOX") {
		copies[string(m.Body)]++
	}
	if merr != nil {
		m = targets.Mark{}
	}
	for i, err := range errs {
		raw := targetstest.Text(i)
		n := copies[raw]
		switch {
		case err == nil && n != 1, n > 1:
			t.Errorf("%s: message %d has %d copies, and Deliver said %v", where, i, n, err)
		case err != nil && targets.FaultOf(err) != targets.Unsure && n != 0:
			t.Errorf("%s: message %d is stored, and Deliver said %v (%v)", where, i, err, targets.FaultOf(err))
		case err != nil && targets.FaultOf(err) == targets.Refused:
			t.Errorf("%s: message %d is blamed: %v", where, i, err)
		case targets.FaultOf(err) == targets.Unsure && err != nil:
			found, ferr := tg.Find(t.Context(), "", m, []targets.Wanted{targetstest.WantedOf(raw)}, nil)
			if ferr != nil || found[0].OK != (n == 1) {
				t.Errorf("%s: message %d has %d copies, Find says %v, %v", where, i, n, found, ferr)
			}
		}
	}
}
