package maildrop

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"popferry/fetcher/maildrop/maildroptest"
)

func TestDelete_refused(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = hookOn("DELE 2", maildroptest.Action{Reply: "-ERR read only\x1b\r\n"})
	})
	fill(s, 4)
	var log bytes.Buffer
	cfg := config(t, s)
	c, err := Dial(t.Context(), cfg, debugLog(&log))
	if err != nil {
		t.Fatal(err)
	}
	deleted, err := c.Delete(t.Context(), listAll(t, c).Entries)
	if err != nil || len(deleted) != 3 || deleted[1].Num != 3 {
		t.Fatalf("%+v, %v", deleted, err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := s.Messages(testUser); len(left) != 1 || left[0].UIDL != "uid-2" {
		t.Errorf("%+v left", left)
	}
	if !strings.Contains(log.String(), `uidl=uid-2 err="DELE 2: -ERR read only\\x1b"`) {
		t.Errorf("not told: %s", log.String())
	}
}

func TestDelete_lost(t *testing.T) {
	s := start(t, func(s *maildroptest.Server) {
		s.Hook = hookOn("DELE 3", maildroptest.Action{Cut: maildroptest.FIN})
	})
	fill(s, 4)
	c := dial(t, s)
	deleted, err := c.Delete(t.Context(), listAll(t, c).Entries)
	if asError(t, err).Kind != Lost || len(deleted) != 2 || len(s.Messages(testUser)) != 4 {
		t.Errorf("%+v, %v", deleted, err)
	}
}

// An interrupted Delete has marked what it returns, and QUIT makes it so.
func TestDelete_cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := start(t, func(s *maildroptest.Server) {
		s.Caps = []string{"UIDL", "USER"}
		s.Hook = func(_ int, cmd string) (a maildroptest.Action) {
			if cmd == "DELE 2" {
				cancel()
			}
			return a
		}
	})
	fill(s, 4)
	c := dial(t, s)
	deleted, err := c.Delete(ctx, listAll(t, c).Entries)
	if !errors.Is(err, context.Canceled) || len(deleted) != 2 {
		t.Fatalf("%+v, %v", deleted, err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Messages(testUser)); n != 2 {
		t.Errorf("%d left", n)
	}
}

func TestQuit(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  maildroptest.Action
		kind Kind
		left int
	}{
		{"-ERR", maildroptest.Action{Reply: "-ERR some deleted messages not removed\r\n"}, Refused, 2},
		{"reply lost", maildroptest.Action{Cut: maildroptest.FIN}, Lost, 1},
		{"reply lost, nothing done", maildroptest.Action{Cut: maildroptest.RST, NoCommit: true}, Lost, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) { s.Hook = hookOn("QUIT", tt.act) })
			fill(s, 2)
			c := dial(t, s)
			if _, err := c.Delete(t.Context(), listAll(t, c).Entries[:1]); err != nil {
				t.Fatal(err)
			}
			err := c.Quit(t.Context())
			if asError(t, err).Kind != tt.kind {
				t.Error(err)
			}
			if n := len(s.Messages(testUser)); n != tt.left {
				t.Errorf("%d left", n)
			}
			if _, err := c.List(t.Context()); Usable(err) {
				t.Errorf("LIST after QUIT: %v", err)
			}
		})
	}
}

// A body that ended early leaves its rest where the next reply should be.
func TestNoop(t *testing.T) {
	for name, rest := range map[string]string{"in step": "", "out of step": "the rest\r\n.\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(s *maildroptest.Server) {
				s.Hook = hookOn("RETR 1", maildroptest.Action{Reply: "+OK\r\na\r\n.\r\n" + rest})
			})
			fill(s, 1)
			c := dial(t, s)
			fetchAll(t.Context(), c, listAll(t, c).Entries)
			if err := c.Noop(t.Context()); (rest == "") != (err == nil) || err != nil && asError(t, err).Kind != Botched {
				t.Error(err)
			}
		})
	}
}
