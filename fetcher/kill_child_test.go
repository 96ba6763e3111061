package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/targets/maildir"
	"popferry/targets/smtp"
)

// run is one pass between servers that listen on the loopback, from a state on
// disk. It is made in this process or in a child, which can be killed.
type run struct {
	DB, Spool string
	POP       login
	Targets   []login
	Keep      Keep
	Now       time.Time
	Timeout   time.Duration // of connections, without progress
	Settle    time.Duration

	// Of a child only.
	Step     int    // the step at which it kills itself; 0 is none
	Trace    string // the file to which it writes the label of every step
	FileSize int64  // files grow no further (RLIMIT_FSIZE) once the state is open; 0 is no limit
	Objects  string // the file to which it writes what it has allocated; "" is none
}

// login is an account at a server, or a Maildir.
type login struct {
	Port           int
	User, Password string
	Maildir        string // its path; then nothing else counts
	Relay          *relay // a target by SMTP
}

// relay is how a target is delivered to that is no IMAP server.
type relay struct {
	LMTP, Hold bool
	Rcpt       []string
}

// target is what l is as a target.
func (l login) target(r *run) targets.Config {
	switch {
	case l.Maildir != "":
		return maildir.Config{Path: l.Maildir, Step: step}
	case l.Relay != nil:
		return &smtp.Config{Server: l.server(r.Timeout), LMTP: l.Relay.LMTP, Recipients: l.Relay.Rcpt, Helo: "client.example", FinalReply: r.Timeout}
	}
	return imap.Config{Server: l.server(r.Timeout), CreateFolders: true, Settle: r.Settle, SettleLarge: r.Settle}
}

// places are where copies lie: a target, or at a relay each of its recipients.
func (r *run) places() (names []string) {
	for i, l := range r.Targets {
		if l.Relay == nil {
			names = append(names, targetName(i))
			continue
		}
		names = append(names, l.Relay.Rcpt...)
	}
	return names
}

func (l login) server(timeout time.Duration) endpoint.Server {
	return endpoint.Server{
		Host: "127.0.0.1", Port: l.Port, TLS: endpoint.Plain, Auth: "auto",
		User: l.User, Password: endpoint.SecretValue(l.Password), Timeout: timeout,
	}
}

// targetName is what the i-th target is called.
func targetName(i int) string { return fmt.Sprintf("t%d", i) }

// account is the maildrop of r.
func (r *run) account() *Account {
	return &Account{Name: "isp", Keep: r.Keep, Maildrop: maildrop.Config{Server: r.POP.server(r.Timeout)}}
}

// pass does it. ready, if not nil, is called once the state is open.
func (r *run) pass(ctx context.Context, ready func(*state.Store) error) (report Report, err error) {
	st, err := r.open(ctx)
	if err != nil {
		return report, err
	}
	step("K1")
	defer func() {
		seen := r.watchWAL()
		err = errors.Join(err, st.Close())
		<-seen
		step("K21")
	}()
	if ready != nil {
		if err := ready(st); err != nil {
			return report, err
		}
	}
	f := &Fetcher{Targets: map[string]targets.Target{}, State: st, Spool: r.Spool, Now: func() time.Time { return r.Now }}
	account := r.account()
	job := &Job{Name: "job", Accounts: []*Account{account}, Hold: map[string]bool{}}
	for i, l := range r.Targets {
		job.Hold[targetName(i)] = l.Relay != nil && l.Relay.Hold
		t, err := l.target(r).Open(targetName(i), slog.New(slog.DiscardHandler))
		if err != nil {
			return report, err
		}
		defer t.Close()
		f.Targets[targetName(i)] = t
		job.Targets = append(job.Targets, targetName(i))
	}
	return f.Pass(ctx, job, account)
}

// open opens the state.
func (r *run) open(ctx context.Context) (*state.Store, error) {
	for {
		st, err := state.Open(ctx, r.DB, state.Options{Now: func() time.Time { step("K0"); return r.Now }})
		// A process that another trial starts has our files until it execs, and
		// with them a lock that we have given back already.
		locked, ok := errors.AsType[*state.Error](err)
		if !ok || locked.Code != state.CodeLocked || locked.PID != os.Getpid() {
			return st, err
		}
		runtime.Gosched()
	}
}

// watchWAL makes a step of the moment in Close at which the write-ahead log has
// gone into the database. Its channel is closed then.
func (r *run) watchWAL() <-chan struct{} {
	seen := make(chan struct{})
	if r.Trace == "" {
		close(seen)
		return seen
	}
	go func() {
		defer close(seen)
		for {
			fi, err := os.Stat(r.DB + "-wal")
			if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() == 0 {
				step("K20")
				return
			}
		}
	}()
	return seen
}

// childEnv makes the test binary a child process that makes one run, which is
// its value, in JSON.
const childEnv = "POPFERRY_TEST_RUN"

// How a child ends that was not killed.
const (
	childDone   = 0
	childFailed = 4 // the pass returned an error
	childDead   = 5 // the error was that the state had failed
)

// childMain runs in TestMain. It does not return in a child.
func childMain() {
	spec := os.Getenv(childEnv)
	if spec == "" {
		return
	}
	var r run
	err := json.Unmarshal([]byte(spec), &r)
	if err == nil {
		armSteps(&r)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		pass := func() error {
			_, err := r.pass(ctx, func(*state.Store) error { return limitFiles(r.FileSize) })
			return err
		}
		if r.Objects != "" {
			err = countObjects(r.Objects, pass)
		} else {
			err = pass()
		}
	}
	code := childDone
	if err != nil {
		fmt.Println(err)
		if code = childFailed; errors.Is(err, state.ErrDead) {
			code = childDead
		}
	}
	os.Exit(code)
}
