package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// mentioned is a file that the configuration names.
type mentioned struct {
	value
	path string
}

// Check looks at the files that the configuration stands in and names, and
// returns what is wrong there as warnings: a server may still be reached, and
// secrets may appear before the next login.
func (c *Config) Check() []*Error {
	var warns []*Error
	add := func(v value, code, text, hint string) {
		e := &Error{File: c.File, Code: code, Text: text, Hint: hint, Line: v.Line, Column: v.Column, Width: 1}
		c.src.place(e)
		warns = append(warns, e)
	}
	if info, err := os.Stat(c.File); err == nil && info.Mode().IsRegular() && info.Mode()&0o077 != 0 && len(c.inline) > 0 {
		add(c.inline[0], "config-readable", fmt.Sprintf("others on this machine can read the %s in this file", c.inline[0].key),
			fmt.Sprintf("chmod 600 %s   or move the %[2]s to a %[2]s_file", c.File, c.inline[0].key))
	}
	for _, m := range c.files {
		info, err := os.Stat(m.path)
		switch {
		case err != nil:
			add(m.value, "config-file", fmt.Sprintf("%s in %s: the file cannot be found: %s", m.key, m.where, reason(err)), "It is looked for at "+printable(m.path))
		case !info.Mode().IsRegular() && info.IsDir():
			add(m.value, "config-file", fmt.Sprintf("%s in %s is a directory", m.key, m.where), "")
		case m.secret() && info.Mode().IsRegular() && info.Mode()&0o007 != 0:
			add(m.value, "config-readable", fmt.Sprintf("everybody on this machine can read the %s of %s", m.key, m.where), "chmod 600 "+printable(m.path))
		}
	}
	byPlace(warns)
	return slices.Clip(warns)
}

// SecretFiles lists the files that hold secrets, in the order in which the
// configuration names them.
func (c *Config) SecretFiles() []string {
	var paths []string
	for _, m := range c.files {
		if m.secret() {
			paths = append(paths, m.path)
		}
	}
	return paths
}

func (m mentioned) secret() bool {
	return strings.HasSuffix(m.key, "_file") && m.key != "ca_file" || m.key == "client_key"
}
