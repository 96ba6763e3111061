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
	once sync.Once
	cat  targets.Catalog
	err  error

	passes int // that may look at it; guarded by Fetcher.mu
}

// shelf returns the one of a box; release ends its use.
func (f *Fetcher) shelf(at place) *shelf {
	f.mu.Lock()
	defer f.mu.Unlock()
	sh := f.shelves[at]
	if sh == nil {
		if f.shelves == nil {
			f.shelves = map[place]*shelf{}
		}
		sh = new(shelf)
		f.shelves[at] = sh
	}
	sh.passes++
	return sh
}

// release forgets a shelf when no pass uses it any more.
func (f *Fetcher) release(at place, sh *shelf) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sh.passes--; sh.passes == 0 && f.shelves[at] == sh {
		delete(f.shelves, at)
	}
}

// releaseShelves ends what this pass uses.
func (p *pass) releaseShelves() {
	for _, s := range p.sinks {
		for box, sh := range s.shelves {
			p.f.release(place{s.name, box}, sh)
		}
	}
}

// existing looks for a copy of the message that was there before this pass. It
// is called with the folder's gate held for reading, and before anything is
// delivered there: the first caller lists the folder, the others wait for it.
func (p *pass) existing(ctx context.Context, s *sink, folder string, mark targets.Mark, m *state.Message) (targets.Found, error) {
	comparer, ok := s.target.(targets.Comparer)
	if !ok || !p.compares(s.name) {
		return targets.Found{}, nil
	}
	s.mu.Lock()
	sh := s.shelves[mark.Folder]
	if sh == nil {
		sh = p.f.shelf(place{s.name, mark.Folder})
		s.shelves[mark.Folder] = sh
	}
	s.mu.Unlock()
	sh.once.Do(func() { sh.cat, sh.err = p.catalog(ctx, s.name, comparer, folder, mark) })
	if sh.err != nil {
		return targets.Found{}, sh.err
	}
	return sh.cat.Take(ctx, wanted(m))
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
func (p *pass) catalog(ctx context.Context, target string, c targets.Comparer, folder string, mark targets.Mark) (targets.Catalog, error) {
	claimed, err := p.f.State.Claimed(ctx, target, mark.Folder, mark.UIDValidity, 0)
	if err != nil {
		return nil, err
	}
	cat, err := c.Catalog(ctx, folder, mark, func(uid uint32) bool { return claimed[uid] })
	if err != nil {
		return nil, err
	}
	copies, err := p.f.State.Copies(ctx, target, mark.Folder)
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
