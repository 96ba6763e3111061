package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

func minimalAnd(t *testing.T, more string) []byte {
	t.Helper()
	data, err := os.ReadFile(examples + "/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, more...)
}

func TestNotify(t *testing.T) {
	c, err := config.Parse("p.yaml", minimalAnd(t, `notify:
  - {type: ntfy, url: "https://ntfy.sh/${ISP_PASSWORD}", jobs: isp-to-gmail, on: attention, after: 1}
  - {type: healthchecks, url: "http://127.0.0.1:8000/ping/x?create=1"}
  - {type: webhook, url_command: echo https://hooks.example/x}
  - {type: command, command: [mail, jane]}
  - {type: command, command: "mail jane"}
  - {type: webhook, url: http://hooks.example/x}
`), environ)
	if err != nil {
		t.Fatal(render(t, err))
	}
	want := []string{"https://ntfy.sh/" + canary, "http://127.0.0.1:8000/ping/x?create=1", "https://hooks.example/x", "", "", "http://hooks.example/x"}
	for i, n := range c.Notify {
		if !n.URL.IsZero() {
			if got := reveal(t, n.URL); got != want[i] {
				t.Errorf("url %d is %q", i+1, got)
			}
			n.URL = endpoint.Secret{}
		} else if want[i] != "" {
			t.Errorf("no url in %d", i+1)
		}
	}
	all := []string{"failure", "recovery", "attention"}
	if diff := cmp.Diff([]*config.Notify{
		{Type: "ntfy", Jobs: []string{"isp-to-gmail"}, On: []string{"attention"}, After: 1},
		{Type: "healthchecks"},
		{Type: "webhook", On: all, After: 3},
		{Type: "command", Command: []string{"mail", "jane"}, On: all, After: 3},
		{Type: "command", Command: []string{"sh", "-c", "mail jane"}, On: all, After: 3},
		{Type: "webhook", On: all, After: 3},
	}, c.Notify, cmp.Comparer(func(a, b endpoint.Secret) bool { return a.IsZero() == b.IsZero() })); diff != "" {
		t.Error(diff)
	}
	if len(c.Warnings) != 1 || c.Warnings[0].Code != "config-clear-text" {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// Who knows the address can read and forge what is sent there, so no error
// shows it, whatever is wrong with the file.
func TestNotify_hidden(t *testing.T) {
	const address = "https://ntfy.sh/h1dden-topic"
	for _, entry := range []string{
		"url: " + address, "ulr: " + address, "urls: [" + address + "]", "topic: " + address, "link: {to: " + address + "}",
		"url:" + address, "url: " + address + "\n    x: [", "# url: " + address, "url: '" + address, "url: ntfy.sh/h1dden-topic", "url: " + address + "#x",
		"url_command: [curl, " + address + "]\n    url: x",
	} {
		_, err := config.Parse("p.yaml", minimalAnd(t, "notify:\n  - type: ntfy\n    "+entry+"\n    kep: 1\n"), environ)
		if out := render(t, err); strings.Contains(out, "h1dden") {
			t.Errorf("%s:\n%s", entry, out)
		}
	}
}
