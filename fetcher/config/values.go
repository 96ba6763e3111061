package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"

	"popferry/targets"
)

// Scalars are taken as they are written, not as YAML would resolve them: the
// password 012345 keeps its zero, 0600 is never 384, and "off" is a word. Only
// keys that ask for yes or no know YAML's booleans.

// scalar returns the text of v with variables replaced; it reports anything
// but a single value.
func (d *decoder) scalar(v value) (string, bool) {
	if !d.isScalar(v) {
		return "", false
	}
	return d.expand(v, nil)
}

func (d *decoder) isScalar(v value) bool {
	if v.Kind != yaml.ScalarNode {
		d.fail(v.Node, "config-wrong-type", "%s in %s must be a single value, not %s", v.key, v.where, kindOf(v.Node))
		return false
	}
	return true
}

// text reads a value that may not be empty nor hold control characters, which
// could be read as a second command by a server.
func (d *decoder) text(v value) string {
	s, ok := d.scalar(v)
	if !ok {
		return ""
	}
	return d.checkText(v, s)
}

func (d *decoder) checkText(v value, s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		e := d.fail(v.Node, "config-no-value", "%s in %s is empty", v.key, v.where)
		if strings.TrimSpace(v.Value) != "" {
			e.Hint = "The variable is set, but to nothing."
		}
		return ""
	case strings.ContainsFunc(s, unicode.IsControl):
		d.fail(v.Node, "config-control-character", "%s in %s holds a line break or another control character", v.key, v.where).
			Hint = "If it comes from a variable, look for a line break at its end."
		return ""
	}
	return s
}

// list reads a single value or a list of them. Elements that are nothing are
// reported and left out.
func (d *decoder) list(v value) []value {
	if v.Kind != yaml.SequenceNode {
		return []value{v}
	}
	vs := make([]value, 0, len(v.Content))
	for i, n := range v.Content {
		n, ok := d.follow(n)
		if !ok {
			return vs
		}
		if d.tagged(n) {
			continue
		}
		if isNull(n) {
			d.fail(n, "config-no-value", "element %d of %s in %s has no value", i+1, v.key, v.where).
				Hint = "Remove it. If the value begins with #, put it in quotes."
			continue
		}
		vs = append(vs, value{Node: n, key: v.key, where: v.where})
	}
	return vs
}

// word reads one of the words; "" after an error.
func (d *decoder) word(v value, words ...string) string {
	s, ok := d.scalar(v)
	if !ok {
		return ""
	}
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return w
		}
	}
	e := d.fail(v.Node, "config-word", "%s in %s cannot be %s", v.key, v.where, d.show(v.Node))
	e.Suggest = didYouMean(s, words)
	e.Hint = "Words allowed here: " + strings.Join(words, ", ")
	return ""
}

// yes reads yes or no, in any of YAML's spellings.
func (d *decoder) yes(v value) bool {
	s, ok := d.scalar(v)
	if !ok {
		return false
	}
	switch strings.ToLower(s) {
	case "yes", "y", "true", "on":
		return true
	case "no", "n", "false", "off":
		return false
	}
	d.fail(v.Node, "config-word", "%s in %s must be yes or no, not %s", v.key, v.where, d.show(v.Node))
	return false
}

// count reads a whole number from least to most.
func (d *decoder) count(v value, least, most int) int {
	s, ok := d.scalar(v)
	if !ok {
		return 0
	}
	if len(s) > 1 && s[0] == '0' && digits.MatchString(s) {
		d.fail(v.Node, "config-number", "%s in %s has a leading zero, which some read as octal", v.key, v.where).
			Suggest = "write it without"
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || !digits.MatchString(s) || n < least || n > most {
		d.fail(v.Node, "config-number", "%s in %s must be a number %s, not %s", v.key, v.where, between(least, most), d.show(v.Node))
		return 0
	}
	return n
}

func between(least, most int) string {
	if most == math.MaxInt {
		return fmt.Sprintf("from %d", least)
	}
	return fmt.Sprintf("from %d to %d", least, most)
}

var (
	digits       = regexp.MustCompile(`^[0-9]+$`)
	durationText = regexp.MustCompile(`^([0-9]{1,9})([smhdw])$`)
	sizeStart    = regexp.MustCompile(`^[<>=]*[0-9]+ ?[KMGkmg]`)
	rateText     = regexp.MustCompile(`^([0-9]{1,15})([KMGkmg]?)/(s|min|h|day)$`)
	sizeText     = regexp.MustCompile(`^([0-9]{1,15})([KMGkmg]?)$`)
)

const (
	day     = 24 * time.Hour
	longest = 100 * 365 * day
)

// duration reads 30s, 5m, 2h, 30d or 2w, from least to most.
func (d *decoder) duration(v value, least, most time.Duration) time.Duration {
	s, ok := d.scalar(v)
	if !ok {
		return 0
	}
	dur, ok := parseDuration(s)
	if !ok {
		e := d.fail(v.Node, "config-duration", "%s in %s must be a duration, not %s", v.key, v.where, d.show(v.Node))
		e.Hint = "A number and a unit: 30s, 5m, 2h, 30d or 2w."
		if digits.MatchString(s) && !d.src.hidden[v.Node] && s == v.Value {
			e.Suggest = "a unit is missing: s, m, h, d or w"
		}
		return 0
	}
	if dur < least || dur > most {
		d.fail(v.Node, "config-duration", "%s in %s must be from %s to %s, not %s", v.key, v.where, formatDuration(least), formatDuration(most), d.show(v.Node))
		return 0
	}
	return dur
}

func parseDuration(s string) (time.Duration, bool) {
	m := durationText.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day}[m[2]]
	if n > int64(math.MaxInt64/unit) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * unit, true
}

// formatDuration writes d the way it is written in the file.
func formatDuration(d time.Duration) string {
	units := []struct {
		name string
		d    time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for _, u := range units {
		if d >= u.d && d%u.d == 0 {
			return fmt.Sprintf("%d%s", d/u.d, u.name)
		}
	}
	return d.String()
}

// size reads 500K, 25M or 2G, or a plain number of octets; at least 1.
func (d *decoder) size(v value) int64 {
	s, ok := d.scalar(v)
	if !ok {
		return 0
	}
	n, ok := parseSize(s)
	if !ok || n == 0 {
		d.badSize(v, s)
		return 0
	}
	return n
}

func (d *decoder) badSize(v value, s string) {
	e := d.fail(v.Node, "config-size", "%s in %s must be a size, not %s", v.key, v.where, d.show(v.Node))
	e.Hint = "A whole number with K, M or G (powers of 1024), or none for octets: 500K, 25M, 2G."
	if m := sizeStart.FindString(s); m != "" && s == v.Value {
		m = strings.ToUpper(strings.ReplaceAll(m, " ", ""))
		if n, ok := parseSize(strings.TrimLeft(m, "<>=")); ok && n > 0 {
			e.Suggest = fmt.Sprintf("did you mean %q?", m)
		}
	}
}

func parseSize(s string) (int64, bool) {
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[strings.ToUpper(m[2])]
	if n > math.MaxInt64>>shift {
		return 0, false
	}
	return n << shift, true
}

// rates reads one rate or several; none is the word for no rate at all.
func (d *decoder) rates(v value) (out []targets.Rate) {
	if v.Kind == yaml.ScalarNode && strings.EqualFold(v.Value, "none") {
		return nil
	}
	for _, v := range d.list(v) {
		if r, ok := d.rate(v); ok {
			out = append(out, r)
		}
	}
	return out
}

// ParseRates reads what rate may say, several with commas between.
func ParseRates(s string) (out []targets.Rate, err error) {
	if strings.EqualFold(s, "none") {
		return nil, nil
	}
	for text := range strings.SplitSeq(s, ",") {
		r, ok := parseRate(strings.TrimSpace(text))
		if !ok {
			return nil, errors.New("must be a rate such as 500M/day, 2M/s or 100/min, several with commas between, or none")
		}
		out = append(out, r)
	}
	return out, nil
}

// rate reads 500M/day or 2M/s, which are octets, or 100/min, which are messages.
func (d *decoder) rate(v value) (targets.Rate, bool) {
	s, ok := d.scalar(v)
	if !ok {
		return targets.Rate{}, false
	}
	if r, ok := parseRate(s); ok {
		return r, true
	}
	e := d.fail(v.Node, "config-rate", "%s in %s must be a rate, not %s", v.key, v.where, d.show(v.Node))
	e.Hint = "Octets as 500M/day or 2M/s, messages as 100/min; per s, min, h or day; or none."
	if amount, per, ok := strings.Cut(s, "/"); ok && s == v.Value {
		short := map[string]string{
			"d": "day", "24h": "day", "hour": "h", "1h": "h", "m": "min", "minute": "min", "sec": "s", "second": "s", "1s": "s",
		}[strings.ToLower(strings.TrimSpace(per))]
		if fixed := strings.TrimSpace(amount) + "/" + short; rateText.MatchString(fixed) {
			e.Suggest = fmt.Sprintf("did you mean %q?", fixed)
		}
	}
	return targets.Rate{}, false
}

func parseRate(s string) (targets.Rate, bool) {
	m := rateText.FindStringSubmatch(s)
	if m == nil {
		return targets.Rate{}, false
	}
	n, ok := parseSize(m[1] + m[2])
	per := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour, "day": day}[m[3]]
	return targets.Rate{N: n, Octets: m[2] != "", Per: per, Text: s}, ok && n > 0
}

// path reads the name of a file. A relative one is relative to the directory of
// the configuration file, so that it means the same from cron and from a shell.
func (d *decoder) path(v value) string {
	s := d.text(v)
	if s == "" {
		return ""
	}
	if s == "~" || strings.HasPrefix(s, "~/") {
		d.fail(v.Node, "config-path", "%s in %s begins with ~, which is not expanded here", v.key, v.where).
			Hint = "Write ${HOME} instead."
		return ""
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(d.dir, s)
	}
	return s
}

var nameText = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// name checks the name of an account, a target, a rule or a job. Names stand in
// commands, logs and metrics, so they are plain.
func (d *decoder) name(n *yaml.Node, what, name string) bool {
	if nameText.MatchString(name) {
		return true
	}
	e := d.fail(n, "config-name", "%s cannot be the name of %s", d.show(n), what)
	e.Hint = "Names have small letters, digits, - and _, begin with a letter or digit, and are at most 64 long."
	if plain := strings.ReplaceAll(strings.ToLower(name), " ", "-"); name == n.Value && nameText.MatchString(plain) {
		e.Suggest = fmt.Sprintf("write %q", plain)
	}
	return false
}
