package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"popferry/fetcher/config"
)

func TestExamples(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	for _, file := range files {
		if slices.Contains([]string{"alerts.yaml", "compose.yaml", "cronjob.yaml"}, filepath.Base(file)) {
			continue // not ours to read; others do
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := config.Load(file, environ)
			if err != nil {
				t.Fatal(render(t, err))
			}
			for _, w := range c.Warnings {
				t.Errorf("warning: %v", w)
			}
			if len(c.Jobs) == 0 {
				t.Error("no jobs")
			}
		})
	}
}

// TestReference demands that reference.yaml has every key that is accepted,
// with its meaning and default above it, and no other.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(examples + "/reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	r := reference{there: map[string]bool{}, described: map[string]string{}}
	r.walk("top", doc.Content[0])

	var want, got []string
	for _, k := range config.Keys() {
		name := k.Section + "." + k.Name
		want = append(want, name)
		text := "# " + k.Doc
		if k.Default != "" {
			text += " # Default: " + k.Default
		}
		if have := r.described[name]; r.there[name] && !strings.Contains(have, text) {
			t.Errorf("above %s stands\n\t%s\nbut it should be\n\t%s", name, have, text)
		}
	}
	for name := range r.there {
		got = append(got, name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-accepted +in reference.yaml):\n%s", diff)
	}
}

// reference gathers the keys of a file by section, and the comments above them.
type reference struct {
	there     map[string]bool
	described map[string]string // the fullest comment, lines joined
}

// below says which section stands under a key of another.
var below = map[string]string{
	"top.log": "log", "top.http": "http", "http.basic_auth": "basic_auth", "top.accounts": "account", "top.targets": "target", "top.rules": "rule", "top.jobs": "job", "top.notify": "notify",
	"account.limits": "limits", "account.oauth": "oauth", "target.oauth": "oauth", "account.keep": "keep", "rule.if": "if", "rule.then": "then", "if.any": "if", "if.all": "if", "if.not": "if",
}

func (r *reference) walk(section string, n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		for _, e := range n.Content {
			r.walk(section, e)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name := section + "." + k.Value
		r.there[name] = true
		comment := k.HeadComment
		if i == 0 {
			comment += n.HeadComment
		}
		if comment = unwrap(comment); len(comment) > len(r.described[name]) {
			r.described[name] = comment
		}
		switch next := below[name]; {
		case next == "":
		case name == "top.accounts" || name == "top.targets":
			for j := 1; j < len(v.Content); j += 2 {
				r.walk(next, v.Content[j])
			}
		default:
			r.walk(next, v)
		}
	}
}

// unwrap joins comment lines; a line that begins with Default: stays apart.
func unwrap(comment string) string {
	lines := strings.Split(comment, "\n")
	text := ""
	for _, l := range lines {
		l = strings.TrimPrefix(l, "#")
		if strings.HasPrefix(l, " Default:") {
			l = " #" + l
		}
		text += l
	}
	return "#" + text
}
