package fetcher

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"popferry/fetcher/maildrop"
	"popferry/fetcher/state"
)

// Some servers show a message to one session only (Account.Consumes): what was
// read and could not be delivered then is nowhere but here. The stash keeps such
// mail in files of the spool directory, named after its row in the state, from
// before its delivery is begun until the state says that it ended.

// stashName is the file of a message: a hash of what it is known by on its
// maildrop, so that no part of a name comes from a server. It is not the number
// of its row: when the state is lost, or a message forgotten, that number goes
// to other mail, which would be taken for delivered with this one's body.
func (p *pass) stashName(m *state.Message) string {
	id := sha256.Sum256(fmt.Appendf(nil, "%q %q %d", p.source, m.UIDL, m.Gen))
	return hex.EncodeToString(id[:16]) + stashSuffix
}

func (p *pass) stashPath(m *state.Message) string {
	return filepath.Join(p.f.bodies().dir, p.stashName(m))
}

const stashSuffix = ".eml"

// stash keeps a body until unlinkStashed. If that fails the pass ends: more mail
// could not be kept either. This message is still delivered, as it is in hand.
func (p *pass) stash(it item, b *body) {
	if !p.account.Consumes {
		return
	}
	if err := writeSynced(p.stashPath(it.msg), io.NewSectionReader(b, 0, b.size)); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fatal = fmt.Errorf("a message that %s shows once could not be kept: %w", p.account.Maildrop.Host, err)
	}
}

// unlinkStashed removes what stash kept, if anything.
func (p *pass) unlinkStashed(m *state.Message) {
	if !p.account.Consumes {
		return
	}
	if err := os.Remove(p.stashPath(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("a message that was delivered could not be removed from the spool", "err", err)
	}
}

// unstash delivers what earlier passes read and could not deliver, and takes it
// out of what is to be fetched. An error means that the maildrop must not be
// read: nothing could be kept.
func (p *pass) unstash(ctx context.Context, known *state.Known, pending map[int64]bool, pl *plan) error {
	if !p.account.Consumes {
		return nil
	}
	files, err := stashed(p.f.bodies().dir)
	if err != nil {
		return fmt.Errorf("%s shows a message once, so what was read must be kept: %w", p.account.Maildrop.Host, err)
	}
	kept := make(map[int64]bool)
	var items []item
	for _, m := range known.Messages {
		if !files[p.stashName(m)] {
			continue
		}
		switch m.Status {
		case state.StatusSafe, state.StatusDropped, state.StatusMarked:
			p.unlinkStashed(m) // its removal was cut short, or it was given up by hand
			continue
		case state.StatusNew, state.StatusRouted, state.StatusQuarantined:
			if !pending[m.ID] && !p.tried[m.ID] && !pl.q.now.Before(m.NextTry) {
				items = append(items, item{maildrop.Entry{UIDL: m.UIDL, Size: m.Size}, m})
			}
		case state.StatusHeld: // its file stays with it
		}
		kept[m.ID] = true
	}
	pl.spare(kept)
	recorded, err := p.recorded(ctx, items)
	if err != nil {
		return err
	}
	for _, few := range inTurn(items, recorded) {
		out := p.post(ctx)
		for _, it := range few {
			if !p.nowhereToGo(p.lacking(recorded[it.msg.ID])) && p.readyHeld(ctx, it) == nil {
				out.hand(p.unstashed(ctx, it, recorded[it.msg.ID]))
			}
		}
		out.wait()
	}
	return p.dead()
}

// spare takes messages that are kept on disk out of what is fetched.
func (pl *plan) spare(kept map[int64]bool) {
	rest := pl.fetch[:0]
	for _, it := range pl.fetch {
		if !kept[it.msg.ID] {
			rest = append(rest, it)
		}
	}
	pl.fetch = rest
}

// unstashed reads one message back. Its file stays until it is delivered.
func (p *pass) unstashed(ctx context.Context, it item, recorded []state.Delivery) *letter {
	f, err := os.Open(p.stashPath(it.msg))
	if err != nil {
		p.setback(it, Event{Kind: Failed, UIDL: it.UIDL, Octets: it.Size, Err: err})
		return nil
	}
	defer f.Close()
	l := &letter{item: it}
	if err := p.f.bodies().fill(ctx, &l.body, f, it.Size); err != nil {
		p.setback(it, Event{Kind: Failed, UIDL: it.UIDL, Octets: it.Size, Err: err})
		return nil
	}
	p.open(l, recorded)
	return p.opened(ctx, l)
}

// stashed makes the directory of the stash and returns the messages in it.
func stashed(dir string) (map[string]bool, error) {
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	kept := make(map[string]bool, len(files))
	for _, f := range files {
		kept[f.Name()] = true
	}
	return kept, err
}

// writeSynced makes a file that is complete and on disk, or is not there.
func writeSynced(name string, r io.Reader) (err error) {
	if err := os.Remove(name + ".part"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
