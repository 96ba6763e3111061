package fetcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/targets"
)

const (
	// drainTime is how long messages in hand may take after the context ended.
	drainTime = 20 * time.Second
	// quitTime is how long QUIT may take then.
	quitTime = 5 * time.Second
	// reconnects is how often a pass goes on after a connection was lost.
	reconnects = 2
	// sessionMessages is how many messages a session fetches before it QUITs,
	// where QUIT deletes them.
	sessionMessages = 5000
)

// ErrBusy is returned by Pass while another pass runs over the same maildrop.
var ErrBusy = errors.New("a pass over this account is already running")

// pass is one pass of one job over one account.
type pass struct {
	f       *Fetcher
	job     *Job
	account *Account
	source  string // host:port/user
	id      string
	log     *slog.Logger
	sinks   map[string]*sink // targets by name
	eager   bool             // see Fetcher.pass
	listing []maildrop.Entry // likewise
	going   context.Context  // of the session: what waits for a rate when it ends has not begun

	known   state.Account // ID is 0 until it was listed
	missing bool          // something remembered is not in the listing
	exact   int           // messages in a row that were as large as LIST said
	clock   time.Time     // the latest time that was known when the pass began
	gone    int           // messages that were deleted
	rest    bool          // a limit left messages unfetched

	heldBefore, skippedBefore int // of the report, from the last listing

	mu       sync.Mutex // guards what follows; workers write it
	report   Report
	tried    map[int64]bool  // messages that failed in this pass, by id
	doubted  map[int64]bool  // messages that did not have the size LIST said
	again    int             // of these, to be fetched once more
	safe     []item          // fetched in this session, delivered safely
	unsure   int             // deliveries of this session whose end is not known
	rationed map[string]bool // targets whose rate is used up
	used     *targets.UsedUp // the first of these rates that goes on
	fatal    error           // the state has failed: nothing more may be promised

	folders newFolders // made by this pass

	fetched atomic.Int64 // messages, for limits
	octets  atomic.Int64
}

// verdict is how a session ended and so what the pass does next.
type verdict int

const (
	finished verdict = iota
	resume           // a connection was lost: connect again and go on
	more             // a full session is done: the next one
)

// Pass fetches what is new on a's maildrop and delivers it as j says. It
// returns when everything it began has ended and is on disk.
//
// When ctx ends, messages in hand are finished, at most for 20 seconds, what is
// safe is deleted as usual, and the error is ctx's. Any other error says why
// the pass could not do all its work; messages that failed one by one are no
// error but counted in the report, which is valid in any case. ErrBusy means
// that nothing was done.
func (f *Fetcher) Pass(ctx context.Context, j *Job, a *Account) (Report, error) {
	r, _, err := f.pass(ctx, j, a, false)
	return r, err
}

// pass is Pass. An eager one does not wait until the time has come of messages that
// were put off. listed is what lay on the maildrop when its last session began, nil
// if that is not known for certain.
func (f *Fetcher) pass(ctx context.Context, j *Job, a *Account, eager bool) (_ Report, listed []maildrop.Entry, _ error) {
	p, err := f.newPass(j, a)
	if err != nil {
		return Report{Job: j.Name, Account: a.Name}, nil, err
	}
	p.eager = eager
	if !f.lockSource(p.source) {
		return p.report, nil, ErrBusy
	}
	defer f.unlockSource(p.source)
	defer p.releaseShelves()
	f.event(Event{Kind: PassStart, Job: j.Name, Account: a.Name, Pass: p.id})
	err = p.run(ctx)
	p.finish(err)
	return p.report, p.listing, err
}

func (f *Fetcher) newPass(j *Job, a *Account) (*pass, error) {
	p := &pass{
		f: f, job: j, account: a,
		source:   sourceOf(a),
		id:       strings.ToLower(rand.Text()[:6]),
		sinks:    make(map[string]*sink, len(j.Targets)),
		tried:    map[int64]bool{},
		doubted:  map[int64]bool{},
		rationed: map[string]bool{},
	}
	p.log = f.logger().With("job", j.Name, "account", a.Name, "pass", p.id)
	for _, name := range slices.Concat(j.Targets, j.Rules.Targets()) {
		t := f.Targets[name]
		if t == nil {
			return nil, fmt.Errorf("job %q delivers to %q, which is no target", j.Name, name)
		}
		p.sinks[name] = newSink(name, t)
	}
	p.report = Report{Job: j.Name, Account: a.Name, Pass: p.id, Start: f.now(), Folders: map[string]map[string]int{}}
	return p, nil
}

// sourceOf names a maildrop for the state: the account's name may change.
func sourceOf(a *Account) string { return a.Source() }

func (p *pass) run(ctx context.Context) error {
	if p.f.DryRun {
		return p.rehearse(ctx)
	}
	p.clock = p.f.State.Clock()
	if err := p.put(ctx, state.Clock{Now: p.f.now()}); err != nil {
		return err
	}
	if err := p.ration(ctx); err != nil {
		return err
	}
	for lost := 0; ; {
		v, err := p.session(ctx)
		switch {
		case p.fatal != nil:
			return p.fatal
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case v == finished, v == resume && lost == reconnects:
			return err
		case v == resume:
			if lost++; err == nil { // a target's was, and what was under way is looked for
				p.log.Info("deliveries were interrupted, going on with a new connection")
				continue
			}
			p.log.Warn("connection lost, going on with a new one", "err", err)
		}
	}
}

// finish closes the report and the pass's row.
func (p *pass) finish(err error) {
	var changes []state.Change
	if p.known.ID != 0 {
		whole := err == nil && !p.rest && p.report.Failed == 0 && len(p.rationed) == 0
		changes = append(changes,
			state.PassDone{Account: p.known.ID, At: p.f.now(), Success: err == nil, FirstPass: whole},
			state.Exact{Account: p.known.ID, Count: min(p.exact, sizeTrust)},
			state.Prune{Before: p.f.now().Add(-tombstoneTime)})
	}
	p.report.Failed += p.unsure
	p.report.Took = p.f.now().Sub(p.report.Start)
	p.report.Used, p.report.More = p.used, p.rest || p.used != nil
	p.report.Down = p.downs()
	r := p.report
	if p.f.Record != nil && !p.f.DryRun {
		if line := p.f.Record(r, err); line != nil {
			changes = append(changes, line)
		}
	}
	if len(changes) > 0 && p.dead() == nil && !p.f.DryRun {
		ctx, cancel := context.WithTimeout(context.Background(), quitTime)
		defer cancel()
		if err := p.put(ctx, changes...); err != nil {
			p.log.Warn("how the pass ended could not be recorded", "err", err)
		}
	}
	p.emit(Event{Kind: PassEnd, Report: &r, Err: err})
}

// downs are the targets that take nothing more, and why. That a rate is used up
// is no failure.
func (p *pass) downs() map[string]error {
	downs := map[string]error{}
	for name, s := range p.sinks {
		err := s.downErr()
		if _, rate := errors.AsType[*targets.UsedUp](err); err != nil && !rate {
			downs[name] = err
		}
	}
	return downs
}

// session is one connection to the maildrop: list, fetch, deliver, delete,
// QUIT.
func (p *pass) session(ctx context.Context) (verdict, error) {
	p.going = ctx
	known, pending, err := p.remember(ctx)
	if err != nil {
		return finished, err
	}
	sure := work(known)
	open := make(chan struct{}) // closed when the maildrop is
	if sure {
		defer p.greet(ctx, open)()
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return finished, err
	}
	close(open)
	defer conn.Close()
	p.admitted(conn)
	pl, err := p.list(ctx, conn, known, pending)
	if err != nil {
		return finished, err
	}
	if !sure && len(pl.fetch) > 0 {
		defer p.greet(ctx, open)()
	}
	p.unsure = len(pending) // what is not known yet counts as failed if the pass ends here
	// From here on the end of ctx stops new work only: what is in hand is
	// finished under a deadline of its own.
	dctx, cancel := drain(ctx)
	defer cancel()
	if err := p.hold(dctx, pl.poison); err != nil {
		return finished, err
	}
	if err := p.unstash(dctx, known, pending, pl); err != nil {
		return finished, err
	}
	before := p.fetched.Load()
	conn.Ceiling = p.account.Limits.MaxSize // what LIST says is only a claim
	lost := p.fetch(ctx, dctx, conn, pl.fetch)
	conn.Ceiling = 0
	if p.dead() == nil && lost == nil {
		lost = p.remove(ctx, dctx, conn, pl)
	}
	switch {
	case p.dead() != nil:
		return finished, p.dead()
	case lost != nil:
		return resume, lost
	case p.unsure > len(pending), p.again > 0:
		return resume, nil
	case p.rest && p.oneSession():
		p.rest = false
		return more, nil
	case p.account.Consumes && p.fetched.Load() > before && !pl.rest:
		if p.rest = !p.within(); !p.rest {
			return more, nil // it may have more to show
		}
	}
	return finished, p.calm(dctx, pl)
}

// inUsePauses are how long a pass waits for a maildrop that somebody else reads
// before it tries again: a telephone that looks for mail is soon done.
var inUsePauses = []time.Duration{2 * time.Second, 5 * time.Second}

// dial connects to the maildrop and logs in.
func (p *pass) dial(ctx context.Context) (*maildrop.Conn, error) {
	pauses := inUsePauses
	if p.f.inUse != nil {
		pauses = p.f.inUse
	}
	for i := 0; ; i++ {
		conn, err := maildrop.Dial(ctx, &p.account.Maildrop, p.log)
		var me *maildrop.Error
		if i == len(pauses) || !errors.As(err, &me) || me.Code != maildrop.InUse {
			return conn, err
		}
		p.log.Info("somebody else is reading the maildrop, waiting for the end of it", "err", err)
		timer := time.NewTimer(pauses[i])
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// admitted notes what the server wants of those who logged in.
func (p *pass) admitted(conn *maildrop.Conn) {
	caps := conn.Caps()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.LoggedIn = p.f.now()
	p.report.LoginDelay, p.report.Expires, p.report.ExpireDays = caps.LoginDelay, caps.Expires, caps.Expire
	p.report.CertEnds = conn.CertificateEnds()
}

// remember loads what is known of the account and resolves what earlier
// sessions left open. pending are the messages for which that failed.
func (p *pass) remember(ctx context.Context) (known *state.Known, pending map[int64]bool, err error) {
	account, err := p.f.State.Account(ctx, p.source)
	if err != nil || account.ID == 0 {
		return &state.Known{Account: account}, nil, err
	}
	resolved, pending, err := p.recover(ctx, account.ID)
	if err == nil && !resolved && len(pending) == 0 && p.quiet(account) {
		return &state.Known{Account: account}, nil, nil // list loads the messages if need be
	}
	if err == nil {
		known, err = p.f.State.Known(ctx, p.source)
	}
	return known, pending, err
}

// work reports whether there is likely something to deliver, before the listing
// is seen: nothing is known yet, or the first pass was cut short.
func work(known *state.Known) bool {
	return known.Account.ID == 0 || !known.Account.FirstPassDone && slices.ContainsFunc(known.Messages, func(m *state.Message) bool {
		return (m.Status == state.StatusNew || m.Status == state.StatusRouted) && m.AbsentSince.IsZero()
	})
}

// greet connects to the targets while the maildrop is being read: logging in is
// five round trips to each. Where every message goes to one folder and is to be
// compared with what lies there, that is listed, too. What goes wrong here is
// told by the first delivery.
// The function returned must be called; it ends what has not ended by then.
func (p *pass) greet(ctx context.Context, open <-chan struct{}) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for name, s := range p.sinks {
		if s.relay != nil {
			s.relay.Greet()
		}
		if s.finder == nil {
			continue
		}
		lists := s.comparer != nil && p.compares(name) && len(p.job.Rules.Names()) == 0
		wg.Go(func() {
			mark, err := s.finder.Mark(ctx, "")
			if err != nil || !lists {
				return
			}
			select {
			case <-open:
				p.survey(ctx, s, mark)
			case <-ctx.Done(): // a wrong password must not have a big folder read each time
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// put commits changes. A failure of the store ends the pass: nothing may be
// promised any more.
func (p *pass) put(ctx context.Context, ch ...state.Change) error {
	beforePut(ch)
	err := p.f.State.Put(ctx, ch...)
	afterPut(ch)
	if err != nil && ctx.Err() == nil && !taken(ch, err) {
		p.mu.Lock()
		if p.fatal == nil {
			p.fatal = err
		}
		p.mu.Unlock()
	}
	return err
}

// taken reports whether err says no more than that a copy which was there before
// belongs to another delivery.
func taken(ch []state.Change, err error) bool {
	d, ok := ch[len(ch)-1].(state.Delivered)
	return ok && d.Existed && errors.Is(err, state.ErrConflict)
}

// dead returns why the store failed, nil if it works.
func (p *pass) dead() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fatal
}

func (p *pass) emit(e Event) {
	e.Job, e.Account, e.Pass = p.job.Name, p.account.Name, p.id
	p.f.event(e)
}

func (p *pass) warn(text string) {
	if text == "" {
		return
	}
	p.mu.Lock()
	p.report.Warnings = append(p.report.Warnings, text)
	p.mu.Unlock()
	p.log.Warn(text)
}

// drain returns a context that outlives ctx by drainTime.
func drain(ctx context.Context) (context.Context, context.CancelFunc) {
	d, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(drainTime, cancel)
	})
	return d, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel()
	}
}
