package fetcher

import (
	"cmp"
	"context"
	"slices"

	"popferry/targets"
)

// measure finds out the sizes of messages that are to be found by them. What
// LIST says is only a claim.
func (v *verification) measure(ctx context.Context, group []*want) error {
	list := make([]int32, len(group))
	for i, w := range group {
		list[i] = w.entry
	}
	err := v.know(ctx, list)
	for _, w := range group {
		if size, ok := v.sizes[w.entry]; ok {
			w.size = size
		}
	}
	return err
}

// contents reads both sides of contests, and returns the hashes of the copies.
func (v *verification) contents(ctx context.Context, s *site, b *box, open []contest) (map[uint32]targets.Hash, error) {
	var list []int32
	var copies []targets.Copy
	for _, c := range open {
		if len(c.copies) == 0 {
			continue
		}
		for _, w := range c.wants {
			list = append(list, w.entry)
		}
		for _, i := range c.copies {
			copies = append(copies, b.copies[i])
		}
	}
	if len(copies) == 0 {
		return nil, nil
	}
	if err := v.know(ctx, list); err != nil {
		return nil, err
	}
	return v.hashesOf(ctx, s, b, copies)
}

func (v *verification) hashesOf(ctx context.Context, s *site, b *box, copies []targets.Copy) (map[uint32]targets.Hash, error) {
	hashes := make(map[uint32]targets.Hash, len(copies))
	err := s.x.Hashes(ctx, b.mark, copies, func(uid uint32, h targets.Hash) { hashes[uid] = h })
	return hashes, err
}

// compare reads every copy that was found otherwise than by its contents.
func (v *verification) compare(ctx context.Context, s *site, mine []*want) error {
	var list []int32
	for _, w := range mine {
		if w.by != notFound && !w.same {
			list = append(list, w.entry)
		}
	}
	if err := v.know(ctx, list); err != nil {
		return err
	}
	for i, b := range s.boxes {
		var copies []targets.Copy
		var here []*want
		for _, w := range mine {
			if w.by == notFound || w.same || w.at != int32(i) {
				continue
			}
			j, _ := slices.BinarySearchFunc(b.copies, w.found, func(k targets.Copy, uid uint32) int { return cmp.Compare(k.UID, uid) })
			copies, here = append(copies, b.copies[j]), append(here, w)
		}
		if len(copies) == 0 {
			continue
		}
		hashes, err := v.hashesOf(ctx, s, b, copies)
		if err != nil {
			return err
		}
		for j, w := range here {
			h, read := hashes[w.found]
			if !read || h != v.hashes[w.entry] {
				v.differ(w, copies[j], !read)
			}
		}
	}
	return nil
}

// know finds out the hashes of entries: from the state, else by reading them.
func (v *verification) know(ctx context.Context, list []int32) error {
	var ask []int32
	byRow := map[int64]int32{}
	for _, i := range list {
		if v.hashes[i].IsZero() && v.refused[i] == nil {
			ask = append(ask, i)
			if v.rows[i] != 0 {
				byRow[v.rows[i]] = i
			}
		}
	}
	slices.Sort(ask)
	ask = slices.Compact(ask)
	for few := range slices.Chunk(ask, 1000) {
		var ids []int64
		for _, i := range few {
			if v.rows[i] != 0 {
				ids = append(ids, v.rows[i])
			}
		}
		if len(ids) == 0 {
			continue
		}
		rows, err := v.f.State.Messages(ctx, ids...)
		if err != nil {
			return err
		}
		for _, m := range rows {
			if m.Content != nil {
				v.hashes[byRow[m.ID]] = m.Hash
			}
		}
	}
	ask = slices.DeleteFunc(ask, func(i int32) bool { return !v.hashes[i].IsZero() })
	return v.src.digests(ctx, ask, func(entry int32, h targets.Hash, size int64, err error) {
		v.hashes[entry], v.sizes[entry] = h, size
		if err != nil {
			v.refused[entry] = err
		}
	})
}
