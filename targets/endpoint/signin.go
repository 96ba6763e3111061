package endpoint

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// Device signs in with a code that a person enters on any device (RFC 8628).
// show is told where and which. Errors are *Error, or ctx's.
func (o *OAuth) Device(ctx context.Context, show func(uri, code string)) error {
	conf, err := o.config(ctx)
	if err != nil {
		return err
	}
	octx := o.context(ctx)
	da, err := conf.DeviceAuth(octx)
	if err != nil {
		return o.tokenError(err)
	}
	show(Printable(da.VerificationURI, 300), Printable(da.UserCode, 100))
	got, err := conf.DeviceAccessToken(octx, da)
	switch {
	case err == nil:
		return o.signedIn(got)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return o.error(CodeSignIn, "nobody entered the code in time", nil)
	}
	e := o.tokenError(err)
	if e.Code == CodeSignInExpired {
		e.Code, e.Text = CodeSignIn, strings.Replace(e.Text, "the provider has ended the sign-in", "the provider did not let you in", 1)
	}
	return e
}

// signedIn stores the tokens of a sign-in.
func (o *OAuth) signedIn(got *oauth2.Token) error {
	if got.RefreshToken == "" {
		return o.error(CodeSignInClient, "the provider gave a token that cannot be renewed", nil)
	}
	t := &tokens{User: o.User, ClientID: o.ClientID, TokenURL: o.TokenURL, SignedIn: o.now()}
	o.take(t, got)
	return o.save(t)
}

// Browser signs in with a browser (RFC 8252): it shows the address to open, and
// waits for the browser to come back to this machine, or for what a person
// copies from the browser's address bar, where that runs on another. Each
// pasted text that is not that address is told to wrong; pasted may be nil.
func (o *OAuth) Browser(ctx context.Context, show func(address string), pasted <-chan string, wrong func(error)) error {
	conf, err := o.config(ctx)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return o.error(CodeSignIn, "cannot listen for the browser: "+err.Error(), err)
	}
	conf.RedirectURL = "http://" + ln.Addr().String() + "/"
	w := &visit{state: rand.Text(), answers: make(chan answer, 1)}
	server := &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(ln) })
	defer wg.Wait()
	defer server.Close()

	verifier := oauth2.GenerateVerifier()
	show(conf.AuthCodeURL(w.state, oauth2.AccessTypeOffline, oauth2.ApprovalForce,
		oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("login_hint", o.User)))
	for {
		select {
		case a := <-w.answers:
			return o.exchange(ctx, conf, a, verifier)
		case text, ok := <-pasted:
			if !ok {
				pasted = nil // the browser may still come
				continue
			}
			a, err := w.pasted(text)
			if err != nil {
				wrong(err)
				continue
			}
			return o.exchange(ctx, conf, a, verifier)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *OAuth) exchange(ctx context.Context, conf *oauth2.Config, a answer, verifier string) error {
	if a.code == "" {
		return o.error(CodeSignIn, "the provider did not let you in: "+Printable(a.refusal, maxWords), nil)
	}
	got, err := conf.Exchange(o.context(ctx), a.code, oauth2.VerifierOption(verifier))
	if err != nil {
		e := o.tokenError(err)
		if e.Code == CodeSignInExpired {
			e.Code, e.Text = CodeSignIn, strings.Replace(e.Text, "the provider has ended the sign-in", "the provider does not accept the code", 1)
		}
		return e
	}
	return o.signedIn(got)
}

// answer is what a browser brings back: a code, or why there is none.
type answer struct{ code, refusal string }

// visit waits for a browser to come with an answer.
type visit struct {
	state   string // what only the page that we asked for knows
	answers chan answer
}

func (v *visit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := v.answer(r.URL.Query())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.URL.Path != "/" || err != nil {
		http.Error(w, "This is not the page that popferry waits for.", http.StatusNotFound)
		return
	}
	text := "Done. You can close this page and go back to popferry.\n"
	if a.code == "" {
		text = "The provider did not let you in. See what popferry says.\n"
	}
	_, _ = w.Write([]byte(text))
	select {
	case v.answers <- a:
	default: // the browser asks twice
	}
}

// answer takes what the provider added to the address (RFC 6749 §4.1.2). Without
// our state it was not us who asked.
func (v *visit) answer(q url.Values) (answer, error) {
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(v.state)) != 1 {
		return answer{}, errors.New("it belongs to another sign-in")
	}
	a := answer{code: q.Get("code"), refusal: strings.TrimSpace(q.Get("error") + " " + q.Get("error_description"))}
	if a.code == "" && a.refusal == "" {
		return answer{}, errors.New("there is no code in it")
	}
	return a, nil
}

// pasted reads the whole address that a person has copied.
func (v *visit) pasted(text string) (answer, error) {
	text = strings.TrimSpace(text)
	u, err := url.Parse(text)
	if err != nil || u.RawQuery == "" {
		return answer{}, fmt.Errorf("that is no address with a code in it; copy all of what the address bar shows (http://127.0.0.1…)")
	}
	return v.answer(u.Query())
}
