package config

import (
	"errors"
	"math"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
)

// keepDraft is the keys below keep, and which of them were there.
type keepDraft struct {
	days      int
	newest    int
	untilFull int64
}

func keepKeys() section[keepDraft] {
	return section[keepDraft]{keys: []key[keepDraft]{
		{
			"days", "none", "Days since popferry first saw it.",
			func(d *decoder, v value, k *keepDraft) { k.days = d.count(v, 0, int(longest/day)) },
		},
		{
			"newest", "none", "So many of the newest messages stay, whatever their age.",
			func(d *decoder, v value, k *keepDraft) { k.newest = d.count(v, 1, math.MaxInt) },
		},
		{
			"until_full", "none", "The oldest go, whatever their age, while the maildrop is larger.",
			func(d *decoder, v value, k *keepDraft) { k.untilFull = d.size(v) },
		},
	}}
}

// keep reads forever, a duration, or a group of limits.
func (d *decoder) keep(v value) fetcher.Keep {
	forever := fetcher.Keep{Forever: true}
	if v.Kind == yaml.MappingNode {
		return d.keepLimits(v)
	}
	s, ok := d.scalar(v)
	if !ok || s == "forever" {
		return forever
	}
	if dur, ok := parseDuration(s); ok && dur <= longest {
		return fetcher.Keep{For: dur}
	}
	e := d.fail(v.Node, "config-keep", "keep in %s must be forever or a duration, not %s", v.where, d.show(v.Node))
	e.Hint = "forever (nothing is deleted), 0d (delete after safe delivery), 30d (30 days after popferry first saw it)."
	switch {
	case digits.MatchString(s) && s == v.Value && len(s) < 6:
		e.Suggest = "did you mean \"" + s + "d\"?"
	default:
		e.Suggest = didYouMean(s, []string{"forever"})
	}
	return forever
}

// ParseKeep reads what keep may say in one word: forever, 0d, 30d.
func ParseKeep(s string) (fetcher.Keep, error) {
	if s == "forever" {
		return fetcher.Keep{Forever: true}, nil
	}
	if dur, ok := parseDuration(s); ok && dur <= longest {
		return fetcher.Keep{For: dur}, nil
	}
	return fetcher.Keep{}, errors.New("must be forever or a duration, as 0d or 30d")
}

// keepLimits reads the keys below keep. What is beyond the newest goes when its
// days are over, at once if there are none. A size alone leaves age out of it.
func (d *decoder) keepLimits(v value) fetcher.Keep {
	var k keepDraft
	f := keepKeys().read(d, v.Node, "keep of "+v.where, &k)
	if len(v.Content) == 0 {
		d.fail(v.Node, "config-no-value", "keep in %s is empty", v.where).
			Hint = "Write forever, 30d, or one of the keys: " + keepKeys().allowed()
	}
	return fetcher.Keep{
		Forever: !f.has("days", "newest"), For: time.Duration(k.days) * day, Newest: k.newest, UntilFull: k.untilFull,
	}
}

// firstRun reads all, new or since and a day. The day begins when it does in
// the zone of the file, which is not known yet: Since is its midnight in UTC.
func (d *decoder) firstRun(v value) fetcher.FirstRun {
	s, ok := d.scalar(v)
	if !ok {
		return fetcher.FirstRun{}
	}
	first, err := ParseFirstRun(s, time.UTC)
	if err != nil {
		e := d.fail(v.Node, "config-first-run", "first_run in %s must be all, new or since: and a day, not %s", v.where, d.show(v.Node))
		e.Hint = "For example:  first_run: since:2026-01-31"
		e.Suggest = didYouMean(s, []string{"all", "new"})
	}
	return first
}

// ParseFirstRun reads "all", "new" or "since:2026-01-31"; the day begins in loc.
func ParseFirstRun(s string, loc *time.Location) (fetcher.FirstRun, error) {
	switch date, since := strings.CutPrefix(s, "since:"); {
	case s == "all":
		return fetcher.FirstRun{}, nil
	case s == "new":
		return fetcher.FirstRun{New: true}, nil
	case since:
		if day, err := time.ParseInLocation(time.DateOnly, date, loc); err == nil {
			return fetcher.FirstRun{Since: day}, nil
		}
	}
	return fetcher.FirstRun{}, errors.New("must be all, new or since:YYYY-MM-DD")
}
