package convert

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"popferry/rules"
)

// Gmail converts the file that Gmail exports its filters to: an Atom feed whose
// entries have properties. Filters apply all, in any order, so every rule
// continues; a label is a folder, and a message that no filter archives stays in
// the inbox as well. The error is an *Error.
func Gmail(feed []byte, o Options) (*Result, error) {
	filters, err := parseFeed(feed)
	if err != nil {
		return nil, err
	}
	g := &gmail{builder: newBuilder(o)}
	g.archives = slices.ContainsFunc(filters, func(f *filter) bool { return f.is("shouldArchive") || f.is("shouldTrash") })
	conds := make([]*cond, len(filters))
	for i, f := range filters {
		g.line = f.line
		if conds[i] = g.read(f); conds[i] != nil {
			g.remarkable(f)
			g.marks(f, conds[i])
		}
	}
	for i, f := range filters {
		g.line = f.line
		if conds[i] != nil {
			g.places(f, conds[i])
		}
	}
	g.line = 0
	g.finish()
	return g.result("filters of Gmail")
}

// gmail is a set of filters being converted.
type gmail struct {
	*builder
	archives bool // some filter takes messages out of the inbox
}

// filter is one entry of the feed.
type filter struct {
	line       int
	properties []property
}

type property struct {
	line        int
	name, value string
}

// get is the value of a property; "" if it is not there.
func (f *filter) get(name string) string {
	for _, p := range f.properties {
		if p.name == name {
			return strings.TrimSpace(p.value)
		}
	}
	return ""
}

func (f *filter) is(name string) bool { return f.get(name) == "true" }

// parseFeed reads the feed.
func parseFeed(feed []byte) ([]*filter, error) {
	if len(feed) > maxInput {
		return nil, &Error{Text: "larger than 1 MiB, so it cannot be a list of filters"}
	}
	dec := xml.NewDecoder(bytes.NewReader(feed))
	var filters []*filter
	var in *filter
	depth := 0
	root := ""
	for {
		line, col := dec.InputPos()
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
				return nil, &Error{Line: syntax.Line, Column: 1, Text: "not XML: " + printable(syntax.Msg)}
			}
			return nil, &Error{Line: line, Column: col, Text: "not XML: " + printable(err.Error())}
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth++; depth > maxNesting {
				return nil, &Error{Line: line, Column: col, Text: "nested too deeply"}
			}
			switch {
			case depth == 1:
				root = t.Name.Local
			case depth == 2 && t.Name.Local == "entry":
				in = &filter{line: line}
				filters = append(filters, in)
			case depth == 3 && t.Name.Local == "property" && in != nil:
				in.properties = append(in.properties, propertyOf(t, line))
			}
		case xml.EndElement:
			if depth--; depth == 1 {
				in = nil
			}
		}
	}
	if root != "feed" {
		return nil, &Error{Text: "not a list of filters that Gmail exported: it has no Atom feed"}
	}
	return filters, nil
}

func propertyOf(t xml.StartElement, line int) property {
	p := property{line: line}
	for _, a := range t.Attr {
		switch a.Name.Local {
		case "name":
			p.name = a.Value
		case "value":
			p.value = a.Value
		}
	}
	return p
}

// read finds out what a filter is for; nil if it is left out.
func (g *gmail) read(f *filter) *cond {
	when, err := g.criteria(f)
	if u, ok := err.(*unsure); ok { //nolint:errorlint // criteria return no other
		g.note(u.line, true, "%s; this filter is left out", u.text)
		return nil
	}
	if when == g.yes {
		g.note(f.line, true, "a filter without criteria is left out")
		return nil
	}
	return when
}

// marks are the flags that a filter sets. They are the message's, whichever
// filters file it, so the rules for them come first.
func (g *gmail) marks(f *filter, when *cond) {
	var flags []string
	for _, flag := range []struct{ property, name string }{{"shouldMarkAsRead", "seen"}, {"shouldStar", "flagged"}} {
		if f.is(flag.property) {
			flags = append(flags, flag.name)
		}
	}
	if len(flags) > 0 {
		g.emit(entry{when: when, flags: flags, more: true})
	}
}

// places are the rules for where a filter puts messages.
func (g *gmail) places(f *filter, when *cond) {
	label := f.get("label")
	if label != "" {
		if why := checkFolder(label); why != "" {
			g.note(f.line, true, "label %q: %s; it is left out", label, why)
			label = ""
		}
	}
	leaves := f.is("shouldArchive") || f.is("shouldTrash")
	if to := f.get("forwardTo"); to != "" {
		switch {
		case g.options.SMTP == "":
			g.note(f.line, true, "forwarding to %s needs a target of type smtp or lmtp; it is left out", to)
		case !address.MatchString(to):
			g.note(f.line, true, "forwarding to %s, which is no plain address, is left out", to)
		default:
			g.forward(when, to, !leaves)
		}
	}
	if label != "" {
		g.file(when, label, nil, !leaves)
	}
	switch {
	case f.is("shouldTrash"):
		g.note(f.line, false, "deleted messages go to folder Trash; with  then: { drop: yes }  they are never delivered")
		g.file(when, "Trash", nil, false)
	case f.is("shouldArchive") && label == "":
		g.note(f.line, false, "archived messages without a label go to folder Archive")
		g.file(when, "Archive", nil, false)
	case !leaves && !g.archives && label != "": // nothing takes it out of the inbox
		g.file(when, inbox, nil, false)
	}
}

// remarkable notes properties that have no meaning here.
func (g *gmail) remarkable(f *filter) {
	for _, p := range f.properties {
		switch p.name {
		case "from", "to", "subject", "hasTheWord", "doesNotHaveTheWord", "hasAttachment", "size", "sizeOperator", "sizeUnit",
			"label", "shouldArchive", "shouldMarkAsRead", "shouldStar", "shouldTrash", "forwardTo", "excludeChats":
		case "shouldNeverSpam":
			g.note(p.line, false, "popferry has no spam filter of its own, so there is nothing to keep the message from")
		default:
			g.note(p.line, true, "%s has no meaning here; it is left out", p.name)
		}
	}
}

// criteria is when a filter applies.
func (g *gmail) criteria(f *filter) (*cond, error) {
	all := g.yes
	for _, p := range f.properties {
		if strings.TrimSpace(p.value) == "" {
			continue
		}
		var c *cond
		var err error
		switch p.name {
		case "from", "to", "subject":
			c, err = g.query(p.value, p.name, p.line)
		case "hasTheWord":
			c, err = g.query(p.value, "", p.line)
		case "doesNotHaveTheWord":
			if c, err = g.query(p.value, "", p.line); err == nil {
				if g.sequence(p.value) {
					return nil, unsuref(p.line, "doesNotHaveTheWord %q: is it all of the words or any", p.value)
				}
				c = g.not(c)
			}
		case "hasAttachment":
			if p.value != "true" {
				continue
			}
			c = g.of(rules.Test{Key: "has_attachment"})
		case "size":
			c, err = g.size(f, p)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		all = g.and(all, c)
	}
	return all, nil
}

// size is the criterion of three properties.
func (g *gmail) size(f *filter, p property) (*cond, error) {
	shift := map[string]int{"s_sb": 0, "s_skb": 10, "s_smb": 20}
	op := map[string]string{"s_sl": ">", "s_ss": "<"}[f.get("sizeOperator")]
	bits, ok := shift[f.get("sizeUnit")]
	n, err := strconv.ParseInt(strings.TrimSpace(p.value), 10, 32)
	if op == "" || !ok || err != nil || n < 0 {
		return nil, unsuref(p.line, "size %q with operator %q and unit %q", p.value, f.get("sizeOperator"), f.get("sizeUnit"))
	}
	return g.of(rules.Test{Key: "size", Size: rules.SizeTest{Op: op, N: n << bits}}), nil
}
