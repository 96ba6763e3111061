package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"popferry/fetcher/config"
)

var examples = filepath.Join("..", "..", "examples")

// understood checks that a command line is one: its command and flags exist.
func understood(t *testing.T, where string, args []string) {
	t.Helper()
	root := newApp(nil, new(bytes.Buffer), new(bytes.Buffer), anything).root()
	cmd, rest, err := root.Find(args)
	if err != nil || cmd == root {
		t.Errorf("%s: popferry %q: there is no such command (%v)", where, args, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%s: popferry %q: %v", where, args, err)
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("%s: popferry %q: %v", where, args, err)
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decode reads all documents of a YAML file into v, one each.
func decode(t *testing.T, name string, v ...any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(example(t, name)))
	for _, v := range v {
		if err := d.Decode(v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Errorf("%s has another document (%v)", name, err)
	}
}

func TestExample_compose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Build, Command string
			ReadOnly       bool `yaml:"read_only"`
			Secrets        []string
			Volumes        []string
		}
		Volumes, Secrets map[string]any
	}
	decode(t, "compose.yaml", &file)
	s := file.Services["popferry"]
	understood(t, "compose.yaml", strings.Fields(s.Command))
	if _, err := os.Stat(filepath.Join(examples, s.Build, "Dockerfile")); err != nil || !s.ReadOnly {
		t.Errorf("%+v (%v)", s, err)
	}
	data := false
	for _, v := range s.Volumes {
		name, at, _ := strings.Cut(v, ":")
		_, named := file.Volumes[name]
		data = data || named && at == "/data"
	}
	if !data {
		t.Error("no named volume at /data")
	}
	for _, name := range s.Secrets {
		if file.Secrets[name] == nil {
			t.Errorf("there is no secret %s", name)
		}
	}
}

func TestExample_cronjob(t *testing.T) {
	type named struct {
		Name                  string
		MountPath             string         `yaml:"mountPath"`
		PersistentVolumeClaim map[string]any `yaml:"persistentVolumeClaim"`
	}
	var job struct {
		Kind string
		Spec struct {
			Schedule, ConcurrencyPolicy string
			JobTemplate                 struct {
				Spec struct {
					Template struct {
						Spec struct {
							Containers []struct {
								Args         []string
								VolumeMounts []named `yaml:"volumeMounts"`
							}
							Volumes []named
						}
					}
				} `yaml:"spec"`
			} `yaml:"jobTemplate"`
			Policy string `yaml:"concurrencyPolicy"`
		}
	}
	var claim struct {
		Kind     string
		Metadata named
	}
	decode(t, "cronjob.yaml", &job, &claim)
	if job.Kind != "CronJob" || job.Spec.Policy != "Forbid" || claim.Kind != "PersistentVolumeClaim" {
		t.Errorf("%+v", job)
	}
	pod := job.Spec.JobTemplate.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		t.Fatalf("%+v", pod)
	}
	understood(t, "cronjob.yaml", pod.Containers[0].Args)
	for _, m := range pod.Containers[0].VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v named) bool { return v.Name == m.Name })
		if i < 0 {
			t.Errorf("nothing is mounted at %s", m.MountPath)
		} else if m.MountPath == "/data" && pod.Volumes[i].PersistentVolumeClaim["claimName"] != claim.Metadata.Name {
			t.Errorf("the state is on %+v", pod.Volumes[i])
		}
	}
}

var crontabLine = regexp.MustCompile(`^(\S+\s+){5}popferry /usr/local/bin/popferry (.*)$`)

func TestExample_crontab(t *testing.T) {
	n := 0
	for line := range strings.Lines(example(t, "crontab")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "MAILTO=") {
			continue
		}
		m := crontabLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%q", line)
			continue
		}
		n++
		understood(t, "crontab", strings.Fields(m[2]))
	}
	if n == 0 {
		t.Error("no line")
	}
}

// exampleUnits are the units for examples/systemd.yaml, by their names.
func exampleUnits(t *testing.T) map[string]string {
	t.Helper()
	a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer), anything)
	u, err := a.unitOf("/usr/local/bin/popferry", "/etc/popferry/popferry.yaml", func(path string, env func(string) (string, bool)) (*config.Config, error) {
		return config.Parse(path, []byte(example(t, "systemd.yaml")), env)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(u.notes) > 0 {
		t.Error(u.notes)
	}
	return map[string]string{"popferry.service": u.service(), "popferry-once.service": u.oneshot(), "popferry-once.timer": u.timer()}
}

// The units in examples are what config systemd prints; the second pair has
// another name only so that both can lie there.
func TestExample_systemd(t *testing.T) {
	for name, want := range exampleUnits(t) {
		path := filepath.Join(examples, name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, example(t, name)); diff != "" {
			t.Errorf("%s (-printed +example):\n%s", name, diff)
		}
		for line := range strings.Lines(want) {
			if cmd, ok := strings.CutPrefix(line, "ExecStart=/usr/local/bin/popferry "); ok {
				understood(t, name, strings.Fields(cmd))
			}
		}
	}
}

// systemd understands every line of them.
func TestSystemd_verify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	dir := t.TempDir()
	for name, text := range exampleUnits(t) {
		exe, err := os.Executable() // verify wants one that is there
		if err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, "/usr/local/bin/popferry", exe)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
	}
}

// What the paths of this machine do to a unit.
func TestSystemd_unit(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		state  string
		has    []string // lines of the unit
		notes  []string
	}{
		"secrets by path": {
			"accounts: {isp: {host: pop.isp.example, user: j, password_file: secrets/isp}}\n" +
				"targets: {home: {host: imap.home.example, user: j, password_file: /etc/other/isp, ca_file: ca.pem}}\njobs: [{from: isp, to: home}]\n",
			"",
			[]string{
				"ExecStart=/opt/pop%%ferry/popferry --config /etc/popferry/popferry.yaml serve", "LoadCredential=isp:/etc/popferry/secrets/isp", "DynamicUser=yes", "ProtectSystem=strict",
			},
			[]string{
				"For /etc/popferry/secrets/isp write in popferry.yaml:  ${CREDENTIALS_DIRECTORY:-/etc/popferry/secrets}/isp",
				"For /etc/other/isp write in popferry.yaml:  ${CREDENTIALS_DIRECTORY:-/etc/other}/isp",
				"/etc/other/isp needs another name, to be a credential of its own.",
			},
		},
		"credentials without a default": {
			"state: /srv/pop ferry.db\naccounts: {isp: {host: pop.isp.example, user: j, password_file: '${CREDENTIALS_DIRECTORY}/isp'}}\n" +
				"targets: {home: {type: maildir, path: /srv/mail/jane}}\njobs: [{from: isp, to: home}]\n" +
				"notify: [{type: ntfy, url_file: '${CREDENTIALS_DIRECTORY}/ntfy'}]\n",
			"",
			[]string{
				`ExecStart=/opt/pop%%ferry/popferry --config /etc/popferry/popferry.yaml --state "/var/lib/popferry/pop ferry.db" serve`,
				"LoadCredential=isp:/etc/popferry/isp", "LoadCredential=ntfy:/etc/popferry/ntfy", "ReadWritePaths=/srv/mail",
			},
			nil,
		},
		"--state": {
			"accounts: {isp: {host: pop.isp.example, user: j, password: x}}\ntargets: {home: {host: imap.home.example, user: j, password: x}}\njobs: [{from: isp, to: home}]\n",
			"/var/lib/popferry/other.db",
			[]string{"ExecStart=/opt/pop%%ferry/popferry --config /etc/popferry/popferry.yaml --state /var/lib/popferry/other.db serve"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer), anything)
			a.flags.state = tt.state
			u, err := a.unitOf("/opt/pop%ferry/popferry", "/etc/popferry/popferry.yaml", func(path string, env func(string) (string, bool)) (*config.Config, error) {
				return config.Parse(path, []byte(tt.config), env)
			})
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(u.service(), "\n")
			for _, want := range tt.has {
				if !slices.Contains(lines, want) {
					t.Errorf("no line %q in\n%s", want, u.service())
				}
			}
			if diff := cmp.Diff(tt.notes, u.notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A credential of systemd is a file like any other.
func TestSystemd_credentials(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "isp"), []byte("from-systemd\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("/etc/popferry/popferry.yaml", []byte(example(t, "systemd.yaml")), func(name string) (string, bool) {
		return dir, name == "CREDENTIALS_DIRECTORY"
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Accounts["isp"].Maildrop.Password.Reveal(t.Context()); got != "from-systemd" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestExamples_accounts: the table is one.
func TestExamples_accounts(t *testing.T) {
	rows, err := config.ReadMoves("accounts.csv", strings.NewReader(example(t, "accounts.csv")))
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	moves := make([]config.Move, len(rows))
	for i, r := range rows {
		moves[i] = r.Move
		if r.Move.From.Password.IsZero() || r.Move.To.Password.IsZero() {
			t.Errorf("line %d has no password", r.Line)
		}
	}
	if c, err := config.Moves(nil, moves, anything); err != nil || len(c.Jobs) != 3 || len(c.Accounts) != 3 || len(c.Targets) != 3 {
		t.Errorf("%v, %+v", err, c)
	}
}
