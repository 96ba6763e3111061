package daemon

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

func healthcheck(jobs ...string) *config.Notify {
	return &config.Notify{Type: "healthchecks", URL: endpoint.SecretValue("https://hc.example/c4nary"), Jobs: jobs}
}

// pings writes what came as "start p1", "0 p1", "77 p2", by the ids of passes.
func (s *scene) pings() []string {
	s.t.Helper()
	ids := map[string]string{}
	for i := range 3 {
		for p := range 40 {
			id := fmt.Sprintf("p%02d", p)
			ids[rid("j"+strconv.Itoa(i), "a"+strconv.Itoa(i), id)] = id
		}
	}
	var got []string
	for _, p := range s.o.taken() {
		below, query, _ := strings.Cut(strings.TrimPrefix(p.url, "https://hc.example/c4nary"), "?rid=")
		below = strings.TrimPrefix(below, "/")
		if below == "" {
			below = "0"
		}
		got = append(got, below+" "+ids[query])
	}
	return got
}

func (s *scene) starts(i int, id string) { s.n.PassStart("j"+strconv.Itoa(i), "a"+strconv.Itoa(i), id) }

func (s *scene) done(i int, id string, exit int) {
	p := Pass{ID: id, Job: "j" + strconv.Itoa(i), Account: "a" + strconv.Itoa(i), Start: time.Now(), Exit: exit}
	if exit != 0 {
		p.Problem = &Problem{Exit: exit, Code: "x", Head: "trouble"}
	}
	s.n.PassDone(p)
}

func (s *scene) pinged(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.pings()); diff != "" {
		s.t.Errorf("pings (-want +got):\n%s", diff)
	}
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "", healthcheck())
		s.starts(0, "p01")
		s.later(time.Second)
		s.pinged("start p01")
		s.done(0, "p01", 0)
		s.later(time.Hour)
		s.pinged("0 p01")
		s.starts(0, "p02")
		s.done(0, "p02", 77)
		s.later(time.Hour)
		s.pinged("start p02", "77 p02")
		// While another account fails, the check stays down.
		s.starts(1, "p03")
		s.done(1, "p03", 0)
		s.later(time.Hour)
		s.pinged("start p03", "77 p03")
		s.starts(0, "p04")
		s.done(0, "p04", 1)
		s.later(time.Hour)
		s.pinged("start p04", "1 p04")
		// A pass that was interrupted says nothing, and the next one is as ever.
		s.starts(0, "p05")
		s.done(0, "p05", 143)
		s.later(time.Hour)
		s.pinged("start p05")
		s.starts(0, "p06")
		s.done(0, "p06", 0)
		s.later(time.Hour)
		s.pinged("start p06", "0 p06")
		s.stop()
		s.pinged()
	})
}

// Two hundred accounts a minute are five pings a minute at most, every start has
// its end, and what went wrong last is told before the process ends.
func TestHeartbeat_limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "", healthcheck())
		for i := range 200 {
			s.starts(i, "p01")
			s.later(300 * time.Millisecond)
			s.done(i, "p01", 0)
		}
		s.later(time.Minute)
		s.done(200, "p02", 0)
		s.done(201, "p03", 0)
		s.later(time.Second)
		s.done(202, "p04", 69)
		s.later(time.Second)
		s.done(203, "p05", 0)
		s.later(time.Second)
		s.done(204, "p06", 0)
		s.later(time.Second)
		s.done(205, "p07", 70)
		s.stop()
		s.o.mu.Lock()
		got := slices.Clone(s.o.got)
		s.o.mu.Unlock()
		open := map[string]bool{}
		id := regexp.MustCompile(`rid=(.*)$`)
		for i, p := range got {
			if i >= mostPings && p.at-got[i-mostPings].at < pingWindow {
				t.Errorf("six pings from %s to %s", got[i-mostPings].at, p.at)
			}
			rid := id.FindStringSubmatch(p.url)[1]
			if open[rid] = strings.Contains(p.url, "/start?"); open[rid] == false {
				delete(open, rid)
			}
		}
		if len(open) > 0 {
			t.Errorf("started and never ended: %v", open)
		}
		if last := got[len(got)-1]; !strings.HasPrefix(last.url, "https://hc.example/c4nary/70?") || !strings.Contains(last.body, "j205, account a205: exit 70") {
			t.Errorf("%+v", last)
		}
		if len(got) < 8 {
			t.Errorf("only %d pings", len(got))
		}
	})
}

// A ping that does not get through is logged once and holds up nothing.
func TestHeartbeat_unreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, "", healthcheck("j0"))
		s.o.fail = func(req *http.Request) (*http.Response, error) {
			return answer(req, 404, "not found "+req.URL.Path), nil
		}
		for range 3 {
			s.starts(0, "p01")
			s.done(0, "p01", 0)
			s.starts(1, "p02") // of no interest here
			s.done(1, "p02", 77)
			s.later(5 * time.Minute)
		}
		if got := s.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `err="hc.example said: 404 Not Found not found /***/***"`) || strings.Contains(got, "c4nary") {
			t.Error(got)
		}
		s.o.mu.Lock()
		s.o.fail = nil
		s.o.mu.Unlock()
		s.starts(0, "p03")
		s.done(0, "p03", 0)
		s.later(time.Minute)
		s.stop()
		s.pinged("start p03", "0 p03")
	})
}

// Healthchecks answers 200 to pings for a check that it does not know.
func TestHeartbeat_notFound(t *testing.T) {
	o := &otherSide{fail: func(req *http.Request) (*http.Response, error) { return answer(req, 200, "OK (not found)"), nil }}
	n := &Notifier{HTTP: o}
	n.Use(someConfig(1, healthcheck(), webhook(1)))
	var got []string
	n.Test(t.Context(), func(name string, err error) { got = append(got, fmt.Sprint(name, ": ", err)) })
	if diff := cmp.Diff([]string{"notify 1 (healthchecks): hc.example said: 200 OK OK (not found)", "notify 2 (webhook): <nil>"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRid(t *testing.T) {
	a := rid("j", "a", "p")
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(a) || a != rid("j", "a", "p") || a == rid("j", "a", "q") {
		t.Error(a)
	}
}
