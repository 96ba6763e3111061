package imap

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"popferry/targets/endpoint"
	"popferry/targets/targetstest"
)

// TestAcquire_guest: who has a connection and has not asked yet may still send
// an EXAMINE, so nobody may have it alone meanwhile. One who did read the copies
// of another folder, and mail came twice.
func TestAcquire_guest(t *testing.T) {
	tg := oneConn(t)
	guest, err := tg.acquire(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tg.acquire(ended, true); !errors.Is(err, context.Canceled) {
		t.Fatalf("a connection with a guest was lent: %v", err)
	}
	tg.leave(guest)
	alone, err := tg.acquire(t.Context(), true)
	if err != nil || alone != guest {
		t.Fatalf("%v, another connection: %v", err, alone != guest)
	}
	if _, err := tg.acquire(ended, false); !errors.Is(err, context.Canceled) {
		t.Errorf("a lent connection has a guest: %v", err)
	}
	tg.release(alone)
}

// TestJoin_ended: a connection that ends between its login and its first use is
// not kept. Where only one is allowed nobody would ever get another.
func TestJoin_ended(t *testing.T) {
	tg := oneConn(t)
	c, err := tg.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.fail(errClosed)
	<-c.gone
	tg.mu.Lock()
	tg.dialing++
	tg.mu.Unlock()
	if tg.join(c, nil) {
		t.Error("a connection that has ended joins the pool")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next, err := tg.acquire(ctx, true)
	if err != nil || next == c {
		t.Fatalf("the next one: %v, the same: %v", err, next == c)
	}
	tg.release(next)
}

// oneConn is a target that may have one connection.
func oneConn(t *testing.T) *Target {
	t.Helper()
	s := &targetstest.IMAP{}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := &Config{Server: endpoint.Server{
		Host: "127.0.0.1", Port: s.Port(), TLS: endpoint.Plain, User: targetstest.User,
		Password: endpoint.SecretValue(targetstest.Password), Auth: "auto", Timeout: time.Minute,
	}, Connections: 1}
	opened, err := c.Open("home", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened.(*Target)
}
