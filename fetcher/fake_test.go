package fetcher

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"popferry/targets"
)

// store is a target in memory that can be searched, as an IMAP server can.
type store struct {
	mu       sync.Mutex
	folders  map[string][]copied
	next     map[string]uint32
	marks    int
	catalogs int
	// fault, if set, is asked before a message is stored. lost says that the
	// message was stored although err is returned.
	fault   func(m *targets.Message, to targets.Dest) (err error, lost bool)
	refuses map[string]bool // folders that cannot be made
	away    error           // why nobody can log in
	noUIDs  bool            // no UIDPLUS: no UID is told, marks do not move
	// before is called with nothing held when a delivery comes in.
	before func(m *targets.Message)
	// unlisted, if set, is asked before the nth Catalog, with mu held.
	unlisted func(n int) error
}

type copied struct {
	uid   uint32
	raw   []byte
	flags []string
}

func newStore() *store {
	return &store{folders: map[string][]copied{}, next: map[string]uint32{}}
}

func (s *store) name(folder string) string {
	if folder == "" {
		return "INBOX"
	}
	return folder
}

func (s *store) Mark(_ context.Context, folder string) (targets.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks++
	if s.away != nil {
		return targets.Mark{}, s.away
	}
	folder = s.name(folder)
	if s.refuses[folder] {
		return targets.Mark{}, &targets.Error{Fault: targets.Refused, Op: fmt.Sprintf("CREATE %q", folder), Reply: "NO [CANNOT] Invalid mailbox name"}
	}
	m := targets.Mark{Folder: folder, UIDValidity: 7, UIDNext: s.next[folder] + 1}
	if s.noUIDs {
		m.UIDNext = 1
	}
	return m, nil
}

func (s *store) Deliver(ctx context.Context, m *targets.Message, to targets.Dest) (targets.Receipt, error) {
	if s.before != nil {
		s.before(m)
	}
	if err := ctx.Err(); err != nil {
		return targets.Receipt{}, err
	}
	raw, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Size))
	if err != nil {
		return targets.Receipt{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		if err, lost := s.fault(m, to); err != nil {
			if lost {
				s.add(to, raw)
			}
			return targets.Receipt{}, err
		}
	}
	rc := targets.Receipt{Folder: s.name(to.Folder), UIDValidity: 7, UID: s.add(to, raw), Reply: "OK"}
	if s.noUIDs {
		rc.UIDValidity, rc.UID = 0, 0
	}
	return rc, nil
}

func (s *store) add(to targets.Dest, raw []byte) uint32 {
	folder := s.name(to.Folder)
	s.next[folder]++
	s.folders[folder] = append(s.folders[folder], copied{s.next[folder], raw, to.Flags})
	return s.next[folder]
}

func (s *store) Find(_ context.Context, folder string, since targets.Mark, want []targets.Wanted, claimed func(uint32) bool) ([]targets.Found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[uint32]bool{}
	found := make([]targets.Found, len(want))
	for i, w := range want {
		for _, c := range s.folders[s.name(folder)] {
			h, _, _ := targets.CanonOf(bytes.NewReader(c.raw))
			if c.uid < since.UIDNext || used[c.uid] || claimed(c.uid) || h != w.Hash {
				continue
			}
			used[c.uid] = true
			found[i] = targets.Found{OK: true, UIDValidity: 7, UID: c.uid, Exact: true}
			break
		}
	}
	return found, nil
}

// Catalog is what lies below a mark, as Find would see it.
func (s *store) Catalog(_ context.Context, folder string, below targets.Mark, claimed func(uint32) bool) (targets.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &catalog{}
	s.catalogs++
	if s.unlisted != nil {
		if err := s.unlisted(s.catalogs); err != nil {
			return nil, err
		}
	}
	for _, c := range s.folders[s.name(folder)] {
		if (c.uid < below.UIDNext || s.noUIDs) && !claimed(c.uid) {
			k.copies = append(k.copies, c)
		}
	}
	return k, nil
}

type catalog struct {
	mu     sync.Mutex
	copies []copied
}

func (k *catalog) Take(_ context.Context, w targets.Wanted) (targets.Found, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, c := range k.copies {
		if h, _, _ := targets.CanonOf(bytes.NewReader(c.raw)); h == w.Hash {
			k.copies = append(k.copies[:i:i], k.copies[i+1:]...)
			return targets.Found{OK: true, UIDValidity: 7, UID: c.uid, Exact: true}, nil
		}
	}
	return targets.Found{}, nil
}

func (s *store) Check(context.Context) ([]targets.Finding, error) { return nil, nil }
func (s *store) Close() error                                     { return nil }

// hashes counts the copies of every message in all folders.
func (s *store) hashes() map[targets.Hash]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[targets.Hash]int{}
	for _, cs := range s.folders {
		for _, c := range cs {
			h, _, _ := targets.CanonOf(bytes.NewReader(c.raw))
			out[h]++
		}
	}
	return out
}

func (s *store) count(folder string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.folders[folder])
}
