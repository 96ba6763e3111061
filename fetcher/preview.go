package fetcher

import (
	"context"
	"fmt"
	"io"
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

// Peek reads message num of a's maildrop, as LIST counts them, and hands it to
// ask: first its header, by TOP; and if ask returns true, once more with its
// body. Nothing is changed anywhere. The error is a *NoMessageError if there is
// no such message.
func (f *Fetcher) Peek(ctx context.Context, a *Account, num int, ask func(m *rules.Message, e maildrop.Entry) (more bool)) error {
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
	if i < 0 {
		return &NoMessageError{num, listing.Messages}
	}
	e := listing.Entries[i]
	asked, more := false, true
	if conn.Caps().TOP {
		for inc := range conn.Top(ctx, slices.Values([]maildrop.Entry{e})) {
			m, err := f.specimen(inc, a)
			if err != nil {
				return err
			}
			m.Body, m.Size = nil, e.Size
			more, asked = ask(m, e), true
		}
	}
	if more {
		for inc := range conn.Retrieve(ctx, slices.Values([]maildrop.Entry{e})) {
			m, err := f.specimen(inc, a)
			if err != nil {
				return err
			}
			ask(m, e)
			asked = true
		}
	}
	if !asked {
		return &maildrop.Error{Kind: maildrop.Lost, Op: "RETR", Err: cmpErr(ctx.Err(), io.ErrUnexpectedEOF)}
	}
	return conn.Quit(ctx)
}

// specimen is as much of a message as rules look at.
func (f *Fetcher) specimen(inc maildrop.Incoming, a *Account) (*rules.Message, error) {
	if inc.Err != nil {
		return nil, inc.Err
	}
	octets, err := io.ReadAll(io.LimitReader(inc.Body, headerMax+bodyMax))
	if err != nil {
		return nil, err
	}
	rest, err := io.Copy(io.Discard, inc.Body)
	if err != nil {
		return nil, err
	}
	m := rules.ReadMessage(octets)
	m.Account, m.Now, m.Size = a.Name, f.now(), int64(len(octets))+rest
	return m, nil
}
