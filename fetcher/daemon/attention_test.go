package daemon

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// certified is a target that has shown a certificate.
type certified struct {
	targets.Target
	leaf *x509.Certificate
}

func (c certified) Certificate() *x509.Certificate { return c.leaf }

func TestSightings(t *testing.T) {
	day := 24 * time.Hour
	c := &config.Config{Location: time.UTC, Targets: map[string]*config.Target{
		"gmail": {Server: &endpoint.Server{Host: "imap.gmail.com", Port: 993}},
		"home":  {Server: &endpoint.Server{Host: "imap.home.example", Port: 993}},
		"disk":  {Path: "/srv/mail"},
	}}
	opened := map[string]targets.Target{
		"gmail": certified{leaf: &x509.Certificate{NotAfter: sampleNow.Add(5*day + time.Hour)}},
		"home":  certified{}, // not connected yet
		"disk":  nil,
	}
	var s Sightings
	for account, left := range map[string]time.Duration{"isp": 7 * day, "sales": 7*day - time.Second, "support": 7*day - time.Second, "oldhost": -day, "removed": 0} {
		s.Observe(fetcher.Event{Kind: fetcher.PassEnd, Account: account, Report: &fetcher.Report{CertEnds: sampleNow.Add(left)}})
	}
	s.Observe(fetcher.Event{Kind: fetcher.PassEnd, Account: "sales", Report: &fetcher.Report{}}) // not reached: what was seen stands
	st := sampleFine()
	st.Accounts[1].TokenEnds = sampleNow.Add(2*day - time.Second)
	s.Add(&st, c, opened)
	var got []string
	for _, p := range st.Attention {
		got = append(got, p.Code+": "+p.Head)
		if len(p.Lines) != 1 {
			t.Errorf("%+v", p)
		}
	}
	want := []string{
		"certificate-ends: the certificate of imap.gmail.com:993 ends in 5 days, on 27 Nov",
		"certificate-ends: the certificate of mail.oldhost.example:995 has ended on 21 Nov",
		"certificate-ends: the certificate of pop.contoso.example:995 ends in 7 days, on 29 Nov",
		"token-ends: the sign-in of office ends in 2 days, on 24 Nov",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(st.Certificates) != 4 || st.Certificates[3].Host != "pop.isp.example:995" || !st.Certificates[3].NotAfter.Equal(sampleNow.Add(7*day)) {
		t.Errorf("%v", st.Certificates)
	}
}

// Subjects are there only if they were asked for, printable, and not without
// bound.
func TestSightings_subjects(t *testing.T) {
	held := func(uidl, subject string) fetcher.Event {
		return fetcher.Event{Kind: fetcher.Held, Account: "sales", UIDL: uidl, Header: rules.ParseHeader([]byte("Subject: " + subject + "\r\n\r\n"))}
	}
	for _, show := range []bool{false, true} {
		s := Sightings{Subjects: show}
		s.Observe(held("a\x1b", "=?utf-8?q?Sch=C3=B6n?= \x1b[31m"))
		s.Observe(fetcher.Event{Kind: fetcher.Held, Account: "sales", UIDL: "b"})
		st := Status{Held: []HeldMessage{{Account: "sales", UIDL: endpoint.Printable("a\x1b", maxUIDL)}, {Account: "sales", UIDL: "b"}, {Account: "isp", UIDL: "a"}}}
		s.Add(&st, &config.Config{Location: time.UTC}, nil)
		want := []string{"", "", ""}
		if show {
			want[0] = `Schön \x1b[31m`
		}
		for i, h := range st.Held {
			if h.Subject != want[i] {
				t.Errorf("shown %v: %q, not %q", show, h.Subject, want[i])
			}
		}
		for i := range 3 * maxSubjects {
			s.Observe(held(fmt.Sprint(i), "x"))
		}
		if len(s.subjects) > maxSubjects {
			t.Errorf("%d subjects", len(s.subjects))
		}
	}
}
