package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"gopkg.in/yaml.v3"

	"popferry/fetcher"
)

// Job is a job and when it is due.
type Job struct {
	fetcher.Job
	Every time.Duration // 0 if it has a Cron or runs by hand only
	Cron  string        // 5 fields or a descriptor; "" if it has an Every or runs by hand only

	// Jitter is how much later than due an account is run at most: each has a
	// delay of its own, so that not all come at the same second.
	Jitter  time.Duration
	NoStart bool // no pass right after start; the first one is when it is due

	// State is the path of a state of its own, which a move may have; "" is the
	// configuration's.
	State string

	schedule cron.Schedule
	location *time.Location
}

// Location is the zone of the job's Cron.
func (j *Job) Location() *time.Location { return j.location }

// Next returns when the job is due after a time; zero if only by hand. Every
// counts from after. A Cron speaks of wall time in the configured zone: a time
// that the clocks skip counts as the first one after the gap, and a time that
// they show twice counts once.
func (j *Job) Next(after time.Time) time.Time {
	if j.schedule == nil {
		if j.Every == 0 {
			return time.Time{}
		}
		return after.Add(j.Every)
	}
	// The expression is looked up in a calendar without gaps, UTC standing for
	// wall time: the library loses a whole day at a gap.
	wall := wallClock(after.In(j.location))
	for range 2 * 24 * 60 { // a repeated hour is left behind after at most so many minutes
		wall = j.schedule.Next(wall)
		if wall.IsZero() {
			return time.Time{}
		}
		if t := instant(wall, j.location); t.After(after) {
			return t
		}
	}
	return time.Time{}
}

// wallClock returns what the clocks show at t, as a time in UTC.
func wallClock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant returns when the clocks in loc first show wall, or if they skip it,
// the end of the gap.
func instant(wall time.Time, loc *time.Location) time.Time {
	// No zone is further from UTC than 15 hours, so the offsets around wall are
	// those a day before and a day after, if clocks are changed at most once.
	_, early := wall.Add(-24 * time.Hour).In(loc).Zone()
	_, late := wall.Add(24 * time.Hour).In(loc).Zone()
	first := wall.Add(-time.Duration(max(early, late)) * time.Second).In(loc)
	second := wall.Add(-time.Duration(min(early, late)) * time.Second).In(loc)
	if wallClock(first).Equal(wall) {
		return first
	}
	if wallClock(second).Equal(wall) {
		return second
	}
	_, end := first.ZoneBounds() // the clocks jump over wall here
	return end
}

func jobKeys() section[jobDraft] {
	return section[jobDraft]{
		keys: []key[jobDraft]{
			{"name", "<from>-to-<to>", "Name of the job, unique.", func(d *decoder, v value, j *jobDraft) {
				if j.Name = d.text(v); j.Name != "" {
					d.name(v.Node, "a job", j.Name)
				}
			}},
			{"from", "", "Account, or a list; an account belongs to one job only.", func(d *decoder, v value, j *jobDraft) { j.from = d.refs(v) }},
			{"to", "", "Target, or a list; each must take a message before it may be deleted.", func(d *decoder, v value, j *jobDraft) { j.to = d.refs(v) }},
			{"every", "only by hand", "Interval, at least 10s; either this or cron.", func(d *decoder, v value, j *jobDraft) {
				j.Every = d.duration(v, 10*time.Second, 365*day)
			}},
			{
				"cron", "only by hand", "Five fields (minute, hour, day of month, month, day of week) or @hourly, @daily, @weekly, @monthly, @yearly.",
				func(d *decoder, v value, j *jobDraft) { d.cron(v, j) },
			},
			{
				"jitter", "10 % of the interval, at most 30s", "How much later than due an account is run at most; each has a delay of its own.",
				func(d *decoder, v value, j *jobDraft) { j.Jitter, j.jitters = d.duration(v, 0, time.Hour), true },
			},
			{"on_start", "yes", "yes runs it right after serve has started; no waits until it is due.", func(d *decoder, v value, j *jobDraft) { j.NoStart = !d.yes(v) }},
			{"rules", "all", "Names of the rules that apply; [] for none.", func(d *decoder, v value, j *jobDraft) {
				j.rules = d.refs(v)
				j.someRules = true
			}},
		},
	}
}

// ref is a name that must exist elsewhere in the file.
type ref struct {
	value
	name string
}

// jobDraft is a job while its names are not looked up yet.
type jobDraft struct {
	Job
	from, to, rules []ref
	someRules       bool
	jitters         bool // jitter was there
	node            *yaml.Node
	where           string
}

// refs reads one name or a list of different names.
func (d *decoder) refs(v value) []ref {
	var refs []ref
	seen := map[string]bool{}
	for _, e := range d.list(v) {
		s := d.text(e)
		if s == "" {
			continue
		}
		if seen[s] {
			d.fail(e.Node, "config-duplicate-value", "%s is there twice in %s of %s", d.show(e.Node), v.key, v.where)
			continue
		}
		seen[s] = true
		refs = append(refs, ref{e, s})
	}
	return refs
}

// job reads one entry of jobs.
func (d *decoder) job(v value, number int) *jobDraft {
	j := &jobDraft{node: v.Node, where: fmt.Sprintf("job %d", number)}
	if n := lookup(v.Node, "name"); n != nil && n.Kind == yaml.ScalarNode && nameText.MatchString(n.Value) {
		j.where = "job " + d.show(n)
	}
	f := jobKeys().read(d, v.Node, j.where, j)
	if v.Kind != yaml.MappingNode {
		return j
	}
	for _, k := range []string{"from", "to"} {
		if val, ok := f[k]; !ok {
			d.fail(v.Node, "config-missing-key", "%s has no %s", j.where, k)
		} else if ok && val.Kind == yaml.SequenceNode && len(val.Content) == 0 {
			d.fail(val.Node, "config-no-value", "%s of %s is empty", k, j.where)
		}
	}
	if both, ok := f["cron"]; ok && f.has("every") {
		d.fail(both.Node, "config-conflict", "%s has both every and cron", j.where).Hint = "Keep one of the two."
	}
	for _, k := range []string{"jitter", "on_start"} {
		if val, ok := f[k]; ok && !f.has("every", "cron") {
			d.warn(val.Node, "config-no-effect", "%s of %s has no effect: it runs by hand only", k, j.where).Hint = "Add  every: 5m  or a cron."
		}
	}
	if val := f["jitter"]; j.jitters && j.Every > 0 && j.Jitter > j.Every {
		d.fail(val.Node, "config-conflict", "jitter of %s is longer than its interval", j.where)
	}
	if !j.jitters {
		j.Jitter = defaultJitter(&j.Job)
	}
	if j.Name == "" {
		j.Name = joinNames(j.from) + "-to-" + joinNames(j.to)
	}
	return j
}

// defaultJitter is a tenth of the interval, at most half a minute. Of a cron it
// is the interval between the first two times of a year.
func defaultJitter(j *Job) time.Duration {
	interval := j.Every
	if j.schedule != nil {
		first := j.schedule.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		interval = j.schedule.Next(first).Sub(first)
	}
	return min(interval/10, 30*time.Second)
}

func joinNames(refs []ref) string {
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.name
	}
	return strings.Join(names, "-")
}

var everyMinutes = regexp.MustCompile(`^\*/([0-9]+) \* \* \* \*$`)

// cron reads a cron expression.
func (d *decoder) cron(v value, j *jobDraft) {
	s := strings.TrimSpace(d.text(v))
	if s == "" {
		return
	}
	shown, fields := d.show(v.Node), strings.Fields(s)
	switch {
	case strings.HasPrefix(s, "TZ="), strings.HasPrefix(s, "CRON_TZ="):
		d.fail(v.Node, "config-cron", "%s: a time zone cannot stand here", shown).
			Hint = "Set it for all jobs, at the top level:  timezone: Europe/Berlin"
		return
	case strings.HasPrefix(s, "@every"):
		d.fail(v.Node, "config-cron", "%s: an interval has a key of its own", shown).Hint = "Write  every: 5m"
		return
	case strings.HasPrefix(s, "@reboot"):
		d.fail(v.Node, "config-cron", "%s is not supported", shown)
		return
	case !strings.HasPrefix(s, "@") && len(fields) != 5:
		e := d.fail(v.Node, "config-cron-fields", "%s has %d fields; cron here has 5", shown, len(fields))
		e.Hint = "minute, hour, day of month, month, day of week"
		if rest := strings.Join(fields[min(1, len(fields)):], " "); len(fields) == 6 && s == v.Value {
			e.Hint = fmt.Sprintf("Drop the first field (seconds): %q", rest)
			if m := everyMinutes.FindStringSubmatch(rest); m != nil {
				e.Hint += "   or write   every: " + m[1] + "m"
			}
		}
		return
	}
	schedule, err := parseCron(s)
	if err != nil {
		e := d.fail(v.Node, "config-cron", "%s is no cron expression", shown)
		if s == v.Value {
			e.Text += ": " + printable(err.Error())
		}
		e.Hint = "minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-6 (0 is Sunday); * , - / as usual."
		return
	}
	if schedule.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		d.fail(v.Node, "config-cron", "%s never comes: no time matches it", shown)
		return
	}
	j.Cron, j.schedule = s, schedule
}

// parseCron keeps the library's panics (robfig/cron#554) from the user.
func parseCron(s string) (schedule cron.Schedule, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it cannot be read")
		}
	}()
	return cron.ParseStandard(s)
}
