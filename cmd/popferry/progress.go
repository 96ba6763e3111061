package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/fetcher/state"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// amount is messages and octets.
type amount struct {
	messages int
	octets   int64
}

func (a amount) plus(b amount) amount {
	return amount{a.messages + b.messages, a.octets + b.octets}
}

// minus is what is left of a without b, never less than nothing: LIST lies.
func (a amount) minus(b amount) amount {
	return amount{max(0, a.messages-b.messages), max(0, a.octets-b.octets)}
}

// progress adds up how far a command is: all its accounts together, and all
// passes over them. It is safe for concurrent use.
type progress struct {
	config *config.Config
	seed   maphash.Seed

	all    int               // accounts that a migration moves; 0 for others, which are named by their jobs
	expect map[string]amount // by account: what a plan has found to do

	mu       sync.Mutex
	jobs     map[string]bool
	accounts map[string]*headway
	pace     pace
	budgets  []*budget
}

// headway is how far one account is.
type headway struct {
	job, pass string
	doing     doing
	since     time.Time // it has been doing that
	until     time.Time // of waiting
	why       string    // of waiting

	of, done  amount // done are also those that were tried and failed
	duplicate int

	// seen is the messages of this pass that are counted, by a hash of their
	// UIDLs: one may have several copies, and so several events. Of 100,000 two
	// have the same hash, and count as one, in one of three billion runs.
	seen     map[uint64]struct{}
	setbacks map[uint64]setback
}

// doing is what a pass is at.
type doing int

const (
	listing doing = iota // connecting, logging in, listing
	moving
	comparing
	waiting // for the next pass
	ended
)

// setback is a message that was not delivered when it was last tried.
type setback struct {
	octets  int64
	pass    string
	held    bool
	counted bool // among the done ones
}

// newProgress returns a progress of nothing yet. before is what went to targets
// in the time of their rates.
func newProgress(c *config.Config, before map[string][]state.Sent) *progress {
	p := &progress{config: c, seed: maphash.MakeSeed(), jobs: map[string]bool{}, accounts: map[string]*headway{}}
	for target, rates := range c.Rates() {
		for _, r := range rates {
			p.budgets = append(p.budgets, &budget{target: target, rate: r})
		}
		for _, s := range before[target] {
			p.sent(target, s.At, amount{int(s.Messages), s.Octets})
		}
	}
	return p
}

// sentBefore is what went to targets with rates before now, as far as it matters
// to these. names are the targets that the state knows, or none for all.
func sentBefore(ctx context.Context, c *config.Config, s *state.Store, now time.Time, names ...string) (map[string][]state.Sent, error) {
	before := map[string][]state.Sent{}
	if len(names) == 0 {
		names = sorted(c.Targets)
	}
	for _, target := range names {
		rates := c.Targets[target].Rates
		memory := targets.NewLimiter(rates, nil).Memory()
		if s == nil || memory == 0 {
			continue
		}
		sent, err := s.Sent(ctx, target, now.Add(-memory))
		if err != nil {
			return nil, err
		}
		before[target] = sent
	}
	return before, nil
}

// sent tells the rates of a target what goes there.
func (p *progress) sent(target string, at time.Time, a amount) {
	for _, b := range p.budgets {
		if b.target == target {
			b.add(at, a)
		}
	}
}

func (p *progress) event(e fetcher.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.accounts[e.Account]
	if h == nil {
		h = &headway{setbacks: map[uint64]setback{}}
		p.accounts[e.Account] = h
	}
	p.jobs[e.Job], h.job = true, e.Job
	before := h.done
	switch e.Kind {
	case fetcher.PassStart:
		h.begin(e)
	case fetcher.Listed:
		// Again after every lost connection, and in every pass: what is new then
		// is what is left.
		h.of = h.done.plus(amount{e.Total.New, e.Total.NewBytes})
		if !slices.ContainsFunc(p.underWay(), func(name string) bool { return p.accounts[name].doing == moving }) {
			p.pace = pace{began: e.Time}
		}
		h.turn(moving, e.Time)
	case fetcher.Comparing:
		h.turn(comparing, e.Time)
	case fetcher.Waiting:
		h.turn(waiting, e.Time)
		h.until, h.why = e.Until, waitsFor(e)
	case fetcher.PassEnd, fetcher.Compared:
		h.turn(ended, e.Time)
		h.seen = nil
	case fetcher.Delivered:
		p.sent(e.Target, e.Time, amount{1, e.Octets})
		h.settle(e, maphash.String(p.seed, e.UIDL))
	case fetcher.Duplicate, fetcher.Dropped, fetcher.Failed, fetcher.Held:
		h.settle(e, maphash.String(p.seed, e.UIDL))
	}
	if more := h.done.minus(before); more.messages > 0 {
		p.pace.add(e.Time, more.octets)
	}
}

func (h *headway) turn(to doing, at time.Time) {
	if h.doing != to {
		h.doing, h.since = to, at
	}
}

// begin begins a pass. What failed in the last one is tried again, and listed
// again.
func (h *headway) begin(e fetcher.Event) {
	h.doing, h.since = listing, e.Time
	h.pass, h.seen = e.Pass, map[uint64]struct{}{}
	for key, s := range h.setbacks {
		if s.counted && !s.held {
			h.done = h.done.minus(amount{1, s.octets})
			s.counted = false
			h.setbacks[key] = s
		}
	}
}

// settle counts a message, once in a pass.
func (h *headway) settle(e fetcher.Event, key uint64) {
	if h.seen == nil {
		h.seen = map[uint64]struct{}{}
	}
	if s, ok := h.setbacks[key]; ok && s.pass != e.Pass {
		if s.counted { // held, and now tried after all
			h.of, h.done = h.of.minus(amount{1, s.octets}), h.done.minus(amount{1, s.octets})
		}
		delete(h.setbacks, key)
	}
	if _, again := h.seen[key]; !again {
		h.seen[key] = struct{}{}
		h.done = h.done.plus(amount{1, e.Octets})
		if e.Kind == fetcher.Duplicate {
			h.duplicate++
		}
	}
	if held := e.Kind == fetcher.Held; held || e.Kind == fetcher.Failed {
		h.setbacks[key] = setback{octets: e.Octets, pass: e.Pass, held: held, counted: true}
	}
}

// figures are what there is to say about a progress at one time.
type figures struct {
	name     string // of the job, or how many jobs
	account  string // if there is one only
	done, of amount // of is what LIST said, and never less than done
	rate     int64  // octets a second, lately
	left     time.Duration
	known    bool // left is

	duplicate, held, failed int

	underWay []standing // by account
	listing  time.Time  // since when, if nothing else is done; else zero
	compares bool       // nothing else is done
	until    time.Time  // if everything waits; else zero
	why      string
}

// standing is how one account stands that is under way.
type standing struct {
	account string
	*headway
}

// underWay are the names of the accounts that are.
func (p *progress) underWay() []string {
	return slices.DeleteFunc(sorted(p.accounts), func(name string) bool { return p.accounts[name].doing == ended })
}

// figures returns how far it is now.
func (p *progress) figures(now time.Time) figures {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := figures{name: strings.Join(sorted(p.jobs), ""), rate: int64(p.pace.rate(now))}
	if len(p.jobs) > 1 {
		f.name = count(len(p.jobs), "job")
	}
	if p.all > 0 {
		f.name = p.moved()
	}
	f.name = endpoint.Printable(f.name, 200)
	if len(p.accounts) == 1 {
		f.account = sorted(p.accounts)[0]
	}
	toDo := map[string]amount{} // by target
	for _, h := range p.accounts {
		f.done, f.of = f.done.plus(h.done), f.of.plus(h.total())
		f.duplicate += h.duplicate
		for _, s := range h.setbacks {
			if s.held {
				f.held++
			} else {
				f.failed++
			}
		}
		if job := jobOf(p.config, h.job); job != nil {
			for _, t := range job.Targets {
				toDo[t] = toDo[t].plus(h.total().minus(h.done))
			}
		}
	}
	for name, more := range p.expect {
		if p.accounts[name] == nil { // its turn has not come
			f.of = f.of.plus(more)
		}
	}
	var rations []ration
	for _, b := range p.budgets {
		rations = append(rations, ration{rate: b.rate, spent: b.spent(now), left: toDo[b.target]})
	}
	f.left, f.known = timeLeft(f.of.minus(f.done), float64(f.rate), rations)
	f.stand(p)
	return f
}

// moved is what a migration is called: its account, or how many of them have come
// to their end.
func (p *progress) moved() string {
	if p.all == 1 {
		return strings.Join(sorted(p.accounts), "")
	}
	return fmt.Sprintf("%d/%d accounts", len(p.accounts)-len(p.underWay()), p.all)
}

// total is all there is to do. Messages that are larger than LIST said, or that
// an earlier pass had in hand, do not make it less than what is done.
func (h *headway) total() amount {
	return amount{max(h.of.messages, h.done.messages), max(h.of.octets, h.done.octets)}
}

// stand notes what the accounts under way do, and what they do all together.
func (f *figures) stand(p *progress) {
	waits, lists := true, true
	f.compares = len(p.underWay()) > 0
	for _, name := range p.underWay() {
		h := *p.accounts[name]
		h.seen, h.setbacks = nil, nil // which change
		f.underWay = append(f.underWay, standing{name, &h})
		f.compares = f.compares && h.doing == comparing
		waits, lists = waits && h.doing == waiting, lists && h.doing == listing
		if h.doing == waiting && (f.until.IsZero() || h.until.Before(f.until)) {
			f.until, f.why = h.until, h.why
		}
		if h.doing == listing && (f.listing.IsZero() || h.since.Before(f.listing)) {
			f.listing = h.since
		}
	}
	if !waits {
		f.until, f.why = time.Time{}, ""
	}
	if !lists {
		f.listing = time.Time{}
	}
}

// budget is a rate of a target, and what has gone there lately.
type budget struct {
	target string
	rate   targets.Rate
	slots  []moment
}

// moment is what went on in a short time.
type moment struct {
	at time.Time
	amount
}

// add keeps about fifty numbers for a rate, whatever goes there.
func (b *budget) add(at time.Time, a amount) {
	at = at.Truncate(b.rate.Per / 48)
	if n := len(b.slots); n > 0 && !b.slots[n-1].at.Before(at) {
		b.slots[n-1].amount = b.slots[n-1].plus(a)
		return
	}
	b.slots = append(slices.DeleteFunc(b.slots, func(m moment) bool { return at.Sub(m.at) > b.rate.Per }), moment{at, a})
}

// spent is how much the rate has been used up.
func (b *budget) spent(now time.Time) (all amount) {
	for _, m := range b.slots {
		if now.Sub(m.at) < b.rate.Per {
			all = all.plus(m.amount)
		}
	}
	return all
}
