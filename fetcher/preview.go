package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
	"popferry/rules"
)

// Preview tells where the newest messages on a's maildrop would go, at most
// limit of them, the newest first: a Listed event, then Planned events as in a
// dry run. It reads headers by TOP and nothing else, and asks nobody what was
// delivered already, so it works without a state and beside a pass of another
// process. Nothing is changed anywhere.
func (f *Fetcher) Preview(ctx context.Context, j *Job, a *Account, limit int) error {
	p, err := f.newPass(j, a)
	if err != nil {
		return err
	}
	conn, err := maildrop.Dial(ctx, &a.Maildrop, p.log)
	if err != nil {
		return err
	}
	defer conn.Close()
	listing, err := conn.List(ctx)
	if err != nil {
		return err
	}
	var items []item
	total := Totals{Messages: listing.Messages, Octets: listing.Octets}
	for _, e := range slices.Backward(listing.Entries) {
		if len(items) == limit {
			break
		}
		items = append(items, item{e, &state.Message{UIDL: e.UIDL, Size: e.Size}})
		total.NewBytes += e.Size
	}
	total.New = len(items)
	p.emit(Event{Kind: Listed, Total: total})
	if err := p.preview(ctx, conn, items); err != nil {
		return err
	}
	return conn.Quit(ctx)
}

// NoMessageError says that a maildrop has no message of that number.
type NoMessageError struct {
	Num  int
	Have int // messages it has
}

func (e *NoMessageError) Error() string {
	return fmt.Sprintf("there is no message %d: the maildrop has %d", e.Num, e.Have)
}

// ErrNoTOP says that a message cannot be looked at without taking it.
var ErrNoTOP = errors.New("the server has no TOP, so popferry cannot look at a message without fetching it")

// Peek reads message num of a's maildrop, as LIST counts them, and hands it to
// ask: first its header, and if ask returns true, once more with its body. It
// uses TOP for both, because some servers show a message never again that was
// read by RETR, so nothing is changed anywhere. The error is a *NoMessageError if
// there is no such message, and ErrNoTOP without that command.
func (f *Fetcher) Peek(ctx context.Context, a *Account, num int, ask func(*rules.Message) (more bool)) error {
	conn, err := maildrop.Dial(ctx, &a.Maildrop, f.logger())
	if err != nil {
		return err
	}
	defer conn.Close()
	listing, err := conn.List(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(listing.Entries, func(e maildrop.Entry) bool { return e.Num == num })
	switch {
	case i < 0:
		return &NoMessageError{num, listing.Messages}
	case !conn.Caps().TOP:
		return ErrNoTOP
	}
	m, err := f.specimen(ctx, conn.Top(ctx, slices.Values(listing.Entries[i:i+1])), a)
	if err != nil {
		return err
	}
	m.Body = nil
	if ask(m) {
		const lines = bodyMax / len("\r\n") // so that no octet that rules look at is behind them
		if m, err = f.specimen(ctx, conn.TopLines(ctx, slices.Values(listing.Entries[i:i+1]), lines), a); err != nil {
			return err
		}
		ask(m)
	}
	return conn.Quit(ctx)
}

// specimen is as much of the one message that comes as rules look at. Its size is
// what LIST says.
func (f *Fetcher) specimen(ctx context.Context, incoming iter.Seq[maildrop.Incoming], a *Account) (*rules.Message, error) {
	for inc := range incoming {
		if inc.Err != nil {
			return nil, inc.Err
		}
		octets, err := io.ReadAll(io.LimitReader(inc.Body, headerMax+bodyMax))
		if err != nil {
			return nil, err
		}
		m := rules.ReadMessage(octets)
		m.Account, m.Now, m.Size = a.Name, f.now(), inc.Size
		return m, nil
	}
	return nil, &maildrop.Error{Kind: maildrop.Lost, Op: "TOP", Err: cmpErr(ctx.Err(), io.ErrUnexpectedEOF)}
}
