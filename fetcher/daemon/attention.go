package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"popferry/fetcher"
	"popferry/fetcher/config"
	"popferry/targets"
	"popferry/targets/endpoint"
)

const (
	certificateNotice = 7 * 24 * time.Hour // before a certificate ends somebody should look
	tokenNotice       = 2 * 24 * time.Hour // likewise a sign-in
	maxSubjects       = 1000               // are kept
)

// Sightings are what this process has seen on servers and what is kept nowhere
// else: certificates, and if Subjects is set the subjects of messages that were
// held. It is safe for concurrent use.
type Sightings struct {
	Subjects bool

	mu           sync.Mutex
	certificates map[string]time.Time // when they end, by account
	subjects     map[letter]string
}

// letter is a message in a maildrop.
type letter struct{ account, uidl string }

// Observe looks at an event.
func (s *Sightings) Observe(e fetcher.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Kind == fetcher.PassEnd && e.Report != nil && !e.Report.CertEnds.IsZero():
		if s.certificates == nil {
			s.certificates = map[string]time.Time{}
		}
		s.certificates[e.Account] = e.Report.CertEnds
	case s.Subjects && e.Kind == fetcher.Held && e.Header != nil:
		if s.subjects == nil || len(s.subjects) >= maxSubjects {
			s.subjects = map[letter]string{}
		}
		s.subjects[letter{e.Account, endpoint.Printable(e.UIDL, maxUIDL)}] = endpoint.Printable(e.Subject(), 200)
	}
}

// Add puts into st what was seen, and what will go wrong for it. opened are the
// targets in use; none are needed.
func (s *Sightings) Add(st *Status, c *config.Config, opened map[string]targets.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := map[string]time.Time{}
	for _, a := range st.Accounts {
		if t := s.certificates[a.Name]; !t.IsZero() {
			ends[a.Server] = t
		}
	}
	for name, t := range opened {
		place := c.Targets[name]
		if ct, ok := t.(targets.Certified); ok && place != nil && place.Server != nil {
			if leaf := ct.Certificate(); leaf != nil {
				ends[place.Server.Addr()] = leaf.NotAfter
			}
		}
	}
	st.Certificates = nil
	for host, t := range ends {
		st.Certificates = append(st.Certificates, Certificate{Host: host, NotAfter: t})
	}
	slices.SortFunc(st.Certificates, func(a, b Certificate) int { return cmp.Compare(a.Host, b.Host) })
	for i := range st.Held {
		h := &st.Held[i]
		if subject := s.subjects[letter{h.Account, h.UIDL}]; s.Subjects && h.Subject == "" {
			h.Subject = subject
		}
	}
	st.Attention = append(st.Attention, st.endings(c.Location)...)
}

// endings lists what ends soon and needs a person before.
func (st *Status) endings(zone *time.Location) (all []Problem) {
	for _, cert := range st.Certificates {
		if left := cert.NotAfter.Sub(st.Time); left < certificateNotice {
			all = append(all, Problem{
				Code: "certificate-ends", Head: fmt.Sprintf("the certificate of %s %s", cert.Host, ending(cert.NotAfter, left, zone)),
				Lines: []string{"Whoever runs that server must renew it: popferry does not connect to one whose certificate has ended."},
			})
		}
	}
	for _, a := range st.Accounts {
		if left := a.TokenEnds.Sub(st.Time); !a.TokenEnds.IsZero() && left < tokenNotice {
			all = append(all, Problem{
				Code: "token-ends", Head: fmt.Sprintf("the sign-in of %s %s", a.Name, ending(a.TokenEnds, left, zone)),
				Lines: []string{"Sign in again:  popferry auth login " + a.Name},
			})
		}
	}
	return all
}

// ending says when something ends: "ends in 5 days, on 27 Nov".
func ending(t time.Time, left time.Duration, zone *time.Location) string {
	day := t.In(zone).Format("2 Jan")
	if left <= 0 {
		return "has ended on " + day
	}
	return fmt.Sprintf("ends in %s, on %s", roughly(left), day)
}
