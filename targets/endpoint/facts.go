package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Facts are what a connection has shown of a server, for people who want to
// know.
type Facts struct {
	Connect     time.Duration // what TCP took, with the proxy if there is one
	TLS         string        // "TLS 1.3"; "" in clear
	Certificate *x509.Certificate
	Mechanism   string   // of the login; "" before it
	Offered     []string // mechanisms, as the server calls them
}

// Facts returns what is known. It is to be called when the login is over.
func (c *Conn) Facts() Facts {
	f := Facts{Connect: c.took, Certificate: c.Certificate(), Mechanism: c.mechanism, Offered: c.offered}
	if tc, ok := c.conn().(*tls.Conn); ok {
		f.TLS = tls.VersionName(tc.ConnectionState().Version)
	}
	return f
}

// Chose notes how a login is tried, and what else there was.
func (c *Conn) Chose(mech string, offered []string) { c.mechanism, c.offered = mech, offered }

// certSoon is when the end of a certificate is worth a word.
const certSoon = 14 * 24 * time.Hour

// Link says in a line how the connection stands and which ways to log in there
// are, and whether the end of the certificate is near.
func (f *Facts) Link(now time.Time) (text string, soon bool) {
	text = fmt.Sprintf("tcp %d ms · ", f.Connect.Milliseconds())
	switch {
	case f.TLS == "":
		text += "not encrypted"
	case f.Certificate == nil:
		text += f.TLS
	default:
		left := f.Certificate.NotAfter.Sub(now)
		soon = left < certSoon
		text += fmt.Sprintf("%s, certificate until %s (%d days)", f.TLS, f.Certificate.NotAfter.UTC().Format(time.DateOnly), int(left.Hours()/24))
	}
	if len(f.Offered) > 0 {
		text += " · offers " + Printable(strings.Join(f.Offered, ", "), 200)
	}
	return text, soon
}

// Login says how the login was done.
func (f *Facts) Login() string {
	switch f.Mechanism {
	case "", APOP, UserPass:
		return f.Mechanism
	}
	return "SASL " + f.Mechanism
}
