package config

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"popferry/targets/imap"
	"popferry/targets/smtp"
)

const longestStateName = 100 // octets

// statePath returns where a move has its state: beside the usual one, in a file
// whose name depends on the target alone.
func (m *mover) statePath(mv *Move, to *end) string {
	if m.out.State == "" {
		return "" // that there is no place was reported
	}
	return filepath.Join(filepath.Dir(m.out.State), "migrations", stateName(to.target))
}

// stateName is readable, and another one for every place that mail is put into.
// The name of the target is a part of what is hashed: it stands in the state, and
// one place under two names in one state would be two places.
func stateName(t *Target) string {
	var parts []string
	id := t.Name + "\x00" + t.Place() + "\x00"
	switch c := t.Config.(type) {
	case *imap.Config:
		parts = []string{hostName(c.Host), c.User, c.Folder}
		id = t.Name + "\x00" + net.JoinHostPort(hostName(c.Host), strconv.Itoa(c.Port)) + "\x00" + c.User + "\x00" + c.Folder
	case *smtp.Config:
		parts = append([]string{hostName(c.Host)}, c.Recipients...)
		id += strings.Join(c.Recipients, "\x00")
	default:
		parts = []string{"maildir", filepath.Base(t.Path), t.folder()}
		id += t.folder()
	}
	sum := sha256.Sum256([]byte(id))
	tail := "-" + hex.EncodeToString(sum[:4]) + ".db"
	name := strings.TrimLeft(strings.Map(fileRune, strings.Join(parts, "-")), ".-")
	return name[:min(len(name), longestStateName-len(tail))] + tail
}

// fileRune keeps what is harmless in the name of a file on every system.
func fileRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(".-_@+", r):
		return r
	}
	return '_'
}
