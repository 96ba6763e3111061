package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	mostMemory   = 16 << 20            // octets of File
	memoryLasts  = 90 * 24 * time.Hour // of an account without passes
	memoryFormat = 1
)

// memory is what a Notifier must not forget: how accounts are doing, since that
// is known only when they are asked, and what every place was told. It is a
// file of its own, because to lose it costs a message twice at most, and
// because nothing that notifies may come into the way of the state.
type memory struct {
	Format   int                `json:"format"`
	Accounts map[string]*health `json:"accounts"`
	Told     map[string]*told   `json:"told"` // by place
}

// of returns what a place was told.
func (m *memory) of(place string) *told {
	t := m.Told[place]
	if t == nil {
		t = &told{}
		m.Told[place] = t
	}
	if t.Failing == nil {
		t.Failing = map[string]time.Time{}
	}
	if t.Attention == nil {
		t.Attention = map[string]time.Time{}
	}
	return t
}

// recall reads File. What cannot be read is forgotten.
func (n *Notifier) recall() memory {
	b, err := n.read()
	m := memory{}
	if err == nil {
		m, err = restore(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && n.Log != nil {
		n.Log.Warn("what was notified before is not known", "err", &os.PathError{Op: "read", Path: n.File, Err: err})
	}
	m.Format = memoryFormat
	if m.Accounts == nil {
		m.Accounts = map[string]*health{}
	}
	if m.Told == nil {
		m.Told = map[string]*told{}
	}
	return m
}

func (n *Notifier) read() ([]byte, error) {
	if n.File == "" {
		return nil, fs.ErrNotExist
	}
	info, err := os.Lstat(n.File)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(n.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostMemory))
}

// restore makes a memory of the content of a file.
func restore(b []byte) (memory, error) {
	m := memory{}
	switch err := json.Unmarshal(b, &m); {
	case err != nil:
		return memory{}, errors.New("it is damaged")
	case m.Format != memoryFormat:
		return memory{}, errors.New("it is of another version")
	}
	for name, h := range m.Accounts {
		if h == nil || time.Since(h.Last) > memoryLasts || h.Failures > 0 && h.Problem == nil {
			delete(m.Accounts, name)
		}
	}
	return m, nil
}

// remember saves what changes, a few seconds late, until ctx ends: a thousand
// accounts that fail at once are one file.
func (n *Notifier) remember(ctx context.Context) {
	for {
		select {
		case <-n.dirty:
		case <-ctx.Done():
			return
		}
		if !waitUntil(ctx, time.Now().Add(saveDelay)) {
			return
		}
		n.save()
	}
}

// save writes File, by another name first. It is not synced: what a power
// failure takes is told again.
func (n *Notifier) save() {
	if n.File == "" {
		return
	}
	n.saving.Lock()
	defer n.saving.Unlock()
	n.mu.Lock()
	b, err := json.Marshal(n.memory)
	n.mu.Unlock() // no pass waits for the disk
	if err == nil {
		err = rewrite(n.File, b)
	}
	if err == nil {
		n.logged.Delete(n.File)
		return
	}
	if _, already := n.logged.Swap(n.File, true); !already && n.Log != nil {
		n.Log.Warn("what was notified cannot be remembered", "err", err)
	}
}

func rewrite(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
