package maildroptest

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
)

func (e *session) mechanisms() []string {
	if e.s.SASL != nil {
		return e.s.SASL
	}
	return DefaultSASL
}

// authorize is the AUTHORIZATION state of RFC 1939 §4.
func (e *session) authorize(verb, arg string, w io.Writer) bool {
	switch verb {
	case "STLS":
		if e.s.TLS != STLS || e.secure {
			no(w, "not now")
			return true
		}
		ok(w, "begin TLS")
		if e.bw.Flush() != nil {
			return false
		}
		e.handshake()
		e.br.Reset(arrivals{e}) // nothing sent in clear counts
		e.bw.Reset(e.nc)
	case "USER":
		e.user = arg
		ok(w, "and the password?")
	case "PASS":
		want, known := e.s.password(e.user)
		e.enter(w, e.user, known && want == arg)
	case "APOP":
		user, digest, _ := strings.Cut(arg, " ")
		want, known := e.s.password(user)
		sum := md5.Sum([]byte(e.timestamp + want))
		e.enter(w, user, known && digest == hex.EncodeToString(sum[:]))
	case "AUTH":
		return e.auth(arg, w)
	default:
		no(w, "log in first")
	}
	return true
}

// enter opens the maildrop of a user who has proved who he is.
func (e *session) enter(w io.Writer, user string, proved bool) {
	if !proved {
		no(w, "[AUTH] authentication failed")
		return
	}
	messages, err := e.s.open(user)
	if err != nil {
		no(w, "%v", err)
		return
	}
	e.user, e.messages, e.in, e.deleted = user, messages, true, make([]bool, len(messages))
	ok(w, "%d messages", len(messages))
}

var (
	errSASL   = errors.New("authentication failed")
	errBase64 = errors.New("not base64")
)

// auth does RFC 5034. The session ends if the client does.
func (e *session) auth(arg string, w io.Writer) bool {
	mech, initial, has := strings.Cut(arg, " ")
	mech = strings.ToUpper(mech)
	if !slices.Contains(e.mechanisms(), mech) {
		no(w, "no such mechanism")
		return true
	}
	gone := false
	ask := func(challenge string) (string, error) {
		line := initial
		if challenge == "" && has {
			has = false
		} else {
			fmt.Fprintf(w, "+ %s\r\n", base64.StdEncoding.EncodeToString([]byte(challenge)))
			var err error
			if line, err = e.line(); err != nil {
				gone = true
				return "", err
			}
			e.s.note(e.n, "***")
		}
		answer, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return "", errBase64
		}
		return string(answer), nil
	}
	user, err := e.prove(mech, ask)
	if gone {
		return false
	}
	e.enter(w, user, err == nil)
	return true
}

// prove runs the server's side of a mechanism and returns who it was.
func (e *session) prove(mech string, ask func(string) (string, error)) (string, error) {
	switch mech {
	case "PLAIN":
		answer, err := ask("")
		f := strings.Split(answer, "\x00")
		if err != nil || len(f) != 3 {
			return "", errSASL
		}
		return e.compare(f[1], f[2])
	case "LOGIN":
		user, err := ask("Username:")
		if err != nil {
			return "", err
		}
		password, err := ask("Password:")
		if err != nil {
			return "", err
		}
		return e.compare(user, password)
	case "CRAM-MD5":
		answer, err := ask(e.timestamp)
		user, digest, _ := strings.Cut(answer, " ")
		want, known := e.s.password(user)
		mac := hmac.New(md5.New, []byte(want))
		mac.Write([]byte(e.timestamp))
		if err != nil || !known || digest != hex.EncodeToString(mac.Sum(nil)) {
			return "", errSASL
		}
		return user, nil
	case "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS":
		return e.scram(mech, sha1.New, ask)
	case "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS":
		return e.scram(mech, sha256.New, ask)
	case "XOAUTH2", "OAUTHBEARER":
		return e.bearer(ask)
	}
	return "", errSASL
}

// bearer is the server of XOAUTH2 and of RFC 7628. A token that is not good is
// told so in a challenge.
func (e *session) bearer(ask func(string) (string, error)) (string, error) {
	answer, err := ask("")
	if err != nil {
		return "", err
	}
	var user, token string
	for f := range strings.FieldsFuncSeq(answer, func(r rune) bool { return r == 1 }) {
		if rest, ok := strings.CutPrefix(f, "user="); ok {
			user = rest
		} else if _, rest, ok := strings.Cut(f, "n,a="); ok {
			user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(strings.TrimSuffix(rest, ","))
		} else if rest, ok := strings.CutPrefix(f, "auth=Bearer "); ok {
			token = rest
		}
	}
	if e.s.Token == nil || !e.s.Token(user, token) {
		_, _ = ask(`{"status":"invalid_token","schemes":"bearer","scope":"mail"}`)
		return "", errSASL
	}
	return user, nil
}

func (e *session) compare(user, password string) (string, error) {
	if want, known := e.s.password(user); !known || want != password {
		return "", errSASL
	}
	return user, nil
}

// binding is what this end knows of the TLS connection, by kind.
func (e *session) binding(kind string) ([]byte, bool) {
	tc, ok := e.nc.(*tls.Conn)
	if !ok || !slices.Contains(e.s.Bindings, kind) {
		return nil, false
	}
	state := tc.ConnectionState()
	switch kind {
	case "tls-exporter":
		data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
		return data, err == nil
	case "tls-unique":
		return state.TLSUnique, state.TLSUnique != nil
	case "tls-server-end-point":
		sum := sha256.Sum256(e.s.cert.Certificate[0])
		return sum[:], true
	}
	return nil, false
}

// scram is the server of RFC 5802.
func (e *session) scram(mech string, h func() hash.Hash, ask func(string) (string, error)) (string, error) {
	first, err := ask("")
	flag, rest, ok := strings.Cut(first, ",,")
	var bound []byte
	switch kind, plus := strings.CutPrefix(flag, "p="); {
	case plus != strings.HasSuffix(mech, "-PLUS"), !plus && flag != "n" && flag != "y":
		ok = false
	case flag == "y" && slices.Contains(e.mechanisms(), mech+"-PLUS"):
		_, _ = ask("e=server-does-support-channel-binding")
		return "", errSASL
	case plus:
		if bound, ok = e.binding(kind); !ok {
			_, _ = ask("e=unsupported-channel-binding-type")
			return "", errSASL
		}
	}
	bare := rest
	name, nonce, hasNonce := strings.Cut(bare, ",r=")
	user := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(strings.TrimPrefix(name, "n="))
	password, known := e.s.password(user)
	if err != nil || !ok || !hasNonce || !known {
		return "", errSASL
	}
	nonce += rand.Text()
	salt := []byte("0123456789abcdef")
	serverFirst := fmt.Sprintf("r=%s,s=%s,i=4096", nonce, base64.StdEncoding.EncodeToString(salt))
	final, err := ask(serverFirst)
	if err != nil {
		return "", err
	}
	without, proof64, _ := strings.Cut(final, ",p=")
	proof, err := base64.StdEncoding.DecodeString(proof64)
	channel := base64.StdEncoding.EncodeToString(append([]byte(flag+",,"), bound...))
	if err != nil || without != "c="+channel+",r="+nonce {
		return "", errSASL
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(h, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	salted, err := pbkdf2.Key(h, password, salt, 4096, h().Size())
	if err != nil {
		return "", err
	}
	signed := bare + "," + serverFirst + "," + without
	key := mac(salted, "Client Key")
	stored := h()
	stored.Write(key)
	signature := mac(stored.Sum(nil), signed)
	for i := range signature {
		signature[i] ^= key[i]
	}
	if !hmac.Equal(signature, proof) {
		return "", errSASL
	}
	_, err = ask("v=" + base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), signed)))
	return user, err
}
