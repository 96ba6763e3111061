package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"popferry/targets/endpoint"
)

// protocol is what accounts and targets differ in as servers.
type protocol struct {
	name     string // "pop3", "imap", "smtp" or "lmtp"
	kind     string // "account" or "target"
	implicit int    // port
	clear    int    // port, for STARTTLS and for no TLS
	hosts    string // example of a host
	auths    []string
	plain    int  // port for no TLS, where that is another one; else 0
	open     bool // one may come without a login
}

var (
	pop3 = protocol{
		"pop3", "account", 995, 110, "pop.isp.example",
		[]string{"auto", "apop", "scram-sha-256", "scram-sha-1", "cram-md5", "plain", "login", "user", "xoauth2", "oauthbearer"},
		0, false,
	}
	imap4 = protocol{
		"imap", "target", 993, 143, "imap.isp.example",
		[]string{"auto", "scram-sha-256", "scram-sha-1", "cram-md5", "plain", "login", "xoauth2", "oauthbearer"},
		0, false,
	}
	submission = protocol{"smtp", "target", 465, 587, "smtp.isp.example", imap4.auths, 25, true}
	lmtp       = protocol{"lmtp", "target", 24, 24, "mail.home.example", imap4.auths, 24, true}
)

// port is where such servers usually are.
func (p protocol) port(t endpoint.TLS) int {
	switch {
	case t == endpoint.Implicit:
		return p.implicit
	case t == endpoint.Plain && p.plain != 0:
		return p.plain
	}
	return p.clear
}

// serverKeys are the keys that accounts and targets have in common, split into
// those that come first in every list and the others.
func serverKeys[T any](p protocol, of func(*T) *endpoint.Server) (first, rest []key[T]) {
	first = []key[T]{
		{"host", "the provider's", "Name or address of the server.", func(d *decoder, v value, t *T) { of(t).Host = d.host(v) }},
		{
			"port", fmt.Sprintf("%d, or %d with tls: starttls or none", p.implicit, p.clear), "Port of the server.",
			func(d *decoder, v value, t *T) { of(t).Port = d.count(v, 1, 65535) },
		},
		{"user", "", "Name to log in with.", func(d *decoder, v value, t *T) { of(t).User = d.text(v) }},
		{
			"password", "", "The password itself, best as ${VARIABLE}; exactly one of the three must be there.",
			func(d *decoder, v value, t *T) { of(t).Password = d.password(v) },
		},
		{
			"password_file", "", "A file whose first line is the password, read at every login.",
			func(d *decoder, v value, t *T) { of(t).Password = endpoint.SecretFile(d.file(v)) },
		},
		{
			"password_command", "", "A command whose first line of output is the password: a list is run as it is, a string by sh -c.",
			func(d *decoder, v value, t *T) { of(t).Password = endpoint.SecretCommand(d.argv(v)...) },
		},
	}
	rest = append(tlsKeys(of), []key[T]{
		{
			"provider", "guessed from host or user", "A mail provider that popferry knows; it fills in host, port, tls and the addresses for oauth.",
			func(d *decoder, v value, _ *T) { d.provider(v) },
		},
		{
			"auth", "auto", "How to log in: " + strings.Join(p.auths, ", ") + ".",
			func(d *decoder, v value, t *T) { of(t).Auth = d.word(v, p.auths...) },
		},
		{
			"oauth", "none", "Sign in by OAuth, once, with popferry auth login, in place of a password.",
			func(d *decoder, v value, t *T) { of(t).OAuth = d.oauth(v) },
		},
		{
			"proxy", "none", "Connect through a proxy: socks5://HOST:PORT or http://HOST:PORT, perhaps with USER:PASSWORD@.",
			func(d *decoder, v value, t *T) { of(t).Proxy = d.proxy(v) },
		},
		{
			"source_ip", "the system's choice", "Address of this machine to connect from.",
			func(d *decoder, v value, t *T) { of(t).SourceIP = d.sourceIP(v) },
		},
		{
			"timeout", "60s", "How long a server may stand still before it is given up.",
			func(d *decoder, v value, t *T) { of(t).Timeout = d.duration(v, time.Second, time.Hour) },
		},
	}...)
	return first, rest
}

// tlsKeys say how a connection is encrypted, and with whom.
func tlsKeys[T any](of func(*T) *endpoint.Server) []key[T] {
	return []key[T]{
		{
			"tls", "implicit", "implicit (from the first octet), starttls (required, never optional) or none (in clear, must be written out).",
			func(d *decoder, v value, t *T) { of(t).TLS = d.tls(v) },
		},
		{
			"ca_file", "the system's authorities", "PEM file with the only authorities to trust.",
			func(d *decoder, v value, t *T) { of(t).CAFile = d.file(v) },
		},
		{
			"tls_fingerprint", "none", "SHA-256 of the only certificate to accept, as sha256:HEX; replaces the check of its chain and name.",
			func(d *decoder, v value, t *T) { of(t).Fingerprint = d.fingerprint(v) },
		},
		{
			"tls_server_name", "host", "Name that the certificate must have.",
			func(d *decoder, v value, t *T) { of(t).ServerName = d.host(v) },
		},
		{
			"client_cert", "none", "PEM file with a certificate to show the server, where it asks for one.",
			func(d *decoder, v value, t *T) { of(t).ClientCert = d.file(v) },
		},
		{
			"client_key", "none", "PEM file with the key of client_cert.",
			func(d *decoder, v value, t *T) { of(t).ClientKey = d.file(v) },
		},
	}
}

// finishServer fills in defaults and checks what depends on several keys. n is
// the name of the account or target. It returns the provider, nil if none is
// known.
func (d *decoder) finishServer(p protocol, n *yaml.Node, where string, f fields, s *endpoint.Server) (pr *provider) {
	s.Breaker = d.logins
	pr = d.preset(p, n, where, f, s)
	if s.Host == "" && !f.has("host", "provider") {
		d.fail(n, "config-missing-key", "%s has no host", where).Hint = "Add:  host: " + p.hosts
	}
	d.finishOAuth(p, n, where, f, s, pr)
	if p.open && !f.has("user", "password", "password_file", "password_command", "oauth") {
		if v, ok := f["auth"]; ok {
			d.fail(v.Node, "config-conflict", "auth in %s has no effect without user and password", where)
		}
	} else {
		if !f.has("user") {
			d.fail(n, "config-missing-key", "%s has no user", where).Hint = "Add:  user: jane@isp.example"
		}
		if !f.has("oauth") && !d.made {
			d.oneSecret(n, where, "password", passwordHint, f)
		}
	}
	if !f.has("port") && s.Port == 0 {
		s.Port = p.port(s.TLS)
	}
	if !f.has("auth") {
		s.Auth = "auto"
	}
	if !f.has("timeout") {
		s.Timeout = time.Minute
	}
	if s.TLS == endpoint.Plain {
		for _, k := range []string{"ca_file", "tls_fingerprint", "tls_server_name", "client_cert", "client_key"} {
			if v, ok := f[k]; ok {
				d.fail(v.Node, "config-conflict", "%s in %s has no effect with tls: none", k, where)
			}
		}
		if !isLoopback(s.Host) && s.Host != "" {
			w := d.warn(f.or("tls", n), "config-clear-text", "%s sends passwords and mail over the network unencrypted", where)
			if w.Hint = "Use tls: implicit or tls: starttls if the server has it."; d.made {
				w.Hint = "Write " + p.name + "+starttls:// if the server has it."
			}
		}
	}
	if v, ok := f["ca_file"]; ok && f.has("tls_fingerprint") {
		d.fail(v.Node, "config-conflict", "ca_file in %s has no effect beside tls_fingerprint", where).
			Hint = "Keep one of the two."
	}
	for have, need := range map[string]string{"client_cert": "client_key", "client_key": "client_cert"} {
		if v, ok := f[have]; ok && !f.has(need) {
			d.fail(v.Node, "config-missing-key", "%s has %s and no %s", where, have, need)
		}
	}
	switch v := f.or("port", n); {
	case p.implicit == p.clear: // one port for everything
	case s.TLS == endpoint.Implicit && s.Port == p.clear:
		d.warn(v, "config-port", "port %d in %s is for tls: starttls; implicit TLS is on %d", s.Port, where, p.implicit)
	case s.TLS != endpoint.Implicit && s.Port == p.implicit:
		d.warn(v, "config-port", "port %d in %s is for tls: implicit; tls: %s is on %d", s.Port, where, s.TLS, p.clear)
	}
	return pr
}

// passwordHint says how a password can be given.
const passwordHint = "Add one of:  password: ${NAME}   password_file: FILE   password_command: [COMMAND, ARGUMENT]"

// oneSecret demands exactly one of the three ways to give a secret.
func (d *decoder) oneSecret(n *yaml.Node, where, key, hint string, f fields) {
	var first string
	for _, k := range []string{key, key + "_file", key + "_command"} {
		switch v, ok := f[k]; {
		case !ok:
		case first == "":
			first = k
		default:
			d.fail(v.Node, "config-conflict", "%s has both %s and %s", where, first, k).Hint = "Keep one of the two."
		}
	}
	if first == "" {
		d.fail(n, "config-missing-key", "%s has no %s", where, key).Hint = hint
	}
}

// password reads a secret. Nothing of it may come into an error.
func (d *decoder) password(v value) endpoint.Secret {
	s := d.text(v)
	if s == "" {
		return endpoint.Secret{}
	}
	if v.Style == 0 && v.LineComment != "" && !strings.Contains(v.Value, "${") {
		d.warn(v.Node, "config-comment", "password in %s ends before the #; what follows is a comment", v.where).
			Hint = "If the # belongs to it, put the password in quotes."
	}
	if !strings.Contains(v.Value, "${") {
		d.inline = append(d.inline, v)
	}
	return endpoint.SecretValue(s)
}

// provider reads the name of a provider.
func (d *decoder) provider(v value) {
	s, ok := d.scalar(v)
	if ok && providers()[strings.ToLower(s)] == nil {
		e := d.fail(v.Node, "config-provider", "%s in %s is no provider that popferry knows: %s", v.key, v.where, d.show(v.Node))
		e.Suggest = didYouMean(s, providerNames())
		e.Hint = "Known are " + strings.Join(providerNames(), ", ")
	}
}

// proxy reads the address of a proxy, which may hold a password: nothing of it
// comes into an error.
func (d *decoder) proxy(v value) endpoint.Secret {
	s := d.text(v)
	if s == "" {
		return endpoint.Secret{}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "socks5" && u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
		d.fail(v.Node, "config-proxy", "%s in %s must be socks5://HOST:PORT or http://HOST:PORT", v.key, v.where)
		return endpoint.Secret{}
	}
	if u.User != nil && !strings.Contains(v.Value, "${") {
		d.inline = append(d.inline, v)
	}
	return endpoint.SecretValue(s).Named("proxy")
}

// sourceIP reads an address of this machine.
func (d *decoder) sourceIP(v value) string {
	s := d.text(v)
	if s == "" {
		return ""
	}
	if _, err := netip.ParseAddr(s); err != nil {
		d.fail(v.Node, "config-address", "%s in %s must be an address such as 192.0.2.7, not %s", v.key, v.where, d.show(v.Node))
		return ""
	}
	return s
}

// argv reads a command: a list is argv, a string goes through sh -c.
func (d *decoder) argv(v value) []string {
	if v.Kind == yaml.ScalarNode {
		s, ok := d.scalar(v)
		if ok && strings.TrimSpace(s) == "" {
			d.fail(v.Node, "config-no-value", "%s in %s is empty", v.key, v.where)
		}
		return []string{"sh", "-c", s}
	}
	if v.Kind != yaml.SequenceNode || len(v.Content) == 0 {
		e := d.fail(v.Node, "config-wrong-type", "%s in %s must be a command: a string or a list of words", v.key, v.where)
		if strings.HasSuffix(v.key, "_command") {
			e.Hint = "For example:  " + v.key + ": [pass, show, isp]"
		}
		return []string{"false"}
	}
	var argv []string
	for _, e := range d.list(v) {
		s, ok := d.scalar(e)
		if ok && (strings.ContainsRune(s, 0) || s == "" && len(argv) == 0) {
			d.fail(e.Node, "config-no-value", "%s in %s cannot be run", v.key, v.where)
		}
		argv = append(argv, s)
	}
	return argv
}

// tls reads how a connection is encrypted.
func (d *decoder) tls(v value) endpoint.TLS {
	words := []string{endpoint.Implicit.String(), endpoint.StartTLS.String(), endpoint.Plain.String()}
	errs := len(d.errs)
	i := max(0, slices.Index(words, d.word(v, words...)))
	if len(d.errs) > errs && d.errs[errs].Code == "config-word" {
		switch strings.ToLower(v.Value) {
		case "no", "off", "false":
			d.errs[errs].Suggest = "to send everything in clear, write none"
		case "yes", "on", "true":
			d.errs[errs].Suggest = "write implicit or starttls"
		}
	}
	return endpoint.TLS(i)
}

// file reads the name of a file that must exist when it is needed; Check looks.
func (d *decoder) file(v value) string {
	p := d.path(v)
	if p != "" {
		d.files = append(d.files, mentioned{v, p})
	}
	return p
}

// fingerprint reads sha256: and 64 hexadecimal digits; colons between them, as
// openssl prints them, are fine.
func (d *decoder) fingerprint(v value) []byte {
	s := d.text(v)
	if s == "" {
		return nil
	}
	digest, ok := strings.CutPrefix(strings.ToLower(s), "sha256:")
	sum, err := hex.DecodeString(strings.ReplaceAll(digest, ":", ""))
	if !ok || err != nil || len(sum) != 32 {
		d.fail(v.Node, "config-fingerprint", "%s in %s must be sha256: and 64 hexadecimal digits", v.key, v.where).
			Hint = "openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE prints them."
		return nil
	}
	return sum
}

var (
	hostText = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
	hostPort = regexp.MustCompile(`^\[?([^\[\]]+?)\]?:([0-9]+)$`)
)

// host reads the name or address of a server: no URL, no port, no brackets.
func (d *decoder) host(v value) string {
	s := d.text(v)
	if s == "" {
		return ""
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s
	}
	if hostText.MatchString(s) && len(s) <= 253 {
		return s
	}
	e := d.fail(v.Node, "config-host", "%s in %s must be the name of a server, not %s", v.key, v.where, d.show(v.Node))
	switch {
	case strings.Contains(s, "://"):
		e.Hint = "No URL: host holds the name alone; the port goes to port, the user to user."
	case hostPort.MatchString(s):
		e.Hint = "The port goes to a key of its own, port."
	case strings.HasPrefix(s, "["):
		e.Hint = "An IPv6 address is written without brackets, in quotes."
	case strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }):
		e.Hint = "A name with other than ASCII letters is written in its xn-- form."
	case strings.Contains(s, "@"):
		e.Hint = "An address goes to user; host is the server's name, such as " + pop3.hosts
	}
	return ""
}

// isLoopback reports whether host is this machine.
func isLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
