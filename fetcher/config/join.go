package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/targets/endpoint"
)

// join looks up the names that jobs and rules mention, and checks what concerns
// several parts of the file.
func (d *decoder) join(t *topDraft) {
	for _, m := range d.accountRefs {
		d.known("account", m, t.accounts)
	}
	for _, r := range d.drafts {
		for _, m := range r.targets {
			d.known("target", m, t.targets)
		}
	}
	d.sameMaildrop(t)
	usedBy := map[string]*jobDraft{}
	used := map[string]bool{}
	names := map[string]*jobDraft{}
	for _, j := range t.jobs {
		j.location = t.Location
		for _, r := range j.from {
			if !d.known("account", r, t.accounts) {
				continue
			}
			if other := usedBy[r.name]; other != nil {
				d.fail(r.Node, "config-account-twice", "account %s belongs to %s already (line %d)", d.show(r.Node), other.where, other.node.Line).
					Hint = "An account belongs to one job. For several targets write  to: [a, b]  or use rules."
				continue
			}
			usedBy[r.name] = j
			if a := t.Accounts[r.name]; a != nil {
				j.Accounts = append(j.Accounts, a)
			}
		}
		for _, r := range j.to {
			if d.known("target", r, t.targets) {
				used[r.name] = true
				j.Targets = append(j.Targets, r.name)
				t.deliversTo(j, r.name)
				d.noLoop(t, j.Accounts, r)
				d.needsRecipient(t, r.name)
			}
		}
		d.jobRules(t, j)
		d.ruleTargets(t, j, used)
		if other := names[j.Name]; other != nil {
			d.fail(j.node, "config-duplicate-name", "%s has the same name as the job on line %d", j.where, other.node.Line).
				Hint = "A job without name is called <from>-to-<to>. Give one of the two another  name:"
		}
		names[j.Name] = j
		t.Jobs = append(t.Jobs, &j.Job)
	}
	d.notifyJobs(t)
	for _, name := range slices.Sorted(maps.Keys(t.accounts)) {
		if usedBy[name] == nil {
			d.warn(t.accounts[name], "config-unused", "account %q belongs to no job, so it is never read", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.targets)) {
		if !used[name] {
			d.warn(t.targets[name], "config-unused", "target %q belongs to no job, so nothing goes there", name)
		}
	}
}

// jobRules gives a job its choice of rules.
func (d *decoder) jobRules(t *topDraft, j *jobDraft) {
	j.Rules = t.Rules
	if !j.someRules {
		return
	}
	names := []string{}
	for _, r := range j.rules {
		if d.known("rule", r, d.ruleNames) {
			names = append(names, r.name)
		}
	}
	if t.Rules != nil {
		j.Rules = t.Rules.Only(names...)
	}
}

// deliversTo notes what the job needs to know of a target.
func (t *topDraft) deliversTo(j *jobDraft, name string) {
	target := t.Targets[name]
	if target == nil {
		return
	}
	if target.Dedupe != fetcher.Recover {
		if j.Dedupe == nil {
			j.Dedupe = map[string]fetcher.Dedupe{}
		}
		j.Dedupe[name] = target.Dedupe
	}
	if target.Hold {
		if j.Hold == nil {
			j.Hold = map[string]bool{}
		}
		j.Hold[name] = true
	}
}

// ruleTargets checks what the rules of a job do with targets, which need not be
// the job's.
func (d *decoder) ruleTargets(t *topDraft, j *jobDraft, used map[string]bool) {
	for _, r := range d.drafts {
		if j.someRules && !slices.ContainsFunc(j.rules, func(own ref) bool { return own.name == r.Name }) {
			continue
		}
		from := slices.DeleteFunc(slices.Clone(j.Accounts), func(a *fetcher.Account) bool {
			return r.Accounts != nil && !slices.Contains(r.Accounts, a.Name)
		})
		for _, m := range r.targets {
			used[m.name] = true
			t.deliversTo(j, m.name)
			d.noLoop(t, from, m)
			if len(r.Then.To) == 0 {
				d.needsRecipient(t, m.name)
			}
		}
		d.noRecipient(t, j, r)
	}
}

// noRecipient refuses recipients where no target has any use for them.
func (d *decoder) noRecipient(t *topDraft, j *jobDraft, r *ruleDraft) {
	n := r.places["then.to"]
	if n == nil || d.blamed(n) {
		return
	}
	names := j.Targets
	if len(r.Then.Targets) > 0 {
		names = r.Then.Targets
	}
	for _, name := range names {
		if target := t.Targets[name]; target == nil || target.Type == "smtp" || target.Type == "lmtp" {
			return
		}
	}
	d.fail(n, "config-recipient", "to in %s has no meaning: %s delivers to no smtp or lmtp target by it", d.showRule(r), j.where).
		Hint = "An imap or maildir target puts messages into a folder. Add  target:  with an smtp target, or remove it."
}

// known reports a name that leads nowhere.
func (d *decoder) known(what string, r ref, names map[string]*yaml.Node) bool {
	if names[r.name] != nil {
		return true
	}
	if names == nil && what != "rule" {
		return false // the whole section is missing or broken, and that was said
	}
	e := d.fail(r.Node, "config-unknown-name", "there is no %s %s", what, d.show(r.Node))
	known := slices.Sorted(maps.Keys(names))
	e.Suggest = didYouMean(r.name, known)
	switch {
	case len(known) == 0:
		e.Hint = "The file has no " + what + "s."
	case len(known) <= 10:
		e.Hint = "There are: " + printable(strings.Join(known, ", "))
	}
	return false
}

// sameMaildrop refuses two accounts that read the same maildrop: each would
// take what the other has not seen yet for new.
func (d *decoder) sameMaildrop(t *topDraft) {
	first := map[string]*yaml.Node{}
	byLine := slices.SortedFunc(maps.Keys(t.Accounts), func(a, b string) int { return t.accounts[a].Line - t.accounts[b].Line })
	for _, name := range byLine {
		s := &t.Accounts[name].Maildrop.Server
		if s.Host == "" || s.User == "" {
			continue
		}
		port := s.Port
		if port == pop3.clear { // the other usual door to the same house
			port = pop3.implicit
		}
		key := strings.Join([]string{hostName(s.Host), strconv.Itoa(port), strings.ToLower(s.User)}, "\x00")
		n := t.accounts[name]
		if other := first[key]; other != nil {
			d.fail(n, "config-same-maildrop", "account %s reads the same maildrop as account %s (line %d)", d.show(n), d.show(other), other.Line).
				Hint = "Remove one of the two; one account can feed several targets with  to: [a, b]"
			continue
		}
		first[key] = n
	}
}

// noLoop refuses to deliver into the mailbox that is read.
func (d *decoder) noLoop(t *topDraft, from []*fetcher.Account, r ref) {
	target := t.Targets[r.name]
	switch {
	case target == nil, target.Server == nil, d.blamed(r.Node): // a Maildir is not read by POP3
		return
	case target.Type == "smtp", target.Type == "lmtp":
		d.noCircle(target, from, r)
		return
	}
	for _, a := range from {
		if sameMailbox(a, target.Server) {
			d.fail(r.Node, "config-loop", "target %s is the mailbox that account %q reads", d.show(r.Node), a.Name).
				Hint = "Every message would be fetched again and again. Deliver to another mailbox."
		}
	}
}

// doorName is the part of a host name that tells protocols apart.
var doorName = regexp.MustCompile(`^(secure)?(pop3?s?|imap4?s?|mail|in|incoming)[0-9]*\.`)

// sameMailbox reports whether an account and a target are obviously the same
// mailbox: the same user on the same host, or on pop.X and imap.X. On this
// machine other than the usual ports are tunnels and test servers, which can be
// anything, so they are not judged.
func sameMailbox(a *fetcher.Account, s *endpoint.Server) bool {
	from := &a.Maildrop.Server
	usual := (from.Port == pop3.clear || from.Port == pop3.implicit) && (s.Port == imap4.clear || s.Port == imap4.implicit)
	if from.Host == "" || s.Host == "" || isLoopback(s.Host) && !usual {
		return false
	}
	host, other := hostName(from.Host), hostName(s.Host)
	if numbered(host, other) {
		return false
	}
	domain, otherDomain := doorName.ReplaceAllString(host, ""), doorName.ReplaceAllString(other, "")
	if host != other && (domain != otherDomain || !strings.Contains(domain, ".")) {
		return false
	}
	return mailUser(from.User, domain) == mailUser(s.User, domain)
}

// numbered reports whether two hosts differ in the number of their door alone, as
// mail1.X and mail2.X do: mail is moved between such.
func numbered(host, other string) bool {
	letters := func(h string) string {
		return strings.TrimRight(strings.TrimSuffix(doorName.FindString(h), "."), "0123456789")
	}
	return host != other && letters(host) != "" && letters(host) == letters(other)
}

// mailUser makes jane and jane@isp.example one at isp.example.
func mailUser(user, domain string) string {
	return strings.TrimSuffix(strings.ToLower(user), "@"+domain)
}

func hostName(h string) string { return strings.ToLower(strings.TrimSuffix(h, ".")) }
