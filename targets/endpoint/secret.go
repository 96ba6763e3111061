package endpoint

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Secret is a password, or where to get it. However it is printed, logged or
// marshalled it reads "***", and printers that go through values by reflection
// see no more than a function; only Reveal gives it out. The zero Secret is no
// secret at all.
type Secret struct {
	name    string        // of the key in the configuration, for errors
	value   func() string // of what is written there
	file    string
	command []string
}

// SecretValue is a secret written in the configuration.
func SecretValue(v string) Secret { return Secret{value: func() string { return v }} }

// SecretFile is a secret that is the first line of a file, read at every
// login, so that it may change under a running process.
func SecretFile(path string) Secret { return Secret{file: path} }

// SecretCommand is a secret that is the first line a command prints, run at
// every login: argv without a shell.
func SecretCommand(argv ...string) Secret { return Secret{command: argv} }

// Named returns the secret with another name than "password" in errors: its key
// in the configuration.
func (s Secret) Named(key string) Secret {
	s.name = key
	return s
}

func (s Secret) key() string { return cmp.Or(s.name, "password") }

const (
	secretTime   = 10 * time.Second
	secretOctets = 64 << 10
	secretStderr = 512
)

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.value == nil && s.file == "" && s.command == nil }

// Format prints ***, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "***") }

// MarshalText writes ***.
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Reveal returns the secret. A file must be readable; a command must end well
// within ten seconds. A secret that holds CR, LF or NUL is an error: it cannot
// be sent in any protocol, and could be read as a second command.
func (s Secret) Reveal(ctx context.Context) (string, error) {
	v := ""
	var err error
	switch {
	case s.value != nil:
		v = s.value()
	case s.file != "":
		v, err = s.read()
	case s.command != nil:
		v, err = s.run(ctx)
	}
	if err != nil {
		return "", err
	}
	if v == "" {
		return "", fmt.Errorf("the %s is empty", s.key())
	}
	if strings.ContainsAny(v, "\r\n\x00") {
		return "", fmt.Errorf("the %s holds a line break or a NUL, which no protocol can send", s.key())
	}
	return v, nil
}

func (s Secret) read() (string, error) {
	f, err := os.Open(s.file)
	if err != nil {
		return "", fmt.Errorf("%s_file: %w", s.key(), err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, secretOctets))
	if err != nil {
		return "", fmt.Errorf("%s_file: %w", s.key(), err)
	}
	return firstLine(b), nil
}

func (s Secret) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.command[0], s.command[1:]...)
	out, stderr := &capped{max: secretOctets}, &capped{max: secretStderr}
	cmd.Stdout, cmd.Stderr = out, stderr
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe open
	err := cmd.Run()
	if ctx.Err() == context.DeadlineExceeded {
		return "", fmt.Errorf("%s_command %q did not end within %s", s.key(), s.command[0], secretTime)
	}
	if err != nil {
		return "", fmt.Errorf("%s_command %q: %w; it said: %q", s.key(), s.command[0], err, strings.TrimSpace(stderr.b.String()))
	}
	return firstLine(out.b.Bytes()), nil
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	return strings.TrimSuffix(string(line), "\r")
}

// capped keeps the first max octets and swallows the rest, so that a flooding
// command costs no memory. The buffer is not embedded: io.Copy would find its
// ReadFrom, which knows no limit.
type capped struct {
	b   bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	c.b.Write(p[:min(len(p), max(0, c.max-c.b.Len()))])
	return len(p), nil
}
