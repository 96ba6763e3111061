package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Healthchecks takes five pings a minute for one check, and forgets the others.
// The fifth is kept for the last one of a process: it must not be forgotten.
const (
	mostPings  = 5
	pingWindow = time.Minute
)

// heartbeat tells Healthchecks (healthchecks.io/docs/http_api) of passes: that
// one started, and how it ended, with the same run id. What it says of an end is
// the exit code of the worst account of the jobs, so that a check does not go up
// and down while one of several accounts fails. When there are more passes than
// pings, their ends are told together, and starts are left out: one is told only
// if its end can be told as well, because a start without end is an alarm.
type heartbeat struct {
	start string            // rid of a start to send; "" for none
	end   string            // rid of an end to send; "" for none
	open  string            // rid of the start that has no end yet; "" for none
	of    string            // whose pass that is
	last  map[string]result // of the last pass over every account
	sent  []time.Time       // pings of the last minute
}

// result is how a pass ended.
type result struct {
	exit int
	text string
}

func newHeartbeat() *heartbeat { return &heartbeat{last: map[string]result{}} }

// begin and finish take a pass, with its rid.
func (b *heartbeat) begin(rid, account string) {
	if b.open == "" || b.of == account { // its last pass was interrupted
		b.start, b.open, b.of = rid, rid, account
	}
}

func (b *heartbeat) finish(rid string, p Pass) {
	b.last[p.Account] = result{p.Exit, pingText(p)}
	if b.end == "" || b.end != b.open {
		b.end = rid
	}
}

// next takes what is to be sent now. If nothing may be sent before a time, it
// returns that; both are zero if there is nothing. The last calls are those
// after which nothing follows.
func (b *heartbeat) next(now time.Time, last bool) (*request, time.Time) {
	b.sent = slices.DeleteFunc(b.sent, func(t time.Time) bool { return now.Sub(t) >= pingWindow })
	free := mostPings - len(b.sent)
	if !last {
		free--
	}
	switch {
	case b.start != "" && free >= 2:
		r := ping("/start", b.start, "")
		b.start = ""
		return &r, time.Time{}
	case b.start != "": // too late, it may only end
		b.start, b.open = "", ""
	}
	if b.end == "" {
		return nil, time.Time{}
	}
	if kept := b.end != b.open && b.open != "" && !last; free < 1 || kept && free < 2 {
		return nil, b.sent[0].Add(pingWindow)
	}
	worst := b.worst()
	below := ""
	if worst.exit != 0 {
		below = "/" + strconv.Itoa(min(max(worst.exit, 1), 255))
	}
	r := ping(below, b.end, worst.text)
	if b.end == b.open {
		b.open = ""
	}
	b.end = ""
	return &r, time.Time{}
}

// worst is the most serious result, with the texts of all that are as bad.
func (b *heartbeat) worst() result {
	w := result{exit: exitOK}
	var texts []string
	for _, r := range b.last {
		if r.exit != w.exit && Worse(r.exit, w.exit) == r.exit {
			w.exit, texts = r.exit, nil
		}
		if r.exit == w.exit {
			texts = append(texts, r.text)
		}
	}
	slices.Sort(texts)
	w.text = shorten(strings.Join(texts, ""), mostText)
	return w
}

// ping is a request about one run.
func ping(below, rid, text string) request {
	return request{below: below, query: url.Values{"rid": {rid}}, header: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, body: []byte(text)}
}

// rid makes the id of a pass a UUID, which Healthchecks demands (RFC 9562 §5.8).
func rid(job, account, pass string) string {
	h := sha256.Sum256([]byte(job + "\x00" + account + "\x00" + pass))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// pingText is what Healthchecks shows of a pass.
func pingText(p Pass) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, account %s: exit %d, %d new, %d delivered, %d already there, %d failed, %d held, %d deleted, in %s\n",
		p.Job, p.Account, p.Exit, p.New, p.Delivered, p.Duplicate, p.Failed, p.Held, p.Deleted, p.Took.Round(100*time.Millisecond))
	if p.Problem != nil {
		p.Problem.block(&b)
	}
	return b.String()
}

// ping sends what a heartbeat has to say until ctx ends, and then the rest;
// sending outlives ctx. A ping that does not get through is not repeated: that
// it is missing is what raises the alarm.
func (n *Notifier) ping(ctx, sending context.Context, p *place) {
	for {
		n.mu.Lock()
		r, at := p.beat.next(time.Now(), ctx.Err() != nil)
		if r != nil {
			p.beat.sent = append(p.beat.sent, time.Now())
		}
		n.mu.Unlock()
		switch {
		case r != nil:
			n.report(p, n.post(sending, p, *r, httpTries))
			if sending.Err() != nil {
				return
			}
		case ctx.Err() != nil:
			return
		case !at.IsZero():
			waitUntil(ctx, at)
		default:
			select {
			case <-p.wake:
			case <-ctx.Done():
			}
		}
	}
}
