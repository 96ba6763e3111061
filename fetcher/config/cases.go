package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"

	"popferry/rules"
)

// Case is one of the user's own tests of rules: a message, and what should
// become of it.
type Case struct {
	Name    string
	Line    int            // in the file
	Account string         // "" if it does not say
	Message *rules.Message // complete, but for Account; Now is zero if it does not say
	Expect  Expect
}

// Expect is what should become of a message. What is nil is not asked for.
type Expect struct {
	Folders []string // of all copies, in any order
	Targets []string // likewise
	To      []string // likewise
	Flags   []string // of all copies together, in any order
	Matched []string // the rules that match, in order
	Drop    *bool
	Skip    *bool
}

// maxMessage is the size of a message_file that is read.
const maxMessage = 64 << 20

// LoadCases reads and checks a file of tests for the rules of c. The error is of
// type Errors. The files that message_file names are read as well.
func LoadCases(path string, c *Config) ([]*Case, error) {
	data, err := read(path)
	if err != nil {
		return nil, Errors{&Error{File: path, Code: "config-unreadable", Text: "cannot be read: " + reason(err)}}
	}
	return ParseCases(path, data, c)
}

// ParseCases checks the text of a file called name.
func ParseCases(name string, data []byte, c *Config) ([]*Case, error) {
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	d := &decoder{
		src: newSource(name, data), dir: filepath.Dir(name),
		env: func(string) (string, bool) { return "", false },
	}
	t := &casesDraft{config: c}
	switch tree := (*yaml.Node)(nil); {
	case len(data) > maxFile:
		d.whole("config-too-big", fmt.Sprintf("larger than %d KiB, so it cannot be a file of tests", maxFile>>10), "")
	case strings.TrimSpace(string(data)) == "":
		d.whole("config-empty", "the file is empty", caseHint)
	default:
		if tree = d.parseTree(data); tree != nil {
			f := casesKeys().read(d, tree, "the file", t)
			if tree.Kind == yaml.MappingNode && !f.has("tests") {
				d.fail(tree, "config-missing-key", "the file has no tests").Hint = caseHint
			}
		}
	}
	if err := d.result(&Config{}); err != nil {
		return nil, err
	}
	return t.cases, nil
}

const caseHint = `For example:  tests: [{name: invoice, message: {subject: "Invoice 1"}, expect: {folder: Invoices}}]`

// casesDraft is a file of tests while it is read.
type casesDraft struct {
	config *Config
	cases  []*Case
}

func casesKeys() section[casesDraft] {
	return section[casesDraft]{keys: []key[casesDraft]{
		{"tests", "", "Messages, and what should become of them.", func(d *decoder, v value, t *casesDraft) {
			if v.Kind != yaml.SequenceNode || len(v.Content) == 0 {
				d.fail(v.Node, "config-wrong-type", "tests must be a list of tests, not %s", d.showKind(v.Node)).Hint = caseHint
				return
			}
			for i, e := range d.list(v) {
				t.cases = append(t.cases, d.testCase(e, i+1, t.config))
			}
		}},
	}}
}

// caseDraft is one test while it is read.
type caseDraft struct {
	*Case
	config  *Config
	message messageDraft
}

func caseKeys() section[caseDraft] {
	return section[caseDraft]{keys: []key[caseDraft]{
		{"name", "", "What the test shows, in words.", func(d *decoder, v value, c *caseDraft) { c.Name = d.line(v) }},
		{"message", "", "Header fields and body of a message.", func(d *decoder, v value, c *caseDraft) {
			messageKeys().read(d, v.Node, "message of "+v.where, &c.message)
		}},
		{"message_file", "", "A file that holds a message.", func(d *decoder, v value, c *caseDraft) { d.messageFile(v, c) }},
		{"account", "the only one", "Account the message comes from.", func(d *decoder, v value, c *caseDraft) {
			c.Account = d.oneOf("account", v, slices.Collect(maps.Keys(c.config.Accounts)))
		}},
		{"now", "the time of the test", "What older_than and newer_than count from: 2026-11-21.", func(d *decoder, v value, c *caseDraft) {
			t, err := time.ParseInLocation(time.DateOnly, d.line(v), c.config.Location)
			if err != nil {
				d.fail(v.Node, "config-date", "now in %s must be a day, not %s", v.where, d.show(v.Node)).Hint = "For example:  now: 2026-11-21"
			}
			c.message.now = t
		}},
		{"expect", "", "What should become of the message; what is left out is not looked at.", func(d *decoder, v value, c *caseDraft) {
			f := expectKeys().read(d, v.Node, "expect of "+v.where, c)
			if v.Kind == yaml.MappingNode && len(f) == 0 {
				d.fail(v.Node, "config-no-value", "expect of %s is empty, so it holds always", v.where).
					Hint = "Keys allowed here: " + expectKeys().allowed()
			}
		}},
	}}
}

// testCase reads one entry of tests.
func (d *decoder) testCase(v value, number int, config *Config) *Case {
	c := &caseDraft{Case: &Case{Line: v.Line}, config: config}
	where := fmt.Sprintf("test %d", number)
	f := caseKeys().read(d, v.Node, where, c)
	if v.Kind != yaml.MappingNode {
		return c.Case
	}
	for _, k := range []string{"name", "expect"} {
		if !f.has(k) {
			d.fail(v.Node, "config-missing-key", "%s has no %s", where, k)
		}
	}
	switch both := f.has("message") && f.has("message_file"); {
	case both:
		d.fail(f["message_file"].Node, "config-conflict", "%s has both message and message_file", where).Hint = "Keep one of the two."
	case !f.has("message", "message_file"):
		d.fail(v.Node, "config-missing-key", "%s has no message", where).Hint = "Give it  message: {from: …, subject: …}  or  message_file: FILE"
	case f.has("message"):
		c.Message = c.message.message()
	}
	if c.Message != nil {
		c.Message.Now = c.message.now
	}
	return c.Case
}

// messageDraft is a message while its parts are read.
type messageDraft struct {
	fields []string // whole lines
	body   string
	size   int64 // 0 if it is what the message has
	now    time.Time
}

func messageKeys() section[messageDraft] {
	field := func(key, name string) (k key[messageDraft]) {
		k.name, k.doc = key, "The field "+name+", or a list of several."
		k.read = func(d *decoder, v value, m *messageDraft) { d.fields(v, name, m) }
		return k
	}
	keys := []key[messageDraft]{
		field("from", "From"), field("to", "To"), field("cc", "Cc"), field("bcc", "Bcc"), field("reply_to", "Reply-To"),
		field("sender", "Sender"), field("subject", "Subject"), field("date", "Date"), field("list_id", "List-Id"),
		{"header", "", "Other fields by their names: {X-Spam-Flag: \"YES\"}.", func(d *decoder, v value, m *messageDraft) {
			if v.Kind != yaml.MappingNode {
				d.fail(v.Node, "config-wrong-type", "header in %s must name header fields, not %s", v.where, d.show(v.Node))
				return
			}
			d.pairs(v.Node, "header of "+v.where, func(k, val *yaml.Node) {
				if !fieldName.MatchString(k.Value) {
					d.fail(k, "config-name", "%s cannot be the name of a header field", d.show(k))
					return
				}
				d.fields(value{Node: val, key: k.Value, where: v.where}, k.Value, m)
			})
		}},
		{"body", "hello", "Text of the body.", func(d *decoder, v value, m *messageDraft) {
			if d.isScalar(v) {
				m.body = v.Value
			}
		}},
		{"size", "what it has", "Size in octets.", func(d *decoder, v value, m *messageDraft) { m.size = d.size(v) }},
	}
	return section[messageDraft]{keys: keys}
}

var fieldName = regexp.MustCompile(`^[!-9;-~]+$`)

// fields adds a header field for each value in v.
func (d *decoder) fields(v value, name string, m *messageDraft) {
	for _, e := range d.list(v) {
		if text := d.line(e); text != "" {
			if name == "List-Id" && !strings.Contains(text, "<") {
				text = "<" + text + ">"
			}
			m.fields = append(m.fields, name+": "+text)
		}
	}
}

// line reads a value as it is written: $ has no meaning in a message.
func (d *decoder) line(v value) string {
	switch {
	case !d.isScalar(v):
		return ""
	case v.Value == "":
		d.fail(v.Node, "config-no-value", "%s in %s is empty", v.key, v.where)
	case strings.ContainsFunc(v.Value, unicode.IsControl):
		d.fail(v.Node, "config-control-character", "%s in %s holds a line break or another control character", v.key, v.where)
		return ""
	}
	return v.Value
}

// message puts the parts together.
func (m *messageDraft) message() *rules.Message {
	body := m.body
	if body == "" {
		body = "hello"
	}
	out := rules.ReadMessage([]byte(strings.Join(m.fields, "\n") + "\n\n" + strings.TrimSuffix(body, "\n") + "\n"))
	if m.size > 0 {
		out.Size = m.size
	}
	return out
}

// messageFile reads the message in a file.
func (d *decoder) messageFile(v value, c *caseDraft) {
	path := d.path(v)
	if path == "" {
		return
	}
	data, err := readUpTo(path, maxMessage)
	switch {
	case err != nil:
		d.fail(v.Node, "config-file", "message_file in %s cannot be read: %s", v.where, reason(err)).Hint = "It is looked for at " + printable(path)
	case len(data) > maxMessage:
		d.fail(v.Node, "config-file", "message_file in %s is larger than %d MiB", v.where, maxMessage>>20)
	default:
		c.Message = rules.ReadMessage(data)
	}
}

func expectKeys() section[caseDraft] {
	texts := func(to func(*Expect) *[]string) func(*decoder, value, *caseDraft) {
		return func(d *decoder, v value, c *caseDraft) {
			list := []string{}
			for _, e := range d.list(v) {
				if s := d.line(e); s != "" {
					list = append(list, s)
				}
			}
			*to(&c.Expect) = list
		}
	}
	truth := func(to func(*Expect) **bool) func(*decoder, value, *caseDraft) {
		return func(d *decoder, v value, c *caseDraft) { *to(&c.Expect) = new(d.yes(v)) }
	}
	return section[caseDraft]{keys: []key[caseDraft]{
		{"folder", "", "Folder, or all of them.", texts(func(e *Expect) *[]string { return &e.Folders })},
		{"target", "", "Target, or all of them.", func(d *decoder, v value, c *caseDraft) {
			c.Expect.Targets = []string{}
			for _, e := range d.list(v) {
				c.Expect.Targets = append(c.Expect.Targets, d.oneOf("target", e, slices.Collect(maps.Keys(c.config.Targets))))
			}
		}},
		{"to", "", "Recipient, or all of them.", texts(func(e *Expect) *[]string { return &e.To })},
		{"flags", "", "Flags, of all copies together.", func(d *decoder, v value, c *caseDraft) {
			c.Expect.Flags = append([]string{}, d.flags(v)...)
		}},
		{"matched", "", "Names of the rules that match, in order; [] for none.", func(d *decoder, v value, c *caseDraft) {
			c.Expect.Matched = []string{}
			for _, e := range d.list(v) {
				c.Expect.Matched = append(c.Expect.Matched, d.oneOf("rule", e, c.config.Rules.Names()))
			}
		}},
		{"drop", "", "yes: it is never delivered; no: it is not dropped.", truth(func(e *Expect) **bool { return &e.Drop })},
		{"skip", "", "yes: it is left on the maildrop; no: it is not.", truth(func(e *Expect) **bool { return &e.Skip })},
	}}
}

// oneOf reads the name of something that the configuration has.
func (d *decoder) oneOf(what string, v value, names []string) string {
	name := d.line(v)
	known := map[string]*yaml.Node{}
	for _, n := range names {
		known[n] = v.Node
	}
	if name == "" || !d.known(what, ref{v, name}, known) {
		return ""
	}
	return name
}
