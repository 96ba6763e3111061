package config_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"popferry/fetcher/config"
	"popferry/rules"
)

// sieveTopic is a message of testdata/rules/sieve.yaml and what rules make of it.
type sieveTopic struct {
	Topic string
	Mail  string
	Size  int64
	Cases []struct {
		Means, Differs string
		Mail           *string
		If, Rules      yaml.Node
		Targets        []string
		Want           string
	}
}

// TestSieve holds rules to what Sieve scripts mean.
func TestSieve(t *testing.T) {
	data, err := os.ReadFile("../../testdata/rules/sieve.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var topics []sieveTopic
	if err := dec.Decode(&topics); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, topic := range topics {
		for _, c := range topic.Cases {
			n++
			t.Run(topic.Topic+"/"+c.Means, func(t *testing.T) {
				mail := topic.Mail
				if c.Mail != nil {
					mail = *c.Mail
				}
				list := &c.Rules
				want := c.Want
				if c.If.Kind != 0 {
					list = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{mapping(
						"name", scalar("r"), "if", &c.If, "then", mapping("folder", scalar("Matched")),
					)}}
					want = map[string]string{"yes": "Matched", "no": "-"}[want]
				}
				set := withRules(t, list, c.Targets)
				if got := outcome(set.Decide(message(mail, topic.Size))); got != want {
					t.Errorf("got %q, want %q", got, want)
					set.Explain(message(mail, topic.Size), func(s rules.Step) { t.Log(strings.Join(s.Lines(), "\n")) })
				}
			})
		}
	}
	if n < 60 {
		t.Errorf("%d cases", n)
	}
}

// sieveNow is when messages are looked at.
var sieveNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// message makes what rules look at of a mail with any line ends.
func message(mail string, size int64) *rules.Message {
	mail = strings.ReplaceAll(strings.ReplaceAll(mail, "\r\n", "\n"), "\n", "\r\n")
	_, body, _ := strings.Cut(mail, "\r\n\r\n")
	if size == 0 {
		size = int64(len(mail))
	}
	return &rules.Message{
		Account: "isp", Header: rules.ParseHeader([]byte(mail)), Size: size, Now: sieveNow,
		Body: func() []byte { return []byte(body) },
	}
}

// outcome writes a decision as the cases do.
func outcome(d rules.Decision) string {
	if d.Action != rules.Deliver {
		return d.Action.String()
	}
	var all []string
	for _, w := range d.Deliver {
		s := w.Dest.Folder
		if s == "" {
			s = "-"
		}
		if len(w.Dest.Rcpt) > 0 {
			s = "<" + strings.Join(w.Dest.Rcpt, " ") + ">"
		}
		if w.Target != "" {
			s = w.Target + ":" + s
		}
		all = append(all, strings.Join(append([]string{s}, w.Dest.Flags...), " "))
	}
	return strings.Join(all, ", ")
}

func scalar(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func mapping(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i < len(pairs); i += 2 {
		n.Content = append(n.Content, scalar(pairs[i].(string)), pairs[i+1].(*yaml.Node))
	}
	return n
}

// withRules loads a configuration that has the rules, and relays of these names.
func withRules(t *testing.T, list *yaml.Node, targets []string) *rules.Set {
	t.Helper()
	const imap = "{host: imap.home.example, user: jane, password: x}"
	const smtp = "{type: smtp, host: relay.example, recipient: jane@y.example}"
	head := "accounts: {isp: {host: pop.isp.example, user: jane@isp.example, password: x}}\njobs: [{from: isp, to: home}]\n" +
		"targets:\n  home: " + imap + "\n"
	for _, name := range targets {
		head += "  " + name + ": " + smtp + "\n"
	}
	text, err := yaml.Marshal(mapping("rules", list))
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("sieve.yaml", []byte(head+string(text)), environ)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c.Rules
}
