package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

// single reports whether one account is moved, and not a table of them.
func (m *mover) single() bool { return m.o.accounts == "" }

// arrived tells what became of one account, as soon as that is known.
func (m *mover) arrived(mv *move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.o.json:
		m.stdout.jsonMoved(mv)
	case m.single():
	case mv.code < exitInt: // of those that were interrupted the table tells
		m.stdout.print(m.mark(mv) + " " + endpoint.Printable(mv.account.Name, 60) + " → " + endpoint.Printable(mv.target.Name, 60) + "   " + mv.text() + "\n")
	}
}

// mark is ✓ for an account of which nothing is left to do.
func (m *mover) mark(mv *move) string {
	if mv.code == exitOK {
		return m.stdout.paint(green, "✓")
	}
	return m.stdout.paint(red, "✗")
}

// text is what became of an account, on one line.
func (mv *move) text() string {
	parts := []string{mv.counts()}
	switch {
	case mv.worst != nil:
		parts = append(parts, cut(mv.worst.head, 120)+" ["+mv.worst.code+"]")
	case len(mv.Lacking()) > 0:
		parts = append(parts, count(len(mv.Lacking()), "message")+" not as on the maildrop")
	case mv.Proof != nil:
		parts = append(parts, "checked")
	}
	return strings.Join(append(parts, seconds(mv.took)), " · ")
}

// counts says what was copied and what was not.
func (mv *move) counts() string {
	r := &mv.Report
	parts := []string{humanize.Comma(int64(mv.copied())) + " copied"}
	switch {
	case r.New > 0, mv.copied() > 0:
	case mv.ended:
		parts[0] = "nothing to copy"
	default:
		parts[0] = "nothing copied"
	}
	for _, p := range []struct {
		n    int
		what string
	}{
		{r.Duplicate, "already there"},
		{mv.before(), "moved before"},
		{r.Dropped, "dropped by rule"},
		{mv.skipped(), "left alone"},
		{r.Held, "held"},
		{r.Failed, "failed"},
		{r.Deleted, "deleted on the maildrop"},
	} {
		if p.n > 0 {
			parts = append(parts, humanize.Comma(int64(p.n))+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

// copied is how many messages this call has copied, or has found to be copied by
// one that was interrupted.
func (mv *move) copied() int { return fresh(&mv.Report) + mv.Report.Recovered }

// before is how many messages of the maildrop earlier calls have moved: no more
// than had arrived then, and than this call had nothing to do with.
func (mv *move) before() int {
	r := &mv.Report
	if r.Pass == "" || r.OnServer == 0 {
		return 0
	}
	return max(0, min(mv.Before, r.OnServer-r.Delivered-r.Recovered-r.Dropped-mv.skipped()-r.Held-r.Failed))
}

// skipped is how many messages are left alone, by this call or for good.
func (mv *move) skipped() int { return mv.Report.Skipped + mv.Report.Marked + mv.Passed }

// conclude tells how it went, writes the report, and returns how the command ends.
func (m *mover) conclude(ctx context.Context) exit {
	code := exitOK
	var open []string
	for _, mv := range m.moves {
		if code = worse(code, mv.code); mv.code != exitOK {
			open = append(open, endpoint.Printable(mv.account.Name, 60))
		}
	}
	stop, stopped := interruption(ctx)
	if stopped {
		code = worse(code, stop.code)
	}
	m.problems()
	switch {
	case m.o.json:
	case m.single():
		m.result(m.moves[0], stopped)
	default:
		m.table()
	}
	if m.rows != nil {
		if err := m.rows.close(m.moves); err != nil {
			m.report(explain(err, where{}))
			code = worse(code, exitState)
		} else if !m.o.json {
			m.stdout.printf("  Report: %s, and each message in %s\n", m.rows.accounts, m.rows.messages)
		}
	}
	e := exit{code: code}
	switch {
	case stopped || code == exitOK:
	case m.single():
		e.reason = m.moves[0].reason()
	default:
		e.reason = fmt.Sprintf("%d of %s not done: %s; the same command goes on", len(open), count(len(m.moves), "account"), few(open))
	}
	return e
}

// few names a few of many.
func few(names []string) string {
	const most = 5
	if n := len(names) - most; n > 1 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}

// reason is the last line of one account with which something is not in order;
// "" if the code says it all.
func (mv *move) reason() string {
	if mv.code != exitSome {
		return ""
	}
	var parts []string
	if mv.Report.Failed > 0 {
		parts = append(parts, count(mv.Report.Failed, "message")+" failed")
	}
	if mv.Report.Held > 0 {
		parts = append(parts, are(mv.Report.Held)+" held")
	}
	doubts := mv.Lacking()
	for _, k := range kinds {
		if n := doubtful(doubts, k, ""); n > 0 {
			parts = append(parts, are(n)+" "+k.String())
		}
	}
	return strings.Join(parts, ", ")
}

// problems prints why accounts could not be moved, each reason once.
func (m *mover) problems() {
	told := map[string]bool{}
	for _, mv := range m.moves {
		if mv.worst == nil || told[mv.worst.head] || len(told) == maxProblems {
			continue
		}
		told[mv.worst.head] = true
		m.app.report(mv.worst)
	}
}

// result tells what became of the one account that was moved.
//
//	✓ 12,106 copied, 298 already there, 2 held, 3.9 GB in 52m10s
//	  Checked: all 12,404 are in home (12,106 by UID, 298 by Message-ID).
//	  The 2 held ones: popferry held list
//	  Mail is still on pop.oldhost.example. To delete it there: popferry migrate … --keep 0d
func (m *mover) result(mv *move, stopped bool) {
	var b strings.Builder
	size := ""
	if mv.Report.Bytes > 0 && mv.copied()+mv.Report.Duplicate > 0 {
		size = ", " + octets(mv.Report.Bytes)
	}
	fmt.Fprintf(&b, "%s %s%s in %s\n", m.mark(mv), mv.counts(), size, seconds(mv.took))
	if stopped {
		b.WriteString("  Stopped. Run the same command to continue.\n")
	}
	doubts := mv.Lacking()
	if mv.Proof != nil && len(doubts) == 0 {
		b.WriteString(checked(mv.Proof, m.o.verify == verifyDeep))
	}
	m.stdout.print(b.String())
	m.lacks(mv)
	if mv.ended && len(doubts) == 0 && mv.account.Keep.Forever && mv.Report.Left > mv.Report.Held {
		m.stdout.printf("  Mail is still on %s. To delete it there, add --keep 0d to the command.\n", mv.account.Maildrop.Host)
	}
}

// lacks tells which messages of an account are not where they should be, and what
// to do about them.
func (m *mover) lacks(mv *move) {
	var b strings.Builder
	doubts := mv.Lacking()
	if len(doubts) > 0 {
		m.proven(mv.Proof, m.o.verify == verifyDeep)
	}
	if mv.Report.Held > 0 {
		fmt.Fprintf(&b, "  Held: popferry held list%s\n", m.stateFlag(mv))
	}
	if len(doubts) > 0 && !mv.account.Keep.Forever {
		b.WriteString("  Nothing was deleted, because both sides are not the same.\n")
	}
	b.WriteString(m.again(mv, doubts))
	m.stdout.print(b.String())
}

// again says how to have copied once more what somebody has taken from the target
// since, or changed there: as the state has it, nothing is left to do.
func (m *mover) again(mv *move, doubts []fetcher.Doubt) string {
	const most = 5 // more would not fit on a line; then all are looked at again
	which := " --all"
	var uidls []string
	for _, d := range doubts {
		if d.Kind != fetcher.Unreadable {
			uidls = append(uidls, d.UIDL)
		}
	}
	if !mv.ended || len(uidls) == 0 || slices.ContainsFunc(mv.Proof.Targets, func(t fetcher.TargetProof) bool { return t.Relay }) {
		return ""
	}
	if len(uidls) <= most && !slices.ContainsFunc(uidls, func(u string) bool { return u != endpoint.Printable(u, len(u)) || u[0] == '-' }) {
		which = ""
		for _, u := range uidls {
			which += " " + shellWord(u)
		}
	}
	return "  To have what is missing or different copied again, run this, and then the same command:\n" +
		"    popferry state forget" + m.stateFlag(mv) + " " + shellWord(mv.account.Name) + which + "\n"
}

// shellWord is a word as a shell wants it.
func shellWord(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// checked says that both sides are the same.
func checked(p *fetcher.Proof, deep bool) string {
	var b strings.Builder
	for i := range p.Targets {
		t := &p.Targets[i]
		if t.Relay {
			fmt.Fprintf(&b, "  %s cannot be looked into; as the state says, it took %s of %s.\n", t.Target, humanize.Comma(int64(t.Taken)), count(t.Wanted, "message"))
			continue
		}
		how := methods(t)
		if deep && how != "" {
			how += "; contents compared"
		}
		if how != "" {
			how = " (" + how + ")"
		}
		found := t.ByUID + t.ByMessageID + t.ByContent
		if found == 0 {
			continue
		}
		fmt.Fprintf(&b, "  Checked: all %s are in %s%s.\n", humanize.Comma(int64(found)), endpoint.Printable(t.Target, 80), how)
	}
	return b.String()
}

// stateFlag is what a command needs to find the state of a move.
func (m *mover) stateFlag(mv *move) string {
	if !mv.state.own {
		return ""
	}
	return " --state " + shellWord(mv.state.path)
}

// table tells what became of all accounts, those last that need somebody.
func (m *mover) table() {
	list := slices.Clone(m.moves)
	slices.SortStableFunc(list, func(a, b *move) int { return min(a.code, 1) - min(b.code, 1) })
	rows := [][]string{{" ", "FROM", "TO", "COPIED", "THERE", "BEFORE", "HELD", "FAILED", "SIZE", "RESULT"}}
	done, copied, there, before, bytes := 0, 0, 0, 0, int64(0)
	for _, mv := range list {
		r := &mv.Report
		if mv.code == exitOK {
			done++
		}
		copied, there, bytes = copied+mv.copied(), there+r.Duplicate, bytes+r.Bytes
		before += mv.before()
		rows = append(rows, []string{
			map[bool]string{true: "✓", false: "✗"}[mv.code == exitOK], endpoint.Printable(mv.account.Name, 80), endpoint.Printable(mv.target.Name, 80),
			humanize.Comma(int64(mv.copied())), humanize.Comma(int64(r.Duplicate)), humanize.Comma(int64(mv.before())),
			humanize.Comma(int64(r.Held)), humanize.Comma(int64(r.Failed)), octets(r.Bytes), mv.verdict(),
		})
	}
	text := tableText(m.stdout, needed(rows), 44)
	for sgr, mark := range map[string]string{green: "✓", red: "✗"} { // colours take no room
		text = strings.ReplaceAll(text, "\n"+mark, "\n"+m.stdout.paint(sgr, mark))
	}
	m.stdout.print("\n" + text)
	told := 0
	for _, mv := range list {
		if len(mv.Lacking())+mv.Report.Held == 0 || told == lacksMost {
			continue
		}
		if told++; len(mv.Lacking()) == 0 {
			m.stdout.print(endpoint.Printable(mv.account.Name, 60) + "\n")
		}
		m.lacks(mv)
	}
	m.stdout.printf("%s of %s done: %s copied, %s already there, %s moved before, %s\n", humanize.Comma(int64(done)), count(len(list), "account"),
		humanize.Comma(int64(copied)), humanize.Comma(int64(there)), humanize.Comma(int64(before)), octets(bytes))
}

// lacksMost is of how many accounts of a table it is told which messages lack.
const lacksMost = 5

// needed leaves out the columns of a table that say nothing of any row: in these
// there is no number but 0.
func needed(rows [][]string) [][]string {
	out := make([][]string, len(rows))
	for i := range rows[0] {
		if !slices.ContainsFunc(rows[1:], func(row []string) bool { return !slices.Contains([]string{"0", "–", ""}, row[i]) }) {
			continue
		}
		for n, row := range rows {
			out[n] = append(out[n], row[i])
		}
	}
	return out
}

// verdict says in a few words how an account ends.
func (mv *move) verdict() string {
	switch {
	case mv.code >= exitInt && mv.Report.Pass == "":
		return "not begun"
	case mv.code >= exitInt:
		return "stopped"
	case mv.worst != nil:
		return mv.worst.head
	case mv.code == exitSome:
		return mv.reason()
	case mv.Proof != nil:
		return "checked"
	}
	return "done"
}

// jsonMoved is what became of one account.
type jsonMoved struct {
	Type      string  `json:"type"`
	Job       string  `json:"job"`
	Account   string  `json:"account"`
	Target    string  `json:"target"`
	Messages  int     `json:"messages"`
	Copied    int     `json:"copied"`
	Duplicate int     `json:"duplicate"`
	Before    int     `json:"before"`
	Dropped   int     `json:"dropped"`
	Skipped   int     `json:"skipped"`
	Held      int     `json:"held"`
	Failed    int     `json:"failed"`
	Deleted   int     `json:"deleted"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"duration_s"`
	Checked   bool    `json:"checked"`
	Doubts    int     `json:"doubts"`
	Code      int     `json:"code"`
	Result    string  `json:"result"`
	Error     *string `json:"error"`
}

// line is a move for scripts.
func (mv *move) line() jsonMoved {
	r := &mv.Report
	l := jsonMoved{
		Type: "migrated", Job: mv.job.Name, Account: mv.account.Name, Target: mv.target.Name, Messages: r.OnServer,
		Copied: mv.copied(), Duplicate: r.Duplicate, Before: mv.before(), Dropped: r.Dropped, Skipped: mv.skipped(), Held: r.Held, Failed: r.Failed,
		Deleted: r.Deleted, Bytes: r.Bytes, Seconds: mv.took.Seconds(), Checked: mv.Proof != nil, Doubts: len(mv.Lacking()),
		Code: mv.code, Result: mv.verdict(),
	}
	if mv.worst != nil {
		l.Error = &mv.worst.head
	}
	return l
}

func (s *stream) jsonMoved(mv *move) {
	if mv.Proof != nil {
		s.jsonProof(mv.Proof)
	}
	s.json(mv.line())
}
