package fetcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"popferry/targets"
)

// sizeSlack is by how much two servers may count the octets of one message
// differently without that being looked into: a final CRLF that one of them adds.
const sizeSlack = 2

func near(a, b int64) bool { return max(a-b, b-a) <= sizeSlack }

// search pairs what should be at a target with what is there.
func (v *verification) search(ctx context.Context, s *site) error {
	var mine []*want
	for i := range v.wants {
		if v.wants[i].site == s && v.wants[i].doubt == 0 {
			mine = append(mine, &v.wants[i])
		}
	}
	inBox := make([][]*want, len(s.boxes))
	for _, w := range mine {
		inBox[w.box] = append(inBox[w.box], w)
	}
	for i, list := range inBox {
		if len(list) == 0 {
			continue
		}
		if err := v.examine(ctx, s, s.boxes[i]); err != nil {
			return err
		}
		left, err := v.byUID(ctx, s, int32(i), list)
		if err == nil {
			err = v.byLooks(ctx, s, int32(i), left)
		}
		if err != nil {
			return err
		}
	}
	if err := v.elsewhere(ctx, s, mine); err != nil || !v.deep {
		return err
	}
	return v.compare(ctx, s, mine)
}

// examine lists a folder, and leaves out what certainly is of other messages.
func (v *verification) examine(ctx context.Context, s *site, b *box) (err error) {
	if b.examined || b.name == "" {
		return nil
	}
	if b.copies, b.mark, err = s.x.Examine(ctx, b.name, v.key); err != nil {
		return err
	}
	b.examined, b.out = true, make([]bool, len(b.copies))
	if v.f.State == nil {
		return nil
	}
	claimed, err := v.f.State.ClaimedBeside(ctx, v.account.ID, v.start, s.name, b.name, b.mark.UIDValidity)
	for i, k := range b.copies {
		b.out[i] = claimed[k.UID]
	}
	return err
}

// byUID finds copies where the state says they are, and returns what was not
// found so.
func (v *verification) byUID(ctx context.Context, s *site, at int32, list []*want) (left []*want, err error) {
	b := s.boxes[at]
	var odd []contest
	for _, w := range list {
		i, ok := -1, false
		if w.uid > 0 && w.validity == b.mark.UIDValidity {
			i, ok = slices.BinarySearchFunc(b.copies, w.uid, func(k targets.Copy, uid uint32) int { return cmp.Compare(k.UID, uid) })
		}
		switch {
		case !ok || b.out[i] || w.key != 0 && b.copies[i].Key != w.key && b.copies[i].Size >= 0:
			left = append(left, w)
			continue
		case b.copies[i].Size < 0:
			w.doubt, w.reason = Unreadable, v.reason("the copy cannot be read")
		case near(b.copies[i].Size, w.size):
			w.take(at, b.copies[i].UID, byUID)
		default: // servers may be wrong about sizes
			odd = append(odd, contest{wants: []*want{w}, copies: []int{i}})
		}
		b.out[i] = true
	}
	hashes, err := v.contents(ctx, s, b, odd)
	for _, c := range odd {
		w, k := c.wants[0], b.copies[c.copies[0]]
		if h := v.hashes[w.entry]; !h.IsZero() && hashes[k.UID] == h {
			w.take(at, k.UID, byUID)
			w.same = true
		} else {
			v.differ(w, k, hashes[k.UID].IsZero())
		}
	}
	return left, err
}

func (w *want) take(at int32, uid uint32, by method) {
	w.at, w.found, w.by, w.doubt = at, uid, by, 0
}

// differ notes that k has the place of w and not its contents.
func (v *verification) differ(w *want, k targets.Copy, unread bool) {
	switch err := v.refused[w.entry]; {
	case err != nil:
		w.doubt, w.reason = Unreadable, v.reason(err.Error())
	case unread:
		w.doubt, w.reason = Unreadable, v.reason("the copy cannot be read")
	case near(k.Size, w.size):
		w.doubt, w.reason = Different, v.reason("the contents differ")
	default:
		w.doubt, w.reason = Different, v.reason(fmt.Sprintf("%d octets there, %d here", k.Size, w.size))
	}
}

// contest is messages and the copies among which theirs must be, to be told by
// contents.
type contest struct {
	wants  []*want
	copies []int // indices of box.copies
}

// byLooks finds copies by Message-ID and size, or where that is not enough by
// contents.
func (v *verification) byLooks(ctx context.Context, s *site, at int32, list []*want) error {
	b := s.boxes[at]
	if len(list) == 0 || len(b.copies) == 0 {
		return nil
	}
	free := b.free(func(x, y targets.Copy) int { return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.Size, y.Size)) })
	slices.SortStableFunc(list, func(x, y *want) int { return cmp.Compare(x.key, y.key) })
	var open []contest
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].key == list[0].key {
			n++
		}
		group := list[:n:n]
		list = list[n:]
		if group[0].key == 0 {
			if err := v.measure(ctx, group); err != nil {
				return err
			}
			open = append(open, b.bySize(group)...)
			continue
		}
		if c, settled := b.byKey(at, group, free); !settled && len(c.copies) > 0 {
			open = append(open, c)
		}
	}
	hashes, err := v.contents(ctx, s, b, open)
	if err != nil {
		return err
	}
	for _, c := range open {
		v.settle(b, at, c, hashes)
	}
	return nil
}

// free returns indices of copies that belong to nobody yet, in an order.
func (b *box) free(order func(x, y targets.Copy) int) []int {
	var list []int
	for i, k := range b.copies {
		if !b.out[i] && k.Size >= 0 {
			list = append(list, i)
		}
	}
	slices.SortStableFunc(list, func(x, y int) int { return order(b.copies[x], b.copies[y]) })
	return list
}

// byKey returns the copies that have the Message-ID of a group. A message that is
// the only one with it gets the copy of its size at once.
func (b *box) byKey(at int32, group []*want, free []int) (c contest, settled bool) {
	key := group[0].key
	i, _ := slices.BinarySearchFunc(free, key, func(i int, key uint64) int { return cmp.Compare(b.copies[i].Key, key) })
	c.wants = group
	for ; i < len(free) && b.copies[free[i]].Key == key; i++ {
		k := b.copies[free[i]]
		if len(group) == 1 && near(k.Size, group[0].size) {
			group[0].take(at, k.UID, byID)
			b.out[free[i]] = true
			return contest{}, true
		}
		c.copies = append(c.copies, free[i])
	}
	return c, false
}

// bySize returns for messages without a Message-ID the copies that may be theirs:
// of about their size, whatever the server takes for a Message-ID. Messages that
// can have the same copies contest them together.
func (b *box) bySize(group []*want) (list []contest) {
	free := b.free(func(x, y targets.Copy) int { return cmp.Compare(x.Size, y.Size) })
	slices.SortStableFunc(group, func(x, y *want) int { return cmp.Compare(x.size, y.size) })
	top := int64(-1) // of the sizes in the last contest
	for _, w := range group {
		if len(list) == 0 || w.size-sizeSlack > top {
			list = append(list, contest{})
		}
		c := &list[len(list)-1]
		c.wants = append(c.wants, w)
		from := max(w.size-sizeSlack, top+1)
		i, _ := slices.BinarySearchFunc(free, from, func(i int, size int64) int { return cmp.Compare(b.copies[i].Size, size) })
		for top = w.size + sizeSlack; i < len(free) && b.copies[free[i]].Size <= top; i++ {
			c.copies = append(c.copies, free[i])
		}
	}
	return list
}

// settle gives each message of a contest the copy that has its contents.
func (v *verification) settle(b *box, at int32, c contest, hashes map[uint32]targets.Hash) {
	byHash := make(map[targets.Hash][]int, len(c.copies))
	for _, i := range c.copies {
		if h, ok := hashes[b.copies[i].UID]; ok && !b.out[i] {
			byHash[h] = append(byHash[h], i)
		}
	}
	var left []*want
	for _, w := range c.wants {
		h := v.hashes[w.entry]
		list := byHash[h]
		if h.IsZero() || len(list) == 0 {
			left = append(left, w)
			continue
		}
		w.take(at, b.copies[list[0]].UID, byContent)
		w.same, b.out[list[0]], byHash[h] = true, true, list[1:]
	}
	// What is left of the copies with the same Message-ID is what became of them.
	for _, i := range c.copies {
		if len(left) == 0 || left[0].key == 0 {
			break
		}
		if w := left[0]; !b.out[i] && w.box == at {
			_, read := hashes[b.copies[i].UID]
			v.differ(w, b.copies[i], !read)
			left = left[1:]
		}
	}
}

// elsewhere looks for what is not in its folder in all others.
func (v *verification) elsewhere(ctx context.Context, s *site, mine []*want) error {
	lost := func() (list []*want) {
		for _, w := range mine {
			if w.by == notFound && !w.waiting && w.doubt != Unreadable {
				list = append(list, w)
			}
		}
		return list
	}
	if len(lost()) == 0 {
		return nil
	}
	names, err := s.x.Boxes(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		at := s.box(name, "")
		list := slices.DeleteFunc(lost(), func(w *want) bool { return w.box == at })
		if len(list) == 0 {
			continue
		}
		if err := v.examine(ctx, s, s.boxes[at]); err != nil {
			return err
		}
		if err := v.byLooks(ctx, s, at, list); err != nil {
			return err
		}
	}
	return nil
}
