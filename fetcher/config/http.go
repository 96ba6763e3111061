package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/targets/endpoint"
)

// HTTP is where the status page is, and for whom. It is off if Listen is "".
type HTTP struct {
	Listen       string          // host:port; the host is "" for all addresses
	User         string          // of basic auth; "" if anybody may look
	Password     endpoint.Secret // of User
	ShowSubjects bool            // of held messages
}

func httpKeys() section[HTTP] {
	return section[HTTP]{keys: []key[HTTP]{
		{
			"listen", "", "Address and port: 127.0.0.1:8093 for this machine only, 0.0.0.0:8093 for all networks.",
			func(d *decoder, v value, h *HTTP) { h.Listen = d.listen(v) },
		},
		{
			"basic_auth", "none", "Who may look; without it only this machine can, so another address needs it.",
			func(d *decoder, v value, h *HTTP) { d.basicAuth(v, h) },
		},
		{
			"show_subjects", "no", "yes shows the subjects of messages that were held since the start.",
			func(d *decoder, v value, h *HTTP) { h.ShowSubjects = d.yes(v) },
		},
	}}
}

func basicAuthKeys() section[HTTP] {
	return section[HTTP]{keys: []key[HTTP]{
		{"user", "", "Name to log in with.", func(d *decoder, v value, h *HTTP) {
			if h.User = d.text(v); strings.Contains(h.User, ":") {
				d.fail(v.Node, "config-name", "user in %s cannot have a colon, which ends the name (RFC 7617)", v.where)
			}
		}},
		{
			"password", "", "The password itself, best as ${VARIABLE}; or password_file: FILE, or password_command: COMMAND.",
			func(d *decoder, v value, h *HTTP) { h.Password = d.password(v) },
		},
		{
			"password_file", "", "A file whose first line is the password, read at start.",
			func(d *decoder, v value, h *HTTP) { h.Password = endpoint.SecretFile(d.file(v)) },
		},
		{
			"password_command", "", "A command whose first line of output is the password: a list is run as it is, a string by sh -c.",
			func(d *decoder, v value, h *HTTP) { h.Password = endpoint.SecretCommand(d.argv(v)...) },
		},
	}}
}

// http reads the section http. k is its name.
func (d *decoder) http(v value, h *HTTP) {
	f := httpKeys().read(d, v.Node, "http", h)
	if v.Kind != yaml.MappingNode {
		return
	}
	if !f.has("listen") {
		d.fail(v.Node, "config-missing-key", "http has no listen").Hint = "Add:  listen: 127.0.0.1:8093"
	}
	if h.Listen != "" && !f.has("basic_auth") && !Local(h.Listen) {
		e := d.fail(f["listen"].Node, "config-http-public", "everybody who reaches %s could read the status page", d.show(f["listen"].Node))
		e.Hint = "Add:  basic_auth: { user: NAME, password_file: FILE }\nor let only this machine in:  listen: 127.0.0.1:" + portOf(h.Listen)
	}
}

func (d *decoder) basicAuth(v value, h *HTTP) {
	const where = "basic_auth"
	f := basicAuthKeys().read(d, v.Node, where, h)
	if v.Kind != yaml.MappingNode {
		return
	}
	if !f.has("user") {
		d.fail(v.Node, "config-missing-key", "%s has no user", where).Hint = "Add:  user: NAME"
	}
	d.oneSecret(v.Node, where, "password", passwordHint, f)
}

// listen reads an address to listen on.
func (d *decoder) listen(v value) string {
	s := d.text(v)
	if s == "" {
		return ""
	}
	addr, err := ParseListen(s)
	if err == nil {
		return addr
	}
	e := d.fail(v.Node, "config-listen", "listen in %s must be an address and a port, not %s", v.where, d.show(v.Node))
	e.Hint = err.Error()
	if s != v.Value {
		return "" // nothing of what a variable holds is shown
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 1<<16 {
		e.Suggest = fmt.Sprintf(`did you mean "127.0.0.1:%d"?`, n)
	} else if _, err := netip.ParseAddr(s); err == nil {
		e.Suggest = fmt.Sprintf("a port is missing: %q", net.JoinHostPort(s, "8093"))
	}
	return ""
}

// ParseListen checks an address to listen on: a host name or an address, or
// nothing for all addresses, a colon, and a port, 0 standing for any that is
// free. It returns it in its normal form; the error says what is expected.
func ParseListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	_, aerr := netip.ParseAddr(host)
	if err != nil || perr != nil || host != "" && aerr != nil && (!hostText.MatchString(host) || len(host) > 253) {
		return "", errListen
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// errListen is a hint, so it is a whole sentence.
var errListen = errors.New("Write 127.0.0.1:8093 for this machine only, or 0.0.0.0:8093 for all networks.")

// Local reports whether only this machine reaches an address to listen on.
func Local(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && isLoopback(host)
}

func portOf(listen string) string {
	_, port, _ := net.SplitHostPort(listen)
	return port
}
