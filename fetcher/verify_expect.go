package fetcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
	"popferry/targets"
)

// unknown is an entry whose copies nobody has on record.
type unknown struct {
	entry   int32
	waiting bool   // it came after the last pass, or during one
	held    bool   // in the state
	reason  string // why it is nowhere
}

const (
	reasonNew  = "not delivered yet"
	reasonHeld = "held"
)

// lookup finds the entry of a UIDL. Of several entries with one UIDL the n-th is
// that of the n-th row.
type lookup struct {
	first map[string]int32
	next  []int32 // by entry: the next one of the same UIDL, -1 for none
}

func newLookup(entries []maildrop.Entry) *lookup {
	l := &lookup{first: make(map[string]int32, len(entries)), next: make([]int32, len(entries))}
	for i := int32(len(entries)) - 1; i >= 0; i-- {
		later, shared := l.first[entries[i].UIDL]
		if l.next[i] = -1; shared {
			l.next[i] = later
		}
		l.first[entries[i].UIDL] = i
	}
	return l
}

func (l *lookup) take(uidl string) (entry int32, ok bool) {
	entry, ok = l.first[uidl]
	if ok = ok && entry >= 0; ok {
		l.first[uidl] = l.next[entry]
	}
	return entry, ok
}

// remembered finds out from the state where copies should be.
func (v *verification) remembered(ctx context.Context) error {
	entries := v.src.entries
	v.rows, v.hashes = make([]int64, len(entries)), make([]targets.Hash, len(entries))
	v.refused, v.sizes = map[int32]error{}, map[int32]int64{}
	met := make([]bool, len(entries))
	here, there := 0, 0 // rows that were listed last time, and of these now
	if v.f.State != nil {
		var err error
		if v.account, err = v.f.State.Account(ctx, v.p.source); err != nil {
			return err
		}
		l := newLookup(entries)
		err = v.f.State.Records(ctx, v.account.ID, func(r state.Record) error {
			// What was deleted while this runs had been listed before.
			if !r.GoneAt.IsZero() && r.GoneAt.Before(v.start) {
				return nil
			}
			i, ok := l.take(r.UIDL)
			if r.AbsentSince.IsZero() && r.DelSentAt.IsZero() {
				here++
			}
			if !ok {
				return nil
			}
			there++
			if r.Size >= 0 && r.Size != entries[i].Size && r.Status != state.StatusNew {
				return nil // another message has its UIDL now
			}
			met[i] = true
			return v.expect(ctx, i, r)
		})
		if err != nil {
			return err
		}
	}
	// A server that names its messages anew has no new mail for that.
	renamed := here >= fewKnown && there*5 < here
	for i := range entries {
		if !met[i] {
			v.unknown = append(v.unknown, unknown{entry: int32(i), waiting: v.account.FirstPassDone && !renamed})
		}
	}
	slices.SortFunc(v.unknown, func(a, b unknown) int { return cmp.Compare(a.entry, b.entry) })
	return nil
}

// expect notes where the copies of a remembered message should be.
func (v *verification) expect(ctx context.Context, entry int32, r state.Record) error {
	u := unknown{entry: entry, reason: reasonNew, waiting: v.account.FirstPassDone && underWay(r)}
	switch {
	case r.Status == state.StatusHeld || r.Status == state.StatusQuarantined:
		u.reason, u.held = strings.TrimSuffix(reasonHeld+": "+r.Note, ": "), true
	case r.Status == state.StatusDropped:
		v.proof.Dropped++
		return nil
	case r.Status == state.StatusMarked && !slices.ContainsFunc(r.Deliveries, delivered):
		v.proof.Marked++
		return nil
	}
	if len(r.Deliveries) == 0 {
		v.unknown = append(v.unknown, u)
		return nil
	}
	v.rows[entry] = r.ID
	for _, d := range r.Deliveries {
		if r.Status == state.StatusMarked && !delivered(d) {
			continue // given up by hand
		}
		if err := v.recorded(ctx, u, r, d); err != nil {
			return err
		}
	}
	return nil
}

func delivered(d state.Delivery) bool { return d.Status == state.DeliveryDelivered }

// underWay reports whether a message is not delivered for no other reason than
// that nobody has come to it yet.
func underWay(r state.Record) bool {
	if r.Status != state.StatusNew && r.Status != state.StatusRouted || r.Fetches > 1 || !r.NextTry.IsZero() {
		return false
	}
	return !slices.ContainsFunc(r.Deliveries, func(d state.Delivery) bool { return d.Attempts > 1 || d.Class != "" })
}

// recorded notes one copy that is on record.
func (v *verification) recorded(ctx context.Context, u unknown, r state.Record, d state.Delivery) error {
	s := v.site(d.Target)
	if s == nil {
		if !v.told[d.Target] {
			v.told[d.Target] = true
			v.p.warn(fmt.Sprintf("messages were delivered to %q, which is no target any more; that is not looked at", d.Target))
		}
		return nil
	}
	w := want{entry: u.entry, site: s, size: v.src.entries[u.entry].Size}
	if r.Content != nil && r.CanonSize > 0 {
		w.size, w.key = r.CanonSize, v.key(r.MessageID)
	}
	if delivered(d) {
		w.validity, w.uid = d.UIDValidity, d.UID
	} else {
		why := u.reason
		if why == reasonNew {
			why = cmp.Or(d.Reply, why)
		}
		w.waiting, w.held, w.reason = u.waiting, u.held, v.reason(why)
	}
	var err error
	switch {
	case s.x == nil:
		if delivered(d) {
			s.taken[u.entry] = true
		} else {
			w.doubt, w.reason = Missing, v.reason(d.Rcpt+": "+v.texts[w.reason])
		}
	case d.Box != "":
		w.box = s.box(d.Box, d.Folder)
	default:
		w.box, err = s.folder(ctx, d.Folder)
	}
	v.wants = append(v.wants, w)
	return err
}

// route asks the rules where messages go of which nothing is on record.
func (v *verification) route(ctx context.Context) error {
	var list, bodies []int32
	by := map[int32]unknown{}
	for _, u := range v.unknown {
		if max := v.p.account.Limits.MaxSize; max > 0 && v.src.entries[u.entry].Size > max {
			v.proof.Skipped++
			continue
		}
		list = append(list, u.entry)
		by[u.entry] = u
	}
	v.unknown = nil
	err := v.src.headers(ctx, list, func(entry int32, head []byte, err error) error {
		if err != nil {
			return v.unseen(ctx, by[entry], err)
		}
		m := &rules.Message{Header: rules.ParseHeader(head)}
		more, err := v.decide(ctx, by[entry], m)
		if more {
			bodies = append(bodies, entry)
		}
		return err
	})
	if err != nil || len(bodies) == 0 {
		return err
	}
	return v.src.specimens(ctx, bodies, func(entry int32, m *rules.Message, err error) error {
		if err != nil {
			return v.unseen(ctx, by[entry], err)
		}
		if m.Body == nil {
			m.Body = func() []byte { return nil }
		}
		_, err = v.decide(ctx, by[entry], m)
		return err
	})
}

// decide asks the rules about a message; more says that they want to see its body.
func (v *verification) decide(ctx context.Context, u unknown, m *rules.Message) (more bool, err error) {
	d := rules.Decision{}
	if v.p.job.Rules == nil {
		d = v.p.job.Rules.Decide(nil)
	} else {
		m.Account, m.Size, m.Now = v.p.account.Name, v.src.entries[u.entry].Size, v.f.now()
		d = v.p.job.Rules.Decide(m)
	}
	switch d.Action {
	case rules.NeedBody:
		return true, nil
	case rules.Drop:
		v.proof.Dropped++
		return false, nil
	case rules.Skip:
		v.proof.Skipped++
		return false, nil
	}
	key := v.key(m.Header.MessageID())
	for _, to := range d.For(v.p.job.Targets) {
		if err := v.routed(ctx, u, to.Target, to.Dest.Folder, key); err != nil {
			return false, err
		}
	}
	return false, nil
}

// unseen is a message that the server does not show, so that the rules cannot be
// asked.
func (v *verification) unseen(ctx context.Context, u unknown, err error) error {
	v.refused[u.entry] = err
	for _, name := range v.p.job.Targets {
		at := len(v.wants)
		if err := v.routed(ctx, u, name, "", 0); err != nil {
			return err
		}
		if len(v.wants) > at {
			w := &v.wants[at]
			w.doubt, w.waiting, w.reason = Unreadable, false, v.reason(err.Error())
		}
	}
	return nil
}

// routed notes one copy that should be where the rules say, once for each folder.
func (v *verification) routed(ctx context.Context, u unknown, target, folder string, key uint64) error {
	s := v.site(target)
	if s == nil {
		return nil
	}
	w := want{entry: u.entry, site: s, size: v.src.entries[u.entry].Size, key: key, waiting: u.waiting, held: u.held, reason: v.reason(u.reason)}
	if s.x == nil && v.account.ID != 0 {
		w.doubt = Missing // had it been sent, the state would say so
	}
	var err error
	if w.box, err = s.folder(ctx, folder); err != nil {
		return err
	}
	for i := len(v.wants) - 1; i >= 0 && v.wants[i].entry == u.entry; i-- {
		if v.wants[i].site == s && v.wants[i].box == w.box {
			return nil
		}
	}
	v.wants = append(v.wants, w)
	return nil
}
