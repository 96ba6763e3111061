package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"popferry/targets/endpoint"
)

const (
	commandTime  = 30 * time.Second
	mostCommand  = 512  // octets of what it prints that are quoted
	mostVariable = 1000 // octets of one variable
)

// harmless are the variables of popferry's own environment that a command gets.
// The others may hold passwords.
var harmless = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_TIME", "TZ", "TMPDIR",
	"SYSTEMROOT", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
}

// command runs p's command. After thirty seconds it and all it has started are
// killed.
func (n *Notifier) command(ctx context.Context, p *place, m *Notice) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Command[0], p.Command[1:]...)
	cmd.Env = n.environment(m)
	cmd.Stdin = strings.NewReader(m.Text)
	out := &head{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // what left the group may hold the output open
	group(cmd)
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well and left something running
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("command %q did not end within %s", p.Command[0], commandTime)
	}
	text := fmt.Sprintf("command %q: %v", p.Command[0], err)
	if said := strings.TrimSpace(out.b.String()); said != "" {
		text += "; it said: " + said
	}
	return errors.New(endpoint.Printable(text, mostCommand+200))
}

// environment is what a command learns besides the text.
func (n *Notifier) environment(m *Notice) []string {
	var env []string
	if n.Env != nil {
		for _, name := range harmless {
			if v, ok := n.Env(name); ok {
				env = append(env, name+"="+v)
			}
		}
	}
	var jobs, accounts, codes []string
	exit := exitOK
	for _, it := range m.Problems {
		jobs, accounts, codes = append(jobs, it.Job), append(accounts, it.Account), append(codes, it.Code)
		exit = Worse(exit, it.Exit)
	}
	set := func(name, value string) {
		env = append(env, "POPFERRY_"+name+"="+shorten(strings.ReplaceAll(value, "\x00", ""), mostVariable))
	}
	set("EVENT", m.Event)
	set("TITLE", m.Title)
	set("JOB", distinct(jobs))
	set("ACCOUNT", distinct(accounts))
	set("CODE", distinct(codes))
	set("EXIT", strconv.Itoa(exit))
	return env
}

// distinct joins different words by commas.
func distinct(words []string) string {
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ",")
}

// head keeps the beginning of what is written to it.
type head struct{ b bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.b.Write(p[:min(len(p), max(0, mostCommand-h.b.Len()))])
	return len(p), nil
}
