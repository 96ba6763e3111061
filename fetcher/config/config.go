// Package config turns popferry.yaml into checked values: accounts, targets,
// compiled rules and jobs, ready to run.
//
// Everything that is wrong with a file is reported at once, each error with
// line, column, an excerpt and what to do about it (Errors, Error). Unknown
// keys, duplicates, wrong types, values out of range and names that lead
// nowhere are errors; what is allowed and probably not meant is a warning.
//
//	c, err := config.Load("popferry.yaml", os.LookupEnv)
//	var errs config.Errors
//	if errors.As(err, &errs) {
//		errs.Render(os.Stderr, color)
//	}
//
// # Values
//
// Scalars are taken as written. A password 012345 keeps its zero, and the word
// off is no boolean; only keys that ask for yes or no know YAML's spellings of
// those (yes, true, on). A value of nothing (null) is an error.
//
// ${NAME}, ${NAME:-default} and ${NAME:?message} stand for variables, and $$
// for a dollar, in all single values, after the YAML was parsed: a variable
// never becomes structure. A dollar before anything else is itself; a shell's
// own ${x} in a password_command is written $${x}. Two places are apart. The patterns below a rule's if are taken as written, because $
// has its own meaning there. In then.folder the fields of a message (list_id,
// from_domain, 1, …) and $$ are left to the rules, other names are variables.
//
// Relative paths (state, ca_file, password_file) are relative to the directory
// of the configuration file.
//
// YAML aliases (*name) may stand for whole values. Merge keys (<<), tags
// (!name), a second document, and files over 1 MiB are refused.
//
// # Secrets
//
// No error, excerpt or warning shows a secret: the values of keys that look
// like passwords are masked before anything is printed, also in files that do
// not parse, and values from the environment are shown as ${NAME}.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // an image from scratch has no zones, and timezone needs them

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
	"popferry/rules"
	"popferry/targets"
	"popferry/targets/endpoint"
)

// Config is a configuration without errors. It is read-only and may be shared.
type Config struct {
	File     string // as it was given to Load
	State    string // path of the state file, never empty
	Location *time.Location
	Log      Log
	HTTP     HTTP
	Accounts map[string]*fetcher.Account
	Targets  map[string]*Target
	Rules    *rules.Set // all rules; each job has its own choice of them
	Jobs     []*Job     // in the order of the file
	Notify   []*Notify  // likewise

	// Logins is what all servers of the file ask before they log in. Who has a
	// state makes it last there, before anything is used.
	Logins *endpoint.Breaker

	// SecretVars are the environment variables that hold secrets. Whoever owns the
	// environment should keep them from the commands it starts.
	SecretVars []string

	// Warnings are about what is allowed and probably not meant, by place.
	Warnings []*Error

	src    *source
	inline []value     // passwords written in the file itself
	files  []mentioned // other files the configuration names
	oauths []signIn
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level
	Format string // "auto", "text" or "json"
}

var defaultLog = Log{Level: slog.LevelInfo, Format: "auto"}

// Load reads and checks a file. env looks up variables, as os.LookupEnv does.
// The error is of type Errors. No other file is looked at; see Check.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, Errors{&Error{
			File: path, Code: "config-unreadable", Text: "cannot be read: " + reason(err),
			Hint: "Name the configuration file with --config FILE or POPFERRY_CONFIG.",
		}}
	}
	return Parse(path, data, env)
}

func read(path string) ([]byte, error) { return readUpTo(path, maxFile) }

// readUpTo reads a file, and one octet more than it may have at most.
func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most+1))
}

// reason is what a file operation says, without the path.
func reason(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// Parse checks the text of a file called name. The error is of type Errors.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	d := &decoder{env: env, dir: filepath.Dir(name), logins: new(endpoint.Breaker)}
	if len(data) > maxFile {
		return nil, Errors{&Error{
			File: name, Code: "config-too-big", Text: fmt.Sprintf("larger than %d KiB, so it cannot be a configuration", maxFile>>10),
		}}
	}
	d.src = newSource(name, data)
	if abs, err := filepath.Abs(d.dir); err == nil {
		d.dir = abs
	}
	c := &Config{
		File: name, Location: time.UTC, Log: defaultLog,
		Accounts: map[string]*fetcher.Account{}, Targets: map[string]*Target{}, src: d.src, Logins: d.logins,
	}
	if tree := d.parseTree(data); tree != nil {
		d.config(tree, c)
	}
	if err := d.result(c); err != nil {
		return nil, err
	}
	return c, nil
}

// result puts errors and warnings in order, with excerpts.
func (d *decoder) result(c *Config) error {
	byPlace(d.errs)
	byPlace(d.warns)
	for _, e := range slices.Concat(d.errs, d.warns) {
		d.src.place(e)
	}
	if d.more > 0 {
		d.whole("config-more-errors", fmt.Sprintf("and %d more errors", d.more), "")
	}
	if len(d.errs) > 0 {
		return Errors(d.errs)
	}
	c.Warnings, c.inline, c.files, c.SecretVars = d.warns, d.inline, d.files, d.secretVars
	c.oauths = d.oauths
	return nil
}

// topDraft is the file while its parts are not joined yet.
type topDraft struct {
	*Config
	accounts, targets map[string]*yaml.Node // the names
	jobs              []*jobDraft
	notify            []*notifyDraft
}

func topKeys() section[topDraft] {
	return section[topDraft]{
		keys: []key[topDraft]{
			{
				"state", "$XDG_STATE_HOME/popferry/popferry.db", "The local state file: what was delivered.",
				func(d *decoder, v value, t *topDraft) { t.State = d.path(v) },
			},
			{
				"timezone", "$TZ, then UTC", "Time zone of cron expressions and of the status page.",
				func(d *decoder, v value, t *topDraft) { t.Location = d.zone(v) },
			},
			{"accounts", "", "POP3 maildrops by name.", func(d *decoder, v value, t *topDraft) {
				t.accounts = d.named(v, "an account", func(name, n *yaml.Node) {
					t.Accounts[name.Value] = d.account(name, n)
				})
			}},
			{"targets", "", "Places that take messages, by name.", func(d *decoder, v value, t *topDraft) {
				t.targets = d.named(v, "a target", func(name, n *yaml.Node) {
					if target := d.target(name, n); target != nil {
						t.Targets[name.Value] = target
					}
				})
			}},
			{
				"rules", "none", "Where messages go, top to bottom; the first match wins.",
				func(d *decoder, v value, t *topDraft) { t.Rules = d.rules(v) },
			},
			{"jobs", "", "Which accounts go to which targets, and when.", func(d *decoder, v value, t *topDraft) {
				if v.Kind != yaml.SequenceNode {
					d.fail(v.Node, "config-wrong-type", "jobs must be a list, not %s", kindOf(v.Node)).Hint = `Begin every job with "- from:".`
					return
				}
				for i, e := range d.list(v) {
					t.jobs = append(t.jobs, d.job(e, i+1))
				}
			}},
			{
				"notify", "none", "Who is told when passes fail, work again, or need somebody.",
				func(d *decoder, v value, t *topDraft) { t.notify = d.notifications(v) },
			},
			{"log", "", "What is logged and how.", func(d *decoder, v value, t *topDraft) { logKeys().read(d, v.Node, "log", &t.Log) }},
			{"http", "off", "The status page, health and metrics of popferry serve.", func(d *decoder, v value, t *topDraft) { d.http(v, &t.HTTP) }},
		},
	}
}

func logKeys() section[Log] {
	return section[Log]{keys: []key[Log]{
		{"level", "info", "debug, info, warn or error.", func(d *decoder, v value, l *Log) {
			if err := l.Level.UnmarshalText([]byte(d.word(v, "debug", "info", "warn", "error"))); err != nil {
				l.Level = slog.LevelInfo
			}
		}},
		{
			"format", "auto", "auto (text on a terminal), text or json.",
			func(d *decoder, v value, l *Log) { l.Format = d.word(v, "auto", "text", "json") },
		},
	}}
}

// config reads the whole file.
func (d *decoder) config(tree *yaml.Node, c *Config) {
	t := &topDraft{Config: c}
	f := topKeys().read(d, tree, "the file", t)
	if tree.Kind != yaml.MappingNode {
		return
	}
	if !f.has("timezone") {
		c.Location = d.envZone()
	}
	if !f.has("state") {
		c.State = d.defaultState()
	}
	for _, a := range c.Accounts {
		if since := a.FirstRun.Since; !since.IsZero() {
			a.FirstRun.Since = time.Date(since.Year(), since.Month(), since.Day(), 0, 0, 0, 0, c.Location)
		}
	}
	for _, k := range []string{"accounts", "targets", "jobs"} {
		switch v, ok := f[k]; {
		case !ok:
			d.fail(tree, "config-missing-key", "the file has no %s", k).
				Hint = "The smallest useful file has one account, one target and one job: examples/minimal.yaml"
		case len(v.Content) == 0 && (v.Kind == yaml.MappingNode || v.Kind == yaml.SequenceNode):
			d.fail(v.Node, "config-no-value", "%s is empty", k)
		}
	}
	if !d.exhausted() {
		d.join(t)
	}
}

// named reads a mapping of names and calls visit for each good one. It returns
// all names that are there, also those whose entry is broken, so that these are
// not reported as missing.
func (d *decoder) named(v value, what string, visit func(name, n *yaml.Node)) map[string]*yaml.Node {
	if v.Kind != yaml.MappingNode {
		d.fail(v.Node, "config-wrong-type", "%s must be a group of names, not %s", v.key, d.show(v.Node)).
			Hint = "For example:\n  " + v.key + ":\n    isp:\n      host: …"
		return nil
	}
	names := map[string]*yaml.Node{}
	for i := 0; i+1 < len(v.Content); i += 2 {
		if n := v.Content[i]; n.Kind == yaml.ScalarNode && names[n.Value] == nil {
			names[n.Value] = n
		}
	}
	d.pairs(v.Node, v.key, func(k, val *yaml.Node) {
		if d.name(k, what, k.Value) {
			visit(k, val)
		}
	})
	return names
}

func (d *decoder) zone(v value) *time.Location {
	s := d.text(v)
	if s == "" {
		return time.UTC
	}
	loc, err := time.LoadLocation(s)
	if err != nil || s == "Local" {
		d.fail(v.Node, "config-timezone", "timezone %s is not known", d.show(v.Node)).
			Hint = "Use a name of the tz database, such as Europe/Berlin or UTC."
		return time.UTC
	}
	return loc
}

// envZone is the zone that $TZ names. One that is not known is no error of the
// file, so it is a warning and UTC.
func (d *decoder) envZone() *time.Location {
	loc, err := time.LoadLocation(strings.TrimPrefix(get(d.env, "TZ"), ":"))
	if err != nil {
		d.warns = append(d.warns, &Error{
			File: d.src.name, Code: "config-timezone", Text: "the variable TZ names no known time zone; UTC is used",
			Hint: "Set  timezone: Europe/Berlin  or another name of the tz database.",
		})
		return time.UTC
	}
	return loc
}

// defaultState is where the state lies if the file does not say: where the
// image wants it (POPFERRY_STATE), or where XDG puts state.
func (d *decoder) defaultState() string {
	if s := get(d.env, "POPFERRY_STATE"); s != "" {
		return s
	}
	dir := get(d.env, "XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // the XDG specification: others are to be ignored
		home := get(d.env, "HOME")
		if home == "" {
			hint := "Add:  state: /var/lib/popferry/popferry.db"
			if d.made {
				hint = "Set XDG_STATE_HOME to a directory that lasts."
			}
			d.whole("config-no-state", "there is no place for the state: neither XDG_STATE_HOME nor HOME is set", hint)
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "popferry", "popferry.db")
}

// get returns a variable, "" if it is not set.
func get(env func(string) (string, bool), name string) string {
	v, ok := env(name)
	if !ok {
		return ""
	}
	return v
}

// Open opens the named targets, or all. It does no I/O; on an error none is left
// open.
func (c *Config) Open(log *slog.Logger, names ...string) (map[string]targets.Target, error) {
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(c.Targets))
	}
	opened := make(map[string]targets.Target, len(names))
	for _, name := range names {
		if opened[name] != nil {
			continue
		}
		t, err := c.Targets[name].Config.Open(name, log)
		if err != nil {
			for _, o := range opened {
				err = errors.Join(err, o.Close())
			}
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		opened[name] = t
	}
	return opened, nil
}

// Find returns the configuration file to use: what --config says (flag), what
// $POPFERRY_CONFIG says, else the first of the usual places where a file
// exists. A file that was asked for is returned whether it exists or not.
// tried are the places looked at, in order.
func Find(flag string, env func(string) (string, bool), exists func(path string) bool) (path string, tried []string, err error) {
	if asked := cmp.Or(flag, get(env, "POPFERRY_CONFIG")); asked != "" {
		return asked, []string{asked}, nil
	}
	tried = []string{"popferry.yaml"}
	dir := get(env, "XDG_CONFIG_HOME")
	if home := get(env, "HOME"); !filepath.IsAbs(dir) && home != "" {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		tried = append(tried, filepath.Join(dir, "popferry", "popferry.yaml"))
	}
	tried = append(tried, "/config/popferry.yaml", "/etc/popferry/popferry.yaml")
	for _, p := range tried {
		if exists(p) {
			return p, tried, nil
		}
	}
	return "", tried, &Error{
		Code: "config-not-found", Text: "there is no configuration file",
		Hint: "Looked for " + strings.Join(tried, ", ") + "\nStart from examples/minimal.yaml, or name a file: --config FILE",
	}
}
