package daemon

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The statuses that tests show. They are the same every time.

var sampleNow = time.Date(2026, 11, 22, 14, 3, 5, 0, time.UTC)

// samplePasses are n passes, one each interval, of which the last ended before
// sampleNow.
func samplePasses(seed uint64, n int, job, account string, interval time.Duration, mail float64) []Pass {
	r := rand.New(rand.NewPCG(seed, seed))
	passes := make([]Pass, n)
	for i := range passes {
		p := &passes[i]
		start := sampleNow.Add(-2*time.Minute - time.Duration(n-1-i)*interval)
		*p = Pass{ID: fmt.Sprintf("%06x", r.Uint32()>>8), Job: job, Account: account, Start: start, Took: time.Duration(300+r.IntN(900)) * time.Millisecond}
		if r.Float64() < mail {
			p.New = 1 + int(r.ExpFloat64()*8)
			p.Delivered = p.New
			p.Bytes = int64(p.New) * 61_200
			p.Took += time.Duration(p.New) * 41 * time.Millisecond
		}
	}
	return passes
}

func sampleFine() Status {
	s := Status{
		Time: sampleNow, Version: "1.4.0", Config: "/config/popferry.yaml", Loaded: sampleNow.Add(-52 * time.Hour), Serving: true, Started: sampleNow.Add(-52 * time.Hour),
		OK: true, Summary: "All 3 jobs are fine. Next pass in 3 min.",
		Certificates: []Certificate{{"pop.isp.example:995", sampleNow.Add(101 * 24 * time.Hour)}, {"imap.gmail.com:993", sampleNow.Add(61 * 24 * time.Hour)}},
	}
	s.Jobs = []JobStatus{
		{
			Name: "isp-to-gmail", Accounts: []string{"isp"}, Targets: []string{"gmail", "disk"}, Schedule: "every 5m", Interval: 5 * time.Minute, OK: true,
			Next: sampleNow.Add(181 * time.Second), LastSuccess: sampleNow.Add(-119 * time.Second), LastMail: sampleNow.Add(-12 * time.Minute),
			Day: Counts{New: 57, Delivered: 55, Duplicate: 2, Deleted: 31, Bytes: 19_922_944}, Passes: samplePasses(7, 50, "isp-to-gmail", "isp", 5*time.Minute, .45),
		},
		{
			Name: "work", Accounts: []string{"office", "sales", "support"}, Targets: []string{"home"}, Schedule: "every 15m", Interval: 15 * time.Minute, OK: true, Running: true,
			LastSuccess: sampleNow.Add(-9 * time.Minute), LastMail: sampleNow.Add(-9 * time.Minute),
			Day: Counts{New: 412, Delivered: 412, Bytes: 88_100_000}, Passes: samplePasses(3, 50, "work", "sales", 5*time.Minute, .8),
		},
		{
			Name: "archive", Accounts: []string{"oldhost"}, Targets: []string{"disk"}, Schedule: `cron "15 3 * * *" Europe/Berlin`, Interval: 24 * time.Hour, OK: true,
			Next: sampleNow.Add(12*time.Hour + 12*time.Minute), LastSuccess: sampleNow.Add(-11*time.Hour - 47*time.Minute), LastMail: sampleNow.Add(-11*time.Hour - 47*time.Minute),
			Day: Counts{New: 9, Delivered: 9, Bytes: 1_310_000}, Passes: samplePasses(5, 31, "archive", "oldhost", 24*time.Hour, .6),
		},
	}
	s.Accounts = []AccountStatus{
		{Name: "isp", Server: "pop.isp.example:995", Job: "isp-to-gmail", Messages: 1284, Bytes: 412_000_000, Known: 1284, LastSuccess: sampleNow.Add(-119 * time.Second), Keep: "30d", ToDelete: 31, NextDelete: sampleNow.Add(8 * time.Hour)},
		{Name: "office", Server: "outlook.office365.com:995", Job: "work", Messages: 210, Bytes: 31_400_000, Known: 210, LastSuccess: sampleNow.Add(-9 * time.Minute), Keep: "forever", TokenEnds: sampleNow.Add(80 * 24 * time.Hour)},
		{Name: "sales", Server: "pop.contoso.example:995", Job: "work", Messages: 18, Bytes: 940_000, Known: 18, LastSuccess: sampleNow.Add(-10 * time.Minute), Keep: "0d", ToDelete: 18, NextDelete: sampleNow.Add(6 * time.Minute), Running: true},
		{Name: "support", Server: "pop.contoso.example:995", Job: "work", Messages: 3, Bytes: 81_000, Known: 3, LastSuccess: sampleNow.Add(-9 * time.Minute), Keep: "0d"},
		{Name: "oldhost", Server: "mail.oldhost.example:995", Job: "archive", Messages: 12_406, Bytes: 3_900_000_000, Known: 12_406, LastSuccess: sampleNow.Add(-11*time.Hour - 47*time.Minute), Keep: "days 30, newest 500", ToDelete: 209, NextDelete: sampleNow.Add(30 * time.Hour), Note: "LOGIN-DELAY 900: the server wants 15 minutes between logins"},
	}
	return s
}

func sampleFailing() Status {
	s := sampleFine()
	s.OK = false
	s.Summary = "1 of 3 jobs needs you: login refused by pop.isp.example:995 since 13:34 (6 tries). Check user and password."
	refused := &Problem{Exit: 77, Code: "login-refused", Head: "login refused by pop.isp.example:995 for jane@isp.example", Lines: []string{
		"The server said: -ERR [AUTH] Username and password not accepted.",
		"Check user and password. Many providers want an app password here, not your normal one,",
		"and some want POP3 and IMAP switched on in their settings first.",
	}}
	lost := &Problem{Exit: 69, Code: "connection-lost", Head: "mail.oldhost.example:995: the connection was lost during RETR 311", Lines: []string{
		"What happened: connection reset by peer", "Nothing is lost: the next pass goes on where this one ended.",
	}}
	held := &Problem{Exit: 1, Code: "held", Head: "2 messages are held", Lines: []string{"See: popferry held list"}}
	j := &s.Jobs[0]
	j.OK, j.Failures, j.LastSuccess, j.Problem = false, 6, sampleNow.Add(-32*time.Minute), refused
	for i := 44; i < 50; i++ {
		p := &j.Passes[i]
		p.Exit, p.Problem, p.Counts, p.Took = 77, refused, Counts{}, 400*time.Millisecond
		s.Errors = append([]PastProblem{{Time: p.Start, Job: p.Job, Account: p.Account, Problem: *refused}}, s.Errors...)
	}
	j.Passes[11].Exit, j.Passes[11].Problem = 69, lost
	w := &s.Jobs[1]
	for _, i := range []int{30, 31, 47, 49} {
		w.Passes[i].Exit, w.Passes[i].Problem, w.Passes[i].Held = 1, held, 2
	}
	w.Passes[20].Exit = 75
	w.Day.Held, w.Day.Failed = 2, 1
	s.Jobs[2].Passes[19].Exit, s.Jobs[2].Passes[19].Problem = 69, lost
	s.Errors = append(s.Errors, PastProblem{Time: sampleNow.Add(-44 * time.Minute), Job: "work", Account: "sales", Problem: *held},
		PastProblem{Time: sampleNow.Add(-12 * 24 * time.Hour), Job: "archive", Account: "oldhost", Problem: *lost},
		PastProblem{Time: sampleNow.Add(-13 * 24 * time.Hour), Job: "archive", Account: "oldhost", Problem: Problem{Exit: 75, Code: "maildrop-in-use", Head: "mail.oldhost.example:995: somebody else is reading this maildrop"}})
	s.Accounts[0].Failures, s.Accounts[0].LastSuccess, s.Accounts[2].HeldMessages = 6, j.LastSuccess, 2
	s.HeldTotal = 2
	s.Held = []HeldMessage{
		{Account: "sales", UIDL: "0001a7f9c2", Since: sampleNow.Add(-44 * time.Minute), Size: 61_300_000, Reason: "does not fit: home accepts at most 50 MB", Subject: "Fotos vom Sommerfest", Command: "popferry held retry sales 0001a7f9c2"},
		{Account: "sales", UIDL: `AAEF\x1b[31m`, Since: sampleNow.Add(-3 * time.Hour), Size: 4_100, Reason: `home refused it: NO [CANNOT] <script>alert("x")</script>`, Subject: "<img src=https://tracker.example/p.gif>", Command: `popferry held retry sales $'AAEF\x1b[31m'`},
	}
	s.Attention = []Problem{
		{Code: "token-ends", Head: "the sign-in of office ends in 1 day", Lines: []string{"popferry auth login office"}},
		{Code: "certificate-ends", Head: "the certificate of imap.home.example:993 ends in 5 days, on 27 Nov", Lines: []string{"Its server's owner must renew it; popferry will refuse to connect then."}},
	}
	return s
}

// sampleEmpty is a daemon that has just begun.
func sampleEmpty() Status {
	s := sampleFine()
	s.Summary, s.Started, s.Loaded = "No pass has run yet. The first one begins in 4 s.", sampleNow.Add(-time.Second), sampleNow.Add(-time.Second)
	s.Certificates = nil
	for i := range s.Jobs {
		j := &s.Jobs[i]
		j.Passes, j.Running, j.LastSuccess, j.LastMail, j.Day = nil, false, time.Time{}, time.Time{}, Counts{}
		j.Next = sampleNow.Add(4 * time.Second)
	}
	for i := range s.Accounts {
		a := &s.Accounts[i]
		*a = AccountStatus{Name: a.Name, Server: a.Server, Job: a.Job, Keep: a.Keep}
	}
	return s
}

// sampleFirst is in the middle of the first pass.
func sampleFirst() Status {
	s := sampleEmpty()
	s.Summary, s.Time = "The first pass of 3 jobs is running.", sampleNow.Add(90*time.Second)
	for i := range s.Jobs {
		s.Jobs[i].Running, s.Jobs[i].Next = true, time.Time{}
	}
	for i := range s.Accounts {
		s.Accounts[i].Running = true
	}
	s.Accounts[0].Messages, s.Accounts[0].Bytes, s.Accounts[0].Known = 1284, 412_000_000, 311
	return s
}

// sampleWatch goes well and needs to be looked at.
func sampleWatch() Status {
	s := sampleFine()
	s.Summary = "All 3 jobs are fine, and one thing needs attention. Next pass in 3 min."
	s.Attention = sampleFailing().Attention[:1]
	return s
}

var samples = map[string]func() Status{
	"fine": sampleFine, "failing": sampleFailing, "empty": sampleEmpty, "first": sampleFirst, "watch": sampleWatch,
	"nothing": func() Status { return Status{Time: sampleNow} },
}
