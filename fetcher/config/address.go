package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"popferry/targets/endpoint"
	"popferry/targets/smtp"
)

// End is a mailbox as --from or --to name it: a name of the configuration, or an
// address that says all there is to know.
type End struct {
	Name     string          // in a configuration; "" if it is an address
	Password endpoint.Secret // of an address; the zero Secret if none was given yet

	kind   string // of an address: "pop3", "imap", "lmtp" or "maildir"
	tls    endpoint.TLS
	host   string
	port   int
	user   string
	rcpt   string // of LMTP
	folder string // of IMAP; "" if the address has none
	path   string // of a Maildir; relative to the working directory
}

// scheme is what stands before the :// of an address.
type scheme struct {
	p   protocol
	tls endpoint.TLS
	own bool // in clear though nobody said so: on this machine only
}

var schemes = map[string]scheme{
	"pop3s": {pop3, endpoint.Implicit, false}, "pop3+starttls": {pop3, endpoint.StartTLS, false},
	"pop3+plain": {pop3, endpoint.Plain, false}, "pop3": {pop3, endpoint.Plain, true},
	"imaps": {imap4, endpoint.Implicit, false}, "imap+starttls": {imap4, endpoint.StartTLS, false},
	"imap+plain": {imap4, endpoint.Plain, false}, "imap": {imap4, endpoint.Plain, true},
	"lmtp+starttls": {lmtp, endpoint.StartTLS, false}, "lmtp+plain": {lmtp, endpoint.Plain, false},
	"lmtp": {lmtp, endpoint.Plain, true},
}

// protocols are those of addresses, by kind.
var protocols = map[string]protocol{"pop3": pop3, "imap": imap4, "lmtp": lmtp}

// How the two ends can be written.
const (
	fromForms = "pop3s://jane@pop.isp.example, or jane@gmx.de at a provider that popferry knows"
	toForms   = "imaps://jane@imap.home.example/INBOX, maildir:/path, lmtp://host/jane@home.example, or jane@gmx.de"
)

// ParseEnd reads what --from (source) or --to says. The error is an *Error with
// Code, Text and Hint, and no place; nothing in it shows a password that was
// written into the address.
func ParseEnd(text string, source bool) (End, error) {
	text = strings.TrimSpace(text)
	p := addressParser{source: source}
	switch name, rest, isURL := strings.Cut(text, "://"); {
	case text == "":
		p.fail("address-empty", "nothing is named", "Write a name of the configuration, or an address: "+p.forms())
	case nameText.MatchString(text):
		p.end.Name = text
	case strings.HasPrefix(text, "maildir:"):
		p.maildir(strings.TrimPrefix(text, "maildir:"))
	case isURL && schemeText.MatchString(name):
		p.url(strings.ToLower(name), rest)
	default:
		p.mailAddress(text)
	}
	if p.err != nil {
		return End{}, p.err
	}
	return p.end, nil
}

var schemeText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// addressParser reads one address. It keeps the first error.
type addressParser struct {
	source bool
	end    End
	err    error
}

func (p *addressParser) fail(code, text, hint string) {
	if p.err == nil {
		p.err = &Error{Code: code, Text: text, Hint: hint}
	}
}

func (p *addressParser) forms() string {
	if p.source {
		return fromForms
	}
	return toForms
}

// flag is what the end is called on a command line.
func (p *addressParser) flag() string {
	if p.source {
		return "from"
	}
	return "to"
}

// secret refuses an address with a password in it. What is in it is not shown.
func (p *addressParser) secret() {
	p.fail("address-password", "a password in an address can be read by others, in the list of processes and in the history of the shell",
		"Leave it out: it is asked for, or comes from --"+p.flag()+"-password-file FILE.")
}

// url reads what stands behind a scheme.
func (p *addressParser) url(name, rest string) {
	s, ok := schemes[name]
	if !ok {
		hint := "Write " + p.forms()
		switch near := nearest(name, schemeNames(p.source)); {
		case strings.HasPrefix(name, "smtp"), name == "submission":
			hint = "To send mail on by SMTP, write a configuration with a target of  type: smtp"
		case name == "lmtps":
			hint = "LMTP has TLS after STARTTLS only: lmtp+starttls://"
		case near != "":
			hint = "Did you mean " + near + "://? For example " + p.forms()
		}
		p.fail("address-scheme", "addresses do not begin with "+shorten(name+"://"), hint)
		return
	}
	authority, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(authority, '@')
	user, place := authority[:max(at, 0)], authority[at+1:]
	host, port, portOK := splitPlace(place)
	if strings.Contains(strings.ReplaceAll(strings.ToUpper(user), "%3A", ":"), ":") || !portOK && strings.Contains(path, "@") {
		p.secret()
		return
	}
	p.end.kind, p.end.tls = s.p.name, s.tls
	p.direction(s.p)
	if strings.ContainsAny(rest, "?#") {
		p.fail("address-query", "an address has no ? and no #", "In names they are written %3F and %23.")
	}
	if p.end.user = p.decoded("user", user); p.end.user == "" && !s.p.open {
		p.fail("address-user", "the address names no user", "Write "+name+"://USER@HOST")
	}
	p.place(s, host, port, portOK)
	p.below(s.p, path)
	p.known(s.p)
}

func schemeNames(source bool) []string {
	if source {
		return []string{"pop3s", "pop3+starttls", "pop3+plain"}
	}
	return []string{"imaps", "imap+starttls", "imap+plain", "lmtp", "lmtp+starttls", "lmtp+plain", "maildir"}
}

// direction refuses to read what is no maildrop, and to write to one.
func (p *addressParser) direction(pr protocol) {
	switch {
	case p.source && pr.kind != "account":
		p.fail("address-kind", "popferry reads POP3; mail cannot come from "+strings.ToUpper(pr.name), "Write "+fromForms+".\nThe same mailbox can often be read by POP3, too.")
	case !p.source && pr.kind == "account":
		p.fail("address-kind", "mail cannot be put into a POP3 maildrop, it can only be read", "Write "+toForms)
	}
}

// splitPlace takes host and port apart; the port is 0 where there is none. ok is
// false where what follows the host is no port.
func splitPlace(place string) (host string, port int, ok bool) {
	host, text := place, ""
	if inner, after, bracket := strings.Cut(place, "]"); bracket && strings.HasPrefix(inner, "[") {
		host, text = inner+"]", after
	} else if i := strings.IndexByte(place, ':'); i >= 0 {
		host, text = place[:i], place[i:]
	}
	if text == "" {
		return host, 0, true
	}
	port, err := strconv.Atoi(strings.TrimPrefix(text, ":"))
	ok = err == nil && port >= 1 && port <= 65535 && text[0] == ':' && digits.MatchString(text[1:])
	return host, port, ok
}

// place checks host and port.
func (p *addressParser) place(s scheme, host string, port int, portOK bool) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.Replace(strings.TrimSuffix(inner, "]"), "%25", "%", 1) // of a zone
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			p.fail("address-host", "what stands in brackets is no IPv6 address", "For example [2001:db8::1].")
		}
	} else if !hostText.MatchString(host) || len(host) > 253 {
		e := "the name of the server cannot be " + shorten(host)
		hint := "Write " + p.forms()
		switch {
		case host == "":
			e = "the address names no server"
		case strings.ContainsFunc(host, func(r rune) bool { return r > 0x7f }):
			hint = "A name with other than ASCII letters is written in its xn-- form."
		}
		p.fail("address-host", e, hint)
	}
	if !portOK {
		p.fail("address-port", "behind the server's name there is no port from 1 to 65535", "The port is "+strconv.Itoa(s.p.port(s.tls))+" if it is left out. An IPv6 address is put in brackets.")
	}
	p.end.host, p.end.port = host, port
	if port == 0 {
		p.end.port = s.p.port(s.tls)
	}
	if s.own && !isLoopback(host) {
		safe := s.p.name + "+starttls://"
		if s.p.implicit != s.p.clear {
			safe = s.p.name + "s:// or " + safe
		}
		p.fail("address-clear", s.p.name+":// would send all of it in clear over the network to "+shorten(host),
			"Write "+safe+"; or "+s.p.name+"+plain:// if it really is to go in clear.")
	}
}

// below reads the path: the folder at an IMAP server, or who shall get the mail.
func (p *addressParser) below(pr protocol, path string) {
	switch pr.name {
	case "imap":
		if path = strings.TrimSuffix(path, "/"); path != "" {
			p.end.folder = p.folder(p.decoded("folder", path))
		}
	case "lmtp":
		p.end.rcpt = p.decoded("recipient", path)
		if err := smtp.CheckAddress(p.end.rcpt); p.end.rcpt == "" {
			p.fail("address-recipient", "the address does not say who shall get the mail", "Write lmtp://HOST/jane@home.example")
		} else if err != nil {
			p.fail("address-recipient", "the recipient is no mail address: "+err.Error(), "Write lmtp://HOST/jane@home.example")
		}
	default:
		if path != "" {
			p.fail("address-folder", "a POP3 maildrop has no folders", "Leave out what follows the server's name.")
		}
	}
}

// folder checks the name of a folder.
func (p *addressParser) folder(name string) string {
	folder, err := checkFolder(name)
	if err != nil {
		p.fail(err.Code, err.Text, err.Hint)
	}
	return folder
}

// checkFolder returns the name of a folder as it is compared: INBOX is the same
// in any case (RFC 3501 §5.1).
func checkFolder(name string) (string, *Error) {
	switch {
	case strings.EqualFold(name, "INBOX"):
		return "INBOX", nil
	case !plainText(name):
		return "", &Error{Code: "address-folder", Text: "the name of the folder holds a control character or an invisible one"}
	case strings.TrimSpace(name) == "", strings.HasPrefix(name, "/"), strings.HasSuffix(name, "/"), strings.Contains(name, "//"):
		return "", &Error{Code: "address-folder", Text: "the name of the folder has an empty level", Hint: "Levels are separated by one /: Lists/go"}
	}
	return name, nil
}

// decoded undoes percent-encoding. what names the part in errors.
func (p *addressParser) decoded(what, s string) string {
	text, err := url.PathUnescape(s)
	switch {
	case err != nil:
		p.fail("address-escape", "in the "+what+" a % is not followed by two hexadecimal digits", "A % itself is written %25.")
		return ""
	case !plainText(text):
		p.fail("address-character", "the "+what+" holds a control character or an invisible one", "")
		return ""
	}
	return strings.TrimSpace(text)
}

// plainText reports whether s can be printed as it is.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// known refuses servers to which nobody logs in with a password.
func (p *addressParser) known(pr protocol) {
	if at := providerOf(pr.name, p.end.host, p.end.user); at != nil && at.Passwords == "no" {
		p.fail("address-oauth", shorten(p.end.host)+" takes no passwords for mail, it wants OAuth",
			"Write a configuration with  oauth: {client_id: …}  and sign in with popferry auth login NAME; then give its NAME here.")
	}
}

// maildir reads the path of a Maildir.
func (p *addressParser) maildir(path string) {
	if p.source {
		p.fail("address-kind", "popferry reads POP3; mail cannot come from a Maildir", "Write "+fromForms)
	}
	if after, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(after, "/") {
			p.fail("address-path", "a Maildir lies on this machine; behind maildir:// there is no host", "Write maildir:/path, or maildir:path for one below this directory.")
		}
		path = after
	}
	switch {
	case strings.TrimSpace(path) == "":
		p.fail("address-path", "the address names no directory", "Write maildir:/path")
	case !plainText(path):
		p.fail("address-character", "the path holds a control character or an invisible one", "")
	case path == "~", strings.HasPrefix(path, "~/"):
		p.fail("address-path", "~ is not expanded behind maildir:", "Write maildir:$HOME/…")
	}
	p.end.kind, p.end.path = "maildir", path
}

// mailAddress reads what is no URL: the address of somebody at a provider whose
// servers are known.
func (p *addressParser) mailAddress(text string) {
	local, domain, isAddress := strings.Cut(text, "@")
	colon := strings.IndexByte(text, ':')
	if name, ok := strings.CutPrefix(text, text[:max(colon, 0)]+":"); ok && !strings.Contains(name, ":") {
		if _, ok := schemes[strings.ToLower(text[:colon])]; ok {
			p.fail("address-form", "behind "+text[:colon]+": come two slashes", "Write "+p.forms())
		}
	}
	switch {
	case colon >= 0 && colon < strings.LastIndexByte(text, '@'):
		p.secret()
	case colon >= 0:
		p.fail("address-form", "this is no name of the configuration and no address", "Write "+p.forms())
	case !plainText(text):
		p.fail("address-character", "the address holds a control character or an invisible one", "")
	case !isAddress:
		p.fail("address-form", shorten(text)+" is no name of the configuration and no address", "Write "+p.forms())
	case strings.Contains(domain, "/"):
		p.fail("address-form", "a mail address cannot be followed by a folder", "Write --folder NAME, or "+p.forms())
	case local == "" || !hostText.MatchString(domain):
		p.fail("address-form", shorten(text)+" is no mail address", "Write "+p.forms())
	}
	if p.err != nil {
		return
	}
	pr, proto, name := providerOf("", "", text), imap4, "imaps"
	if p.source {
		proto, name = pop3, "pop3s"
	}
	write := "Write " + name + "://" + local + "@HOST with the name of its server, or " + name + "://" + local + "%40" + domain + "@HOST if the whole address is the user."
	if pr == nil {
		p.fail("address-unknown", "the servers of "+shorten(domain)+" are not known", write)
		return
	}
	at, ok := pr.server(proto.name)
	if !ok {
		p.fail("address-unknown", shorten(domain)+" has no "+strings.ToUpper(proto.name)+" server that popferry knows", write)
		return
	}
	p.end.kind, p.end.user, p.end.host, p.end.port, p.end.tls = proto.name, text, at.host, at.port, at.tls
	p.known(proto)
}
