package maildrop

import (
	"strconv"
	"strings"
	"time"

	"popferry/targets/endpoint"
)

// Caps is what the server says it can do (RFC 2449). Treat TOP and UIDL as
// hints: there are servers that lie either way.
type Caps struct {
	Known          bool // it answered CAPA at all
	TOP            bool
	UIDL           bool
	User           bool
	Pipelining     bool
	AuthCodes      bool // AUTH-RESP-CODE: a wrong password is always [AUTH]
	SASL           []string
	Expires        bool          // the server deletes old mail by itself,
	Expire         int           // after so many days; 0 means after it was read
	LoginDelay     time.Duration // between logins
	Implementation string        // raw; escape before printing
}

// maxCaps bounds the lines of a CAPA reply.
const maxCaps = 256

func (p *Caps) add(line string) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return
	}
	arg := ""
	if len(f) > 1 {
		arg = f[1]
	}
	switch strings.ToUpper(f[0]) {
	case "TOP":
		p.TOP = true
	case "UIDL":
		p.UIDL = true
	case "USER":
		p.User = true
	case "PIPELINING":
		p.Pipelining = true
	case "AUTH-RESP-CODE":
		p.AuthCodes = true
	case "SASL":
		for _, m := range f[1:] {
			p.SASL = append(p.SASL, strings.ToUpper(m))
		}
	case "EXPIRE":
		// "NEVER" is no number. Before login the number may be a minimum over
		// all users; the CAPA after it has ours.
		if n, err := strconv.Atoi(arg); err == nil && n >= 0 {
			p.Expires, p.Expire = true, n
		}
	case "LOGIN-DELAY":
		if n, err := strconv.ParseUint(arg, 10, 31); err == nil {
			p.LoginDelay = time.Duration(n) * time.Second
		}
	case "IMPLEMENTATION":
		p.Implementation = strings.Join(f[1:], " ")
	}
}

// logins are the ways to log in that are open, in endpoint's words. apop says
// that the greeting had a timestamp.
func (p *Caps) logins(apop bool) []string {
	ways := append([]string(nil), p.SASL...)
	if apop {
		ways = append(ways, endpoint.APOP)
	}
	// USER is older than CAPA, and some servers that have it do not say so.
	if p.User || len(p.SASL) == 0 {
		ways = append(ways, endpoint.UserPass)
	}
	return ways
}
