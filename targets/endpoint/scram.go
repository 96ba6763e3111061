package endpoint

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// How often a server may ask the password to be hashed. Fewer rounds than RFC
// 5802 §5.1 allows would help whoever records the login to guess the password;
// too many would keep this machine busy for a server's pleasure.
const (
	scramMinRounds = 4096
	scramMaxRounds = 1 << 20
)

// scram is the client of RFC 5802. The server never sees the password and has
// to prove that it knows it too; with channel binding it also proves that nobody
// else ended the TLS connection in between.
type scram struct {
	mech     string
	hash     func() hash.Hash
	password string
	nonce    string
	gs2      string // gs2-header: "n,,", "y,,", "p=tls-exporter,,"
	bound    []byte // cbind-data
	fallback func() // told that the server does not know this kind of channel binding; may be nil
	first    string // client-first-message-bare
	want     []byte // the signature the server must show
	step     int
	proved   bool
	said     string
	again    bool
}

func newScram(mech, user, password string, l link) *scram {
	s := &scram{
		mech: mech, hash: sha256.New, password: saslPrep(password), nonce: rand.Text(),
		gs2: l.gs2, bound: l.bound, fallback: l.fallback,
	}
	if mech == ScramSHA1 || mech == ScramSHA1Plus {
		s.hash = sha1.New
	}
	s.first = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(saslPrep(user)) + ",r="
	return s
}

func (s *scram) Start() (string, []byte, error) {
	s.first += s.nonce
	return s.mech, []byte(s.gs2 + s.first), nil
}

func (s *scram) Next(challenge []byte) ([]byte, error) {
	s.step++
	if reason, ok := strings.CutPrefix(string(challenge), "e="); ok && s.step <= 2 {
		s.refused(reason)
		return []byte{}, nil
	}
	switch s.step {
	case 1:
		return s.prove(string(challenge))
	case 2:
		return []byte{}, s.check(string(challenge))
	}
	return nil, errChallenge
}

// refused notes a server-error (RFC 5802 §7). The server ends the dialogue after
// it.
func (s *scram) refused(reason string) {
	reason, _, _ = strings.Cut(reason, ",")
	s.said, s.step = reason, 2
	if reason == "unsupported-channel-binding-type" && s.fallback != nil {
		s.again = true
		s.fallback()
	}
}

func (s *scram) Said() string { return s.said }
func (s *scram) Again() bool  { return s.again }

func (s *scram) Done() error {
	if !s.proved {
		return fmt.Errorf("%s: the server let us in without proving that it knows the password", s.mech)
	}
	return nil
}

// prove answers the server-first-message.
func (s *scram) prove(serverFirst string) ([]byte, error) {
	// The order is fixed, and an "m=" before it is an extension that must be
	// understood (RFC 5802 §5.1).
	f := strings.SplitN(serverFirst, ",", 4)
	if len(f) < 3 || !strings.HasPrefix(f[0], "r=") || !strings.HasPrefix(f[1], "s=") || !strings.HasPrefix(f[2], "i=") {
		return nil, fmt.Errorf("%s: the server's first message is malformed", s.mech)
	}
	nonce := f[0][2:]
	if !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce) {
		return nil, fmt.Errorf("%s: the server's nonce is not made from ours", s.mech)
	}
	salt, err := base64.StdEncoding.DecodeString(f[1][2:])
	if err != nil || len(salt) == 0 {
		return nil, fmt.Errorf("%s: the server's salt is malformed", s.mech)
	}
	rounds, err := strconv.Atoi(f[2][2:])
	if err != nil || rounds < scramMinRounds || rounds > scramMaxRounds {
		return nil, fmt.Errorf("%s: the server asks for %s rounds, allowed are %d to %d", s.mech, Printable(f[2][2:], 20), scramMinRounds, scramMaxRounds)
	}
	salted, err := pbkdf2.Key(s.hash, s.password, salt, rounds, s.hash().Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.mech, err)
	}
	final := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.gs2), s.bound...)) + ",r=" + nonce
	signed := s.first + "," + serverFirst + "," + final

	clientKey := s.mac(salted, "Client Key")
	stored := s.hash()
	stored.Write(clientKey)
	proof := s.mac(stored.Sum(nil), signed)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.want = s.mac(s.mac(salted, "Server Key"), signed)
	return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// check looks at the server-final-message.
func (s *scram) check(serverFinal string) error {
	attr, _, _ := strings.Cut(serverFinal, ",")
	v, ok := strings.CutPrefix(attr, "v=")
	got, err := base64.StdEncoding.DecodeString(v)
	if !ok || err != nil {
		return fmt.Errorf("%s: the server's last message is malformed", s.mech)
	}
	if !hmac.Equal(got, s.want) {
		return errors.New(s.mech + ": the server does not know the password; something else may be answering in its place")
	}
	s.proved = true
	return nil
}

func (s *scram) mac(key []byte, text string) []byte {
	m := hmac.New(s.hash, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// saslPrep maps and normalises as RFC 4013 §2.1 and §2.2 say, so that a password
// typed on another keyboard hashes alike. What §2.3 prohibits is left to the
// server to refuse.
func saslPrep(s string) string {
	return norm.NFKC.String(strings.Map(func(r rune) rune {
		switch {
		case r == 0x00A0, r == 0x1680, r >= 0x2000 && r <= 0x200B, r == 0x202F, r == 0x205F, r == 0x3000:
			return ' ' // RFC 3454 table C.1.2
		case r == 0x00AD, r == 0x034F, r == 0x1806, r >= 0x180B && r <= 0x180D, r == 0x200C, r == 0x200D,
			r == 0x2060, r >= 0xFE00 && r <= 0xFE0F, r == 0xFEFF:
			return -1 // table B.1
		}
		return r
	}, s))
}
