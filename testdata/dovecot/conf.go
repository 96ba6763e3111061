package dovecot

import (
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Option is a piece of dovecot.conf that is added to the end of the server's,
// so that it overrides what stands there. Any text will do.
type Option string

const (
	// LockSession lets one POP3 session a user in; the second is refused with
	// [IN-USE], after ten seconds.
	LockSession Option = "pop3_lock_session = yes"
	// Fsync makes the server sync mail to disk as a production server does.
	Fsync Option = "mail_fsync = optimized"
	// DotSeparator gives folders the names they have on most Dovecots:
	// "INBOX", "Lists.go".
	DotSeparator Option = "namespace inbox {\n separator = .\n}"
	// WithLMTP takes mail by LMTP as well, for recipients with any domain; the user
	// is the whole address.
	WithLMTP Option = "protocols = imap pop3 lmtp\npostmaster_address = postmaster@home.example\n" +
		"service lmtp {\n inet_listener lmtp {\n  port = $LMTP\n }\n}"
	// Courier gives folders the names Courier gives them: "INBOX.Lists.go".
	Courier Option = "namespace inbox {\n separator = .\n prefix = INBOX.\n}"
)

// Quota limits every user's mail, for example to "*:storage=100K" or
// "*:messages=3". APPEND then says NO [OVERQUOTA].
func Quota(rule string) Option {
	return withQuota("quota_rule = " + rule)
}

// MaxMailSize limits a message to size, for example "100K". APPEND then says
// NO [LIMIT]. It goes together with Quota; without that, there is room for much.
func MaxMailSize(size string) Option {
	return withQuota("quota_rule = *:storage=10G\n quota_max_mail_size = " + size)
}

func withQuota(settings string) Option {
	return Option("mail_plugins = $mail_plugins quota\n" +
		"protocol imap {\n mail_plugins = $mail_plugins imap_quota\n}\n" +
		"plugin {\n quota = maildir:User\n " + settings + "\n}")
}

// AuthAt lets other servers ask about logins at a socket.
func AuthAt(path string) Option {
	return Option("service auth {\n unix_listener " + path + " {\n  mode = 0666\n }\n}")
}

// OAuth lets users in whose token an address knows: it is asked with the token
// appended, and answers 200 and {"user": "jane"}, or 401. Passwords still do.
func OAuth(url string) Option {
	return Option(oauthMark + url + "\nauth_mechanisms = plain login xoauth2 oauthbearer\n" +
		"passdb {\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = $DIR/oauth2.conf\n}")
}

// oauthMark is followed by what goes into a file of its own.
const oauthMark = "#oauth2 "

// oauthConf returns that file, nil without the option.
func oauthConf(options []Option) []byte {
	for _, o := range options {
		if rest, ok := strings.CutPrefix(string(o), oauthMark); ok {
			url, _, _ := strings.Cut(rest, "\n")
			return []byte("tokeninfo_url = " + url + "\nusername_attribute = user\nforce_introspection = no\n")
		}
	}
	return nil
}

// UIDLFormat sets how POP3 names messages; "%08Xu%08Xv" is Dovecot's own way,
// "%g" gives names that stay when a mailbox is copied.
func UIDLFormat(format string) Option {
	return Option("pop3_uidl_format = " + format)
}

// capabilities are what Dovecot 2.3 offers after login by itself.
var capabilities = strings.Fields(`IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE
	SORT SORT=DISPLAY THREAD=REFERENCES THREAD=REFS THREAD=ORDEREDSUBJECT MULTIAPPEND
	URL-PARTIAL CATENATE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED I18NLEVEL=1
	CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES WITHIN CONTEXT=SEARCH LIST-STATUS BINARY
	MOVE SNIPPET=FUZZY PREVIEW=FUZZY PREVIEW STATUS=SIZE SAVEDATE LITERAL+ NOTIFY`)

// Hide takes IMAP capabilities off the list that the server offers. It goes on
// understanding them.
func Hide(names ...string) Option {
	left := slices.DeleteFunc(slices.Clone(capabilities), func(c string) bool {
		return slices.Contains(names, c)
	})
	return Option("imap_capability = " + strings.Join(left, " "))
}

func (s *Server) conf(options []Option) []byte {
	var b strings.Builder
	r := strings.NewReplacer(
		"$DIR", s.dir, "$PASSWORD", Password,
		"$UID", strconv.Itoa(s.uid), "$GID", strconv.Itoa(s.gid),
		"$POP3S", strconv.Itoa(s.POP3S), "$POP3", strconv.Itoa(s.POP3),
		"$IMAPS", strconv.Itoa(s.IMAPS), "$IMAP", strconv.Itoa(s.IMAP), "$LMTP", strconv.Itoa(s.LMTP),
	)
	r.WriteString(&b, basic) // a strings.Builder takes everything
	for _, o := range options {
		r.WriteString(&b, "\n"+string(o)+"\n")
	}
	return []byte(b.String())
}

// basic is quick rather than safe: no fsync, no pause after a wrong password,
// no limit that a test could meet by accident.
const basic = `
base_dir = $DIR/run
state_dir = $DIR/run
log_path = /dev/stderr
protocols = imap pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <$DIR/cert.pem
ssl_key = <$DIR/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_format = %Lu
first_valid_uid = $UID
first_valid_gid = $GID
passdb {
  driver = static
  args = password=$PASSWORD
}
userdb {
  driver = static
  args = uid=$UID gid=$GID home=$DIR/mail/%u allow_all_users=yes
}
mail_location = maildir:~/Maildir
mail_fsync = never
mail_max_userip_connections = 0
namespace inbox {
  inbox = yes
  separator = /
}
default_vsz_limit = 2G
default_process_limit = 1000
default_client_limit = 4000
service anvil {
  client_limit = 4000
}
service imap-login {
  service_count = 0
  process_limit = 1
  inet_listener imap {
    port = $IMAP
  }
  inet_listener imaps {
    port = $IMAPS
    ssl = yes
  }
}
service pop3-login {
  service_count = 0
  process_limit = 1
  inet_listener pop3 {
    port = $POP3
  }
  inet_listener pop3s {
    port = $POP3S
    ssl = yes
  }
}
`

// choosePorts picks free ports below the range from which the kernel takes
// those of outgoing connections: one of these could else hold a port that
// Restart wants back.
func (s *Server) choosePorts() error {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, port := range []*int{&s.POP3, &s.POP3S, &s.IMAP, &s.IMAPS, &s.LMTP} {
		for try := 1; ; try++ {
			*port = 10000 + mathrand.IntN(20000)
			l, err := net.Listen("tcp", s.Addr(*port))
			if err == nil {
				held = append(held, l)
				break
			}
			if try == 20 {
				return err
			}
		}
	}
	return nil
}
