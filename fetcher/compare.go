package fetcher

import (
	"context"
	"sync"

	"popferry/fetcher/state"
	"popferry/targets"
)

// Dedupe says when a target is asked whether it has a message already.
type Dedupe int

const (
	// Recover: after an interruption, and until the first pass over an account
	// is done, because then nothing is known: it may be the first at all, or the
	// state was lost.
	Recover Dedupe = iota
	// Compare: always.
	Compare
	// Off: never. Interrupted deliveries are sent again.
	Off
)

// shelf is what lay in one folder before anything was delivered to it. Passes
// that run at the same time share it: what came meanwhile is theirs and claimed,
// and twenty accounts that are new need not each read the whole folder.
type shelf struct {
	mu     sync.Mutex // held while the folder is read
	cat    targets.Catalog
	err    error // why that failed
	failed *pass // for whom, nil if for none: another pass tries again

	passes int // that may look at it; guarded by shared.mu
}

// shelfAt is where a shelf is. It has the target itself, not its name: after a
// reload that may stand for another server, and what an old pass has seen at the
// first one says nothing about the second.
type shelfAt struct {
	target targets.Target
	box    string
}

// contents returns what is on the shelf. Who comes first reads the folder with
// list, the others wait for that. A failure holds for the rest of the pass: a
// thousand messages would else try it one after the other.
func (sh *shelf) contents(p *pass, list func() (targets.Catalog, error)) (targets.Catalog, error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case sh.cat != nil:
		return sh.cat, nil
	case sh.err != nil && sh.failed == p:
		return nil, sh.err
	}
	cat, err := list()
	if err != nil {
		sh.err, sh.failed = err, p
		return nil, err
	}
	sh.cat = cat
	return cat, nil
}

// shelf returns the one of a box; release ends its use.
func (f *Fetcher) shelf(at shelfAt) *shelf {
	c := f.common()
	c.mu.Lock()
	defer c.mu.Unlock()
	sh := c.shelves[at]
	if sh == nil {
		sh = new(shelf)
		c.shelves[at] = sh
	}
	sh.passes++
	return sh
}

// release forgets a shelf when no pass uses it any more.
func (f *Fetcher) release(at shelfAt, sh *shelf) {
	c := f.common()
	c.mu.Lock()
	defer c.mu.Unlock()
	if sh.passes--; sh.passes == 0 && c.shelves[at] == sh {
		delete(c.shelves, at)
	}
}

// releaseShelves ends what this pass uses.
func (p *pass) releaseShelves() {
	for _, s := range p.sinks {
		for box, sh := range s.shelves {
			p.f.release(shelfAt{s.target, box}, sh)
		}
	}
}

// existing looks for a copy of the message that was there before this pass. It
// is called with the folder's gate held for reading, and before anything is
// delivered there.
func (p *pass) existing(ctx context.Context, s *sink, folder string, mark targets.Mark, m *state.Message) (targets.Found, error) {
	if s.comparer == nil || !p.compares(s.name) {
		return targets.Found{}, nil
	}
	cat, err := p.shelfOf(s, mark.Folder).contents(p, func() (targets.Catalog, error) {
		return p.catalog(ctx, s, folder, mark)
	})
	if err != nil {
		return targets.Found{}, err
	}
	return cat.Take(ctx, wanted(m))
}

// shelfOf returns the shelf of a box, which stays this pass's until
// releaseShelves.
func (p *pass) shelfOf(s *sink, box string) *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelves[box]
	if sh == nil {
		sh = p.f.shelf(shelfAt{s.target, box})
		s.shelves[box] = sh
	}
	return sh
}

// survey reads the target's own folder while the maildrop is being listed. Where
// every message goes there, and is to be compared with what is there, that is
// needed in any case, and is what takes longest. It is best effort: what fails
// here is tried again for the first message, and told then.
func (p *pass) survey(ctx context.Context, s *sink, mark targets.Mark) {
	gate := p.f.gate(s.name, mark.Folder)
	gate.RLock()
	defer gate.RUnlock()
	_, _ = p.shelfOf(s, mark.Folder).contents(nil, func() (targets.Catalog, error) {
		return p.catalog(ctx, s, "", mark)
	})
}

// compares reports whether messages for a target are looked up before they are
// delivered.
func (p *pass) compares(target string) bool {
	switch p.job.Dedupe[target] {
	case Compare:
		return true
	case Off:
		return false
	default:
		return !p.known.FirstPassDone
	}
}

// catalog lists a folder without what popferry has put there itself.
func (p *pass) catalog(ctx context.Context, s *sink, folder string, mark targets.Mark) (targets.Catalog, error) {
	claimed, err := p.f.State.Claimed(ctx, s.name, mark.Folder, mark.UIDValidity, 0)
	if err != nil {
		return nil, err
	}
	cat, err := s.comparer.Catalog(ctx, folder, mark, func(uid uint32) bool { return claimed[uid] })
	if err != nil {
		return nil, err
	}
	copies, err := p.f.State.Copies(ctx, s.name, mark.Folder)
	for _, k := range copies {
		if err != nil {
			break
		}
		if k.UIDValidity == mark.UIDValidity && k.UID != 0 {
			continue
		}
		// Ours, and there, but nobody said where.
		_, err = cat.Take(ctx, targets.Wanted{Hash: k.Hash, Size: k.CanonSize, MessageID: k.MessageID, Stable: k.Stable})
	}
	return cat, err
}
