package endpoint

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

// Hide keeps texts out of what Mask returns: what was sent in secret on this
// connection. Servers quote what they do not like, and traces quote servers.
func (c *Conn) Hide(secrets ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range secrets {
		if s != "" && !slices.Contains(c.hidden, s) {
			c.hidden = append(c.hidden, s)
		}
	}
	// The longest first: one secret may be part of another.
	slices.SortFunc(c.hidden, func(a, b string) int { return len(b) - len(a) })
}

// Mask returns raw text with *** for everything that is hidden.
func (c *Conn) Mask(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hidden {
		text = strings.ReplaceAll(text, h, "***")
	}
	return text
}

// Trace has Sent and Got log what they are given, if log shows such things.
func (c *Conn) Trace(log *slog.Logger) {
	if log.Enabled(context.Background(), slog.LevelDebug) {
		c.log = log
	}
}

// Tracing reports whether Sent and Got have any effect.
func (c *Conn) Tracing() bool { return c.log != nil }

// maxTrace bounds what is shown of a line.
const maxTrace = 500

// Sent traces a line that is sent: the protocol's own words, not mail. What is
// hidden does not show.
func (c *Conn) Sent(line string) { c.trace("> ", line) }

// Got is Sent for a line that came.
func (c *Conn) Got(line string) { c.trace("< ", line) }

func (c *Conn) trace(arrow, line string) {
	if c.log != nil {
		c.log.Debug(arrow + Printable(c.Mask(strings.TrimRight(line, "\r\n")), maxTrace))
	}
}
