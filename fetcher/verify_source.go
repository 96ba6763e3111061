package fetcher

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/rules"
	"popferry/targets"
)

// source is a maildrop that is only looked at. It connects again where a
// connection is lost, because a server may not wait for as long as the targets
// take.
type source struct {
	p       *pass
	conn    *maildrop.Conn   // nil until it is needed, if listed
	listed  bool             // entries are known without asking
	entries []maildrop.Entry // of the first listing; Num is of conn, 0 for one that is gone
	left    int              // entries that are
}

func (s *source) open(ctx context.Context) error {
	if s.listed {
		return nil
	}
	listing, err := s.dial(ctx)
	for _, w := range listing.Warnings {
		s.p.warn(w)
	}
	s.entries = listing.Entries
	return err
}

// connected connects if that was not needed before.
func (s *source) connected(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	return s.again(ctx)
}

func (s *source) dial(ctx context.Context) (l maildrop.Listing, err error) {
	s.close()
	if s.conn, err = s.p.dial(ctx); err != nil {
		return l, err
	}
	if l, err = s.conn.List(ctx); err == nil {
		err = s.p.name(ctx, s.conn, &l)
	}
	return l, err
}

// again connects once more and finds the entries by their UIDLs, those that share
// one by their order.
func (s *source) again(ctx context.Context) error {
	listing, err := s.dial(ctx)
	if err != nil {
		return err
	}
	nums := make(map[string][]int, len(listing.Entries))
	for _, e := range listing.Entries {
		nums[e.UIDL] = append(nums[e.UIDL], e.Num)
	}
	s.left = 0
	for i := range s.entries {
		e := &s.entries[i]
		if e.Num = 0; len(nums[e.UIDL]) > 0 {
			e.Num, nums[e.UIDL] = nums[e.UIDL][0], nums[e.UIDL][1:]
		} else {
			s.left++
		}
	}
	return nil
}

// gone reports whether a message has left the maildrop meanwhile.
func (s *source) gone(entry int32) bool { return s.entries[entry].Num == 0 }

func (s *source) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// quit is polite; nothing depends on it.
func (s *source) quit(ctx context.Context) {
	if s.conn != nil {
		_ = s.conn.Quit(ctx)
	}
}

// asking is one way to have messages shown.
type asking func(context.Context, iter.Seq[maildrop.Entry]) iter.Seq[maildrop.Incoming]

// each asks for entries by what way returns for a connection, and calls do for
// each in turn. An error of do that is the connection's has it asked for again;
// a message that the server refuses has inc.Err set.
func (s *source) each(ctx context.Context, list []int32, way func(*maildrop.Conn) asking, do func(entry int32, inc maildrop.Incoming) error) error {
	for lost := 0; ; lost++ {
		done, err := s.once(ctx, list, way, do)
		list = list[done:]
		var me *maildrop.Error
		if err == nil || ctx.Err() != nil || lost == reconnects || !errors.As(err, &me) {
			return err
		}
		s.p.log.Warn("connection lost, going on with a new one", "err", err)
		if err := s.again(ctx); err != nil {
			return err
		}
	}
}

// once returns how many of list are done with.
func (s *source) once(ctx context.Context, list []int32, way func(*maildrop.Conn) asking, do func(int32, maildrop.Incoming) error) (done int, err error) {
	here := func(yield func(maildrop.Entry) bool) {
		for _, i := range list {
			if e := s.entries[i]; e.Num > 0 && !yield(e) {
				return
			}
		}
	}
	next := func() int32 {
		for s.gone(list[done]) {
			done++
		}
		return list[done]
	}
	for inc := range way(s.conn)(ctx, here) {
		if inc.Err != nil && !maildrop.Usable(inc.Err) {
			return done, inc.Err
		}
		if err := do(next(), inc); err != nil {
			return done, err
		}
		done++
	}
	for done < len(list) && s.gone(list[done]) {
		done++
	}
	if done < len(list) {
		return done, cmpErr(context.Cause(ctx), &maildrop.Error{Kind: maildrop.Lost, Op: "TOP", Err: io.ErrUnexpectedEOF})
	}
	return done, nil
}

func heads(c *maildrop.Conn) asking { return c.Top }

// allLines is more lines than any message has.
const allLines = 1 << 30

// whole has messages shown by TOP, which marks nothing as read, where there is
// such a command.
func whole(c *maildrop.Conn) asking {
	if !c.Caps().TOP {
		return c.Retrieve
	}
	return func(ctx context.Context, want iter.Seq[maildrop.Entry]) iter.Seq[maildrop.Incoming] {
		return c.TopLines(ctx, want, allLines)
	}
}

func retrieved(c *maildrop.Conn) asking { return c.Retrieve }

// headers calls do with the header of each entry, nil if the server does not show
// it. A server without TOP is asked for whole messages.
func (s *source) headers(ctx context.Context, list []int32, do func(entry int32, head []byte, err error) error) error {
	if len(list) == 0 {
		return nil
	}
	if err := s.connected(ctx); err != nil {
		return err
	}
	way := heads
	if !s.conn.Caps().TOP {
		way = retrieved
	}
	return s.each(ctx, list, way, func(entry int32, inc maildrop.Incoming) error {
		if inc.Err != nil {
			return do(entry, nil, inc.Err)
		}
		head, err := io.ReadAll(io.LimitReader(inc.Body, headerMax))
		if err != nil {
			return err
		}
		return do(entry, headerOf(head), nil)
	})
}

// specimens is as headers for as much of messages as rules look at.
func (s *source) specimens(ctx context.Context, list []int32, do func(entry int32, m *rules.Message, err error) error) error {
	if len(list) == 0 {
		return nil
	}
	if err := s.connected(ctx); err != nil {
		return err
	}
	return s.each(ctx, list, whole, func(entry int32, inc maildrop.Incoming) error {
		if inc.Err != nil {
			return do(entry, nil, inc.Err)
		}
		octets, err := io.ReadAll(io.LimitReader(inc.Body, headerMax+bodyMax))
		if err != nil {
			return err
		}
		return do(entry, rules.ReadMessage(octets), nil)
	})
}

// digests calls do with the canonical hash and size of each entry. Some servers cut what
// TOP shows: what has not the size that LIST says is read by RETR.
func (s *source) digests(ctx context.Context, list []int32, do func(entry int32, h targets.Hash, size int64, err error)) error {
	if len(list) == 0 {
		return nil
	}
	if err := s.connected(ctx); err != nil {
		return err
	}
	var cut []int32
	read := func(way func(*maildrop.Conn) asking, list []int32, final bool) error {
		return s.each(ctx, list, way, func(entry int32, inc maildrop.Incoming) error {
			if err := inc.Err; err != nil {
				do(entry, targets.Hash{}, 0, err)
				return nil
			}
			var c targets.Canon
			n, err := io.Copy(&c, inc.Body)
			if err != nil {
				return err
			}
			h, canon := c.Sum()
			if size := s.entries[entry].Size; !final && n != size && n != size+int64(len(crlf)) {
				cut = append(cut, entry)
				return nil
			}
			do(entry, h, canon, nil)
			return nil
		})
	}
	if err := read(whole, list, !s.conn.Caps().TOP); err != nil || len(cut) == 0 {
		return err
	}
	return read(retrieved, slices.Clone(cut), true)
}
