package fetcher

import (
	"bytes"
	"context"
	"slices"

	"popferry/rules"
	"popferry/targets"
)

// What an Examiner has, in memory.

func (s *store) Box(_ context.Context, folder string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.folders[s.name(folder)]; !ok {
		return "", nil
	}
	return s.name(folder), nil
}

func (s *store) Boxes(context.Context) (names []string, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.folders {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (s *store) Examine(_ context.Context, box string, key func(string) uint64) (copies []targets.Copy, m targets.Mark, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalogs++
	if s.unlisted != nil {
		if err := s.unlisted(s.catalogs); err != nil {
			return nil, m, err
		}
	}
	for _, c := range s.folders[box] {
		_, size, _ := targets.CanonOf(bytes.NewReader(c.raw))
		copies = append(copies, targets.Copy{UID: c.uid, Size: size, Key: key(rules.ParseHeader(c.raw).MessageID())})
	}
	return copies, targets.Mark{Folder: box, UIDValidity: 7, UIDNext: s.next[box] + 1}, nil
}

func (s *store) Hashes(_ context.Context, at targets.Mark, copies []targets.Copy, each func(uint32, targets.Hash)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.folders[at.Folder] {
		if slices.ContainsFunc(copies, func(k targets.Copy) bool { return k.UID == c.uid }) && !bytes.Contains(c.raw, []byte("unreadable")) {
			h, _, _ := targets.CanonOf(bytes.NewReader(c.raw))
			each(c.uid, h)
		}
	}
	return nil
}
