package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

const (
	// looking is how long the headers of one maildrop may be looked at for a plan.
	looking = 10 * time.Second
	// usualPace is what a plan takes for granted, in octets a second, as nobody knows
	// better before the first message has moved; and usualCost is what each message
	// adds, in octets.
	usualPace = 1_500_000
	usualCost = 4_000
)

// outlook is what there is to do for one account.
type outlook struct {
	*move
	fetcher.Estimate
	problem *problem // why nobody knows
}

// copied is what will be copied: what is there need not be.
func (o *outlook) copied() int {
	if o.Looked == o.New {
		return o.New - o.There
	}
	return o.New
}

// amount is what will be copied, as far as sizes are known: of what is new they are.
func (o *outlook) amount() amount {
	if o.New == 0 {
		return amount{}
	}
	return amount{o.copied(), int64(float64(o.NewOctets) / float64(o.New) * float64(o.copied()))}
}

// plan finds out what there is to do, shows it, and asks whether to begin. It
// changes nothing anywhere.
func (m *mover) plan(ctx context.Context) (begin bool, err error) {
	list := m.outlooks(ctx)
	before, err := m.sentBefore(ctx)
	if err != nil {
		return false, err
	}
	m.expect = map[string]amount{}
	for _, o := range list {
		if o.problem == nil {
			m.expect[o.account.Name] = m.expect[o.account.Name].plus(amount{o.New, o.NewOctets})
		}
	}
	m.budgets = newProgress(m.config, before).budgets
	if e, stopped := interruption(ctx); stopped {
		return false, e
	}
	ended := exit{}
	for _, o := range list {
		if o.problem != nil {
			ended.code = worse(ended.code, o.problem.exit)
		}
	}
	switch {
	case m.o.json:
		for _, o := range list {
			m.stdout.jsonPlan(o)
		}
	case len(list) == 1 && list[0].problem == nil:
		m.stdout.print(m.planOf(list[0]))
	case len(list) > 1:
		m.planTable(list)
	}
	m.complain(list)
	nothing := !slices.ContainsFunc(list, func(o *outlook) bool { return o.problem == nil })
	if m.o.dryRun || nothing {
		if !m.o.json && !nothing {
			m.stdout.print("Dry run: nothing was changed.\n")
		}
		if ended.code == exitOK {
			return false, nil
		}
		return false, ended
	}
	return m.answered(ctx, "Go? [y/N] ")
}

// complain prints why nothing is known of accounts, each reason once.
func (m *mover) complain(list []*outlook) {
	told := map[string]bool{}
	for _, o := range list {
		if o.problem == nil || told[o.problem.head] {
			continue
		}
		if len(told) == maxProblems {
			return
		}
		told[o.problem.head] = true
		m.report(o.problem)
	}
}

// outlooks asks all servers, some at a time.
func (m *mover) outlooks(ctx context.Context) []*outlook {
	list := make([]*outlook, len(m.moves))
	room := make(chan struct{}, m.o.parallel)
	var wg sync.WaitGroup
	var bug *crash
	var mu sync.Mutex
	for i, mv := range m.moves {
		room <- struct{}{}
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					mu.Lock()
					bug = &crash{r, debug.Stack()}
					mu.Unlock()
				}
				<-room
			}()
			list[i] = m.outlook(ctx, mv)
		})
	}
	wg.Wait()
	if bug != nil {
		panic(bug)
	}
	return list
}

// outlook asks the servers of one account.
func (m *mover) outlook(ctx context.Context, mv *move) *outlook {
	o := &outlook{move: mv}
	err := func() error {
		ts, err := m.config.Open(m.log, targetsOf(mv.job)...) // its state may have thousands
		if err != nil {
			return err
		}
		f := &fetcher.Fetcher{Targets: ts, Log: m.log, DryRun: true}
		defer func() {
			for _, t := range ts {
				t.Close()
			}
		}()
		if f.State, err = view(ctx, mv.state.path); err != nil {
			return err
		}
		if f.State != nil {
			defer f.State.Close()
		}
		o.Estimate, err = f.Estimate(ctx, &mv.job.Job, mv.account, looking)
		return err
	}()
	if err != nil {
		o.problem = continued(explainMove(m.config, mv.account, err))
	}
	return o
}

// planOf is the plan for one account.
//
//	From    jane@pop.isp.example     12,406 messages, 3.9 GB
//	To      jane@imap.home.example   INBOX has 310 messages; 298 of the others are there (Message-ID)
//	Plan    copy 12,108 · keep everything on pop.isp.example · about 52m0s
func (m *mover) planOf(o *outlook) string {
	from, to := endpoint.Printable(o.account.Name, 80), endpoint.Printable(o.target.Name, 80)
	pad := max(cells(from), cells(to)) + 3
	line := func(head, name, text string) string {
		return head + strings.Repeat(" ", 8-len(head)) + name + strings.Repeat(" ", pad-cells(name)) + text + "\n"
	}
	parts := []string{"copy " + humanize.Comma(int64(o.copied()))}
	if o.New == 0 {
		parts[0] = "nothing to copy"
	}
	for _, p := range []struct {
		n    int
		what string
	}{{o.Moved, "moved before"}, {o.Held, "held"}, {o.Left, "left alone"}} {
		if p.n > 0 {
			parts = append(parts, humanize.Comma(int64(p.n))+" "+p.what)
		}
	}
	parts = append(parts, m.stays(o))
	if t := m.time([]*outlook{o}); t != "" {
		parts = append(parts, t)
	}
	return line("From", from, count(o.Messages, "message")+", "+octets(o.Octets)) +
		line("To", to, atTarget(o)) +
		"Plan    " + strings.Join(parts, " · ") + "\n"
}

// atTarget says what is at the target already.
func atTarget(o *outlook) string {
	var parts []string
	for _, h := range o.Holds {
		switch {
		case h.Folder == "":
		case len(parts) == planFolders:
			parts = append(parts, "…")
		case len(parts) < planFolders:
			has := " is empty"
			if h.Messages > 0 {
				has = " has " + count(h.Messages, "message")
			}
			parts = append(parts, endpoint.Printable(h.Folder, 60)+has)
		}
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "nothing there yet"
	}
	switch {
	case o.Looked == 0:
	case o.Looked < o.New:
		text += fmt.Sprintf("; of the first %s, %s are there already (Message-ID)", humanize.Comma(int64(o.Looked)), humanize.Comma(int64(o.There)))
	case o.There > 0:
		text += fmt.Sprintf("; %s of the %s are there already (Message-ID)", humanize.Comma(int64(o.There)), humanize.Comma(int64(o.New)))
	default:
		text += "; none of the " + humanize.Comma(int64(o.New)) + " is among them (Message-ID)"
	}
	return text
}

// planFolders is how many folders a plan names.
const planFolders = 4

// stays says what stays on the maildrop.
func (m *mover) stays(o *outlook) string {
	host := o.account.Maildrop.Host
	switch k := o.account.Keep; {
	case k.Forever:
		return "keep everything on " + host
	case k.For == 0 && (m.o.verify == verifyNo || o.account.Consumes || o.target.Type == "lmtp" || o.target.Type == "smtp"):
		return "delete on " + host + " what was copied"
	case k.For == 0:
		return "delete on " + host + " what was copied and compared"
	default:
		return "delete on " + host + " what is there for " + days(k.For)
	}
}

// time says how long copying takes if servers are as fast as usual, and as rates
// allow; "" if nobody can say.
func (m *mover) time(list []*outlook) string {
	var all amount
	toDo := map[string]amount{}
	for _, o := range list {
		if o.problem != nil {
			continue
		}
		part := o.amount()
		toDo[o.target.Name] = toDo[o.target.Name].plus(part)
		part.octets += int64(part.messages) * usualCost
		all = all.plus(part)
	}
	var rations []ration
	for _, b := range m.budgets {
		if left := toDo[b.target]; left.messages > 0 {
			rations = append(rations, ration{rate: b.rate, left: left, spent: b.spent(time.Now())})
		}
	}
	t, ok := timeLeft(all, usualPace, rations)
	switch free, _ := timeLeft(all, usualPace, nil); {
	case !ok || all.messages == 0:
		return ""
	case t > free:
		return "about " + eta(t) + ", as rates allow"
	}
	return "about " + eta(t) + " at " + octets(usualPace) + "/s"
}

// planTable is the plan for many accounts.
func (m *mover) planTable(list []*outlook) {
	rows := [][]string{{"FROM", "TO", "MESSAGES", "SIZE", "TO COPY", "THERE", "MOVED", ""}}
	known, bad := planned{}, 0
	for _, o := range list {
		row := []string{endpoint.Printable(o.account.Name, 80), endpoint.Printable(o.target.Name, 80), "–", "–", "–", "–", "–", ""}
		if o.problem != nil {
			row[7] = o.problem.head
			bad++
		} else {
			row[2], row[3] = humanize.Comma(int64(o.Messages)), octets(o.Octets)
			row[4], row[5], row[6] = humanize.Comma(int64(o.copied())), humanize.Comma(int64(o.There)), humanize.Comma(int64(o.Moved))
			known.add(o)
		}
		rows = append(rows, row)
	}
	table(m.stdout, needed(rows), 40)
	text := fmt.Sprintf("%s: copy %s, %s", count(len(list)-bad, "account"), count(known.copied, "message"), octets(known.octets))
	if t := m.time(list); t != "" {
		text += " · " + t + ", one after the other"
	}
	if bad > 0 {
		text += fmt.Sprintf(" · %s cannot be moved now", count(bad, "account"))
	}
	m.stdout.print(text + "\n")
}

// planned adds up plans.
type planned struct {
	copied int
	octets int64
}

func (t *planned) add(o *outlook) {
	t.copied += o.copied()
	t.octets += o.amount().octets
}

// jsonPlanned is what there is to do for one account.
type jsonPlanned struct {
	Type     string  `json:"type"`
	Job      string  `json:"job"`
	Account  string  `json:"account"`
	Target   string  `json:"target"`
	Messages int     `json:"messages"`
	Bytes    int64   `json:"bytes"`
	New      int     `json:"new"`
	NewBytes int64   `json:"new_bytes"`
	Looked   int     `json:"looked"`
	There    int     `json:"there"`
	Moved    int     `json:"moved"`
	Held     int     `json:"held"`
	Left     int     `json:"left"`
	Error    *string `json:"error"`
}

func (s *stream) jsonPlan(o *outlook) {
	line := jsonPlanned{
		Type: "plan", Job: o.job.Name, Account: o.account.Name, Target: o.target.Name, Messages: o.Messages, Bytes: o.Octets,
		New: o.New, NewBytes: o.NewOctets, Looked: o.Looked, There: o.There, Moved: o.Moved, Held: o.Held, Left: o.Left,
	}
	if o.problem != nil {
		line.Error = &o.problem.head
	}
	s.json(line)
}
