package main

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

// jsonView prints a JSON object a line. Fields are only ever added.
type jsonView struct {
	w        *stream
	progress bool
	last     time.Time // of the last progress line
	done     int64     // octets
	messages int
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
	jsonWaiting struct {
		Type    string `json:"type"`
		Job     string `json:"job"`
		Account string `json:"account"`
		Until   string `json:"until"`
		Reason  string `json:"reason"`
	}
	jsonProgress struct {
		Type     string `json:"type"`
		Messages int    `json:"messages"`
		Bytes    int64  `json:"bytes"`
	}
	jsonExit struct {
		Type   string `json:"type"`
		Code   int    `json:"code"`
		Reason string `json:"reason"`
	}
)

func (v *jsonView) event(e fetcher.Event) {
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
	v.done += e.Octets
	v.messages++
	if v.progress && e.Time.Sub(v.last) >= time.Second {
		v.last = e.Time
		v.w.json(jsonProgress{"progress", v.messages, v.done})
	}
}

func (v *jsonView) exit(e exit) {
	reason := "ok"
	if e.code != exitOK {
		_, reason, _ = strings.Cut(e.Error(), ": ")
	}
	v.w.json(jsonExit{"exit", e.code, reason})
}

func (v *jsonView) close() {}

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
