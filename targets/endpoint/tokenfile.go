package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// tokens is the file that a sign-in leaves. Its fields are secrets: it is never
// printed.
type tokens struct {
	User     string    `json:"user"`
	ClientID string    `json:"client_id"`
	TokenURL string    `json:"token_url"`
	Access   string    `json:"access_token"`
	Refresh  string    `json:"refresh_token"`
	Expiry   time.Time `json:"expiry"`
	Got      time.Time `json:"got"`       // the access token
	SignedIn time.Time `json:"signed_in"` // by a person
	Ends     time.Time `json:"ends"`      // when the sign-in ends whatever is done; zero if it does not
	Dead     string    `json:"dead"`      // why the provider has ended the sign-in; "" if it has not
}

const maxTokenFile = 256 << 10

// load returns the tokens, from memory where they are known and alive.
func (o *OAuth) load() (*tokens, error) {
	o.mu.Lock()
	t := o.tokens
	o.mu.Unlock()
	if t != nil && t.Dead == "" {
		return t, nil
	}
	return o.reload() // somebody may have signed in meanwhile
}

// reload reads the file. One that is of another user or client is of no use.
func (o *OAuth) reload() (*tokens, error) {
	b, err := readPrivate(o.File)
	if errors.Is(err, fs.ErrNotExist) {
		o.keep(nil)
		return nil, o.error(CodeSignIn, fmt.Sprintf("nobody has signed in as %s yet", Printable(o.User, 100)), nil)
	}
	if err != nil {
		return nil, o.error(CodeSignIn, "the stored sign-in cannot be read: "+err.Error(), err)
	}
	t := new(tokens)
	if json.Unmarshal(b, t) != nil { // its error may quote a token
		return nil, o.error(CodeSignIn, "the stored sign-in is damaged: "+o.File, nil)
	}
	if t.User != o.User || t.ClientID != o.ClientID || t.TokenURL != o.TokenURL {
		return nil, o.error(CodeSignIn, "the stored sign-in is for another user or client", nil)
	}
	o.keep(t)
	if t.Dead != "" {
		return nil, o.error(CodeSignInExpired, t.Dead, nil)
	}
	return t, nil
}

func (o *OAuth) keep(t *tokens) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens = t
}

func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxTokenFile {
		return nil, fmt.Errorf("%s is larger than any token", path)
	}
	return os.ReadFile(path)
}

// save puts t on disk, for us alone, and only then into use: it is written
// beside the file, which is replaced when it is whole.
func (o *OAuth) save(t *tokens) error {
	if err := o.write(t); err != nil {
		return o.error("token-file", "the sign-in cannot be stored: "+err.Error(), err)
	}
	o.keep(t)
	return nil
}

func (o *OAuth) write(t *tokens) (err error) {
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(o.File)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".token-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, werr := f.Write(append(b, '\n'))
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), o.File); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SignIn is what is known of a sign-in without asking anybody.
type SignIn struct {
	Since  time.Time // when the person signed in; zero if nobody has
	Expiry time.Time // of the access token, which renews itself
	Ends   time.Time // of the sign-in, as the provider announced; zero if it did not
	Err    error     // why it is of no use; nil if it is
}

// Status returns what is stored.
func (o *OAuth) Status() SignIn {
	t, err := o.reload()
	s := SignIn{Err: err}
	if t == nil {
		o.mu.Lock()
		t = o.tokens // a dead one
		o.mu.Unlock()
	}
	if t != nil {
		s.Since, s.Expiry, s.Ends = t.SignedIn, t.Expiry, t.Ends
	}
	return s
}

// Logout forgets the sign-in. It reports whether there was one.
func (o *OAuth) Logout() (bool, error) {
	o.keep(nil)
	err := os.Remove(o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// since tells one sign-in from the next, for the Breaker: access tokens change
// all the time.
func (o *OAuth) since() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tokens == nil {
		return ""
	}
	return o.tokens.SignedIn.UTC().Format(time.RFC3339Nano)
}
