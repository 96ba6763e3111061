package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// However a secret is printed, it does not show.
func TestSecret_hidden(t *testing.T) {
	type config struct {
		Name string
		S    Secret
		P    *Secret
	}
	s := SecretValue("canary")
	c := config{"x", s, &s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", c, s)
	}
	fmt.Fprintln(&out, fmt.Errorf("wrapped %v", s), c, &c)
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	y, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(y)
	cmp.Diff(c, config{}, cmp.Reporter(&reporter{&out}), cmp.Exporter(func(reflect.Type) bool { return true }))
	walk(&out, reflect.ValueOf(&c))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "c", c)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s, "c", c)
	if text := out.String(); strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", "canary")) || !strings.Contains(text, "***") {
		t.Error(text)
	}
	if v, err := s.Reveal(t.Context()); v != "canary" || err != nil {
		t.Error(v, err)
	}
	if !(Secret{}).IsZero() || s.IsZero() {
		t.Error("IsZero")
	}
}

// reporter prints what go-cmp finds.
type reporter struct{ w io.Writer }

func (r *reporter) PushStep(p cmp.PathStep) {
	a, b := p.Values()
	fmt.Fprintf(r.w, "%v %v\n", a, b)
}
func (r *reporter) PopStep()          {}
func (r *reporter) Report(cmp.Result) {}

// walk prints everything that reflection can reach, as dumpers do.
func walk(w io.Writer, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walk(w, v.Elem())
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			walk(w, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(w, v.Index(i))
		}
	case reflect.String:
		fmt.Fprintln(w, v.String())
	default:
		fmt.Fprintln(w, v.Type())
	}
}

func TestSecret_file(t *testing.T) {
	for content, want := range map[string]string{
		"pass\n": "pass", "pass": "pass", "pass\r\n": "pass", "a b \nsecond line\n": "a b ", "päss\n": "päss",
		"": "", "\n": "", "a\x00b\n": "", "a\rb\n": "",
	} {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := SecretFile(file).Reveal(t.Context())
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if _, err := SecretFile("/nonexistent").Reveal(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "password_file: open /nonexistent") {
		t.Error(err)
	}
}

func TestSecret_command(t *testing.T) {
	for _, tt := range []struct{ script, want, err string }{
		{"echo pass; echo more", "pass", ""},
		{"printf 'a b'", "a b", ""},
		{"true", "", "the password is empty"},
		{"echo out; echo 'gpg: no key' >&2; exit 3", "", `password_command "sh": exit status 3; it said: "gpg: no key"`},
		{"yes | head -c 10000000", "y", ""},
		{"yes >&2 | head -c 10000000; exit 1", "", "password_command \"sh\": exit status 1; it said: "},
	} {
		if strings.Contains(tt.script, ">&2 |") {
			tt.script = "head -c 10000000 /dev/zero | tr '\\0' e >&2; exit 1"
		}
		got, err := SecretCommand("sh", "-c", tt.script).Reveal(t.Context())
		if got != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.script, got, err)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("%s: an error of %d octets", tt.script, len(err.Error()))
		}
	}
	// A command that hangs, with a grandchild that holds its output open.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := SecretCommand("sh", "-c", "sleep 60 & sleep 60").Reveal(ctx); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}
