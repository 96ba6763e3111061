package config

import (
	"net/url"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/targets/endpoint"
)

func oauthKeys() section[endpoint.OAuth] {
	return section[endpoint.OAuth]{keys: []key[endpoint.OAuth]{
		{
			"client_id", "", "The client that you have registered with the provider; required.",
			func(d *decoder, v value, o *endpoint.OAuth) { o.ClientID = d.text(v) },
		},
		{
			"client_secret", "none", "Its secret, best as ${VARIABLE}, where the provider gave one.",
			func(d *decoder, v value, o *endpoint.OAuth) { o.ClientSecret = d.password(v).Named("client_secret") },
		},
		{
			"client_secret_file", "none", "A file whose first line is the secret.",
			func(d *decoder, v value, o *endpoint.OAuth) {
				o.ClientSecret = endpoint.SecretFile(d.file(v)).Named("client_secret")
			},
		},
		{
			"client_secret_command", "none", "A command whose first line of output is the secret.",
			func(d *decoder, v value, o *endpoint.OAuth) {
				o.ClientSecret = endpoint.SecretCommand(d.argv(v)...).Named("client_secret")
			},
		},
		{
			"token_url", "the provider's", "Where tokens are given out.",
			func(d *decoder, v value, o *endpoint.OAuth) { o.TokenURL = d.url(v) },
		},
		{
			"device_url", "the provider's", "Where a code is given out that signs in on another device.",
			func(d *decoder, v value, o *endpoint.OAuth) { o.DeviceURL = d.url(v) },
		},
		{
			"auth_url", "the provider's", "Where a browser goes to sign in.",
			func(d *decoder, v value, o *endpoint.OAuth) { o.AuthURL = d.url(v) },
		},
		{
			"scopes", "the provider's", "What the sign-in is for, a list.",
			func(d *decoder, v value, o *endpoint.OAuth) {
				for _, e := range d.list(v) {
					if s := d.text(e); s != "" {
						o.Scopes = append(o.Scopes, strings.Fields(s)...)
					}
				}
			},
		},
	}}
}

// url reads an address that tokens may be sent to: nobody may read along.
func (d *decoder) url(v value) string {
	s := d.text(v)
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())) {
		return s
	}
	d.fail(v.Node, "config-url", "%s in %s must be an https:// address", v.key, v.where)
	return ""
}

// oauth reads how to sign in by OAuth.
func (d *decoder) oauth(v value) *endpoint.OAuth {
	o := new(endpoint.OAuth)
	f := oauthKeys().read(d, v.Node, "oauth of "+v.where, o)
	if v.Kind == yaml.MappingNode && !f.has("client_id") {
		d.fail(v.Node, "config-missing-key", "oauth of %s has no client_id", v.where).
			Hint = "Register a client with the provider; popferry has none of its own."
	}
	var first string
	for _, k := range []string{"client_secret", "client_secret_file", "client_secret_command"} {
		switch val, ok := f[k]; {
		case !ok:
		case first == "":
			first = k
		default:
			d.fail(val.Node, "config-conflict", "oauth of %s has both %s and %s", v.where, first, k).Hint = "Keep one of the two."
		}
	}
	return o
}

// finishOAuth fills in what the provider's table has, and demands the rest.
func (d *decoder) finishOAuth(p protocol, n *yaml.Node, where string, f fields, s *endpoint.Server, pr *provider) {
	v, ok := f["oauth"]
	token := s.Auth == "xoauth2" || s.Auth == "oauthbearer"
	if !ok || v.Kind != yaml.MappingNode {
		s.OAuth = nil
		return
	}
	if f.has("auth") && !token && s.Auth != "auto" && s.Auth != "" {
		d.fail(f["auth"].Node, "config-conflict", "auth: %s in %s takes a password, and oauth gives a token", s.Auth, where).
			Hint = "Leave auth out, or write xoauth2 or oauthbearer."
	}
	if f.has("password", "password_file", "password_command") {
		d.fail(v.Node, "config-conflict", "%s has both a password and oauth", where).Hint = "Keep one of the two."
	}
	o := s.OAuth
	if pr != nil && pr.OAuth != nil {
		of := fields{}
		for i := 0; i+1 < len(v.Content); i += 2 {
			of[v.Content[i].Value] = value{}
		}
		if !of.has("token_url") {
			o.TokenURL = pr.OAuth.TokenURL
			if !of.has("device_url") {
				o.DeviceURL = pr.OAuth.DeviceURL
			}
			if !of.has("auth_url") {
				o.AuthURL = pr.OAuth.AuthURL
			}
		}
		if !of.has("scopes") {
			o.Scopes = strings.Fields(pr.OAuth.Scopes[p.name])
		}
	}
	o.Name, o.User = n.Value, s.User
	if o.TokenURL == "" || o.DeviceURL == "" && o.AuthURL == "" {
		if lookup(v.Node, "token_url") == nil || lookup(v.Node, "device_url") == nil && lookup(v.Node, "auth_url") == nil {
			d.fail(v.Node, "config-missing-key", "oauth of %s needs token_url, and device_url or auth_url", where).
				Hint = "For the providers that popferry knows they are filled in: provider: " + strings.Join(providerNames()[:4], ", ") + ", …"
		}
	}
	d.oauths = append(d.oauths, signIn{p.kind, o})
}

// signIn is one that tokens have to be stored for.
type signIn struct {
	kind string // "account" or "target"
	*endpoint.OAuth
}

// KeepTokens says where the tokens of all sign-ins lie: in files of their own in
// a directory. It is to be called before anything logs in.
func (c *Config) KeepTokens(dir string) {
	for _, o := range c.oauths {
		o.File = endpoint.TokenFile(dir, o.kind, o.Name)
	}
}

// SignIns returns the sign-ins of the account or target, or both, of a name; with
// "" of all.
func (c *Config) SignIns(name string) []*endpoint.OAuth {
	var list []*endpoint.OAuth
	for _, o := range c.oauths {
		if name == "" || o.Name == name {
			list = append(list, o.OAuth)
		}
	}
	return list
}
