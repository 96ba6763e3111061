package smtp

import (
	"log/slog"
	"testing"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/targetstest"
)

// openTest is a target at s, to jane.
func openTest(t *testing.T, s *targetstest.SMTP) targets.Target {
	c := Config{
		Server:     endpoint.Server{Host: "127.0.0.1", Port: s.Port(), TLS: endpoint.Plain},
		Recipients: []string{"jane@home.example"}, Helo: "client.example",
	}
	tg, err := c.Open("test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tg.Close() })
	return tg
}
