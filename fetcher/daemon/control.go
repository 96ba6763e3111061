package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// The control socket is how other processes of the same user ask a daemon: a
// word on a line, and the answer is JSON until the connection ends. Nothing can
// be changed through it.
const (
	askStatus = "status"
	askHealth = "health"
)

// asking is how long a question may take.
const asking = 30 * time.Second

// SocketPath is the control socket of the daemon that has the state at path.
func SocketPath(path string) string { return path + ".sock" }

// longestSocket is what fits into a sockaddr_un everywhere.
const longestSocket = 100

// short calls f with a path to the socket that fits into its address, however
// deep the directory lies.
func short(path string, f func(path string) error) error {
	if len(path) <= longestSocket {
		return f(path)
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%s is too long a path for a socket", path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// control is the open socket.
type control struct {
	*net.UnixListener
	path string
	once sync.Once
	err  error
}

// Close ends the listening and removes the socket.
func (c *control) Close() error {
	c.once.Do(func() {
		c.err = c.UnixListener.Close()
		if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.err = err
		}
	})
	return c.err
}

// listen opens the control socket; it is nil if there is to be none. Only one
// process has the state, so a socket that is there already is a dead one's.
func (d *Daemon) listen() (*control, error) {
	path := d.Socket
	switch path {
	case "-":
		return nil, nil //nolint:nilnil // none is wanted
	case "":
		path = SocketPath(d.State.Path())
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	c := &control{path: path}
	err := short(path, func(name string) error {
		l, err := listenPrivate(name)
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // by a name that may not be good any more
		c.UnixListener = l
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// answer answers until the socket is closed.
func (d *Daemon) answer(c *control) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := c.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			d.log().Warn("control socket", "err", err)
			return
		}
		wg.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(asking))
			if err := d.reply(conn); err != nil {
				d.log().Debug("control socket", "err", err)
			}
		})
	}
}

func (d *Daemon) reply(conn io.ReadWriter) error {
	word, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString('\n')
	if err != nil {
		return err
	}
	var answer any
	switch strings.TrimSpace(word) {
	case askStatus:
		answer = d.Status()
	case askHealth:
		h := healthAnswer{Healthy: true}
		if err := d.Health(); err != nil {
			h = healthAnswer{Reason: err.Error()}
		}
		answer = h
	default:
		return fmt.Errorf("%q is no question", word)
	}
	return json.NewEncoder(conn).Encode(answer)
}

type healthAnswer struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"`
}

// ErrNotServing is in errors of Ask and AskHealth if no daemon runs on the state.
var ErrNotServing = errors.New("popferry serve does not run")

// Ask returns the status that the daemon with the state at path gives.
func Ask(ctx context.Context, path string) (Status, error) {
	var st Status
	err := ask(ctx, path, askStatus, &st)
	return st, err
}

// AskHealth returns nil if the daemon with the state at path is well, and else
// why not. ErrUnhealthy is in errors that it gave itself.
func AskHealth(ctx context.Context, path string) error {
	var h healthAnswer
	if err := ask(ctx, path, askHealth, &h); err != nil {
		return err
	}
	if !h.Healthy {
		return fmt.Errorf("%w%s", ErrUnhealthy, strings.TrimPrefix(h.Reason, ErrUnhealthy.Error()))
	}
	return nil
}

func ask(ctx context.Context, path, word string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	return short(SocketPath(path), func(name string) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotServing, err)
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if _, err := io.WriteString(conn, word+"\n"); err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		if err := json.NewDecoder(conn).Decode(answer); err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		return nil
	})
}
