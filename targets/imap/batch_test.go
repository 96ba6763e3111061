package imap_test

import (
	"sync"
	"testing"
	"time"

	"popferry/targets/targetstest"
)

// While one command for a folder is under way, a few more messages wait for it,
// and then go together.
func TestDeliver_gathers(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan int, 100)
	s := start(t, &targetstest.IMAP{Hook: func(c targetstest.Command) targetstest.Action {
		if c.Verb != "APPEND" {
			return targetstest.Action{}
		}
		arrived <- c.N
		return targetstest.Action{Wait: release}
	}})
	tg := open(t, config(s.Port()))
	var wg sync.WaitGroup
	send := func(from, to int) {
		for i := from; i < to; i++ {
			wg.Go(func() {
				if _, err := append1(t, tg, targetstest.Text(i), ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
	send(0, 1)
	<-arrived
	send(1, 21)
	select {
	case <-arrived:
		t.Error("twenty messages did not wait for the one that is under way")
	case <-time.After(50 * time.Millisecond): // nothing tells that nothing comes
	}
	close(release)
	wg.Wait()
	if n := s.Count("APPEND"); n != 2 {
		t.Errorf("%d APPENDs", n)
	}
	if got := len(s.Messages("INBOX")); got != 21 {
		t.Errorf("%d stored", got)
	}
}

// A folder that holds very much is opened with SELECT, and written to over one
// connection; others are left to EXAMINE.
func TestDeliver_bigFolder(t *testing.T) {
	s := start(t, &targetstest.IMAP{})
	for range 20_000 {
		s.Put("INBOX", targetstest.Stored{Body: []byte("x\r\n")})
	}
	tg := open(t, config(s.Port()))
	deliver := func(folder string) {
		var wg sync.WaitGroup
		for i := range 600 {
			wg.Go(func() {
				if _, err := append1(t, tg, targetstest.Text(i), folder); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	deliver("Lists")
	if n := s.Count("SELECT"); n != 0 {
		t.Errorf("%d SELECTs of a small folder", n)
	}
	deliver("INBOX")
	if n := s.Count("SELECT"); n != 1 {
		t.Errorf("%d SELECTs of a big folder", n)
	}
	if got := len(s.Messages("INBOX")); got != 20_600 {
		t.Errorf("%d stored", got)
	}
}
