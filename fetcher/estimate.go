package fetcher

import (
	"context"
	"hash/maphash"
	"io"
	"slices"
	"sync"
	"time"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// Estimate is what there is to do to have all of an account at its targets.
type Estimate struct {
	Messages  int // on the maildrop
	Octets    int64
	New       int // to fetch: what no pass has brought to its targets yet
	NewOctets int64
	Moved     int // at their targets, as the state says
	Held      int // held, so not fetched for now
	Left      int // left on the maildrop: by FirstRun, by max_size, or remembered as fetched before
	Expired   int // at their targets, and keep lets them be deleted now

	Looked int // of New, messages whose headers were compared with the targets
	There  int // of Looked, messages that a target has by their Message-ID
	// Holds is what lies in the folders that the new messages go to.
	Holds    []Holding
	Warnings []string
}

// Holding is what lies in a folder of a target.
type Holding struct {
	Target, Folder string // Folder as the server calls it; "" if it is not there yet
	Messages       int
}

// Estimate finds out what a migration of a would have to do, and changes nothing
// anywhere. The state may be a read-only one, or nil. Headers are only read where
// a target has messages that may be the same, and for at most looking, so that
// nobody waits for a plan: Looked says how far it came.
//
// An error is one of the maildrop, or a *TargetError.
func (f *Fetcher) Estimate(ctx context.Context, j *Job, a *Account, looking time.Duration) (Estimate, error) {
	p, err := f.newPass(j, a)
	if err != nil {
		return Estimate{}, err
	}
	e := &estimation{p: p, seed: maphash.MakeSeed(), boxes: map[place]holding{}, named: map[place]holding{}}
	err = e.run(ctx, looking)
	e.Warnings = append(e.Warnings, p.report.Warnings...)
	return e.Estimate, err
}

// estimation is one run of Estimate.
type estimation struct {
	Estimate
	p     *pass
	seed  maphash.Seed
	boxes map[place]holding // by target, and the folder as rules name it
	named map[place]holding // by target, and the folder as the server names it
}

// holding is the Message-IDs in a folder, each as often as it is there.
type holding map[uint64]int

func (e *estimation) run(ctx context.Context, looking time.Duration) error {
	q := &question{keep: e.p.account.Keep, limits: Limits{MaxSize: e.p.account.Limits.MaxSize}, now: e.p.f.now(), consumes: e.p.account.Consumes, eager: true}
	if e.p.f.State != nil {
		known, err := e.p.f.State.Known(ctx, e.p.source)
		if err != nil {
			return err
		}
		q.known, e.p.known = known.Messages, known.Account
	}
	// The folder is listed while the maildrop is: both take round trips.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var folders error
	var wg sync.WaitGroup
	wg.Go(func() { folders = e.own(ctx) })
	conn, err := e.p.dial(ctx)
	if err != nil {
		cancel()
		wg.Wait()
		return err
	}
	defer conn.Close()
	pl, err := e.list(ctx, conn, q)
	if err != nil {
		cancel()
	}
	wg.Wait()
	if err != nil {
		return err
	}
	if folders != nil {
		return folders
	}
	if err := e.look(ctx, conn, pl.fetch, looking); err != nil {
		return err
	}
	_ = conn.Quit(ctx) // nothing depends on it
	return nil
}

// own looks into the folder of each target to which all goes that no rule sends
// elsewhere.
func (e *estimation) own(ctx context.Context) error {
	for _, name := range e.p.job.Targets {
		if _, err := e.box(ctx, name, ""); err != nil {
			return err
		}
	}
	return nil
}

// box returns what lies in a folder, nil where that cannot be asked.
func (e *estimation) box(ctx context.Context, target, folder string) (holding, error) {
	h, ok := e.boxes[place{target, folder}]
	if ok {
		return h, nil
	}
	x, ok := e.p.sinks[target].target.(targets.Examiner)
	if !ok {
		return nil, nil
	}
	name, err := x.Box(ctx, folder)
	if err != nil && targets.FaultOf(err) != targets.Refused { // no folder can have that name
		return nil, &TargetError{Target: target, Err: err}
	}
	if h = e.named[place{target, name}]; h == nil {
		if h, err = e.examine(ctx, x, target, name); err != nil {
			return nil, &TargetError{Target: target, Err: err}
		}
	}
	e.boxes[place{target, folder}] = h
	return h, nil
}

func (e *estimation) examine(ctx context.Context, x targets.Examiner, target, name string) (holding, error) {
	h := holding{}
	var copies []targets.Copy
	if name != "" {
		var err error
		if copies, _, err = x.Examine(ctx, name, e.key); err != nil {
			return nil, err
		}
		e.named[place{target, name}] = h
	}
	for _, c := range copies {
		if c.Key != 0 {
			h[c.Key]++
		}
	}
	e.Holds = append(e.Holds, Holding{Target: target, Folder: name, Messages: len(copies)})
	return h, nil
}

// key is what is kept of a Message-ID, 0 for none.
func (e *estimation) key(id string) uint64 {
	if id == "" {
		return 0
	}
	return maphash.String(e.seed, id) | 1
}

// list reads the listing and counts what is to be done with it.
func (e *estimation) list(ctx context.Context, conn *maildrop.Conn, q *question) (*plan, error) {
	listing, err := conn.List(ctx)
	if err == nil {
		err = e.p.name(ctx, conn, &listing)
	}
	if err == nil && e.p.known.ID == 0 {
		q.old, err = e.p.oldOnes(ctx, conn, listing)
	}
	if err != nil {
		return nil, err
	}
	q.listing = listing
	pl := planFor(q)
	for _, w := range append(listing.Warnings, pl.warnings...) {
		e.p.warn(w)
	}
	e.Messages, e.Octets = listing.Messages, listing.Octets
	e.New, e.NewOctets = len(pl.fetch), pl.octets
	e.Held, e.Expired = pl.held+len(pl.poison), len(pl.expired)
	e.Left = len(pl.skipped)
	for _, it := range pl.fresh {
		if it.msg.Status == state.StatusMarked {
			e.Left++
		}
	}
	e.count(listing.Entries, q.known)
	return pl, nil
}

// count tells of the messages that are remembered and there which have arrived.
func (e *estimation) count(entries []maildrop.Entry, known []*state.Message) {
	l := newLookup(entries)
	for _, m := range known {
		if _, ok := l.take(m.UIDL); !ok {
			continue
		}
		switch m.Status {
		case state.StatusSafe:
			e.Moved++
		case state.StatusMarked, state.StatusDropped:
			e.Left++
		}
	}
}

// look compares the headers of what is to be fetched with what the targets have,
// as far as it comes in the time it has.
func (e *estimation) look(ctx context.Context, conn *maildrop.Conn, items []item, within time.Duration) error {
	if !e.worth(conn) {
		return nil
	}
	until := time.Now().Add(within)
	next := 0
	for inc := range conn.Top(ctx, slices.Values(entries(items))) {
		it := items[next]
		next++
		if inc.Err == nil {
			var head []byte
			if head, inc.Err = io.ReadAll(io.LimitReader(inc.Body, headerMax)); inc.Err == nil {
				there, err := e.there(ctx, it, head)
				if err != nil {
					return err
				}
				e.Looked++
				if there {
					e.There++
				}
			}
		}
		if !maildrop.Usable(inc.Err) {
			return inc.Err
		}
		if time.Now().After(until) {
			break
		}
	}
	return ctx.Err()
}

// worth reports whether any of the new messages may be at a target.
func (e *estimation) worth(conn *maildrop.Conn) bool {
	if e.New == 0 || !conn.Caps().TOP {
		return false
	}
	compared := slices.ContainsFunc(e.p.job.Targets, e.p.compares)
	filled := slices.ContainsFunc(e.Holds, func(h Holding) bool { return h.Messages > 0 })
	return compared && (filled || len(e.p.job.Rules.Names()) > 0)
}

// there reports whether every folder that a message goes to has one with its
// Message-ID that no other message was found in.
func (e *estimation) there(ctx context.Context, it item, head []byte) (bool, error) {
	l := &letter{item: it}
	l.header.Parse(head)
	e.p.route(l, it.Size, nil)
	key := e.key(l.header.MessageID())
	if l.action != rules.Deliver || key == 0 || len(l.parts) == 0 {
		return false, nil
	}
	at := make([]holding, 0, len(l.parts))
	for _, part := range l.parts {
		h, err := e.box(ctx, part.Target, part.Folder)
		if err != nil || h[key] == 0 {
			return false, err
		}
		at = append(at, h)
	}
	for _, h := range at {
		h[key]--
	}
	return true, nil
}
