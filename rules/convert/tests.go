package convert

import (
	"slices"
	"strings"

	"popferry/rules"
)

// maxDepth is how deep the tests of one if may be nested: a configuration holds
// 16 levels, and the way to the if takes some.
const maxDepth = 12

// test is the condition that a test stands for.
func (s *sieve) test(n *node) (*cond, error) {
	c, err := s.anyTest(n)
	if err == nil && c.depth() > maxDepth {
		return nil, unsuref(n.line, "tests are nested more than %d deep", maxDepth)
	}
	return c, err
}

func (c *cond) depth() int {
	deepest := 0
	for _, k := range c.kids {
		deepest = max(deepest, k.depth())
	}
	return deepest + 1
}

func (s *sieve) anyTest(n *node) (*cond, error) {
	switch n.name {
	case "true", "false":
		if len(n.tests)+len(n.args) > 0 {
			return nil, unsuref(n.line, "%s with something behind it", n.name)
		}
		if n.name == "true" {
			return s.yes, nil
		}
		return s.no, nil
	case "allof", "anyof", "not":
		if len(n.tests) == 0 || n.name == "not" && len(n.tests) != 1 || len(n.args) > 0 {
			return nil, unsuref(n.line, "%s without tests", n.name)
		}
		kids := make([]*cond, len(n.tests))
		for i, t := range n.tests {
			var err error
			if kids[i], err = s.anyTest(t); err != nil {
				return nil, err
			}
		}
		switch n.name {
		case "allof":
			return s.and(kids...), nil
		case "anyof":
			return s.or(kids...), nil
		}
		return s.not(kids[0]), nil
	}
	a, err := s.arguments(n)
	if err != nil {
		return nil, err
	}
	if len(n.tests) > 0 {
		return nil, unsuref(n.line, "test %q with tests of its own is not known here", n.name)
	}
	switch n.name {
	case "header":
		return s.header(a)
	case "address":
		return s.address(a)
	case "envelope":
		return s.envelope(a)
	case "exists":
		return s.exists(a)
	case "size":
		return s.size(a)
	case "body":
		return s.body(a)
	}
	return nil, unsuref(n.line, "test %q is not known here", n.name)
}

// header is RFC 5228 §5.7: any of the fields, any of the keys.
func (s *sieve) header(a *args) (*cond, error) {
	m, err := matchOf(a)
	if err != nil {
		return nil, err
	}
	names, keys, err := a.pair()
	if err != nil {
		return nil, err
	}
	patterns, err := m.patterns(keys, whole)
	if err != nil {
		return nil, err
	}
	var any []*cond
	for _, name := range names {
		t := rules.Test{Key: "header", Name: name, Patterns: patterns}
		if strings.EqualFold(name, "Subject") {
			t.Key, t.Name = "subject", ""
		}
		c, err := s.checked(t, a.line)
		if err != nil {
			return nil, err
		}
		any = append(any, c)
	}
	return s.or(any...), nil
}

// checked is the condition of a test that the rules can have.
func (b *builder) checked(t rules.Test, line int) (*cond, error) {
	if why := checkTest(t); why != "" {
		return nil, unsuref(line, "%s", why)
	}
	return b.of(t), nil
}

// addressKeys are the fields whose addresses rules can look at.
var addressKeys = map[string]string{
	"from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "sender": "sender", "reply-to": "reply_to",
}

// address is RFC 5228 §5.1, with :user and :detail (RFC 5233).
func (s *sieve) address(a *args) (*cond, error) {
	return s.addresses(a, func(name string) (rules.Test, error) {
		key := addressKeys[strings.ToLower(name)]
		if key == "" {
			return rules.Test{}, unsuref(a.line, "addresses of the header field %q cannot be looked at", name)
		}
		return rules.Test{Key: key}, nil
	})
}

// envelope is RFC 5228 §5.4. The recipient is not known to POP3, only where the
// header tells it; the sender is in Return-Path.
func (s *sieve) envelope(a *args) (*cond, error) {
	return s.addresses(a, func(part string) (rules.Test, error) {
		switch strings.ToLower(part) {
		case "to":
			s.note(a.line, false, "the envelope's recipient is looked for in To, Cc, Bcc, Delivered-To and the like")
			return rules.Test{Key: "recipient"}, nil
		case "from":
			return rules.Test{Key: "header", Name: "Return-Path"}, nil
		}
		return rules.Test{}, unsuref(a.line, "envelope part %q is not known here", part)
	})
}

// addresses tests parts of addresses; of says where they are.
func (s *sieve) addresses(a *args, of func(name string) (rules.Test, error)) (*cond, error) {
	p := whole
	for _, part := range []part{localPart, domainPart, userPart, detailPart} {
		if a.has(string(part)) {
			p = part
		}
	}
	m, err := matchOf(a, "all", string(localPart), string(domainPart), string(userPart), string(detailPart))
	if err != nil {
		return nil, err
	}
	names, keys, err := a.pair()
	if err != nil {
		return nil, err
	}
	var any []*cond
	for _, name := range names {
		t, err := of(name)
		if err != nil {
			return nil, err
		}
		part := p
		if t.Key == "header" {
			part = "path " + p
		}
		if t.Patterns, err = m.patterns(keys, part); err != nil {
			return nil, err
		}
		c, err := s.checked(t, a.line)
		if err != nil {
			return nil, err
		}
		any = append(any, c)
	}
	return s.or(any...), nil
}

// exists is RFC 5228 §5.5: all of the fields.
func (s *sieve) exists(a *args) (*cond, error) {
	if err := a.known(); err != nil {
		return nil, err
	}
	all := []*cond{}
	for _, name := range a.strings() {
		c, err := s.checked(rules.Test{Key: "header", Name: name, Patterns: []rules.Pattern{present}}, a.line)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, unsuref(a.line, "exists without a header field")
	}
	return s.and(all...), nil
}

// present asks for a field, whatever is in it.
var present = rules.Pattern{Kind: rules.Exists, Text: "yes"}

// size is RFC 5228 §5.9.
func (s *sieve) size(a *args) (*cond, error) {
	if err := a.known("over", "under"); err != nil {
		return nil, err
	}
	if len(a.rest) != 1 || a.rest[0] != nil || len(a.tags) != 1 {
		return nil, unsuref(a.line, "size without a limit")
	}
	op := ">"
	if a.has("under") {
		op = "<"
	}
	return s.of(rules.Test{Key: "size", Size: rules.SizeTest{Op: op, N: a.number}}), nil
}

// body is RFC 5173, of decoded text only.
func (s *sieve) body(a *args) (*cond, error) {
	m, err := matchOf(a, "text")
	if err != nil {
		return nil, err
	}
	if len(a.rest) != 1 {
		return nil, unsuref(a.line, "body without values")
	}
	if m.kind != "contains" {
		return nil, unsuref(a.line, "body with :%s", m.kind)
	}
	patterns, err := m.patterns(a.rest[0], whole)
	if err != nil {
		return nil, err
	}
	if slices.Contains(patterns, present) {
		return nil, unsuref(a.line, "body with an empty value")
	}
	s.note(a.line, false, "of a body, the first 256 KiB of text are looked at")
	return s.checked(rules.Test{Key: "body", Patterns: patterns}, a.line)
}
