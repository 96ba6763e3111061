package config

import (
	_ "embed"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"popferry/targets"
	"popferry/targets/endpoint"
)

//go:embed providers.yaml
var providersFile []byte

// provider is what is known of a mail provider.
type provider struct {
	Domains   []string       `yaml:"domains"`
	POP3      string         `yaml:"pop3"` // "host:port", or "host:port starttls"
	IMAP      string         `yaml:"imap"`
	SMTP      string         `yaml:"smtp"`
	Upload    string         `yaml:"upload"`    // the default of rate at its IMAP server
	Passwords string         `yaml:"passwords"` // "no" if it takes none
	Hint      string         `yaml:"hint"`
	OAuth     *providerOAuth `yaml:"oauth"`
}

type providerOAuth struct {
	AuthURL   string            `yaml:"auth_url"`
	TokenURL  string            `yaml:"token_url"`
	DeviceURL string            `yaml:"device_url"`
	Scopes    map[string]string `yaml:"scopes"` // by protocol, with blanks between
}

// providers are those of the built-in table, by name.
var providers = sync.OnceValue(func() map[string]*provider {
	var all map[string]*provider
	if err := yaml.Unmarshal(providersFile, &all); err != nil {
		panic(err) // it is a part of the program
	}
	return all
})

func providerNames() []string { return slices.Sorted(maps.Keys(providers())) }

// place is a server of a provider.
type place struct {
	host string
	port int
	tls  endpoint.TLS
}

// server returns the provider's server for a protocol; ok is false where it has
// none.
func (p *provider) server(protocol string) (place, bool) {
	text := map[string]string{"pop3": p.POP3, "imap": p.IMAP, "smtp": p.SMTP}[protocol]
	addr, how, _ := strings.Cut(text, " ")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return place{}, false
	}
	at := place{host: host, tls: endpoint.Implicit}
	at.port, err = strconv.Atoi(port)
	if how == "starttls" {
		at.tls = endpoint.StartTLS
	}
	return at, err == nil
}

// uploads are the rates that an IMAP account of the provider has; nil is a
// provider that is not known.
func (p *provider) uploads() []targets.Rate {
	if p == nil {
		return nil
	}
	if r, ok := parseRate(p.Upload); ok {
		return []targets.Rate{r}
	}
	return nil
}

// providerOf finds a provider by a server of its, or by the domain of a user
// where no server is named; nil if none is known.
func providerOf(protocol, host, user string) *provider {
	host = hostName(host)
	_, domain, _ := strings.Cut(strings.ToLower(user), "@")
	for _, name := range providerNames() {
		p := providers()[name]
		if host != "" {
			if at, ok := p.server(protocol); ok && at.host == host && (domain == "" || len(p.Domains) == 0 || !known(domain) || slices.Contains(p.Domains, domain)) {
				return p
			}
			continue
		}
		if slices.Contains(p.Domains, domain) {
			return p
		}
	}
	return nil
}

// known reports whether a domain belongs to a provider.
func known(domain string) bool {
	for _, p := range providers() {
		if slices.Contains(p.Domains, domain) {
			return true
		}
	}
	return false
}

// preset fills in what the file leaves out and the provider's table has: host,
// port, TLS, what to say to whom the login is refused, and where to sign in. It
// returns the provider, nil if none is known.
func (d *decoder) preset(p protocol, n *yaml.Node, where string, f fields, s *endpoint.Server) *provider {
	var pr *provider
	if v, ok := f["provider"]; ok {
		pr = providers()[strings.ToLower(v.Value)]
		if pr == nil {
			return nil // reported already
		}
		if _, ok := pr.server(p.name); !ok && !f.has("host") {
			d.fail(v.Node, "config-provider", "provider %s has no %s server that popferry knows", d.show(v.Node), strings.ToUpper(p.name)).
				Hint = "Add:  host: " + p.hosts
		}
	} else {
		pr = providerOf(p.name, s.Host, s.User)
	}
	if pr == nil {
		return nil
	}
	s.LoginHint = pr.Hint
	at, ok := pr.server(p.name)
	if !ok {
		return pr
	}
	if !f.has("host") && (f.has("provider") || f.has("user")) {
		s.Host = at.host
		if !f.has("tls") && !f.has("port") {
			s.TLS, s.Port = at.tls, at.port
		}
	}
	return pr
}
