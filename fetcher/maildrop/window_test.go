package maildrop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"popferry/fetcher/maildrop/maildroptest"
)

// As much as the window allows goes out before the first reply, and no more.
func TestRetrieve_window(t *testing.T) {
	for _, tt := range []struct {
		name     string
		messages int
		size     string
		caps     []string
		off      bool
		want     int
	}{
		{name: "256 commands", messages: 600, size: "10", want: 256},
		{name: "8 MiB", messages: 20, size: "1048576", want: 8},
		{name: "one that is larger than the window", messages: 20, size: "99999999", want: 1},
		{name: "fewer than a window", messages: 5, size: "10", want: 5},
		{name: "no PIPELINING", messages: 5, size: "10", caps: []string{"UIDL", "USER"}, want: 1},
		{name: "pipelining: off", messages: 5, size: "10", off: true, want: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) {
				s.Caps = tt.caps
				s.Hook = hookOn("RETR 1", maildroptest.Action{Cut: maildroptest.Stall})
			})
			for i := range tt.messages {
				s.AddMessage(testUser, maildroptest.Message{UIDL: fmt.Sprint(i), Body: []byte("x\r\n"), Size: tt.size})
			}
			cfg := config(t, s)
			if tt.off {
				cfg.Pipelining = "off"
			}
			cfg.Timeout = 50 * time.Millisecond
			c, err := Dial(t.Context(), cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			pulled := 0
			for in := range c.Retrieve(t.Context(), func(yield func(Entry) bool) {
				for _, e := range listAll(t, c).Entries {
					if pulled++; !yield(e) {
						return
					}
				}
			}) {
				if in.Err == nil {
					t.Fatal("a stalled server delivered")
				}
			}
			// One is pulled to learn that it does not fit.
			if pulled != tt.want && !(pulled == tt.want+1 && tt.size != "10") {
				t.Errorf("%d asked for, want %d", pulled, tt.want)
			}
		})
	}
}

// Over a slow link a pass costs a window a round trip, not a message.
func TestRetrieve_roundTrips(t *testing.T) {
	const rtt = 100 * time.Millisecond
	s := start(t, func(s *maildroptest.Server) { s.Latency = rtt })
	fill(s, 200)
	cfg := config(t, s)
	cfg.Auth = "plain"
	begin := time.Now()
	c, err := Dial(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := listAll(t, c)
	fetchAll(t.Context(), c, l.Entries)
	if _, err := c.Delete(t.Context(), l.Entries); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Greeting, CAPA, AUTH, listing, RETR, DELE, QUIT; the server may see a
	// window in two pieces.
	if took := time.Since(begin); took < 7*rtt || took > 12*rtt {
		t.Errorf("%.1f round trips", float64(took)/float64(rtt))
	}
}

// Who leaves the loop can still delete and QUIT.
func TestRetrieve_left(t *testing.T) {
	s := start(t, nil)
	fill(s, 100)
	c := dial(t, s)
	l := listAll(t, c)
	for in := range c.Retrieve(t.Context(), slices.Values(l.Entries)) {
		if in.Num == 3 {
			break
		}
	}
	if deleted, err := c.Delete(t.Context(), l.Entries[:3]); err != nil || len(deleted) != 3 {
		t.Fatal(deleted, err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Messages(testUser)); n != 97 {
		t.Errorf("%d left", n)
	}
}

// Who is interrupted can, too; what was asked for already is not waited for
// without limit.
func TestRetrieve_cancelled(t *testing.T) {
	s := start(t, nil)
	fill(s, 600)
	c := dial(t, s)
	l := listAll(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for in := range c.Retrieve(ctx, slices.Values(l.Entries)) {
		if in.Err != nil {
			t.Fatal(in.Err)
		}
		if n++; n == 2 {
			cancel()
		}
	}
	if n != 2 {
		t.Errorf("%d messages after the end", n-2)
	}
	if deleted, err := c.Delete(t.Context(), l.Entries[:2]); err != nil || len(deleted) != 2 {
		t.Fatal(deleted, err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range c.Retrieve(ctx, slices.Values(l.Entries)) {
		t.Fatal("fetched for a context that has ended")
	}
}

func TestRetrieve_cancelledWhileStalled(t *testing.T) {
	for _, leave := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("told to stop")
		s := start(t, func(s *maildroptest.Server) {
			s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
				if cmd == "RETR 2" {
					a.Cut = maildroptest.Stall
					if !leave {
						cancel(why)
					}
				}
				return a
			}
		})
		fill(s, 5)
		c := dial(t, s)
		c.linger = 20 * time.Millisecond
		var err error
		for in := range c.Retrieve(ctx, slices.Values(listAll(t, c).Entries)) {
			err = in.Err
			if leave {
				break
			}
		}
		if !leave && (err != nil && !errors.Is(err, why)) {
			t.Errorf("%v", err)
		}
		if _, err := c.List(t.Context()); asError(t, err).Kind != Lost {
			t.Errorf("left %t: the session is in use again: %v", leave, err)
		}
		cancel(nil)
	}
}

// A loop that panics leaves a session that cannot be used out of step.
func TestRetrieve_panic(t *testing.T) {
	s := start(t, nil)
	fill(s, 5)
	c := dial(t, s)
	l := listAll(t, c)
	func() {
		defer func() { _ = recover() }()
		for range c.Retrieve(t.Context(), slices.Values(l.Entries)) {
			panic("in the loop")
		}
	}()
	if _, err := c.Delete(t.Context(), l.Entries); Usable(err) {
		t.Errorf("DELE after a panic: %v", err)
	}
}

func BenchmarkRetrieve(b *testing.B) {
	for _, tls := range []maildroptest.TLS{maildroptest.None, maildroptest.Implicit} {
		b.Run(fmt.Sprintf("5000 of 8 KB, tls %d", tls), func(b *testing.B) {
			s := start(b, func(s *maildroptest.Server) { s.TLS = tls })
			body := bytes.Repeat([]byte(strings.Repeat("x", 76)+"\r\n"), 105)
			for i := range 5000 {
				s.Add(testUser, fmt.Sprint(i), body)
			}
			c := dial(b, s)
			l := listAll(b, c)
			b.ReportAllocs()
			var n atomic.Int64
			for b.Loop() {
				for in := range c.Retrieve(b.Context(), slices.Values(l.Entries)) {
					if in.Err != nil {
						b.Fatal(in.Err)
					}
					k, err := io.Copy(io.Discard, in.Body)
					if err != nil || k != int64(len(body)) {
						b.Fatal(k, err)
					}
					n.Add(1)
				}
			}
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
