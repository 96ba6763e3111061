package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"popferry/targets/endpoint"
)

const (
	httpTime   = 10 * time.Second // for one request
	httpTries  = 3                // of requests that may succeed a little later
	httpBudget = 45 * time.Second // for all of them
	firstPause = 2 * time.Second  // then four times as long
	mostReply  = 512              // octets of an answer that are read
)

// request is what is sent to a place: where below its address, and what.
type request struct {
	below  string     // "/start"
	query  url.Values // added to the address's own
	header map[string]string
	body   []byte
}

// send tells p, with so many tries at most. The error holds nothing of p's address.
func (n *Notifier) send(ctx context.Context, p *place, m *Notice, tries int) error {
	switch p.Type {
	case "command":
		return n.command(ctx, p, m)
	case "webhook":
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		return n.post(ctx, p, request{header: map[string]string{"Content-Type": "application/json"}, body: body}, tries)
	case "healthchecks": // a test; /log changes nothing there
		return n.post(ctx, p, ping("/log", rid("", "", m.Time.String()), m.Text), tries)
	default:
		return n.post(ctx, p, ntfy(m), tries)
	}
}

// ntfy is a message of docs.ntfy.sh/publish. Headers are ASCII, or words of RFC
// 2047.
func ntfy(m *Notice) request {
	priority, tag := "high", "warning"
	switch m.Event {
	case "recovery":
		priority, tag = "default", "white_check_mark"
	case "test":
		priority, tag = "low", "mailbox_with_mail"
	}
	return request{
		header: map[string]string{"Title": mime.BEncoding.Encode("utf-8", m.Title), "Priority": priority, "Tags": tag, "Content-Type": "text/plain; charset=utf-8"},
		body:   []byte(m.Text),
	}
}

// post sends r to p's address. What may go better in a moment is tried again.
func (n *Notifier) post(ctx context.Context, p *place, r request, tries int) error {
	ctx, cancel := context.WithTimeout(ctx, httpBudget)
	defer cancel()
	address, err := p.URL.Reveal(ctx)
	if err != nil {
		return err
	}
	to, err := r.to(address)
	if err != nil {
		return err
	}
	pause := firstPause
	for try := 1; ; try++ {
		again, after, err := n.once(ctx, to, r)
		if err == nil {
			return nil
		}
		err = hide(err, to)
		if !again || try == tries {
			return err
		}
		if !waitUntil(ctx, time.Now().Add(max(pause, after))) {
			return err
		}
		pause *= 4
	}
}

// to is the address that r goes to.
func (r request) to(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the url is none: it must begin with https:// and a host")
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+r.below, ""
	if len(r.query) > 0 {
		q := u.Query()
		maps.Copy(q, r.query)
		u.RawQuery = q.Encode()
	}
	return u, nil
}

// once sends one request. again says that another try may go better, after how
// long at the least.
func (n *Notifier) once(ctx context.Context, to *url.URL, r request) (again bool, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, httpTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(r.body))
	if err != nil {
		return false, 0, err
	}
	req.Header.Set("User-Agent", "popferry")
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	client := http.Client{Transport: n.HTTP, CheckRedirect: sameHouse}
	if n.HTTP == nil {
		client.Transport = network
	}
	resp, err := client.Do(req)
	if err != nil {
		return true, 0, err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, mostReply))
	// Healthchecks says OK to what it forgets: "OK (not found)".
	forgotten := len(r.query) > 0 && bytes.HasPrefix(reply, []byte("OK ("))
	if resp.StatusCode/100 == 2 && !forgotten {
		return false, 0, nil // it has it, whatever else it wanted to say
	}
	if err == nil {
		err = fmt.Errorf("%s said: %s", to.Host, strings.TrimSpace(resp.Status+" "+string(reply)))
	}
	if s, convErr := strconv.Atoi(resp.Header.Get("Retry-After")); convErr == nil {
		after = time.Duration(min(max(s, 0), 3600)) * time.Second
	}
	busy := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return busy || resp.StatusCode >= 500, after, err
}

// network is how places are reached: connections are too rare to keep.
var network = &http.Transport{
	Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true,
	TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
}

// sameHouse follows redirects on the same host only, and only those that keep
// the message and its encryption: an address is a secret, not to be told others.
func sameHouse(req *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > 3 || req.Method != first.Method || req.URL.Host != first.URL.Host || req.URL.Scheme != first.URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// hide takes out of an error what of the address is secret: all but the host.
func hide(err error, to *url.URL) error {
	if outer, ok := errors.AsType[*url.Error](err); ok { // it quotes the address
		err = outer.Err
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("%s did not answer within %s", to.Host, httpTime)
	}
	secrets := []string{to.String(), to.RequestURI(), to.RawQuery}
	if to.User != nil {
		password, _ := to.User.Password()
		secrets = append(secrets, to.User.String(), to.User.Username(), password)
	}
	for _, values := range to.Query() {
		secrets = append(secrets, values...)
	}
	for s := range strings.SplitSeq(to.Path, "/") {
		secrets = append(secrets, s)
	}
	for _, s := range secrets {
		if len(s) > 3 && s != to.Host {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return errors.New(endpoint.Printable(text, 300))
}
