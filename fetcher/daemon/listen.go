package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// ListenError is an address that the status page cannot be served on.
type ListenError struct {
	Addr  string
	Text  string // what is wrong, in plain words
	Hint  string // what to do next
	Later bool   // it may work later without anybody changing anything
	Err   error
}

func (e *ListenError) Error() string { return "status page: " + e.Addr + ": " + e.Text }

// Unwrap returns what lay below.
func (e *ListenError) Unwrap() error { return e.Err }

// Listen opens the address of the status page. Unless it is for everybody, who
// must then be asked for a password, one that other machines reach is refused,
// whatever its name looked like. Errors are *ListenError.
func Listen(ctx context.Context, addr string, everybody bool) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, listenError(addr, err)
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); !everybody && (!ok || !tcp.IP.IsLoopback()) {
		ln.Close()
		return nil, &ListenError{
			Addr: addr, Text: "everybody who reaches this address could read the status page",
			Hint: "Set a password:  http: { basic_auth: { user: NAME, password_file: FILE } }\nor let only this machine in:  127.0.0.1:8093",
		}
	}
	return ln, nil
}

func listenError(addr string, err error) *ListenError {
	e := &ListenError{Addr: addr, Err: err, Hint: "Choose another with  http: { listen: … }  or  --http ADDRESS:PORT"}
	var dns *net.DNSError
	var sys *os.SyscallError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Text, e.Later = "another program listens there", true
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Text, e.Later = "this machine does not have that address", true
	case errors.Is(err, syscall.EACCES):
		e.Text = "only root may use that port"
		e.Hint = "Ports from 1024 on are for everybody:  http: { listen: 127.0.0.1:8093 }"
	case errors.As(err, &dns):
		e.Text, e.Later = fmt.Sprintf("the name %q could not be looked up", dns.Name), !dns.IsNotFound
	case errors.As(err, &sys):
		e.Text = sys.Err.Error()
	default:
		e.Text = err.Error()
	}
	return e
}

const (
	requestTime  = 10 * time.Second // to send a request
	answerTime   = 30 * time.Second // to take its answer
	shutdownTime = 3 * time.Second  // for requests under way when the end comes
	headerOctets = 16 << 10
)

// ServeHTTP answers requests with h until ctx ends. Requests under way then have
// a few seconds. It closes ln, and returns when everything it started has ended;
// the end of ctx is no error.
func ServeHTTP(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, ReadTimeout: requestTime, ReadHeaderTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: time.Minute,
		MaxHeaderBytes: headerOctets, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	down := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(down)
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if srv.Shutdown(sctx) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(ln)
	if !stop() {
		<-down
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("status page: %w", err)
}
