package endpoint

import (
	"errors"
	"fmt"
	"strings"
)

// bearer is a login by an OAuth 2.0 access token: XOAUTH2 as Google and
// Microsoft describe it, or OAUTHBEARER (RFC 7628). A server that refuses says
// why in a challenge, which wants an answer before the refusal itself comes.
type bearer struct {
	mech     string
	response []byte
	sorry    []byte // the answer to a refusal: nothing, or in OAUTHBEARER one ^A (RFC 7628 §3.2.3)
	repeated bool
	said     string
}

func newBearer(mech, user, token string, l link) (Exchange, error) {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.Contains(user, "\x01") {
		return nil, errors.New("the access token holds what no token may (RFC 6750 §2.1)")
	}
	b := &bearer{mech: mech, sorry: []byte{}}
	if mech == XOAuth2 {
		b.response = []byte("user=" + user + "\x01auth=Bearer " + token + "\x01\x01")
		return b, nil
	}
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
	b.response = fmt.Appendf(nil, "n,a=%s,\x01host=%s\x01port=%d\x01auth=Bearer %s\x01\x01", name, l.host, l.port, token)
	b.sorry = []byte{1}
	return b, nil
}

func (b *bearer) Start() (string, []byte, error) { return b.mech, b.response, nil }

// Next answers a server that asks for the token, or tells why it does not like
// it.
func (b *bearer) Next(challenge []byte) ([]byte, error) {
	switch {
	case b.said != "":
		return nil, errChallenge
	case len(challenge) > 0:
		b.said = string(challenge)
		return b.sorry, nil
	case b.repeated:
		return nil, errChallenge
	}
	b.repeated = true
	return b.response, nil
}

func (b *bearer) Done() error {
	if b.said != "" {
		return fmt.Errorf("%s: the server refuses the token, and lets us in: %s", b.mech, Printable(b.said, maxWords))
	}
	return nil
}

func (b *bearer) Said() string { return b.said }
func (b *bearer) Again() bool  { return false }
