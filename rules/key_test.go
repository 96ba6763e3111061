package rules

import (
	"testing"
	"time"
)

// keyMail has what the keys beside those of matchMail look at.
const keyMail = "Received: from a by b; Sat, 21 Nov 2026 22:55:02 +0000\r\n" +
	"Date: Sat, 21 Nov 2026 23:55:02 +0100\r\n" +
	"Delivered-To: box@mail.isp.example\r\n" +
	"X-Original-To: jane+shop+x@isp.example\r\n" +
	"Envelope-To: last@isp.example\r\n" +
	"To: \"a@b\"@odd.example, plain\r\n" +
	"Bcc: Hidden <hidden@isp.example>\r\n" +
	"Reply-To: answers@acme.example\r\n" +
	"Sender: robot+@acme.example\r\n" +
	"X-Spam-Status: No, score=1\r\n" +
	"X-Spam-Status: =?utf-8?q?Yes?=, score=9\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n" +
	"\r\n" +
	"--b\r\n\r\nSome Text\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nx\r\n--b--\r\n"

func TestKeys(t *testing.T) {
	dated := func(op, day string) Cond { return Cond{Test: &Test{Key: "date", Date: DateTest{op, day}}} }
	aged := func(key string, age time.Duration) Cond { return Cond{Test: &Test{Key: key, Age: age}} }
	flag := func(key string, no bool) Cond { return Cond{Test: &Test{Key: key, No: no}} }
	tests := map[string]struct {
		cond Cond
		want bool
	}{
		"recipient, To":                 {where("recipient", Is, "plain"), true},
		"recipient, Bcc":                {where("recipient", Is, "hidden@isp.example"), true},
		"recipient, Delivered-To":       {where("recipient", Domain, "mail.isp.example"), true},
		"recipient, X-Original-To":      {where("recipient", Local, "jane+*"), true},
		"recipient, Envelope-To":        {where("recipient", Glob, "last@*"), true},
		"recipient, not From":           {where("recipient", Glob, "*acme*"), false},
		"recipient is there":            {where("recipient", Exists, "yes"), true},
		"bcc":                           {where("bcc", Contains, "hidden@"), true},
		"reply_to":                      {where("reply_to", Domain, "acme.example"), true},
		"sender":                        {where("sender", Local, "robot+"), true},
		"detail":                        {where("recipient", Detail, "SHOP+X"), true},
		"detail, a part":                {where("recipient", Detail, "shop"), false},
		"detail, empty":                 {where("sender", Detail, ""), true},
		"detail, none":                  {where("reply_to", Detail, "*"), false},
		"local, of a quoted one":        {where("to", Local, "a@b"), true},
		"local, without domain":         {where("to", Local, "plain"), true},
		"local is whole":                {where("reply_to", Local, "answer"), false},
		"domain of none":                {where("to", Domain, "plain"), false},
		"body":                          {where("body", Is, "some text"), true},
		"body, other parts":             {where("body", Contains, "x"), true},
		"body, not attachments":         {where("body", Glob, "x"), false},
		"has_attachment":                {flag("has_attachment", false), true},
		"has_attachment: no":            {flag("has_attachment", true), false},
		"spam, a later field":           {flag("spam", false), true},
		"spam: no":                      {flag("spam", true), false},
		"date":                          {dated("=", "2026-11-21"), true},
		"date, a month":                 {dated("=", "2026-11"), true},
		"date, another month":           {dated("=", "2026-10"), false},
		"date, a year":                  {dated("=", "2026"), true},
		"date <":                        {dated("<", "2026-11-21"), false},
		"date < next":                   {dated("<", "2026-11-22"), true},
		"date <=":                       {dated("<=", "2026-11-21"), true},
		"date > month":                  {dated(">", "2026-11"), false},
		"date >=":                       {dated(">=", "2026-11-21"), true},
		"date > year":                   {dated(">", "2025"), true},
		"older_than":                    {aged("older_than", 13*time.Hour), true},
		"older_than, exactly":           {aged("older_than", 13*time.Hour+4*time.Minute+58*time.Second), false},
		"newer_than":                    {aged("newer_than", 13*time.Hour+5*time.Minute), true},
		"newer_than, exactly":           {aged("newer_than", 13*time.Hour+4*time.Minute+58*time.Second), false},
		"neither, as somewhere between": {Cond{Any: []Cond{aged("older_than", 14*time.Hour), aged("newer_than", time.Hour)}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set := mustCompile(t, Rule{Name: "r", If: &tt.cond, Then: Then{Drop: true}})
			if got := set.Decide(whole([]byte(keyMail), 1)).Action == Drop; got != tt.want {
				t.Errorf("holds = %v", got)
				set.Explain(whole([]byte(keyMail), 1), func(s Step) { t.Log(s.Lines()) })
			}
		})
	}
}

// Without a clock nobody knows how old a message is; without a date neither.
func TestKeys_noTime(t *testing.T) {
	for _, key := range []string{"older_than", "newer_than"} {
		c := Cond{Test: &Test{Key: key, Age: time.Hour}}
		set := mustCompile(t, Rule{Name: "r", If: &c, Then: Then{Drop: true}})
		m := whole([]byte(keyMail), 1)
		m.Now = time.Time{}
		if set.Decide(m).Action == Drop {
			t.Errorf("%s without a clock", key)
		}
		if set.Decide(whole([]byte("Date: soon\r\n"), 1)).Action == Drop {
			t.Errorf("%s without a date", key)
		}
	}
}

// The body is asked for only by a rule that needs it, and once.
func TestBody_asked(t *testing.T) {
	c := Cond{All: []Cond{where("subject", Is, "s"), where("body", Contains, "x"), {Test: &Test{Key: "has_attachment", No: true}}}}
	set := mustCompile(t, Rule{Name: "r", If: &c}, Rule{Name: "q", If: new(where("body", Contains, "z"))})
	for subject, want := range map[string]int{"s": 1, "t": 1} {
		asked := 0
		m := message("Subject: " + subject + "\r\n")
		m.Body = func() []byte { asked++; return []byte("y") }
		if set.Decide(m); asked != want {
			t.Errorf("subject %s: asked %d times", subject, asked)
		}
	}
	only := mustCompile(t, Rule{Name: "r", If: new(where("subject", Is, "s"))})
	m := message("Subject: s\r\n")
	m.Body = func() []byte { t.Error("asked"); return nil }
	only.Decide(m)
}
