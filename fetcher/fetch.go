package fetcher

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets/endpoint"
)

const (
	// workers is how many messages are in hand at once. They only wait: several
	// batches in flight over a slow line need as many messages.
	workers = 1024
	// window is how many attempts are counted in one transaction, and so how
	// many messages are suspects after a crash.
	window = 256
)

// fetch downloads items and delivers them, and returns when all of them have an
// outcome on disk. The error says why the maildrop's connection was lost; nil
// says it can go on. ctx stops new downloads, dctx ends what is under way.
func (p *pass) fetch(ctx, dctx context.Context, conn *maildrop.Conn, items []item) (lost error) {
	p.safe, p.again = nil, 0
	recorded, err := p.recorded(dctx, items)
	if err != nil {
		return err
	}
	for few := range p.screened(ctx, dctx, conn, p.byLacking(inTurn(items, recorded), recorded), &lost) {
		if lost != nil || ctx.Err() != nil {
			break
		}
		if p.nowhereToGo(p.lacking(recorded[few[0].msg.ID])) {
			continue
		}
		if lost = p.readyHeld(dctx, few[0]); lost == nil {
			lost = p.bring(ctx, dctx, conn, few, recorded)
		}
	}
	return lost
}

// company is how many messages are brought together that were in hand when
// something broke. Whatever broke it is one of them at most, so the next
// accident leaves few to be brought alone; and after a kill all of them are
// innocent, and should not cost a round trip each.
const company = 16

// inTurn divides items into those that are brought together: first all that
// nothing is known against, then those that were in hand once when something
// broke, a few at a time, and at last, each alone, those that were so again or
// are held. What is brought alone is blamed for its own faults only.
func inTurn(items []item, recorded map[int64][]state.Delivery) [][]item {
	var clear, few, alone []item
	for _, it := range items {
		losses := 0
		for _, d := range recorded[it.msg.ID] {
			if d.Status == state.DeliveryFailed && d.Class == classLost {
				losses = max(losses, d.Attempts)
			}
		}
		switch {
		case it.msg.Fetches >= fetchCharges-1, it.msg.Status == state.StatusQuarantined, losses > 1:
			alone = append(alone, it)
		case losses == 1:
			few = append(few, it)
		default:
			clear = append(clear, it)
		}
	}
	var out [][]item
	if len(clear) > 0 {
		out = append(out, clear)
	}
	return slices.AppendSeq(slices.AppendSeq(out, slices.Chunk(few, company)), slices.Chunk(alone, 1))
}

// readyHeld writes the next pause of a held message before it is tried again:
// if it crashes us it must not do so in every pass.
func (p *pass) readyHeld(ctx context.Context, it item) error {
	if it.msg.Status != state.StatusQuarantined {
		return nil
	}
	return p.put(ctx, p.quarantine(it.msg, it.msg.Note))
}

// hold sets messages aside whose reading has failed or crashed too often.
func (p *pass) hold(ctx context.Context, poison []item) error {
	for _, it := range poison {
		why := fmt.Sprintf("reading it was begun %d times and never ended", it.msg.Fetches)
		if err := p.put(ctx, p.quarantine(it.msg, why)); err != nil {
			return err
		}
		p.setback(it, Event{Kind: Held, UIDL: it.UIDL, Octets: it.Size, Err: errors.New(why)})
	}
	return nil
}

// bring downloads items, with many in flight, and delivers them.
func (p *pass) bring(ctx, dctx context.Context, conn *maildrop.Conn, items []item, recorded map[int64][]state.Delivery) (lost error) {
	if len(items) == 0 {
		return nil
	}
	out := p.post(dctx)
	defer out.wait() // where something panics in between
	next := 0
	asked := &asked{p: p, items: items, lacking: p.lacking(recorded[items[0].msg.ID])}
	var short *letter // fewer octets than LIST said: is what follows a reply?
	for inc := range conn.Retrieve(ctx, asked.entries(dctx)) {
		if short != nil && inc.Err != nil && !maildrop.Usable(inc.Err) {
			lost = inc.Err // blamed on the one before, not on this
			break
		}
		out.hand(short)
		short = nil
		it := items[next]
		next++
		var l *letter
		if l, lost = p.receive(dctx, it, inc, recorded[it.msg.ID]); lost != nil {
			break
		}
		if l != nil && l.body.octets < it.Size {
			short = l
			continue
		}
		out.hand(l)
	}
	if short != nil && lost == nil {
		lost = conn.Noop(dctx)
	}
	if maildrop.Usable(lost) {
		lost = nil
		out.hand(short)
	} else if short != nil {
		short.body.release()
		lost = p.outOfStep(dctx, short, lost)
	}
	out.wait()
	if asked.counted > next && p.dead() == nil {
		// Counted, but never begun: no attempt.
		_ = p.put(dctx, state.Unfetched{Messages: ids(items[next:asked.counted])})
	}
	return lost
}

// post delivers letters, many at a time.
type post struct {
	p       *pass
	ctx     context.Context
	wg      sync.WaitGroup
	letters chan *letter
	workers int
	crash   atomic.Pointer[Panic]
	ended   bool
}

func (p *pass) post(ctx context.Context) *post {
	return &post{p: p, ctx: ctx, letters: make(chan *letter)}
}

// hand takes a letter over, and with it its body. It waits while too many are
// in hand; nil is none.
func (o *post) hand(l *letter) {
	if l == nil {
		return
	}
	if o.workers < workers {
		select {
		case o.letters <- l:
			return
		default: // nobody is free
			o.workers++
			o.wg.Go(o.work)
		}
	}
	o.letters <- l
}

// work delivers letters until there are no more.
func (o *post) work() {
	for l := range o.letters {
		o.one(l)
	}
}

func (o *post) one(l *letter) {
	defer func() {
		if v := recover(); v != nil {
			o.crash.CompareAndSwap(nil, newPanic(v))
		}
	}()
	defer l.body.release()
	o.p.deliver(o.ctx, l)
}

// wait returns when all letters have an outcome. It must be called; again it does
// nothing. A panic of a worker goes on here, where whoever called Pass can catch
// it.
func (o *post) wait() {
	if o.ended {
		return
	}
	o.ended = true
	close(o.letters)
	o.wg.Wait()
	if c := o.crash.Load(); c != nil {
		panic(c)
	}
}

// Panic is a panic on its way from the goroutine where it happened: what Pass
// panics with.
type Panic struct {
	Value any
	Stack []byte
}

func newPanic(v any) *Panic {
	if p, ok := v.(*Panic); ok {
		return p
	}
	return &Panic{v, debug.Stack()}
}

func (p *Panic) Error() string { return fmt.Sprint(p.Value) }

// outOfStep gives up a message that ended early and was followed by what is no
// reply: a server that does not double the dots which begin a line sends its
// first part as all of it. That part must not be delivered, and the message not
// be deleted for it.
func (p *pass) outOfStep(ctx context.Context, l *letter, lost error) error {
	var me *maildrop.Error
	if !errors.As(lost, &me) || me.Kind != maildrop.Botched {
		return lost // the attempt stays counted, as of any that did not end
	}
	err := fmt.Errorf("LIST said %d octets, %d came and no end of it; the server may not double dots that begin a line: %w", l.Size, l.body.octets, lost)
	if perr := p.unread(ctx, l.item, err, true); perr != nil {
		return perr
	}
	return lost
}

// asked hands the messages to fetch to the connection, and counts the attempt
// of each on disk before it does.
type asked struct {
	p       *pass
	items   []item
	lacking []string // targets that lack them
	counted int      // items whose attempt is on disk
}

func (a *asked) entries(ctx context.Context) iter.Seq[maildrop.Entry] {
	return func(yield func(maildrop.Entry) bool) {
		for i, it := range a.items {
			if a.p.nowhereToGo(a.lacking) {
				return
			}
			if i == a.counted {
				n := min(window, len(a.items)-i)
				if a.p.put(ctx, state.Fetching{Messages: ids(a.items[i : i+n])}) != nil {
					return
				}
				a.counted += n
			}
			if !yield(it.Entry) {
				return
			}
		}
	}
}

// recorded returns the deliveries that earlier passes decided for items, and
// loads what they were decided for.
func (p *pass) recorded(ctx context.Context, items []item) (map[int64][]state.Delivery, error) {
	var routed []int64
	for _, it := range items {
		if it.msg.Status == state.StatusRouted || it.msg.Status == state.StatusQuarantined {
			routed = append(routed, it.msg.ID)
		}
	}
	if len(routed) == 0 {
		return nil, nil
	}
	ds, err := p.f.State.Deliveries(ctx, routed...)
	if err != nil {
		return nil, err
	}
	ms, err := p.f.State.Messages(ctx, routed...)
	content := make(map[int64]*state.Content, len(ms))
	for _, m := range ms {
		content[m.ID] = m.Content
	}
	for _, it := range items {
		it.msg.Content = content[it.msg.ID]
	}
	byMessage := make(map[int64][]state.Delivery)
	for _, d := range ds {
		byMessage[d.Message] = append(byMessage[d.Message], d)
	}
	return byMessage, err
}

// receive takes in one message. It returns nil, nil when there is nothing to
// deliver, and an error when the connection is of no more use.
func (p *pass) receive(ctx context.Context, it item, inc maildrop.Incoming, recorded []state.Delivery) (*letter, error) {
	if inc.Err != nil {
		return nil, p.notFetched(ctx, it, inc.Err)
	}
	l := &letter{item: it}
	err := p.f.bodies().fill(ctx, &l.body, inc.Body, it.Size)
	switch {
	case errors.Is(err, errSpoolFull) && p.account.Consumes:
		return nil, err // hang up before its end, or it is never shown again
	case errors.Is(err, errSpoolFull):
		// Other messages still fit. What is left of this one is drained by the
		// connection.
		_ = p.put(ctx, state.MessageFailed{Message: it.msg.ID, Class: "spool", Reply: err.Error(), Uncharge: true})
		p.setback(it, Event{Kind: Failed, UIDL: it.UIDL, Octets: it.Size, Err: err})
		return nil, nil
	case err != nil:
		return nil, p.notFetched(ctx, it, err)
	}
	if known, err := p.settled(ctx, it, &l.body, recorded); known || err != nil {
		l.body.release()
		return nil, err
	}
	p.fetched.Add(1)
	p.octets.Add(l.body.octets)
	p.mu.Lock()
	p.report.New++
	p.report.Bytes += l.body.octets
	p.mu.Unlock()
	p.stash(it, &l.body)
	p.open(l, recorded)
	step("K6")
	return p.opened(ctx, l), nil
}

// opened does what the rules want done without a delivery. It returns the
// letter if there is something to deliver.
func (p *pass) opened(ctx context.Context, l *letter) *letter {
	switch l.action {
	case rules.Skip:
		p.skipped(ctx, l)
	case rules.Drop:
		p.dropped(ctx, l)
	}
	if len(l.parts) == 0 {
		l.body.release()
		return nil
	}
	return l
}

// settled reports whether there is nothing to deliver of a message just read:
// it may not be the one that was asked for, or it is known under another UIDL.
func (p *pass) settled(ctx context.Context, it item, b *body, recorded []state.Delivery) (bool, error) {
	if len(recorded) > 0 && it.msg.Content != nil && !b.is(it.msg) {
		// Some of its copies may exist already: they are of another message.
		p.again++
		_, err := p.rebirth(ctx, []item{it})
		return true, err
	}
	again, suspect := p.honest(it, b.octets)
	if again {
		p.again++
		return true, p.put(ctx, state.Unfetched{Messages: []int64{it.msg.ID}})
	}
	if suspect {
		it.msg.Suspect = true
		why := fmt.Sprintf("LIST said %d octets, %d came", it.Size, b.octets)
		p.warn(fmt.Sprintf("message %s: %s; it is delivered, but never deleted", endpoint.Printable(it.UIDL, 80), why))
		return false, p.put(ctx, state.Suspect{Message: it.msg.ID, Note: why})
	}
	m, err := p.recognised(ctx, it, b.hash)
	if m == nil || err != nil {
		return false, err
	}
	p.mu.Lock()
	p.report.Duplicate++
	p.safe = append(p.safe, item{it.Entry, m})
	p.mu.Unlock()
	p.emit(Event{Kind: Duplicate, UIDL: it.UIDL, MessageID: m.MessageID, Octets: b.octets, Reason: "known under another UIDL"})
	return true, nil
}

// notFetched records that a message could not be read, and returns an error if
// the connection is of no more use.
func (p *pass) notFetched(ctx context.Context, it item, err error) error {
	var me *maildrop.Error
	if !errors.As(err, &me) || me.Kind == maildrop.Lost || me.Kind == maildrop.Botched {
		// The attempt stays counted: a message that breaks the connection every
		// time must not stop the others for ever.
		return err
	}
	if perr := p.unread(ctx, it, err, !maildrop.Temporary(err)); perr != nil {
		return perr
	}
	if !maildrop.Usable(err) {
		return err // it did not end
	}
	return nil
}

// unread records that a message could not be read, and why. One that was
// charged too often is held.
func (p *pass) unread(ctx context.Context, it item, err error, charge bool) error {
	e := Event{Kind: Failed, UIDL: it.UIDL, Octets: it.Size, Err: err}
	ch := []state.Change{state.MessageFailed{Message: it.msg.ID, Class: "fetch", Reply: err.Error(), Uncharge: !charge}}
	if charge && it.msg.Fetches+1 >= fetchCharges {
		ch = append(ch, p.quarantine(it.msg, err.Error()))
		e.Kind = Held
	}
	if perr := p.put(ctx, ch...); perr != nil {
		return perr
	}
	p.setback(it, e)
	return nil
}

// skipped leaves a message that a rule wants left alone.
func (p *pass) skipped(ctx context.Context, l *letter) {
	_ = p.put(ctx, state.Unfetched{Messages: []int64{l.msg.ID}})
	p.mu.Lock()
	p.report.Skipped++
	p.tried[l.msg.ID] = true
	p.mu.Unlock()
	e := l.event(Skipped)
	e.Reason = "rule " + l.rule
	p.emit(e)
}

// dropped remembers a message that a rule does not want.
func (p *pass) dropped(ctx context.Context, l *letter) {
	if p.put(ctx, state.Dropped{Message: l.msg, Rule: l.rule, At: p.f.now()}) != nil {
		return
	}
	p.unlinkStashed(l.msg)
	p.mu.Lock()
	p.report.Dropped++
	p.safe = append(p.safe, l.item)
	p.mu.Unlock()
	e := l.event(Dropped)
	e.Reason = "rule " + l.rule
	p.emit(e)
}

// setback counts a message that was not delivered and is not tried again in
// this pass. e says whether it is Failed, so the next pass tries, or Held.
func (p *pass) setback(it item, e Event) {
	p.mu.Lock()
	if e.Kind == Held {
		p.report.Held++
	} else {
		p.report.Failed++
	}
	p.tried[it.msg.ID] = true
	p.mu.Unlock()
	p.emit(e)
}

func entries(items []item) []maildrop.Entry {
	out := make([]maildrop.Entry, len(items))
	for i, it := range items {
		out[i] = it.Entry
	}
	return out
}

func ids(items []item) []int64 {
	out := make([]int64, len(items))
	for i, it := range items {
		out[i] = it.msg.ID
	}
	return out
}
