package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// OAuth is a sign-in by OAuth 2.0 (RFC 6749), which a person does once, and
// which gives access tokens to log in with from then on. Fill it in before it is
// used; it is safe for concurrent use.
//
// Tokens lie in a file of their own, because configurations may be read-only.
// A new refresh token is on disk before anything is done with the access token
// that came with it: of some providers the old one is dead by then.
type OAuth struct {
	Name         string // of the account or target: "popferry auth login NAME"
	User         string // whom to sign in
	ClientID     string
	ClientSecret Secret // the zero Secret for a public client
	AuthURL      string // for a browser
	TokenURL     string
	DeviceURL    string // for a code (RFC 8628); "" where there is none for mail
	Scopes       []string
	File         string           // where the tokens lie; its directory is made
	Now          func() time.Time // nil is time.Now

	flight singleflight.Group
	mu     sync.Mutex
	tokens *tokens // as last read or written
	bad    string  // an access token that the server refused
	client *http.Client
}

const (
	refreshAhead = 5 * time.Minute  // of expiry
	refreshTime  = 30 * time.Second // for the answer of the token endpoint
	refusalGrace = time.Minute      // a token that young and refused is not refused for its age
)

// The codes of sign-ins that do not give a token.
const (
	CodeSignIn        = "sign-in-needed"    // nobody has signed in, or not for this
	CodeSignInExpired = "sign-in-expired"   // the provider has ended it
	CodeSignInDown    = "token-unavailable" // the token endpoint does not answer now
	CodeSignInClient  = "oauth-client"      // the provider does not accept the client
)

func (o *OAuth) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Token returns an access token that is good for some minutes at least, a new
// one where that is needed: many callers at once ask the provider once. Errors
// are *Error, stage "auth". A sign-in that the provider has ended is not asked
// for again by anybody.
func (o *OAuth) Token(ctx context.Context) (string, error) {
	t, err := o.load()
	if err != nil {
		return "", err
	}
	if o.fresh(t) {
		return t.Access, nil
	}
	done := o.flight.DoChan("", func() (any, error) {
		// Not under the context of whoever came first: the others wait as well.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTime)
		defer cancel()
		return o.refresh(ctx)
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// fresh reports whether t's access token can be used as it is.
func (o *OAuth) fresh(t *tokens) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return t.Access != "" && t.Access != o.bad && o.now().Add(refreshAhead).Before(t.Expiry)
}

// Refused tells that the server did not take the access token, and reports
// whether another one may help.
func (o *OAuth) Refused(token string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tokens == nil || o.tokens.Access != token || o.now().Before(o.tokens.Got.Add(refusalGrace)) {
		return o.tokens != nil && o.tokens.Access != token // there is another one already
	}
	o.bad = token
	return true
}

// refresh gets a new access token (RFC 6749 §6).
func (o *OAuth) refresh(ctx context.Context) (string, error) {
	old, err := o.reload() // another process may have been faster
	if err != nil {
		return "", err
	}
	if o.fresh(old) {
		return old.Access, nil
	}
	if old.Refresh == "" {
		return "", o.error(CodeSignInExpired, "the sign-in has ended, and it cannot be renewed without you", nil)
	}
	conf, err := o.config(ctx)
	if err != nil {
		return "", err
	}
	got, err := conf.TokenSource(o.context(ctx), &oauth2.Token{RefreshToken: old.Refresh}).Token()
	if err != nil {
		return o.unrefreshed(ctx, old, err)
	}
	t := *old
	o.take(&t, got)
	if err := o.save(&t); err != nil {
		return "", err
	}
	return t.Access, nil
}

// unrefreshed judges why there is no new token.
func (o *OAuth) unrefreshed(ctx context.Context, old *tokens, err error) (string, error) {
	e := o.tokenError(err)
	switch {
	case e.Code == CodeSignInExpired:
		// Of two processes that use a refresh token at the same time one is told
		// that it is dead; the other has written the next one.
		if now, rerr := o.reload(); rerr == nil && now.Refresh != old.Refresh && o.fresh(now) {
			return now.Access, nil
		}
		t := *old
		t.Dead = e.Text
		if err := o.save(&t); err != nil {
			return "", err
		}
	case e.Code == CodeSignInDown && old.Access != "" && o.now().Before(old.Expiry) && !o.isBad(old.Access):
		return old.Access, nil // it was to be renewed ahead of time only
	}
	return "", e
}

func (o *OAuth) isBad(token string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return token == o.bad
}

// take puts what a token endpoint answered into t.
func (o *OAuth) take(t *tokens, got *oauth2.Token) {
	t.Access, t.Expiry, t.Got, t.Dead = got.AccessToken, got.Expiry, o.now(), ""
	if t.Expiry.IsZero() {
		t.Expiry = t.Got.Add(time.Hour) // RFC 6749 §5.1 only recommends expires_in
	}
	if got.RefreshToken != "" {
		t.Refresh = got.RefreshToken
	}
	if left, ok := got.Extra("refresh_token_expires_in").(float64); ok && left > 0 {
		t.Ends = t.Got.Add(time.Duration(left) * time.Second) // Google, of clients in "Testing"
	}
}

// config is the client as x/oauth2 wants it.
func (o *OAuth) config(ctx context.Context) (*oauth2.Config, error) {
	c := &oauth2.Config{
		ClientID: o.ClientID, Scopes: o.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: o.AuthURL, TokenURL: o.TokenURL, DeviceAuthURL: o.DeviceURL, AuthStyle: oauth2.AuthStyleInParams},
	}
	if o.ClientSecret.IsZero() {
		return c, nil
	}
	secret, err := o.ClientSecret.Reveal(ctx)
	if err != nil {
		return nil, &Error{Stage: "auth", Code: "password-unavailable", Addr: o.TokenURL, Text: err.Error(), Err: err}
	}
	c.ClientSecret = secret
	return c, nil
}

// context carries the client for requests to the provider: it follows nobody
// elsewhere, for tokens would go along.
func (o *OAuth) context(ctx context.Context) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableKeepAlives = true // a request an hour
		o.client = &http.Client{
			Transport: transport, Timeout: refreshTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return context.WithValue(ctx, oauth2.HTTPClient, o.client)
}

// error is one that says how to sign in again, if that is what is needed.
func (o *OAuth) error(code, text string, err error) *Error {
	e := &Error{Stage: "auth", Code: code, Addr: o.Name, User: o.User, Text: text, Err: err}
	switch code {
	case CodeSignIn, CodeSignInExpired:
		e.Hint = "Sign in:  popferry auth login " + o.Name
	case CodeSignInDown:
		e.Hint = "That is trouble at the provider, or on the way there; the next pass tries again."
	case CodeSignInClient:
		e.Hint = "Check client_id, client_secret and scopes below oauth:, and what the provider has on record for them."
	}
	return e
}

// tokenError puts an answer of the token endpoint into words. It never shows
// what was sent there.
func (o *OAuth) tokenError(err error) *Error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		text := "the token endpoint cannot be reached: " + Printable(reason(err), maxWords)
		if IsTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
			text = fmt.Sprintf("the token endpoint does not answer within %s", refreshTime)
		}
		return o.error(CodeSignInDown, text, nil)
	}
	words := strings.TrimSpace(refused.ErrorCode + " " + firstSentence(refused.ErrorDescription))
	if words == "" && refused.Response != nil {
		words = refused.Response.Status
	}
	words = Printable(o.mask(words), maxWords)
	switch refused.ErrorCode {
	case "invalid_grant", "interaction_required", "consent_required", "login_required", "expired_token", "access_denied":
		return o.error(CodeSignInExpired, "the provider has ended the sign-in: "+words, nil)
	case "invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request":
		return o.error(CodeSignInClient, "the provider does not accept this client: "+words, nil)
	}
	return o.error(CodeSignInDown, "the provider gives no token now: "+words, nil)
}

// mask takes out of a provider's words what was sent to it.
func (o *OAuth) mask(text string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tokens != nil {
		for _, s := range []string{o.tokens.Refresh, o.tokens.Access} {
			if s != "" {
				text = strings.ReplaceAll(text, s, "***")
			}
		}
	}
	return text
}

// firstSentence leaves out the trace and correlation ids that Microsoft adds.
func firstSentence(s string) string {
	s, _, _ = strings.Cut(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	s, _, _ = strings.Cut(s, " Trace ID:")
	return s
}

// reason is what a request failed for, without its URL.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	type wrapped interface{ Unwrap() error }
	for {
		w, ok := err.(wrapped)
		if !ok || w.Unwrap() == nil {
			break
		}
		err = w.Unwrap()
	}
	if errors.Is(err, io.EOF) {
		return "it hung up"
	}
	return err.Error()
}

// TokenFile is where the tokens of an account or target lie below a directory.
func TokenFile(dir, kind, name string) string {
	return filepath.Join(dir, cmp.Or(kind, "account")+"-"+name+".json")
}
