package main

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

// jsonView prints a JSON object a line. Fields are only ever added.
type jsonView struct {
	w        *stream
	progress bool
	sums     *progress
	stop     func()

	last jsonProgress // line
	told time.Time
}

// newJSONView returns a view of one command, whatever passes it runs, and begins
// to show progress. It is to be closed.
func newJSONView(a *app, c *config.Config, o viewOptions) *jsonView {
	v := &jsonView{w: a.stdout, progress: o.progress, sums: newProgress(c, o.before)}
	v.sums.all, v.sums.expect = o.accounts, o.expect
	every := time.Duration(0)
	if o.progress {
		every = time.Second
	}
	v.stop = beat(every, v.tick, o.asks, func() { v.w.json(v.now(time.Now())) })
	return v
}

// jsonMessage is the line of one message and destination.
type jsonMessage struct {
	Type      string  `json:"type"`
	Job       string  `json:"job"`
	Account   string  `json:"account"`
	UIDL      string  `json:"uidl"`
	MessageID string  `json:"message_id"`
	Bytes     int64   `json:"bytes"`
	Result    string  `json:"result,omitempty"`
	Target    string  `json:"target,omitempty"`
	Folder    string  `json:"folder,omitempty"`
	Rule      string  `json:"rule,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	From      string  `json:"from,omitempty"`
	Subject   string  `json:"subject,omitempty"`
	Error     *string `json:"error"`
}

// jsonEnd is the line of a pass that has ended.
type jsonEnd struct {
	Type      string  `json:"type"`
	Pass      string  `json:"pass"`
	Job       string  `json:"job"`
	Account   string  `json:"account"`
	New       int     `json:"new"`
	Delivered int     `json:"delivered"`
	Duplicate int     `json:"duplicate"`
	Dropped   int     `json:"dropped"`
	Skipped   int     `json:"skipped"`
	Failed    int     `json:"failed"`
	Held      int     `json:"held"`
	Marked    int     `json:"marked"`
	Recovered int     `json:"recovered"`
	Deleted   int     `json:"deleted"`
	Left      int     `json:"left"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"duration_s"`
	Error     *string `json:"error"`
}

// The other lines, each with its type first.
type (
	jsonStart struct {
		Type    string `json:"type"`
		Pass    string `json:"pass"`
		Job     string `json:"job"`
		Account string `json:"account"`
		Time    string `json:"time"`
	}
	jsonListed struct {
		Type     string `json:"type"`
		Pass     string `json:"pass"`
		Job      string `json:"job"`
		Account  string `json:"account"`
		Messages int    `json:"messages"`
		Bytes    int64  `json:"bytes"`
		New      int    `json:"new"`
		NewBytes int64  `json:"new_bytes"`
	}
	jsonDeleted struct {
		Type    string `json:"type"`
		Job     string `json:"job"`
		Account string `json:"account"`
		UIDL    string `json:"uidl"`
		Reason  string `json:"reason"`
	}
	jsonComparing struct {
		Type    string `json:"type"`
		Job     string `json:"job"`
		Account string `json:"account"`
	}
	jsonWaiting struct {
		Type    string `json:"type"`
		Job     string `json:"job"`
		Account string `json:"account"`
		Until   string `json:"until"`
		Reason  string `json:"reason"`
	}
	jsonProgress struct {
		Type      string `json:"type"`
		Messages  int    `json:"messages"`
		Of        int    `json:"of"`
		Bytes     int64  `json:"bytes"`
		OfBytes   int64  `json:"of_bytes"`
		Rate      int64  `json:"rate"`
		Left      *int64 `json:"left_s"`
		Duplicate int    `json:"duplicate"`
		Held      int    `json:"held"`
		Failed    int    `json:"failed"`
	}
	jsonExit struct {
		Type   string `json:"type"`
		Code   int    `json:"code"`
		Reason string `json:"reason"`
	}
)

func (v *jsonView) event(e fetcher.Event) {
	v.sums.event(e)
	switch e.Kind {
	case fetcher.PassStart:
		v.w.json(jsonStart{"job_start", e.Pass, e.Job, e.Account, e.Time.Format(time.RFC3339)})
	case fetcher.Listed:
		v.w.json(jsonListed{"listed", e.Pass, e.Job, e.Account, e.Total.Messages, e.Total.Octets, e.Total.New, e.Total.NewBytes})
	case fetcher.PassEnd:
		r := e.Report
		v.w.json(jsonEnd{
			Type: "job_end", Pass: e.Pass, Job: e.Job, Account: e.Account, New: r.New, Delivered: fresh(r), Duplicate: r.Duplicate,
			Dropped: r.Dropped, Skipped: r.Skipped, Failed: r.Failed, Held: r.Held, Marked: r.Marked, Recovered: r.Recovered, Deleted: r.Deleted,
			Left: r.Left, Bytes: r.Bytes, Seconds: r.Took.Seconds(), Error: jsonError(e.Err),
		})
	case fetcher.Comparing:
		v.w.json(jsonComparing{"comparing", e.Job, e.Account})
	case fetcher.Compared: // jsonProof tells
	case fetcher.Waiting:
		v.w.json(jsonWaiting{"waiting", e.Job, e.Account, e.Until.Format(time.RFC3339), waitsFor(e)})
	case fetcher.Deleted:
		v.w.json(jsonDeleted{"deleted", e.Job, e.Account, jsonUIDL(e.UIDL), e.Reason})
	default:
		v.message(e)
	}
}

func (v *jsonView) message(e fetcher.Event) {
	m := jsonMessage{
		Type: "message", Job: e.Job, Account: e.Account, UIDL: jsonUIDL(e.UIDL), MessageID: e.MessageID, Bytes: e.Octets,
		Result: e.Kind.String(), Target: e.Target, Folder: e.Folder, Rule: e.Rule, Reason: e.Reason, Error: jsonError(e.Err),
	}
	if e.Kind == fetcher.Planned {
		m.From, m.Subject = e.From(), e.Subject()
	}
	v.w.json(m)
}

// now is the line of how far all is.
func (v *jsonView) now(now time.Time) jsonProgress {
	f := v.sums.figures(now)
	p := jsonProgress{
		Type: "progress", Messages: f.done.messages, Of: f.of.messages, Bytes: f.done.octets, OfBytes: f.of.octets,
		Rate: f.rate, Duplicate: f.duplicate, Held: f.held, Failed: f.failed,
	}
	if f.known {
		seconds := int64(f.left / time.Second)
		p.Left = &seconds
	}
	return p
}

// tick tells how far all is: what is new at once, that nothing is once a minute.
func (v *jsonView) tick(now time.Time) {
	p := v.now(now)
	if same := p; now.Sub(v.told) < time.Minute {
		if same.Left = v.last.Left; same == v.last {
			return
		}
	}
	v.last, v.told = p, now
	v.w.json(p)
}

func (v *jsonView) exit(e exit) {
	reason := "ok"
	if e.code != exitOK {
		_, reason, _ = strings.Cut(e.Error(), ": ")
	}
	v.w.json(jsonExit{"exit", e.code, reason})
}

// close ends the showing of progress with how far all came.
func (v *jsonView) close() {
	if v.stop == nil {
		return
	}
	v.stop()
	if v.stop = nil; v.progress {
		v.w.json(v.now(time.Now()))
	}
}

// json prints a value on a line of its own.
func (s *stream) json(line any) {
	s.print(jsonLine(line))
}

// jsonLine is a line of JSON. What is given to it can be written so.
func jsonLine(line any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(line)
	return b.String()
}

func jsonError(err error) *string {
	if err == nil {
		return nil
	}
	text := plain(err)
	return &text
}

// jsonUIDL keeps UIDLs apart that JSON, which has no octets, would make equal.
func jsonUIDL(uidl string) string {
	if utf8.ValidString(uidl) {
		return uidl
	}
	return endpoint.Printable(uidl, len(uidl))
}
