package fetcher

import (
	"fmt"

	"popferry/targets"
	"popferry/testdata/dovecot"
)

// real is a trial between the two ends of a Dovecot. What it commits late, it
// commits within the time that recovery gives it.
type real struct {
	*trial
	server   *dovecot.Server
	src, dst string // its users
}

// newReal fills the maildrop of a user of its own.
func newReal(tr *trial, server *dovecot.Server, id int, mail []string) *real {
	r := &real{trial: tr, server: server, src: fmt.Sprintf("src%d", id), dst: fmt.Sprintf("dst%d", id)}
	tr.ends = r
	r.put(mail...)
	tr.run.POP = login{Port: server.POP3, User: r.src, Password: dovecot.Password}
	tr.run.Targets = []login{{Port: server.IMAP, User: r.dst, Password: dovecot.Password}}
	return r
}

func (r *real) put(mail ...string) {
	for _, raw := range mail {
		r.server.Put(r.src, "INBOX", []byte(raw))
		r.source[canonOf([]byte(raw))]++
	}
}

func (r *real) stored(int) map[targets.Hash]int { return r.counted(r.dst) }
func (r *real) left() map[targets.Hash]int      { return r.counted(r.src) }
func (r *real) quiet()                          {}
func (r *real) traffic() string                 { return "" }

func (r *real) counted(user string) map[targets.Hash]int {
	out := map[targets.Hash]int{}
	for _, m := range r.server.Messages(user, "INBOX") {
		out[canonOf(m.Raw)]++
	}
	return out
}
