package maildrop

import (
	"context"
	"strconv"

	"popferry/targets/endpoint"
)

// Delete marks messages of this connection's listing for deletion, and returns
// those the server agreed to; Quit makes it so. What the server refuses is
// logged and is not among them. An error means the connection has ended, in
// which case nothing gets deleted, or that ctx has: then marking stopped there,
// and Quit still deletes what was marked.
func (c *Conn) Delete(ctx context.Context, done []Entry) ([]Entry, error) {
	if c.err != nil {
		return nil, c.err
	}
	g := guard(ctx, c)
	defer g.stop()
	window := 1
	if c.caps.Pipelining && c.pipelining() {
		window = windowCommands
	}
	deleted := make([]Entry, 0, len(done))
	sent := 0
	for i, e := range done {
		for sent < len(done) && sent-i < window && ctx.Err() == nil {
			if err := c.send(ctx, "DELE "+strconv.Itoa(done[sent].Num)); err != nil {
				return deleted, err
			}
			sent++
		}
		if i == sent {
			return deleted, context.Cause(ctx)
		}
		err := c.reply(ctx, "DELE "+strconv.Itoa(e.Num))
		switch {
		case err == nil:
			deleted = append(deleted, e)
		case !Usable(err):
			return deleted, err
		default:
			c.log.Warn("the server does not delete a message", "uidl", endpoint.Printable(e.UIDL, 80), "err", err)
		}
	}
	return deleted, nil
}

// Noop does nothing but prove that the session is in step: what was taken for
// the last reply was all of it.
func (c *Conn) Noop(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return c.command(ctx, "NOOP")
}
