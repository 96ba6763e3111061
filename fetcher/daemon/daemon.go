package daemon

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// defaultParallel is how many passes may begin at the same time.
const defaultParallel = 32

// beginning is how long a pass counts against Daemon.Parallel. One that takes
// longer waits for a server or moves much mail; a server that hangs must not keep
// other accounts waiting.
const beginning = 10 * time.Second

// Daemon runs the jobs of a configuration on their schedules. Fill it in, then
// call Serve; the fields are not to be changed afterwards. The methods are safe
// for concurrent use.
type Daemon struct {
	Config  *config.Config                 // to begin with
	Load    func() (*config.Config, error) // reads it again, for Reload; the error may be config.Errors
	State   *state.Store                   // open for writing; whoever opened it closes it after Serve
	Log     *slog.Logger                   // nil discards
	Version string
	// Explain puts an error into the words of the command line: e.Err, of a
	// message (Failed, Held) or of a whole pass (PassEnd). It is given the
	// configuration that the pass ran with.
	Explain func(c *config.Config, e fetcher.Event) Problem
	// Attention returns what else needs a look; nil for nothing. It must be quick.
	Attention func(*config.Config) []Problem

	// Watch are called with every event of every pass, one call at a time;
	// PassDone after a pass, likewise. They must not block.
	Watch    []func(fetcher.Event)
	PassDone []func(Pass)
	Started  func()                            // the schedule stands; nil for nothing
	Stopped  func()                            // all passes have ended, and Status still tells; nil for nothing
	Reloaded func(*config.Config)              // another configuration is in force; nil for nothing
	Now      func() time.Time                  // nil is time.Now
	Parallel int                               // passes that may begin at a time; 0 is 32
	Jitter   func(time.Duration) time.Duration // how late an account is, given at most; nil draws it
	Socket   string                            // path of the control socket; "" is beside the state, "-" is none

	mu      sync.Mutex
	gen     *generation
	units   map[string]*unit // by account
	users   map[targets.Target]int
	retired map[targets.Target]bool // closed when nobody uses them any more
	start   func(*unit)             // runs tend
	started time.Time
	ended   bool     // no unit starts any more
	refused *Problem // of the last Reload; nil if it was good
	running sync.WaitGroup
	room    chan struct{}
	fatal   chan error // why the state takes nothing more

	recorder *Recorder
	seen     Sightings
	run      func(context.Context, *generation, *config.Job, *fetcher.Account) (fetcher.Report, error) // tests: instead of a Pass
	doneMu   sync.Mutex                                                                                // PassDone: one call at a time
	cache    cache
}

// generation is a configuration, and what was opened for it. It does not change.
type generation struct {
	config  *config.Config
	loaded  time.Time
	fetcher *fetcher.Fetcher
	targets map[string]targets.Target
}

func (d *Daemon) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

func (d *Daemon) log() *slog.Logger {
	if d.Log != nil {
		return d.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Serve runs jobs until ctx ends, and returns nil when all passes have ended: at
// most 25 seconds later. Any other end is an error: the targets could not be
// opened, or the state has failed, after which only a new process can tell what
// was delivered.
func (d *Daemon) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := d.begin(); err != nil {
		return err
	}
	defer d.end()
	control, err := d.listen()
	if err != nil {
		d.log().Warn("popferry status and healthcheck will not reach this process: no control socket", "err", err)
	} else if control != nil {
		d.running.Go(func() { d.answer(control) })
		defer control.Close()
	}
	d.start = func(u *unit) { d.running.Go(func() { d.tend(ctx, u) }) }
	d.adopt(d.gen)
	if d.Started != nil {
		d.Started()
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-d.fatal:
		cancel(err)
	}
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	if control != nil {
		control.Close()
	}
	d.running.Wait()
	if d.Stopped != nil {
		d.Stopped()
	}
	return err
}

// begin readies everything that needs no network.
func (d *Daemon) begin() error {
	opened, err := d.Config.Open(d.log())
	if err != nil {
		return err
	}
	d.seen.Subjects = d.Config.HTTP.ShowSubjects
	d.recorder = &Recorder{Explain: d.Explain, now: d.now}
	f := &fetcher.Fetcher{
		Targets: opened, State: d.State, Log: d.Log, Now: d.Now, Rates: d.Config.Rates(),
		Spool: filepath.Join(filepath.Dir(d.State.Path()), "spool"),
		Event: d.event, Record: d.recorder.Record,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.units, d.users, d.retired = map[string]*unit{}, map[targets.Target]int{}, map[targets.Target]bool{}
	parallel := d.Parallel
	if parallel <= 0 {
		parallel = defaultParallel
	}
	d.room = make(chan struct{}, parallel)
	d.fatal = make(chan error, 1)
	d.started = d.now()
	d.gen = &generation{config: d.Config, loaded: d.started, fetcher: f, targets: opened}
	return nil
}

// end closes what begin opened. No pass is under way any more.
func (d *Daemon) end() {
	if err := d.cache.close(); err != nil {
		d.log().Warn("the history could not be closed", "err", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.gen.targets {
		t.Close()
	}
}

func (d *Daemon) event(e fetcher.Event) {
	d.recorder.Event(e)
	d.seen.Observe(e)
	if e.Kind == fetcher.Listed {
		d.listed(e)
	}
	for _, f := range d.Watch {
		f(e)
	}
}

// RunNow makes every job due, those too that run by hand only. A server's
// LOGIN-DELAY is still waited for. Logins that wait because they were refused are
// tried once.
func (d *Daemon) RunNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	d.gen.config.Logins.Forgive()
	for _, u := range d.units {
		if u.running {
			u.again = true
			continue
		}
		u.next, u.forced = later(now, u.floor), true
		u.poke()
	}
}

// Reload reads the configuration again and puts it in force. One with errors, or
// whose targets cannot be opened, changes nothing; everything that is wrong with
// it is in the log and in the error.
func (d *Daemon) Reload() error {
	c, err := d.Load()
	if err == nil {
		err = d.replace(c)
	}
	if err != nil {
		d.refuse(err)
		return err
	}
	return nil
}

// refuse logs what is wrong with a configuration, and keeps it for Status.
func (d *Daemon) refuse(err error) {
	p := Problem{Exit: 78, Code: "config-refused"}
	var errs config.Errors
	if !errors.As(err, &errs) {
		d.log().Error("configuration", "err", err)
		p.Lines = append(p.Lines, endpoint.Printable(err.Error(), 300))
	}
	for i, e := range errs {
		d.log().Error("configuration", "fault", e.Code, "err", e)
		if i < 5 {
			p.Lines = append(p.Lines, endpoint.Printable(e.Error(), 300))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	since := d.gen.loaded.Format(time.DateTime)
	p.Head = "the new configuration is refused; the one of " + since + " stays in force"
	d.refused = &p
	d.log().Error(p.Head)
}
