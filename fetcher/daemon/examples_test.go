package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"popferry/fetcher"
)

// known are the metrics that there are, with their labels and those that
// Prometheus adds.
func known(t *testing.T) map[string][]string {
	t.Helper()
	m := NewMetrics("1.4.0", sampleFailing)
	m.Observe(fetcher.Event{Kind: fetcher.Failed, Job: "work", Err: os.ErrInvalid})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range families {
		labels := []string{"instance"}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		all[f.GetName()] = labels
	}
	return all
}

func TestAlerts(t *testing.T) {
	data, err := os.ReadFile("../../examples/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	metrics := known(t)
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if names[r.Alert] || r.Alert == "" {
				t.Errorf("alert %q is there twice", r.Alert)
			}
			names[r.Alert] = true
			if err := checkQuery(r.Expr, metrics); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%s has no severity or no summary", r.Alert)
			}
			if !regexp.MustCompile(`^([0-9]+[smh])?$`).MatchString(r.For) {
				t.Errorf("%s: for %q", r.Alert, r.For)
			}
			// Annotations speak of labels that the expression has.
			for _, a := range r.Annotations {
				for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(a, -1) {
					if !strings.Contains(fmt.Sprint(labelsOf(r.Expr, metrics)), m[1]) {
						t.Errorf("%s has no label %s", r.Alert, m[1])
					}
				}
			}
		}
	}
	for _, want := range []string{
		"popferry_job_last_success_timestamp_seconds > 3 * popferry_job_interval_seconds", "popferry_held_messages > 0",
		"popferry_token_expiry_timestamp_seconds - time() < 2 * 86400", "popferry_tls_cert_not_after_timestamp_seconds - time() < 7 * 86400",
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no alert for %s", want)
		}
	}
}

func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("../../examples/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title, UID string
		Panels     []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	metrics := known(t)
	shown := map[string]bool{}
	for i, p := range board.Panels {
		if len(p.Targets) == 0 || p.Title == "" || p.ID != i+1 {
			t.Errorf("panel %d %q has no target, no title or another number", p.ID, p.Title)
		}
		for j, o := range board.Panels[:i] {
			a, b := p.GridPos, o.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || a.X+a.W > 24 {
				t.Errorf("panels %d and %d lie over each other", p.ID, j+1)
			}
		}
		for _, q := range p.Targets {
			if err := checkQuery(q.Expr, metrics); err != nil {
				t.Errorf("%s: %v", p.Title, err)
			}
			labels := labelsOf(q.Expr, metrics)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(q.LegendFormat, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s has no label %s", p.Title, m[1])
				}
			}
			for name := range metrics {
				if strings.Contains(q.Expr, name) {
					shown[name] = true
				}
			}
		}
	}
	for name := range metrics {
		if !shown[name] {
			t.Errorf("%s is on no panel", name)
		}
	}
	for _, v := range board.Templating.List {
		if v.Definition != "" {
			if err := checkQuery(v.Definition, metrics); err != nil {
				t.Errorf("variable %s: %v", v.Name, err)
			}
		}
	}
	for _, v := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(data), -1) {
		if !strings.HasPrefix(v[1], "__") && !slices.ContainsFunc(board.Templating.List, func(l struct{ Name, Definition string }) bool { return l.Name == v[1] }) {
			t.Errorf("no variable %s", v[1])
		}
	}
}

// labelsOf are the labels of all metrics in a query.
func labelsOf(query string, metrics map[string][]string) (labels []string) {
	for name, l := range metrics {
		if strings.Contains(query, name) {
			labels = append(labels, l...)
		}
	}
	return labels
}

// words of the query language that the examples may use.
var (
	functions = []string{"time", "rate", "increase", "vector", "absent", "label_values"}
	aggregate = []string{"sum", "count", "max", "min"}
	operators = []string{"unless", "or", "and"}
)

var token = regexp.MustCompile(`\s*(?:("[^"]*")|(\[(?:[0-9]+[smhd]|\$__rate_interval)\])|([A-Za-z_]\w*)|([0-9.]+)|(==|!=|<=|>=|=~|!~|[-+*/<>=(){},]))`)

// checkQuery takes a query apart: brackets close, words are functions, operators
// or metrics that exist, labels are those of a metric in it, and values and
// operators take turns.
func checkQuery(query string, metrics map[string][]string) error {
	labels := labelsOf(query, metrics)
	var open []string // brackets; "label" for those that hold labels
	value := false    // the last token was the end of a value
	rest, last, before := query, "", ""
	for strings.TrimSpace(rest) != "" {
		at := token.FindStringSubmatchIndex(rest)
		if at == nil || at[0] != 0 {
			return fmt.Errorf("%q: %q cannot be read", query, rest)
		}
		text := strings.TrimSpace(rest[:at[1]])
		rest = rest[at[1]:]
		inLabels := len(open) > 0 && open[len(open)-1] == "label"
		word := at[6] >= 0
		switch {
		case word && inLabels:
			if !slices.Contains(labels, text) {
				return fmt.Errorf("%q: no label %q", query, text)
			}
		case word && (text == "by" || text == "on"):
			value = false
		case word && slices.Contains(operators, text):
			if !value {
				return fmt.Errorf("%q: %q has nothing before it", query, text)
			}
			value = false
		case word && (slices.Contains(functions, text) || slices.Contains(aggregate, text)):
			if value {
				return fmt.Errorf("%q: no operator before %q", query, text)
			}
		case word && strings.HasPrefix(text, "popferry_"):
			if metrics[text] == nil {
				return fmt.Errorf("%q: no metric %q", query, text)
			}
			if value {
				return fmt.Errorf("%q: no operator before %q", query, text)
			}
			value = true
		case word && last == ",": // label_values(metric, label)
			if !slices.Contains(labels, text) {
				return fmt.Errorf("%q: no label %q", query, text)
			}
			value = true
		case word:
			return fmt.Errorf("%q: %q is not known", query, text)
		case text == "(" && (last == "by" || last == "on"), text == "{":
			open = append(open, "label")
		case text == "(":
			open = append(open, "(")
			value = false
		case text == ")" || text == "}":
			if len(open) == 0 || (open[len(open)-1] == "(") != (text == ")") && last != "" && !inLabels {
				return fmt.Errorf("%q: %q closes nothing", query, text)
			}
			if !inLabels && !value && (last != "(" || before != "time") {
				return fmt.Errorf("%q: nothing before %q", query, text)
			}
			value = !inLabels || text == "}"
			open = open[:len(open)-1]
		case inLabels, text == ",":
			value = value && inLabels
		case at[4] >= 0: // [5m]
			if !value {
				return fmt.Errorf("%q: a range of nothing", query)
			}
		case at[8] >= 0: // a number
			if value {
				return fmt.Errorf("%q: no operator before %q", query, text)
			}
			value = true
		default: // an operator
			if !value {
				return fmt.Errorf("%q: %q has nothing before it", query, text)
			}
			value = false
		}
		before, last = last, text
	}
	if len(open) > 0 || !value {
		return fmt.Errorf("%q is not complete", query)
	}
	return nil
}

// The check finds what it is for.
func TestCheckQuery(t *testing.T) {
	metrics := known(t)
	for _, good := range []string{
		`popferry_job_up`, `popferry_job_up{job=~"$job"} == 0`, `sum by (result) (increase(popferry_messages_total{job="x", result="held"}[5m]))`,
		`time() - popferry_held_messages > 3 * popferry_job_interval_seconds`, `label_values(popferry_job_up, job)`, `absent(popferry_build_info)`,
		`count(popferry_job_up == 0) or vector(0)`, `popferry_job_up == 0 unless on (job, instance) popferry_held_messages`,
	} {
		if err := checkQuery(good, metrics); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		``, `popferry_job_down`, `popferry_job_up{account="x"}`, `popferry_job_up ==`, `== 1`, `sum(popferry_job_up`, `popferry_job_up)`,
		`popferry_job_up popferry_held_messages`, `rate(popferry_messages_total[5 m])`, `sum by (account) (popferry_job_up)`, `sun(popferry_job_up)`,
		`popferry_job_up{job="x"`, `time() popferry_job_up`, `popferry_job_up > > 1`, `up`, `label_values(popferry_job_up, account)`, `popferry_job_up 1`, `()`,
	} {
		if checkQuery(bad, metrics) == nil {
			t.Errorf("%q is taken for good", bad)
		}
	}
}
