package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/daemon"
	"popferry/fetcher/state"
	"popferry/targets"
)

// mover moves accounts: each job of its configuration is one account that goes
// to one target.
type mover struct {
	*app
	config *config.Config
	o      migrateOptions
	moves  []*move             // by job
	under  map[jobOfName]*move // by job and account
	view   runView
	rates  map[string][]targets.Rate
	base   *fetcher.Fetcher // what those of all states share
	rows   *reportRows      // nil for none

	budgets []*budget         // of the plan
	expect  map[string]amount // by account: what the plan has found to do

	mu     sync.Mutex // guards what of memories changes
	states map[string]*memories
}

// jobOfName is what events name a move by.
type jobOfName struct{ job, account string }

// memories is one state, and what works with it. It is open while an account of
// it is moved: there may be thousands.
type memories struct {
	path    string
	own     bool     // made for moves, and not the configuration's
	targets []string // that are needed
	history *daemon.Recorder

	users   int
	store   *state.Store
	fetcher *fetcher.Fetcher
}

// move is one account on its way, and in the end what became of it.
type move struct {
	job     *config.Job
	account *fetcher.Account
	target  *config.Target
	state   *memories

	fetcher.Migrated
	tally *tally // of the last pass
	took  time.Duration
	code  int      // it ends with
	worst *problem // why; nil if that is said by the numbers
	ended bool     // as far as it could
	bug   *crash
}

func newMover(a *app, c *config.Config, o migrateOptions) *mover {
	m := &mover{
		app: a, config: c, o: o, rates: c.Rates(),
		under: map[jobOfName]*move{}, states: map[string]*memories{},
	}
	for _, j := range c.Jobs {
		path := cmp.Or(a.flags.state, j.State, c.State)
		s := m.states[path]
		if s == nil {
			s = &memories{path: path, own: path != c.State, history: &daemon.Recorder{Config: c, Explain: explained}}
			m.states[path] = s
		}
		s.targets = append(s.targets, targetsOf(j)...)
		mv := &move{job: j, account: j.Accounts[0], target: c.Targets[j.Targets[0]], state: s, tally: newTally(c)}
		m.moves = append(m.moves, mv)
		m.under[jobOfName{j.Name, mv.account.Name}] = mv
	}
	return m
}

// targetsOf are those that a job needs.
func targetsOf(j *config.Job) []string { return slices.Concat(j.Targets, j.Rules.Targets()) }

// run moves everything and tells what became of it.
func (m *mover) run(ctx context.Context) error {
	for _, dir := range m.directories() {
		if err := m.lastingAt(dir); err != nil {
			return err
		}
	}
	before, err := m.sentBefore(ctx)
	if err != nil {
		return err
	}
	if m.o.report != "" {
		if m.rows, err = newReport(m.o.report); err != nil {
			return err
		}
	}
	shown := viewOptions{progress: m.o.progress, first: m.o.first(), asks: m.o.asks, before: before, accounts: len(m.config.Accounts), expect: m.expect}
	if m.o.json {
		m.view = newJSONView(m.app, m.config, shown)
	} else {
		m.view = newTextView(m.app, m.config, shown)
	}
	defer m.view.close()
	m.base = &fetcher.Fetcher{Log: m.log, Event: m.event}
	rememberLoginsIn(m.config, m.stateOf(), false)
	m.all(ctx)
	m.view.close()
	e := m.conclude(ctx)
	if e.code == exitOK {
		return nil
	}
	return e
}

// sentBefore is what has used up the rates of the targets before.
func (m *mover) sentBefore(ctx context.Context) (map[string][]state.Sent, error) {
	all := map[string][]state.Sent{}
	if len(m.rates) == 0 {
		return all, nil
	}
	for _, path := range sorted(m.states) {
		if !slices.ContainsFunc(m.states[path].targets, func(name string) bool { return len(m.rates[name]) > 0 }) {
			continue
		}
		s, err := view(ctx, path)
		if err != nil || s == nil {
			continue // opening it tells
		}
		before, err := sentBefore(ctx, m.config, s, time.Now(), m.states[path].targets...)
		if err = errors.Join(err, s.Close()); err != nil {
			return nil, err
		}
		for target, sent := range before {
			all[target] = append(all[target], sent...)
		}
	}
	return all, nil
}

// directories returns a state in each directory that has one.
func (m *mover) directories() (paths []string) {
	seen := map[string]bool{}
	for _, path := range sorted(m.states) {
		if dir := filepath.Dir(path); !seen[dir] {
			seen[dir] = true
			paths = append(paths, path)
		}
	}
	return paths
}

// open opens a state for one more account, and makes what works with it.
func (m *mover) open(ctx context.Context, s *memories) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.users++; s.users > 1 {
		return nil
	}
	defer func() {
		if err != nil {
			s.users--
		}
	}()
	store, err := state.Open(ctx, s.path, state.Options{New: m.o.newState, Log: m.log})
	if err != nil {
		return err
	}
	ts, err := m.config.Open(m.log, s.targets...)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	s.store = store
	s.fetcher = m.base.With(ts, m.rates)
	s.fetcher.State, s.fetcher.Record, s.fetcher.Spool = store, s.history.Record, filepath.Join(filepath.Dir(s.path), "spool")
	if s.own {
		s.fetcher.Spool = s.path + ".spool"
	}
	return nil
}

// close closes a state when no account needs it any more.
func (m *mover) close(s *memories) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	for _, t := range s.fetcher.Targets {
		t.Close()
	}
	err := s.store.Close()
	s.store, s.fetcher = nil, nil
	if err != nil {
		return &state.Error{Code: state.CodeWriteFailed, Path: s.path, Text: "the state could not be closed", Err: err}
	}
	return nil
}

// stateOf returns what finds the state of a login: that of the move that needs it.
func (m *mover) stateOf() func(login string) *state.Store {
	by := map[string]*memories{}
	for _, mv := range m.moves {
		by[mv.account.Maildrop.Login()] = mv.state
		if mv.target.Server != nil {
			by[mv.target.Server.Login()] = mv.state
		}
	}
	return func(login string) *state.Store {
		m.mu.Lock()
		defer m.mu.Unlock()
		if s := by[login]; s != nil {
			return s.store
		}
		return nil
	}
}

// event is called for one event at a time.
func (m *mover) event(e fetcher.Event) {
	if mv := m.under[jobOfName{e.Job, e.Account}]; mv != nil {
		mv.state.history.Event(e)
		if e.Kind == fetcher.PassStart {
			mv.tally = newTally(m.config) // what failed in the last pass is tried again
		}
		mv.tally.event(e)
	}
	m.view.event(e)
}

// all moves the accounts, some at a time. One account that goes to several
// targets does so one after the other: its server would refuse a second session.
func (m *mover) all(ctx context.Context) {
	var sources []string
	bySource := map[string][]*move{}
	for _, mv := range m.moves {
		source := mv.account.Source()
		if len(bySource[source]) == 0 {
			sources = append(sources, source)
		}
		bySource[source] = append(bySource[source], mv)
	}
	room := make(chan struct{}, m.o.parallel)
	var wg sync.WaitGroup
	for _, source := range sources {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			for _, mv := range bySource[source] {
				if ctx.Err() != nil { // its turn has not come, and it is not done
					mv.judge(ctx, m.config, nil)
					m.arrived(mv)
					continue
				}
				m.one(ctx, mv)
			}
		})
	}
	wg.Wait()
	for _, mv := range m.moves {
		if mv.bug != nil {
			panic(mv.bug) // the others have ended in order; main reports it
		}
	}
}

// one moves one account.
func (m *mover) one(ctx context.Context, mv *move) {
	began := time.Now()
	defer func() {
		if r := recover(); r != nil {
			mv.bug = &crash{r, debug.Stack()}
		}
	}()
	err := m.open(ctx, mv.state)
	if err == nil {
		mv.Migrated, err = mv.state.fetcher.Migrate(ctx, &mv.job.Job, mv.account, fetcher.MigrateOptions{
			Patience: m.o.patience, Compare: m.o.verify != verifyNo, Deep: m.o.verify == verifyDeep,
		})
		m.written(ctx, mv)
		err = cmp.Or(err, m.close(mv.state))
	}
	mv.took = time.Since(began)
	mv.judge(ctx, m.config, err)
	m.arrived(mv)
}

// continued is a problem of a pass as one of a migration, which goes on by the same
// command.
func continued(p *problem) *problem {
	if p == nil {
		return nil
	}
	q := *p
	q.lines = slices.Clone(p.lines)
	for i, l := range q.lines {
		q.lines[i] = strings.NewReplacer("popferry run --new-state", "the same command with --new-state", "popferry run", "the same command", "the next pass", "the same command").Replace(l)
	}
	return &q
}

// judge says how a move ends.
func (mv *move) judge(ctx context.Context, c *config.Config, err error) {
	stop, stopped := interruption(ctx)
	switch {
	case stopped:
		mv.code = stop.code
	case err != nil:
		mv.worst = continued(explainMove(c, mv.account, err))
		mv.code = mv.worst.exit
	case mv.Failed > 0:
		mv.worst, mv.code = continued(mv.tally.first()), exitSome
	default:
		mv.ended = true
		if mv.Held > 0 || len(mv.Lacking()) > 0 {
			mv.code = exitSome
		}
	}
}
