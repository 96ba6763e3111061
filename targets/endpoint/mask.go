package endpoint

import (
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

// Mask returns text with *** for everything that is hidden.
func (c *Conn) Mask(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hidden {
		text = strings.ReplaceAll(text, h, "***")
	}
	return text
}
